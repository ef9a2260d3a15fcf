"""What the C front end refuses: the place, the reason and the hint."""

import os
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, SourceError
from agent.loopnest.lowering.reader import load_program, parse_program

ARRAYS = "int n, float A[n], const float B[n], int C[n], float M[n][n]"


def parse(body: str, parameters: str = ARRAYS, **sizes: int):
    text = f"void f({parameters})\n{{\n#pragma scop\n{body}\n#pragma endscop\n}}\n"
    return parse_program(text, "f.c", function=None, sizes=sizes or {"n": 16})


def loop(statement: str) -> str:
    return f"for (int i = 0; i < n; i++) {statement}"


REFUSED = {
    "while": ("while (n > 0) A[0] = 1;", r"^f\.c:4:1: while loops are not supported"),
    "do": ("do A[0] = 1; while (n > 0);", r"do loops are not supported"),
    "goto": ("goto end; end: A[0] = 1;", r"goto is not supported"),
    "label": ("end: A[0] = 1;", r"labels are not supported"),
    "if": (loop("if (i > 2) A[i] = 1;"), r"^f\.c:4:\d+: if is not supported"),
    "switch": ("switch (n) { case 1: A[0] = 1; }", r"switch is not supported"),
    "break": (loop("{ A[i] = 1; break; }"), r"break is not supported"),
    "continue": (loop("{ A[i] = 1; continue; }"), r"continue is not supported"),
    "return": ("return;", r"return is not supported"),
    "a call for its effect": ("g(A);", r"a call whose value is not used"),
    "an unknown function": (loop("A[i] = sinh(B[i]);"), r"a call of 'sinh' is not supported"),
    "too few arguments": (loop("A[i] = fmaxf(B[i]);"), r"fmaxf takes 2 argument"),
    "a dereference": (loop("A[i] = *B;"), r"pointers are not supported"),
    "an assigned dereference": (loop("*A = 1;"), r"pointers are not supported"),
    "an address": (loop("A[i] = &n;"), r"pointers are not supported"),
    "a structure": (loop("A[i] = s.x;"), r"structures are not supported"),
    "a structure's member as target": (loop("s.x = 1;"), r"structures are not supported"),
    "a product of iterators": (
        loop("for (int j = 0; j < n; j++) A[i * j] = 1;"),
        r"^f\.c:4:\d+: the subscript of 'A' `i \* j` is not affine: a product",
    ),
    "an indirect subscript": (loop("A[C[i]] = 1;"), r"`C\[i\]` is not affine: it reads an array"),
    "a call as subscript": (loop("A[abs(i)] = 1;"), r"not affine: it calls a function"),
    "a remainder as subscript": (loop("A[i % 4] = 1;"), r"not affine: '%' of an iterator"),
    "a float as subscript": (loop("A[1.5] = 1;"), r"must be made of whole numbers"),
    "a data bound": ("for (int i = 0; i < C[0]; i++) A[i] = 1;", r"is not affine: it reads"),
    "a modified iterator": (loop("i = i + 1;"), r"the iterator 'i' is modified"),
    "an iterator that counts itself": (loop("{ A[i] = 1; i++; }"), r"'i' is modified"),
    "a reused iterator": (
        loop("for (i = 0; i < n; i++) A[i] = 1;"),
        r"already the iterator of an outer loop",
    ),
    "a step of zero": ("for (int i = 0; i < n; i += 0) A[i] = 1;", r"the step of 'i'"),
    "a step that varies": ("for (int i = 1; i < n; i *= 2) A[i] = 1;", r"the step of 'i'"),
    "a step of another": ("for (int i = 0; i < n; n++) A[i] = 1;", r"the step of 'i'"),
    "no condition": ("for (int i = 0; ; i++) A[i] = 1;", r"needs a condition and a step"),
    "no step": ("for (int i = 0; i < n; ) A[i] = 1;", r"needs a condition and a step"),
    "no first value": ("for (; 1; ) A[0] = 1;", r"must give its iterator a first value"),
    "not equal": ("for (int i = 0; i != n; i++) A[i] = 1;", r"condition `i != n` is not"),
    "the wrong way": ("for (int i = 0; i > n; i++) A[i] = 1;", r"does not end a loop"),
    "unsigned downwards": (
        "for (unsigned i = n - 1; i >= 0; i--) A[i] = 1;",
        r"counts down but is unsigned",
    ),
    "a float iterator": ("for (float i = 0; i < n; i++) A[0] = 1;", r"must be an int"),
    "a char iterator": ("for (char i = 0; i < n; i++) A[0] = 1;", r"must be an int"),
    "a size_t value": ("for (size_t i = 0; i < n; i++) A[i] = i;", r"value but is not an int"),
    "too few subscripts": (loop("M[i] = 1;"), r"'M' has 2 dimension\(s\), not 1"),
    "too many subscripts": (loop("A[i][i] = 1;"), r"'A' has 1 dimension\(s\), not 2"),
    "no subscript": (loop("A = 1;"), r"the array 'A' needs 1 subscript"),
    "a subscripted scalar": (loop("n[i] = 1;"), r"'n' is not an array"),
    "an undeclared name": (loop("A[i] = x;"), r"'x' is not declared"),
    "an undeclared array": (loop("A[i] = X[i];"), r"'X' is not declared"),
    "an undeclared bound": ("for (int i = 0; i < N; i++) A[i] = 1;", r"'N' is not declared"),
    "an iterator after its loop": (loop("A[i] = 1;") + " A[i] = 2;", r"'i' is not declared"),
    "a local array": ("float t[4]; A[0] = 1;", r"'t': it is a local array"),
    "a local pointer": ("float *t; A[0] = 1;", r"'t': a local"),
    "a static variable": ("static float t; A[0] = t;", r"'t': a local `static`"),
    "a const target": (loop("B[i] = 1;"), r"'B' is assigned, but it is const"),
    "a size as target": ("n = 3;", r"'n' is assigned"),
    "a const variable": ("const float t = 1.0f; t = 2.0f;", r"is assigned, but it is const"),
    "an effect inside": (loop("A[i] = C[i]++;"), r"\+\+ and -- inside an expression"),
    "an effect in a subscript": (loop("A[i++] = 1;"), r"is not affine"),
    "a chain of assignments": (loop("A[i] = M[i][0] = 1;"), r"assignment inside an expression"),
    "a comma": (loop("A[i] = (1, 2);"), r"this kind of expression \(comma\)"),
    "two statements by comma": (loop("A[i] = 1, A[i] = 2;"), r"the comma operator"),
    "a string": (loop('A[i] = "x";'), r"the constant"),
    "a character": (loop("A[i] = 'x';"), r"the constant 'x' is not supported"),
    "a long double": (loop("A[i] = 1.0L;"), r"the constant 1\.0L"),
    "an infinite number": (loop("A[i] = 1e999;"), r"the constant 1e999"),
    "a huge whole number": (loop("A[i] = 99999999999999999999;"), r"the constant 9+"),
    "a cast to long": (loop("A[i] = (long)B[i];"), r"a cast to 'long' is not"),
    "sizeof": (loop("A[i] = sizeof(float);"), r"'sizeof' is not supported"),
    "a float remainder": (loop("A[i] = B[i] % 2;"), r"'%' needs whole numbers"),
    "a float shift": (loop("A[i] <<= 2;"), r"'<<=' needs whole numbers"),
    "the complement of a float": (loop("A[i] = ~B[i];"), r"~ needs a whole number"),
    "an iterator kept as data": (
        "int i; for (i = 0; i < n; i++) A[i] = 1; A[0] = i;",
        r"used as data here and as an iterator elsewhere",
    ),
    "data used as an iterator": (
        "int i = 2; for (i = 0; i < n; i++) A[i] = 1;",
        r"used as an iterator here and as data elsewhere",
    ),
    "a nested scop": ("{\n#pragma scop\nA[0] = 1; }", r"may not be nested"),
    "nothing": (";", r"the region has no statements"),
    "a shift out of range": ("A[1 << 99] = 1;", r"shifts by 99"),
    "a division by zero": ("A[1 / 0] = 1;", r"divides by zero"),
    "a subscript beyond int": ("A[99999 * 99999] = 1;", r"does not fit into an int"),
    "nine loops": (
        "".join(f"for (int i{d} = 0; i{d} < 2; i{d}++) " for d in range(9)) + "A[0] = 1;",
        r"nested more than 8 deep",
    ),
    "33 statements": ("A[0] = 1;" * 33, r"more than 32 statements"),
    "nine bounds": (
        "for (int i = 0; " + " && ".join(["i < n"] * 5_000) + "; i++) A[i] = 1;",
        r"more than 8 bounds|nested too deeply",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_place_and_a_reason(name):
    body, pattern = REFUSED[name]
    with pytest.raises(SourceError, match=pattern) as caught:
        parse(body)
    assert caught.value.message.startswith("f.c:")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        (loop("A[i + 1] = 1;"), r"`A\[i \+ 1\]` is out of bounds: subscript 1 runs from 1 to 16, "),
        (
            loop("A[i] = M[i][i - 1];"),
            r"subscript 2 runs from -1 to 14, and M\[16\]\[16\] has 0 to",
        ),
        ("for (int i = 0; i <= n; i++) A[i] = 1;", r"runs from 0 to 16, .* has 0 to 15"),
        ("for (int i = 0; i < n; i += 4) A[i + 4] = 1;", r"runs from 4 to 16"),
        (
            loop("for (int j = 0; j <= i; j++) A[i + j] = 1;"),
            r"subscript 1 runs from 0 to 30",
        ),
        (loop("A[i] = i > 0 ? B[i - 1] : 0;"), r"runs from -1 to 14"),
    ],
)
def test_an_access_out_of_bounds_is_refused_with_its_exact_range(body, pattern):
    with pytest.raises(SourceError, match=pattern) as caught:
        parse(body)
    assert "--size" in caught.value.hint


def test_a_loop_that_never_runs_is_not_out_of_bounds():
    assert parse("A[0] = 1; for (int i = 9; i < 3; i++) A[i + 999] = 1;").name == "f"


@pytest.mark.parametrize(
    ("sizes", "pattern", "hint"),
    [
        ({"m": 3}, r"'f' has no size 'm'", r"Its sizes: n"),
        ({"n": 0}, r"n = 0 is outside", r""),
        ({"n": 2**24 + 1}, r"is outside 1\.\.16777216", r""),
        ({"n": -5}, r"n = -5 is outside", r""),
    ],
)
def test_a_wrong_size_is_refused(sizes, pattern, hint):
    with pytest.raises(SourceError, match=pattern) as caught:
        parse(loop("A[i] = 1;"), **sizes)
    assert hint in caught.value.hint


def test_a_missing_size_names_every_size_the_shapes_need():
    text = (
        "void f(int n, int m, int k, float A[n][m]) {\n#pragma scop\nA[0][0] = 1;\n"
        "#pragma endscop\n}"
    )
    with pytest.raises(SourceError, match="the size 'm' has no value") as caught:
        parse_program(text, "f.c", function=None, sizes={"n": 3})
    assert caught.value.hint == "Add --size m=NUMBER."


def test_a_missing_bound_is_named():
    with pytest.raises(SourceError, match="the size 'm' has no value") as caught:
        parse("for (int i = 0; i < m; i++) A[0] += 1;", ARRAYS + ", int m")
    assert "--size m=NUMBER" in caught.value.hint


def test_too_much_memory_is_refused_with_both_figures():
    text = "void f(int n, double A[n][n]) {\n#pragma scop\nA[0][0] = 1;\n#pragma endscop\n}"
    with pytest.raises(SourceError, match="need 8 MiB, and 4 MiB may be used"):
        parse_program(text, "f.c", function=None, sizes={"n": 1024}, memory_limit=4 << 20)
    with pytest.raises(SourceError, match="MiB may be used"):
        parse_program(text, "f.c", function=None, sizes={"n": 2**24})


PARAMETERS = {
    "a pointer": ("float *A", "A[0] = 1;", r"'A' cannot be used .* pointer"),
    "no extent": ("float A[]", "A[0] = 1;", r"the shape of 'A' is not given"),
    "shorts": ("short A[4]", "A[0] = 1;", r"elements of type 'short'"),
    "a structure": ("struct s A[4]", "A[0] = 1;", r"its type `struct s` is not supported"),
    "a data shape": ("float x, float A[x]", "A[0] = 1;", r"depends on the data in 'x'"),
    "an empty shape": ("float A[0]", "A[0] = 1;", r"a dimension of 0 elements"),
    "a function's name": ("float exp[4]", "exp[0] = 1;", r"may not be called 'exp'"),
    "a dollar": ("float a$[4]", "a$[0] = 1;", r"may not be called 'a\$'"),
    "a long as data": ("long x, float A[4]", "A[0] = x;", r"the size 'x' has no value"),
    "17 arrays": (
        ", ".join(f"float A{d}[1]" for d in range(17)),
        "".join(f"A{d}[0] = 1;" for d in range(17)),
        r"more than 16 arrays",
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_outside_the_subset_is_refused(name):
    parameters, body, pattern = PARAMETERS[name]
    text = f"void f({parameters}) {{\n#pragma scop\n{body}\n#pragma endscop\n}}"
    with pytest.raises(SourceError, match=pattern):
        parse_program(text, "f.c", function=None, sizes={})


FILES = {
    "not C": ("this is not C", r"^f\.c:1:\d+: it is not C"),
    "half a function": ("\nvoid f(", r"^f\.c:2:1: it is not C .* ends too early"),
    "nothing": ("", r"no function has a #pragma scop"),
    "no scop": ("void f(void) { }", r"no function has a #pragma scop"),
    "no endscop": ("void f(float A[1]) {\n#pragma scop\nA[0] = 1;\n}", r"f\.c:2:\d+: .*is missing"),
    "no beginning": (
        "void f(float A[1]) {\nA[0] = 1;\n#pragma endscop\n}",
        r"without #pragma scop",
    ),
    "two regions": (
        "void f(float A[1]) {" + "\n#pragma scop\nA[0] = 1;\n#pragma endscop\n" * 2 + "}",
        r"f\.c:6:\d+: the function has a second region",
    ),
    "a global array": (
        "float A[4];\nvoid f(void) {\n#pragma scop\nA[0] = 1;\n#pragma endscop\n}",
        r"f\.c:4:1: 'A' cannot be used in the region: it is global",
    ),
    "a result in a variable": (
        "float f(float A[4]) { float s = 0;\n#pragma scop\nfor (int i = 0; i < 4; i++) s += A[i];\n"
        "#pragma endscop\nreturn s; }",
        r"f\.c:5:1: 's' is computed in the region and used after it",
    ),
    "a value from elsewhere": (
        "void f(float A[4]) { float s = 0; s = g();\n#pragma scop\nA[0] = s;\n#pragma endscop\n}",
        r"'s' cannot be used in the region: statements before",
    ),
    "a macro": ("#define N 4\nvoid f(void) { }", r"it has macros"),
    "a null byte": ("void f(void) { }\0", r"binary file"),
    "brackets": ("int x = " + "(" * 100_000, r"f\.c:1:1: it is nested too deeply"),
    "braces": ("void f(void) " + "{" * 5_000 + "}" * 5_000, r"nested too deeply"),
    "signs": ("int x = " + "- " * 50_000 + "1;", r"nested too deeply"),
    "stars": ("int " + "*" * 50_000 + "p;", r"nested too deeply|it is not C|no function"),
    "loops": ("void f(void) { " + "for (;;) " * 20_000 + ";}", r"nested too deeply"),
    "a long sum": (
        "void f(float A[1]) {\n#pragma scop\nA[0] = " + "1 + " * 20_000 + "1;\n#pragma endscop\n}",
        r"too large or nested too deeply",
    ),
    "a long subscript": (
        "void f(float A[1]) {\n#pragma scop\nA[" + "0 + " * 20_000 + "0] = 1;\n#pragma endscop\n}",
        r"nested too deeply",
    ),
    "many digits": (
        "void f(float A[1]) {\n#pragma scop\nA[0] = " + "1" * 9_000 + ";\n#pragma endscop\n}",
        r"the constant 1+ is not supported",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_outside_the_subset_is_refused(name):
    text, pattern = FILES[name]
    with pytest.raises(SourceError, match=pattern) as caught:
        parse_program(text, "f.c", function=None, sizes={})
    assert caught.value.hint


def test_several_regions_need_a_choice():
    region = "(float A[4]) {\n#pragma scop\nA[0] = 1;\n#pragma endscop\n}\n"
    with pytest.raises(SourceError, match="several functions have a region: one, two") as caught:
        parse_program(f"void one{region}void two{region}", "f.c", function=None, sizes={})
    assert "--function one" in caught.value.hint


def test_an_unknown_function_is_refused_with_those_that_exist():
    text = "void g(void) { }\nvoid f(float A[4]) {\n#pragma scop\nA[0] = 1;\n#pragma endscop\n}"
    with pytest.raises(SourceError, match="there is no function 'h'") as caught:
        parse_program(text, "f.c", function="h", sizes={})
    assert caught.value.hint == "Functions with a region: f."
    with pytest.raises(SourceError, match=r"^f\.c:1:6: the function 'g' has no #pragma scop"):
        parse_program(text, "f.c", function="g", sizes={})


def test_a_position_counts_lines_and_columns_of_the_users_file():
    text = "/* one\n two */ #include <math.h>\n\nvoid f(float A[4]) {\n#pragma scop\n  A[0] =  x;"
    with pytest.raises(SourceError, match=r"^f\.c:6:11: 'x' is not declared"):
        parse_program(
            text.replace("*/ #", "*/\n#", 1).replace("\n\nvoid", "\nvoid", 1)
            + "\n#pragma endscop\n}",
            "f.c",
            function=None,
            sizes={},
        )


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        load_program(tmp_path / "none.c", function=None, sizes={})
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        load_program(tmp_path, function=None, sizes={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "f.c"
    path.write_text("")
    path.chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        load_program(path, function=None, sizes={})


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "f.c"
    path.write_bytes(b"\n\x7fELF\0\xff\xfe")
    with pytest.raises(SourceError, match=r"f\.c:2:1: the file is no text"):
        load_program(path, function=None, sizes={})


def test_a_huge_file_is_refused(tmp_path):
    path = tmp_path / "f.c"
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(SourceError, match="larger than 1 MiB"):
        load_program(path, function=None, sizes={})


TOKENS = st.sampled_from(
    "void f ( ) { } [ ] int float n A B i j = += ++ < for if 0 1 2.5f ; , + - * / ? : & ! ~ % "
    "#pragma\tscop\n \n#pragma\tendscop\n const typedef struct . -> \" ' \\ // /* "
    "sizeof return _Pragma _Generic _Static_assert static double uint8_t $ [[ ]] @ # \0 é".split(
        " "
    )
)


@settings(deadline=None, max_examples=400)
@given(st.one_of(st.text(), st.lists(TOKENS, max_size=40).map(" ".join)))
@example('_Pragma("scop")')
def test_no_text_escapes_as_anything_but_an_agent_error(text):
    try:
        parse_program(text, "f.c", function=None, sizes={"n": 4})
    except AgentError as error:
        assert error.message  # noqa: PT017  # most texts fail, none may fail otherwise


@settings(deadline=None, max_examples=400)
@given(st.lists(TOKENS, max_size=25).map(" ".join), st.lists(TOKENS, max_size=8).map(" ".join))
def test_no_region_escapes_as_anything_but_an_agent_error(body, parameters):
    text = f"void f(int n, float A[n] {parameters}) {{\n#pragma scop\n{body}\n#pragma endscop\n}}"
    try:
        parse_program(text, "f.c", function=None, sizes={"n": 4})
    except AgentError as error:
        assert error.message  # noqa: PT017


def test_the_recursion_limit_is_left_alone():
    before = sys.getrecursionlimit()
    with pytest.raises(SourceError):
        parse_program("int x = " + "- " * 50_000 + "1;", "f.c", function=None, sizes={})
    assert sys.getrecursionlimit() == before
