"""What is known of a machine and its compiler without timing anything, as numbers for the prior.

Log sizes and flags, never a name: a bundle learns at the centre how each of them moves a machine's
head (``Prior.facts_shift``) and a site that knows its own starts nearer to the truth.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from agent.arrays import Doubles

FACTS: tuple[str, ...] = ("simd", "threads", "l1", "l2", "l3", "gcc", "clang", "o3")
HIGH_LEVELS = ("-O3", "-Ofast", "-O4")  # as compilers read them


def facts_of(
    simd_bytes: float,
    threads: float,
    caches: Mapping[int, float],
    compiler: str,
    flags: Sequence[str],
) -> Doubles:
    """The facts of a machine and toolchain, in the order of ``FACTS``.

    Args:
        simd_bytes: widest vectors that the compiled code may use.
        threads: that parallel loops use.
        caches: bytes of each level; 0 (as for every size), or left out: none, or not known.
        compiler: family: ``gcc``, ``clang`` or another word; empty: not known, and then ``flags``
            say nothing.
        flags: of every compilation; the last ``-O`` counts.

    Returns:
        [f] logs base 2 of bytes and threads, 0 or 1 for flags; nan where a fact is not known.
    """
    sizes = [_log(size) for size in (simd_bytes, threads, *(caches.get(n, 0) for n in (1, 2, 3)))]
    known = (compiler == "gcc", compiler == "clang", optimises_hard(flags))
    return np.array([*sizes, *(float(flag) if compiler else math.nan for flag in known)])


def optimises_hard(flags: Sequence[str]) -> bool:
    """Whether the last ``-O`` of a compilation's flags asks for all a compiler can do."""
    levels = [flag for flag in flags if flag.startswith("-O")]
    return bool(levels) and levels[-1] in HIGH_LEVELS


def unknown() -> Doubles:
    """[f] facts of a machine nothing is known of."""
    return np.full(len(FACTS), math.nan)


def _log(size: float) -> float:
    return math.log2(size) if size > 0 else math.nan
