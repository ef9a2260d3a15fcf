"""The features of programs: what an encoder reads instead of loops.

``features`` is batch numpy over a NestTable. Every statement gets the columns of ``locality`` and
``execution``; a program gets their mean weighted by work, those of its heaviest statement, the
largest of some, and columns of its own. Everything is a logarithm, a share or a flag, bounded by
``BOUND``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from agent.arrays import Doubles, Indices, Singles
from agent.loopnest.emitter.staggered import is_staggered
from agent.loopnest.features import compilers, execution, locality, simd
from agent.loopnest.features.nest import STATEMENTS, NestTable, lower
from agent.loopnest.features.rows import StatementRows, flatten
from agent.loopnest.program import Loop, Program, loops

FEATURES_VERSION = 2
BOUND = 64.0
_CHUNK = 2_048  # programs at a time: the working arrays stay in the second-level cache
_HEAVIEST = (
    "traffic_32k", "traffic_256k", "traffic_1m", "traffic_16m", "page_walks_64", "page_walks_1536",
    "bytes_inner_1", "bytes_inner_2", "bytes_inner_3", "bytes_nest", "loads_unit_0", "loads_far_0",
    "loads_page_0", "loads_power_0", "stores_unit_0", "stores_far_0", "stores_page_0",
    "stores_none_0", "set_excess_l1_1", "set_excess_l1_2", "set_excess_l2_2", "trip_0", "trip_1",
    "trip_2", "trip_outermost", "depth", "instances", "unroll", "jam", "reduction_0",
    "recurrence_0", "ops_total", "accesses_left", "lane_bytes", "simd_forced", "simd_auto",
    "simd_forced_strided", "simd_outer", "simd_outer_2", "peeled",
    "shorter_strides_1", "scalar_sum", "gathers", "cycles_16", "cycles_32", "cycles_64",
    "latency_sum", "latency_carried", "registers", "parallel", "parallel_trip", "parallel_forks",
    "parallel_work", "parallel_uneven", "fork_share", "false_sharing", "gcc_peels", "gcc_inner",
    "gcc_outer", "gcc_interchange", "clang_inner", "library_calls", "permuted_forced",
    "permuted_gcc", "cycles_gcc", "cycles_clang",
)  # fmt: skip
_LARGEST = (
    "traffic_32k", "traffic_1m", "traffic_16m", "page_walks_64", "bytes_inner_2", "bytes_nest",
    "set_excess_l1_1", "set_excess_l1_2", "set_excess_l2_2", "set_excess_l3_3", "gathers",
    "scatters", "cycles_32", "latency_sum", "latency_carried", "parallel_forks", "fork_share",
    "parallel_uneven", "false_sharing", "scalar_sum", "recurrence_0", "simd_forced_strided",
    "library_calls", "permuted_forced", "permuted_gcc", "cycles_gcc", "cycles_clang",
)  # fmt: skip
_PROGRAM = (
    "log_instances", "log_work", "statements", "heaviest_share", "bytes_touched", "fused_depth",
    "fused_whole", "fused_arrays", "fused_reuse_bytes",
)  # fmt: skip


def row_columns(rows: StatementRows) -> locality.Columns:
    """Every column of a statement, [R] each, in a fixed order."""
    feet = locality.footprints(rows)
    columns = locality.traffic_columns(rows, feet)
    columns |= locality.working_set_columns(rows, feet)
    columns |= locality.stride_columns(rows)
    columns |= locality.set_columns(rows, feet)
    columns |= execution.loop_columns(rows)
    columns |= execution.operation_columns(rows, columns)
    columns |= simd.vector_columns(rows)
    columns |= execution.parallel_columns(rows, columns, feet)
    columns |= compilers.compiler_columns(rows)
    return columns


COLUMNS: tuple[str, ...] = tuple(row_columns(flatten(lower(()))))
FEATURES: tuple[str, ...] = (
    *COLUMNS,
    *(f"heaviest_{name}" for name in _HEAVIEST),
    *(f"largest_{name}" for name in _LARGEST),
    *_PROGRAM,
)
_HEAVIEST_AT = np.array([COLUMNS.index(name) for name in _HEAVIEST])
_LARGEST_AT = np.array([COLUMNS.index(name) for name in _LARGEST])


MARKS: Mapping[str, Callable[[Loop], bool]] = {
    "lanes": lambda loop: loop.lanes > 1,
    "packs": lambda loop: bool(loop.packs),
    "private": lambda loop: bool(loop.private),
    "cyclic": lambda loop: bool(loop.cyclic),
    "collapse": lambda loop: loop.collapse,
    "stream": lambda loop: bool(loop.stream),
    "staggered": lambda loop: loop.jam > 1 and is_staggered(loop),
}


def features(table: NestTable) -> Singles:
    """[n, len(FEATURES)] features, finite and within ``BOUND``, each program on its own."""
    n = len(table)
    out = np.zeros((n, len(FEATURES)), np.float32)
    for start in range(0, n, _CHUNK):
        part = table.take(slice(start, start + _CHUNK))
        out[start : start + _CHUNK] = _chunk(part)
    return out


def marks_of(program: Program) -> frozenset[str]:
    """Those of ``MARKS`` that its loops have: features only come near to such a program."""
    return frozenset(
        name for _, loop in loops(program.body) for name, there in MARKS.items() if there(loop)
    )


def is_guess(program: Program, taught: frozenset[str] = frozenset()) -> bool:
    """Whether a program has marks that a bundle was not ``taught``: it saw no label of such."""
    return bool(marks_of(program) - taught)


def work(table: NestTable) -> Doubles:
    """[n] log of the operations and accesses of one run: the same for all schedules."""
    return np.asarray(np.log(_total_work(table)), np.float64)


def _total_work(table: NestTable) -> Doubles:
    each = 1.0 + table.ops.sum(axis=2) + table.weight.sum(axis=2)
    kept = (table.instances * each).sum(axis=1)
    # Statements beyond the table weigh as much as the average of those in it.
    beyond = table.total_instances / np.maximum(table.instances.sum(axis=1), 1.0)
    return np.asarray(np.maximum(kept * np.maximum(beyond, 1.0), 1.0), np.float64)


def _chunk(table: NestTable) -> Singles:
    n = len(table)
    out = np.zeros((len(FEATURES), n), np.float32)
    rows = flatten(table)
    if len(rows.program):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            columns = np.stack(list(row_columns(rows).values()))
        np.fmax(columns, -BOUND, out=columns)  # unlike maximum, drops what is not a number
        np.fmin(columns, BOUND, out=columns)
        _aggregate(rows, columns, out)
    _program_columns(table, rows, out[-len(_PROGRAM) :])
    return np.clip(out, -BOUND, BOUND).T


def _aggregate(rows: StatementRows, columns: Singles, out: Singles) -> None:
    """Write the means, the heaviest statements' and the largest into ``out`` [F,n]."""
    c, h = len(COLUMNS), len(_HEAVIEST)
    single = len(rows.program) == out.shape[1] and bool((np.diff(rows.program) == 1).all())
    if single:
        out[:c] = columns
        out[c : c + h] = columns[_HEAVIEST_AT]
        out[c + h : c + h + len(_LARGEST)] = columns[_LARGEST_AT]
        return
    starts = np.flatnonzero(np.diff(rows.program, prepend=-1))
    present = rows.program[starts]
    out[:c, present] = np.add.reduceat(columns * rows.share, starts, axis=1)
    order = np.lexsort((-rows.share, rows.program))
    out[c : c + h, present] = columns[_HEAVIEST_AT[:, None], order[starts]]
    largest = np.maximum.reduceat(columns[_LARGEST_AT], starts, axis=1)
    out[c + h : c + h + len(_LARGEST), present] = largest


def _program_columns(table: NestTable, rows: StatementRows, out: Singles) -> None:
    """Totals, and what neighbouring statements share."""
    out[0] = np.log2(np.maximum(table.total_instances, 1.0))
    out[1] = np.log2(_total_work(table))
    out[2] = np.log2(table.statements + 1.0)
    out[3] = table.share.max(axis=1)
    if not len(rows.program):
        return
    touched = rows.total(np.minimum(rows.array_bytes, 1e15))
    out[4] = np.log2(np.bincount(rows.program, touched, len(table)) + 1.0)
    several = np.flatnonzero(table.share[:, 1] > 0)
    if len(several):
        out[5:9, several] = _sharing(table, several)


def _sharing(table: NestTable, programs: Indices) -> Singles:
    """[4,len(programs)] mean over neighbouring statements of what they share."""
    ids, arrays, trips = table.loop_id[programs], table.array[programs], table.trip[programs, 1:]
    there = (table.share[programs, 1:] > 0).astype(np.float32)
    common = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)
    depth = common.sum(axis=2)
    deepest = (ids >= 0).sum(axis=2)
    whole = (depth == deepest[:, 1:]) & (depth == deepest[:, :-1]) & (depth > 0)
    alike = np.zeros(there.shape, np.float32)
    for s in range(STATEMENTS - 1):
        one, two = arrays[:, s, :, None], arrays[:, s + 1, None, :]
        alike[:, s] = ((one == two) & (one >= 0)).any(axis=2).sum(axis=1)
    inside = np.where(np.arange(ids.shape[2]) >= depth[:, :, None], trips, 1.0)
    between = np.log2(np.maximum(inside.prod(axis=2), 1.0) * 8.0)
    pairs = np.maximum(there.sum(axis=1), 1.0)
    parts = (depth, whole, np.minimum(alike, 4.0), np.where(alike > 0, between, 0.0))
    return np.stack([(x * there).sum(axis=1) / pairs for x in parts]).astype(np.float32)
