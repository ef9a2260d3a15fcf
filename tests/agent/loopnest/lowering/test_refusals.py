"""What the C front end refuses: the place, the reason and the hint; and what it read only later."""

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, SourceError
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.lowering.reader import load_program, parse_program, read_region
from agent.settings.values import parse_sizes

ARRAYS = "int n, float A[n], const float B[n], int C[n], float M[n][n]"


def parse(body: str, parameters: str = ARRAYS, **sizes: int):
    text = f"void f({parameters})\n{{\n#pragma scop\n{body}\n#pragma endscop\n}}\n"
    return parse_program(text, "f.c", function=None, sizes=sizes or {"n": 16})


def loop(statement: str) -> str:
    return f"for (int i = 0; i < n; i++) {statement}"


MANY = " ".join(f"if (A[i] > {k}) {{ if (B[i] < {k}) continue; A[i] += {k}; }}" for k in range(20))
REFUSED = {
    "more exits than can be written out": (
        f"for (int i = 0; i < n; i++) {{ {MANY} }}",
        "more than 5 conditions in a row may end it early",
    ),
    "while": (
        "while (n > 0) A[0] = 1;",
        "how often the loop runs is not known beforehand: no variable in `n > 0` goes up or down",
    ),
    "do": (
        "do A[0] = 1; while (C[0] > 0);",
        "a do loop runs once at least, and it is not known whether `C\\[0\\] > 0` at first",
    ),
    "goto": ("goto end; end: A[0] = 1;", "goto is not read"),
    "switch": ("switch (n) { case 1: A[0] = 1; }", "switch is not read"),
    "break": (
        "for (int i = 0; i < n; i++) { A[i] = 1; break; }",
        "break is not read here: how often the loop runs depends on data, or on what `&&` joins",
    ),
    "return": ("return;", "return is not read inside a loop nest"),
    "a call for its effect": ("g(A);", "a call of 'g' is not read: it may do anything"),
    "too few arguments": (
        "for (int i = 0; i < n; i++) A[i] = fmaxf(B[i]);",
        "too few arguments to function call, expected 2, have 1",
    ),
    "an address": (
        "for (int i = 0; i < n; i++) A[i] = &n;",
        "assigning to 'float' from incompatible type 'int \\*'",
    ),
    "a structure": ("for (int i = 0; i < n; i++) A[i] = s.x;", "use of undeclared identifier 's'"),
    "a structure's member as target": (
        "for (int i = 0; i < n; i++) s.x = 1;",
        "use of undeclared identifier 's'",
    ),
    "a product of iterators": (
        "for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) A[i * j] = 1;",
        "A is out of bounds: subscript 1 runs from 0 to 225, and A\\[16\\] has 0 to 1",
    ),
    "a float as subscript": (
        "for (int i = 0; i < n; i++) A[1.5] = 1;",
        "array subscript is not an integer",
    ),
    "a data bound": (
        "for (int i = 0; i < C[0]; i++) A[i] = 1;",
        "`C\\[0\\]` cannot be followed: it is read from memory",
    ),
    "a modified iterator": (
        "for (int i = 0; i < n; i++) i = i + 1;",
        "it computes nothing that leaves it",
    ),
    "a reused iterator": (
        "for (int i = 0; i < n; i++) for (i = 0; i < n; i++) A[i] = 1;",
        "how often the loop runs is not known beforehand: no variable in `i < n` goes up or down",
    ),
    "a step of zero": (
        "for (int i = 0; i < n; i += 0) A[i] = 1;",
        "how often the loop runs is not known beforehand: no variable in `i < n` goes up or down",
    ),
    "a step that varies": (
        "for (int i = 1; i < n; i *= 2) A[i] = 1;",
        "how often the loop runs is not known beforehand: no variable in `i < n` goes up or down",
    ),
    "a step of another": (
        "for (int i = 0; i < n; n++) A[i] = 1;",
        "the condition `i < n` does not end a loop whose step is 1",
    ),
    "no condition": ("for (int i = 0; ; i++) A[i] = 1;", "a loop without a condition is not read"),
    "no step": (
        "for (int i = 0; i < n; ) A[i] = 1;",
        "how often the loop runs is not known beforehand: no variable in `i < n` goes up or down",
    ),
    "no first value": (
        "for (; 1; ) A[0] = 1;",
        "how often the loop runs is not known beforehand: no variable in `1` goes up or down",
    ),
    "the wrong way": ("for (int i = 0; i > n; i++) A[i] = 1;", "does not end a loop"),
    "unsigned downwards": (
        "for (unsigned i = n - 1; i >= 0; i--) A[i] = 1;",
        "'i' would wrap around: it is uint32_t and would run from -1 to 15",
    ),
    "a float iterator": (
        "for (float i = 0; i < n; i++) A[0] = 1;",
        "how often the loop runs is not known beforehand: no variable in `i < n` goes up or down",
    ),
    "a size_t value": (
        "for (size_t i = 0; i < n; i++) A[i] = i;",
        "use of undeclared identifier 'size_t'",
    ),
    "too few subscripts": (
        "for (int i = 0; i < n; i++) M[i] = 1;",
        "array type 'float\\[n\\]' is not assignable",
    ),
    "too many subscripts": (
        "for (int i = 0; i < n; i++) A[i][i] = 1;",
        "subscripted value is not an array, pointer, or vector",
    ),
    "no subscript": (
        "for (int i = 0; i < n; i++) A = 1;",
        "`1` is not a pointer that can be followed",
    ),
    "a subscripted scalar": (
        "for (int i = 0; i < n; i++) n[i] = 1;",
        "subscripted value is not an array, pointer, or vector",
    ),
    "an undeclared name": (
        "for (int i = 0; i < n; i++) A[i] = x;",
        "use of undeclared identifier 'x'",
    ),
    "an undeclared array": (
        "for (int i = 0; i < n; i++) A[i] = X[i];",
        "use of undeclared identifier 'X'",
    ),
    "an undeclared bound": (
        "for (int i = 0; i < N; i++) A[i] = 1;",
        "use of undeclared identifier 'N'",
    ),
    "an iterator after its loop": (
        "for (int i = 0; i < n; i++) A[i] = 1; A[i] = 2;",
        "use of undeclared identifier 'i'",
    ),
    "a static variable": ("static float t; A[0] = t;", "'t' is static: it keeps its value"),
    "a const target": (
        "for (int i = 0; i < n; i++) B[i] = 1;",
        "read-only variable is not assignable",
    ),
    "a size as target": ("n = 3;", "it computes nothing that leaves it"),
    "a const variable": (
        "const float t = 1.0f; t = 2.0f;",
        "cannot assign to variable 't' with const-qualified type 'const float'",
    ),
    "a string": (
        'for (int i = 0; i < n; i++) A[i] = "x";',
        "assigning to 'float' from incompatible type 'char\\[2\\]'",
    ),
    "a long double": (
        "for (int i = 0; i < n; i++) A[i] = 1.0L;",
        "`1\\.0L` has the type long double, which is not read",
    ),
    "an infinite number": ("for (int i = 0; i < n; i++) A[i] = 1e999;", "the constant 1e999"),
    "a huge whole number": (
        "for (int i = 0; i < n; i++) A[i] = 99999999999999999999;",
        "integer literal is too large to be represented in any integer type",
    ),
    "a float remainder": (
        "for (int i = 0; i < n; i++) A[i] = B[i] % 2;",
        "invalid operands to binary expression \\('const float' and 'int'\\)",
    ),
    "a float shift": (
        "for (int i = 0; i < n; i++) A[i] <<= 2;",
        "invalid operands to binary expression \\('float' and 'int'\\)",
    ),
    "the complement of a float": (
        "for (int i = 0; i < n; i++) A[i] = ~B[i];",
        "invalid argument type 'float' to unary expression",
    ),
    "a nested scop": ("{\n#pragma scop\nA[0] = 1; }", "\\#pragma endscop is missing"),
    "nothing": (";", "it computes nothing that leaves it"),
    "a shift out of range": (
        "A[1 << 99] = 1;",
        "A is out of bounds: subscript 1 runs from -2147483648 to 2147483647, and",
    ),
    "a division by zero": (
        "A[1 / 0] = 1;",
        "A is out of bounds: subscript 1 runs from -2147483648 to 2147483647, and",
    ),
    "a subscript beyond int": (
        "A[99999 * 99999] = 1;",
        "A is out of bounds: subscript 1 runs from 9999800001 to 9999800001, and",
    ),
}
REFUSED["nine loops"] = (
    "".join(f"for (int i{d} = 0; i{d} < 2; i{d}++) " for d in range(9)) + "A[0] = 1;",
    r"nested more than 8 deep",
)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_place_and_a_reason(name):
    body, pattern = REFUSED[name]
    with pytest.raises(SourceError, match=pattern) as caught:
        parse(body)
    assert caught.value.message.startswith("f.c:")
    assert caught.value.hint


READ = {
    "label": "end: A[0] = 1;",
    "if": "for (int i = 0; i < n; i++) if (i > 2) A[i] = 1;",
    "an unknown function": "for (int i = 0; i < n; i++) A[i] = sinh(B[i]);",
    "a dereference": "for (int i = 0; i < n; i++) A[i] = *B;",
    "an assigned dereference": "for (int i = 0; i < n; i++) *A = 1;",
    "an indirect subscript": "for (int i = 0; i < n; i++) A[C[i]] = 1;",
    "a call as subscript": "for (int i = 0; i < n; i++) A[abs(i)] = 1;",
    "a remainder as subscript": "for (int i = 0; i < n; i++) A[i % 4] = 1;",
    "an iterator that counts itself": "for (int i = 0; i < n; i++) { A[i] = 1; i++; }",
    "not equal": "for (int i = 0; i != n; i++) A[i] = 1;",
    "a char iterator": "for (char i = 0; i < n; i++) A[0] = 1;",
    "a local array": "float t[4]; A[0] = 1;",
    "a local pointer": "float *t; A[0] = 1;",
    "an effect inside": "for (int i = 0; i < n; i++) A[i] = C[i]++;",
    "an effect in a subscript": "for (int i = 0; i < n; i++) A[i++] = 1;",
    "a chain of assignments": "for (int i = 0; i < n; i++) A[i] = M[i][0] = 1;",
    "a comma": "for (int i = 0; i < n; i++) A[i] = (1, 2);",
    "two statements by comma": "for (int i = 0; i < n; i++) A[i] = 1, A[i] = 2;",
    "a character": "for (int i = 0; i < n; i++) A[i] = 'x';",
    "a cast to long": "for (int i = 0; i < n; i++) A[i] = (long)B[i];",
    "sizeof": "for (int i = 0; i < n; i++) A[i] = sizeof(float);",
    "an iterator kept as data": "int i; for (i = 0; i < n; i++) A[i] = 1; A[0] = i;",
    "data used as an iterator": "int i = 2; for (i = 0; i < n; i++) A[i] = 1;",
}


@pytest.mark.parametrize("name", READ)
def test_what_an_earlier_reader_refused_is_read(name):
    assert parse(READ[name]).name == "f"


@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        (loop("A[i + 1] = 1;"), r"A is out of bounds: subscript 1 runs from 1 to 16, "),
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
        (loop("A[i] = i > 1 ? B[i - 3] : 0;"), r"runs from -1 to 12"),
        (loop("A[i] = i > 0 || B[i - 1] > 0;"), r"runs from -1 to -1"),
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


def test_sizes_that_are_global_variables_are_named_at_once():
    text = (
        "int n, m; void f(float *a)"
        " { for (int i = 0; i < n; i++) for (int j = 0; j < m; j++) a[i * m + j] = 0; }"
    )
    with pytest.raises(SourceError, match="the size 'n' has no value") as caught:
        parse_program(text, "f.c", function=None, sizes={})
    assert caught.value.hint == "Add --size n=NUMBER --size m=NUMBER."


def test_missing_sizes_of_a_nest_are_named_at_once():
    text = (
        "void f(int n, int m, int k, float *a, float *b) { for (int i = 0; i < n; i++) a[i] = 0;"
        " if (k > 1) k--; for (int i = 0; i < n; i++)"
        " for (int j = 0; j < m; j++) b[i + j] = 0; }"
    )
    with pytest.raises(SourceError, match="the size 'n' has no value") as caught:
        read_region(parse_text(text, "f.c"), "f", {}, 2)
    assert caught.value.hint == "Add --size n=NUMBER --size m=NUMBER."


def test_sizes_that_a_helper_gets_are_named_at_once():
    text = (
        "static double mean(const double *x, int n, double least)"
        " { double s = least; for (int i = 0; i < n; i++) s += x[i]; return s / n; }\n"
        "void f(int n, int m, int ld, int least, double *x, double *y)"
        " { for (int i = 0; i < n; i++) y[i] = mean(x + i * ld, m, least); }"
    )
    with pytest.raises(SourceError, match="the size 'n' has no value") as caught:
        parse_program(text, "f.c", function="f", sizes={})
    assert caught.value.hint == "Add --size n=NUMBER --size m=NUMBER --size ld=NUMBER."


def test_what_the_compiler_says_comes_first():
    text = "void f(float *a) {\n#pragma scop\na[0] = x;\n#pragma endscop\n}"
    with pytest.raises(SourceError, match="undeclared identifier 'x'") as caught:
        read_region(parse_text(text, "f.c"), "g", {})
    assert "--cflags" in caught.value.hint


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
    "a structure": ("struct s A[4]", "A[0] = 1;", "array has incomplete element type 'struct s'"),
    "a data shape": (
        "float x, float A[x]",
        "A[0] = 1;",
        "size of array has non-integer type 'float'",
    ),
    "an empty shape": (
        "float A[0]",
        "A[0] = 1;",
        "A is out of bounds: subscript 1 runs from 0 to 0, and A\\[1\\] has 0 to -1 t",
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_outside_the_subset_is_refused(name):
    parameters, body, pattern = PARAMETERS[name]
    text = f"void f({parameters}) {{\n#pragma scop\n{body}\n#pragma endscop\n}}"
    with pytest.raises(SourceError, match=pattern):
        parse_program(text, "f.c", function=None, sizes={})


FILES = {
    "not C": ("this is not C", "unknown type name 'this'"),
    "half a function": ("\nvoid f(", "expected parameter declarator"),
    "nothing": ("", "no function has a for loop"),
    "no scop": ("void f(void) { }", "no function has a for loop"),
    "no endscop": (
        "void f(float A[1]) {\n#pragma scop\nA[0] = 1;\n}",
        "f\\.c:2:\\d+: .*is missing",
    ),
    "no beginning": ("void f(float A[1]) {\nA[0] = 1;\n#pragma endscop\n}", "without #pragma scop"),
    "two regions": (
        "void f(float A[1]) {" + "\n#pragma scop\nA[0] = 1;\n#pragma endscop\n" * 2 + "}",
        "'f' has 2 loop nests: 1 \\(lines 3 to 3\\), 2 \\(lines 7 to 7\\)",
    ),
}
FILES["brackets"] = ("int x = " + "(" * 10_000, r"bracket nesting level exceeded")
FILES["braces"] = ("void f(void) " + "{" * 5_000 + "}" * 5_000, r"bracket nesting level exceeded")


@pytest.mark.parametrize("name", FILES)
def test_a_file_outside_the_subset_is_refused(name):
    text, pattern = FILES[name]
    with pytest.raises(SourceError, match=pattern) as caught:
        parse_program(text, "f.c", function=None, sizes={})
    assert caught.value.hint


def test_several_functions_need_a_choice():
    function = "(float A[4]) {\n#pragma scop\nA[0] = 1;\n#pragma endscop\n}\n"
    with pytest.raises(SourceError, match="several functions have loops: one, two") as caught:
        parse_program(f"void one{function}void two{function}", "f.c", function=None, sizes={})
    assert "--function one" in caught.value.hint


def test_an_unknown_function_is_refused_with_those_that_exist():
    text = "void g(void) { }\nvoid f(float A[4]) {\n#pragma scop\nA[0] = 1;\n#pragma endscop\n}"
    with pytest.raises(SourceError, match="there is no function 'h'") as caught:
        parse_program(text, "f.c", function="h", sizes={})
    assert caught.value.hint == "Functions with loops: f."
    with pytest.raises(SourceError, match=r"^f\.c:1:1: 'g' has no for loop"):
        parse_program(text, "f.c", function="g", sizes={})


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
    with pytest.raises(SourceError, match=r"f\.c:2:1: "):
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


IMAGE = "struct image { int w, h; float *data; };\n"


def test_sizes_that_structures_hold_are_named_at_once_as_the_shell_takes_them():
    text = IMAGE + (
        "void f(struct image *im) { for (int y = 0; y < im->h; y++)"
        " for (int x = 0; x < im->w; x++) im->data[y * im->w + x] = 0; }"
    )
    with pytest.raises(SourceError, match="the size 'im->h' has no value") as caught:
        parse_program(text, "f.c", function=None, sizes={})
    assert caught.value.hint == "Add --size 'im->h=NUMBER' --size 'im->w=NUMBER'."
    parse_program(text, "f.c", function=None, sizes=parse_sizes(["im->h=4", "im->w=5"]))


@pytest.mark.parametrize(
    "change", ["im->w = 3;", "im->w++;", "shrink(im);", "int *p = &im->w; *p = 3;"]
)
def test_a_member_that_the_function_changes_is_no_size(change):
    text = IMAGE + (
        "static void shrink(struct image *im) { im->w -= 1; }\n"
        f"void f(struct image *im) {{ {change}\n"
        " for (int x = 0; x < im->w; x++) im->data[x] = 0; }"
    )
    with pytest.raises(SourceError, match="`im->w` cannot be followed: it is read from memory"):
        parse_program(text, "f.c", function="f", sizes={"im->w": 5})
