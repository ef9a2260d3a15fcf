"""Tiles of loops that carry dependences, as the time loops of stencils do.

Loops inside are skewed by those around until no dependence goes backwards in any of them; then
whole tiles can run one after the other, and all tiles of a diagonal at the same time:

    for t                                for w                  (tiles of one w: a diagonal)
      for i                                parallel for t_t
        a[i] = f(a[i-1], a[i+1])   ->        for t in tile: for i in tile, shifted by t
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from agent.loopnest.schedules.schedule import (
    Interchange,
    Parallelize,
    Skew,
    Step,
    Tile,
)
from agent.loopnest.schedules.tree import find_loop, is_longer

if TYPE_CHECKING:
    from agent.loopnest.schedules.candidates import LegalDraft
    from agent.loopnest.schedules.dependence import Dependence, Dependences

# Tiles of the outermost loop and the next one, and of the others inside.
SIZES = ((32, 64), (16, 128), (128, 128), (64, 64), (8, 256), (256, 256))
MOST_FACTOR = 8


def time_tiles(draft: LegalDraft, size: int, inner: int, *, waves: bool) -> None:
    """Skew and tile every band whose loops carry dependences; a draft of the program as written.

    Loops that are no longer than a tile are left alone.

    ``waves``: share out the tiles of a diagonal.
    """
    for band in draft.bands():
        for start in range(len(band) - 1):
            names = [loop.iterator for loop in band[start:]]
            fits = all(is_longer(loop, size) for loop in band[start : start + 2])
            if fits and _tile(draft, names, size, inner, waves=waves):
                break


def _tile(draft: LegalDraft, names: Sequence[str], size: int, inner: int, *, waves: bool) -> bool:
    """Whether the loops of a band could be tiled."""
    factors = skews(draft.dependences, names)
    if factors is None:
        return False
    sizes = (size, size, *[inner] * (len(names) - 2))
    skewed = (Skew(*pair, factor) for pair, factor in factors.items())
    if not all_or_none(draft, (*skewed, Tile(tuple(zip(names, sizes, strict=True))))):
        return False
    if waves:
        share_diagonals(draft, names[0], len(names), 1)
    return True


def share_diagonals(draft: LegalDraft, outermost: str, depth: int, factor: int) -> None:
    """Skew, by a factor, and interchange the loops over tiles of a band, and share them out.

    Args:
        draft: the band is tiled there; it is left as it is where that does not do.
        outermost: of the loops that are tiled.
        depth: how many they are.
        factor: see ``diagonal_factor`` in ``sweep_tiles``; 1 where the first two sizes are equal.
    """
    path, _ = find_loop(draft.program, "tile", outermost)
    outer, second = (loop.iterator for loop in path[-depth:][:2])
    all_or_none(
        draft, (Skew(second, outer, factor), Interchange(outer, second), Parallelize(outer))
    )


def all_or_none(draft: LegalDraft, steps: Sequence[Step]) -> bool:
    """Whether all steps could be taken; else the draft is as before."""
    before = draft.program, [*draft.steps]
    if all(draft.attempt(step) for step in steps):
        return True
    draft.program, draft.steps = before
    return False


def skews(dependences: Dependences, names: Sequence[str]) -> Mapping[tuple[str, str], int] | None:
    """How far to skew loops of a band as written so that no dependence goes backwards in any.

    Returns ``(inner, outer) -> factor``, outer loops first; None where nothing carries a
    dependence, or no factors do.
    """
    least = [
        [item.distance[name][0] for name in names]
        for item in dependences.items
        if all(name in item.distance for name in names) and is_inside(item, names[0])
    ]
    if not any(any(row) for row in least):
        return None
    factors: dict[tuple[str, str], int] = {}
    for at, name in enumerate(names):
        for outer in reversed(range(at)):
            factor = max((_factor(row, at, outer) for row in least), default=0)
            if factor > MOST_FACTOR:
                return None
            if factor:
                factors[name, names[outer]] = factor
                for row in least:
                    row[at] += factor * row[outer]
        if any(row[at] < 0 for row in least):
            return None
    return factors


def is_inside(item: Dependence, name: str) -> bool:
    """Whether both ends may be in one iteration of all loops around the loop ``name``."""
    around = itertools.takewhile(lambda n: n != name, item.distance)
    return not item.reduction and all(item.distance[n][0] <= 0 for n in around)


def _factor(row: Sequence[int], at: int, outer: int) -> int:
    """How far loop ``at`` has to be skewed by the loop that carries a dependence, if that is it."""
    carries = next((n for n, distance in enumerate(row) if distance > 0), at)
    return -(-max(0, -row[at]) // row[outer]) if carries == outer and row[at] < 0 else 0
