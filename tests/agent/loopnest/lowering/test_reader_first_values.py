"""Variables are given a value before they are read."""

import pytest

from agent.errors import SourceError
from agent.loopnest.lowering.reader import parse_program


def parse(body: str, before: str = ""):
    text = f"void f(int n, float A[n], const float B[n])\n{{\n{before}\n#pragma scop\n{body}\n"
    return parse_program(text + "#pragma endscop\n}", "f.c", function=None, sizes={"n": 16})


def loop(name: str, statement: str) -> str:
    return f"for (int {name} = 0; {name} < n; {name}++) {{ {statement} }}"


UNSET = {
    "a read": loop("i", "float t; A[i] = t; t = 2;"),
    "an update": loop("i", "float t; t += B[i]; A[i] = t;"),
    "an update written out": loop("i", "float t; t = t + B[i]; A[i] = t;"),
    "a count": "int t; t++; A[0] = t;",
    "its own initialiser": "float t = t * 2; A[0] = t;",
    "a maximum": loop("i", "float t; t = fmaxf(t, B[i]); A[i] = t;"),
    "a choice": loop("i", "float t; A[i] = i > 0 ? t : B[i]; t = 1;"),
    "a value of the iteration before": "float t; " + loop("i", "A[i] = t; t = B[i];"),
    "a variable that hides one with a value": "float t = 1; " + loop("i", "float t; A[i] = t;"),
}


@pytest.mark.parametrize("body", UNSET.values(), ids=UNSET)
def test_a_variable_read_before_it_has_a_value_is_refused(body):
    with pytest.raises(
        SourceError, match=r"^f\.c:5:\d+: 't' (is read before it has a value|cannot be used here)"
    ) as caught:
        parse(body)
    assert caught.value.hint


def test_a_value_given_before_the_region_enters_it():
    assert [s.name for s in parse(loop("i", "A[i] = t;"), before="float t; t = 3;").scalars] == [
        "t"
    ]


GIVEN = {
    "an initialiser": loop("i", "float t = 0; t += B[i]; A[i] = t;"),
    "an assignment": loop("i", "float t; t = B[i]; t *= 2; A[i] = t;"),
    "an assignment in an inner loop": loop(
        "i", "float t; " + loop("j", "t = B[j]; t += 1;") + " A[i] = t;"
    ),
    "an assignment in an earlier loop": "float t; "
    + loop("i", "t = B[i]; A[i] = t;")
    + loop("k", "A[k] += t;"),
    "an assignment that chooses": loop("i", "float t; t = B[i] > 0 ? B[i] : 0; A[i] = t;"),
    "an assignment in a block": loop("i", "float t; { t = B[i]; } A[i] = t;"),
    "an iterator declared before": "int i; for (i = 0; i < n; i++) A[i] = i;",
}


@pytest.mark.parametrize("body", GIVEN.values(), ids=GIVEN)
def test_a_variable_with_a_value_is_read(body):
    assert parse(body).body


def test_a_variable_initialised_before_the_region_is_read():
    assert parse(loop("i", "t += B[i]; A[i] = t;"), before="float t = 0;").body
