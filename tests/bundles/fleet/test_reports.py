import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from fleets import accuracy, report
from hypothesis import given
from hypothesis import strategies as st

from agent.report import payload
from agent.report.payload import OUTCOMES
from bundles.fleet.counting.report import Refusal, Report, parse_report, pending_row

SCHEMAS = Path(__file__).parents[3] / "docs" / "reference" / "schemas"
SCHEMA = json.loads((SCHEMAS / "report-payload.json").read_text())


def refused(body):
    with pytest.raises(Refusal) as found:
        parse_report(body)
    return found.value.status


def test_the_centre_takes_what_the_published_schema_takes():
    ours = msgspec.json.schema(Report)["$defs"]["Report"]
    assert set(ours["properties"]) == set(SCHEMA["properties"])
    assert set(ours["required"]) == set(SCHEMA["required"])
    for name, theirs in SCHEMA["properties"].items():
        mine = ours["properties"][name]
        assert mine.get("pattern") == theirs.get("pattern")
        if "enum" in theirs:
            assert sorted(mine["enum"]) == sorted(theirs["enum"])


def test_a_report_of_the_agent_is_taken():
    made = payload.Payload(
        agent="0.1.0", bundle="default", bundle_version="4", channel="pilot", week="2026-W48",
        architecture="aarch64", toolchain="prebuilt", timings="48+", noise="1-3%",
        calibrated=payload.RoundedAccuracy(0.42, 0.3, None, 0.95), bundle_alone=None,
        outcome="kept", dedupe="0" * 64, first=True, label="press-4",
    )  # fmt: skip
    assert parse_report(made.to_bytes()).calibrated.speedup_error == 0.42


@given(st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
), st.sampled_from(sorted(SCHEMA["properties"])))  # fmt: skip
def test_a_field_with_anything_in_it_is_taken_only_where_the_schema_takes_it(value, name):
    body = json.dumps(json.loads(report(1)) | {name: value}).encode()
    try:
        parse_report(body)
    except Refusal:
        return
    jsonschema.validate(json.loads(body), SCHEMA)


@pytest.mark.parametrize("name", ["agent", "bundle", "bundle_version", "channel", "week",
                                  "architecture", "toolchain", "timings", "noise", "outcome",
                                  "dedupe"])  # fmt: skip
@pytest.mark.parametrize("text", ["'; DROP TABLE reports; --", "<script>alert(1)</script>",
                                  "default\n", "\x00", "ÿ", "a" * 2000, ""])  # fmt: skip
def test_sql_html_and_controls_are_refused_in_every_text_field(name, text):
    assert refused(report(1, **{name: text})) in (413, 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'"' + b"\xff" * 10 + b'"', 422),
        (b"[" * 2000, 422),
        (b'{"schema":' * 100 + b"1" + b"}" * 100, 422),
        (b"null", 422),
        (b"[]", 422),
        (report(1) + b" " * 3000, 413),
        (report(1, schema=3), 422),
        (report(1, schema=True), 422),
        (report(1, more=1), 422),
        (report(1, week="2025-W53"), 422),
        (report(1, calibrated=accuracy(float("nan"))), 400),
        (report(1, calibrated=accuracy(1e400)), 400),
        (report(1, calibrated=accuracy(-0.02)), 422),
        (report(1, calibrated=accuracy() | {"x": 1}), 422),
        (report(1).replace(b'"kept"', b'"k\\u0065pt"'), 422),
    ],
)
def test_what_is_no_report_is_refused_for_good(body, status):
    assert refused(body) == status


def test_nothing_finer_than_the_agreed_steps_is_kept():
    kept = pending_row(parse_report(report(1, calibrated=accuracy(0.4123456))))
    assert kept["calibrated_speedup"] == 21
    assert "dedupe" not in kept
    assert all(isinstance(v, int | str | None) for v in kept.values())


def test_what_is_in_use_depends_on_the_outcome():
    def used(outcome):
        return pending_row(parse_report(report(1, outcome=outcome)))["used"]

    assert [used(x) for x in OUTCOMES] == [20, 25, None, None]
    assert pending_row(parse_report(report(1)))["gain"] == 5
