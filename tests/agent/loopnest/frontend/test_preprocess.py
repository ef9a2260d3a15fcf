"""Preprocessing: without a compiler where it can be, through ``cc -E`` where it must be."""

import os
import re
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import CompilerError, InputError, SourceError
from agent.loopnest.frontend import preprocess as cpp
from agent.loopnest.lowering.reader import load_program
from agent.loopnest.program import Affine, Bound, Call, DType, loops, statements
from tests.processes import all_end

needs_compiler = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")

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

static void print(int ni, DATA_TYPE SUITE_2D(C, NI, NJ, ni, nj))
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
        print(NI, *C);
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


@needs_compiler
def test_a_kernel_with_macros_and_a_header_is_read_with_cflags(suite):
    flags = [f"-I{suite.parent / 'include'}"]
    program = load_program(suite, function=None, sizes={}, cflags=flags)
    assert program.array("C").shape == (24, 32)
    assert program.array("C").dtype is DType.F32
    assert [loop.upper for _, loop in loops(program.body)] == [
        (Bound(Affine.constant(23)),),
        (Bound(Affine.constant(31)),),
    ]
    assert [s.name for s in program.scalars] == ["alpha"]


@needs_compiler
def test_macros_given_as_cflags_choose_types_and_sizes(suite):
    flags = [f"-I{suite.parent / 'include'}", "-DUSE_DOUBLE", "-DUSE_PARAMETERS"]
    program = load_program(suite, function="kernel", sizes={"ni": 3, "nj": 5}, cflags=flags)
    assert program.array("C").shape == (3, 5)
    assert program.array("C").dtype is DType.F64
    *_, (_, last) = statements(program.body)
    assert Call("sqrt", (last.value.left.left.arguments[0],)) == last.value.left.left


@needs_compiler
def test_a_message_names_the_users_file_and_line_after_preprocessing(suite):
    suite.write_text(KERNEL.replace("SCALAR_VAL(0.0) * eps", "tanh(alpha)"))
    flags = [f"-I{suite.parent / 'include'}"]
    place = f"^{re.escape(str(suite))}:21:\\d+: a call of 'tanh'"
    with pytest.raises(SourceError, match=place):
        load_program(suite, function=None, sizes={}, cflags=flags)


@needs_compiler
def test_a_missing_header_is_told_in_the_compilers_words(suite):
    with pytest.raises(CompilerError, match=r"suite\.h") as caught:
        load_program(suite, function=None, sizes={})
    assert "--cflags" in caught.value.hint


@needs_compiler
def test_a_plain_macro_goes_through_the_compiler_by_itself(tmp_path):
    path = tmp_path / "-n.c"
    path.write_text(
        "#define N 8\n#include <float.h>\nvoid f(float A[N]) {\n#pragma omp simd\n#pragma scop\n"
        "for (int i = 0; i < N; i++)\n#pragma GCC ivdep\nA[i] = FLT_MAX;\n#pragma endscop\n}\n"
    )
    program = load_program(path, function=None, sizes={})
    assert program.array("A").shape == (8,)


@needs_compiler
def test_an_endless_expansion_is_cut(tmp_path):
    path = tmp_path / "bomb.c"
    rows = [f"#define A{d} A{d - 1} A{d - 1} A{d - 1} A{d - 1}" for d in range(1, 14)]
    path.write_text("#define A0 int;\n" + "\n".join(rows) + "\nA13\n")
    with pytest.raises(SourceError, match="preprocessed file is larger than 4 MiB"):
        load_program(path, function=None, sizes={})


@needs_compiler
def test_a_preprocessor_that_hangs_is_stopped(tmp_path, monkeypatch):
    path = tmp_path / "f.c"
    path.write_text("#define N 8\n")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(cpp, "TIME_LIMIT", 0.2)
    with pytest.raises(CompilerError, match=r"took longer than 0\.2 s"):
        load_program(path, function=None, sizes={}, compiler=str(slow))


@needs_compiler
def test_an_include_that_never_ends_is_stopped_with_all_that_gcc_started(tmp_path, monkeypatch):
    path = tmp_path / "f.c"
    path.write_text('#include "endless.h"\n')
    os.mkfifo(tmp_path / "endless.h")
    monkeypatch.setenv("MARK", str(tmp_path))
    monkeypatch.setattr(cpp, "TIME_LIMIT", 0.5)
    with pytest.raises(CompilerError, match=r"took longer than 0\.5 s"):
        load_program(path, function=None, sizes={})
    assert all_end(f"MARK={tmp_path}")


@needs_compiler
@pytest.mark.parametrize(
    "text",
    [
        '#include "/dev/zero"\n',
        "#define A(x) x x x x x x x x x x x x x x x x\n"
        "int f(void) { return A(A(A(A(A(A(A(+)))))))1; }\n",
    ],
)
def test_a_file_that_eats_memory_is_refused(tmp_path, monkeypatch, text):
    path = tmp_path / "f.c"
    path.write_text(text)
    monkeypatch.setattr(cpp, "MEMORY", 160 << 20)
    with pytest.raises(CompilerError, match="preprocessor failed") as caught:
        load_program(path, function=None, sizes={})
    assert "MiB of memory" in caught.value.hint


def test_macros_without_a_compiler_are_refused_with_a_hint(tmp_path, monkeypatch):
    path = tmp_path / "f.c"
    path.write_text("#define N 8\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompilerError, match="no C compiler was found") as caught:
        load_program(path, function=None, sizes={})
    assert "Install" in caught.value.hint
    with pytest.raises(CompilerError, match="'mycc' was not found"):
        load_program(path, function=None, sizes={}, compiler="mycc")


def test_comments_are_blanked_and_nothing_moves():
    text = 'a /* b\n c */ d // e\n"/* f */" \'"\' /* g'
    assert cpp.blank_comments(text) == 'a     \n      d     \n"/* f */" \'"\'     '


@settings(deadline=None)
@given(st.text(alphabet="ab/*\"'\\\n #"))
def test_blanking_keeps_every_line_as_long_as_it_was(text):
    blanked = cpp.blank_comments(text)
    assert [len(line) for line in blanked.split("\n")] == [len(line) for line in text.split("\n")]


@pytest.mark.parametrize(
    "line",
    ["#define N 4", "#if 1", '#include "x.h"', "#include <omp.h>", "# 7", "#line 9", "x \\\n y"],
)
def test_these_lines_need_a_compiler(line):
    assert cpp.without_preprocessor(f"int a;\n{line}\n") is None


@pytest.mark.parametrize(
    "line", ["#include <math.h>", "#pragma omp simd", "#", "  # include<stdio.h>"]
)
def test_these_lines_are_blanked(line):
    assert cpp.without_preprocessor(f"int a;\n{line}\nint b;") == "int a;\n\nint b;"


@pytest.mark.parametrize(
    "flags",
    [
        "-DN=4 -D M -UX -Iinclude -I include -isystem a -iquote b -include c.h",
        "-std=gnu99 -ansi -march=native -mavx2 -fopenmp -ffast-math -fno-math-errno",
    ],
)
def test_flags_that_change_how_a_file_is_read_are_passed_on(flags):
    cpp.check_flags(flags.split())


@pytest.mark.parametrize(
    "flags",
    [
        "-o x",
        "-ox",
        "-MD",
        "-MF x",
        "-Wp,-MD,x",
        "-dD",
        "-save-temps",
        "-fdump-tree-all",
        "-fplugin=x.so",
        "-fprofile-generate",
        "-fdiagnostics-format=json-file",
        "-mllvm -x",
        "-wrapper x",
        "-specs=x",
        "-B x",
        "-x c",
        "-O2",
        "@x",
        "-D @x",
        "-I @x",
        "x.c",
        "-",
        "",
        "-I -o x",
    ],
)
def test_other_flags_are_refused_with_a_hint(flags):
    with pytest.raises(InputError, match="--cflags") as caught:
        cpp.check_flags(flags.split(" "))
    assert caught.value.hint


@pytest.mark.parametrize("flag", ["-D", "-I", "-include"])
def test_a_flag_without_its_value_is_refused(flag):
    with pytest.raises(InputError, match="lacks its value"):
        cpp.check_flags([flag])
