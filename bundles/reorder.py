"""What compilers do to loops before anything else: tables with loops in another order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.loopnest.nest import NestTable

_BY_LOOP = (
    "trip", "loop_id", "parallel", "vector", "unroll", "jam", "imbalance", "reduction", "recurrence"
)  # fmt: skip
SHORTER = 2.0  # strides inside must shrink so many times before loops are interchanged


def _reordered(table: NestTable, order: npt.NDArray[np.intp]) -> NestTable:
    """The table with loop ``order[n,S,l]`` at place l."""
    changed: dict[str, Any] = {
        name: np.take_along_axis(getattr(table, name), order, axis=-1) for name in _BY_LOOP
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
    for out in range(int((table.loop_id >= 0).sum(-1).max(initial=0)) - 1):
        table = _pushed(table, out)
    return table


def _pushed(table: NestTable, out: int) -> NestTable:
    """The table with the loop that stands ``out`` places from inside pushed out by one."""
    n, s, levels = table.trip.shape
    depth = (table.loop_id >= 0).sum(-1)  # [n,S]
    inner, outer = np.maximum(depth - 1 - out, 0), np.maximum(depth - 2 - out, 0)
    mates = _mates(table, inner)
    sums, carries = table.reduction, table.recurrence
    inside, outside = _at(sums, inner), _at(sums, outer)
    if out:
        outside = outside | inside
    marked = _at(table.parallel, inner) | _at(table.parallel, outer)
    marked |= (_at(table.vector, inner) & (inside | (out > 0))) | _at(table.vector, outer)
    trip = _at(table.trip, inner)
    fixed = marked | outside | (_at(carries, inner) & _at(carries, outer))
    fixed |= np.abs(trip - trip.round()) > 1e-6  # its bounds depend on other loops
    stride = np.abs(np.einsum("nsadl,nsad->nsal", table.coef, table.row_bytes)).sum(2)
    near, far = _joint(mates, _at(stride, inner)), _joint(mates, _at(stride, outer))
    swap = (depth >= 2 + out) & (_mates(table, outer) == mates).all(-1) & (near > SHORTER * far)
    swap &= ~_joint(mates, fixed.astype(np.float64)).astype(np.bool_)
    swap &= (~mates | (depth[:, None] == depth[:, :, None])).all(-1)
    if not swap.any():
        return table
    order = np.broadcast_to(np.arange(levels), (n, s, levels)).copy()
    which = np.nonzero(swap)
    order[(*which, inner[which])], order[(*which, outer[which])] = outer[which], inner[which]
    return _reordered(table, order)


def with_inside(table: NestTable, level: npt.NDArray[np.intp]) -> NestTable:
    """The table with each statement's loop ``level[n,S]`` innermost (-1: as it is)."""
    depth = (table.loop_id >= 0).sum(-1)[..., None]
    place = np.arange(table.trip.shape[-1])
    rank = np.where((place == level[..., None]) & (place < depth), depth - 0.5, place)
    return _reordered(table, np.argsort(rank, axis=-1, kind="stable"))


def _mates(table: NestTable, level: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """[n,S,S] whether another statement is in the loop that a statement has at that level."""
    own = _at(table.loop_id, level)
    others = np.take_along_axis(table.loop_id[:, None], level[:, :, None, None], axis=-1)[..., 0]
    return np.asarray((others == own[:, :, None]) & (own[:, :, None] >= 0))


def _joint(mates: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[n,S] sums of ``values[n,S]`` over the statements in the same loop."""
    total: npt.NDArray[Any] = np.einsum("nst,nt->ns", mates.astype(np.float64), values)
    return total


def _at(field: npt.NDArray[Any], level: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """``field[n,S,L]`` at one level of each statement."""
    found: npt.NDArray[Any] = np.take_along_axis(field, level[..., None], axis=-1)[..., 0]
    return found
