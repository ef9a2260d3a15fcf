import pytest

from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import Program
from bundles.corpus.traits import distance, mean_traits, traits


def read(body: str) -> Program:
    text = f"void f(int n, float *a, const float *b, unsigned char *c) {{ {body} }}"
    return parse_program(text, "f.c", function=None, sizes={"n": 100})


TRIANGLE = "for (int i = 0; i < n; i++) for (int j = 0; j <= i; j++) a[100 * i + j] += b[2 * j];"
ROW = "float s = 0; for (int j = 0; j < 8; j++) s += b[8 * i + j]; a[i] = s;"
SUM = f"for (int i = 0; i < n; i++) {{ {ROW} }}"
MASK = "for (int i = 0; i < n; i++) if (b[i] > 0.5f) c[0] = 1;"


@pytest.mark.parametrize(
    ("body", "name", "shares"),
    [
        (TRIANGLE, "bounds", {"of other loops": 1.0}),
        (TRIANGLE, "reduction", {"yes": 1.0}),
        (TRIANGLE, "subscript", {"of several loops": 0.5, "c * i": 0.5}),
        (TRIANGLE, "elements moved by the innermost loop", {"1": 0.5, "2": 0.5}),
        (SUM, "sum in a variable", {"yes": 1.0}),
        (SUM, "nesting", {"imperfect": 1.0}),
        (SUM, "iterations of a loop", {"64-255": 0.5, "8-15": 0.5}),
        (MASK, "condition", {"yes": 1.0}),
        (MASK, "type of an array", {"float": 0.5, "uint8_t": 0.5}),
        (MASK, "subscript", {"i": 0.5, "number": 0.5}),
    ],
)
def test_traits_say_what_a_program_is_made_of(body: str, name: str, shares: object) -> None:
    assert traits(read(body))[name] == shares


def test_every_trait_is_a_distribution() -> None:
    for body in (TRIANGLE, SUM, MASK):
        assert all(abs(sum(s.values()) - 1) < 1e-9 for s in traits(read(body)).values())


def test_means_weigh_programs_and_distances_lie_between_0_and_1() -> None:
    found = mean_traits([(traits(read(TRIANGLE)), 1.0), (traits(read(MASK)), 3.0)])
    assert found["condition"] == {"no": 0.25, "yes": 0.75}
    assert distance(found["condition"], {"no": 1.0}) == 0.75
    assert distance(found["condition"], found["condition"]) == 0.0
