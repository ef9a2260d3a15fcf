"""What ``agent config`` and ``agent doctor`` say: the data of ``--json`` as words."""

from __future__ import annotations

from collections.abc import Sequence

from agent.terminal.blocks import Answer, Block, Table
from agent.terminal.numbers import DASH, Count


def settings_blocks(answer: Answer) -> list[Block]:
    """Every setting, where it comes from, and its default where it is another."""
    rows = tuple(
        (s["name"], s["value"] or DASH, _origin(s["origin"]), _default_of(s))
        for s in answer["settings"]
    )
    table = Table(("setting", "value", "set by", "default"), rows)
    return [table, *_files(answer["files"]), *_mistakes(answer["problems"])]


def _origin(origin: Answer) -> str:
    line = "" if origin["line"] is None else f":{origin['line']}"
    return f"{origin['name']}{line}" if origin["name"] else "default"


def _default_of(setting: Answer) -> str:
    return "" if setting["value"] == setting["default"] else setting["default"] or DASH


def checked_settings_blocks(answer: Answer) -> list[Block]:
    """The mistakes in the configuration, or that there are none."""
    found = _mistakes(answer["problems"]) or ["No mistakes."]
    notes = [f"Note: {words}" for words in answer["notes"]]
    return [*_files(answer["files"]), *found, *notes]


def _files(files: Sequence[str]) -> list[Block]:
    return ["Files: " + ", ".join(files) if files else "No configuration file."]


def _mistakes(problems: Sequence[Answer]) -> list[Block]:
    lines = ((f"problem: {p['message']}", f"hint: {p['hint']}" * bool(p["hint"])) for p in problems)
    return [line for pair in lines for line in pair if line]


def notice_blocks(answer: Answer) -> list[Block]:
    """What was told, what had been before, and by which command."""
    rows = tuple(
        ("new" if p["new"] else "known", p["check"], "\n".join(filter(None, _said(p))))
        for p in answer["problems"]
    )
    new = sum(p["new"] for p in answer["problems"])
    done = {
        "tried": "on_problem was run with something made up, and ended well.",
        "told": f"{Count(new):new problem} told.",
        "nothing": "Nothing new: nobody was told anything.",
    }
    return [
        *([Table(("", "check", "what was found"), rows)] if rows else []),
        done[answer["outcome"]],
    ]


def _said(finding: Answer) -> tuple[str, str]:
    return finding["message"], finding["advice"]


def finding_blocks(answer: Answer) -> list[Block]:
    """One line a check, and what to do where something is to be done."""
    rows = tuple(
        (c["level"], c["check"], "\n".join(filter(None, _said(c)))) for c in answer["checks"]
    )
    counts = ((answer["problems"], "problem"), (answer["warnings"], "warning"))
    said = [f"{Count(n):{word}}" for n, word in counts if n]
    return [Table(("", "check", "what was found"), rows), (", ".join(said) or "All is well") + "."]
