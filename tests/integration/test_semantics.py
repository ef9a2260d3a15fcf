"""Emitted C means what the program means: compiled with gcc, run, compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import ScheduleError
from agent.loopnest.emit import emit
from agent.loopnest.legality import Dependences, check, transform
from agent.loopnest.program import Program
from agent.loopnest.schedule import Schedule
from tests.interpret import Arrays, interpret, random_arguments
from tests.shared_object import NUMPY_SCALARS, Run, run_all
from tests.strategies import programs, steps

# Relative to the largest element of an array, where the order of a floating-point reduction
# changes: rounding errors of n additions grow like sqrt(n) * epsilon, n is below 10,000 here.
TOLERANCE = {np.dtype(np.float32): 1e-5 * 100, np.dtype(np.float64): 1e-12}


@dataclass(frozen=True)
class Case:
    """A program as written, its transformed versions, and what all of them are run on."""

    program: Program
    schedules: tuple[Schedule, ...]
    versions: tuple[Program, ...]
    exact: tuple[bool, ...]
    arrays: Arrays
    scalars: dict[str, object]

    def runs(self) -> list[Run]:
        values = [NUMPY_SCALARS[s.dtype](self.scalars[s.name]) for s in self.program.scalars]
        return [Run(emit(p), self.arrays, values) for p in (self.program, *self.versions)]


def make_case(program: Program, schedules: list[Schedule], seed: int) -> Case:
    """The legal ones of ``schedules``."""
    dependences = Dependences.of(program)
    kept, versions, exact = [], [], []
    for schedule in schedules:
        try:
            version = transform(program, schedule, dependences)
            emit(version)
        except ScheduleError:
            continue
        kept.append(schedule)
        versions.append(version)
        exact.append(keeps_order(version, dependences))
    arrays, scalars = random_arguments(program, seed)
    return Case(program, tuple(kept), tuple(versions), tuple(exact), arrays, scalars)


def keeps_order(version: Program, dependences: Dependences) -> bool:
    """Whether even updates of reductions run in the order as written."""
    items = tuple(replace(item, reduction=False) for item in dependences.items)
    try:
        check(version, replace(dependences, items=items))
    except ScheduleError:
        return False
    return True


def compare(found: Arrays, wanted: Arrays, *, exact: bool, what: str) -> None:
    for name, want in wanted.items():
        if exact or want.dtype not in TOLERANCE:
            np.testing.assert_array_equal(found[name], want, err_msg=what)
        else:
            bound = TOLERANCE[want.dtype] * float(np.max(np.abs(want), initial=1e-30))
            np.testing.assert_allclose(found[name], want, rtol=0, atol=bound, err_msg=what)


def check_cases(cases: list[Case], flags: tuple[str, ...], *, interpreted: bool) -> None:
    """Compile everything in one go, run it, and compare every version with its program."""
    with TemporaryDirectory() as folder:
        results = iter(run_all([r for c in cases for r in c.runs()], Path(folder), flags))
    for case in cases:
        base = next(results)
        if interpreted:
            wanted = interpret(case.program, case.arrays, case.scalars)
            compare(base, wanted, exact=True, what=emit(case.program))
        for schedule, version, exact in zip(case.schedules, case.versions, case.exact, strict=True):
            what = f"{schedule}\n{emit(case.program)}\n{emit(version)}"
            compare(next(results), base, exact=exact, what=what)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    program = draw(programs())
    dependences = Dependences.of(program)
    schedules = [draw(schedule_for(program, dependences)) for _ in range(3)]
    found = [s for s in schedules if s.steps]
    return make_case(program, found, draw(st.integers(0, 1000)))


@st.composite
def schedule_for(draw: st.DrawFn, program: Program, dependences: Dependences) -> Schedule:
    """Random steps, marks last; those that are not legal are left out."""
    schedule, current = Schedule(), program
    plan = [False] * draw(st.integers(0, 4)) + [True] * draw(st.integers(1, 4))
    for marks in plan:
        longer = Schedule((*schedule.steps, draw(steps(current, marks=marks))))
        try:
            current = transform(program, longer, dependences)
        except ScheduleError:
            continue
        schedule = longer
    return schedule


BATCHES = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))


@BATCHES
@given(st.lists(cases(), min_size=6, max_size=6))
def test_random_programs_keep_their_meaning_under_random_legal_schedules(batch: list[Case]) -> None:
    check_cases(batch, ("-O2", "-ftree-vectorize"), interpreted=True)
