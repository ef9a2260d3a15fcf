import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from agent.errors import ScheduleError
from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.emitter import extent
from agent.loopnest.emitter.emit import ENTRY, emit
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import (
    Access,
    Affine,
    AffineValue,
    Array,
    Binary,
    Bound,
    DType,
    Literal,
    Loop,
    Program,
    Read,
    Scalar,
    Select,
    Statement,
    Temporary,
    Unary,
    loops,
)
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from tests.interpret import iterations, points
from tests.strategies import programs

GOLDEN = Path(__file__).parents[3] / "golden"
REGENERATE = "REGENERATE_GOLDEN" in os.environ

GEMM = """
void gemm(int n, float alpha, float C[n][n], const float A[n][n], const float B[n][n])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            C[i][j] = 0.0f;
            for (int k = 0; k < n; k++)
                C[i][j] += alpha * A[i][k] * B[k][j];
        }
#pragma endscop
}
"""
SOFTMAX = """
#include <math.h>
void softmax(int n, int m, float P[n][m], const float A[n][m])
{
#pragma scop
    for (int i = 0; i < n; i++) {
        float top = A[i][0];
        float sum = 0.0f;
        for (int j = 0; j < m; j++)
            top = fmaxf(top, A[i][j]);
        for (int j = 0; j < m; j++) {
            P[i][j] = expf(A[i][j] - top);
            sum += P[i][j];
        }
        for (int j = 0; j < m; j++)
            P[i][j] /= sum;
    }
#pragma endscop
}
"""
SWEEPS = """
void sweeps(int n, int m, double A[n], double B[n])
{
#pragma scop
    for (int t = 0; t < m; t++) {
        for (int i = 1; i < n - 1; i++)
            B[i] = 0.3 * (A[i - 1] + A[i] + A[i + 1]);
        for (int i = 1; i < n - 1; i++)
            A[i] = 0.3 * (B[i - 1] + B[i] + B[i + 1]);
    }
#pragma endscop
}
"""

SEIDEL = """
void seidel(int steps, int n, double A[n][n])
{
#pragma scop
    for (int t = 0; t < steps; t++)
        for (int i = 1; i < n - 1; i++)
            for (int j = 1; j < n - 1; j++)
                A[i][j] = 0.2 * (A[i][j] + A[i - 1][j] + A[i][j - 1] + A[i + 1][j] + A[i][j + 1]);
#pragma endscop
}
"""
DISTANCES = """
void distances(int n, float out[n][n], const float a[n][n], const float b[n][n])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            float s = 0.0f;
            for (int k = 0; k < n; k++)
                s += (a[i][k] - b[j][k]) * (a[i][k] - b[j][k]);
            out[i][j] = s;
        }
#pragma endscop
}
"""
COLUMNS = """
void columns(int n, int m, double y[m], const double A[n][m])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            y[j] += A[i][j];
#pragma endscop
}
"""
TRIANGULAR = """
void triangular(int n, double y[n], const double L[n][n], const double x[n])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            y[i] -= L[i][j] * x[j];
#pragma endscop
}
"""
REPEATED = """
void repeated(int n, double y[n], const double L[n][n], const double x[n])
{
#pragma scop
    for (int r = 0; r < n; r++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                y[i] += x[j] * L[i][j];
#pragma endscop
}
"""
SCALED = """
void scaled(int n, double y[n], const double L[n][n], const double x[n])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            double t = L[i][j] + 1.0;
            t = t * x[j];
            y[i] += t * x[i];
        }
#pragma endscop
}
"""
COVARIANCE = """
void covariance(int n, int m, double C[m][m], const double A[n][m])
{
#pragma scop
    for (int i = 0; i < m; i++)
        for (int j = i; j < m; j++) {
            C[i][j] = 0.0;
            for (int k = 0; k < n; k++)
                C[i][j] += A[k][i] * A[k][j];
            C[j][i] = C[i][j];
        }
#pragma endscop
}
"""
UPDATE = """
void update(int n, int m, double C[n][n], const double A[n][m])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++)
            for (int k = 0; k < m; k++)
                C[i][j] += A[i][k] * A[j][k];
#pragma endscop
}
"""
PLANES = """
void planes(int n, int m, float B[3][m][n], const float A[3][n][m])
{
#pragma scop
    for (int p = 0; p < 3; p++)
        for (int j = 0; j < m; j++)
            for (int i = 0; i < n; i++)
                B[p][j][i] = A[p][i][j];
#pragma endscop
}
"""
DOT = """
void dot(int n, double s[1], const double x[n], const double y[n])
{
#pragma scop
    for (int i = 0; i < n; i++)
        s[0] += x[i] * y[i];
#pragma endscop
}
"""
THRESHOLD = """
#include <stdint.h>
void threshold(int n, int32_t count[1], uint8_t out[n], const uint8_t in[n], int32_t limit)
{
#pragma scop
    for (int i = 0; i < n; i++) {
        out[i] = in[i] > limit ? 255 : in[i] >> 1;
        count[0] += in[i] > limit;
    }
#pragma endscop
}
"""
SIZES = {"n": 100, "m": 70, "steps": 10}
CASES = {
    "gemm": (GEMM, "original"),
    "gemm_tiled": (GEMM, "distribute j; distribute i; tile i2 32 j2 25 k 32; parallelize i2_t"),
    "gemm_jammed": (GEMM, "distribute j; distribute i; tile i2 32; jam i2 3; unroll k 4"),
    "gemm_simd": (GEMM, "distribute j; distribute i; interchange j2 k; jam i2 4; vectorize j2"),
    "gemm_register_tile": (
        GEMM,
        "distribute j; distribute i; interchange j2 k; jam i2 4; vectorize j2 16",
    ),
    "gemm_lanes": (GEMM, "vectorize j 8; parallelize i"),
    "dot_lanes": (DOT, "vectorize i 32"),
    "triangular_lanes": (TRIANGULAR, "vectorize j 8"),
    "triangular_jammed": (TRIANGULAR, "jam i 3"),
    "triangular_in_turns": (TRIANGULAR, "parallelize i; cyclic i 8; vectorize j"),
    "scaled_jammed": (SCALED, "jam i 2; vectorize j 8"),
    "covariance_register_tile": (COVARIANCE, "jam i 3; vectorize j 4; parallelize i"),
    "scaled_lanes": (SCALED, "vectorize j 8"),
    "repeated_packed_twice": (REPEATED, "pack x r; pack L i"),
    "distances_packed": (
        DISTANCES,
        "tile j 32; interchange i j_t; pack b j_t; jam i 2; vectorize j 16; parallelize j_t",
    ),
    "update_packed": (
        UPDATE,
        "tile j 32; interchange i j_t; pack A[j][k] j_t; vectorize j 8; jam i 2; parallelize j_t",
    ),
    "planes_transposed": (PLANES, "tile j 16 i 16; collapse p j_t; pack A i_t; vectorize i"),
    "planes_streamed": (PLANES, "parallelize j; vectorize i; stream B i"),
    "softmax": (SOFTMAX, "parallelize i; vectorize j"),
    "sweeps_diamond": (
        SWEEPS,
        "diamond t 2 i 16 i2 1 1; parallelize i_t; vectorize i; vectorize i2",
    ),
    "seidel_wavefront": (SEIDEL, "skew j i 1; interchange i j; vectorize i"),
    "triangular": (TRIANGULAR, "original"),
    "triangular_interchanged": (TRIANGULAR, "interchange i j; tile j 16; vectorize i"),
    "dot_parallel": (DOT, "tile i 24; parallelize i_t; vectorize i"),
    "threshold": (THRESHOLD, "vectorize i"),
    "columns_private": (COLUMNS, "parallelize i y; vectorize j"),
}


def build(source: str, schedule: str) -> Program:
    header = re.search(r"void \w+\(([^{]*)\{", source)
    assert header is not None
    sizes = {n: v for n, v in SIZES.items() if f"int {n}," in header[1]}
    program = parse_program(source, "test.c", function=None, sizes=sizes)
    return transform(program, parse_schedule(schedule))


@pytest.mark.parametrize("name", CASES)
def test_emitted_c_is_the_golden_file(name: str) -> None:
    text = emit(build(*CASES[name]))
    path = GOLDEN / f"{name}.c"
    if REGENERATE:
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_emitted_c_compiles_without_warnings(name: str) -> None:
    compiles(emit(build(*CASES[name])))


def test_every_row_of_a_register_tile_has_a_loop_over_its_lanes() -> None:
    text = emit(build(DISTANCES, "vectorize j 16; jam i 2"))
    rows = re.findall(r"j_lane\+\+\) \{\n +s_lanes16_\d\[j_lane\] \+= .*\n +\}", text)
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("source", "lanes", "clause"),
    [(DISTANCES, 16, "simdlen(16)"), (COVARIANCE, 8, "simdlen(8)"), (DISTANCES, 8, "")],
)
def test_lanes_that_fill_64_bytes_ask_for_the_widest_vectors(
    source: str, lanes: int, clause: str
) -> None:
    text = emit(build(source, f"vectorize j {lanes}"))
    loop = rf"#pragma omp simd(.*)\n +for \(int j_lane = 0; j_lane < {lanes};"
    assert {found.strip() for found in re.findall(loop, text)} == {clause}


def test_an_optimiser_finds_nothing_odd_in_what_transposes() -> None:
    program = parse_program(UPDATE, "test.c", function=None, sizes={"n": 128, "m": 128})
    steps = "tile j 64; interchange i j_t; pack A[j][k] j_t; vectorize j 16; jam i 6"
    compiles(emit(transform(program, parse_schedule(steps))), "-O3 -mavx2 -c -o /dev/null")


def compiles(text: str, how: str = "-fsyntax-only") -> None:
    flags = f"-std=c99 -Wall -Wextra -Werror -Wno-unused-parameter -fopenmp {how} -xc -"
    done = subprocess.run(
        ["gcc", *flags.split()], input=text, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr + text


# Hand-built programs

X = Access("x", (Affine.var("i"),))


def number(value: int) -> Bound:
    return Bound(Affine.constant(value))


def loop(name: str, low: int, high: int, *body: Loop | Statement, **marks: object) -> Loop:
    return Loop(name, (number(low),), (number(high),), 1, body, **marks)  # type: ignore[arg-type]


def one_loop(target: Access, op: str, value: object, **marks: object) -> Program:
    statement = Statement("S", target, op, value, (Affine.var("i"),))  # type: ignore[arg-type]
    arrays = tuple(Array(n, DType.F32, (10,)) for n in ("x", "y"))
    scalars = (Scalar("alpha", DType.F32),)
    return Program("p", arrays, scalars, (), (loop("i", 0, 9, statement, **marks),))


Y = Read(Access("y", (Affine.var("i"),)))
FIRST = Access("x", (Affine.constant(0),))


def test_an_array_that_is_not_written_is_const() -> None:
    assert "float *restrict x, const float *restrict y, float alpha)" in emit(one_loop(X, "", Y))


def test_the_entry_passes_arrays_then_scalars() -> None:
    text = emit(one_loop(X, "", Y))
    assert f"void {ENTRY}(void *const args[])" in text
    assert "kernel_p(args[0], args[1], *(const float *)args[2]);" in text


def test_a_reduction_into_one_element_is_carried_in_a_local() -> None:
    text = emit(one_loop(FIRST, "+", Y))
    assert text.index("float acc = x[0];") < text.index("for (") < text.index("x[0] = acc;")


def test_a_reduction_whose_array_is_read_in_the_loop_is_not_carried() -> None:
    other = Read(Access("x", (Affine.var("i"),)))
    assert "acc" not in emit(one_loop(FIRST, "+", other))


def test_an_element_is_not_loaded_where_the_loop_may_be_empty() -> None:
    program = build(TRIANGULAR, "original")
    assert "if (0 < i) {" in emit(program)


def test_a_parallel_reduction_gets_its_clause() -> None:
    text = emit(one_loop(FIRST, "-", Y, parallel=True))
    assert "#pragma omp parallel for schedule(static) reduction(+:acc)" in text


def running_sum(last: int) -> Program:
    """Threads share loop i, which reads the sum that it accumulates in a temporary."""
    total = Access("tmp")
    body = (Statement("S", total, "+", Y, ()), Statement("T", X, "", Read(total), ()))
    return replace(
        one_loop(X, "", Y),
        temporaries=(Temporary("tmp", DType.F32, 0),),
        body=(
            Statement("R", total, "", Literal("1"), ()),
            loop("i", 0, last, *body, parallel=True),
        ),
    )


def test_a_parallel_loop_of_one_iteration_continues_from_what_was_there() -> None:
    assert "schedule(static)\n" in emit(running_sum(last=0))


def test_a_parallel_loop_that_reads_its_partial_sums_is_refused() -> None:
    with pytest.raises(ScheduleError, match="loop i: tmp is not one kind of reduction"):
        emit(running_sum(last=1))


def test_a_maximum_in_simd_lanes_is_a_ternary_and_fmaxf_elsewhere() -> None:
    assert "acc = y[i] > acc ? y[i] : acc;" in emit(one_loop(FIRST, "max", Y, vector=True))
    assert "acc = fmaxf(acc, y[i]);" in emit(one_loop(FIRST, "max", Y))


def test_a_running_maximum_in_simd_lanes_treats_nan_as_fmaxf_does() -> None:
    text = emit(one_loop(X, "max", Y, vector=True))
    assert "x[i] = y[i] > x[i] || x[i] != x[i] ? y[i] : x[i];" in text


def test_a_reduction_into_a_shared_section_is_refused() -> None:
    inner = Statement("S", X, "+", Y, (Affine.var("t"), Affine.var("i")))
    nest = loop("t", 0, 3, loop("i", 0, 9, inner), parallel=True)
    program = replace(one_loop(X, "+", Y), body=(nest,))
    with pytest.raises(ScheduleError, match="loop t: all its iterations accumulate"):
        emit(program)


def parallel_nest(*body: Loop | Statement, **marks: object) -> Program:
    """Threads share loop o around ``body``."""
    return replace(one_loop(X, "", Y), body=(loop("o", 0, 9, *body, parallel=True, **marks),))


def test_the_body_of_a_parallel_loop_is_a_function_of_what_it_uses() -> None:
    store = Statement("S", X, "", Literal("2.f"), ())
    text = emit(parallel_nest(loop("i", 0, 9, store)))
    assert "static inline void o_body(float *restrict x)\n{" in text
    assert "    for (int o = 0; o < 10; o++) {\n        o_body(x);\n    }" in text


def test_the_body_of_a_parallel_loop_is_passed_scalars_temporaries_and_iterators() -> None:
    index = Access("x", (Affine.var("t") + Affine.var("o"),))
    value = Binary("*", Read(Access("alpha")), Read(Access("tmp")))
    inner = parallel_nest(loop("i", 0, 0, Statement("S", index, "", value, ()))).body
    first = Statement("R", Access("tmp"), "", Literal("1e3f"), ())
    program = replace(
        one_loop(X, "", Y),
        temporaries=(Temporary("tmp", DType.F32, 0),),
        body=(first, loop("t", 0, 0, *inner)),
    )
    text = emit(program)
    assert "void o_body(float *restrict x, float alpha, float tmp, int t, int o)" in text
    assert "o_body(x, alpha, tmp, t, o);" in text
    compiles(text)


def test_a_parallel_loop_with_a_reduction_clause_stays_whole() -> None:
    total = Statement("S", FIRST, "+", Y, ())
    assert "_body" not in emit(parallel_nest(loop("i", 0, 9, total)))


def test_a_jammed_parallel_loop_shares_out_its_main_loop_alone() -> None:
    target = Access("x", (Affine.var("o"),))
    text = emit(parallel_nest(loop("i", 0, 9, Statement("S", target, "+", Y, ())), jam=4))
    assert text.count("#pragma omp parallel for") == text.count("o_body(x, y, o);") == 1
    assert text.index("o += 4") < text.index("o_body(x, y, o);") < text.index("o++")
    compiles(text)


def test_parallel_loops_in_copies_of_a_jam_have_functions_of_their_own() -> None:
    nest = parallel_nest(loop("i", 0, 9, Statement("S", X, "", Y, ())))
    text = emit(replace(nest, body=(loop("t", 0, 4, *nest.body, jam=2),)))
    assert "o_body(x, y);" in text
    assert "o_body_2(x, y);" in text
    compiles(text)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("batched_matmul", "parallelize b"),
        ("blur", "parallelize i; parallelize i2"),
        ("conv2d", "parallelize o"),
        ("heat3d", "tile j 16 k 32; parallelize i"),
        ("jacobi2d", "parallelize i; parallelize i2"),
        ("normalise", "parallelize i"),
        ("transpose", "tile i 32 j 32; parallelize i_t"),
    ],
)
def test_gcc_vectorises_loops_of_a_parallel_body_without_overlap_checks(
    name: str, schedule: str
) -> None:
    kernel = next(k for k in kernels() if k.name == name)
    text = emit(transform(load_kernel(kernel), parse_schedule(schedule)))
    command = "gcc -O3 -march=native -fopenmp -fopt-info-vec -c -o /dev/null -xc -".split()
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "possible aliasing" not in done.stderr, done.stderr + text


def test_unroll_on_a_simd_loop_is_refused() -> None:
    with pytest.raises(ScheduleError, match="OpenMP allows no unroll"):
        emit(one_loop(X, "", Y, vector=True, unroll=4))


def test_names_that_mean_something_in_c_are_changed() -> None:
    names = ["int", "exp", "INFINITY", "linux", "int32_t", "args", "_x", "acc", "for"]
    statement = Statement("S", Access("acc", (Affine.var("for"),)), "", Literal("1"), ())
    arrays = tuple(Array(n, DType.F32, (10,)) for n in names[:-1])
    program = Program("main", arrays, (), (), (loop("for", 0, 9, statement),))
    compiles(emit(program))


def test_two_names_never_become_one() -> None:
    arrays = tuple(Array(n, DType.F32, (10,)) for n in ("int", "int_", "int__2", "_int"))
    text = emit(
        replace(one_loop(X, "", Literal("0")), arrays=(*arrays, *one_loop(X, "", Y).arrays))
    )
    found = re.findall(r"restrict (\w+)", text)
    assert len(set(found)) == 6


def test_parentheses_keep_the_order_of_operations() -> None:
    a = Read(Access("alpha"))
    value = Binary(
        "-", a, Binary("-", a, Binary("*", Binary("+", a, a), Unary("-", Unary("-", a))))
    )
    assert "x[i] = alpha - (alpha - (alpha + alpha) * -(-alpha));" in emit(one_loop(X, "", value))


def test_a_ternary_inside_an_expression_is_parenthesised() -> None:
    chosen = Select(
        Binary("<", AffineValue(Affine.var("i")), Literal("3")), Literal("1"), Literal("2")
    )
    value = Binary("*", chosen, Literal("0.5f"))
    assert "x[i] = (i < 3 ? 1 : 2) * 0.5f;" in emit(one_loop(X, "", value))


def test_iterators_are_64_bit_where_an_index_may_not_fit_an_int() -> None:
    program = one_loop(X, "", AffineValue(Affine.var("i")))
    assert "for (int i" in emit(program)
    assert "for (int64_t i" in emit(replace(program, body=(loop("i", 0, 2**31 - 2),)))


def test_a_temporary_belongs_to_the_innermost_block_that_writes_it_first() -> None:
    t = Access("t")
    body = (Statement("S", t, "", Y, ()), Statement("T", X, "", Read(t), ()))
    program = replace(
        one_loop(X, "", Y),
        temporaries=(Temporary("t", DType.F32, 0),),
        body=(loop("i", 0, 9, *body),),
    )
    assert "        float t = y[i];\n        x[i] = t;\n" in emit(program)


def test_a_temporary_that_carries_a_value_stays_outside_of_the_loop() -> None:
    t = Access("t")
    body = (Statement("S", X, "", Read(t), ()), Statement("T", t, "", Y, ()))
    first = Statement("R", t, "", Literal("0"), ())
    program = replace(
        one_loop(X, "", Y),
        temporaries=(Temporary("t", DType.F32, 0),),
        body=(first, loop("i", 0, 9, *body)),
    )
    assert "    float t = 0;\n    for (" in emit(program)


@pytest.mark.parametrize("trips", range(1, 10))
def test_jam_writes_a_main_loop_and_a_remainder_only_where_needed(trips: int) -> None:
    inner = loop("k", 0, 3, Statement("S", X, "+", Y, (Affine.var("i"), Affine.var("k"))))
    program = replace(one_loop(X, "", Y), body=(loop("i", 0, trips - 1, inner, jam=4),))
    text = emit(program)
    assert ("i += 4" in text) == (trips >= 4)
    assert ("i++" in text) == (trips % 4 != 0)


def test_jam_of_a_loop_with_a_step_inside_that_moves_with_it_is_refused() -> None:
    inner = replace(
        loop("k", 0, 3, Statement("S", X, "+", Y, ())), lower=(Bound(Affine.var("i")),), step=2
    )
    program = replace(one_loop(X, "", Y), body=(loop("i", 0, 9, inner, jam=2),))
    with pytest.raises(ScheduleError, match="jam i: the bounds of loop k depend on i"):
        emit(program)


def test_full_tiles_have_a_constant_number_of_iterations() -> None:
    text = emit(build(DOT, "tile i 25"))
    assert "i < i_t + 25;" in text
    assert "min2" not in text


# The estimates that emission relies on


@settings(deadline=None, max_examples=150)
@given(programs())
def test_estimates_of_iterators_hold_in_every_iteration(program: Program) -> None:
    for around, inner in loops(program.body):
        nest, var = (*around, inner), Affine.var(inner.iterator)
        for point in points(nest):
            assert extent.least(var, nest) <= point[inner.iterator] <= extent.greatest(var, nest)


@settings(deadline=None, max_examples=150)
@given(programs())
def test_a_loop_said_to_run_runs_and_tightest_bounds_are_the_same_bounds(program: Program) -> None:
    for around, inner in loops(program.body):
        tight = replace(
            inner,
            lower=extent.tightest(inner.lower, around, lower=True),
            upper=extent.tightest(inner.upper, around, lower=False),
        )
        for point in points(around):
            values = iterations(inner, point)
            assert list(iterations(tight, point)) == list(values)
            assert values or not extent.runs(inner, around)
            assert len(values) <= 1 or not extent.runs_once(inner, around)
