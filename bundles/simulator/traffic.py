"""What memory sees of a loop nest, for every cache size at once: lines and pages moved.

The analysis walks every statement's loops from the innermost outwards. ``F`` is the footprint (the
distinct lines a part of the nest touches), ``T`` the lines moved into a cache of a given size. If
one iteration of a loop fits the cache, the next one finds what they share: ``T`` grows like ``F``.
If it does not, everything is moved again: ``T`` is multiplied by the trip count. Power-of-two
pitches make lines compete for few sets: they count as the room they block.

Rows: r = the statements of all programs that run; A accesses, D dimensions, L loops, G capacities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Floats, Indices
from agent.loopnest.features.nest import NestTable

LINE, PAGE = 64.0, 4096.0
L1_BYTES = 2.0 ** np.array([12, 13.5, 14.5, 15.2, 16, 17.2])
L2_BYTES = 2.0 ** np.array([16, 17.3, 18.2, 19.1, 20, 21, 22.3])
L3_BYTES = 2.0 ** np.array([19, 20.5, 22, 23.2, 24.4, 25.6, 27, 28.5])
TLB_PAGES = 2.0 ** np.array([5.5, 7.5, 9.5, 10.5, 12, 16])
_WAYS = ((L1_BYTES, 4096.0), (L2_BYTES, 65_536.0), (L3_BYTES, 0.0))  # bytes of one way; 0: hashed
# Chosen, like the constants of ``simulate``:
SHARPNESS = 4.0  # how suddenly a footprint stops fitting
PREFETCHED = 2 * LINE  # strides of up to so many bytes are foreseen
PREFETCH_WINDOW = 2048.0  # half a page: longer strides are not foreseen at all
PARTLY = 0.4  # of the lines in between that are not
AFTER_SHORT_RUN = 0.5  # of the lines at starts of runs shorter than prefetchers need
KEPT_BETWEEN = 0.95  # of what an earlier statement left is found by a later one at best


@dataclass(frozen=True)
class SimulatedRows:
    """The statements that run, one a row.

    Attributes:
        program, place: [r] which program, and which of its statements.
        depth: [r] number of loops around it.
        index: [n,S] row of a statement, -1 where there is none.
        trip: [r,L] average trip counts.
        stride: [r,A,L] bytes an access moves per step of a loop (absolute).
        moves: [r,A,L] whether it moves at all.
        valid, leader: [r,A] an access; the first of its group (carries the footprint).
    """

    program: Indices
    place: Indices
    depth: Indices
    index: Indices
    trip: Floats
    stride: Floats
    moves: Bools
    valid: Bools
    leader: Bools

    def of(self, field: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """``field[n,S,...]`` of the table as [r,...]."""
        return field[self.program, self.place]


def simulated_rows(table: NestTable) -> SimulatedRows:
    """The rows of a table; loops beyond the deepest nest are cut off."""
    loops = table.loop_id >= 0
    program, place = np.nonzero(table.instances > 0)
    depth = loops[program, place].sum(-1)
    deepest = max(1, int(depth.max(initial=1)))
    index = np.full(table.instances.shape, -1, np.intp)
    index[program, place] = np.arange(len(program))
    coef = table.coef[program, place][..., :deepest]
    pitch = table.row_bytes[program, place].astype(np.float32)
    valid = table.array[program, place] >= 0
    return SimulatedRows(
        program=program,
        place=place,
        depth=depth,
        index=index,
        trip=np.maximum(table.trip[program, place, :deepest], 1.0).astype(np.float32),
        stride=np.abs(np.einsum("radl,rad->ral", coef, pitch)),
        moves=(coef != 0).any(2),
        valid=valid,
        leader=valid & (table.leader[program, place]),
    )


@dataclass(frozen=True)
class AccessFootprint:
    """Distinct lines and pages an access group touches from a loop level inwards.

    Attributes:
        lines, pages: [r,A,L+1]; the last entry is one execution of the statement.
        crowd: [r,A,L+1,2] lines an access blocks in a cache with ways of 4 KiB and of 64 KiB.
    """

    lines: Floats
    pages: Floats
    crowd: Floats


def access_footprint(table: NestTable, rows: SimulatedRows) -> AccessFootprint:
    """The footprint of every access group at every level, boxes taken dimension by dimension."""
    coef = np.abs(table.coef[rows.program, rows.place][..., : rows.trip.shape[1]])
    pitch = np.maximum(table.row_bytes[rows.program, rows.place], 0.0)
    element = table.element_bytes[rows.program, rows.place]
    span = table.span[rows.program, rows.place].astype(np.float32)
    group = table.group[rows.program, rows.place]
    whole = table.array_bytes[rows.program, rows.place]
    extent, count = 1.0 + span, 1.0 + np.minimum(span, np.maximum(group[..., None] - 1.0, 0.0))
    levels = rows.trip.shape[1]
    shape = (*rows.valid.shape, levels + 1)
    out = AccessFootprint(np.zeros(shape, "f4"), np.zeros(shape, "f4"), np.zeros((*shape, 2), "f4"))
    slots = [_slots(pitch, way) for _, way in _WAYS[:2]]
    drift = [_drift(pitch, way) for _, way in _WAYS[:2]]
    for level in range(levels, -1, -1):
        if level < levels:
            c, t = coef[..., level], rows.trip[:, None, None, level]
            extent = extent + c * (t - 1.0)
            count = np.minimum(extent, np.where(c > 0, count * t, count))
        for unit, into in ((LINE, out.lines), (PAGE, out.pages)):
            into[..., level] = _units(extent, count, pitch, element, whole, unit) * rows.leader
        for w, (_, way) in enumerate(_WAYS[:2]):
            out.crowd[..., level, w] = _crowd(
                extent, count, element, (slots[w], drift[w]), out.lines[..., level], way
            )
    return out


def _units(
    extent: Floats, count: Floats, pitch: Floats, element: Floats, whole: Floats, unit: float
) -> Floats:
    """Lines (or pages) in a box: per row those of its run, at most those of its byte range."""
    run = np.minimum(count[..., -1], 1.0 + (extent[..., -1] - 1.0) * element / unit)
    separate = run * count[..., :-1].prod(-1)
    reach = ((extent - 1.0) * pitch).sum(-1) + element
    units: Floats = np.minimum(separate, np.minimum(reach, whole) / unit + 1.0)
    return units.astype(np.float32)


def _slots(pitch: Floats, way: float) -> Floats:
    """How many places in a way rows at that pitch can start at: few for powers of two."""
    whole = np.maximum(pitch, 1).astype(np.int64)
    lowest = np.minimum(whole & -whole, int(way))
    return np.asarray(way / lowest, np.float32)


def _drift(pitch: Floats, way: float) -> Floats:
    """Lines by which rows start further along in a way than the row before: few near powers."""
    beyond = np.mod(pitch, way)
    return np.asarray(np.minimum(beyond, way - beyond) / LINE, np.float32)


def _crowd(
    extent: Floats,
    count: Floats,
    element: Floats,
    rows: tuple[Floats, Floats],
    lines: Floats,
    way: float,
) -> Floats:
    """Lines blocked in a set-associative cache: never fewer than the lines themselves."""
    sets = way / LINE
    step = np.where(count[..., -1] > 1, extent[..., -1] / count[..., -1], 1.0) * element
    run = np.where(step >= LINE, 1.0, 1.0 + (extent[..., -1] - 1.0) * element / LINE)
    lowest = np.maximum(step.astype(np.int64), 1)
    spread = np.where(
        step >= LINE, np.minimum(count[..., -1], way / np.minimum(lowest & -lowest, int(way))), 1.0
    )
    slots, drift = rows
    places = np.minimum(count, np.minimum(slots, 1.0 + count * drift))[..., :-1].prod(-1)
    covered = np.clip(places * spread * run, 1.0, sets)
    return np.asarray(np.maximum(lines, (lines / covered - 1.0) * sets), np.float32)


@dataclass(frozen=True)
class Traffic:
    """Lines and pages moved in one (warm) run, per statement and capacity.

    Attributes:
        stream: per cache level, [r,G] lines a prefetcher foresees.
        jump: per cache level, [r,G] lines it does not.
        pages: [r,G] misses of a TLB.
    """

    stream: tuple[Floats, Floats, Floats]
    jump: tuple[Floats, Floats, Floats]
    pages: Floats


def fits(needed: Floats, room: Floats) -> Floats:
    """How surely ``needed`` stays in ``room`` until it is used again, 0..1 (smooth)."""
    return np.asarray(1.0 / (1.0 + (needed / room) ** SHARPNESS), np.float32)


def cache_traffic(table: NestTable, rows: SimulatedRows) -> Traffic:
    """Traffic of every statement for every capacity of the grids."""
    feet = access_footprint(table, rows)
    jumpy = _jumps(rows)
    cost = 1.0 + table.is_write[rows.program, rows.place]  # a store is read and written back
    stream, jump = [], []
    for w, (room, _) in enumerate(_WAYS):
        blocked = feet.crowd[..., w] if w < 2 else feet.lines
        moved = _moved(table, rows, feet.lines, blocked, (room / LINE).astype(np.float32))
        moved *= cost[..., None].astype(np.float32)
        jump.append((moved * jumpy[..., None]).sum(1))
        stream.append((moved * (1.0 - jumpy[..., None])).sum(1))
    pages = _moved(table, rows, feet.pages, feet.pages, TLB_PAGES.astype(np.float32)).sum(1)
    return Traffic((stream[0], stream[1], stream[2]), (jump[0], jump[1], jump[2]), pages)


def _jumps(rows: SimulatedRows) -> Floats:
    """[r,A] part of an access's lines that no prefetcher foresees: long strides, short runs."""
    out = np.zeros(rows.valid.shape, np.float32)
    run = np.ones(rows.valid.shape, np.float32)
    seen = np.zeros(rows.valid.shape, np.bool_)
    for level in range(rows.trip.shape[1] - 1, -1, -1):
        stride = rows.stride[..., level]
        here = rows.moves[..., level] & (rows.trip[:, None, level] > 1)
        first = here & ~seen
        far = np.where(stride <= PREFETCHED, 0.0, np.where(stride <= PREFETCH_WINDOW, PARTLY, 1.0))
        short = np.where(here & seen & (stride > run * 2), np.clip(PREFETCHED / run, 0.0, 1.0), 0.0)
        out = np.where(
            first, far, np.where(out < PARTLY, np.maximum(out, AFTER_SHORT_RUN * short), out)
        )
        run = np.where(first, stride * rows.trip[:, None, level], np.where(here, np.inf, run))
        seen |= here
    return out.astype(np.float32)


def _moved(
    table: NestTable, rows: SimulatedRows, units: Floats, blocked: Floats, room: Floats
) -> Floats:
    """[r,A,G] units moved into caches of ``room`` units in one warm run."""
    needed = blocked.sum(1)  # [r,L+1]
    moved = np.repeat(units[..., -1:], len(room), axis=-1)
    for level in range(rows.trip.shape[1] - 1, -1, -1):
        trip = rows.trip[:, None, level, None]
        if not (trip > 1).any():
            continue
        kept = fits(needed[:, None, level + 1, None], room)
        again = trip * moved
        grown = np.minimum(np.maximum(units[..., level, None], moved), again)
        moved = kept * grown + (1.0 - kept) * again
    _reuse_between(table, rows, units, needed, moved, room)
    warm = fits(_whole(table, rows, units)[:, None], room)[rows.program]
    return np.asarray(moved * (1.0 - warm[:, None, :]), np.float32)


def touched_bytes(table: NestTable) -> Floats:
    """[n] bytes of the distinct lines a run of each program touches."""
    rows = simulated_rows(table)
    return _whole(table, rows, access_footprint(table, rows).lines) * np.float32(LINE)


def _whole(table: NestTable, rows: SimulatedRows, units: Floats) -> Floats:
    """[n] units all statements of a program touch; an array counts once."""
    n, s, a = table.array.shape
    size = np.zeros((n, s, a), np.float32)
    size[rows.program, rows.place] = units[..., 0]
    flat, array = size.reshape(n, s * a), table.array.reshape(n, s * a)
    same = array[:, :, None] == array[:, None, :]
    larger = flat[:, None, :] > flat[:, :, None]
    earlier = np.tri(s * a, k=-1, dtype=np.bool_) & (flat[:, None, :] == flat[:, :, None])
    repeated = (same & (larger | earlier)).any(-1)
    return np.asarray((flat * ~repeated).sum(-1), np.float32)


def _reuse_between(
    table: NestTable,
    rows: SimulatedRows,
    units: Floats,
    needed: Floats,
    moved: Floats,
    room: Floats,
) -> None:
    """Take off (in place) what an earlier statement in the same loops left in the cache."""
    ids = table.loop_id
    for later in range(1, ids.shape[1]):
        for earlier in range(later):
            both = (rows.index[:, later] >= 0) & (rows.index[:, earlier] >= 0)
            which = np.nonzero(both)[0]
            if not len(which):
                continue
            to, of = rows.index[which, later], rows.index[which, earlier]
            same = (ids[which, later] == ids[which, earlier]) & (ids[which, later] >= 0)
            common = np.minimum(np.cumprod(same, axis=-1).sum(-1), units.shape[-1] - 1)
            here, there = _at(units, to, common), _at(units, of, common)
            arrays = table.array[which, later][:, :, None] == table.array[which, earlier][:, None]
            share = np.where(arrays, there[:, None, :] / np.maximum(here[..., None], 1e-6), 0.0)
            found = np.minimum(share.max(-1), 1.0)
            kept = fits((needed[to, common] + needed[of, common])[:, None], room)
            moved[to] *= 1.0 - KEPT_BETWEEN * found[..., None] * kept[:, None, :]


def _at(units: Floats, row: Indices, level: Indices) -> Floats:
    return np.asarray(units[row, :, level], np.float32)
