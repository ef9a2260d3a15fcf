"""Random programs: realistic loop nests, never degenerate, the same for the same seed.

A program is drawn in two steps: a family (``families``) sketches the loops and accesses,
``finishing.finish`` gives the arrays the shapes that hold them. What could be deleted by a
compiler, does too little or too much work, or needs too much memory is drawn again: such programs
poison labels (findings.md 1.4).
"""

from __future__ import annotations

import random

from agent.loopnest.program import DType, Program, loops
from bundles.corpus.finishing import deletable_work, finish, statement_runs
from bundles.corpus.mixture import FAMILIES
from bundles.corpus.sketch import Sketch

MIN_WORK, MAX_WORK = 12_000.0, 3e7  # statement instances: about 10 us to 50 ms in one thread
MAX_BYTES = 256 * 1024 * 1024
MAX_DEPTH = 6  # a time loop around five others
DTYPES = (
    (DType.F32, 0.36), (DType.F64, 0.34), (DType.I32, 0.12), (DType.U8, 0.06), (DType.I16, 0.05),
    (DType.U32, 0.04), (DType.I64, 0.02), (DType.U16, 0.01),
)  # fmt: skip
ATTEMPTS = 1_000


def fault(program: Program) -> str:
    """Why a program is unfit for the corpus, or an empty text."""
    if program.bytes > MAX_BYTES:
        return "needs too much memory"
    if not MIN_WORK <= statement_runs(program) <= 2 * MAX_WORK:
        return "does too little or too much work"
    if max(len(around) + 1 for around, _ in loops(program.body)) > MAX_DEPTH:
        return "is too deep"
    return deletable_work(program)


def _draw(rng: random.Random) -> Program:
    family, _ = rng.choices(FAMILIES, [weight for _, weight in FAMILIES])[0]
    dtype, _ = rng.choices(DTYPES, [share for _, share in DTYPES])[0]
    work = MIN_WORK * 2 * (MAX_WORK / (MIN_WORK * 2)) ** rng.random()
    sketch = Sketch(rng, dtype, work)
    return finish(sketch, family.__name__, family(sketch))


def random_program(rng: random.Random) -> Program:
    """One program of the corpus; every choice comes from ``rng``.

    Raises:
        RuntimeError: no fit program in 1,000 attempts (a bug in the families).
    """
    for _ in range(ATTEMPTS):
        program = _draw(rng)
        if not fault(program):
            return program
    raise RuntimeError(f"no fit program in {ATTEMPTS} attempts")
