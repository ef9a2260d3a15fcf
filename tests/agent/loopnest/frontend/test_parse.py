"""A file of C becomes a typed tree."""

import subprocess
import sys

from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    CastE,
    ExpressionS,
    ForS,
    Name,
    Number,
    PointerType,
    ScalarType,
    walk,
)
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.program import DType


def body(text):
    """The statements of the first function of a text."""
    unit = parse_text(text, "k.c")
    assert unit.errors == ()
    return next(iter(unit.functions.values())).body.items


def test_an_array_parameter_keeps_all_lengths_as_written():
    unit = parse_text("void f(int n, int m, float A[n][m + 1], float *restrict p) {}", "k.c")
    array, pointer = next(iter(unit.functions.values())).parameters[2:]
    assert isinstance(array.type, ArrayType)
    assert isinstance(array.type.length, Name)
    assert array.type.length.name == "n"
    assert isinstance(array.type.element, ArrayType)
    assert array.type.element.length.op == "+"
    assert isinstance(pointer.type, PointerType)
    assert pointer.type.restrict


def test_conversions_that_c_makes_are_in_the_tree():
    (statement,) = body("void f(unsigned char *a, int i, double x) { a[i] = a[i] + x; }")
    assert isinstance(statement, ExpressionS)
    assign = statement.expression
    assert isinstance(assign, AssignE)
    assert isinstance(assign.value, CastE)
    assert assign.value.implicit
    assert assign.value.type == ScalarType(DType.U8, "unsigned char")
    assert assign.value.operand.type == ScalarType(DType.F64, "double")


def test_empty_parts_of_a_loop_are_told_apart():
    (loop,) = body("void f(int i, int n) { for (; i < n;) i++; }")
    assert isinstance(loop, ForS)
    assert loop.init is None
    assert loop.condition.op == "<"
    assert loop.step is None


def test_a_macro_of_a_number_is_a_number():
    (statement,) = body("#define N 12\nvoid f(int *a) { a[0] = N; }")
    numbers = [x.text for x in walk(statement) if isinstance(x, Number)]
    assert numbers == ["0", "12"]


def test_marks_in_comments_and_inactive_branches_are_none():
    unit = parse_text(
        "#pragma scop\n/*\n#pragma scop\n*/\n#if 0\n#pragma scop\n#endif\n"
        'void f(void) {\n_Pragma("scop")\n#pragma endscop\n}\n',
        "k.c",
    )
    assert unit.marks == ((1, True), (9, True), (10, False))


def test_an_undeclared_name_is_an_error_with_its_place():
    unit = parse_text("void f(int *a) {\n  a[0] = n;\n}", "k.c")
    assert unit.errors == ("k.c:2:10: use of undeclared identifier 'n'",)


def test_globals_that_something_changes_are_told():
    unit = parse_text(
        "int kept, set, stepped, taken, cased, row[3]; static const int table[2] = {1, 2};\n"
        "void g(int *p); void r(const int *p);\n"
        "static int s(const int *p) { return p[0]; }\n"
        "void f(int n) { set = kept; stepped++; g(&taken); g(row); s(table);\n"
        "  switch (n) { case 1: cased = 2; } }",
        "k.c",
    )
    names = {unit.variables[ident].name for ident in unit.changed}
    assert names == {"set", "stepped", "taken", "cased", "row"}


def test_the_library_leaves_little_memory_behind(tmp_path):
    file = tmp_path / "k.c"
    file.write_text("void f(int n, float *a) { for (int i = 0; i < n; i++) a[i] = 0; }")
    script = """
import re, sys
from pathlib import Path
from agent.loopnest.frontend.parse import parse
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = resident()
parse(Path(sys.argv[1]))
first = resident()
parse(Path(sys.argv[1]))
print(first - before, resident() - first)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True
    )
    more, again = map(int, done.stdout.split())
    assert more < 15_000  # KiB; with the library's code it is 30,000
    assert again < 3_000
