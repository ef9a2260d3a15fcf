"""Charts as inline SVG: small pure functions. Colours are classes of static/style.css."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

HEIGHT = 220
LEFT, RIGHT, TOP, BOTTOM = 6, 46, 12, 30  # the axis stands at the right, beside the newest week
EMPTY = Markup("")
TIMES = "\N{MULTIPLICATION SIGN}"
Scale = Callable[[float], float]
PLACE, LEAST, MOST = 64.0, 128.0, 468.0  # for a week; for all of them
LARGER = 1.2  # on a screen, where there is room
FACTORS = (1, 1.1, 1.2, 1.4, 1.7, 2, 2.5, 3, 4, 6, 10, 20, 50, 148)


class Box(NamedTuple):
    """The spread of one group in one week, in log units."""

    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    machines: int


class Series(NamedTuple):
    """What is drawn in one colour: its name, its class, and a box (or none) for each week."""

    name: str
    kind: str
    boxes: Sequence[Box | None]


def spreads(title: str, week_names: Sequence[str], lines: Sequence[Series]) -> Markup:
    """Boxes by week: the middle half of the machines, whiskers 10 to 90 %, a mark at the median.

    The axis counts factors: a log error of 0.69 is "off by a factor of 2".
    """
    values = [v for line in lines for box in line.boxes if box for v in (box.p10, box.p90)]
    low, high = _beyond(min([0.0, *values])), _beyond(max([math.log(1.2), *values]))
    room = min(MOST, max(LEAST, PLACE * len(week_names)))
    width, place = LEFT + room + RIGHT, room / max(1, len(week_names))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    drawn = [_grid(low, high, width - RIGHT, y)]
    every = -(-len(week_names) // 8)
    for index, name in enumerate(week_names):
        middle = LEFT + (index + 0.5) * place
        if index % every == 0:
            drawn.append(_text(middle, HEIGHT - 10, name[-3:], "middle"))
        slot = min(26.0, place / (len(lines) + 0.6))
        for number, line in enumerate(lines):
            if box := line.boxes[index]:
                at = middle + (number - (len(lines) - 1) / 2) * slot
                drawn.append(_box(at, slot * 0.36, box, line, name, y))
    kind = "chart" if room == MOST else "chart few"
    return _svg(title, width, HEIGHT, drawn, kind, _wide(width * LARGER))


def _beyond(value: float) -> float:
    """The next mark of the axis that no data lie beyond."""
    marks = [math.log(factor) for factor in FACTORS]
    found = next((mark for mark in marks if mark >= abs(value)), abs(value))
    return math.copysign(found, value)


def _grid(low: float, high: float, right: float, y: Scale) -> Markup:
    marks = [math.log(f) for f in FACTORS]
    wanted = [m for m in (*(-m for m in reversed(marks[1:])), *marks) if low <= m <= high]
    apart: list[float] = []
    for mark in sorted(wanted, key=lambda m: m not in (0.0, low, high)):  # the ends come first
        if all(abs(y(other) - y(mark)) >= 22 for other in apart):
            apart.append(mark)
    drawn = []
    for mark in sorted(apart):
        at, factor = y(mark), math.exp(abs(mark))
        drawn.append(_line(LEFT, at, right, at, "zero" if low < 0 and mark == 0 else "grid"))
        sign = "÷" if mark < 0 else TIMES
        drawn.append(_text(right + 6, at + 4, f"{sign}{factor:.3g}", "start"))
    return Markup("").join(drawn)


def _box(at: float, half: float, box: Box, line: Series, week: str, y: Scale) -> Markup:
    said = f"{week}, {line.name}: median {_factor(box.p50)}, {box.machines} machines"
    return Markup('<g class="{}"><title>{}</title>{}{}{}</g>').format(
        line.kind,
        said,
        _line(at, y(box.p10), at, y(box.p90), "whisker"),
        Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>').format(
            at - half, y(box.p75), 2 * half, max(2.0, y(box.p25) - y(box.p75))
        ),
        _line(at - half, y(box.p50), at + half, y(box.p50), "median"),
    )


def share_bar(value: float, words: str) -> Markup:
    """A bar from 0 to 1."""
    bar = Markup('<rect class="track" width="100" height="8" rx="4"/>')
    filled = Markup('<rect class="fill" width="{:.1f}" height="8" rx="4"/>').format(value * 100)
    return _svg(words, 100, 8, [bar, filled], "share")


def interval_drawing(estimate: float, low: float, high: float, margin: float) -> Markup:
    """How much worse pilot is than stable: the estimate, its interval, and the margin allowed."""
    most = max(abs(low), abs(high), 3 * margin) * 1.15
    width, height = 340, 64

    def x(value: float) -> float:
        return width * (value + most) / (2 * most)

    words = f"Log error {estimate:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}; margin {margin:g}"
    return _svg(words, width, height, [
        Markup('<rect class="allowed" x="0" y="6" width="{:.1f}" height="34"/>').format(x(margin)),
        _line(x(0), 6, x(0), 40, "zero"),
        _line(x(low), 23, x(high), 23, "range"),
        Markup('<circle class="estimate" cx="{:.1f}" cy="23" r="5"/>').format(x(estimate)),
        _text(x(0), 56, "as stable", "middle"),
        _text(4, 56, "pilot better", "start"),
        _text(width - 4, 56, "pilot worse", "end"),
    ], "interval")  # fmt: skip


def _factor(value: float) -> str:
    return f"{TIMES}{math.exp(value):.3g}"


def _svg(
    words: str,
    width: float,
    height: float,
    inside: Sequence[Markup],
    kind: str,
    more: Markup = EMPTY,
) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {:g} {:g}" {} role="img" aria-label="{}"><title>{}</title>{}'
        "</svg>"
    ).format(kind, width, height, more, words, words, Markup("").join(inside))


def _wide(pixels: float) -> Markup:
    return Markup('width="{:.0f}"').format(pixels)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        kind, x1, y1, x2, y2
    )


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, words
    )
