"""What gcc and clang make of a nest by themselves: complete unrolling, then SIMD, then the cost.

Both unroll short inner loops completely and look at the loop that is innermost afterwards; gcc
(11 to 14, -O3) also takes the lanes from the loop around a sum, interchanges two loops for shorter
strides, and calls the library for every fmin and fmax outside ``omp simd``; clang does none of
that, and neither does any of it to a loop that a schedule has marked. Instructions are guessed
from operations and accesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.arrays import Bools, Ints, Singles
from agent.loopnest.features import cycles
from agent.loopnest.features.locality import Columns, log_of
from agent.loopnest.features.rows import StatementRows
from agent.loopnest.features.summary import Operation

PEELS = 3  # loops unrolled completely, at most
GCC_TRIPS, GCC_SIZE = 16.0, 200.0  # max-completely-peel-times, max-completely-peeled-insns
CLANG_TRIPS, CLANG_SIZE = 64.0, 300.0  # the first chosen, the second -unroll-threshold
FEWEST_TURNS = 4.0  # of a loop whose iterations become lanes
WORTH_SWAPPING = 2.0  # strides inside must shrink so many times; chosen


def compiler_columns(rows: StatementRows) -> Columns:
    """Decisions of each compiler and rough cycles per instance, [R] each."""
    size = rows.ops.sum(axis=0) + rows.total(rows.loads + rows.stores) + 1.0
    forced = rows.vector[0]
    gcc = _after_peeling(rows, _peels(rows, size, GCC_TRIPS, GCC_SIZE))
    clang = _after_peeling(rows, _peels(rows, size, CLANG_TRIPS, CLANG_SIZE))
    library = rows.ops[Operation.MINMAX] * ~forced
    lanes_gcc = (gcc.free & (library == 0)) | gcc.around
    swapped = _interchanged(rows)
    out: Columns = {
        "gcc_peels": gcc.peels.astype(np.float32),
        "gcc_inner": np.asarray(gcc.free & ~forced, np.float32),
        "gcc_outer": np.asarray(gcc.around & ~forced, np.float32),
        "gcc_interchange": np.asarray(swapped, np.float32),
        "clang_peels": clang.peels.astype(np.float32),
        "clang_inner": np.asarray(clang.free & ~forced, np.float32),
        "library_calls": np.log2(library + 1.0),
        "permuted_forced": _permuted(rows, np.zeros_like(gcc.peels), forced),
        "permuted_gcc": _permuted(rows, gcc.peels, lanes_gcc & ~forced),
    }
    for name, view, simd, calls in (
        ("gcc", gcc, forced | lanes_gcc, library),
        ("clang", clang, forced | clang.free, np.zeros_like(library)),
    ):
        arithmetic = cycles.THROUGHPUT @ rows.ops + cycles.LIBRARY_CALL * calls
        out[f"cycles_{name}"] = _cycles(rows, view, simd, arithmetic)
    return out


@dataclass(frozen=True)
class _View:
    """A nest after ``peels`` inner loops were unrolled completely, all [R].

    ``free``: the loop that is innermost then can run in lanes as it stands; ``around``: the loop
    around it can, keeping it as a sum inside; ``scattered``: accesses of an instance that are not
    contiguous along the loop of the lanes; ``still``: those it does not move; ``turns``: of it.
    """

    peels: Ints
    free: Bools
    around: Bools
    scattered: Singles
    still: Singles
    turns: Singles


def _peels(rows: StatementRows, size: Singles, trips: float, most: float) -> Ints:
    """[R] how many inner loops are unrolled completely."""
    going = np.ones(len(rows.depth), np.bool_)
    count = np.zeros(len(rows.depth), np.int64)
    for level in range(min(PEELS, rows.levels - 1)):
        trip = rows.trip[level]
        size = size * trip
        going = going & (trip <= trips) & (np.abs(trip - np.round(trip)) < 1e-3 * trip)
        going &= (size <= most) & (rows.depth > level + 1)
        going &= ~rows.vector[level] & ~rows.parallel[level] & (rows.unroll[level] <= 1)
        count += going
    return count


def _after_peeling(rows: StatementRows, peels: Ints) -> _View:
    everyone = np.arange(len(peels))
    last = rows.levels - 1
    outer = np.minimum(peels + 1, last)
    calls = cycles.calls(rows)
    summing = rows.reduction[peels, everyone] & rows.float_target
    bound = rows.recurrence[peels, everyone]
    off, still = _off(rows, peels)
    off_outer, _ = _off(rows, outer)
    marked = rows.vector[:PEELS].any(axis=0)
    free = ~marked & ~calls & ~summing & ~bound & (off == 0) & (rows.depth > peels)
    around = ~marked & ~calls & ~free & (off_outer == 0) & (rows.depth > peels + 1)
    around &= rows.reduction[peels, everyone] & ~rows.reduction[outer, everyone]
    around &= ~rows.recurrence[outer, everyone] & ~rows.parallel[outer, everyone]
    around &= rows.trip[outer, everyone] >= FEWEST_TURNS
    lanes = np.where(around, outer, peels)
    return _View(peels, free, around, off, still, rows.trip[lanes, everyone])


def _off(rows: StatementRows, level: Ints) -> tuple[Singles, Singles]:
    """[R] accesses strided along a level of their own, and those it does not move."""
    stride = np.abs(rows.stride[level[rows.row], np.arange(len(rows.row))])
    weight = rows.loads + rows.stores
    off = rows.total((stride > rows.element).astype(np.float32) * weight)
    still = rows.total((stride == 0).astype(np.float32) * weight)
    return off, still


def _interchanged(rows: StatementRows) -> Bools:
    """Whether gcc swaps the two innermost loops: strides inside at least halve by it."""
    here, there = cycles.strides(rows, 1)
    free = ~rows.parallel[0] & ~rows.parallel[1] & ~rows.recurrence[0] & ~rows.recurrence[1]
    free &= ~(rows.vector[0] & rows.reduction[0]) & (rows.depth > 1)
    return np.asarray(free & (here > WORTH_SWAPPING * there))


def _permuted(rows: StatementRows, level: Ints, simd: Bools) -> Singles:
    """log2 of the stride, in lanes, of groups that vector code loads whole and permutes.

    gcc does so where several elements of a group are a power of two apart.
    """
    stride = np.abs(rows.stride[level[rows.row], np.arange(len(rows.row))])
    elements = np.maximum(stride / np.maximum(rows.element, 1.0), 1.0)
    power = np.abs(np.log2(elements) - np.round(np.log2(elements))) < 1e-6
    several = (rows.group > 1) | (rows.jam.prod(axis=0)[rows.row] > 1)
    cost = np.where(power & several & (elements > 1), np.log2(elements), 0.0)
    return rows.most(cost.astype(np.float32)) * simd


def _cycles(rows: StatementRows, view: _View, simd: Bools, arithmetic: Singles) -> Singles:
    """log2 of rough cycles of an instance, its operations in lanes where the compiler finds any."""
    moves = cycles.LOAD * np.maximum(rows.total(rows.loads + rows.stores) - view.still, 0.0)
    lanes = cycles.lanes(rows, simd, cycles.USUAL_VECTOR)
    steps = np.floor(view.turns / lanes)
    left = view.turns - steps * lanes
    part = np.minimum((steps + left) / np.maximum(view.turns, 1e-3), 1.0)
    chain = np.where(~simd & cycles.is_sum(rows), cycles.FLOAT_SUM, 0.0)
    cost = np.maximum((arithmetic + moves) * part, chain)
    cost = cost + cycles.GATHERED * view.scattered * simd
    return log_of((cost + 1.0 / rows.unroll[0] * part).astype(np.float32), 2.0**-6)
