"""The published evaluation is one value: read, and written from it again, byte for byte."""

import json
from pathlib import Path

import pytest

from agent.errors import AgentError
from bundles.evaluation.arms import ARMS
from bundles.evaluation.report import EvaluationReport
from bundles.evaluation.tables import report_markdown

DOCS = Path(__file__).parents[3] / "docs"
PUBLISHED = DOCS / "explanation/evaluation/evaluation.json"


def test_the_published_report_is_read_and_written_again_unchanged() -> None:
    text = PUBLISHED.read_text(encoding="utf-8")
    report = EvaluationReport.from_json(json.loads(text))
    assert json.dumps(report.to_json(), separators=(",", ":")) + "\n" == text


def test_the_published_tables_are_those_of_the_published_report() -> None:
    report = EvaluationReport.from_json(json.loads(PUBLISHED.read_text(encoding="utf-8")))
    page = (DOCS / "explanation/evaluation.md").read_text(encoding="utf-8")
    # The page's prose is wrapped; a line break means no more than a space there.
    assert " ".join(report_markdown(report).split()) in " ".join(page.split())


@pytest.mark.parametrize("broken", ["[]", '{"schema": 1}', "null"])
def test_what_is_no_report_is_refused(broken: str) -> None:
    with pytest.raises(AgentError, match="not a report of `bundles evaluate`"):
        EvaluationReport.from_json(json.loads(broken))


def test_the_reference_describes_the_arms_in_their_order() -> None:
    text = (DOCS / "reference/evaluation.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert rows[: len(ARMS)] == [arm.name for arm in ARMS]
