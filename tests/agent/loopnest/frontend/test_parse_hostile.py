"""Whatever a file and its includes are, reading it ends, within limits, with a tree or a reason."""

import dataclasses
import os
import sys

import pytest

from agent.errors import SourceError
from agent.loopnest.frontend import parse as door
from agent.loopnest.frontend.parse import parse, parse_all, plain
from agent.loopnest.frontend.wire import decode, encode
from tests.other_user import NOBODY, needs_root
from tests.processes import all_end

KERNEL = "void f(int n, float *a) { for (int i = 0; i < n; i++) a[i] = %s; }\n"
HOSTILE_DEPTH = 60_000
WIDE = "unsigned _BitInt(8388608)"


def written(place, text, name="k.c"):
    path = place / name
    path.write_text(text)
    return path


@pytest.fixture
def limits(monkeypatch):
    """Change the limits of a child."""

    def change(**values):
        monkeypatch.setattr(door, "LIMITS", dataclasses.replace(door.LIMITS, **values))

    return change


@pytest.mark.parametrize(
    "text",
    [
        "#include <math.h>\n#include <stdint.h>\n" + KERNEL % "2.0f",
        "#define N 8\n#define HALF (0.5f)\n#ifdef __cplusplus\n#endif\n" + KERNEL % "HALF",
        "#pragma scop\n#pragma omp parallel for\n" + KERNEL % "1",
        "static const int t[2] = {1, 2};\n" + KERNEL % "t[0]",
        "struct p { float x; } q[2] = {{1}, {2}};\n" + KERNEL % "q[0].x + .5f + 1.f",
        "/* f(a[i]; it's */ char c = '(', *s = \"(;_\"; // (\n"
        + KERNEL.replace("*a", "*__restrict a") % "1",
    ],
)
def test_a_text_that_stays_as_small_as_it_looks_is_read_here(text):
    assert plain(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "#define A x x\n",
        "#define A(x) x\n",
        '#include "own.h"\n',
        "#include <own.h>\n",
        "#include </dev/zero>\n",
        "/* */ #define A x x\n",
        "%:define A x x\n",
        "??=define A x x\n",
        "#define A \\\n x x\n",
        "int a[] = {[1000000000] = 1};\n",
        "int a[] = {\n// \n[1000000000] = 1};\n",
        "int a = " + "-" * 5000 + "1;",
        "void f(int a) {" + "if (a) a = 1; else " * 600 + ";}",
        "int a;" * 20_000,
        "void f(void) {" + "for (;;) " * 1000 + ";}",
        "void f(int a) {" + "if (({ 1; })) " * 1000 + "a = 1;}",
        "void f(void) { for (;\n#pragma omp )\n;) " + "for (;;) " * 1000 + ";}",
        "void f(void) { for (; /* ) */ ;) " + "for (; /* ) */ ;) " * 1000 + ";}",
        "struct { int x[1000000000]; } s = {.x[999999999] = 1};\n",
        "struct { int x[1000000000]; } s = {/* */ .x[999999999] = 1};\n",
        "int a = /* without an end",
        'char *a = "without an end',
        '_Pragma("clang __debug overflow_stack") int a;',
        "enum { A = (unsigned _BitInt(8388608))-1 / 3 };\n",
        "typedef int v __attribute__((vector_size(1073741824)));\n",
    ],
)
def test_a_text_that_may_become_large_or_deep_is_read_by_a_child(text):
    assert not plain(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "void g(void) {" + "for (;;) " * 7000 + ";}",
        f"enum {{ A = -({WIDE})1 / (-({WIDE})1 >> 4194304) }};",
        "struct { int x[1000000000]; } s = {.x[999999999] = 1};",
        '_Pragma("clang __debug overflow_stack") int a;',
        '_Pragma("clang __debug crash") int a;',
    ],
)
def test_what_is_too_much_for_clang_is_a_reason_and_ends_nothing_else(tmp_path, limits, text):
    limits(seconds=0.5)
    with pytest.raises(SourceError, match=r"k\.c"):
        parse(written(tmp_path, text))


def test_a_child_hands_over_the_same_tree(tmp_path):
    path = written(tmp_path, "#define SQ(x) ((x) * (x))\n" + KERNEL % "SQ(a[i]) + 1")
    unit = door.read_unit(path.read_bytes(), str(path))
    assert parse(path) == unit == decode(encode(unit))


def test_a_bomb_of_macros_is_stopped(tmp_path, limits):
    limits(seconds=1.0)
    lines = [f"#define A{n + 1} A{n} + A{n}" for n in range(40)]
    path = written(tmp_path, "#define A0 x + x\n" + "\n".join(lines) + "\nint f(int x) { A40; }")
    with pytest.raises(SourceError, match=r"took longer than 1 s|too much memory") as caught:
        parse(path)
    assert "macros" in caught.value.hint


def test_an_include_that_never_ends_is_stopped_with_its_child(tmp_path, limits, monkeypatch):
    limits(seconds=1.0)
    monkeypatch.setenv("MARK", str(tmp_path))
    os.mkfifo(tmp_path / "endless.h")
    path = written(tmp_path, '#include "endless.h"\n')
    with pytest.raises(SourceError, match="took longer than 1 s"):
        parse(path)
    assert all_end(f"MARK={tmp_path}")


def test_an_include_that_fills_the_memory_is_refused(tmp_path, limits):
    limits(memory=400 << 20)
    path = written(tmp_path, '#include "/dev/zero"\n')
    with pytest.raises(SourceError, match=r"k\.c"):
        parse(path)


def test_an_include_of_itself_is_an_error_with_its_place(tmp_path):
    path = written(tmp_path, '#include "k.c"\n')
    assert parse(path).errors == (f"{path}:1:10: #include nested too deeply",)


def test_what_is_nested_so_deep_that_clang_crashes_is_refused(tmp_path):
    with pytest.raises(SourceError, match="nested too deep"):
        parse(written(tmp_path, "int a = " + "- " * HOSTILE_DEPTH + "1;"))


def test_nesting_past_the_limit_is_not_read_and_the_rest_is(tmp_path):
    deep = "+".join(["a[i]"] * 1000)
    (function,) = parse(written(tmp_path, KERNEL % deep)).functions.values()
    assert function.name == "f"


def test_one_file_too_many_for_clang_does_not_take_the_others_with_it(tmp_path):
    good = "#define F(x) x\n" + KERNEL % "F(1)"
    paths = [
        written(tmp_path, good, "a.c"),
        written(tmp_path, "int a = " + "- " * HOSTILE_DEPTH + "1;", "b.c"),
        tmp_path / "absent.c",
        written(tmp_path, good, "c.c"),
    ]
    first, second, third, fourth = parse_all(paths)
    assert len(first.functions) == len(fourth.functions) == 1
    assert "nested too deep" in second.message
    assert "absent.c: cannot be read: No such file" in third.message


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path):
    with pytest.raises(SourceError, match="larger than 1 MiB"):
        parse(written(tmp_path, " " * (1 << 20) + "int a;"))


def test_a_header_that_is_missing_is_an_error_that_names_the_remedy(tmp_path):
    path = written(tmp_path, '#include "own.h"\nint a;\n')
    (error,) = parse(path).errors
    assert error.startswith(f"{path}:1:10: 'own.h' file not found")
    assert "--cflags '-I" in error


def test_headers_of_ones_own_are_found_with_cflags(tmp_path):
    (tmp_path / "inc").mkdir()
    written(tmp_path / "inc", "#define N 4\n", "own.h")
    path = written(tmp_path, '#include "own.h"\nfloat a[N * M];\n')
    (variable,) = parse(path, ["-I", str(tmp_path / "inc"), "-DM=2", "-fopenmp"]).variables.values()
    assert variable.type.length == 8


@needs_root
def test_for_root_a_file_is_read_with_the_rights_of_its_owner(tmp_path):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    secret = written(tmp_path, "int secret;\n", "secret.h")
    secret.chmod(0o600)
    path = written(tmp_path, f'#include "{secret}"\nint a;\n')
    os.chown(path, 65534, 65534)
    unit = parse(path)
    assert "secret" not in [v.name for v in unit.variables.values()]
    assert unit.errors


@needs_root
def test_for_root_a_link_of_another_user_leads_only_where_that_user_may_read(open_place):
    secret = written(open_place, "int secret;\n", "secret.c")
    secret.chmod(0o600)
    path = open_place / "k.c"
    path.symlink_to(secret)
    os.lchown(path, NOBODY.pw_uid, -1)
    with pytest.raises(SourceError, match=r"k\.c: cannot be read: Permission denied"):
        parse(path)


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b"null", b"[" * 100_000, b"\xff", b'{"message": 1}']
)
def test_of_what_a_child_says_only_a_tree_or_words_are_believed(tmp_path, monkeypatch, line):
    (tmp_path / "said").write_bytes(line + b"\n")
    monkeypatch.setattr(sys, "executable", written(tmp_path, f"#!/bin/sh\ncat {tmp_path}/said\n"))
    (tmp_path / "k.c").chmod(0o755)
    with pytest.raises(SourceError, match=r"o\.c: reading it failed"):
        parse(written(tmp_path, "#define F(x) x\n", "o.c"))
