"""Emitted C means what the program means: compiled with gcc, run, compared.

A campaign sets SEMANTICS_BATCHES (of random programs, six each) and SEMANTICS_STEPS (of a kind, on
a kernel) to more than a test run has time for.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import ScheduleError
from agent.kernels.fixed_set import Kernel, kernels
from agent.loopnest.emitter.emit import emit
from agent.loopnest.lowering.reader import load_program, parse_program
from agent.loopnest.program import Program, loops
from agent.loopnest.schedules.candidates import Draft, candidate_schedules
from agent.loopnest.schedules.legality import Dependences, check_legal, transform
from agent.loopnest.schedules.schedule import (
    Diamond,
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Pack,
    Parallelize,
    Reverse,
    Schedule,
    Shift,
    Skew,
    Step,
    Tile,
    Unroll,
    Vectorize,
    Wrap,
    parse_schedule,
)
from tests.interpret import Arrays, interpret, random_arguments
from tests.shared_object import NUMPY_SCALARS, SANITIZE, Run, run_all
from tests.strategies import programs, steps

# Relative to the largest element of an array, where the order of a floating-point reduction
# changes: rounding errors of n additions grow like sqrt(n) * epsilon, n is below 10,000 here.
TOLERANCE = {np.dtype(np.float32): 1e-5 * 100, np.dtype(np.float64): 1e-12}
BATCHES = int(os.environ.get("SEMANTICS_BATCHES", "6"))
MOST_OF_A_KIND = int(os.environ.get("SEMANTICS_STEPS", "2"))  # steps tried on a kernel


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
        clause = "reduction(" in emit(version)  # OpenMP starts from 0, then adds what there was
        exact.append(keeps_order(version, dependences) and not clause)
    arrays, scalars = random_arguments(program, seed)
    return Case(program, tuple(kept), tuple(versions), tuple(exact), arrays, scalars)


def keeps_order(version: Program, dependences: Dependences) -> bool:
    """Whether even updates of reductions run in the order as written."""
    items = tuple(replace(item, reduction=False) for item in dependences.items)
    try:
        check_legal(version, replace(dependences, items=items))
    except ScheduleError:
        return False
    return True


def compare(found: Arrays, wanted: Arrays, *, exact: bool, what: str) -> None:
    for name, want in wanted.items():
        if exact or want.dtype not in TOLERANCE:
            np.testing.assert_array_equal(found[name], want, err_msg=what)
        else:
            bound = TOLERANCE[want.dtype] * float(np.nanmax(np.abs(want), initial=1e-30))
            np.testing.assert_allclose(found[name], want, rtol=0, atol=bound, err_msg=what)


def check_cases(cases: list[Case], flags: tuple[str, ...], *, interpreted: bool) -> None:
    """Compile everything in one go, run it, and compare every version with its program."""
    with TemporaryDirectory() as folder:
        results = iter(run_all([r for c in cases for r in c.runs()], Path(folder), flags))
    for case in cases:
        found = [next(results) for _ in range(1 + len(case.versions))]
        check_results(case, found)
        if interpreted:
            wanted = interpret(case.program, case.arrays, case.scalars)
            compare(found[0], wanted, exact=True, what=emit(case.program))


def check_results(case: Case, found: list[Arrays]) -> None:
    """Compare every transformed version with the program as written, which comes first."""
    base, *others = found
    for number, result in enumerate(others):
        what = f"{case.schedules[number]}\n{emit(case.program)}\n{emit(case.versions[number])}"
        compare(result, base, exact=case.exact[number], what=what)


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


CAMPAIGN = settings(deadline=None, max_examples=BATCHES, suppress_health_check=list(HealthCheck))


@CAMPAIGN
@given(st.lists(cases(), min_size=6, max_size=6))
def test_random_programs_keep_their_meaning_under_random_legal_schedules(batch: list[Case]) -> None:
    check_cases(batch, ("-O2", "-ftree-vectorize"), interpreted=True)


# The fixed set: every kernel under every kind of step that is legal there


def small_sizes(kernel: Kernel) -> dict[str, int]:
    """Sizes that no tile size divides and that differ from each other."""
    primes = iter((13, 11, 17, 19, 7))
    return {name: n if n <= 8 else next(primes) for name, n in kernel.sizes.items()}


def single_steps(program: Program) -> list[Step]:
    """Every kind of step on every loop or pair of loops, legal or not."""
    names = [loop.iterator for _, loop in loops(program.body)]
    found: list[Step] = []
    for around, loop in loops(program.body):
        name = loop.iterator
        found += [Reverse(name), Distribute(name), Parallelize(name), Vectorize(name)]
        found += [Unroll(name, 2), Unroll(name, 7)]
        found += [Jam(name, 2), Jam(name, 4), Vectorize(name, 8), Vectorize(name, 2)]
        outer = [a.iterator for a in around]
        found += [Interchange(o, name) for o in outer]
        found += [Skew(name, o, f) for o in outer for f in (1, -2)]
        found += [Shift(name, 3), Wrap(name)]
        found += [Diamond(o, f, ((name, 5),)) for o in outer[-1:] for f in (1, 2)]
        for first in range(len(outer)):
            found.append(Tile(tuple((n, 3 + 2 * k) for k, n in enumerate((*outer[first:], name)))))
        found += [Tile(((name, 5),)), Tile(((name, 8),))]  # fit everywhere
    packs: list[Step] = [Pack(a.name, name) for name in names for a in program.arrays]
    packs += [Parallelize(name, (a.name,)) for name in names for a in program.arrays]
    found += [step for step in packs if Draft(program).attempt(step)]
    return found + [Fuse(a, b) for a in names for b in names if a != b]


def kernel_schedules(program: Program, dependences: Dependences) -> list[Schedule]:
    """Steps of every kind alone, and combinations that the agent would rank."""
    kinds: dict[type, list[Step]] = {}
    for step in single_steps(program):
        kinds.setdefault(type(step), []).append(step)
    # From the last: innermost loops can be unrolled, outer ones seldom.
    few = (found[:: -1 - len(found) // MOST_OF_A_KIND] for found in kinds.values())
    single = [Schedule((step,)) for found in few for step in found]
    mixed = [s for s, _ in candidate_schedules(program, 6, seed=3, dependences=dependences)]
    return single + mixed


def as_user_wrote_it(kernel: Kernel, sizes: dict[str, int], program: Program) -> str:
    """The kernel's own C file, called with the arguments of an emitted program."""
    text = kernel.path.read_text()
    declared = re.search(rf"\b{kernel.function}\s*\((.*?)\)\s*\{{", text, re.DOTALL)
    assert declared
    names = [re.findall(r"\w+", p.split("[")[0])[-1] for p in declared[1].split(",")]
    order = [*(a.name for a in program.arrays), *(s.name for s in program.scalars)]
    types = {s.name: s.dtype.value for s in program.scalars}
    values = [
        str(sizes[n]) if n in sizes
        else f"*({types[n]} *)args[{order.index(n)}]" if n in types
        else f"args[{order.index(n)}]"
        for n in names
    ]  # fmt: skip
    call = f"{kernel.function}({', '.join(values)});"
    return f'#include "{kernel.path}"\nvoid loopnest_run(void *const args[]) {{ {call} }}\n'


def distinct_kernels() -> list[Kernel]:
    """One kernel for each C file of the set."""
    return list({k.path: k for k in kernels()}.values())


@pytest.mark.parametrize("kernel", distinct_kernels(), ids=lambda k: k.name)
def test_a_kernel_keeps_its_meaning_under_every_legal_step(kernel: Kernel, tmp_path: Path) -> None:
    sizes = small_sizes(kernel)
    program = load_program(kernel.path, function=kernel.function, sizes=sizes)
    dependences = Dependences.of(program)
    case = make_case(program, kernel_schedules(program, dependences), seed=1)
    own = replace(case.runs()[0], source=as_user_wrote_it(kernel, sizes, program))
    results = run_all([own, *case.runs()], tmp_path, ("-O2", "-ftree-vectorize"))
    compare(results[1], results[0], exact=True, what="as emitted against the user's own C")
    check_results(case, results[1:])
    kinds = {type(step) for schedule in case.schedules for step in schedule.steps}
    assert {Tile, Unroll} <= kinds


# Nests that are no boxes

NESTS = {
    "products_of_columns": (
        "double C[m][m], const double A[n][m]",
        "for (int i = 0; i < m; i++) for (int j = i; j < m; j++) { C[i][j] = 0.0;"
        " for (int k = 0; k < n; k++) C[i][j] += A[k][i] * A[k][j];"
        " C[i][j] /= n - 1.0; C[j][i] = C[i][j]; }",
        (
            "vectorize j 8; jam i 3; parallelize i; cyclic i 2",
            "jam i 4; vectorize k 4",
            "jam i 5; unroll k 2",
            "tile i 12 j 8; pack A[k][j] j_t; vectorize j 4; jam i 3; parallelize i_t",
        ),
    ),
    "update_below_the_diagonal": (
        "double C[n][n], const double A[n][m]",
        "for (int i = 0; i < n; i++) { for (int j = 0; j <= i; j++) C[i][j] *= 0.5;"
        " for (int k = 0; k < m; k++) for (int j = 0; j <= i; j++) C[i][j] += A[i][k] * A[j][k]; }",
        (
            "interchange k j2; vectorize j2 8; jam i 4; parallelize i",
            "distribute i; tile j2 4; jam i 3; vectorize j",
            "distribute i; interchange k j2; tile i2 6 j2 4; parallelize i2_t; jam i2 4",
            "distribute i; interchange k j2; tile j2 8; interchange i2 j2_t; jam i2 4",
            "distribute i; interchange k j2; tile j2 16; interchange i2 j2_t; pack A[j2][k] j2_t;"
            " vectorize j2 4; jam i2 4; parallelize j2_t; cyclic j2_t 1",
            "distribute i; tile k 8 j2 8; interchange i2 k_t; pack A[i2][k] k_t;"
            " pack A[j2][k] j2_t",
        ),
    ),
    "transposed": (
        "float B[m][n], const float A[n][m]",
        "for (int i = 0; i < n; i++) for (int j = 0; j < m; j++) B[j][i] = 2 * A[i][j];",
        (
            "interchange i j; tile j 16 i 16; pack A i_t; vectorize i",
            "interchange i j; tile j 12 i 20; pack A i_t; vectorize i; stream B i; parallelize j_t",
            "interchange i j; vectorize i; stream B i",
            "tile j 8; pack A i; vectorize j",
        ),
    ),
    "transposed_integers": (
        "int B[m][n], const int A[n][m]",
        "for (int i = 0; i < n; i++) for (int j = 0; j < m; j++) B[j][i] = A[i][j];",
        ("interchange i j; tile j 16 i 16; pack A i_t; vectorize i; stream B i",),
    ),
    "symmetric_part": (
        "double C[n][n], const double A[n][n]",
        "for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) C[i][j] = A[i][j] + A[j][i];",
        (
            "tile i 8 j 8; pack A[j][i] j_t; vectorize j; stream C j; parallelize i_t",
            "tile i 9 j 10; pack A[j][i] j_t; pack A[i][j] j_t; vectorize j 4",
            "interchange i j; tile j 8 i 8; collapse j_t i_t; pack A[i][j] i_t; vectorize i",
        ),
    ),
    "streamed_with_own_values": (
        "float x[n], float y[2 * n + 5], const float a[n][m]",
        "for (int i = 0; i < n; i++) for (int j = i; j < i + 6; j++) {"
        " float t = a[i][j % m] * 2.0f; t = t * t; y[i + j] = t; }"
        " for (int k = 1; k < n; k++) { float t = y[k] + 1.0f; x[k] = t * t; }",
        ("vectorize k; stream x k", "tile k 5; vectorize k; stream x k; parallelize k_t"),
    ),
    "two_planes": (
        "double y[2][n][m], const double x[2][n][m]",
        "for (int p = 0; p < 2; p++) for (int i = 1; i < n - 1; i++) for (int j = 0; j < m; j++)"
        " y[p][i][j] = x[p][i - 1][j] + x[p][i + 1][j];",
        (
            "collapse p i; vectorize j",
            "collapse p i; cyclic p 3; vectorize j; stream y j",
            "tile j 8; interchange i j_t; collapse p j_t; pack x[p][i-1][j] j_t; vectorize j;"
            " jam i 2",
        ),
    ),
    "triangular_product": (
        "double B[n][m], const double A[n][n]",
        "for (int i = 0; i < n; i++) for (int j = 0; j < m; j++) {"
        " for (int k = i + 1; k < n; k++) B[i][j] += A[k][i] * B[k][j]; B[i][j] *= 1.5; }",
        (
            "vectorize j 8; jam i 4",
            "tile j 8; interchange i j_t; vectorize j 4; jam i 3; parallelize j_t",
        ),
    ),
    "both_ends_move": (
        "float y[m], const float A[n][m]",
        "for (int i = 0; i < n; i++) for (int j = 2 * i; j < m - i; j++) y[j] += A[i][j];",
        ("jam i 4", "jam i 3; vectorize j 8", "jam i 2; vectorize j", "jam i 6; unroll j 3"),
    ),
    "several_ends_move": (
        "float y[n][m], const float A[n + m][m]",
        "for (int i = 0; i < n; i++) for (int j = 0; j < m; j++)"
        " for (int k = i; k < j; k++) y[i][j] += A[i][k] * A[k][j];",
        ("interchange i j; jam j 3", "interchange j k; vectorize j 8; jam i 4", "jam i 3"),
    ),
    "own_values": (
        "double y[n], const double A[n][m]",
        "for (int i = 0; i < n; i++) { double s = 0.0; for (int j = i; j < m; j++) {"
        " double t = A[i][j] * 2.0; t += A[i][m - 1 - j]; y[i] += t * t; } }",
        ("jam i 3; vectorize j 4", "jam i 4; parallelize i"),
    ),
    "own_values_further_inside": (
        "double y[n][m], const double A[n + m][m]",
        "for (int i = 0; i < n; i++) for (int j = i; j < m; j++) for (int k = i; k < j; k++) {"
        " double t = A[i][k] * 2.0; t += A[k][j]; y[i][j] += t * t; }",
        ("jam i 3", "jam i 2; vectorize k 4"),
    ),
    "swept_in_place": (
        "double A[n][m]",
        "for (int t = 0; t < 9; t++) for (int i = 1; i < n - 1; i++)"
        " for (int j = 1; j < m - 1; j++)"
        " A[i][j] = 0.2 * (A[i - 1][j + 1] + A[i][j - 1] + A[i][j] + A[i + 1][j] + A[i][j + 1]);",
        (
            "skew i t 1; skew j i 1; skew j t 1; tile t 4 i 4 j 8;"
            " skew i_t t_t 1; interchange t_t i_t; parallelize t_t",
            "skew i t 1; skew j i 1; skew j t 1; tile t 2 i 2 j 3; jam i 2",
        ),
    ),
    "swept_with_own_values": (
        "double A[n][m]",
        "for (int t = 0; t < 7; t++) for (int i = 1; i < n - 1; i++)"
        " for (int j = 1; j < m - 1; j++) { double s = A[i - 1][j] + A[i][j - 1];"
        " s += A[i][j + 1] + A[i + 1][j]; A[i][j] = 0.25 * s; }",
        (
            "skew i t 1; skew j t 1; tile t 2 i 2 j 8;"
            " skew i_t t_t 1; interchange t_t i_t; parallelize t_t",
        ),
    ),
    "shortest_paths": (
        "float D[n][n]",
        "for (int k = 0; k < n; k++) for (int i = 0; i < n; i++) for (int j = 0; j < n; j++)"
        " D[i][j] = D[i][j] < D[i][k] + D[k][j] ? D[i][j] : D[i][k] + D[k][j];",
        ("tile i 4 j 4; skew j_t i_t 1; interchange i_t j_t; parallelize i_t",),
    ),
    "two_sweeps": (
        "double A[n][m], double B[n][m]",
        "for (int t = 0; t < 9; t++) {"
        " for (int i = 1; i < n - 1; i++) for (int j = 1; j < m - 1; j++)"
        " B[i][j] = 0.2 * (A[i - 1][j] + A[i][j - 1] + A[i][j] + A[i + 1][j] + A[i][j + 1]);"
        " for (int i = 1; i < n - 1; i++) for (int j = 1; j < m - 1; j++)"
        " A[i][j] = 0.2 * (B[i - 1][j] + B[i][j - 1] + B[i][j] + B[i + 1][j] + B[i][j + 1]); }",
        (
            "shift i2 1; shift j2 1; skew i t 2; skew j t 2; skew i2 t 2; skew j2 t 2;"
            " tile t 4 i 8 j 6; skew i_t t_t 2; interchange t_t i_t; parallelize t_t; vectorize j2",
            "shift i2 1; skew i t 2; skew i2 t 2; tile t 3 i 7; jam i 2; vectorize j2 4",
            "diamond t 2 i 8 i2 1 1; parallelize i_t; vectorize j; vectorize j2",
            "shift j2 1; skew j t 2; skew j2 t 2; diamond t 2 i 6 j 7 i2 1 1; parallelize i_t",
            "diamond t 3 i 5 i2 1 2; interchange i j; jam i2 2",
        ),
    ),
    "factors_in_place": (
        "double A[n][n]",
        "for (int i = 0; i < n; i++) { for (int j = 0; j < i; j++) {"
        " for (int k = 0; k < j; k++) A[i][j] -= A[i][k] * A[k][j]; A[i][j] /= A[j][j] + 9.0; }"
        " for (int j = i; j < n; j++) for (int k = 0; k < i; k++) A[i][j] -= A[i][k] * A[k][j]; }",
        (
            "tile i 4 j 4; skew j_t i_t 1; interchange i_t j_t; parallelize i_t;"
            " interchange j2 k2; vectorize j2",
        ),
    ),
    "sweeps_of_fields": (
        "double E[n][m], double F[n][m], double H[n][m], const double *s",
        "for (int t = 0; t < 9; t++) { for (int j = 0; j < m; j++) E[0][j] = s[t];"
        " for (int i = 1; i < n; i++) for (int j = 0; j < m; j++)"
        " E[i][j] -= 0.5 * (H[i][j] - H[i - 1][j]);"
        " for (int i = 0; i < n; i++) for (int j = 1; j < m; j++)"
        " F[i][j] -= 0.5 * (H[i][j] - H[i][j - 1]);"
        " for (int i = 0; i < n - 1; i++) for (int j = 0; j < m - 1; j++)"
        " H[i][j] -= 0.7 * (F[i][j + 1] - F[i][j] + E[i + 1][j] - E[i][j]); }",
        (
            "wrap j; shift i3 1; shift j4 1; skew j_w t 1; skew j t 1; skew i t 1; skew j2 t 1;"
            " skew i2 t 1; skew j3 t 1; skew i3 t 1; skew j4 t 1; tile t 2 j_w 4 j 6;"
            " skew j_w_t t_t 3; interchange t_t j_w_t; parallelize t_t; vectorize j4",
            "wrap j; diamond t j_w 4 i3 1 0; parallelize j_w_t; vectorize j4",
        ),
    ),
    "two_copies": (
        "float A[2][n]",
        "for (int t = 0; t < 11; t++) for (int i = 1; i < n - 1; i++)"
        " A[(t + 1) % 2][i] = 0.3f * (A[t % 2][i - 1] + A[t % 2][i] + A[t % 2][i + 1]);",
        (
            "skew i t 1; tile t 4 i 4;"
            " skew i_t t_t 1; interchange t_t i_t; parallelize t_t; vectorize i",
            "diamond t i 4; parallelize i_t; vectorize i",
            "diamond t i 5; interchange t_t i_t; vectorize i 4",
        ),
    ),
    "two_copies_with_own_values": (
        "float A[2][n]",
        "for (int t = 0; t < 11; t++) for (int i = 1; i < n - 1; i++) {"
        " float s = A[t % 2][i - 1] + A[t % 2][i + 1]; s += A[t % 2][i];"
        " A[(t + 1) % 2][i] = 0.3f * s; }",
        ("diamond t i 6; parallelize i_t",),
    ),
}


@pytest.mark.parametrize("name", NESTS)
@pytest.mark.parametrize(("n", "m"), [(23, 31), (3, 2)])
def test_nests_that_are_no_boxes_keep_their_meaning(
    name: str, n: int, m: int, tmp_path: Path
) -> None:
    parameters, body, schedules = NESTS[name]
    text = f"void f(int n, int m, {parameters})\n{{\n{body}\n}}\n"
    program = parse_program(text, "f.c", function=None, sizes={"n": n, "m": m})
    wanted = [parse_schedule(text) for text in schedules]
    case = make_case(program, wanted, seed=4)
    assert list(case.schedules) == wanted
    check_results(case, run_all(case.runs(), tmp_path, ("-O1", *SANITIZE)))


@pytest.mark.parametrize("name", ["gemm", "seidel2d", "sobel", "softmax", "triangular", "fir"])
def test_no_version_of_a_kernel_alarms_the_sanitizers(name: str, tmp_path: Path) -> None:
    kernel = next(k for k in kernels() if k.name == name)
    sizes = small_sizes(kernel)
    program = load_program(kernel.path, function=kernel.function, sizes=sizes)
    dependences = Dependences.of(program)
    case = make_case(program, kernel_schedules(program, dependences)[::3], seed=2)
    check_results(case, run_all(case.runs(), tmp_path, ("-O1", *SANITIZE)))


def test_a_store_beyond_an_array_alarms_the_sanitizers(tmp_path: Path) -> None:
    beyond = "void loopnest_run(void *const args[])\n{\n((float *)args[0])[2] = 1;\n}\n"
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        run_all([Run(beyond, {"a": np.zeros(2, np.float32)})], tmp_path, ("-O1", *SANITIZE))


@settings(CAMPAIGN, max_examples=1 + BATCHES // 6)
@given(st.lists(cases(), min_size=6, max_size=6))
def test_random_programs_touch_nothing_but_their_elements(batch: list[Case]) -> None:
    check_cases(batch, ("-O1", *SANITIZE), interpreted=False)
