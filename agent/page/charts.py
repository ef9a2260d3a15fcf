"""Drawings as inline SVG: pure functions of numbers. Colours and strokes are in ``style.css``.

All are 420 units wide, so that their letters stay readable on a phone. What a drawing shows is
also in a table of the page; a mark's ``title`` says its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.calibration.calibration import Point
from agent.page import svg
from agent.page.axes import Axis, spread
from agent.page.markup import Markup, element, side_by_side

WIDTH: Final = 420.0
FARTHEST: Final = 30.0  # predictions farther off than this factor lie on the edge
MARK: Final = 3.4

Words = Callable[[float], str]


@dataclass(frozen=True)
class Bar:
    """One row of ``error_bars``: factors, 1 is exact; None where a figure is not known.

    ``low`` and ``high``: ends of the 80% interval of ``calibrated``.
    """

    name: str
    calibrated: float | None = None
    low: float | None = None
    high: float | None = None
    alone: float | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Dot:
    """A mark of ``timeline``: ``kind`` is its class, ``limit`` what it should stay under."""

    x: float
    y: float
    kind: str
    title: str
    limit: float | None = None


@dataclass(frozen=True)
class Series:
    """One way to predict over many calibrations: its class, and (x, factor, title) of each."""

    kind: str
    points: tuple[tuple[float, float, str], ...]


def scatter(
    points: Sequence[Point], words: Words, what: str, alone: str = "bundle alone"
) -> Markup:
    """Predicted against measured, both logarithmic; on the diagonal a prediction is exact.

    Args:
        points: at least one.
        words: a number of the axes in words.
        what: the axes' quantity, e.g. "speed-up".
        alone: whose predictions ``Point.alone`` are.
    """
    low, high = scatter_ends(points)
    x, y = Axis(low, high, 66, WIDTH - 8), Axis(low, high, 346, 8)
    return svg.picture(
        f"Predicted against measured {what} of {len(points)} timings",
        WIDTH,
        392,
        _double(x, y),
        *(vertical(x, tick, y, words(tick)) for tick in x.ticks(6)),
        *(horizontal(y, tick, x, words(tick)) for tick in y.ticks(6)),
        svg.line("identity", x.start, y.start, x.end, y.end),
        *(_reach(point, x, y) for point in points),
        *(ring(x.at(p.measured), y.at(p.alone), "") for p in points),
        *(disc(x.at(p.measured), y.at(p.calibrated), _said(p, words, alone)) for p in points),
        svg.text(f"measured {what}", (x.start + x.end) / 2, 386, "axis middle"),
        svg.upright(f"predicted {what}", 12, (y.start + y.end) / 2, "axis middle"),
    )


def scatter_ends(points: Sequence[Point]) -> tuple[float, float]:
    """Ends of both axes of ``scatter``: all that was measured, and predictions not absurdly off."""
    measured = [p.measured for p in points]
    least, most = min(measured) / FARTHEST, max(measured) * FARTHEST
    predicted = [min(max(v, least), most) for p in points for v in (p.calibrated, p.alone)]
    return spread([*measured, *predicted], 4.0)


def outside(points: Sequence[Point]) -> int:
    """How many points of ``scatter`` are drawn on its edge, because they lie farther out."""
    low, high = scatter_ends(points)
    return sum(not low <= v <= high for p in points for v in (p.calibrated, p.alone))


def _said(p: Point, words: Words, alone: str) -> str:
    return (
        f"{p.kernel}: {p.schedule}\n"
        f"measured {words(p.measured)} ({words(p.low)} to {words(p.high)})\n"
        f"predicted {words(p.calibrated)} ({words(p.calibrated_low)} to "
        f"{words(p.calibrated_high)}); {alone} {words(p.alone)}"
    )


def _double(x: Axis, y: Axis) -> Markup:
    """The band in which predictions are off by less than a factor of two."""
    low, high = x.low, x.high
    corners = ((low, low), (low, 2 * low), (high / 2, high), (high, high), (high, high / 2))
    places = [(x.at(a), y.at(b)) for a, b in (*corners, (2 * low, low))]
    return svg.path("band", places, closed=True)


def _reach(p: Point, x: Axis, y: Axis) -> Markup:
    """The 80% intervals of the prediction (upright) and of the measurement (flat)."""
    across, up = x.at(p.measured), y.at(p.calibrated)
    return side_by_side(
        svg.line("reach", across, y.at(p.calibrated_low), across, y.at(p.calibrated_high)),
        svg.line("reach", x.at(p.low), up, x.at(p.high), up),
    )


def error_bars(bars: Sequence[Bar], words: Words) -> Markup:
    """How far predictions are off as a factor, from 1 (exact) to the right."""
    known = [
        v for b in bars for v in (b.calibrated, b.low, b.high, b.alone, b.noise) if v is not None
    ]
    x = Axis(1.0, max(spread(known, 1.0)[1], 1.2), 8, WIDTH - 16)
    bottom = 44.0 * len(bars) + 14
    y = Axis(0.0, 1.0, bottom, 6, log=False)
    rows = [_bar(bar, x, 44.0 * n + 40, words) for n, bar in enumerate(bars)]
    return svg.picture(
        "How far predictions are off, as a factor",
        WIDTH,
        bottom + 40,
        *(vertical(x, tick, y, words(tick)) for tick in x.ticks(6)),
        *rows,
        svg.text(
            "off by a factor of (1 is exact)", (x.start + x.end) / 2, bottom + 36, "axis middle"
        ),
    )


def _bar(bar: Bar, x: Axis, y: float, words: Words) -> Markup:
    parts = [svg.text(bar.name, x.start + 4, y - 16, "name")]
    known = [v for v in (bar.calibrated, bar.alone) if v is not None]
    if known:
        parts.append(svg.line("stem", x.start, y, x.at(max(known)), y))
    if bar.low is not None and bar.high is not None:
        parts.append(svg.line("reach strong", x.at(bar.low), y, x.at(bar.high), y))
    if bar.noise is not None:
        parts.append(svg.line("noise", x.at(bar.noise), y - 9, x.at(bar.noise), y + 9))
    if bar.alone is not None:
        parts.append(ring(x.at(bar.alone), y, f"bundle alone: {words(bar.alone)}", 5.5))
    if bar.calibrated is not None:
        parts.append(disc(x.at(bar.calibrated), y, f"calibrated: {words(bar.calibrated)}", 5.5))
    return side_by_side(*parts)


def strip(values: Sequence[float], lines: Sequence[tuple[float, str]], words: Words) -> Markup:
    """Positive numbers as marks along one logarithmic axis, with named lines across."""
    low, high = spread([*values, *(v for v, _ in lines)], 4.0)
    x = Axis(low, high, 8, WIDTH - 8)
    y = Axis(0.0, 1.0, 62, 22, log=False)
    return svg.picture(
        f"How exact {len(values)} timings are",
        WIDTH,
        100,
        *(vertical(x, tick, y, words(tick)) for tick in x.ticks(6)),
        *(svg.line("tick", x.at(v), 32, x.at(v), 52) for v in values),
        *(
            side_by_side(
                svg.line("noise", x.at(v), y.start, x.at(v), y.end),
                svg.text(name, x.at(v), 14, "name middle" if _central(x, v) else _side(x, v)),
            )
            for v, name in lines
        ),
        svg.text(
            "80% interval of a timing: plus or minus", (x.start + x.end) / 2, 97, "axis middle"
        ),
    )


def _central(x: Axis, value: float) -> bool:
    return 90 < x.at(value) < WIDTH - 90


def _side(x: Axis, value: float) -> str:
    return "name" if x.at(value) <= WIDTH / 2 else "name end"


def timeline(dots: Sequence[Dot], made: Sequence[float], when: Words, words: Words) -> Markup:
    """Checks in time, oldest on the left: how far the worst one was off, and its limit.

    Args:
        dots: at least one; ``x`` in seconds, ``y`` and ``limit`` not below zero.
        made: when calibrations were made; those near the checks are drawn as lines.
        when: a moment in words.
        words: an offset in words.
    """
    before = [at for at in made if at < min(d.x for d in dots)]
    first, last = max(before, default=min(d.x for d in dots)), max(d.x for d in dots)
    top = 1.15 * max(0.01, *(d.y for d in dots), *(d.limit or 0.0 for d in dots))
    margin = max(0.03 * (last - first), 1.0)  # a second at least: one check has no width
    size = min(4.5, max(1.8, 180 / len(dots)))  # a year of checks is a band, and still not a blot
    x = Axis(first - margin, last + margin, 74, WIDTH - 8, log=False)
    y = Axis(0.0, top, 150, 8, log=False)
    return svg.picture(
        f"{len(dots)} checks in time",
        WIDTH,
        184,
        *(horizontal(y, tick, x, words(tick)) for tick in y.ticks(5)),
        *(svg.line("made", x.at(m), y.start, x.at(m), y.end) for m in made if first <= m <= last),
        *(
            svg.line(
                "limit", x.at(d.x) - 2 * size, y.at(d.limit), x.at(d.x) + 2 * size, y.at(d.limit)
            )
            for d in dots
            if d.limit is not None
        ),
        *(_check(d, x.at(d.x), y.at(d.y), size) for d in dots),
        svg.text(when(first), x.start, 172, "axis"),
        svg.text(when(last), x.end, 172, "axis end") if last > first else "",
        svg.upright("largest change", 14, (y.start + y.end) / 2, "axis middle"),
    )


def _check(dot: Dot, x: float, y: float, size: float) -> Markup:
    """A disc holds, a square has changed, a ring is unclear: told apart without colour too."""
    if dot.kind == "changed":
        corner = svg.rectangle("changed", x - size, y - size, 2 * size, 2 * size)
        return svg.titled(dot.title, corner)
    return (disc if dot.kind == "holds" else ring)(x, y, dot.title, size)


def course(series: Sequence[Series], words: Words) -> Markup:
    """Errors of calibrations by their number, oldest on the left; lower is better."""
    places = [(x, f) for s in series for x, f, _ in s.points]
    left, right = min(x for x, _ in places), max(x for x, _ in places)
    x = Axis(left, max(right, left + 1), 64, WIDTH - 24, log=False)
    y = Axis(1.0, max(spread([f for _, f in places], 1.0)[1], 1.5), 150, 8)
    return svg.picture(
        "Error of each calibration",
        WIDTH,
        190,
        *(horizontal(y, tick, x, words(tick)) for tick in y.ticks(5)),
        *(svg.text(f"{n:.0f}", x.at(n), 168, "axis middle") for n in x.ticks(8) if n == int(n)),
        *(_track(s, x, y) for s in series),
        svg.text("number of the calibration", (x.start + x.end) / 2, 187, "axis middle"),
    )


def _track(series: Series, x: Axis, y: Axis) -> Markup:
    mark = disc if series.kind == "calibrated" else ring
    path = svg.path(f"track {series.kind}", [(x.at(n), y.at(f)) for n, f, _ in series.points])
    marks = (mark(x.at(n), y.at(f), title, 4.0) for n, f, title in series.points)
    return side_by_side(path, *marks)


def climb(points: Sequence[tuple[float, float, str]], words: Words, when: Words) -> Markup:
    """The best so far as a factor, by seconds since the start: it never falls but for noise.

    Args:
        points: at least one: seconds, factor, title.
        words: a factor of the axis in words.
        when: seconds of the axis in words.
    """
    x = Axis(0.0, 1.03 * max(at for at, _, _ in points), 64, WIDTH - 24, log=False)
    y = Axis(*spread([1.0, *(f for _, f, _ in points)], 1.5), 190, 8)
    steps, last = [(x.start, y.at(1.0))], 1.0
    for at, factor, _ in points:
        steps += [(x.at(at), y.at(last)), (x.at(at), y.at(factor))]
        last = factor
    return svg.picture(
        f"The best of {len(points)} batches so far, in time",
        WIDTH,
        228,
        *(horizontal(y, tick, x, words(tick)) for tick in y.ticks(5)),
        *(vertical(x, tick, y, when(tick)) for tick in x.ticks(6)),
        svg.path("track calibrated", [*steps, (x.end, y.at(last))]),
        *(disc(x.at(at), y.at(f), f"{when(at)}: {words(f)}, {t}") for at, f, t in points),
        svg.upright("times as fast", 14, (y.start + y.end) / 2, "axis middle"),
    )


def swatch(kind: str) -> Markup:
    """A mark for a legend."""
    drawn = {
        "calibrated": disc(8, 6, "", 4.5),
        "alone": ring(8, 6, "", 4.5),
        "noise": svg.line("noise", 8, 0, 8, 12),
        "reach": svg.line("reach strong", 0, 6, 16, 6),
        "identity": svg.line("identity", 0, 12, 16, 0),
        "band": svg.rectangle("band", 0, 0, 16, 12),
        "limit": svg.line("limit", 1, 6, 15, 6),
        "made": svg.line("made", 8, 0, 8, 12),
        "changed": svg.rectangle("changed", 3.5, 1.5, 9, 9),
        "tick": svg.line("tick", 8, 0, 8, 12),
        "bar": svg.rectangle("bar", 5, 1, 6, 11),
        "bar disturbed": svg.rectangle("bar disturbed", 5, 1, 6, 11),
        "bar slower": svg.rectangle("bar slower", 5, 1, 6, 11),
    }
    return element("svg", drawn[kind], viewBox="0 0 16 12", class_="swatch", aria_hidden="true")


def vertical(x: Axis, at: float, y: Axis, label: str) -> Markup:
    """A line of the grid from below upwards, with what stands under it."""
    place = x.at(at)
    edge = " middle" if 20 < place < WIDTH - 20 else " end" if place > WIDTH / 2 else ""
    return side_by_side(
        svg.line("grid", place, y.start, place, y.end),
        svg.text(label, place, y.start + 18, f"axis{edge}"),
    )


def horizontal(y: Axis, at: float, x: Axis, label: str) -> Markup:
    """A line of the grid from the left, with what stands beside it."""
    return side_by_side(
        svg.line("grid", x.start, y.at(at), x.end, y.at(at)),
        svg.text(label, x.start - 6, y.at(at) + 4, "axis end"),
    )


def disc(x: float, y: float, title: str, radius: float = MARK) -> Markup:
    """A filled mark: what the page is about."""
    return _circle("calibrated", x, y, title, radius)


def ring(x: float, y: float, title: str, radius: float = MARK) -> Markup:
    """An open mark: what it is compared with."""
    return _circle("alone", x, y, title, radius)


def _circle(kind: str, x: float, y: float, title: str, radius: float) -> Markup:
    return svg.titled(title, svg.circle(kind, x, y, radius))
