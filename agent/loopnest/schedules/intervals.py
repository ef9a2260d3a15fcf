"""How far apart the two ends of a dependence may run in the loops of now, by intervals.

In each loop that both ends share, and in each iterator as written, the target is a number of
iterations ahead of the source. Loops that run over iterators as written, and loops over tiles, tie
these numbers together: sums of them lie between two ends. To narrow every number by what the
others leave of such a sum (bounds propagation) often shows that no instances of a dependence are
apart as a question has them, in a hundredth of the time that isl takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import gcd

from agent.loopnest.program import Affine, Loop
from agent.loopnest.schedules.positions import Position, Spread

ROUNDS = 6  # of narrowing; most numbers are as narrow as they get after two
FAR = 2**80  # no two iterations are so far apart
Ends = tuple[int, int]
# An iterator as written; the position of a loop of now that both ends share; or those of two loops
# inside, of which one is around the source and the other around the target.
_Number = str | int | tuple[int, int]


@dataclass(frozen=True)
class _Sum:
    """``low <= sum(coefficient * number) <= high``."""

    terms: tuple[tuple[_Number, int], ...]
    low: int
    high: int


def never(
    distance: Mapping[str, Ends],
    source: Position,
    target: Position,
    shared: int,
    ahead: Mapping[int, Ends],
    spread: Spread,
) -> bool:
    """Whether surely no target is so far ahead of its source; False: it takes more to tell.

    Args:
        distance: for each loop shared as written, least and greatest ``target - source``.
        source: where the source runs.
        target: where the target runs.
        shared: how many loops of now they share.
        ahead: for some of these loops, by position, least and greatest ``target - source``.
        spread: see ``advance``; asked for loops that they do not share.
    """
    same = {source.around[n].iterator for n, ends in ahead.items() if ends == (0, 0)}
    steps = _multiples(source.around[:shared], same)
    numbers: dict[_Number, Ends] = {}
    numbers.update(distance.items())
    numbers.update(ahead.items())
    sums = list(_over_iterators(distance, source, target, shared))
    sums += _over_tiles(source, target, shared)
    for name in {name for one in sums for name, _ in one.terms if isinstance(name, tuple)}:
        form, other = source.written[name[0]], target.written[name[1]]
        if form is not None and other is not None:
            numbers[name] = spread(form, other)
    for _ in range(ROUNDS):
        before = dict(numbers)
        if not all(_narrow(numbers, one, steps) for one in sums):
            return True
        if numbers == before:
            break
    return False


def _multiples(around: Sequence[Loop], same: AbstractSet[str]) -> dict[_Number, int]:
    """What the distance in each loop is a multiple of; it is 0 in the loops ``same``."""
    found: dict[str, int] = dict.fromkeys(same, 0)
    for loop in around:
        if loop.iterator in same:
            continue
        starts = [b for b in loop.lower if not b.expr.names <= same]
        if not starts:
            found[loop.iterator] = loop.step
        elif len(loop.lower) == 1 and starts[0].divisor == 1:
            moves = (c * found[name] for name, c in starts[0].expr.terms)
            found[loop.iterator] = gcd(loop.step, *moves)
        else:
            found[loop.iterator] = 1
    return {n: max(found[loop.iterator], 1) for n, loop in enumerate(around)}


def _over_iterators(
    distance: Mapping[str, Ends], source: Position, target: Position, shared: int
) -> Iterator[_Sum]:
    """What loops of now are, as functions of the iterators as written."""
    for n, form in enumerate(source.written):
        others = [n] if n < shared else range(shared, len(target.around))
        for m in others:
            other = target.written[m]
            if form is None or other is None or form.terms != other.terms:
                continue
            if all(name in distance for name, _ in form.terms):
                ahead = other.const - form.const
                number: _Number = n if n < shared else (n, m)
                yield _Sum(((number, -1), *form.terms), -ahead, -ahead)


def _over_tiles(source: Position, target: Position, shared: int) -> Iterator[_Sum]:
    """Loops of which others run through tiles: ``0 <= point - (c * tile + rest) < c * step``."""
    places = {loop.iterator: n for n, loop in enumerate(source.around[:shared])}
    for n, tiles in enumerate(source.around[:shared]):
        for p in range(n + 1, len(source.around)):
            for start in _starts(source, p, n):
                most = start.coefficient(tiles.iterator) * tiles.step - 1
                for q in [p] if p < shared else range(shared, len(target.around)):
                    for other in _starts(target, q, n):
                        if start.terms == other.terms and start.names <= places.keys():
                            number: _Number = p if p < shared else (p, q)
                            terms = tuple((places[name], c) for name, c in start.terms)
                            later = other.const - start.const
                            yield _Sum((*terms, (number, -1)), -most - later, most - later)


def _starts(position: Position, points: int, tiles: int) -> list[Affine]:
    """Where the tile begins that the loop ``points`` runs through, for each tile of ``tiles``."""
    over = position.around[tiles]
    found = []
    for bound in position.around[points].upper:
        c = bound.expr.coefficient(over.iterator)
        if c > 0 and bound.divisor == 1:
            start = bound.expr - (c * over.step - 1)
            if _keeps_above(position.around, points, start):
                found.append(start)
    return found


def _keeps_above(around: Sequence[Loop], level: int, start: Affine) -> bool:
    """Whether a loop begins at ``start`` or above: by a bound of its own, or of one around it."""
    for bound in around[level].lower:
        if bound.divisor == 1:
            if bound.expr == start:
                return True
            for n in range(level):
                if bound.expr == Affine.var(around[n].iterator):
                    return _keeps_above(around, n, start)
    return False


def _narrow(numbers: dict[_Number, Ends], one: _Sum, steps: Mapping[_Number, int]) -> bool:
    """Narrow each number by what the others leave of a sum; whether something is left of all.

    ``steps``: what numbers are multiples of.
    """
    parts = [_times(numbers.get(name, (-FAR, FAR)), c) for name, c in one.terms]
    least, most = sum(low for low, _ in parts), sum(high for _, high in parts)
    for (name, c), (low, high) in zip(one.terms, parts, strict=True):
        room = one.low - (most - high), one.high - (least - low)
        if room[0] > low or room[1] < high:
            step = steps.get(name, 1)
            first, last = _times(room, 1 if c > 0 else -1)
            known = numbers.get(name, (-FAR, FAR))
            first = max(known[0], -(-first // (abs(c) * step)) * step)
            last = min(known[1], last // (abs(c) * step) * step)
            if first > last:
                return False
            numbers[name] = first, last
    return True


def _times(ends: Ends, factor: int) -> Ends:
    low, high = ends[0] * factor, ends[1] * factor
    return (low, high) if factor > 0 else (high, low)
