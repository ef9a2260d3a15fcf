"""Kernels with macros and a header of their own, as suites have them."""

import re

import pytest

from agent.errors import SourceError
from agent.loopnest.lowering.reader import load_program
from agent.loopnest.program import Affine, Bound, Call, DType, loops, statements

HEADER = """
/* A header in the style of a benchmark suite. */
#ifndef SUITE_H
#define SUITE_H
#include <stdlib.h>
#ifdef USE_DOUBLE
# define DATA_TYPE double
# define SQRT_FUN(x) sqrt(x)
# define SCALAR_VAL(x) x
#else
# define DATA_TYPE float
# define SQRT_FUN(x) sqrtf(x)
# define SCALAR_VAL(x) x##f
#endif
#define NI 24
#define NJ 32
#define SUITE_2D(name, most_i, most_j, i, j) name[restrict EXTENT(most_i, i)][EXTENT(most_j, j)]
#ifdef USE_PARAMETERS
# define EXTENT(most, given) given
# define LIMIT(most, given) given
#else
# define EXTENT(most, given) most + 0
# define LIMIT(most, given) most
#endif
#define _PB_NI LIMIT(NI, ni)
#define _PB_NJ LIMIT(NJ, nj)
static void *allocate(size_t bytes) __attribute__((unused));
#endif
"""

KERNEL = """
#include <stdio.h>
#include <unistd.h>
#include <string.h>
#include <math.h>
#include "suite.h"

static void print(int ni, int nj, DATA_TYPE SUITE_2D(C, NI, NJ, ni, nj))
{
    fprintf(stderr, "%0.2f", C[0][0]);
}

static void kernel(int ni, int nj, DATA_TYPE alpha, DATA_TYPE SUITE_2D(C, NI, NJ, ni, nj))
{
    int i, j;
    DATA_TYPE eps = SCALAR_VAL(0.1);

#pragma scop
    for (i = 0; i < _PB_NI; i++)
        for (j = 0; j < _PB_NJ; j++)
            C[i][j] = SQRT_FUN(C[i][j]) * alpha + SCALAR_VAL(0.0) * eps;
#pragma endscop
}

int main(int argc, char **argv)
{
    DATA_TYPE (*C)[NI][NJ] = (DATA_TYPE (*)[NI][NJ])malloc(sizeof(*C));
    kernel(NI, NJ, 1.5, *C);
    if (argc > 42 && !strcmp(argv[0], ""))
        print(NI, NJ, *C);
    return 0;
}
"""


@pytest.fixture
def suite(tmp_path):
    """A kernel in the style of PolyBench/C, its header in another directory."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "suite.h").write_text(HEADER)
    (tmp_path / "kernel.c").write_text(KERNEL)
    return tmp_path / "kernel.c"


def test_a_kernel_with_macros_and_a_header_is_read_with_cflags(suite):
    flags = [f"-I{suite.parent / 'include'}"]
    program = load_program(suite, function=None, sizes={}, cflags=flags)
    assert program.array("C").shape == (24, 32)
    assert program.array("C").dtype is DType.F32
    assert [loop.upper for _, loop in loops(program.body)] == [
        (Bound(Affine.constant(23)),),
        (Bound(Affine.constant(31)),),
    ]
    assert [s.name for s in program.scalars] == ["alpha", "eps"]


def test_macros_given_as_cflags_choose_types_and_sizes(suite):
    flags = [f"-I{suite.parent / 'include'}", "-DUSE_DOUBLE", "-DUSE_PARAMETERS"]
    program = load_program(suite, function="kernel", sizes={"ni": 3, "nj": 5}, cflags=flags)
    assert program.array("C").shape == (3, 5)
    assert program.array("C").dtype is DType.F64
    *_, (_, last) = statements(program.body)
    assert Call("sqrt", (last.value.left.left.arguments[0],)) == last.value.left.left


def test_a_message_names_the_users_file_and_line_where_macros_stand(suite):
    suite.write_text(KERNEL.replace("SCALAR_VAL(0.0) * eps", "gamma_of(alpha)"))
    flags = [f"-I{suite.parent / 'include'}"]
    place = f"^{re.escape(str(suite))}:21:\\d+: a call of 'gamma_of'"
    with pytest.raises(SourceError, match=place):
        load_program(suite, function=None, sizes={}, cflags=flags)


def test_a_plain_macro_needs_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "-n.c"
    path.write_text(
        "#define N 8\n#include <float.h>\nvoid f(float A[N]) {\n#pragma omp simd\n#pragma scop\n"
        "for (int i = 0; i < N; i++)\n#pragma GCC ivdep\nA[i] = FLT_MAX;\n#pragma endscop\n}\n"
    )
    program = load_program(path, function=None, sizes={})
    assert program.array("A").shape == (8,)
