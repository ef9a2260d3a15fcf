"""What a compiler sees of a statement's innermost loop, independent of the machine.

Two views of every statement: the innermost loop as it stands, and the next one out, which becomes
the innermost one where a compiler first unrolls a short inner loop completely.
Rows: r statements, A accesses, L loops (``traffic.Rows``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.loopnest.nest import NestTable
from bundles.traffic import LINE, Bools, Floats, Ints, Rows


@dataclass(frozen=True)
class Inner:
    """The innermost loop of every statement; all [r], counts per execution of the statement.

    Attributes:
        trip: its iterations; ``starts``: how often it is entered in one run.
        body: executions of the statement in one iteration (more than 1 where a loop was peeled).
        free: no other loop or deeper statement is inside it: a compiler can vectorise it.
        forced: marked to be vectorised; ``marked_unroll``: the unroll factor asked for.
        chain: how many dependent operations an execution adds to a sum carried by the loop.
        carried: the loop carries a value in place; ``stalls``: executions wait for a store.
        sums: the loop accumulates into one element.
        unit, small, far: loads with stride one element, up to four, more.
        store_unit, store_far: stores.
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


def _pick(values: npt.NDArray[Any], level: Ints) -> npt.NDArray[Any]:
    """``values[r, ..., L]`` at a level of each row (0 where the level is negative)."""
    at = np.maximum(level, 0).reshape(-1, *([1] * (values.ndim - 1)))
    picked: npt.NDArray[Any] = np.take_along_axis(values, at, axis=-1)[..., 0]
    return picked


def views(table: NestTable, rows: Rows) -> tuple[Inner, Inner]:
    """The innermost loop, and the loop that becomes innermost when that is peeled."""
    last = rows.depth - 1
    return _view(table, rows, last, peeled=False), _view(table, rows, last - 1, peeled=True)


def _view(table: NestTable, rows: Rows, level: Ints, *, peeled: bool) -> Inner:
    levels = rows.trip.shape[1]

    def marks(field: npt.NDArray[Any], at: Ints) -> npt.NDArray[Any]:
        return _pick(field[rows.program, rows.place][:, :levels], at)

    there = level >= 0
    trip = np.where(there, _pick(rows.trip, level), 1.0)
    body = _pick(rows.trip, level + 1) if peeled else np.ones_like(trip)
    count = table.instances[rows.program, rows.place]
    sums = there & marks(table.reduction, level).astype(np.bool_)
    inside = marks(table.reduction, level + 1).astype(np.bool_) if peeled else np.True_
    outside = (level >= 1) & marks(table.reduction, level - 1).astype(np.bool_)
    loads = _loads(table, rows, level, peeled=peeled)
    return Inner(
        trip=trip.astype(np.float32),
        starts=(count / np.maximum(trip * body, 1.0)).astype(np.float32),
        body=body.astype(np.float32),
        free=there & (_free(table, rows, level, peeled=peeled)),
        forced=there & marks(table.vector, level).astype(np.bool_),
        marked_unroll=np.where(there, marks(table.unroll, level), 1.0).astype(np.float32),
        chain=np.where(sums, np.where(inside, 1.0, 1.0 / body), 0.0).astype(np.float32),
        carried=there & marks(table.recurrence, level).astype(np.bool_),
        stalls=np.where(outside & ~sums, 1.0 / (trip * body), 0.0).astype(np.float32),
        sums=sums,
        **loads,
    )


def _loads(table: NestTable, rows: Rows, level: Ints, *, peeled: bool) -> dict[str, Floats]:
    """Loads and stores an execution, by how far they move in the innermost loop."""
    moves = _pick(rows.moves, level) & (level >= 0)[:, None]
    stride = _pick(rows.stride, level)
    element = table.element_bytes[rows.program, rows.place]
    write = table.is_write[rows.program, rows.place] & rows.valid
    reads = rows.valid & (~write | table.is_reduction[rows.program, rows.place])
    count = np.where(moves, table.weight[rows.program, rows.place], 0.0) / _shared(table, rows)
    if peeled:
        within = _pick(rows.moves, level + 1)
        count = count * np.where(within, 1.0, 1.0 / _pick(rows.trip, level + 1)[:, None])
    close, near = stride <= element * 1.01, stride <= element * 4.01

    def total(mask: Bools) -> Floats:
        return np.asarray((count * mask).sum(-1), np.float32)

    return {
        "unit": total(reads & close),
        "small": total(reads & ~close & near),
        "far": total(reads & ~near),
        "store_unit": total(write & close),
        "store_far": total(write & ~close),
    }


def _shared(table: NestTable, rows: Rows) -> Floats:
    """[r,A] copies of an unroll-and-jammed loop that share one load or store."""
    jam = table.jam[rows.program, rows.place][:, None, : rows.trip.shape[1]]
    return np.asarray(np.where(rows.moves, 1.0, np.maximum(jam, 1.0)).prod(-1))


def jammed(table: NestTable, rows: Rows) -> tuple[Floats, Floats]:
    """[r] copies of the body by unroll-and-jam, and how many of them are independent sums."""
    jam = np.maximum(table.jam[rows.program, rows.place], 1.0)
    summed = table.reduction[rows.program, rows.place]
    return jam.prod(-1), np.where(summed, 1.0, jam).prod(-1)


def _free(table: NestTable, rows: Rows, level: Ints, *, peeled: bool) -> Bools:
    """Whether no other statement of the program has a loop inside this one."""
    ids = table.loop_id  # [n,S,L]
    depth = (ids >= 0).sum(-1)
    own = np.take_along_axis(ids[rows.program, rows.place], np.maximum(level, 0)[:, None], axis=-1)[
        :, 0
    ]
    at = np.maximum(level, 0)[:, None, None]
    theirs = np.take_along_axis(ids[rows.program], at, axis=-1)[..., 0]  # [r,S]
    inside = (theirs == own[:, None]) & (depth[rows.program] > (level + 1)[:, None])
    inside[np.arange(len(own)), rows.place] = False
    alone = ~inside.any(-1)
    return np.asarray(alone & (rows.depth >= 2) if peeled else alone)


def sharers(table: NestTable, rows: Rows) -> Floats:
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


def forks(table: NestTable, rows: Rows) -> Forks:
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
