"""Quotients in bounds, the greatest of whole numbers, and where fields and pointers lie."""

import pytest

from agent.errors import SourceError
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.lowering.reader import read_region
from agent.loopnest.program import Affine, Bound, statements


def read(text: str, **sizes: int):
    return read_region(parse_text(text, "f.c"), None, sizes).program


@pytest.mark.parametrize(
    ("update", "op"),
    [
        ("if (x[i] > m) m = x[i];", "max"),
        ("if (m >= x[i]) { m = x[i]; }", "min"),
        ("m = x[i] < m ? x[i] : m;", "min"),
        ("if (x[i] > m) m = x[i] + 1;", ""),
        ("if (x[i] > m) m = x[m & 1];", ""),
        ("if (y[i] > m) m = y[i];", ""),  # compared as long long, kept as int
    ],
)
def test_the_greatest_of_whole_numbers_is_a_reduction(update, op):
    program = read(
        "int f(int n, const int *x, const long long *y) { int m = 0;"
        f" for (int i = 0; i < n; i++) {{ {update} }} return m; }}",
        n=9,
    )
    found = [s for _, s in statements(program.body)]
    assert {s.op for s in found if s.target.array == "m2"} - {""} == ({op} if op else set())


def test_a_quotient_bounds_a_loop_exactly():
    text = (
        "void f(int n, float *a) { for (int j = 0; j < n; j++)"
        " for (int i = 0; i < (n + j) / 2; i++) a[i] = 0; }"
    )
    (outer,) = read(text, n=9).body
    (inner,) = outer.body
    assert inner.upper == (Bound(Affine.of({"j": 1}, 7), 2),)


def test_a_choice_in_a_bound_is_not_decided_by_its_numbers_alone():
    text = (
        "void f(int n, int *a) { for (int k = 12; k--;)"
        " for (int j = 0; j != (n < k ? n : k); j++) a[j] = k; }"
    )
    with pytest.raises(SourceError, match="it depends on a condition"):
        read(text, n=2)


@pytest.mark.parametrize("never", ["i < i", "n < 3", "i + 1 <= i"])
def test_a_loop_whose_condition_never_holds_does_not_run(never):
    text = (
        f"void f(int n, int *a) {{ a[9] = 0; for (int i = -3; i < n && {never}; i++) a[i + 3] = 1;"
        f" for (int i = -3; i < n; i++) {{ if (!({never})) break; a[i + 3] = 1; }} a[9] = 2; }}"
    )
    text = text.replace("a[9] = 0;", "for (int i = 0; i < n; i++) a[i] = 0;")
    for node in read(text, n=9).body[1:3]:
        (low,), highs = node.lower, node.upper
        assert min(high.expr.const for high in highs) < low.expr.const


def test_a_quotient_of_what_may_be_negative_is_no_bound():
    text = (
        "void f(int n, float *a) { for (int j = 0; j < n; j++)"
        " for (int i = 0; i < (j - 3) / 2; i++) a[i] = 0; }"
    )
    with pytest.raises(SourceError, match="may be negative"):
        read(text, n=9)


def test_a_field_of_a_packed_structure_is_refused():
    text = (
        "struct __attribute__((packed)) s { char c; float x; };\n"
        "void f(int n, struct s *p) { for (int i = 0; i < n; i++) p[i].x = 0; }"
    )
    with pytest.raises(SourceError, match="multiple of its size"):
        read(text, n=9)


def test_a_pointer_that_data_leads_somewhere_is_not_passed_on():
    text = (
        "static void add(int *to) { to[0] += 1; to[1] = 0; }\n"
        "void f(int n, int h[99], const int *x) { for (int i = 0; i < n; i++) add(&h[x[i]]); }"
    )
    with pytest.raises(SourceError, match="a pointer that add gets leads is read from memory"):
        read(text, n=9)


def test_a_counter_that_a_helper_advances_is_no_affine_number():
    text = (
        "static void next(int *k) { *k += 2; }\n"
        "void f(int n, float a[n]) { int k = 0;"
        " for (int i = 0; i < n / 2; i++) { a[k] = i; next(&k); } }"
    )
    *_, store = (s for _, s in statements(read(text, n=8).body) if s.target.array == "a")
    assert [d.low for d in store.derived] == [0]


def test_a_pointer_of_the_file_that_a_helper_moves_is_not_followed():
    text = (
        "static float *to;\n"
        "static void put(float v) { *to++ = v; }\n"
        "void f(int n, const float *a) { for (int i = 0; i < n; i++) put(a[i]); }"
    )
    with pytest.raises(SourceError, match="'to' cannot be followed: a function that the loops"):
        read_region(parse_text(text, "f.c"), "f", {"n": 9})
