"""What the core and the compiler make of a nest: loops, SIMD, latency, registers, threads.

The rules about the compiler are gcc's and clang's at -O3 without -ffast-math: sums of floats
keep their order unless ``omp simd`` allows otherwise, calls of exp and log stay scalar, an
innermost loop with contiguous accesses and no carried value is vectorised by itself. gcc alone
also unrolls inner loops of up to 16 iterations completely, takes the lanes from the loop around a
sum where its accesses are contiguous, and interchanges two loops for shorter strides; nothing of
that happens in a loop that a schedule has marked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Singles
from agent.loopnest.features.locality import Columns, Footprint, log_of
from agent.loopnest.features.rows import Rows
from agent.loopnest.features.summary import OPS

VECTOR_BYTES = (16, 32, 64)
THREADS = (2, 4, 8, 16, 64)
FORK_CYCLES = 5_000.0
PEELED = 16  # iterations of an inner loop that gcc unrolls completely
# Rough cycles per operation, in the order of OPS: throughput, then latency.
THROUGHPUT = np.array([0.5, 0.5, 4.0, 6.0, 20.0, 0.7, 0.4, 1.0, 0.7], np.float32)
LATENCY = np.array([4.0, 4.0, 13.0, 18.0, 40.0, 3.0, 1.0, 4.0, 4.0], np.float32)
_LIMIT = 1e30


def loop_columns(rows: Rows) -> Columns:
    """Trip counts, loop overhead, unrolling and jamming."""
    trip = np.log2(rows.trip)
    last = np.maximum(rows.depth - 1, 0)
    everyone = np.arange(len(rows.depth))
    columns: Columns = {f"trip_{k}": _level(trip, k) for k in range(5)}
    columns["trip_outermost"] = trip[last, everyone]
    columns["depth"] = rows.depth.astype(np.float32)
    for limit in (4, 9, 17, 33):
        columns[f"trip_0_below_{limit}"] = _flag(rows.trip[0] < limit)
    run = np.zeros_like(trip[0])
    for k in range(1, 4):
        run = run + trip[k - 1]
        entered = np.where(k < rows.depth, np.exp2(-np.minimum(run, 60.0)), 0.0)
        columns[f"entries_of_inner_{k}"] = log_of(entered.astype(np.float32), 2.0**-16)
    columns["instances"] = np.log2(rows.instances).astype(np.float32)
    columns["unroll"] = np.log2(rows.unroll[0])
    columns["jam"] = np.log2(np.minimum(rows.jam.prod(axis=0), _LIMIT))
    columns["jam_1"] = np.log2(_level(rows.jam, 1, 1.0))
    columns["copies"] = columns["jam"] + columns["unroll"]
    remainder = np.where(rows.unroll[0] > 1, np.mod(rows.trip[0], rows.unroll[0]), 0.0)
    columns["unroll_remainder"] = (remainder / np.maximum(rows.trip[0], 1.0)).astype(np.float32)
    for name in ("reduction", "recurrence"):
        marks = getattr(rows, name)
        for k in range(3):
            columns[f"{name}_{k}"] = _flag(marks[k])
    columns["reduction_outer"] = _flag(rows.reduction[1:].any(axis=0))
    columns["recurrence_outer"] = _flag(rows.recurrence[1:].any(axis=0))
    return columns


def _level(values: Singles, k: int, pad: float = 0.0) -> Singles:
    return values[k] if k < len(values) else np.full(values.shape[1], pad, np.float32)


def _flag(mask: npt.ArrayLike) -> Singles:
    return np.asarray(mask, np.float32)


def operation_columns(rows: Rows, columns: Columns) -> Columns:
    """Operations by kind, accesses left after hoisting, and operations per byte moved."""
    out: Columns = {f"ops_{name}": np.log2(rows.ops[k] + 1.0) for k, name in enumerate(OPS)}
    total = rows.ops.sum(axis=0)
    out["ops_total"] = np.log2(total + 1.0)
    out["float_bytes"] = np.log2(rows.float_bytes + 1.0)
    out["lane_bytes"] = np.log2(np.maximum(rows.lane_bytes, 1.0))
    out["float_target"] = _flag(rows.float_target)
    loads, stores, still_loads, still_stores = _accesses(rows)
    out["loads"], out["stores"] = np.log2(loads + 1.0), stores
    out["groups"] = np.log2(rows.total(np.ones_like(rows.loads)) + 1.0)
    out["hoisted_loads"] = np.divide(still_loads, np.maximum(loads, 1.0), dtype=np.float32)
    out["hoisted_store"] = still_stores
    out["accesses_left"] = np.log2(loads - still_loads + stores - still_stores + 1.0)
    for size in ("32k", "1m", "16m"):
        out[f"intensity_{size}"] = np.log2(total + 1.0) - columns[f"traffic_{size}"]
    return out


def _accesses(rows: Rows) -> tuple[Singles, Singles, Singles, Singles]:
    """Loads, stores, and those of them that the innermost loop does not move."""
    still = (rows.stride[0] == 0).astype(np.float32)
    stacked = np.stack([rows.loads, rows.stores, rows.loads * still, rows.stores * still])
    loads, stores, still_loads, still_stores = rows.total(stacked)
    return loads, stores, still_loads, still_stores


def vector_columns(rows: Rows) -> Columns:
    """What runs in SIMD lanes, by itself or forced, and a rough cost per instance of each."""
    strided = (np.abs(rows.stride[0]) > rows.element).astype(np.float32)
    gathers, scatters, back = rows.total(
        np.stack(
            [strided * rows.loads, strided * rows.stores, _flag(rows.stride[0] < 0) * rows.group]
        )
    )
    forced = rows.vector[0]
    sums = rows.reduction[0] & rows.float_target
    carried = rows.recurrence[0]
    calls = rows.ops[OPS.index("exp")] > 0
    possible = ~sums & ~carried & ~calls & (rows.depth > 0)
    packed = (gathers + scatters) == 0
    auto = ~forced & possible & packed
    out: Columns = {
        "simd_forced": _flag(forced),
        "simd_auto": _flag(auto),
        "simd_auto_strided": _flag(~forced & possible & ~packed),
        "simd_forced_strided": _flag(forced & ~packed),
        "simd_forced_sum": _flag(forced & rows.reduction[0]),
        "simd_forced_carried": _flag(forced & carried),
        "simd_outer_contiguous": _flag(_contiguous_along(rows, 1) & ~packed),
        "simd_outer": _flag(~forced & ~auto & ~calls & _lanes_along(rows, 1)),
        "simd_outer_2": _flag(~forced & ~auto & ~calls & _lanes_along(rows, 2)),
        "peeled": _flag(~forced & (rows.trip[0] <= PEELED)),
        "peeled_2": _flag(~forced & (rows.trip[0] * rows.trip[1] <= PEELED)),
        "shorter_strides_1": _strides_saved(rows, 1),
        "shorter_strides_2": _strides_saved(rows, 2),
        "scalar_sum": _flag(~forced & sums),
        "scalar_call": _flag(~forced & calls),
        "integer_sum": _flag(rows.reduction[0] & ~rows.float_target),
        "gathers": np.log2(gathers + 1.0),
        "scatters": scatters,
        "gathers_forced": np.log2(gathers + 1.0) * forced,
        "scatters_forced": scatters * forced,
        "backwards": np.log2(back + 1.0),
    }
    return out | _costs(rows, forced | auto, gathers, scatters)


def _contiguous_along(rows: Rows, level: int) -> Bools:
    """Whether every access is contiguous or fixed along the loop ``level``."""
    off = (np.abs(rows.stride[level]) > rows.element).astype(np.float32)
    return np.asarray(rows.total(off) == 0)


def _lanes_along(rows: Rows, level: int) -> Bools:
    """Whether the iterations of a loop further out could run in SIMD lanes as they stand."""
    free = ~rows.reduction[level] & ~rows.recurrence[level] & ~rows.parallel[level]
    return np.asarray(_contiguous_along(rows, level) & free & (rows.depth > level))


def _strides_saved(rows: Rows, level: int) -> Singles:
    """log2 of the bytes the innermost loop strides over those it would after an interchange."""
    strides = np.abs(rows.stride[[0, level]]).astype(np.float32) * rows.group
    here, there = rows.total(strides)
    saved = np.log2((here + 1.0) / (there + 1.0))
    free = ~rows.vector[0] & ~rows.recurrence[0] & ~rows.recurrence[level]
    return np.where(free & (rows.depth > level), saved, 0.0).astype(np.float32)


def _costs(rows: Rows, simd: Bools, gathers: Singles, scatters: Singles) -> Columns:
    """log2 of rough cycles per instance in the core for three vector widths, and latency bounds."""
    out: Columns = {}
    loads, stores, still_loads, still_stores = _accesses(rows)
    arithmetic = THROUGHPUT @ rows.ops
    packed = 0.5 * np.maximum(loads - still_loads - gathers, 0.0)
    packed = packed + np.maximum(stores - still_stores - scatters, 0.0) + arithmetic
    scattered = 0.7 * gathers + 1.5 * scatters
    trip = rows.trip[0]
    loop = 1.0 / rows.unroll[0]
    again = 4.0 * (still_loads + still_stores + 2.0) / np.maximum(trip, 1.0)  # per loop entry
    for width in VECTOR_BYTES:
        lanes = np.where(simd, np.maximum(width / rows.lane_bytes, 1.0), 1.0)
        steps = np.floor(trip / lanes)
        speed = np.minimum((steps + trip - steps * lanes) / np.maximum(trip, 1e-3), 1.0)
        cost = (packed + loop) * speed + scattered + again
        out[f"cycles_{width}"] = log_of(cost.astype(np.float32), 2.0**-6)
        out[f"lanes_filled_{width}"] = log_of(speed.astype(np.float32), 2.0**-8)
    chain = (LATENCY @ rows.ops).astype(np.float32)
    jam = np.minimum(rows.jam.prod(axis=0), 64.0)
    lanes = np.where(simd, np.maximum(32.0 / rows.lane_bytes, 1.0), 1.0)
    add = np.where(rows.reduction[0], np.where(rows.float_target, 4.0, 1.0), 0.0)
    out["latency_sum"] = log_of((add / lanes / jam).astype(np.float32), 2.0**-6)
    out["latency_carried"] = log_of(np.where(rows.recurrence[0], chain, 0.0), 2.0**-6)
    live = jam * (still_stores + still_loads) + rows.unroll[0] * np.minimum(loads, 4.0)
    out["registers"] = np.log2(np.minimum(live, _LIMIT) + 1.0)
    out["spills"] = _flag(live > 32)
    return out


def parallel_columns(rows: Rows, columns: Columns, feet: Footprint) -> Columns:
    """How the parallel loop shares the work, how often it forks, and what threads fight about."""
    levels = rows.levels
    # The outermost parallel loop is the one that forks.
    level = levels - 1 - np.argmax(rows.parallel[::-1], axis=0)
    any_: Bools = np.asarray(rows.parallel.any(axis=0))
    everyone = np.arange(len(level))
    trip = np.where(any_, rows.trip[level, everyone], 1.0)
    log_trips = np.log2(rows.trip)
    outside = (np.arange(levels)[:, None] > level) & any_
    forks = np.where(outside, log_trips, 0.0).sum(axis=0)
    cycles = columns["cycles_32"] + columns["instances"]
    out: Columns = {
        "parallel": _flag(any_),
        "parallel_trip": np.log2(trip),
        "parallel_forks": np.where(any_, forks, 0.0),
        "parallel_innermost": _flag(any_ & (level == 0)),
        "parallel_work": np.where(any_, cycles - forks, 0.0),
        "parallel_work_each": np.where(any_, cycles - forks - np.log2(trip), 0.0),
        "parallel_uneven": np.where(any_, np.log2(rows.imbalance[level, everyone]), 0.0),
        "parallel_sum": _flag(any_ & rows.reduction[level, everyone]),
        "fork_share": np.where(any_, _fork_share(cycles - forks), 0.0),
    }
    for threads in THREADS:
        rounds = np.ceil(trip / threads)
        speed = np.log2(np.maximum(trip / np.maximum(rounds, 1e-3), 1.0))
        out[f"speed_{threads}_threads"] = np.where(any_, speed, 0.0)
    at = level[rows.row]
    step = np.abs(rows.stride[at, np.arange(len(at))]) * any_[rows.row]
    out["false_sharing"] = rows.total(
        _flag((step > 0) & (step * trip[rows.row] / 16.0 < 64.0)) * rows.stores
    )
    out["shared_store_lines"] = rows.total(_flag((step > 0) & (step < 64)) * rows.stores)
    each = feet.bytes[np.minimum(level, levels), everyone]
    out["parallel_bytes_each"] = np.where(any_, np.log2(each + 1.0), 0.0)
    return {name: np.asarray(x, np.float32) for name, x in out.items()}


def _fork_share(log_cycles: Singles) -> Singles:
    """log2 of (fork and work) over work, for one fork."""
    return np.log2(1.0 + FORK_CYCLES / np.exp2(np.clip(log_cycles, 0.0, 60.0)))
