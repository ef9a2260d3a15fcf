"""Tiles in time of which whole waves run at the same time, from the first one on.

Where a sweep needs nothing of itself in the same iteration of time, tiles can lean on both sides
(Bandishti, Pananilath and Bondhugula, *Tiling stencil computations to maximize parallelism*, 2012).
How far each sweep is later on either side is found as for tiles that lean on one (``sweep_tiles``):
once forwards, and once as if the sweeps ran backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.loopnest.schedules.schedule import Diamond, Parallelize, Shift, Skew, Step
from agent.loopnest.schedules.sweep_tiles import (
    Levels,
    SweepMoves,
    beside,
    sweep_moves,
    sweeps_of,
    wrapped,
)
from agent.loopnest.schedules.time_tiles import all_or_none
from agent.loopnest.schedules.tree import find_loop, is_longer

if TYPE_CHECKING:
    from agent.loopnest.program import Loop
    from agent.loopnest.schedules.candidates import LegalDraft
    from agent.loopnest.schedules.dependence import Dependences

# Of the outermost loops of the sweeps, and of those inside them; others stay whole.
DIAMOND_SIZES = (
    (32,), (16, 16), (16, 128), (16,), (16, 32), (64,), (32, 256), (8, 16), (128,), (8,), (256,),
)  # fmt: skip


def diamond_tiles(draft: LegalDraft, sizes: tuple[int, ...]) -> None:
    """Tile loops of time in diamonds and share out those of a wave; a draft as written.

    Sweeps that are no longer than a tile are left alone, and time that is shorter than one.
    """
    for loop in draft.loops():
        nests = sweeps_of(loop)
        levels = [pair for nest in nests for pair in zip(nest, sizes, strict=False)]
        if nests and all(is_longer(inner, size) for inner, size in levels):
            ways = beside(nests, min(len(sizes), max(map(len, nests))))
            found = (moves_of(draft.dependences, loop, nests, *way) for way in ways)
            if (moves := next((way for way in found if way is not None), None)) is not None:
                _tile(draft, loop, moves, sizes)


def moves_of(
    dependences: Dependences,
    time: Loop,
    nests: Sequence[tuple[Loop, ...]],
    loops: Levels,
    depth: int,
) -> tuple[SweepMoves, SweepMoves] | None:
    """How sweeps inside ``time`` move, forwards and backwards; see ``sweep_moves``."""
    forwards = sweep_moves(dependences, time, nests, loops, depth)
    if forwards is None:
        return None
    backwards = sweep_moves(dependences, time, nests, loops, 1, sign=-1)
    return None if backwards is None else (forwards, backwards)


def _tile(
    draft: LegalDraft, time: Loop, moves: tuple[SweepMoves, SweepMoves], sizes: tuple[int, ...]
) -> None:
    before = draft.program, [*draft.steps]
    forwards, backwards = moves
    names = [wrapped(draft, nest)[: len(forwards.skews)] for nest in forwards.loops]
    steps: list[Step] = []
    for nest, shifts in zip(names, forwards.shifts, strict=True):
        inner = zip(nest[1:], shifts[1:], strict=True)
        steps += [Shift(name, by) for name, by in inner if by]
    for nest in names:
        inner = zip(nest[1:], forwards.skews[1:], strict=True)
        steps += [Skew(name, time.iterator, by) for name, by in inner if by]
    slope = max(1, forwards.skews[0], backwards.skews[0])
    late = tuple(
        (nest[0], begin[0], end[0])
        for nest, begin, end in zip(names, forwards.shifts, backwards.shifts, strict=True)
        if begin[0] or end[0]
    )
    tiled = tuple(zip(names[0], sizes, strict=False))
    steps.append(Diamond(time.iterator, slope, tiled, late))
    if not all_or_none(draft, steps):
        draft.program, draft.steps = before
        return
    path, _ = find_loop(draft.program, "diamond", time.iterator)
    draft.attempt(Parallelize(path[-len(tiled)].iterator))
