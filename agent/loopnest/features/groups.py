"""What each feature is about: a handful of causes that a prediction is split over.

Every feature is about one of them, that of the heaviest statement or the largest value like the
mean. Rough cycles are with the memory: without marks, which ``agent.advise.causes`` looks at by
themselves, what changes in them are gathers and strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from agent.arrays import Ints
from agent.loopnest.features.vector import FEATURES


class Cause(StrEnum):
    """Why a program is faster or slower than another."""

    MEMORY = "memory"  # traffic by cache, strides, pages
    VECTORIZATION = "vectorization"
    PARALLEL = "parallel"  # work for threads, and its cost
    REGISTERS = "registers"  # reuse in registers, work an instruction
    LOOPS = "loops"  # overhead and trip counts
    COMPILER = "compiler"  # what compilers do by themselves
    REST = "rest"


_NAMES: Mapping[Cause, str] = {  # of features without heaviest_, largest_; x_: that begin so
    Cause.MEMORY: """
        traffic_ written_ page_walks_ bytes_ pages_ inner_ line_use_ set_ loads_ stores_
        intensity_ gathers gathers_ scatters scatters_ backwards shorter_strides_
        simd_auto_strided simd_outer_contiguous cycles_ fused_arrays fused_reuse_bytes
    """,
    Cause.VECTORIZATION: """
        simd_forced simd_forced_ simd_auto simd_outer simd_outer_2 scalar_ lane_bytes lanes_filled_
        latency_sum permuted_ gcc_inner gcc_outer clang_inner reduction_0 recurrence_0
    """,
    Cause.PARALLEL: "parallel parallel_ speed_ fork_share false_sharing shared_store_lines",
    Cause.REGISTERS: """
        jam jam_1 loads stores groups hoisted_ accesses_left registers spills latency_carried
        integer_sum reduction_1 reduction_2 reduction_outer recurrence_1 recurrence_2
        recurrence_outer
    """,
    Cause.LOOPS: """
        trip_ depth entries_of_ instances unroll unroll_remainder copies peeled peeled_2
        log_instances statements fused_depth fused_whole
    """,
    Cause.COMPILER: "gcc_peels gcc_interchange clang_peels library_calls",
    Cause.REST: "ops_ float_ log_work share",
}
CAUSES = tuple(Cause)


def causes_of(feature: str) -> list[Cause]:
    """Every cause whose names fit; exactly one for each of ``FEATURES``."""
    plain = feature.removeprefix("heaviest_").removeprefix("largest_")
    return [c for c, names in _NAMES.items() if any(_fits(plain, n) for n in names.split())]


def _fits(feature: str, name: str) -> bool:
    return feature.startswith(name) if name.endswith("_") else feature == name


GROUPS: Ints = np.array([CAUSES.index(causes_of(name)[0]) for name in FEATURES])
"""[F] the position in ``CAUSES`` of what each feature is about."""
