"""What a core makes of a nest: loops, operations, threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Ints, Singles
from agent.loopnest.features.cycles import FORK
from agent.loopnest.features.locality import LINE, Columns, Footprints, log_of
from agent.loopnest.features.rows import StatementRows
from agent.loopnest.features.summary import OPS

THREADS = (2, 4, 8, 16, 64)
USUAL_THREADS = 16.0  # where one number has to do
MOST_PRODUCT = 1e30  # of factors: finite as float32


def loop_columns(rows: StatementRows) -> Columns:
    """Trip counts, loop overhead, unrolling and jamming, sums and carried values."""
    return _trip_columns(rows) | _copy_columns(rows) | _carry_columns(rows)


def _trip_columns(rows: StatementRows) -> Columns:
    trip = np.log2(rows.trip)
    last = np.maximum(rows.depth - 1, 0)
    columns: Columns = {f"trip_{k}": _level(trip, k) for k in range(5)}
    columns["trip_outermost"] = trip[last, np.arange(len(rows.depth))]
    columns["depth"] = rows.depth.astype(np.float32)
    for limit in (4, 9, 17, 33):
        columns[f"trip_0_below_{limit}"] = as_flag(rows.trip[0] < limit)
    run = np.zeros_like(trip[0])
    for k in range(1, 4):
        run = run + trip[k - 1]
        entered = np.where(k < rows.depth, np.exp2(-np.minimum(run, 60.0)), 0.0)
        columns[f"entries_of_inner_{k}"] = log_of(entered.astype(np.float32), 2.0**-16)
    columns["instances"] = np.log2(rows.instances).astype(np.float32)
    return columns


def _copy_columns(rows: StatementRows) -> Columns:
    unroll = np.log2(rows.unroll[0])
    jam = np.log2(np.minimum(rows.jam.prod(axis=0), MOST_PRODUCT))
    remainder = np.where(rows.unroll[0] > 1, np.mod(rows.trip[0], rows.unroll[0]), 0.0)
    return {
        "unroll": unroll,
        "jam": jam,
        "jam_1": np.log2(_level(rows.jam, 1, 1.0)),
        "copies": jam + unroll,
        "unroll_remainder": (remainder / np.maximum(rows.trip[0], 1.0)).astype(np.float32),
    }


def _carry_columns(rows: StatementRows) -> Columns:
    columns: Columns = {}
    for name, marks in (("reduction", rows.reduction), ("recurrence", rows.recurrence)):
        for k in range(3):
            columns[f"{name}_{k}"] = as_flag(marks[k])
    columns["reduction_outer"] = as_flag(rows.reduction[1:].any(axis=0))
    columns["recurrence_outer"] = as_flag(rows.recurrence[1:].any(axis=0))
    return columns


def _level(values: Singles, k: int, pad: float = 0.0) -> Singles:
    return values[k] if k < len(values) else np.full(values.shape[1], pad, np.float32)


def as_flag(mask: npt.ArrayLike) -> Singles:
    """1 where something holds, else 0."""
    return np.asarray(mask, np.float32)


def operation_columns(rows: StatementRows, columns: Columns) -> Columns:
    """Operations by kind, accesses left after hoisting, and operations per byte moved."""
    out: Columns = {f"ops_{name}": np.log2(rows.ops[k] + 1.0) for k, name in enumerate(OPS)}
    total = rows.ops.sum(axis=0)
    out["ops_total"] = np.log2(total + 1.0)
    out["float_bytes"] = np.log2(rows.float_bytes + 1.0)
    out["lane_bytes"] = np.log2(np.maximum(rows.lane_bytes, 1.0))
    out["float_target"] = as_flag(rows.float_target)
    loads, stores, still_loads, still_stores = access_counts(rows)
    out["loads"], out["stores"] = np.log2(loads + 1.0), stores
    out["groups"] = np.log2(rows.total(np.ones_like(rows.loads)) + 1.0)
    out["hoisted_loads"] = np.divide(still_loads, np.maximum(loads, 1.0), dtype=np.float32)
    out["hoisted_store"] = still_stores
    out["accesses_left"] = np.log2(loads - still_loads + stores - still_stores + 1.0)
    for size in ("32k", "1m", "16m"):
        out[f"intensity_{size}"] = np.log2(total + 1.0) - columns[f"traffic_{size}"]
    return out


def access_counts(rows: StatementRows) -> tuple[Singles, Singles, Singles, Singles]:
    """[R] loads, stores, and those of them that the innermost loop does not move."""
    still = (rows.stride[0] == 0).astype(np.float32)
    stacked = np.stack([rows.loads, rows.stores, rows.loads * still, rows.stores * still])
    loads, stores, still_loads, still_stores = rows.total(stacked)
    return loads, stores, still_loads, still_stores


@dataclass(frozen=True)
class _Fork:
    """The parallel loop of each statement, all [R]; of several the outermost, which forks.

    ``there``: whether there is one; ``level``: which loop; ``trip``: its iterations, 1 without
    one; ``forks``: log2 of how often it is entered.
    """

    there: Bools
    level: Ints
    trip: Singles
    forks: Singles

    @staticmethod
    def of(rows: StatementRows) -> _Fork:
        level = rows.levels - 1 - np.argmax(rows.parallel[::-1], axis=0)
        there = np.asarray(rows.parallel.any(axis=0))
        trip = np.where(there, rows.trip[level, np.arange(len(level))], 1.0)
        outside = (np.arange(rows.levels)[:, None] > level) & there
        forks = np.where(outside, np.log2(rows.trip), 0.0).sum(axis=0)
        return _Fork(there, level, trip, forks)


def parallel_columns(rows: StatementRows, columns: Columns, feet: Footprints) -> Columns:
    """How the parallel loop shares the work, how often it forks, and what threads fight about."""
    fork = _Fork.of(rows)
    out = _sharing_columns(rows, fork, columns["cycles_32"] + columns["instances"])
    for threads in THREADS:
        rounds = np.ceil(fork.trip / threads)
        speed = np.log2(np.maximum(fork.trip / np.maximum(rounds, 1e-3), 1.0))
        out[f"speed_{threads}_threads"] = np.where(fork.there, speed, 0.0)
    out |= _contention_columns(rows, fork)
    each = feet.bytes[np.minimum(fork.level, rows.levels), np.arange(len(fork.level))]
    out["parallel_bytes_each"] = np.where(fork.there, np.log2(each + 1.0), 0.0)
    return {name: np.asarray(x, np.float32) for name, x in out.items()}


def _sharing_columns(rows: StatementRows, fork: _Fork, cycles: Singles) -> Columns:
    """``cycles`` [R]: log2 of those of all instances together."""
    there, level, work = fork.there, fork.level, cycles - fork.forks
    everyone = np.arange(len(level))
    trip = np.log2(fork.trip)
    return {
        "parallel": as_flag(there),
        "parallel_trip": trip,
        "parallel_forks": np.where(there, fork.forks, 0.0),
        "parallel_innermost": as_flag(there & (level == 0)),
        "parallel_work": np.where(there, work, 0.0),
        "parallel_work_each": np.where(there, work - trip, 0.0),
        "parallel_uneven": np.where(there, np.log2(rows.imbalance[level, everyone]), 0.0),
        "parallel_sum": as_flag(there & rows.reduction[level, everyone]),
        "fork_share": np.where(there, _fork_share(work), 0.0),
    }


def _contention_columns(rows: StatementRows, fork: _Fork) -> Columns:
    """Stores into lines that threads share: everywhere, or at the ends of their parts only."""
    at = fork.level[rows.row]
    step = np.abs(rows.stride[at, np.arange(len(at))]) * fork.there[rows.row]
    near = (step > 0) & (step * fork.trip[rows.row] / USUAL_THREADS < LINE)
    return {
        "false_sharing": rows.total(as_flag(near) * rows.stores),
        "shared_store_lines": rows.total(as_flag((step > 0) & (step < LINE)) * rows.stores),
    }


def _fork_share(log_cycles: Singles) -> Singles:
    """log2 of (fork and work) over work, for one fork."""
    return np.log2(1.0 + FORK / np.exp2(np.clip(log_cycles, 0.0, 60.0)))
