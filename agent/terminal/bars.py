"""Intervals as lines of characters beside the rows of a table, all on one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.terminal.blocks import Interval, Table

LEAST, MOST, BESIDE = 16, 40, 3  # columns of the axis; between it and the next column
FARTHEST: Final = 8.0  # ends of intervals are drawn no farther than this factor beyond all values


@dataclass(frozen=True)
class Marks:
    """What a line is drawn with: the interval, its value, and where 1 is."""

    reach: str
    value: str
    one: str


ASCII: Final = Marks("-", "o", ":")
UNICODE: Final = Marks("\u2500", "\u25cf", "\u2502")  # a line, a disc, a line upright


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis of so many columns, with 1 on it."""

    low: float
    high: float
    columns: int

    @classmethod
    def of(cls, shown: Sequence[Interval], columns: int) -> Scale:
        """One that holds all of them."""
        values = [1.0, *(i.value for i in shown)]
        low = max(min(values) / FARTHEST, min([*values, *(i.low for i in shown)]))
        high = min(max(values) * FARTHEST, max([*values, *(i.high for i in shown)]))
        return cls(low, max(high, 1.05 * low), columns)

    def at(self, number: float) -> int:
        """Its column; one beyond an end is on it."""
        inside = min(max(number, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return round(share * (self.columns - 1))

    def header(self) -> str:
        """Both ends, and 1 between them where there is room."""
        first, last = f"{self.low:.2g}", f"{self.high:.2g}"
        line = list(first + last.rjust(self.columns - len(first)))
        one = self.at(1.0)
        if len(first) < one < self.columns - len(last) - 1:
            line[one] = "1"
        return "".join(line)

    def line(self, shown: Interval, marks: Marks) -> str:
        """The interval, its value and 1."""
        line = [" "] * self.columns
        first, last = self.at(shown.low), self.at(shown.high)
        line[first : last + 1] = marks.reach * (last + 1 - first)
        line[self.at(1.0)] = marks.one
        line[self.at(shown.value)] = marks.value
        return "".join(line)


def with_bars(table: Table, room: int, marks: Marks) -> Table:
    """The table with its intervals drawn before its last column, in ``room`` columns at most."""
    known = [i for i in table.intervals if i]
    if not known:
        return table
    scale = Scale.of(known, min(room, MOST))
    bars = [scale.line(i, marks) if i else "" for i in table.intervals]
    rows = ((*row[:-1], bar, row[-1]) for row, bar in zip(table.rows, bars, strict=True))
    headers = (*table.headers[:-1], scale.header(), table.headers[-1])
    return replace(table, headers=headers, rows=tuple(rows), intervals=())


def marks_for(encoding: str | None, environment: Mapping[str, str]) -> Marks:
    """Lines and dots where the encoding has them, and the locale does not say that none are shown.

    Python writes UTF-8 in the locale C too. A stream of text in memory has no encoding.
    """
    told = (environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    if next(filter(None, told), "") in ("C", "POSIX"):
        return ASCII
    try:
        "".join((UNICODE.reach, UNICODE.value, UNICODE.one)).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE
