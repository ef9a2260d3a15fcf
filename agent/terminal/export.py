"""Tables for files: CSV (RFC 4180) and Markdown, numbers as they are, empty where there is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from agent.terminal.advice_wording import speedup_shown
from agent.terminal.blocks import Answer, Block, ExportFormat, Verbatim

Row = Sequence[str]
_NUMBERS: Final = ("speedup", "low", "high", "seconds", "seconds_low", "seconds_high")
_SECONDS: Final = _NUMBERS[3:]


def exported_ranking(answer: Answer, kind: ExportFormat) -> list[Block]:
    """The predictions, best first, speed-ups over the person's function where it was timed."""
    rows = (
        [r["schedule"], *speedup_shown(r), *(r[name] for name in _SECONDS)]
        for r in answer["ranking"]
    )
    return _exported(("schedule", *_NUMBERS), rows, kind)


def exported_measurements(answer: Answer, kind: ExportFormat) -> list[Block]:
    """The timings in the order asked, speed-ups over the person's function where it was timed."""
    rows = (
        [m["schedule"], m["outcome"], *speedup_shown(m), *(m[name] for name in _SECONDS)]
        for m in answer["measurements"]
    )
    return _exported(("schedule", "outcome", *_NUMBERS), rows, kind)


def _exported(headers: Row, rows: Iterable[Sequence[object]], kind: ExportFormat) -> list[Block]:
    return [Verbatim(_WRITERS[kind]([headers, *([_cell(x) for x in row] for row in rows)]))]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _markdown(rows: Sequence[Row]) -> str:
    head, *rest = rows
    lines = (head, ["---"] * len(head), *rest)
    return "".join(f"| {' | '.join(c.replace('|', '&#124;') for c in row)} |\n" for row in lines)


_WRITERS: Mapping[ExportFormat, Callable[[Sequence[Row]], str]] = {"csv": _csv, "md": _markdown}
