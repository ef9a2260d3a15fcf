"""What compilers do to loops before anything else: tables with loops in another order."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from agent.arrays import Array, Bools, Doubles, Floats, Indices
from agent.loopnest.features.nest import NestTable, fields_along

STRIP = 30_000  # numbers of the loops over lanes; no program has so many loops
SHORTER = (3.0, 2.0)  # strides inside must shrink so many times: for the innermost two, others

Element = TypeVar("Element", bound=np.generic)


def _reordered(table: NestTable, order: Indices) -> NestTable:
    """The table with loop ``order[n,S,l]`` at place l."""
    changed: dict[str, Array] = {
        name: np.take_along_axis(getattr(table, name), order, axis=-1)
        for name in fields_along("SL")
    }
    coef = np.take_along_axis(table.coef, order[:, :, None, None, :], axis=-1)
    return replace(table, coef=coef, **changed)


def without_single_turns(table: NestTable) -> NestTable:
    """Loops that turn once are no loops: they go outermost, where they cost nothing."""
    once = (table.loop_id >= 0) & (table.trip <= 1.0) & ~table.parallel & ~table.vector
    if not once.any():
        return table
    rank = np.where(table.loop_id < 0, 2, np.where(once, 0, 1))
    return _reordered(table, np.argsort(rank, axis=-1, kind="stable"))


def interchanged(table: NestTable) -> NestTable:
    """The table as a compiler leaves it that interchanges loops by itself.

    It pushes the innermost loop outwards, pair by pair, where the two are perfectly nested, the
    inner one turns as often in every iteration of the outer one, no mark forbids it, and the
    strides inside become much shorter (gcc's -floop-interchange, part of -O3). A sum that lives in
    a register inside the inner loop is carried out of it; one that lives in memory is left alone.
    """
    depth = (table.loop_id >= 0).sum(-1)  # [n,S]
    for out in range(int(depth.max(initial=0)) - 1):
        some = np.flatnonzero((depth >= 2 + out).any(1))
        part = table.take(some)
        order = _pushed(part, depth[some], out)
        if order is not None:
            table = _patched(table, some, _reordered(part, order))
    return table


def _patched(table: NestTable, rows: Indices, part: NestTable) -> NestTable:
    changed: dict[str, Array] = {}
    for name in (*fields_along("SL"), *fields_along("SADL")):
        changed[name] = getattr(table, name).copy()
        changed[name][rows] = getattr(part, name)
    return replace(table, **changed)


def _pushed(table: NestTable, depth: Indices, out: int) -> Indices | None:
    """[n,S,L] the order of loops with the one ``out`` places from inside pushed out by one."""
    n, s, levels = table.trip.shape
    inner, outer = np.maximum(depth - 1 - out, 0), np.maximum(depth - 2 - out, 0)
    mates = _mates(table, inner)
    sums, carries = table.reduction, table.recurrence
    inside, outside = _at(sums, inner), _at(sums, outer)
    if out:
        outside = outside | inside
    marked = _at(table.parallel, inner) | _at(table.parallel, outer)
    marked |= _at(table.vector, inner) | _at(table.vector, outer)
    trip = _at(table.trip, inner)
    fixed = marked | outside | (_at(carries, inner) & _at(carries, outer))
    fixed |= table.ops.sum(-1) == 0  # seen: gcc 12 leaves transposing copies alone
    fixed |= np.abs(trip - trip.round()) > 1e-6  # its bounds depend on other loops
    near, far = (_joint(mates, _stride(table, level)) for level in (inner, outer))
    swap = (
        (depth >= 2 + out)
        & (_mates(table, outer) == mates).all(-1)
        & (near > SHORTER[out > 0] * far)
    )
    swap &= ~_joint(mates, fixed.astype(np.float64)).astype(np.bool_)
    swap &= (~mates | (depth[:, None] == depth[:, :, None])).all(-1)
    if not swap.any():
        return None
    order = np.broadcast_to(np.arange(levels), (n, s, levels)).copy()
    which = np.nonzero(swap)
    order[(*which, inner[which])], order[(*which, outer[which])] = outer[which], inner[which]
    return order


def with_lanes(table: NestTable, level: Indices, lanes: Floats) -> NestTable:
    """The table with ``lanes[n,S]`` iterations of each statement's loop ``level[n,S]`` innermost.

    Statements where the level is -1, or that have no room for one more loop, stay as they are.
    """
    loops = table.trip.shape[-1]
    depth = (table.loop_id >= 0).sum(-1)
    which = np.nonzero((level >= 0) & (depth < loops))
    at, new = (*which, level[which]), (*which, depth[which])
    trip, coef, ids = table.trip.copy(), table.coef.copy(), table.loop_id.copy()
    strip = np.minimum(lanes[which], trip[at])
    trip[at], trip[new] = trip[at] / strip, strip
    ids[new] = STRIP + which[1]
    n, s = which
    moved = coef[n, s, :, :, level[which]]
    coef[n, s, :, :, depth[which]] = moved
    coef[n, s, :, :, level[which]] = moved * strip[:, None, None]
    return replace(table, trip=trip, coef=coef, loop_id=ids)


def _stride(table: NestTable, level: Indices) -> Doubles:
    """[n,S] bytes all accesses of a statement move together per step of its loop at that level."""
    n, s = np.arange(len(level))[:, None], np.arange(level.shape[1])[None]
    steps = table.coef[n, s, :, :, level] * table.row_bytes
    return np.asarray(np.abs(steps.sum(-1)).sum(-1), np.float64)


def _mates(table: NestTable, level: Indices) -> Bools:
    """[n,S,S] whether another statement is in the loop that a statement has at that level."""
    own = _at(table.loop_id, level)
    others = np.take_along_axis(table.loop_id[:, None], level[:, :, None, None], axis=-1)[..., 0]
    return np.asarray((others == own[:, :, None]) & (own[:, :, None] >= 0))


def _joint(mates: Bools, values: Doubles) -> Doubles:
    """[n,S] sums of ``values[n,S]`` over the statements in the same loop."""
    return np.asarray(np.einsum("nst,nt->ns", mates.astype(np.float64), values), np.float64)


def _at(field: npt.NDArray[Element], level: Indices) -> npt.NDArray[Element]:
    """``field[n,S,L]`` at one level of each statement."""
    return np.take_along_axis(field, level[..., None], axis=-1)[..., 0]
