"""What the C front end reads, and the Program it makes of it."""

from pathlib import Path

import pytest

from agent.errors import SourceError
from agent.loopnest.lowering.reader import load_program, parse_program
from agent.loopnest.program import (
    Access,
    Affine,
    AffineValue,
    Binary,
    Bound,
    Call,
    Cast,
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
    statements,
)

I = Affine.var("i")  # noqa: E741
J = Affine.var("j")


def parse(body: str, parameters: str = "int n, float A[n], float B[n]", **sizes: int) -> Program:
    text = f"void f({parameters})\n{{\n#pragma scop\n{body}\n#pragma endscop\n}}\n"
    return parse_program(text, "f.c", function=None, sizes=sizes or {"n": 16})


def only(program: Program) -> Statement:
    (found,) = statements(program.body)
    return found[1]


def test_a_matrix_product_becomes_a_reduction_in_three_loops():
    program = parse(
        "for (int i = 0; i < ni; i++) for (int j = 0; j < nj; j++) for (int k = 0; k < nk; k++)"
        " C[i][j] += A[i][k] * B[k][j];",
        "int ni, int nj, int nk, float C[ni][nj], const float A[ni][nk], const float B[nk][nj]",
        ni=2,
        nj=3,
        nk=4,
    )
    around, statement = next(statements(program.body))
    assert [a.shape for a in program.arrays] == [(2, 3), (2, 4), (4, 3)]
    assert [(loop.iterator, loop.lower, loop.upper) for loop in around] == [
        ("i", (Bound(Affine()),), (Bound(Affine.constant(1)),)),
        ("j", (Bound(Affine()),), (Bound(Affine.constant(2)),)),
        ("k", (Bound(Affine()),), (Bound(Affine.constant(3)),)),
    ]
    assert statement == Statement(
        "S0",
        Access("C", (I, J)),
        "+",
        Binary(
            "*", Read(Access("A", (I, Affine.var("k")))), Read(Access("B", (Affine.var("k"), J)))
        ),
        (I, J, Affine.var("k")),
    )


def test_statements_are_numbered_in_textual_order_and_iterators_are_unique():
    program = parse(
        "A[0] = 0.0f; for (int i = 0; i < n; i++) A[i] = 1.0f;"
        "for (int i = 0; i < n; i++) { B[i] = A[i]; for (int j = 0; j < n; j++) B[j] = A[i]; }"
        "for (int i = 0; i < n; i++) A[i] = i;"
    )
    assert [s.name for _, s in statements(program.body)] == ["S0", "S1", "S2", "S3", "S4"]
    assert [loop.iterator for _, loop in loops(program.body)] == ["i", "i2", "j", "i3"]
    assert [s.instance for _, s in statements(program.body)][3] == (Affine.var("i2"), J)
    assert [s.value for _, s in statements(program.body)][4] == AffineValue(Affine.var("i3"))


@pytest.mark.parametrize(
    ("header", "lower", "upper", "step"),
    [
        ("i = 0; i < n; i++", (0,), (15,), 1),
        ("i = 1; i <= n - 2; ++i", (1,), (14,), 1),
        ("i = 2; n > i; i += 3", (2,), (15,), 3),
        ("i = 0; i + 1 < n; i = i + 2", (0,), (14,), 2),
        ("i = 0; i < n && i < 2 * 5; i++", (0,), (15, 9), 1),
        ("i = n / 4; i < (n << 1) % 20; i++", (4,), (11,), 1),
    ],
)
def test_headers_become_inclusive_bounds(header, lower, upper, step):
    loop = parse(f"for (int {header}) A[0] = 0;").body[0]
    assert isinstance(loop, Loop)
    assert tuple(b.expr.const for b in loop.lower) == lower
    assert tuple(b.expr.const for b in loop.upper) == upper
    assert loop.step == step


def test_a_multiple_of_the_iterator_in_the_condition_becomes_a_divisor():
    loop = parse("for (int i = 0; 2 * i < n; i++) A[2 * i] = 0;").body[0]
    assert isinstance(loop, Loop)
    assert loop.upper == (Bound(Affine.constant(15), 2),)


@pytest.mark.parametrize("step", ["i--", "--i", "i -= 1", "i = i - 1"])
def test_a_loop_that_counts_down_is_turned_round(step):
    program = parse(f"for (int i = n - 1; i >= 1; {step}) A[i] = A[i - 1] + i;")
    around, statement = next(statements(program.body))
    assert around[0].lower == (Bound(Affine()),)
    assert around[0].upper == (Bound(Affine.constant(14)),)
    assert statement.target == Access("A", (-I + 15,))
    assert statement.instance == (I,)
    assert statement.value == Binary("+", Read(Access("A", (-I + 14,))), AffineValue(-I + 15))


def test_triangles_keep_their_outer_iterators():
    program = parse(
        "for (int i = 0; i < n; i++) for (int j = i + 1; j <= 2 * i && j < n; j++) A[j] = B[i];"
    )
    (_, inner) = [loop for _, loop in loops(program.body)]
    assert inner.lower == (Bound(I + 1),)
    assert inner.upper == (Bound(I * 2), Bound(Affine.constant(15)))


def test_min_and_max_in_bounds_become_two_bounds():
    program = parse(
        "for (int i = 0; i < n; i++)"
        " for (int j = i - 2 > 0 ? i - 2 : 0; j < (i + 3 < n ? i + 3 : n); j++) A[j] += B[i];"
    )
    (_, inner) = [loop for _, loop in loops(program.body)]
    assert inner.lower == (Bound(I - 2), Bound(Affine()))
    assert inner.upper == (Bound(I + 2), Bound(Affine.constant(15)))


def test_iterators_may_be_declared_before_the_region():
    text = (
        "void f(int n, float A[n]) { int i, j;\n#pragma scop\n"
        "for (i = 0; i < n; i++) for (j = 0; j < n; j++) A[i] += A[j];\n#pragma endscop\n}"
    )
    program = parse_program(text, "f.c", function="f", sizes={"n": 4})
    assert [loop.iterator for _, loop in loops(program.body)] == ["i", "j"]
    assert program.temporaries == ()


def test_every_element_type_is_read_under_its_names():
    program = parse(
        "a[0] = b[0] + c[0] + d[0] + e[0] + g[0];",
        "int n, float a[1], double b[1], int c[1], const signed int d[1], unsigned char e[1],"
        " unsigned char g[1]",
    )
    assert [a.dtype for a in program.arrays] == [
        DType.F32,
        DType.F64,
        DType.I32,
        DType.I32,
        DType.U8,
        DType.U8,
    ]


def test_scalar_parameters_are_data_and_sizes_are_numbers():
    program = parse(
        "for (int i = 0; i < n; i++) A[i] = alpha * n + low;",
        "int n, int low, double alpha, float A[n], int unused",
    )
    assert program.scalars == (Scalar("low", DType.I32), Scalar("alpha", DType.F64))
    assert only(program).value == Binary(
        "+", Binary("*", Read(Access("alpha")), Literal("16")), Read(Access("low"))
    )


def test_a_size_given_for_a_data_parameter_makes_it_a_constant():
    program = parse("A[0] = low;", "int n, int low, float A[n]", n=4, low=7)
    assert only(program).value == Literal("7")
    assert program.scalars == ()


def test_temporaries_belong_to_the_innermost_loops_that_need_them():
    program = parse(
        "double s; for (int i = 0; i < n; i++) { float t = 0.0f, u; int v;"
        " for (int j = 0; j < n; j++) { float t = A[j]; t += 1.0f; u = t; B[j] = u; }"
        " v = i; s = v; A[i] = t + s; }"
    )
    assert program.temporaries == (
        Temporary("s", DType.F64, 1),
        Temporary("t", DType.F32, 1),
        Temporary("u", DType.F32, 2),
        Temporary("t2", DType.F32, 2),
    )


def test_a_variable_set_before_the_region_enters_it():
    text = (
        "void f(int n, float A[n]) { float eps = 0.1f; float unused = 2.0f;\n#pragma scop\n"
        "for (int i = 0; i < n; i++) A[i] = eps;\n#pragma endscop\n}"
    )
    program = parse_program(text, "f.c", function=None, sizes={"n": 4})
    assert program.scalars == (Scalar("eps", DType.F32),)
    assert program.temporaries == ()


def test_a_const_int_made_of_iterators_may_stand_in_subscripts():
    program = parse("for (int i = 0; i < n / 2; i++) { const int k = 2 * i; A[k + 1] = 0; }")
    assert only(program).target == Access("A", (I * 2 + 1,))


def test_expressions_keep_their_structure_and_their_spelling():
    program = parse(
        "A[0] = (float)(-x > 0.5 && !(n == 3)) ? fmaxf(sqrtf(x), 1e-3f) : (x * 2.50 - ~k % 0x1F);",
        "int n, int k, float x, float A[n]",
    )
    value = only(program).value
    assert isinstance(value, Select)
    assert value.condition == Cast(
        DType.F32,
        Binary(
            "&&",
            Binary(">", Unary("-", Read(Access("x"))), Literal("0.5")),
            Unary("!", Binary("==", Literal("16"), Literal("3"))),
        ),
    )
    assert value.yes == Call("fmaxf", (Call("sqrtf", (Read(Access("x")),)), Literal("1e-3f")))
    assert value.no == Binary(
        "-",
        Binary("*", Read(Access("x")), Literal("2.50")),
        Binary("%", Unary("~", Read(Access("k"))), Literal("0x1F")),
    )


@pytest.mark.parametrize(
    ("statement", "op", "operand"),
    [
        ("A[i] += B[i]", "+", "B"),
        ("A[i] = A[i] + B[i]", "+", "B"),
        ("A[i] = B[i] + A[i]", "+", "B"),
        ("A[i] = A[i] - B[i]", "-", "B"),
        ("A[i] *= B[i]", "*", "B"),
        ("A[i] = fmaxf(A[i], B[i])", "max", "B"),
        ("A[i] = fmin(B[i], A[i])", "min", "B"),
    ],
)
def test_updates_become_reductions(statement, op, operand):
    found = only(parse(f"for (int i = 0; i < n; i++) {statement};"))
    assert (found.op, found.value) == (op, Read(Access(operand, (I,))))


@pytest.mark.parametrize(
    "statement",
    [
        "A[i] = B[i] - A[i]",
        "A[i] += A[i]",
        "A[i] += A[i] * B[i]",
        "A[i] += A[n / 2]",
        "A[i] /= B[i]",
        "A[i] = A[i] / 2.0f",
        "A[i] = B[i]",
    ],
)
def test_what_is_no_reduction_has_no_operator(statement):
    assert only(parse(f"for (int i = 0; i < n; i++) {statement};")).op == ""


def test_a_value_taken_from_a_neighbour_is_no_reduction():
    assert only(parse("for (int i = 1; i < n; i++) A[i] = A[i - 1] + B[i];")).op == ""


def test_an_operand_that_never_meets_the_target_leaves_a_reduction():
    body = "for (int i = 0; i < n; i++) for (int j = i + 1; j < n; j++) A[j] -= A[i] * B[j];"
    assert only(parse(body)).op == "-"


def test_an_update_with_an_explicit_operator_keeps_the_whole_value():
    found = only(parse("for (int i = 0; i < n; i++) A[i] /= B[i];"))
    assert found.value == Binary("/", Read(Access("A", (I,))), Read(Access("B", (I,))))


@pytest.mark.parametrize(
    ("kind", "statement", "op"),
    [
        ("int", "A[i] += 2", "+"),
        ("unsigned char", "A[i] -= i", "-"),
        ("int", "A[i] += 0.5", ""),
        ("int", "A[i] = fmax(A[i], 3)", ""),
        ("double", "A[i] = fmaxf(A[i], 3.0f)", ""),
        ("double", "A[i] = fmax(A[i], 3.0f)", "max"),
        ("int", "A[i] <<= 1", ""),
        ("int", "A[i] ^= i", ""),
    ],
)
def test_integer_updates_keep_the_semantics_of_c(kind, statement, op):
    program = parse(f"for (int i = 0; i < n; i++) {statement};", f"int n, {kind} A[n]")
    assert only(program).op == op


def test_unary_plus_still_promotes_a_byte():
    program = parse("A[0] = +A[1];", "int n, unsigned char A[n]")
    assert only(program).value == Binary(
        "+", Literal("0"), Read(Access("A", (Affine.constant(1),)))
    )


def test_strided_and_shifted_subscripts_are_proved_in_bounds():
    program = parse(
        "for (int i = 0; i < n; i++) for (int j = 1; j <= n; j++)"
        " A[2 * i + 1][j - 1] = B[i + j - 1];",
        "int n, float A[2 * n][n], float B[2 * n - 1]",
    )
    assert only(program).target == Access("A", (I * 2 + 1, J - 1))


def test_bounds_are_proved_exactly_where_intervals_are_too_coarse():
    program = parse(
        "for (int i = 0; i < n; i++) for (int j = i; j < n; j++) A[j - i] = B[n - 1 - j + i];"
    )
    assert [a.name for a in program.arrays] == ["A", "B"]


def test_a_stride_keeps_an_access_in_bounds():
    program = parse("for (int i = 0; i < n; i += 3) A[i] = 0;", "int n, float A[16]", n=18)
    assert program.array("A").shape == (16,)


def test_comments_pragmas_and_standard_headers_need_no_compiler(tmp_path):
    path = tmp_path / "f.c"
    path.write_text(
        "#include <math.h> /* a\n comment */\n#include <stdint.h>\n"
        'void f(int n, uint8_t A[n]) { // "not a string\n#pragma scop\n#pragma omp parallel for\n'
        "for (int i = 0; i < n; /* i */ i++) A[i] = 1;\n#pragma endscop\n}\n"
    )
    program = load_program(path, function=None, sizes={"n": 3}, compiler="/no/such/compiler")
    assert program.array("A").dtype is DType.U8


def test_the_function_is_chosen_by_name(tmp_path):
    path = tmp_path / "two.c"
    region = "(float A[4]) {\n#pragma scop\nA[0] = 1;\n#pragma endscop\n}\n"
    path.write_text(f"void one{region}void two{region}int main(void) {{ return 0; }}\n")
    assert load_program(path, function="two", sizes={}).name == "two"


def test_typedefs_of_the_file_are_followed():
    text = (
        "typedef double real; typedef const real fixed; void f(real A[2], fixed B[2])"
        "{\n#pragma scop\nA[0] = B[1];\n#pragma endscop\n}"
    )
    program = parse_program(text, "f.c", function=None, sizes={})
    assert {a.dtype for a in program.arrays} == {DType.F64}
    with pytest.raises(SourceError, match="read-only"):
        parse_program(text.replace("A[0] = B[1]", "B[0] = A[1]"), "f.c", function=None, sizes={})


def test_unused_arrays_and_scalars_are_no_arguments():
    program = parse("A[0] = 1;", "int n, int m, float A[n], float B[m], float x")
    assert [a.name for a in program.arrays] == ["A"]
    assert program.scalars == ()


def test_lines_end_as_on_windows(tmp_path: Path):
    path = tmp_path / "dos.c"
    path.write_bytes(
        b"void f(float A[2]) {\r\n#pragma scop\r\nA[0] = 1;\r\n#pragma endscop\r\n}\r\n"
    )
    assert load_program(path, function=None, sizes={}).name == "f"
