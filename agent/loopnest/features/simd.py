"""What runs in SIMD lanes, and the cycles that a core needs for it.

At -O3 without -ffast-math an innermost loop with contiguous accesses and no carried value is
vectorised by itself; sums of floats keep their order unless ``omp simd`` allows otherwise. What
only one compiler does is in ``compilers``; here are hints at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.arrays import Bools, Singles
from agent.loopnest.features import cycles
from agent.loopnest.features.compilers import GCC_TRIPS
from agent.loopnest.features.execution import MOST_PRODUCT, access_counts, as_flag
from agent.loopnest.features.locality import Columns, log_of
from agent.loopnest.features.rows import StatementRows


@dataclass(frozen=True)
class _Lanes:
    """How the innermost loop of each statement runs, all [R].

    ``forced`` into lanes by a mark; ``possible`` there without one; ``gathers`` and ``scatters``:
    accesses that are not contiguous along it.
    """

    forced: Bools
    possible: Bools
    gathers: Singles
    scatters: Singles

    @property
    def packed(self) -> Bools:
        return np.asarray((self.gathers + self.scatters) == 0)

    @property
    def auto(self) -> Bools:
        """Vectorised by the compiler's own choice."""
        return ~self.forced & self.possible & self.packed


def vector_columns(rows: StatementRows) -> Columns:
    """What runs in SIMD lanes, by itself or forced, and a rough cost per instance of each."""
    strided = (np.abs(rows.stride[0]) > rows.element).astype(np.float32)
    backwards = as_flag(rows.stride[0] < 0) * rows.group
    gathers, scatters, back = rows.total(
        np.stack([strided * rows.loads, strided * rows.stores, backwards])
    )
    possible = ~cycles.is_sum(rows) & ~rows.recurrence[0] & ~cycles.calls(rows) & (rows.depth > 0)
    lanes = _Lanes(rows.vector[0], possible, gathers, scatters)
    out = _mark_columns(rows, lanes) | _outer_columns(rows, lanes) | _scalar_columns(rows, lanes)
    out |= {
        "gathers": np.log2(gathers + 1.0),
        "scatters": scatters,
        "gathers_forced": np.log2(gathers + 1.0) * lanes.forced,
        "scatters_forced": scatters * lanes.forced,
        "backwards": np.log2(back + 1.0),
    }
    simd = lanes.forced | lanes.auto
    return out | _cycle_columns(rows, lanes, simd) | _wait_columns(rows, simd)


def _mark_columns(rows: StatementRows, lanes: _Lanes) -> Columns:
    forced, auto, packed = lanes.forced, lanes.auto, lanes.packed
    return {
        "simd_forced": as_flag(forced),
        "simd_auto": as_flag(auto),
        "simd_auto_strided": as_flag(~forced & lanes.possible & ~packed),
        "simd_forced_strided": as_flag(forced & ~packed),
        "simd_forced_sum": as_flag(forced & rows.reduction[0]),
        "simd_forced_carried": as_flag(forced & rows.recurrence[0]),
    }


def _outer_columns(rows: StatementRows, lanes: _Lanes) -> Columns:
    """Lanes along loops further out, complete unrolling and interchange."""
    scalar = ~lanes.forced & ~lanes.auto & ~cycles.calls(rows)
    both = rows.trip[0] * rows.trip[1]
    return {
        "simd_outer_contiguous": as_flag(_contiguous_along(rows, 1) & ~lanes.packed),
        "simd_outer": as_flag(scalar & _lanes_along(rows, 1)),
        "simd_outer_2": as_flag(scalar & _lanes_along(rows, 2)),
        "peeled": as_flag(~lanes.forced & (rows.trip[0] <= GCC_TRIPS)),
        "peeled_2": as_flag(~lanes.forced & (both <= GCC_TRIPS)),
        "shorter_strides_1": _strides_saved(rows, 1),
        "shorter_strides_2": _strides_saved(rows, 2),
    }


def _scalar_columns(rows: StatementRows, lanes: _Lanes) -> Columns:
    return {
        "scalar_sum": as_flag(~lanes.forced & cycles.is_sum(rows)),
        "scalar_call": as_flag(~lanes.forced & cycles.calls(rows)),
        "integer_sum": as_flag(rows.reduction[0] & ~rows.float_target),
    }


def _contiguous_along(rows: StatementRows, level: int) -> Bools:
    """Whether every access is contiguous or fixed along the loop ``level``."""
    off = (np.abs(rows.stride[level]) > rows.element).astype(np.float32)
    return np.asarray(rows.total(off) == 0)


def _lanes_along(rows: StatementRows, level: int) -> Bools:
    """Whether the iterations of a loop further out could run in SIMD lanes as they stand."""
    free = ~rows.reduction[level] & ~rows.recurrence[level] & ~rows.parallel[level]
    return np.asarray(_contiguous_along(rows, level) & free & (rows.depth > level))


def _strides_saved(rows: StatementRows, level: int) -> Singles:
    """log2 of the bytes the innermost loop strides over those it would after an interchange."""
    here, there = cycles.strides(rows, level)
    saved = np.log2((here + 1.0) / (there + 1.0))
    free = ~rows.vector[0] & ~rows.recurrence[0] & ~rows.recurrence[level]
    return np.where(free & (rows.depth > level), saved, 0.0).astype(np.float32)


def _cycle_columns(rows: StatementRows, lanes: _Lanes, simd: Bools) -> Columns:
    """log2 of rough cycles per instance in the core for three vector widths."""
    out: Columns = {}
    loads, stores, still_loads, still_stores = access_counts(rows)
    packed = cycles.LOAD * np.maximum(loads - still_loads - lanes.gathers, 0.0)
    packed = packed + np.maximum(stores - still_stores - lanes.scatters, 0.0)
    packed = packed + cycles.THROUGHPUT @ rows.ops + 1.0 / rows.unroll[0]
    scattered = cycles.GATHERED * lanes.gathers + cycles.SCATTERED * lanes.scatters
    trip = rows.trip[0]
    again = cycles.HOISTED * (still_loads + still_stores + 2.0) / np.maximum(trip, 1.0)
    for width in cycles.VECTOR_BYTES:
        filled = cycles.lanes(rows, simd, width)
        steps = np.floor(trip / filled)
        speed = np.minimum((steps + trip - steps * filled) / trip, 1.0)
        cost = packed * speed + scattered + again
        out[f"cycles_{width}"] = log_of(cost.astype(np.float32), 2.0**-6)
        out[f"lanes_filled_{width}"] = log_of(speed.astype(np.float32), 2.0**-8)
    return out


def _wait_columns(rows: StatementRows, simd: Bools) -> Columns:
    """Bounds by the latency of sums and of carried values, and registers needed."""
    loads, _, still_loads, still_stores = access_counts(rows)
    chain = (cycles.LATENCY @ rows.ops).astype(np.float32)
    jam = np.minimum(rows.jam.prod(axis=0), cycles.MOST_COPIES)
    sums = np.where(rows.float_target, cycles.FLOAT_SUM, cycles.INTEGER_SUM)
    add = np.where(rows.reduction[0], sums, 0.0)
    each = add / cycles.lanes(rows, simd, cycles.USUAL_VECTOR) / jam
    live = jam * (still_stores + still_loads)
    live = live + rows.unroll[0] * np.minimum(loads, cycles.LOADS_HELD)
    return {
        "latency_sum": log_of(each.astype(np.float32), 2.0**-6),
        "latency_carried": log_of(np.where(rows.recurrence[0], chain, 0.0), 2.0**-6),
        "registers": np.log2(np.minimum(live, MOST_PRODUCT) + 1.0),
        "spills": as_flag(live > cycles.REGISTERS),
    }
