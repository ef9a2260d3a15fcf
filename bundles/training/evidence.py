"""What `bundles evaluate` found, in short: the manifest of a bundle made that way keeps it."""

from __future__ import annotations

import json
from pathlib import Path

from agent.errors import AgentError


def evaluation_in_brief(path: Path) -> dict[str, object]:
    """The figures of an evaluation.json that a bundle's manifest keeps: one row an arm.

    Raises:
        AgentError: the file is not a report of ``bundles evaluate``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        labels = found["focus"]["labels"]
        rows = {
            f"{name} {budget}": curve[budget]
            for name, curve in found["mean"].items()
            for budget in ("0", str(labels))
            if budget in curve
        }
        targets = len(found["compared"])
        note, when = found["protocol"]["encoder"]["note"], found["created"][:10]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgentError(
            f"{path} is not a report of `bundles evaluate`: {error}",
            "Give the evaluation.json that it wrote.",
        ) from error
    protocol = f"{when}: means over {targets} targets, test programs only; {note}; arm and labels"
    return {"protocol": protocol, **rows}
