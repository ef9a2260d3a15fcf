"""Tiles in time of sweeps that follow each other in one iteration of a loop.

All sweeps are tiled together. Each is shifted as far as what it needs of those before it in the
same iteration asks for; then all are skewed alike (``time_tiles``):

    for t                                for w: parallel for t_t
      for i: b[i] = f(a[i-1..i+1])   ->      for t in tile
      for j: a[j] = f(b[j-1..j+1])             for i in tile: b[i] = f(a[i-1..i+1])
                                               for j in tile - 1: a[j] = f(b[j-1..j+1])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.loopnest.program import Affine, Loop, statements
from agent.loopnest.schedules.schedule import Shift, Skew, Step, Tile, Wrap
from agent.loopnest.schedules.time_tiles import (
    MOST_FACTOR,
    all_or_none,
    is_inside,
    share_diagonals,
)
from agent.loopnest.schedules.tree import find_loop, is_longer, perfect_band

if TYPE_CHECKING:
    from agent.loopnest.schedules.candidates import LegalDraft
    from agent.loopnest.schedules.dependence import Dependences

# Tiles of time, of the outermost loops of the sweeps, and of those inside them; others stay whole.
SWEEP_SIZES = (
    (16, 32, 128),
    (32, 64),
    (8, 16, 64),
    (32, 256),
    (8, 16, 16),
    (8, 32),
    (16, 64, 256),
    (4, 8, 8),
    (128, 512),
    (4, 16),
)

Levels = tuple[tuple[str | None, ...], ...]  # for each sweep its loops; None for one that it lacks


def sweep_tiles(draft: LegalDraft, sizes: tuple[int, ...], *, waves: bool) -> None:
    """Tile all sweeps inside a loop together with it; a draft of the program as written.

    Loops that are no longer than a tile are left alone.

    Args:
        draft: the steps are added to it.
        sizes: of the tiles of the loop, of the outermost loops of the sweeps, and so on, as far as
            they are to be tiled.
        waves: share out the tiles of a diagonal.
    """
    for loop in draft.loops():
        nests = sweeps_of(loop)
        if len(nests) > 1 and is_longer(loop, sizes[0]):
            depth = min(len(sizes) - 1, max(map(len, nests)))
            fits = all(
                is_longer(x, size)
                for nest in nests
                for x, size in zip(nest, sizes[1:], strict=False)
            )
            ways = beside(nests, depth) if fits else ()
            found = (sweep_moves(draft.dependences, loop, nests, *way) for way in ways)
            if (moves := next((way for way in found if way is not None), None)) is not None:
                _tile_sweeps(draft, loop, moves, sizes, waves=waves)


def sweeps_of(loop: Loop) -> list[tuple[Loop, ...]]:
    """The perfectly nested loops of each of the sweeps inside ``loop``; none if it has others."""
    nests = [perfect_band(node) for node in loop.body if isinstance(node, Loop)]
    return nests if len(nests) == len(loop.body) else []


def beside(nests: Sequence[tuple[Loop, ...]], depth: int) -> list[tuple[Levels, int]]:
    """Which loops of several nests may be tiled together, and how many of each.

    Where some have fewer loops, these lack outer ones, or else what they have are outer ones.
    """
    names = tuple(tuple(loop.iterator for loop in nest) for nest in nests)
    shortest, most = min(map(len, names)), max(map(len, names))
    outer = names, min(depth, shortest)
    inner = tuple((*[None] * (most - len(nest)), *nest) for nest in names), depth
    return [inner, outer] if shortest < most else [outer]


@dataclass(frozen=True)
class SweepMoves:
    """How sweeps inside a loop move so that tiles of all of them can run one after the other.

    Attributes:
        loops: for each sweep its loops, outermost first; None for one that it lacks.
        shifts: how far each of them is shifted, first.
        skews: how far all loops of a level are skewed by the loop around, then.
    """

    loops: Levels
    shifts: tuple[tuple[int, ...], ...]
    skews: tuple[int, ...]


def sweep_moves(
    dependences: Dependences,
    time: Loop,
    nests: Sequence[tuple[Loop, ...]],
    loops: Levels,
    depth: int,
    sign: int = 1,
) -> SweepMoves | None:
    """How far to shift and skew ``depth`` of the ``loops`` of each of the sweeps inside ``time``.

    None where ``time`` carries no dependence, or no few iterations do. ``sign``: -1 where the loops
    run backwards.
    """
    sweep = {s.name: n for n, nest in enumerate(nests) for _, s in statements(nest[:1])}
    items = [
        item
        for item in dependences.items
        if item.source in sweep and item.target in sweep and is_inside(item, time.iterator)
    ]
    if not any(item.distance[time.iterator][0] > 0 for item in items):
        return None
    levels = []
    for level in range(depth):
        names = [nest[level] for nest in loops]
        forms = [Affine() if name is None else Affine.var(name) * sign for name in names]
        edges = [
            (
                sweep[item.source],
                sweep[item.target],
                item.distance[time.iterator][0],
                dependences.spread(item, forms[sweep[item.source]], forms[sweep[item.target]])[0],
            )
            for item in items
        ]
        if (found := _moves(len(nests), edges)) is None:
            return None
        levels.append(found)
    shifts = tuple(zip(*(shift for shift, _ in levels), strict=True))
    return SweepMoves(loops, shifts, tuple(skew for _, skew in levels))


Edge = tuple[int, int, int, int]  # source, target, how far ahead it is at least in time and space


def _moves(count: int, edges: Sequence[Edge]) -> tuple[tuple[int, ...], int] | None:
    """Shifts of ``count`` sweeps and the factor of a skew by which no edge goes backwards."""
    shifts = [0] * count
    for target in range(count):
        needed = [
            shifts[a] - ahead for a, b, time, ahead in edges if b == target and a < b and not time
        ]
        shifts[target] = max([0, *needed])
    factor = 0
    for a, b, time, ahead in edges:
        behind = shifts[a] - shifts[b] - ahead
        if behind > 0 and not time:
            return None
        factor = max(factor, -(-behind // max(time, 1)))
    return None if max(factor, *shifts) > MOST_FACTOR else (tuple(shifts), factor)


def _tile_sweeps(
    draft: LegalDraft, time: Loop, moves: SweepMoves, sizes: tuple[int, ...], *, waves: bool
) -> None:
    before = draft.program, [*draft.steps]
    names = [wrapped(draft, nest)[: len(moves.skews)] for nest in moves.loops]
    steps: list[Step] = []
    for nest, shifts in zip(names, moves.shifts, strict=True):
        steps += [Shift(name, by) for name, by in zip(nest, shifts, strict=True) if by]
    for nest in names:
        steps += [
            Skew(name, time.iterator, by) for name, by in zip(nest, moves.skews, strict=True) if by
        ]
    tiled = (time.iterator, *names[0])
    steps.append(Tile(tuple(zip(tiled, sizes, strict=False))))
    if not all_or_none(draft, steps):
        draft.program, draft.steps = before
    elif waves:
        factor = diagonal_factor(sizes[0], sizes[1], moves.skews[0])
        share_diagonals(draft, time.iterator, len(tiled), factor)


def wrapped(draft: LegalDraft, nest: tuple[str | None, ...]) -> tuple[str, ...]:
    """The names of the loops of a nest, once those that it lacks are there."""
    names = [name for name in nest if name is not None]
    for _ in range(len(nest) - len(names)):
        draft.attempt(Wrap(names[0]))
        path, _ = find_loop(draft.program, "wrap", names[0])
        names.insert(0, path[-1].iterator)  # not wrapped: the loop around, which no tile takes
    return tuple(names)


def diagonal_factor(size: int, inner: int, skew: int) -> int:
    """By how much loops over tiles are to be skewed so that whole tiles lie on diagonals.

    A tile has ``size`` iterations of a loop and ``inner`` of one that is skewed by it, ``skew`` an
    iteration: by so much its tiles begin later. Where these are whole tiles, each depends only on
    tiles before it in either loop; else on one more, which a diagonal has to leave behind too.
    """
    least = 1 if skew * size % inner == 0 else -(-inner // size)
    return next(f for f in range(least, least + inner) if (skew + f) * size % inner == 0)
