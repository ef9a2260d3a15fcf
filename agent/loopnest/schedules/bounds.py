"""Bounds of loops that are tiled, reordered or fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from agent.errors import ScheduleError
from agent.loopnest.emitter.extent import extremes, implied, tightest
from agent.loopnest.program import Affine, Bound, Loop


def shifted(bound: Bound, shift: Affine) -> Bound:
    """The bound of a loop whose iterations move by ``shift``."""
    return Bound(bound.expr + shift * bound.divisor, bound.divisor)


def offset(one: Loop, two: Loop) -> int | None:
    """``d`` such that the iterations of ``two`` are those of ``one`` plus ``d``; None if not."""
    if one.step != two.step:
        return None
    difference = two.lower[0].expr - one.lower[0].expr
    if not difference.is_constant or difference.const % one.lower[0].divisor:
        return None
    shift = Affine.constant(difference.const // one.lower[0].divisor)
    lower = tuple(shifted(b, shift) for b in one.lower)
    upper = tuple(shifted(b, shift) for b in one.upper)
    return shift.const if (lower, upper) == (two.lower, two.upper) else None


def well_placed(order: Sequence[Loop]) -> bool:
    """Whether the bounds of every loop mention only loops outside of it."""
    later = {loop.iterator for loop in order}
    for loop in order:
        if any(b.expr.names & later for b in (*loop.lower, *loop.upper)):
            return False
        later.discard(loop.iterator)
    return True


def rescan(
    what: str, path: tuple[Loop, ...], band: tuple[Loop, ...], order: Sequence[str]
) -> tuple[tuple[Loop, ...], dict[str, Affine]]:
    """The loops of a band in a new order, with bounds that fit it.

    A loop with a step keeps it where one lower bound is left; else it counts its steps from then
    on, and what its iterator was is told, in terms of what it is now.

    Args:
        what: the step, for messages.
        path: the loops around the band.
        band: the loops as they nest now.
        order: their names as they are to nest.
    """
    from agent.loopnest.polyhedron import scan_bounds  # isl: only where bounds need it

    counted, values = _counted(what, band)
    by_name = {loop.iterator: loop for loop in counted}
    nest = tuple(by_name[name] for name in order)
    scanned = [
        loop.but(lower=lower, upper=upper)
        for loop, (lower, upper) in zip(nest, scan_bounds(path, nest), strict=True)
    ]
    steps = {loop.iterator: loop.step for loop in band}
    for at, loop in enumerate(scanned):
        if loop.iterator in values and len(loop.lower) == 1 and loop.lower[0].divisor == 1:
            start = values.pop(loop.iterator) - Affine.var(loop.iterator) * steps[loop.iterator]
            scanned[at:] = _stepping(scanned[at:], start, steps[loop.iterator])
    return tuple(scanned), values


def _counted(what: str, band: Sequence[Loop]) -> tuple[list[Loop], dict[str, Affine]]:
    """The loops of a band where those with a step count steps, and what their iterators were."""
    values: dict[str, Affine] = {}
    found = []
    names = {loop.iterator for loop in band}
    for loop in band:
        lower, upper = (
            tuple(Bound(b.expr.substitute(values), b.divisor) for b in bounds)
            for bounds in (loop.lower, loop.upper)
        )
        if loop.step > 1:
            start = _start(what, loop, lower, names)
            values[loop.iterator] = start + Affine.var(loop.iterator) * loop.step
            lower = (_quotient(Bound(lower[0].expr - start, loop.step)),)
            upper = tuple(
                _quotient(Bound(b.expr - start * b.divisor, b.divisor * loop.step)) for b in upper
            )
        found.append(loop.but(lower=lower, upper=upper, step=1))
    return found, values


def _start(what: str, loop: Loop, lower: tuple[Bound, ...], band: set[str]) -> Affine:
    """What is left of the first value of a loop where whole steps are taken away."""
    start = lower[0].expr
    whole = {n: c for n, c in start.terms if n in band and c % loop.step == 0}
    rest = Affine.of({n: c for n, c in start.terms if n not in whole}, start.const % loop.step)
    if len(lower) > 1 or lower[0].divisor > 1 or rest.names & band:
        raise ScheduleError(
            f"{what}: loop {loop.iterator} has step {loop.step} in a nest that is not rectangular",
            hint="Interchange loops before tiling them.",
        )
    return rest


def _stepping(nest: Sequence[Loop], start: Affine, step: int) -> list[Loop]:
    """``nest`` where its first loop counts steps, with the values themselves in place of them."""
    name = nest[0].iterator
    number = Affine.var(name) - start  # a multiple of the step

    def valued(bound: Bound) -> Bound:
        c = bound.expr.coefficient(name)
        if not c:
            return bound
        rest = bound.expr - Affine.var(name) * c
        return _quotient(Bound(rest * step + number * c, bound.divisor * step))

    first = nest[0].but(
        lower=tuple(Bound(start + b.expr * step) for b in nest[0].lower),
        upper=tuple(
            _quotient(Bound(start * b.divisor + b.expr * step, b.divisor)) for b in nest[0].upper
        ),
        step=step,
    )
    inner = (
        x.but(lower=tuple(map(valued, x.lower)), upper=tuple(map(valued, x.upper)))
        for x in nest[1:]
    )
    return [first, *inner]


def _quotient(bound: Bound) -> Bound:
    """The same bound with the smallest divisor."""
    shared = gcd(bound.divisor, bound.expr.const, *(c for _, c in bound.expr.terms))
    terms = {n: c // shared for n, c in bound.expr.terms}
    return Bound(Affine.of(terms, bound.expr.const // shared), bound.divisor // shared)


def tile_loop(
    what: str, loop: Loop, size: int, name: str, inside: Sequence[Loop], *, alone: bool = True
) -> tuple[Loop, Loop]:
    """The loop over the tiles of ``loop`` and the loop inside a tile.

    ``inside`` are the loops inside the tiles of the outer loops of the band; ``alone``: the tiles
    are those of no other loop, so that they begin and end where this one does.
    """
    span = size * loop.step
    varying = {x.iterator for x in inside}
    depends = any(b.expr.names & varying for b in (*loop.lower, *loop.upper))
    if depends and loop.step > 1:
        raise ScheduleError(
            f"{what}: loop {loop.iterator} has step {loop.step} and bounds that depend on "
            f"{', '.join(sorted(varying))}"
        )
    lower, upper = loop.lower, loop.upper
    for outer in reversed(inside):
        lower = extremes(lower, outer, smallest=True)
        upper = extremes(upper, outer, smallest=False)
    start = Bound(Affine.var(name))
    end = Bound(Affine.var(name) + (span - 1))
    tiles = loop.but(iterator=name, lower=lower, upper=upper, step=span, body=())
    varied = tuple(b for b in loop.lower if not alone or b.expr.names & varying)
    last = tuple(b for b in loop.upper if not alone or depends or not _divides(span, loop.lower, b))
    points = loop.but(
        lower=(start, *varied),
        upper=(end, *last),
        body=(),
    )
    return tiles, points


def united(what: str, tiles: Sequence[Loop], around: Sequence[Loop]) -> Loop:
    """One loop over the tiles of several loops, each of which it covers.

    Its bounds are those of any of them that are, wherever it is reached, outside of one of each.
    """
    if len(tiles) == 1:
        return tiles[0]
    lower, upper = (
        _outer([loop.lower if low else loop.upper for loop in tiles], around, lower=low)
        for low in (True, False)
    )
    if not (lower and upper and len({loop.step for loop in tiles}) == 1):
        texts = list(dict.fromkeys(map(range_text, tiles)))
        raise ScheduleError(
            f"{what}: no range surely holds both {texts[0]} and {texts[1]}",
            hint="Loops that are tiled together have to move alike: skew them by the same.",
        )
    return tiles[0].but(lower=lower, upper=upper)


@dataclass(frozen=True)
class Diamonds:
    """Tiles of a loop of time and a loop of a sweep inside it, both with step 1.

    With ``begin`` and ``end`` of the sweep, diamond ``p`` of wave ``w`` is where ::

        size * p       <= slope * time + i + begin < size * (p + 1)
        size * (w - p) <= slope * time - i + end   < size * (w - p + 1)

    Attributes:
        time: the name of the loop of time.
        waves: that of the loop over waves.
        columns: that of the loop over the diamonds of one.
    """

    time: str
    waves: str
    columns: str
    slope: int
    size: int

    def over_waves(self, time: Loop, begin: int, end: int) -> Loop:
        """The loop over waves: the sum of both conditions, where time begins and ends."""
        reach, both = 2 * self.slope, begin + end

        def wave(bound: Bound, back: int) -> Bound:
            numerator = bound.expr * reach + bound.divisor * (both - back)
            return Bound(numerator, bound.divisor * self.size)

        lower = [wave(bound, 2 * self.size - 2) for bound in time.lower]
        upper = [wave(bound, 0) for bound in time.upper]
        return _ranging(time, self.waves, lower, upper)

    def over_columns(self, sweep: Loop, begin: int, end: int) -> Loop:
        """The loop over the diamonds of a wave: their difference, where a sweep begins and ends."""
        middle = Affine.var(self.waves) * self.size + (begin - end)

        def column(bound: Bound, beyond: int) -> Bound:
            numerator = bound.expr * 2 + (middle + beyond) * bound.divisor
            return Bound(numerator, bound.divisor * 2 * self.size)

        lower = [column(bound, 1 - self.size) for bound in sweep.lower]
        upper = [column(bound, self.size - 1) for bound in sweep.upper]
        return _ranging(sweep, self.columns, lower, upper)

    def instants(self, time: Loop, late: Sequence[tuple[int, int]], around: Sequence[Loop]) -> Loop:
        """The loop of time in a diamond of sweeps that are ``late``, inside loops ``around``."""
        wave, both = Affine.var(self.waves) * self.size, [sum(ends) for ends in late]
        first = Bound(wave - max(both), 2 * self.slope)
        last = Bound(wave + (2 * self.size - 2 - min(both)), 2 * self.slope)
        lower = tightest((*time.lower, first), around, lower=True)
        upper = tightest((*time.upper, last), around, lower=False)
        return time.but(lower=lower, upper=upper, body=())

    def points(self, sweep: Loop, begin: int, end: int) -> Loop:
        """The loop of a sweep in a diamond."""
        time, wave = Affine.var(self.time) * self.slope, Affine.var(self.waves) * self.size
        column, last = Affine.var(self.columns) * self.size, self.size - 1
        rising, falling = column - time - begin, column - wave + time + end
        lower = (*sweep.lower, Bound(rising), Bound(falling - last))
        upper = (*sweep.upper, Bound(rising + last), Bound(falling))
        return sweep.but(lower=lower, upper=upper, body=())


def _ranging(loop: Loop, name: str, lower: Sequence[Bound], upper: Sequence[Bound]) -> Loop:
    """``loop`` under another name, between other bounds, which are reduced; without its body."""
    low, high = tightest(lower, (), lower=True), tightest(upper, (), lower=False)
    return loop.but(iterator=name, lower=low, upper=high, body=())


def _outer(
    several: Sequence[tuple[Bound, ...]], around: Sequence[Loop], *, lower: bool
) -> tuple[Bound, ...]:
    """Of the bounds of several loops those that none of them surely goes beyond."""
    every = dict.fromkeys(b for bounds in several for b in bounds)
    far = [
        bound
        for bound in every
        if all(any(implied(bound, b, around, lower=lower) for b in own) for own in several)
    ]
    return tightest(far, around, lower=lower)


def _divides(span: int, lower: tuple[Bound, ...], upper: Bound) -> bool:
    """Whether whole tiles reach exactly to ``upper``, so that it cuts none."""
    if len(lower) > 1 or lower[0].divisor != 1 or upper.divisor != 1:
        return False
    trip = upper.expr - lower[0].expr + 1
    return trip.is_constant and trip.const % span == 0


def range_text(loop: Loop) -> str:
    """The range of a loop for a message, such as ``0..i + 3 step 2``."""

    def text(bound: Bound) -> str:
        return f"{bound.expr}" if bound.divisor == 1 else f"({bound.expr})/{bound.divisor}"

    low = ", ".join(map(text, loop.lower))
    high = ", ".join(map(text, loop.upper))
    step = f" step {loop.step}" if loop.step > 1 else ""
    return f"{low}..{high}{step}"
