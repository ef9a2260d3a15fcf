"""What is counted of conditions, derived numbers, functions and wide integers."""

import numpy as np
import pytest

from agent.loopnest.features.nest import NestTable, lower
from agent.loopnest.features.summary import OPS
from agent.loopnest.features.vector import features
from agent.loopnest.program import FUNCTIONS, Binary, Call, Derived, DType, Literal
from tests.agent.loopnest.forms import FORMS, I64, index, less, put, when
from tests.agent.loopnest.nests import at, loop, plus, program, read

SHAPES = {"x": (64,), "y": (64,), "m": (64,)}


def table(*body, dtype=DType.F64) -> NestTable:
    return lower([program(loop("i", 0, 63, *body), arrays=SHAPES, dtype=dtype)])


def ops(found: NestTable) -> dict[str, float]:
    return {name: n for name, n in zip(OPS, found.ops[0, 0].tolist(), strict=True) if n}


COPY = put("S0", at("x", "i"), "", read("y", "i"), "i")


def test_a_condition_counts_as_a_ternary_and_its_reads_as_accesses() -> None:
    guarded = table(*when(less(read("m", "i"), Literal("2")), COPY))
    assert ops(guarded) == {"compare": 2.0}
    assert (guarded.array[0, 0] >= 0).sum() == (table(COPY).array[0, 0] >= 0).sum() + 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_cost(name: str) -> None:
    call = Call(name, (read("y", "i"),) * FUNCTIONS[name])
    assert sum(ops(table(put("S0", at("x", "i"), "", call, "i"))).values()) > 0


def gathered(value, high: int = 63) -> np.ndarray:
    number = Derived("d", value, 0, high)
    found = table(put("S0", at("x", "i"), "", read("y", "d"), "i", derived=[number]))
    return found.coef[0, 0, list(found.array[0, 0]).index(1), -1, 0]


def test_elements_that_data_choose_lie_on_cache_lines_of_their_own() -> None:
    assert gathered(read("m", "i")) == 64 / 8


def test_a_quasi_affine_subscript_moves_about_as_its_iterator() -> None:
    assert gathered(Binary("/", index("3*i"), Literal("2"))) == 2
    assert gathered(Binary("%", plus(index("i"), Literal("1")), Literal("8"))) == 1


def test_a_histogram_does_not_accumulate_into_one_element() -> None:
    assert not lower([FORMS["histogram"]]).reduction.any()


def test_integers_of_64_bits_fill_lanes_of_64_bits() -> None:
    assert table(COPY, dtype=I64).lane_bytes[0, 0] == 8


def test_every_form_has_finite_features() -> None:
    assert np.isfinite(features(lower(list(FORMS.values())))).all()
