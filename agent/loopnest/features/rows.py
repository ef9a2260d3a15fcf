"""A NestTable without its padding: one row a statement, one entry a group of accesses.

Loops are turned innermost first here, so that level 0 is the innermost loop of every nest, and
arrays lead with the level: every operation downstream runs over long contiguous vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.arrays import Array, Bools, Doubles, Indices, Ints, Shorts, Singles
from agent.loopnest.features.nest import (
    ACCESSES,
    DIMS,
    FIELDS,
    LOOPS,
    STATEMENTS,
    NestTable,
    fields_along,
)

FEWEST_TRIPS = 1e-3  # of a loop, on average: it is divided by


@dataclass(frozen=True)
class StatementRows:
    """R statements with Q groups of accesses under K levels, level 0 innermost.

    Attributes:
        program: [R] which program of the table; share: [R] its part of the program's work.
        depth: [R] number of loops; instances: [R] executions in one run (at least 1).
        trip, unroll, jam, imbalance: [K,R]; parallel, vector, reduction, recurrence: [K,R].
        ops: [O,R]; float_bytes, lane_bytes, float_target: [R].
        row: [Q] the row of each entry, ascending; starts: [R'] first entry of the rows that have
            any, ``filled``: [R] those rows.
        coef: [D][K] of [Q] absolute change of a subscript per step; dimension 0 is the
            contiguous one. stride: [K,Q] bytes per step, signed.
        span, extent, row_bytes: [D,Q]; element: [Q] bytes; array_bytes: [Q].
        loads, stores, group: [Q] accesses of the group; array: [Q].
    """

    program: Indices
    share: Singles
    depth: Ints
    instances: Doubles
    trip: Singles
    unroll: Singles
    jam: Singles
    imbalance: Singles
    parallel: Bools
    vector: Bools
    reduction: Bools
    recurrence: Bools
    ops: Singles
    float_bytes: Singles
    lane_bytes: Singles
    float_target: Bools
    row: Indices
    starts: Indices
    filled: Bools
    coef: Singles
    stride: Ints
    span: Singles
    extent: Singles
    row_bytes: Singles
    element: Singles
    array_bytes: Singles
    loads: Singles
    stores: Singles
    group: Singles
    array: Shorts

    @property
    def levels(self) -> int:
        """Levels looked at: the depth of the deepest nest."""
        return len(self.trip)

    def total(self, entries: Singles) -> Singles:
        """[..., R] sums over the entries [..., Q] of each row."""
        return self._reduce(np.add, entries)

    def most(self, entries: Singles) -> Singles:
        """[..., R] largest over the (non-negative) entries [..., Q] of each row; 0 for none."""
        return self._reduce(np.maximum, entries)

    def _reduce(self, how: np.ufunc, entries: Singles) -> Singles:
        out = np.zeros((*entries.shape[:-1], len(self.depth)), np.float32)
        if len(self.starts):
            reduced = how.reduceat(entries, self.starts, axis=-1)
            if self.filled.all():
                return reduced.astype(np.float32, copy=False)
            out[..., self.filled] = reduced
        return out


def flatten(table: NestTable) -> StatementRows:
    """The rows and entries that exist."""
    at = np.flatnonzero(table.share.reshape(-1) > 0)
    depth = (table.loop_id >= 0).sum(axis=2, dtype=np.int64).reshape(-1)[at]
    levels = max(int(depth.max(initial=0)), 3)
    inner = depth[None, :] - 1 - np.arange(levels)[:, None]
    row, slot = np.nonzero(table.leader.reshape(-1, ACCESSES)[at])
    return StatementRows(
        program=at // STATEMENTS,
        depth=depth,
        instances=np.maximum(table.instances.reshape(-1)[at], 1.0),
        ops=np.ascontiguousarray(table.ops.reshape(-1, table.ops.shape[-1])[at].T),
        share=table.share.reshape(-1)[at].astype(np.float32),
        float_bytes=table.float_bytes.reshape(-1)[at],
        lane_bytes=table.lane_bytes.reshape(-1)[at],
        float_target=table.float_target.reshape(-1)[at],
        row=row,
        starts=np.flatnonzero(np.diff(row, prepend=-1)),
        filled=np.bincount(row, minlength=len(at)) > 0,
        **_by_level(table, at, inner),
        **_by_entry(table, at[row] * ACCESSES + slot, inner[:, row]),
    )


def _by_level(table: NestTable, at: Indices, inner: Ints) -> dict[str, Array]:
    """[K,R] what is known of each loop; ``inner`` [K,R] are their places, negative for none."""
    there = inner >= 0
    place = at[None, :] * LOOPS + np.maximum(inner, 0)
    out: dict[str, Array] = {}
    for name in fields_along("SL"):
        if name != "loop_id":
            values = getattr(table, name).reshape(-1)[place]
            padded = np.where(there, values, FIELDS[name].fill)
            out[name] = padded.astype(np.bool_ if values.dtype == np.bool_ else np.float32)
    out["trip"] = np.maximum(out["trip"], FEWEST_TRIPS)
    return out


def _by_entry(table: NestTable, entry: Indices, inner: Ints) -> dict[str, Array]:
    """What is known of each group of accesses; dimensions lead, the contiguous one first."""
    group = table.group.reshape(-1)[entry]
    stores = table.is_write.reshape(-1)[entry].astype(np.float32)
    row_bytes = table.row_bytes.reshape(-1, DIMS)[entry].T[::-1]
    array_bytes = table.array_bytes.reshape(-1)[entry]
    dims = max(int((row_bytes > 0).any(axis=1).sum()), 1)
    coef, stride = _coefficients(table, entry, inner, row_bytes, dims)
    return {
        "coef": np.abs(coef),
        "stride": stride,
        "span": table.span.reshape(-1, DIMS)[entry].T[::-1][:dims],
        "extent": _extents(row_bytes, array_bytes)[:dims],
        "row_bytes": row_bytes[:dims].astype(np.float32),
        "element": table.element_bytes.reshape(-1)[entry],
        "array_bytes": array_bytes.astype(np.float32),
        "loads": group - stores + table.is_reduction.reshape(-1)[entry],
        "stores": stores,
        "group": group,
        "array": table.array.reshape(-1)[entry],
    }


def _coefficients(
    table: NestTable, entry: Indices, inner: Indices, row_bytes: Doubles, dims: int
) -> tuple[Singles, Ints]:
    """[D,K,Q] change of a subscript and [K,Q] bytes, per step of each level."""
    flat = table.coef.reshape(-1)
    there = inner >= 0
    base = entry * (DIMS * LOOPS) + np.maximum(inner, 0)
    coef = np.zeros((dims, *inner.shape), np.float32)
    stride = np.zeros(inner.shape, np.float64)
    for d in range(dims):
        coef[d] = flat[base + (DIMS - 1 - d) * LOOPS] * there
        stride += coef[d] * row_bytes[d]
    return coef, np.clip(stride, -(2.0**52), 2.0**52).astype(np.int64)


def _extents(row_bytes: Doubles, array_bytes: Doubles) -> Singles:
    """[D,Q] elements along each dimension of the array; 1 where it has no such dimension."""
    outer = np.concatenate([row_bytes[1:], np.zeros((1, row_bytes.shape[1]))])
    outer = np.where(outer > 0, outer, array_bytes)
    extent = outer / np.maximum(row_bytes, 1.0)
    return np.where(row_bytes > 0, np.maximum(extent, 1.0), 1.0).astype(np.float32)
