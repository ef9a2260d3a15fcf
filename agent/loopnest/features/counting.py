"""How often loops run: trip counts and instance counts of a nest, without enumerating it.

A nest whose bounds are numbers is a product. A tiled nest is counted with its tile loops taken
out again: tiling reorders the iterations and makes none, so the bounds that name a tile iterator
say nothing about the number of points. What is left (triangles, skewed nests) is counted by a
stratified sum over those iterators that occur in other loops' bounds only: exact up to
``MAX_POINTS`` of their values, and to about 1e-3 beyond. Diamonds are taken out as tiles are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from math import prod

import numpy as np

from agent.arrays import Doubles, Ints
from agent.loopnest.emitter import extent
from agent.loopnest.program import Affine, Bound, Loop

MAX_POINTS = 16_384
_REMEMBERED = 4_096  # counts: schedules of a program have most of their nests in common
_STRATA = 64  # iterations looked at for the imbalance of a loop


@dataclass(slots=True)
class CountedLoop:
    """One loop of a nest, with what is known of it from the loops around it.

    Attributes:
        depth: number of loops around it.
        number: identity within its program.
        trip: average number of iterations each time it is entered.
        count: number of iterations it makes in one run of the program.
        moves: how far the iterator moves for one step of loop ``depth``, as (depth, distance).
            A tile loop moves the loop inside the tile; a loop skews its skewed loop along.
        tile: the loop over tiles of which this loop runs through one tile.
        diamond: the loop of time and those over waves and diamonds, where it runs through one.
        plain: whether the iterator's range is made of numbers once tiles are taken out.
        low, high: that range.
        imbalance: most work of one iteration over the mean (1: even), as far as seen.
    """

    loop: Loop
    depth: int
    number: int
    trip: float = 1.0
    count: float = 1.0
    moves: tuple[tuple[int, int], ...] = ()
    tile: CountedLoop | None = None
    diamond: _Diamond | None = None
    plain: bool = False
    low: int = 0
    high: int = -1
    imbalance: float = 1.0

    @property
    def total(self) -> int:
        """Iterations over the whole numeric range."""
        return max((self.high - self.low) // self.loop.step + 1, 0)


def enter(loop: Loop, around: tuple[CountedLoop, ...], number: int) -> CountedLoop:
    """``loop`` measured inside the loops ``around`` it (outermost first)."""
    level = CountedLoop(loop, len(around), number)
    window = _window(loop, around)
    level.diamond = diamond = _diamond_of(loop, around)
    if diamond is not None:
        window = diamond.width, diamond.middle, diamond.middle
    _set_moves(level, window, around)
    level.tile = _tile_of(loop, window, around)
    _set_range(level)
    outer_count = around[-1].count if around else 1.0
    tile = level.tile
    if level.plain and tile is None:
        level.trip = float(level.total)
        level.count = outer_count * level.trip
    elif level.plain and tile is not None and all(a.plain for a in around[tile.depth :]):
        level.trip = level.total / max(tile.total, 1)
        level.count = outer_count * level.trip
        full = min(tile.loop.step // loop.step, level.total)
        tile.imbalance = max(full / level.trip if level.trip else 1.0, 1.0)
    else:
        level.count = count([*around, level])
        level.trip = level.count / outer_count if outer_count else 0.0
    return level


def _window(loop: Loop, around: tuple[CountedLoop, ...]) -> tuple[int, Affine, Affine] | None:
    """Width and both ends of the narrowest range that moves with outer loops, if any is strict."""
    best: tuple[int, Affine, Affine] | None = None
    low = [b.expr.const for b in loop.lower if b.divisor == 1 and not b.expr.terms]
    high = [b.expr.const for b in loop.upper if b.divisor == 1 and not b.expr.terms]
    fixed = min(high) - max(low) + 1 if low and high else None
    for lower in loop.lower:
        if lower.divisor != 1 or not lower.expr.terms:
            continue
        for upper in loop.upper:
            if upper.divisor == 1 and upper.expr.terms == lower.expr.terms:
                width = upper.expr.const - lower.expr.const + 1
                if best is None or width < best[0]:
                    best = (width, lower.expr, upper.expr)
    if best is None or fixed is None or best[0] < fixed:
        return best
    # As wide as the whole range: it moves with a tile loop, not with a skewed one.
    tiles = {a.loop.iterator for a in around if a.loop.step > 1}
    return best if any(name in tiles for name, _ in best[1].terms) else None


@dataclass(frozen=True, slots=True)
class _Diamond:
    """A tile that leans on both sides, of which a loop runs through the part of one time.

    Attributes:
        time: the name of the loop around with which its sides lean.
        waves, columns: those of the loops over waves of diamonds, and over those of one.
        width: iterations from one diamond to the next.
        middle: what the loop's middle moves with.
    """

    time: str
    waves: str
    columns: str
    width: int
    middle: Affine


def _diamond_of(loop: Loop, around: tuple[CountedLoop, ...]) -> _Diamond | None:
    """The diamond of which ``loop`` runs through a part; see ``Diamonds`` of the schedules."""
    if len(loop.lower) == 1 or len(loop.upper) == 1:
        return None
    sides = [
        (low.expr, high.expr.const - low.expr.const + 1)
        for low in loop.lower
        for high in loop.upper
        if len(low.expr.terms) > 1 and low.expr.terms == high.expr.terms
        if low.divisor == high.divisor == 1
    ]
    counters = {a.loop.iterator for a in around if a.loop.step == 1}
    for (one, width), (two, other) in itertools.permutations(sides, 2):
        both = dict((one + two).terms)  # time is not in it
        time = one.names - both.keys()
        turned = {-width, 2 * width} == {*both.values()} and both.keys() <= counters
        if width == other and turned and len(both) == 2 and len(time) == 1:
            columns, waves = sorted(both, key=lambda name: -both[name])
            middle = Affine.of({columns: width, waves: -(width // 2)}, 0)
            return _Diamond(next(iter(time)), waves, columns, width, middle)
    return None


def _set_moves(
    level: CountedLoop, window: tuple[int, Affine, Affine] | None, around: tuple[CountedLoop, ...]
) -> None:
    moves = {level.depth: level.loop.step}
    if window is not None:
        by_name = {a.loop.iterator: a for a in around}
        for name, c in window[1].terms:
            if name in by_name:
                for depth, distance in by_name[name].moves:
                    moves[depth] = moves.get(depth, 0) + c * distance
    level.moves = tuple((d, m) for d, m in moves.items() if m)


def _tile_of(
    loop: Loop, window: tuple[int, Affine, Affine] | None, around: tuple[CountedLoop, ...]
) -> CountedLoop | None:
    if window is None:
        return None
    terms = dict(window[1].terms)
    for outer in reversed(around):
        step = outer.loop.step
        whole = step % loop.step == 0  # else the last step of one tile reaches into the next
        fits = step - loop.step < window[0] <= step > 1
        if whole and fits and terms.get(outer.loop.iterator) == 1:
            return outer
    return None


def _set_range(level: CountedLoop) -> None:
    """``low`` and ``high``: the numeric range once the tile loop's bounds are put aside."""
    tile = level.tile
    name = tile.loop.iterator if tile else None
    low = _numeric(level.loop.lower, name, least=False)
    high = _numeric(level.loop.upper, name, least=True)
    if tile and tile.plain:
        if low == ():
            low = tile.low
        if high == ():
            high = tile.low + tile.total * tile.loop.step - 1
    if isinstance(low, int) and isinstance(high, int):
        level.low, level.high, level.plain = low, high, True


def _numeric(bounds: tuple[Bound, ...], tile: str | None, least: bool) -> int | tuple[()] | None:
    """The bound as a number; () where only the tile bounds it, None where other loops do."""
    out: int | None = None
    for bound in bounds:
        terms = bound.expr.terms
        if terms:
            if len(terms) == 1 and terms[0][0] == tile:
                continue
            return None
        c, d = bound.expr.const, bound.divisor
        value = c // d if least else -(-c // d)
        out = value if out is None else min(out, value) if least else max(out, value)
    return () if out is None else out


@dataclass(slots=True)
class _Points:
    """Sample points of the iterators that matter: values, how much each stands for, its group."""

    weight: Doubles
    group: Ints
    values: dict[str, Ints] = field(default_factory=dict)


def count(levels: Sequence[CountedLoop]) -> float:
    """Number of iterations of the innermost of ``levels``."""
    nest = _without_skews(_without_tiles(levels, keep=None))
    if all(r.plain for r in nest):
        return float(prod(r.trips for r in nest))
    return _iterations(tuple(nest))


@lru_cache(_REMEMBERED)
def _iterations(nest: tuple[_Range, ...]) -> float:
    return float(_sum(nest, _Points(np.ones(1), np.zeros(1, np.int64))).weight.sum())


def imbalance(levels: Sequence[CountedLoop], at: int) -> float:
    """Most over mean work of the iterations of ``levels[at]``, the loops around it halfway."""
    inner = levels[at + 1 :]
    name = levels[at].loop.iterator
    if all(lv.plain for lv in inner) or not any(
        name in b.expr.names for lv in inner for b in (*lv.loop.lower, *lv.loop.upper)
    ):
        return levels[at].imbalance
    outer = tuple(_range_of(lv.loop) for lv in levels[: at + 1])
    kept = {r.name for r in outer}
    nest = tuple(x for x in _without_tiles(levels, keep=name) if x.name not in kept)
    return _most_over_mean(outer, nest)


@lru_cache(_REMEMBERED)
def _most_over_mean(outer: tuple[_Range, ...], nest: tuple[_Range, ...]) -> float:
    """Of the iterations of ``nest`` in each iteration of the last of the loops ``outer``."""
    middle: dict[str, Ints] = {}
    for around in outer[:-1]:
        low, high = _limits(around.lower, around.upper, middle)
        middle[around.name] = np.asarray((low + high) // 2).reshape(1)
    loop = outer[-1]
    ends = _limits(loop.lower, loop.upper, middle)
    first, last = int(np.max(ends[0])), int(np.max(ends[1]))
    trips = (last - first) // loop.step + 1
    if trips < 2:
        return 1.0
    chosen = np.linspace(0, trips - 1, min(trips, _STRATA)).round().astype(np.int64)
    chosen = chosen[np.diff(chosen, prepend=-1) > 0]
    size = len(chosen)
    values = {n: np.broadcast_to(v, size) for n, v in middle.items()}
    values[loop.name] = first + chosen * loop.step
    done = _sum(nest, _Points(np.ones(size), np.arange(size), values))
    work = np.bincount(done.group, done.weight, size)
    return float(max(work.max() / work.mean(), 1.0)) if work.any() else 1.0


@dataclass(frozen=True, slots=True)
class _Range:
    name: str
    lower: tuple[Bound, ...]
    upper: tuple[Bound, ...]
    step: int

    @property
    def plain(self) -> bool:
        return all(not b.expr.terms for b in (*self.lower, *self.upper))

    @property
    def trips(self) -> int:
        low = max(-(-b.expr.const // b.divisor) for b in self.lower)
        high = min(b.expr.const // b.divisor for b in self.upper)
        return max((high - low) // self.step + 1, 0)


def _range_of(loop: Loop) -> _Range:
    return _Range(loop.iterator, loop.lower, loop.upper, loop.step)


def _without_skews(nest: Sequence[_Range]) -> list[_Range]:
    """The nest with every loop between two ends that move alike counted from its lower end."""
    ends: dict[str, Affine] = {}
    out = []
    for r in nest:
        lower = tuple(Bound(b.expr.substitute(ends), b.divisor) for b in r.lower)
        upper = tuple(Bound(b.expr.substitute(ends), b.divisor) for b in r.upper)
        first, last = lower[0], upper[0]
        if len(lower) == len(upper) == 1 and first.divisor == last.divisor == 1:
            terms = first.expr.terms
            if terms and terms == last.expr.terms:
                ends[r.name] = Affine.var(r.name) + Affine(terms)
                lower = (Bound(Affine.constant(first.expr.const)),)
                upper = (Bound(Affine.constant(last.expr.const)),)
        out.append(_Range(r.name, lower, upper, r.step))
    return out


def _without_tiles(levels: Sequence[CountedLoop], keep: str | None) -> list[_Range]:
    """The nest without the tile loops whose tiles are run through inside it."""
    gone = {lv.tile.loop.iterator for lv in levels if lv.tile is not None} - {keep}
    diamonds = [d for lv in levels if (d := lv.diamond) and keep not in (d.waves, d.columns)]
    leaning = {name for d in diamonds for name in (d.waves, d.columns)}
    over = [x.loop for x in levels if x.loop.iterator in leaning]
    if any(not b.expr.names <= gone | leaning for x in over for b in (*x.lower, *x.upper)):
        leaning = set()  # of other loops' ranges, such as tiles of them, more is to be counted
    sides = {d.time for d in diamonds} | {lv.loop.iterator for lv in levels if lv.diamond}
    gone |= leaning
    nest = []
    for level in (x for x in levels if x.loop.iterator not in gone):
        loop, found = level.loop, _range_of(level.loop)
        if any(gone & b.expr.names for b in (*loop.lower, *loop.upper)):
            if leaning and loop.iterator in sides:
                lower, upper = _besides(loop.lower, leaning), _besides(loop.upper, leaning)
            else:
                around = [x.loop for x in levels[: level.depth]]
                lower, upper = _first_values(level, gone, around), _last_values(level, gone)
            left = frozenset[str]().union(*(b.expr.names for b in (*lower, *upper)))
            if not lower or not upper or gone & left:
                # Which tile it is matters: count the nest as it stands.
                return [_range_of(x.loop) for x in levels]
            found = _Range(loop.iterator, lower, upper, loop.step)
        nest.append(found)
    return nest


def _besides(bounds: tuple[Bound, ...], names: AbstractSet[str]) -> tuple[Bound, ...]:
    """The bounds that mention none of ``names``."""
    return tuple(b for b in bounds if not names & b.expr.names)


def _first_values(
    level: CountedLoop, gone: AbstractSet[str], around: Sequence[Loop]
) -> tuple[Bound, ...]:
    """Where a loop begins that runs through all its tiles; () where it takes more to tell."""
    bounds, tile = level.loop.lower, level.tile
    if tile is None or tile.loop.iterator not in gone:  # in which tile of another one counts
        return ()
    while tile is not None and tile.loop.iterator in gone:
        bounds = _at_ends(bounds, tile.loop.iterator, tile.loop.lower)
        tile = tile.tile
    bounds = extent.tightest(bounds, around, lower=True)
    return () if any(gone & b.expr.names for b in bounds) else bounds


def _last_values(level: CountedLoop, gone: AbstractSet[str]) -> tuple[Bound, ...]:
    """Where it ends: tiles reach at least as far as bounds of its own do."""
    bounds, tile = level.loop.upper, level.tile
    own = _besides(bounds, gone)
    if own or tile is None:
        return own
    bounds = _at_ends(bounds, tile.loop.iterator, _last_tile(tile.loop))
    return () if any(gone & b.expr.names for b in bounds) else bounds


def _last_tile(tiles: Loop) -> tuple[Bound, ...]:
    """Where the last tile begins, if tiles reach exactly to the end."""
    if len(tiles.lower) > 1 or len(tiles.upper) > 1:
        return ()
    low, high = tiles.lower[0], tiles.upper[0]
    trip = high.expr - low.expr + 1
    whole = trip.is_constant and trip.const % tiles.step == 0
    exact = whole and low.divisor == high.divisor == 1
    return (Bound(high.expr - (tiles.step - 1)),) if exact else ()


def _at_ends(bounds: tuple[Bound, ...], name: str, ends: tuple[Bound, ...]) -> tuple[Bound, ...]:
    """``bounds`` where the loop ``name`` is at its ``ends``; () where it takes more to tell."""
    found: dict[Bound, None] = {}
    for bound in bounds:
        factor = bound.expr.coefficient(name)
        if factor and (factor != 1 or bound.divisor != 1 or not ends):
            return ()
        rest = bound.expr - Affine.var(name)
        at = [Bound(end.expr + rest * end.divisor, end.divisor) for end in ends]
        found.update(dict.fromkeys(at if factor else [bound]))
    return tuple(found)


def _sum(nest: Sequence[_Range], points: _Points) -> _Points:
    """``points`` spread over ``nest``, each weighted by the iterations it stands for."""
    later: list[frozenset[str]] = [frozenset()]  # what the bounds of the loops after each mention
    for range_ in reversed(nest):
        bounds = (*range_.lower, *range_.upper)
        later.insert(0, later[0].union(*(b.expr.names for b in bounds)))
    needed = [r.name in names for r, names in zip(nest, later[1:], strict=True)]
    strata = max(int((MAX_POINTS / len(points.weight)) ** (1 / max(sum(needed), 1))), 2)
    for range_, spread, names in zip(nest, needed, later[1:], strict=True):
        low, high = _limits(range_.lower, range_.upper, points.values)
        steps = high - low if range_.step == 1 else (high - low) // range_.step
        trips = np.broadcast_to(np.maximum(steps + 1, 0), len(points.weight))
        if spread:
            points = _spread(points, range_, np.asarray(low), trips, strata, names)
        else:
            points = _Points(points.weight * trips, points.group, points.values)
    return points


def _spread(
    points: _Points, range_: _Range, low: Ints, trips: Ints, strata: int, later: frozenset[str]
) -> _Points:
    """``points`` for each iteration of a loop, or for ``strata`` of them; values ``later`` used."""
    low = np.broadcast_to(low, len(trips))
    total = int(trips.sum())
    weight = points.weight
    if total <= MAX_POINTS:
        times: Ints | int = trips
        index = np.arange(total) - np.repeat(np.cumsum(trips) - trips, trips)
    else:
        times = strata
        middle = (np.arange(strata) + 0.5) / strata
        index = (middle * trips[:, None]).astype(np.int64).reshape(-1)
        weight = weight * trips / strata
    values = {n: np.repeat(v, times) for n, v in points.values.items() if n in later}
    values[range_.name] = np.repeat(low, times) + index * range_.step
    return _Points(np.repeat(weight, times), np.repeat(points.group, times), values)


def _limits(
    lower: tuple[Bound, ...], upper: tuple[Bound, ...], values: dict[str, Ints]
) -> tuple[Ints, Ints]:
    lows = [-_quotient(-_value(b.expr, values), b.divisor) for b in lower]
    highs = [_quotient(_value(b.expr, values), b.divisor) for b in upper]
    return reduce(np.maximum, lows), reduce(np.minimum, highs)


def _quotient(value: Ints, divisor: int) -> Ints:
    return value if divisor == 1 else value // divisor  # numpy divides slowly


def _value(expr: Affine, values: dict[str, Ints]) -> Ints:
    out: Ints = np.asarray(expr.const, np.int64)
    for name, c in expr.terms:
        out = out + (values[name] if c == 1 else c * values[name])
    return out
