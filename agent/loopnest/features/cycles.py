"""Rough cycles of a core and limits of compilers: the constants that columns are made of.

None has to be right for a machine: an encoder learns what becomes of the columns. All are chosen,
as rough figures of an x86 core with AVX2 or AVX-512; no source was noted when they were written.
"""

from __future__ import annotations

import numpy as np

from agent.arrays import Bools, Singles
from agent.loopnest.features.rows import StatementRows
from agent.loopnest.features.summary import Operation

_CYCLES = {  # of an operation: throughput, latency
    Operation.ADD: (0.5, 4.0),
    Operation.MUL: (0.5, 4.0),
    Operation.DIV: (4.0, 13.0),
    Operation.SQRT: (6.0, 18.0),
    Operation.EXP: (20.0, 40.0),  # a call of the C library
    Operation.COMPARE: (0.7, 3.0),
    Operation.INTEGER: (0.4, 1.0),
    Operation.CONVERT: (1.0, 4.0),
    Operation.MINMAX: (0.7, 4.0),
}
THROUGHPUT, LATENCY = np.array([_CYCLES[op] for op in Operation], np.float32).T.copy()
FLOAT_SUM, INTEGER_SUM = 4.0, 1.0  # latency of the addition that a sum waits for
LOAD = 0.5  # two a cycle
GATHERED, SCATTERED = 0.7, 1.5  # one element in a lane: above a load and a store
HOISTED = 4.0  # an access in front of a loop or behind it
LIBRARY_CALL = 6.0  # of fmin or fmax
FORK = 5_000.0  # starting and joining threads
REGISTERS = 32  # for vectors, as AVX-512 has
LOADS_HELD = 4.0  # of a copy of an unrolled body, in registers at once
MOST_COPIES = 64.0  # that hide latency

VECTOR_BYTES = (16, 32, 64)
USUAL_VECTOR = 32.0  # bytes, as AVX2 has


def lanes(rows: StatementRows, simd: Bools, width: float) -> Singles:
    """[R] elements of a vector of ``width`` bytes where a statement runs in lanes, else 1."""
    return np.where(simd, np.maximum(width / rows.lane_bytes, 1.0), 1.0).astype(np.float32)


def is_sum(rows: StatementRows, level: int = 0) -> Bools:
    """[R] whether the loop adds up floats, whose order -O3 without -ffast-math keeps."""
    return np.asarray(rows.reduction[level] & rows.float_target)


def calls(rows: StatementRows) -> Bools:
    """[R] whether exp or log is called, which stay scalar."""
    return np.asarray(rows.ops[Operation.EXP] > 0)


def strides(rows: StatementRows, level: int) -> tuple[Singles, Singles]:
    """[R] bytes that accesses move together per step of the innermost loop, and of another."""
    here, there = rows.total(np.abs(rows.stride[[0, level]]).astype(np.float32) * rows.group)
    return here, there
