"""Tiles of nests that read along one loop and write along another, as transposes do.

for i: for j                    for j_t: for i_t: (pack A: its rows to columns, in registers)
B[j][i] = A[i][j]      ->       for j in tile: for i in tile, in SIMD lanes
B[j][i] = A_pack[j][i]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.loopnest.program import Access, Loop, Statement, all_reads
from agent.loopnest.schedules.register_tiles import reorder
from agent.loopnest.schedules.schedule import Pack, Tile
from agent.loopnest.schedules.tree import find_loop, is_longer

if TYPE_CHECKING:
    from agent.loopnest.schedules.candidates import Draft

SIZES = (64, 32, 128)  # of both sides of a tile


def transposes(draft: Draft, size: int) -> bool:
    """Tile and pack every nest that reads across its rows; whether there was one.

    Loops that are no longer than a tile are left alone.
    """
    found = [_transpose(draft, band, size) for band in draft.bands()]
    return any(found)


def _transpose(draft: Draft, band: Sequence[Loop], size: int) -> bool:
    body = band[-1].body
    found = [s for s in body if isinstance(s, Statement)]
    if len(band) < 2 or len(found) < len(body) or not found[0].target.subscripts:
        return False
    names = [loop.iterator for loop in band]
    lanes = _row(found[0].target, names)
    reads = dict.fromkeys(a for s in found for a in all_reads(s))
    across = {a: _row(a, names) for a in reads if lanes and _is_across(a, lanes)}
    moved = {name for s in found[0].target.subscripts for name in s.names}
    along = next((row for row in across.values() if row in moved), "")
    sides = [loop for loop in band if loop.iterator in (along, lanes)]
    if not along or not all(is_longer(loop, size) for loop in sides):
        return False
    before = draft.program, [*draft.steps]
    wanted = [*(n for n in names if n not in (along, lanes)), along, lanes]
    tile = Tile(((along, size), (lanes, size)))
    if reorder(draft, names, wanted) and draft.attempt(tile):
        path, _ = find_loop(draft.program, "tile", along)
        several = Counter(a.array for a in reads)
        wanted_reads = [a for a, row in across.items() if row == along]
        texts = [str(a) if several[a.array] > 1 else a.array for a in wanted_reads]
        packed = [draft.attempt(Pack(text, path[-1].iterator)) for text in texts]
        if any(packed):
            return True
    draft.program, draft.steps = before
    return False


def _row(access: Access, names: Sequence[str]) -> str:
    """The loop that walks along the rows of an array, if one does."""
    if not access.subscripts:
        return ""
    *others, last = access.subscripts
    along = [n for n in names if last.coefficient(n) == 1]
    alone = len(along) == 1 and not any(along[0] in s.names for s in others)
    return along[0] if alone else ""


def _is_across(access: Access, name: str) -> bool:
    """Whether a loop walks from row to row."""
    *others, last = access.subscripts or (None,)
    return last is not None and name not in last.names and any(name in s.names for s in others if s)
