"""Side effects without an order are refused; those with one are read."""

import pytest

from agent.errors import SourceError
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.lowering.reader import read_region
from agent.loopnest.lowering.sequence import check_sequence

OPEN = "C leaves open which comes first"
FILE = """
struct pair {{ int n, m; }};
static int many;
static int next(int *k) {{ return (*k)++; }}
static int first(int *k) {{ return *k + many; }}
static int more(void) {{ many++; return many; }}
static int half(int v) {{ v /= 2; return v; }}

void f(int n, int *a, int *b, struct pair *s)
{{
    int k = 0, j = 0;
    for (int i = 0; i < n; i++) {{
        {}
    }}
    a[0] = k + j;
}}
"""


def read(statement: str):
    unit = parse_text(FILE.format(statement), "f.c")
    assert not unit.errors, unit.errors
    return read_region(unit, "f", {"n": 8}, 1)


@pytest.mark.parametrize(
    ("statement", "effect", "use"),
    [
        ("a[k++] = b[i] + k;", "k++", "k"),
        ("a[k] = b[k++];", "k++", "k"),
        ("a[i] = k++ + k++;", "k++", "k++"),
        ("a[i] = (k += 2) * k;", "k += 2", "k"),
        ("k = k++;", "k++", "k = k++"),
        ("k += k++;", "k++", "k"),
        ("j = b[j = i];", "j = i", "j = b[j = i]"),
        ("a[i] = b[i]++ + b[i];", "b[i]++", "b[i]"),
        ("a[i] = b[a[i] = i];", "a[i] = i", "a[i] = b[a[i] = i]"),
        ("*a++ = *a;", "a++", "a"),
        ("a[i] = s->n++ - s->n;", "s->n++", "s->n"),
        ("a[i] = b[i] > 0 ? k++ + k : 0;", "k++", "k"),
        ("if (k++ < k) a[i] = 0;", "k++", "k"),
        ("int t = k + k--; a[i] = t;", "k--", "k"),
        ("a[k++] = half(k);", "k++", "k"),
        ("a[i] = next(&k) + k;", "next(&k)", "k"),
        ("a[next(&k)] = b[next(&k)];", "next(&k)", "next(&k)"),
        ("a[i] = next(b) + b[1];", "next(b)", "b[1]"),
        ("a[i] = more() + many;", "more()", "many"),
        ("a[i] = more() - first(b);", "more()", "first(b)"),
    ],
)
def test_an_effect_that_c_puts_into_no_order_is_refused(statement, effect, use) -> None:
    with pytest.raises(SourceError) as refused:
        read(statement)
    assert f"`{effect}` changes what `{use}` uses, and {OPEN}" in refused.value.message
    assert refused.value.message.startswith("f.c:13:")
    assert "statements of their own" in refused.value.hint


@pytest.mark.parametrize(
    "statement",
    [
        "a[k++] = b[i];",
        "a[k++] = b[j++];",
        "*a++ = *b++;",
        "a[i] = (k++, k);",
        "k = (k++, 2);",
        "a[i] = b[i] = k;",
        "a[i] = b[i + 1]++ + b[i];",
        "k = k + 1; a[k] = k;",
        "a[i] = half(k) + k;",
        "a[i] = half(k++) + j;",
        "a[i] = first(b) + b[0];",
        "k = next(&k); a[i] = k;",
        "a[i] = next(&k) + j;",
        "int t = k++, u = k; a[i] = t + u;",
        "a[i] = s->n++ - s->m;",
    ],
)
def test_effects_in_an_order_are_no_hindrance(statement) -> None:
    unit = parse_text(FILE.format(statement), "f.c")
    check_sequence(unit, [function.body for function in unit.functions.values()])


def test_what_a_called_function_does_is_looked_at_as_well() -> None:
    text = """
static int twice(int k) { return k++ + k; }
void f(int n, int *a)
{
    for (int i = 0; i < n; i++)
        a[i] = twice(i);
}
"""
    with pytest.raises(SourceError, match=f"f.c:2:34: .*{OPEN}"):
        read_region(parse_text(text, "f.c"), "f", {"n": 8})
