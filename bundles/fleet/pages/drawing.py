"""Charts as inline SVG: small pure functions. Colours are classes of static/style.css."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from agent.page import svg
from agent.page.axes import Axis
from agent.page.markup import Markup, element, side_by_side
from bundles.fleet.analysis.verdict import percent_text

HEIGHT = 220
LEFT, RIGHT, TOP, BOTTOM = 6, 46, 12, 30  # the axis stands at the right, beside the newest week
TIMES = "\N{MULTIPLICATION SIGN}"
PLACE, LEAST, MOST = 64.0, 128.0, 468.0  # for a week; for all of them
LARGER = 1.2  # on a screen, where there is room
TOPS = (0.1, 0.2, 0.5, 1.0)  # of an axis of shares
FACTORS = (1, 1.1, 1.2, 1.4, 1.7, 2, 2.5, 3, 4, 6, 10, 20, 50, 148)


class Box(NamedTuple):
    """The spread of one group in one week, in log units."""

    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    machines: int


class BoxSeries(NamedTuple):
    """What is drawn in one colour: its name, its class, and a box (or none) for each week."""

    name: str
    kind: str
    boxes: Sequence[Box | None]


class BarSeries(NamedTuple):
    """Likewise, with a share (or none) for each week."""

    name: str
    kind: str
    shares: Sequence[float | None]


class Mark(NamedTuple):
    """Something that changed with a week, by its place in the row of weeks; and what."""

    place: int
    words: str


def spreads(
    title: str, week_names: Sequence[str], lines: Sequence[BoxSeries], marks: Sequence[Mark] = ()
) -> Markup:
    """Boxes by week: the middle half of the machines, whiskers 10 to 90 %, a mark at the median.

    The axis counts factors: a log error of 0.69 is "off by a factor of 2".
    """
    values = [v for line in lines for box in line.boxes if box for v in (box.p10, box.p90)]
    low, high = _beyond(min([0.0, *values])), _beyond(max([math.log(1.2), *values]))
    across = _Across(week_names, len(lines))
    y = Axis(low, high, HEIGHT - BOTTOM, TOP, log=False)
    drawn = [_grid(across.right, y), *across.names(), *across.marks(marks)]
    for index, name in enumerate(week_names):
        for number, line in enumerate(lines):
            if box := line.boxes[index]:
                said = f"{name}, {line.name}: median {_factor(box.p50)}, {box.machines} machines"
                at = across.at(index, number)
                drawn.append(_box(at, across.half, box, y, (line.kind, said)))
    return across.image(title, drawn)


def bars(
    title: str, week_names: Sequence[str], lines: Sequence[BarSeries], marks: Sequence[Mark] = ()
) -> Markup:
    """Bars by week, from 0 to the next round share above all of them."""
    most = max([0.0, *(share for line in lines for share in line.shares if share)])
    across = _Across(week_names, len(lines))
    y = Axis(0.0, next(x for x in TOPS if x >= most), HEIGHT - BOTTOM, TOP, log=False)
    drawn = [_share_grid(across.right, y), *across.names(), *across.marks(marks)]
    for index, name in enumerate(week_names):
        for number, line in enumerate(lines):
            if (share := line.shares[index]) is not None:
                said = f"{name}, {line.name}: {percent_text(share)}"
                bar = _bar(across.at(index, number), across.half, y.at(share), y.at(0.0))
                drawn.append(element("g", element("title", said), bar, class_=line.kind))
    return across.image(title, drawn)


def _bar(at: float, half: float, top: float, foot: float) -> Markup:
    return element(
        "rect", x=at - half, y=min(top, foot - 1), width=2 * half, height=max(1.0, foot - top)
    )


class _Across:
    """Where weeks lie, and what is drawn beside each other in one."""

    def __init__(self, week_names: Sequence[str], lines: int) -> None:
        self._names, self._lines = week_names, lines
        self._room = min(MOST, max(LEAST, PLACE * len(week_names)))
        self.right = LEFT + self._room
        self._place = self._room / max(1, len(week_names))
        self._slot = min(26.0, self._place / (lines + 0.6))
        self.half = self._slot * 0.36

    def at(self, index: int, number: int) -> float:
        """The middle of the line with this number in a week."""
        middle = LEFT + (index + 0.5) * self._place
        return middle + (number - (self._lines - 1) / 2) * self._slot

    def names(self) -> list[Markup]:
        """Below the drawing, as many as there is room for."""
        every = -(-len(self._names) // 8)
        return [
            _text(
                LEFT + (index + 0.5) * self._place, HEIGHT - 10, self._names[index][-3:], "middle"
            )
            for index in range(0, len(self._names), every or 1)
        ]

    def marks(self, marks: Sequence[Mark]) -> list[Markup]:
        """Lines where a week begins with which something changed."""
        drawn = []
        for mark in marks:
            at = LEFT + mark.place * self._place
            line = svg.line("mark", at, TOP - 6, at, HEIGHT - BOTTOM)
            drawn.append(element("g", element("title", mark.words), line, class_="none"))
        return drawn

    def image(self, title: str, drawn: Sequence[Markup]) -> Markup:
        """All of it, as large as there are weeks."""
        width = self.right + RIGHT
        kind = "chart" if self._room == MOST else "chart few"
        return _image(title, (width, HEIGHT), drawn, kind, f"{width * LARGER:.0f}")


def _share_grid(right: float, y: Axis) -> Markup:
    drawn = []
    for share in (0.0, y.high / 2, y.high):
        at = y.at(share)
        drawn.append(svg.line("grid" if share else "zero", LEFT, at, right, at))
        drawn.append(_text(right + 6, at + 4, f"{100 * share:g}\N{NO-BREAK SPACE}%", "start"))
    return side_by_side(*drawn)


def _beyond(value: float) -> float:
    """The next mark of the axis that no data lie beyond."""
    marks = [math.log(factor) for factor in FACTORS]
    found = next((mark for mark in marks if mark >= abs(value)), abs(value))
    return math.copysign(found, value)


def _grid(right: float, y: Axis) -> Markup:
    marks = [math.log(f) for f in FACTORS]
    wanted = [m for m in (*(-m for m in reversed(marks[1:])), *marks) if y.holds(m)]
    apart: list[float] = []
    for mark in sorted(wanted, key=lambda m: m not in (0.0, y.low, y.high)):  # the ends come first
        if all(abs(y.at(other) - y.at(mark)) >= 22 for other in apart):
            apart.append(mark)
    drawn = []
    for mark in sorted(apart):
        at, factor = y.at(mark), math.exp(abs(mark))
        drawn.append(svg.line("zero" if y.low < 0 and mark == 0 else "grid", LEFT, at, right, at))
        sign = "÷" if mark < 0 else TIMES
        drawn.append(_text(right + 6, at + 4, f"{sign}{factor:.3g}", "start"))
    return side_by_side(*drawn)


def _box(at: float, half: float, box: Box, y: Axis, named: tuple[str, str]) -> Markup:
    """``named``: its class, and what it says when it is pointed at."""
    kind, said = named
    upper, lower = y.at(box.p75), y.at(box.p25)
    return element(
        "g",
        element("title", said),
        svg.line("whisker", at, y.at(box.p10), at, y.at(box.p90)),
        element("rect", x=at - half, y=upper, width=2 * half, height=max(2.0, lower - upper), rx=2),
        svg.line("median", at - half, y.at(box.p50), at + half, y.at(box.p50)),
        class_=kind,
    )


def share_bar(value: float, words: str) -> Markup:
    """A bar from 0 to 1."""
    track = element("rect", class_="track", width=100, height=8, rx=4)
    filled = element("rect", class_="fill", width=value * 100, height=8, rx=4)
    return _image(words, (100, 8), [track, filled], "share")


def interval_drawing(estimate: float, low: float, high: float, margin: float) -> Markup:
    """How much worse pilot is than stable: the estimate, its interval, and the margin allowed."""
    most = max(abs(low), abs(high), 3 * margin) * 1.15
    width, height = 340, 64
    x = Axis(-most, most, 0, width, log=False).at
    words = f"Log error {estimate:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}; margin {margin:g}"
    return _image(words, (width, height), [
        svg.rectangle("allowed", 0, 6, x(margin), 34),
        svg.line("zero", x(0), 6, x(0), 40),
        svg.line("range", x(low), 23, x(high), 23),
        svg.circle("estimate", x(estimate), 23, 5),
        _text(x(0), 56, "as stable", "middle"),
        _text(4, 56, "pilot better", "start"),
        _text(width - 4, 56, "pilot worse", "end"),
    ], "interval")  # fmt: skip


def _factor(value: float) -> str:
    return f"{TIMES}{math.exp(value):.3g}"


def _image(
    words: str,
    size: tuple[float, float],
    inside: Sequence[Markup],
    kind: str,
    pixels: str | None = None,
) -> Markup:
    box = "0 0 {:g} {:g}".format(*size)
    shown = {"class_": kind, "viewBox": box, "width": pixels, "role": "img", "aria_label": words}
    return element("svg", element("title", words), *inside, **shown)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return element("text", words, x=x, y=y, text_anchor=anchor)
