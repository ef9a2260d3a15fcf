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
    """The table as a compiler leaves it that interchanges the two innermost loops by itself.

    It does so where they are perfectly nested around one statement, carry nothing, nobody marked
    them, and the strides inside become much shorter (gcc's -floop-interchange, part of -O3).
    """
    n, s, levels = table.trip.shape
    depth = (table.loop_id >= 0).sum(-1)  # [n,S]
    inner, outer = np.maximum(depth - 1, 0), np.maximum(depth - 2, 0)
    fixed = table.parallel | table.vector | table.recurrence
    fixed |= (table.unroll > 1) | (table.jam > 1)
    stride = np.abs(np.einsum("nsadl,nsad->nsal", table.coef, table.row_bytes)).sum(2)
    swap = (depth >= 2) & _alone(table, outer) & ~_at(fixed, inner) & ~_at(fixed, outer)
    swap &= _at(stride, inner) > SHORTER * _at(stride, outer)
    order = np.broadcast_to(np.arange(levels), (n, s, levels)).copy()
    which = np.nonzero(swap)
    order[(*which, inner[which])], order[(*which, outer[which])] = outer[which], inner[which]
    return _reordered(table, order)


def _at(field: npt.NDArray[Any], level: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """``field[n,S,L]`` at one level of each statement."""
    found: npt.NDArray[Any] = np.take_along_axis(field, level[..., None], axis=-1)[..., 0]
    return found


def _alone(table: NestTable, level: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """[n,S] whether a statement shares its loop at that level with no other one."""
    own = _at(table.loop_id, level)
    others = np.take_along_axis(table.loop_id[:, None], level[:, :, None, None], axis=-1)[..., 0]
    return np.asarray((others == own[:, :, None]).sum(-1) <= 1)
