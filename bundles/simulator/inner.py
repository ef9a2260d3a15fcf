"""What a compiler sees of a statement's innermost loop, independent of the machine.

Several views of every statement: the innermost loop as it stands, and the next ones out, which
take its place where a compiler unrolls short inner loops completely, or runs the lanes of a loop
through the loop inside it (outer-loop vectorisation).
Rows: r statements, A accesses, L loops (``traffic.SimulatedRows``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Floats, Indices
from agent.loopnest.features.nest import NestTable
from bundles.simulator.traffic import LINE, SimulatedRows

# ``MOST_PACKED`` and ``PEELS`` are gcc 12's (seen in its reports on tuning programs), the others
# chosen.
PACKED = 16.0  # elements: what is closer is of one group of loads
MOST_PACKED = 4096.0  # gcc looks at no larger groups
UNEVEN = 1.3  # most over mean work of a loop's iterations: more than a rest of a tile makes
FEW_TILES = 2.0  # tiles of a loop that compilers unroll, each with its own trip count
PACKED_IN_BLOCK = 0.3  # of these: a block is unrolled before its loads are grouped (chosen)
PEELS = 3  # loops a compiler unrolls completely, at most
SAME = 1.01  # strides of up to so many elements are contiguous (averages are not whole)
SMALL_STRIDE = 4.01  # elements: a few loads and shuffles bring what is closer
WHOLE = 1e-3  # of a trip count: how far an average that is whole may be off


@dataclass(frozen=True)
class Inner:
    """The innermost loop of every statement; all [r], counts per execution of the statement.

    Attributes:
        trip: its iterations; ``starts``: how often it is entered in one run.
        body: executions of the statement in one iteration (more than 1 where loops are inside).
        free: no other loop or deeper statement is inside it: a compiler can vectorise it.
        forced: marked to be vectorised; ``marked_unroll``: the unroll factor asked for.
        chain: how many dependent operations an execution adds to a sum carried by the loop.
        carried: the loop carries a value in place; ``stalls``: executions wait for a store.
        sums: the loop accumulates into one element.
        unit, far: loads with stride one element, more than four.
        store_unit, store_far: stores.
        small: loads and stores in between.
        packed: elements between neighbours of the loads far apart whose distance is a power of two.
        steady: the loop turns equally often each time, as far as its average trip count tells.
        even: its iterations do not depend on the loop just around it, as far as is known.
        parallel: marked to be shared among threads.
        through: share of the executions that wait for each other where the loop carries a value.
        extent: executions that add to one element before the next element's turn.
        held: it is a block of lanes: what it updates stays in registers in the loop around it.
    """

    trip: Floats
    starts: Floats
    body: Floats
    free: Bools
    forced: Bools
    marked_unroll: Floats
    chain: Floats
    carried: Bools
    stalls: Floats
    sums: Bools
    unit: Floats
    small: Floats
    far: Floats
    store_unit: Floats
    store_far: Floats
    packed: Floats
    steady: Bools
    parallel: Bools
    even: Bools
    through: Floats
    extent: Floats
    held: Bools

    def take(self, rows: Indices) -> Inner:
        """Some of the statements."""
        return Inner(*(getattr(self, f.name)[rows] for f in fields(self)))


def _pick(values: npt.NDArray[Any], level: Indices) -> npt.NDArray[Any]:
    """``values[r, L]`` or ``[r, A, L]`` at a level of each row (the nearest where it has none)."""
    at, rows = np.clip(level, 0, values.shape[-1] - 1), np.arange(len(values))
    picked: npt.NDArray[Any] = values[rows, at] if values.ndim == 2 else values[rows, :, at]
    return picked


def views(table: NestTable, rows: SimulatedRows) -> tuple[tuple[Inner, Inner], ...]:
    """The loops a compiler may end up with innermost.

    For each number of inner loops unrolled completely, from none: the loop around them, and the
    one around that with the first kept inside (a compiler may vectorise that outer loop).
    """
    return tuple(
        (_view(table, rows, peel), _view(table, rows, peel + 1, kept=True))
        for peel in range(min(PEELS, rows.trip.shape[1]) + 1)
    )


def _view(table: NestTable, rows: SimulatedRows, peel: int, *, kept: bool = False) -> Inner:
    """The loop ``peel`` places from inside; those in it are unrolled, but for the first if kept."""
    level = rows.depth - 1 - peel
    there = level >= 0
    inside = [np.maximum(level, -1) + 1 + p for p in range(peel)]  # levels of the peeled loops
    trip = np.where(there, _pick(rows.trip, level), 1.0)
    body, count = np.ones_like(trip), table.instances[rows.program, rows.place]
    for at in inside[1:] if kept else inside:
        body = body * _pick(rows.trip, at)
    before = np.where(level >= 1, _pick(rows.trip, level - 1), 0.0)
    held = np.asarray(~np.bool_(peel) & (level >= 1) & _blocks(table, rows, level))
    kept_around = np.where(held, before, 1.0)  # iterations that a block stays in registers for
    loads: dict[str, Any] = _loads(table, rows, level, inside, kept_around, kept=kept)
    loads["packed"] = np.where(held, PACKED_IN_BLOCK, 1.0) * loads["packed"]
    started = trip * body * _kept_trip(rows, inside, kept) * kept_around
    return Inner(
        trip=trip.astype(np.float32),
        starts=(count / np.maximum(started, 1.0)).astype("f4"),
        body=body.astype(np.float32),
        free=there & _free(table, rows, level, depth=peel + 1),
        forced=there & _marked(rows, table.vector, level),
        marked_unroll=np.where(there, _marks(rows, table.unroll, level), 1.0).astype("f4"),
        steady=_whole(trip) | (_whole(trip * before) & (before <= FEW_TILES)),
        even=_even(table, rows, level),
        parallel=there & _marked(rows, table.parallel, level),
        extent=(body * trip * _summed_around(table, rows, level)).astype(np.float32),
        held=held,
        **_carried(table, rows, level, inside, body * trip, held, kept=kept),
        **loads,
    )


def _carried(
    table: NestTable,
    rows: SimulatedRows,
    level: Indices,
    inside: list[Indices],
    executions: Floats,
    held: Bools,
    *,
    kept: bool,
) -> dict[str, Any]:
    """What an iteration of the loop waits for of the one before; ``executions`` [r] of one run.

    Each sum of a block waits for itself, as the loop around it turns.
    """
    there = level >= 0
    sums = there & _marked(rows, table.reduction, level)
    chain = np.where(sums | (_marked(rows, table.reduction, inside[0]) if kept else sums), 1.0, 0.0)
    through = np.ones_like(chain)
    for at in inside[1:] if kept else inside:
        each = 1.0 / _pick(rows.trip, at)
        chain = chain * np.where(_marked(rows, table.reduction, at), 1.0, each)
        through = through * np.where(_marked(rows, table.recurrence, at), 1.0, each)
    outside = (level >= 1) & _marked(rows, table.reduction, level - 1)
    chain = np.where(held & outside & ~sums, 1.0 / executions, chain)
    return {
        "chain": chain.astype(np.float32),
        "carried": there & _marked(rows, table.recurrence, level),
        "stalls": np.where(outside & ~sums & ~held, 1.0 / executions, 0.0).astype(np.float32),
        "sums": sums,
        "through": through.astype(np.float32),
    }


def _whole(trip: Floats) -> Bools:
    return np.asarray(np.abs(trip - np.round(trip)) < WHOLE * trip)


def _even(table: NestTable, rows: SimulatedRows, level: Indices) -> Bools:
    """[r] whether a loop turns equally often in all iterations of the loop around it.

    An average that is no whole number, but is one when multiplied by that of a loop further out,
    is that of a tile. A triangle is told by the uneven work of its outermost loop.
    """
    trip, count = _pick(rows.trip, level), np.arange(rows.trip.shape[1])
    further = (count < (level - 1)[:, None]) & _whole(rows.trip * trip[:, None])
    uneven = (table.imbalance[rows.program, rows.place].max(-1) > UNEVEN) & (level > 0)
    return np.asarray((_whole(trip) & ~uneven) | further.any(-1))


def _summed_around(table: NestTable, rows: SimulatedRows, level: Indices) -> Floats:
    """[r] executions of a loop's body that the loops just around it add to the same element."""
    sums = table.reduction[rows.program, rows.place][:, : rows.trip.shape[1]]
    place = np.arange(rows.trip.shape[1])
    outside = place < level[:, None]
    unbroken = np.cumprod((sums | ~outside)[:, ::-1], axis=1)[:, ::-1].astype(np.bool_)
    return np.asarray(np.where(outside & unbroken, rows.trip, 1.0).prod(-1), np.float32)


def _kept_trip(rows: SimulatedRows, inside: list[Indices], kept: bool) -> Floats:
    return np.asarray(_pick(rows.trip, inside[0]) if kept else 1.0, np.float64)


def _marks(rows: SimulatedRows, field: npt.NDArray[Any], level: Indices) -> npt.NDArray[Any]:
    return _pick(field[rows.program, rows.place][:, : rows.trip.shape[1]], level)


def _marked(rows: SimulatedRows, field: npt.NDArray[Any], level: Indices) -> Bools:
    return np.asarray(_marks(rows, field, level), np.bool_)


def _blocks(table: NestTable, rows: SimulatedRows, level: Indices) -> Bools:
    """[r] whether a loop is marked as one that runs in lanes and is unrolled completely."""
    whole = _marks(rows, table.unroll, level) >= _pick(rows.trip, level)
    return _marked(rows, table.vector, level) & whole & (_marks(rows, table.unroll, level) > 1)


def _loads(
    table: NestTable,
    rows: SimulatedRows,
    level: Indices,
    inside: list[Indices],
    kept_around: Floats,
    *,
    kept: bool,
) -> dict[str, Floats]:
    """Loads and stores an execution, by how far they move in the innermost loop.

    What the loop around does not move stays in registers for ``kept_around`` [r] iterations of it.
    """
    moves = _pick(rows.moves, level) & (level >= 0)[:, None]
    stride = _pick(rows.stride, level)
    element = table.element_bytes[rows.program, rows.place]
    write = table.is_write[rows.program, rows.place] & rows.valid
    reads = rows.valid & (~write | table.is_reduction[rows.program, rows.place])
    count = np.where(moves, table.weight[rows.program, rows.place], 0.0) / _shared(table, rows)
    for at in inside:
        count = count * np.where(_pick(rows.moves, at), 1.0, 1.0 / _pick(rows.trip, at)[:, None])
    still = ~_pick(rows.moves, level - 1)
    count = np.where(still, count / kept_around[:, None], count)
    if kept:  # what moves in the kept inner loop alone is loaded once for all lanes
        turning = _pick(rows.moves, inside[0]) & ~moves & reads
        count = np.where(turning, table.weight[rows.program, rows.place], count)
    close, near = stride <= element * SAME, stride <= element * SMALL_STRIDE
    apart = stride / np.maximum(element, 1.0)

    def total(mask: Bools) -> Floats:
        return np.asarray((count * mask).sum(-1), np.float32)

    return {
        "unit": total(reads & close),
        "small": total(reads & ~close & near) + total(write & ~close & near),
        "far": total(reads & ~near),
        "store_unit": total(write & close),
        "store_far": total(write & ~near),
        "packed": _packed(table, rows, level, np.where(reads & ~near & moves, apart, 0.0)),
    }


def _packed(table: NestTable, rows: SimulatedRows, level: Indices, apart: Floats) -> Floats:
    """[r] vectors a round reads to pack loads whose neighbours are a power of two apart.

    gcc does so (and drowns in permutations) where a round needs several elements of a line: where
    an outer loop is unrolled and jammed by a mark, or by itself since that saves loads.
    """
    element = np.maximum(table.element_bytes[rows.program, rows.place], 1.0)
    close = rows.moves & (rows.stride <= PACKED * element[..., None])
    jam = table.jam[rows.program, rows.place][:, None, : rows.trip.shape[1]] > 1
    several = (close & jam).any(-1) | (table.group[rows.program, rows.place] > 1)
    turning = _pick(rows.moves, level) & rows.valid
    saves = (turning & ~_pick(rows.moves, level - 1)).any(-1) & (level >= 1)
    saves &= ~_marks(rows, table.parallel, level - 1) & ~_marks(rows, table.reduction, level)
    several |= saves[:, None] & _pick(close, level - 1)
    several &= _power(apart) & (apart <= MOST_PACKED)
    return np.asarray((apart * several).sum(-1), np.float32)


def _power(values: Floats) -> Bools:
    """Whether values are powers of two."""
    return np.asarray(np.frexp(values)[0] == 0.5)


def _shared(table: NestTable, rows: SimulatedRows) -> Floats:
    """[r,A] copies of an unroll-and-jammed loop that share one load or store."""
    jam = table.jam[rows.program, rows.place][:, None, : rows.trip.shape[1]]
    return np.asarray(np.where(rows.moves, 1.0, np.maximum(jam, 1.0)).prod(-1))


def jammed(table: NestTable, rows: SimulatedRows) -> tuple[Floats, Floats]:
    """[r] copies of the body by unroll-and-jam, and how many of them are independent sums."""
    jam = np.maximum(table.jam[rows.program, rows.place], 1.0)
    summed = table.reduction[rows.program, rows.place]
    return jam.prod(-1), np.where(summed, 1.0, jam).prod(-1)


def _free(table: NestTable, rows: SimulatedRows, level: Indices, depth: int) -> Bools:
    """Whether no other statement has a loop inside this one that this statement lacks."""
    own = table.loop_id[rows.program, rows.place][:, None]  # [r,1,L]
    theirs = table.loop_id[rows.program]  # [r,S,L]
    at = np.maximum(level, 0)[:, None]
    here = np.take_along_axis(theirs, at[..., None], axis=-1)[..., 0]
    shared = (here == np.take_along_axis(own[:, 0], at, axis=-1)) & (here >= 0)  # [r,S]
    deeper = np.arange(theirs.shape[-1]) > at  # [r,L]
    other = ((theirs >= 0) & (theirs != own) & deeper[:, None]).any(-1)
    return np.asarray(~(shared & other).any(-1) & (rows.depth >= depth))


def sharers(table: NestTable, rows: SimulatedRows) -> Floats:
    """[r,L] statements of the program in each loop (at least 1)."""
    ids = table.loop_id[:, :, : rows.trip.shape[1]]
    same = (ids[:, :, None] == ids[:, None]) & (ids[:, None] >= 0)
    return np.asarray(np.maximum(same.sum(2), 1.0)[rows.program, rows.place], np.float32)


@dataclass(frozen=True)
class Forks:
    """The outermost parallel loop of every statement; all [r].

    Attributes:
        parallel: there is one.
        trip: its iterations; ``starts``: how often it is started (shared starts count once).
        imbalance: most over mean work of its iterations.
        step: least distance in bytes between what neighbouring iterations write; inf: nothing.
    """

    parallel: Bools
    trip: Floats
    starts: Floats
    imbalance: Floats
    step: Floats


def forks(table: NestTable, rows: SimulatedRows) -> Forks:
    """The parallel loops of a table."""
    levels = rows.trip.shape[1]
    marks = table.parallel[rows.program, rows.place][:, :levels]
    level = marks.argmax(-1)
    before = np.concatenate([np.ones((len(level), 1)), rows.trip.cumprod(-1)[:, :-1]], axis=1)
    imbalance = table.imbalance[rows.program, rows.place][:, :levels]
    stride = _pick(rows.stride, level)
    write = table.is_write[rows.program, rows.place] & _pick(rows.moves, level)
    return Forks(
        parallel=np.asarray(marks.any(-1)),
        trip=_pick(rows.trip, level).astype(np.float32),
        starts=(_pick(before, level) / _pick(sharers(table, rows), level)).astype(np.float32),
        imbalance=_pick(imbalance, level).astype(np.float32),
        step=np.where(write & (stride < LINE), stride, np.inf).min(-1).astype(np.float32),
    )
