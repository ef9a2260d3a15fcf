"""Functions as people write them, without a pragma: what is read of them."""

from pathlib import Path

import pytest

from agent.errors import SourceError
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.lowering.lower import Reading
from agent.loopnest.lowering.reader import load_program, read_region, regions_of
from agent.loopnest.program import (
    Access,
    Affine,
    AffineValue,
    Cast,
    DType,
    Literal,
    Loop,
    Statement,
    Temporary,
    statements,
)

PLANT = Path(__file__).parents[3] / "cases" / "plant"
SIZES = {
    "box3x3_borders": {"w": 64, "h": 48},
    "calibration_curve": {"n": 100},
    "dot_induction": {"n": 100, "incx": 2, "incy": 3},
    "fir_taps": {"n": 100},
    "gemm_lda": {"m": 20, "n": 24, "k": 28, "lda": 32, "ldb": 32, "ldc": 32},
    "heat_pingpong": {"steps": 4},
    "kalman_predict": {},
    "lookup_table": {"pixels": 100},
    "sobel_flat": {"w": 64, "h": 48},
    "struct_fields": {"n": 100},
    "threshold_count": {"rows": 40, "cols": 50},
    "two_regions": {"rows": 40, "cols": 50},
}


def read(text: str, nest: int | None = None, **sizes: int) -> Reading:
    return read_region(parse_text(text, "f.c"), None, sizes, nest)


def body(text: str, **sizes: int) -> list[Statement]:
    return [s for _, s in statements(read(text, **sizes).program.body)]


def loops(text: str, **sizes: int) -> list[Loop]:
    return [x for x in read(text, **sizes).program.body if isinstance(x, Loop)]


@pytest.mark.parametrize("name", SIZES)
def test_a_function_of_a_plant_is_read_as_it_stands(name):
    found = load_program(PLANT / f"{name}.c", function=name, sizes=SIZES[name])
    assert found.name == name


def test_a_flat_index_is_affine_once_sizes_are_known():
    (only,) = body(
        "void f(int n, int ld, float *a) { for (int i = 0; i < n; i++) for (int j = 0; j < n; j++)"
        " a[i * ld + j] = 0; }",
        n=4, ld=10,
    )  # fmt: skip
    assert only.target.subscripts == (Affine.of({"i": 10, "j": 1}),)


def test_accesses_say_how_long_the_array_behind_a_pointer_is():
    program = read("void f(int n, float *a) { for (int i = 0; i < n; i++) a[2 * i + 3] = 0; }", n=5)
    assert program.program.array("a").shape == (12,)


def test_a_pointer_into_the_middle_begins_where_the_first_access_is():
    found = read("void f(int n, float *a) { for (int i = 0; i < n; i++) a[i - 2] = 0; }", n=5)
    (binding,) = found.bindings
    assert (binding.low, found.program.array("a").shape) == (-2, (5,))


def test_a_second_counter_is_followed():
    (only,) = body(
        "void f(int n, float *a, const float *b) { int k = 0; for (int i = 0; i < n; i++) {"
        " a[i] = b[k]; k += 3; } }",
        n=5,
    )  # fmt: skip
    assert only.value.access == Access("b", (Affine.of({"i": 3}),))


def test_a_counter_that_two_loops_advance_is_followed():
    (only,) = body(
        "void f(float *a) { int k = 0; for (int i = 0; i < 4; i++) for (int j = 0; j < 5; j++)"
        " a[k++] = 1; }"
    )
    assert only.target.subscripts == (Affine.of({"i": 5, "j": 1}),)


def test_a_row_taken_as_a_pointer_is_followed():
    (only,) = body(
        "void f(int w, int h, const float *p, float *q) { for (int y = 0; y < h; y++) {"
        " const float *row = p + y * w; for (int x = 0; x < w; x++) q[x] = row[x]; } }",
        w=8, h=6,
    )  # fmt: skip
    assert only.value.access == Access("p", (Affine.of({"x": 1, "y": 8}),))


def test_a_pointer_that_walks_is_followed():
    (only,) = body(
        "void f(int n, float *a, const float *b) { for (int i = 0; i < n; i++) *a++ = *b++; }", n=9
    )
    assert (only.target, only.value.access) == (
        Access("a", (Affine.var("i"),)),
        Access("b", (Affine.var("i"),)),
    )


def test_an_affine_condition_bounds_the_domain_and_makes_accesses_safe():
    (only,) = body(
        "void f(int n, float a[n]) { for (int i = 0; i < n; i++) if (i > 0) a[i - 1] = a[i]; }", n=9
    )
    assert only.condition is not None


def test_a_condition_on_data_guards_its_statement():
    (only,) = body(
        "void f(int n, float *a, const float *b) { for (int i = 0; i < n; i++)"
        " if (b[i] > 0) a[i] = b[i]; }",
        n=9,
    )  # fmt: skip
    assert only.condition is not None


def test_a_condition_on_data_that_guards_several_statements_is_evaluated_once():
    flag, first, second = body(
        "void f(int n, float *a, float *b) { for (int i = 0; i < n; i++)"
        " if (b[i] > 0) { b[i] = 0; a[i] = 1; } }",
        n=9,
    )  # fmt: skip
    assert first.condition == second.condition
    assert first.condition.access == flag.target


def test_a_condition_is_evaluated_once_where_a_chain_of_assignments_changes_it():
    flag, *rest = body(
        "void f(int n, float *a, float *b) { for (int i = 0; i < n; i++)"
        " if (b[i] > 0) a[i] = b[i] = 0; }",
        n=9,
    )  # fmt: skip
    assert [s.condition.access for s in rest] == [flag.target] * 2


def test_a_check_of_a_number_read_from_data_bounds_the_subscript():
    text = (
        "int f(int n, const int *x, int *h) { int bad = 0; for (int i = 0; i < n; i++) {"
        " int v = x[i]; if (v < 0 || v >= 64) { bad++; continue; } h[v]++; } return bad; }"
    )
    assert read(text, n=9).program.array("h").shape == (64,)


@pytest.mark.parametrize("change", ["v += x[i];", "for (int j = 0; j < 3; j++) v += x[j];"])
def test_a_check_says_nothing_once_the_number_has_changed(change):
    text = (
        "void f(int n, const int *x, int *h) { for (int i = 0; i < n; i++) {"
        f" int v = x[i]; if (v >= 0 && v < 64) {{ {change} h[v]++; }} }} }}"
    )
    with pytest.raises(SourceError, match="how many elements 'h' has"):
        read(text, n=9)


def test_continue_leaves_out_the_rest_of_the_body():
    first, second = body(
        "void f(int n, float *a, float *b) { for (int i = 0; i < n; i++) {"
        " a[i] = 0; if (i == 3) continue; b[i] = 1; } }",
        n=9,
    )  # fmt: skip
    assert first.condition is None
    assert second.condition is not None


def test_a_result_that_is_returned_is_an_array_of_one_element():
    found = read(
        "double f(int n, const double *x) { double s = 0; for (int i = 0; i < n; i++) s += x[i];"
        " return s; }",
        n=9,
    )  # fmt: skip
    assert found.program.array("s").shape == (1,)
    assert ("s", "&s") in [(b.array, b.expression) for b in found.bindings]


def test_a_scalar_that_stays_in_the_loops_is_a_temporary():
    found = read(
        "void f(int n, double *x) { double t; for (int i = 0; i < n; i++) { t = x[i]; x[i] = t * t;"
        " } }",
        n=9,
    )  # fmt: skip
    assert found.program.temporaries == (Temporary("t", DType.F64, 1),)


def test_a_subscript_read_from_data_may_be_any_element_in_its_range():
    (only,) = body(
        "void f(int n, const unsigned char *x, unsigned *h) { for (int i = 0; i < n; i++)"
        " h[x[i]]++; }",
        n=9,
    )  # fmt: skip
    (derived,) = only.derived
    assert (derived.low, derived.high) == (0, 255)


def test_halves_and_remainders_are_known_exactly():
    (only,) = body("void f(float a[8]) { for (int i = 0; i < 16; i++) a[i / 2] = i; }")
    (derived,) = only.derived
    assert (derived.low, derived.high) == (0, 7)


def test_a_minimum_in_a_bound_is_two_bounds():
    first, *_ = loops(
        "#define MIN(a, b) ((a) < (b) ? (a) : (b))\n"
        "void f(int n, int m, float *a) { for (int i = 0; i < MIN(n, m + 2); i++) a[i] = 0; }",
        n=5, m=9,
    )  # fmt: skip
    assert {b.expr.const for b in first.upper} == {4, 10}


def test_an_unsigned_loop_downwards_ends_at_zero():
    (only,) = body("void f(unsigned n, float *a) { for (unsigned i = n; i-- > 0;) a[i] = 0; }", n=5)
    assert only.target.subscripts == (Affine.of({"i": -1}, 4),)


def test_a_static_function_is_read_in_place():
    argument, only = body(
        "static float square(float x) { return x * x; }\n"
        "void f(int n, float *a, float y) { for (int i = 0; i < n; i++) a[i] = square(y); }",
        n=5,
    )  # fmt: skip
    assert (argument.target.array, only.target.array) == ("x", "a")


def test_returns_under_conditions_become_a_choice():
    _, only = body(
        "static int clamp(int v) { if (v < 0) return 0; if (v > 255) return 255; return v; }\n"
        "void f(int n, unsigned char *a, const int *b) { for (int i = 0; i < n; i++)"
        " a[i] = clamp(b[i]); }",
        n=5,
    )  # fmt: skip
    assert type(only.value).__name__ == "Select"


def test_fields_of_a_structure_are_a_dimension():
    (only,) = body(
        "struct point { float x, y, z; };\n"
        "void f(int n, struct point *p) { for (int i = 0; i < n; i++) p[i].z = 0; }",
        n=5,
    )  # fmt: skip
    assert only.target == Access("p", (Affine.var("i"), Affine.constant(2)))


def test_a_constant_table_comes_with_its_values():
    found = read(
        "static const float taps[3] = {0.25f, 0.5f};\n"
        "void f(int n, float *a) { for (int i = 0; i < n; i++) a[i] = taps[i % 3]; }",
        n=5,
    )  # fmt: skip
    assert found.program.array("taps").values == ("0.25f", "0.5f", "0")


def test_a_value_given_before_the_loops_is_followed():
    (loop,) = loops(
        "void f(int n, float *a) { n = n / 2; for (int i = 0; i < n; i++) a[i] = 0; }", n=9
    )
    assert loop.upper[0].expr == Affine.constant(3)


def test_a_choice_that_a_size_decides_keeps_the_type_that_both_had():
    (only,) = body(
        "void f(int n, double *a) { for (int i = 0; i < n; i++) a[i] = (n > 3 ? 7 : 0.5) / 2; }",
        n=5,
    )  # fmt: skip
    assert only.value.left == Cast(DType.F64, Literal("7"))


def test_masks_of_sizes_are_numbers():
    (only,) = body(
        "void f(int n, float *a) { float *p = a + (n & 3); for (int i = 0; i < (n | 1); i++)"
        " p[i] = 0; }",
        n=6,
    )  # fmt: skip
    assert only.target == Access("a", (Affine.of({"i": 1}, 2),))


def test_a_pointer_that_data_moves_before_the_loops_is_not_followed():
    with pytest.raises(SourceError, match=r"'p' cannot be (used|followed)"):
        read(
            "void f(int n, float *a, int *b) { float *p = a + b[0]; for (int i = 0; i < n; i++)"
            " p[i] = 0; }",
            n=6,
        )  # fmt: skip


def test_what_never_runs_with_these_sizes_is_left_out():
    (only,) = body(
        "void f(int n, float a[n]) { for (int i = 0; i < n; i++) {"
        " int at = n - 8; if (at >= 0 && at < n) a[at] = 1; if (!(n > 3)) a[99] = 0; a[i] = 2; } }",
        n=5,
    )  # fmt: skip
    assert only.target == Access("a", (Affine.var("i"),))


def test_what_is_taken_for_granted_is_said():
    found = read(
        "void f(int n, float *a, float *b) { for (int i = 0; i < n; i++) a[i] = b[i]; }", n=9
    )
    assert found.assumed == ("no two pointers of the function lead to the same memory",)


WRONG = {
    "a size that an earlier loop changes": (
        "void f(int n, float *a) { while (n > a[0]) n--; for (int i = 0; i < n; i++) a[i] = 0; }",
        "what 'n' is before the loops is not known",
    ),
    "a negative number against an unsigned bound": (
        "void f(unsigned n, float *a) { for (int i = -1; i < n; i++) a[i + 1] = 0; }",
        "C converts it to uint32_t here, which may change it",
    ),
    "a counter that wraps around": (
        "void f(float *a) { for (unsigned char i = 0; i < 300; i++) a[i] = 0; }",
        "'i' would wrap around",
    ),
    "a loop that never ends": (
        "void f(int n, float *a) { for (int i = 1; i != n; i += 2) a[i] = 0; }",
        "it is not clear that `i != n` ever ends the loop",
    ),
    "memory that another thread may change": (
        "void f(int n, float *b, volatile float *a) { for (int i = 0; i < n; i++) a[i] = 0; }",
        "is volatile",
    ),
    "recursion": (
        "static float g(float x) { return x > 0 ? g(x - 1) : x; }\n"
        "void f(int n, float *a) { for (int i = 0; i < n; i++) a[i] = g(a[i]); }",
        "g calls itself",
    ),
    "nothing": (
        "void f(int n, float *a) { for (int i = 0; i < n; i++) { float t = a[i]; t += 1; } }",
        "it computes nothing that leaves it",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_followed_is_refused(name):
    text, pattern = WRONG[name]
    with pytest.raises(SourceError, match=pattern) as caught:
        read(text, **({"n": 50} if " n, " in text else {}))
    assert caught.value.message.startswith("f.c:")


def test_a_narrow_size_takes_no_value_that_it_cannot_hold():
    with pytest.raises(SourceError, match=r"outside 1\.\.255"):
        read("void f(unsigned char n, float *a) { for (int i = 0; i < n; i++) a[i] = 0; }", n=300)


def test_an_unsigned_size_stays_unsigned_in_values():
    (only,) = body(
        "void f(unsigned n, float a[n]) { for (int i = 0; i < 8; i++) a[i] = i - n; }", n=9
    )
    assert only.value.left == AffineValue(Affine.var("i"))
    assert only.value.right.text == "9u"


def test_several_nests_are_told_by_their_lines_and_one_is_chosen():
    text = (
        "int g(void);\nvoid f(int n, float *a) {\nfor (int i = 0; i < n; i++) a[i] = 0;\ng();\n"
        "for (int i = 0; i < n; i++) a[i] += 1;\n}"
    )
    with pytest.raises(SourceError, match=r"1 \(lines 3 to 3\), 2 \(lines 5 to 5\)") as caught:
        read(text, n=5)
    assert "--nest" in caught.value.hint
    assert read(text, nest=2, n=5).part.first_line == 5


def test_what_is_used_behind_the_loops_is_not_declared_in_their_run():
    text = """
    float f(int n, float *a, const float *b)
    {
        for (int i = 0; i < n; i++)
            a[i] = 0;
        float sum = 0;
        for (int i = 0; i < n; i++)
            sum += a[i] * b[i];
        return sum;
    }
    """
    unit = parse_text(text, "f.c")
    (function,) = unit.functions.values()
    assert [len(part.items) for part in regions_of(unit, function)] == [1, 1]


def test_a_declaration_that_parts_a_run_leaves_no_other_behind_that_is_used_later():
    text = """
    void f(int n, float *a, float *total)
    {
        for (int i = 0; i < n; i++)
            a[i] = 0;
        float row[4];
        for (int i = 0; i < 4; i++)
            row[i] = 0;
        float sum = 0;
        for (int i = 0; i < n; i++)
            sum += a[i] + row[i % 4];
        *total = sum;
    }
    """
    unit = parse_text(text, "f.c")
    (function,) = unit.functions.values()
    assert [len(part.items) for part in regions_of(unit, function)] == [1, 1, 1]


def test_a_sum_is_seen_alike_wherever_its_variable_is_declared():
    text = """
        void f(float *restrict ac, const float *restrict x)
        {{
            {}
            for (int k = 0; k < 20; k++) {{
                {};
                for (int i = 0; i < 90; i++)
                    d += x[i] * x[i + k];
                ac[k] = d;
            }}
        }}
        """
    outside, inside = text.format("float d;", "d = 0"), text.format("", "float d = 0")
    one, two = (read_region(parse_text(t, "f.c"), None, {}).program for t in (outside, inside))
    assert one.temporaries == two.temporaries
    assert one.body == two.body
