"""Drawings of advice: rounds of a measurement, a map of programs, causes, intervals.

As in ``charts``: inline SVG, 420 units wide, pure functions of numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from agent.page import svg
from agent.page.axes import Axis, spread
from agent.page.charts import WIDTH, Words, disc, ring, vertical
from agent.page.markup import Markup, side_by_side

HEAP: Final = 66.0  # units from row to row
TALLEST, BIN = 26.0, 6.0  # of a bar, its width
LETTER: Final = 6.3  # units, on the average
Box = tuple[float, float, float, float]  # left, right, top, bottom
NAMED: Final = 4  # neighbours on the map that are named


@dataclass(frozen=True)
class Heap:
    """A row of ``histograms``: positive numbers, and low end, middle, high end of a result."""

    name: str
    undisturbed: tuple[float, ...]
    disturbed: tuple[float, ...]
    interval: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Spot:
    """A mark of ``programs``: where it is, and what it says when it is pointed at."""

    name: str
    x: float
    y: float
    title: str


def histograms(heaps: Sequence[Heap], words: Words) -> Markup:
    """How often which number occurred, row by row over one logarithmic axis; 1 is marked.

    Args:
        heaps: at least one, each with numbers.
        words: a number of the axis in words.
    """
    shown = [v for h in heaps for v in (*h.undisturbed, *h.disturbed, *(h.interval or ()))]
    x = Axis(*spread([1.0, *shown], 1.5), 8, WIDTH - 8)
    bottom = HEAP * len(heaps) + 8
    y = Axis(0.0, 1.0, bottom, 6, log=False)
    return svg.picture(
        f"Rounds of {len(heaps)} programs by how many times as fast they were",
        WIDTH,
        bottom + 40,
        *(vertical(x, tick, y, words(tick)) for tick in x.ticks(6)),
        svg.line("made", x.at(1.0), y.start, x.at(1.0), y.end),
        *(side_by_side(*_heap(h, x, HEAP * (n + 1), words)) for n, h in enumerate(heaps)),
        svg.text("times as fast as written", (x.start + x.end) / 2, bottom + 36, "axis middle"),
    )


def _heap(heap: Heap, x: Axis, bottom: float, words: Words) -> Iterator[Markup]:
    """Its name, bars of rounds with the disturbed ones on top, the result's interval below."""
    good, bad = (
        Counter(int((x.at(v) - x.start) // BIN) for v in part)
        for part in (heap.undisturbed, heap.disturbed)
    )
    unit = TALLEST / max(4, *(good + bad).values())
    yield svg.text(shortened(heap.name, WIDTH - 16), x.start, bottom - TALLEST - 20, "name")
    for place in sorted(good | bad):
        left, top = x.start + place * BIN + 0.5, bottom - 10 - unit * good[place]
        yield svg.rectangle("bar", left, top, BIN - 1, unit * good[place])
        above = unit * bad[place]
        yield svg.rectangle("bar disturbed", left, top - above, BIN - 1, above)
    yield svg.line("stem", x.start, bottom - 10, x.end, bottom - 10)
    if heap.interval:
        low, middle, high = heap.interval
        told = f"{words(middle)} ({words(low)} to {words(high)})"
        yield svg.line("reach strong", x.at(low), bottom - 4, x.at(high), bottom - 4)
        yield disc(x.at(middle), bottom - 4, told)


def programs(own: Spot, others: Sequence[Spot]) -> Markup:
    """A program among others, the nearest first: what is far apart here is different.

    Both axes have one scale. The program is named, and the nearest of the others as far as names
    do not lie on each other.
    """
    spots = (own, *others)
    middle = [(max(v) + min(v)) / 2 for v in ([s.x for s in spots], [s.y for s in spots])]
    half = 1.12 * max(max(abs(s.x - middle[0]), abs(s.y - middle[1]), 0.5) for s in spots)
    x = Axis(middle[0] - half, middle[0] + half, 8, WIDTH - 8, log=False)
    y = Axis(middle[1] - half, middle[1] + half, 352, 8, log=False)
    places = [(x.at(s.x), y.at(s.y)) for s in spots]
    return svg.picture(
        f"{own.name} among {len(others)} programs",
        WIDTH,
        360,
        svg.rectangle("frame", x.start, y.end, x.end - x.start, y.start - y.end),
        *(ring(*place, s.title, 4.0) for s, place in zip(others, places[1:], strict=True)),
        disc(*places[0], own.title, 5.5),
        *_names([s.name for s in spots[: NAMED + 1]], places),
    )


def _names(names: Sequence[str], places: Sequence[tuple[float, float]]) -> Iterator[Markup]:
    """Names beside their places; one that would lie on another, or on a mark, is left out."""
    taken = [(x - 5, x + 5, y - 5, y + 5) for x, y in places]
    for name, (x, y) in zip(names, places, strict=False):
        text = shortened(name, 150)
        wide = LETTER * len(text)
        for left, base, kind in (
            (x + 9, y + 4, "name"),
            (x - 9 - wide, y + 4, "name end"),
            (x - wide / 2, y - 9, "name middle"),
            (x - wide / 2, y + 18, "name middle"),
        ):
            box = (left, left + wide, base - 10, base + 2)
            if left > 8 and left + wide < WIDTH - 8 and not any(_meet(box, t) for t in taken):
                taken.append(box)
                at = {"name": left, "name end": left + wide}.get(kind, x)
                yield svg.text(text, at, base, kind)
                break


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def waterfall(parts: Sequence[tuple[str, float]], words: Words) -> Markup:
    """Factors that multiply from 1 to their product, each in a row where the last one ended.

    Args:
        parts: at least one: a name, and a factor above 0.
        words: a factor in words.
    """
    ends = list(accumulate((f for _, f in parts), lambda a, b: a * b, initial=1.0))
    x = Axis(*spread(ends, 1.5), 8, WIDTH - 8)
    bottom = 40.0 * len(parts) + 8
    y = Axis(0.0, 1.0, bottom, 6, log=False)
    rows = zip(parts, ends, ends[1:], strict=False)
    return svg.picture(
        "What makes it faster or slower, factor by factor",
        WIDTH,
        bottom + 40,
        *(vertical(x, tick, y, words(tick)) for tick in x.ticks(6)),
        svg.line("made", x.at(1.0), y.start, x.at(1.0), y.end),
        *(_step(name, (a, b), x, 40.0 * n, words) for n, ((name, _), a, b) in enumerate(rows)),
        svg.text("times as fast as written", (x.start + x.end) / 2, bottom + 36, "axis middle"),
    )


def _step(name: str, ends: tuple[float, float], x: Axis, top: float, words: Words) -> Markup:
    first, last = ends
    left, right = sorted((x.at(first), x.at(last)))
    kind = "bar" if last >= first else "bar slower"
    told = f"{shortened(name, WIDTH - 80)}: x {words(last / first)}"
    return side_by_side(
        svg.text(told, x.start, top + 20, "name"),
        svg.rectangle(kind, left, top + 26, max(right - left, 1.5), 12),
    )


def shortened(text: str, room: float) -> str:
    """A text cut to so many units."""
    most = int(room / LETTER)
    return text if len(text) <= most else text[: most - 1] + "…"
