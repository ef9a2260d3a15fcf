"""Register tiles: blocks of sums that stay in vector registers throughout the loops that add up.

Around every innermost loop that updates something: the loops that the target does not depend on
go inside, the loop along which memory is walked best gets the lanes, the one around it is jammed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from agent.loopnest.emitter.packing import MAX_BYTES
from agent.loopnest.program import Loop, Program, Statement, all_reads, loops
from agent.loopnest.schedules.schedule import Interchange, Jam, Pack, Parallelize, Tile, Vectorize
from agent.loopnest.schedules.transform import MAX_LANES
from agent.loopnest.schedules.tree import find_loop, is_longer, last_iteration, perfect_band

if TYPE_CHECKING:
    from agent.loopnest.schedules.candidates import Draft

# Rows that are jammed, and bytes of a row: for 32 and for 16 registers, of 64 and of 32 bytes.
LANES = (4, 8, 16, 16, 32, 32, 64)  # repeats: likelier
TILES = ((6, 128), (4, 64), (4, 256), (8, 64), (4, 128), (2, 256), (12, 128))
FULL = ((12, 128), (6, 256), (6, 64))  # what fills 32 registers of 64 bytes, and 16 of 32 bytes
PACKED = 64  # lanes whose operands are packed together
PACKED_ROWS, NARROW = 96, (64, 32, 16)  # rows and lanes of a tile that has a buffer of its own
LONG, PART = 512, 256  # a loop that adds up longer is tiled for that
EVENLY = 4  # buffers that threads share evenly


class Buffer(Enum):
    """What lanes read that is packed together, where the nest allows it."""

    NONE = auto()
    USUAL = auto()  # of ``PACKED`` lanes
    NARROW = auto()  # of one block: it stays in the innermost cache, and threads share many evenly
    WIDE = auto()  # as much as a buffer holds: what rows read comes from afar the fewest times


@dataclass(frozen=True)
class Block:
    """What is kept in registers.

    Attributes:
        rows: that are jammed; ``row_bytes``: of each.
        buffer: beside it.
        fitted: to the loops: fewer rows (down to two thirds) where they leave fewer over, rows that
            use again what others have loaded, long sums in parts of one length, sums before updates
            that move with the innermost loop.
    """

    rows: int
    row_bytes: int
    buffer: Buffer = Buffer.NONE
    fitted: bool = False

    def width(self, size: int) -> int:
        """How many lanes a row has, of elements of ``size`` bytes."""
        return min(self.row_bytes // size, MAX_LANES)

    def packed(self, lanes: Loop, sums: Loop | None, size: int) -> int:
        """How many iterations of ``lanes`` have a buffer of what they read in ``sums``."""
        width = self.width(size)
        last, depth = last_iteration(lanes), sums and self.together(sums)
        if self.buffer is Buffer.NARROW:
            return width
        if self.buffer is not Buffer.WIDE or last is None or not depth:
            return max(PACKED, width)
        most = max(1, MAX_BYTES // (depth * size * width))  # blocks in a buffer
        blocks = -(-(last + 1) // width)
        buffers = -(-blocks // (most * EVENLY)) * EVENLY
        return -(-blocks // buffers) * width

    def rows_of(self, loop: Loop) -> int:
        """How many iterations of ``loop`` to jam: what is left over runs one by one."""
        last = last_iteration(loop)
        if not self.fitted or last is None:
            return self.rows
        fewest = max(2, self.rows * 2 // 3)
        return min(range(self.rows, fewest - 1, -1), key=lambda rows: (last + 1) % rows)

    def together(self, loop: Loop) -> int | None:
        """How many iterations of a loop that adds up go together; None: all, however many."""
        last = last_iteration(loop)
        if not is_longer(loop, LONG):
            return None if last is None else last + 1
        if not self.fitted or last is None:
            return PART
        return -(-(last + 1) // round((last + 1) / PART))


def register_tiles(draft: Draft, block: Block) -> None:
    """Give every nest that adds up a register tile, as far as it may have one."""
    for loop in draft.innermost():
        updates = [s for s in loop.body if isinstance(s, Statement) and s.op]
        if block.fitted:  # a sum, if there is one
            updates.sort(key=lambda s: loop.iterator in _own_loops(draft.program, s))
        if updates:
            _tile(draft, loop, updates[0], block)


def _tile(draft: Draft, innermost: Loop, update: Statement, block: Block) -> None:
    path = next((a for a, x in loops(draft.program.body) if x is innermost), None)
    if path is None:
        return
    moves = _own_loops(draft.program, update)
    whole = next(b for b in map(perfect_band, (*path, innermost)) if innermost in b)
    free = [x for x in whole if x.iterator in moves]
    sums = [x for x in whole if x.iterator not in moves]
    outside = [x for x in path if x not in whole and x.iterator in moves]
    if not sums or not (free or outside):
        return
    lanes = min(reversed(free or outside[-1:]), key=lambda x: _strides(update, x.iterator))
    others = [x for x in (*outside, *free) if x is not lanes]
    if block.fitted:  # rows inside the others: such as use again what a row has loaded in lanes
        others.sort(key=lambda x: (x in free, -_loaded_anew(update, x, lanes)))
    wanted = [*(x for x in others if x in free), *([lanes] if free else []), *sums]
    if reorder(draft, [x.iterator for x in whole], [x.iterator for x in wanted]):
        if block.buffer is not Buffer.NONE and others:
            _pack(draft, update, others[-1], lanes, sums, block)
        size = draft.program.dtype_of(update.target.array).size
        draft.attempt(Vectorize(lanes.iterator, block.width(size)))
        if others:
            draft.attempt(Jam(others[-1].iterator, block.rows_of(others[-1])))


def _pack(
    draft: Draft, update: Statement, rows: Loop, lanes: Loop, sums: Sequence[Loop], block: Block
) -> None:
    """Tile the lanes, put the loop over their tiles around the rows, and pack what a tile reads.

    ::

        for i: for j: for k     ->      for j_t: for k_t: (pack) for i: for j: for k

    Where nothing can be packed, but the rows cannot be shared out and the tiles can, so it is left.
    """
    adding = {x.iterator for x in sums}
    names = [(a, {n for s in a.subscripts for n in s.names}) for a in all_reads(update)]
    several = Counter(a.array for a in {a for a, _ in names})
    operands = [
        str(a) if several[a.array] > 1 else a.array
        for a, moved in names
        if lanes.iterator in moved and moved & adding
    ]
    path, found = find_loop(draft.program, "pack", lanes.iterator)
    around = path[-1] if path else found
    fits = around.iterator == rows.iterator and len(around.body) == 1
    one = sums[0] if len(sums) == 1 else None
    packed = block.packed(lanes, one, draft.program.dtype_of(update.target.array).size)
    if not operands or not fits or not is_longer(lanes, packed):
        return
    before = draft.program, [*draft.steps]
    tiles = _tiled(draft, lanes, packed)
    long = one if one is not None and is_longer(one, LONG) else None
    part = _tiled(draft, long, block.together(long) or PART, around=lanes) if long else None
    moved = tiles is not None and draft.attempt(Interchange(rows.iterator, tiles))
    both = moved and part is not None and draft.attempt(Interchange(rows.iterator, part))
    over = part if both else tiles
    reads = dict.fromkeys(operands if moved else ())
    packs = [read for read in reads if over and draft.attempt(Pack(read, over))]
    shares = moved and _is_shared(draft, tiles) and not _is_shared(draft, rows.iterator)
    if not packs and not shares:
        draft.program, draft.steps = before
        _pack_in_tiles(draft, dict.fromkeys(operands), rows, lanes)


def _pack_in_tiles(draft: Draft, reads: Iterable[str], rows: Loop, lanes: Loop) -> None:
    """Pack for a tile of rows and lanes, where rows and tiles of lanes cannot change places.

    ::

        for i: for j in i..n: for k  ->  for i_t: for j_t: (pack) for i: for j in i..n: for k
    """
    before = draft.program, [*draft.steps]
    for size in NARROW:
        if draft.attempt(Tile(((rows.iterator, PACKED_ROWS), (lanes.iterator, size)))):
            path, _ = find_loop(draft.program, "tile", rows.iterator)
            packs = [draft.attempt(Pack(read, path[-1].iterator)) for read in reads]
            if any(packs):
                return
        draft.program, draft.steps = before[0], [*before[1]]


def _is_shared(draft: Draft, name: str | None) -> bool:
    """Whether threads could share the iterations of a loop."""
    trial = copy(draft)
    trial.steps = []
    return name is not None and trial.attempt(Parallelize(name))


def _tiled(draft: Draft, loop: Loop, size: int, around: Loop | None = None) -> str | None:
    """The loop over the tiles that ``loop`` is cut into; None where it cannot be ``around``."""
    before = draft.program, [*draft.steps]
    if not draft.attempt(Tile(((loop.iterator, size),))):
        return None
    path, _ = find_loop(draft.program, "tile", loop.iterator)
    name = path[-1].iterator
    if around is None or draft.attempt(Interchange(around.iterator, name)):
        return name
    draft.program, draft.steps = before
    return None


def _own_loops(program: Program, update: Statement) -> set[str]:
    """The loops with which the target of an update moves on."""
    depth = {t.name: t.depth for t in program.temporaries}.get(update.target.array)
    places = update.target.subscripts if depth is None else update.instance[:depth]
    return {name for place in places for name in place.names}


def reorder(draft: Draft, now: Sequence[str], wanted: Sequence[str]) -> bool:
    """Interchange the loops of a band; whether they could be."""
    now = list(now)
    for position, name in enumerate(wanted):
        if now[position] != name:
            if not draft.attempt(Interchange(now[position], name)):
                return False
            other = now.index(name)
            now[position], now[other] = name, now[position]
    return True


def _loaded_anew(update: Statement, rows: Loop, lanes: Loop) -> int:
    """How many operands that move with ``lanes`` are others in the next iteration of ``rows``."""
    moved = [{n for s in a.subscripts for n in s.names} for a in all_reads(update)]
    return sum(1 for names in moved if {rows.iterator, lanes.iterator} <= names)


def _strides(update: Statement, name: str) -> int:
    """How many accesses of a statement move by more than an element as a loop advances."""
    count = 0
    for access in (update.target, *all_reads(update)):
        moves = [abs(s.coefficient(name)) for s in access.subscripts]
        count += bool(any(moves[:-1]) or any(m > 1 for m in moves))
    return count


def private_sums(draft: Draft) -> None:
    """Share out outermost loops that add to elements which do not move with them."""
    for loop in draft.outermost():
        inside = [s for _, s in loop.inside if s.op and s.target.subscripts]
        still = {
            s.target.array
            for s in inside
            if not any(loop.iterator in x.names for x in s.target.subscripts)
        }
        if still and not draft.attempt(Parallelize(loop.iterator)):
            draft.attempt(Parallelize(loop.iterator, tuple(sorted(still))))


def partial_sums(draft: Draft, row_bytes: int) -> None:
    """Give innermost loops that add up a sum in every lane."""
    for loop in draft.innermost():
        for update in (s for s in loop.body if isinstance(s, Statement) and s.op):
            lanes = row_bytes // draft.program.dtype_of(update.target.array).size
            if loop.iterator not in _own_loops(draft.program, update) and is_longer(loop, lanes):
                draft.attempt(Vectorize(loop.iterator, min(lanes, MAX_LANES)))
