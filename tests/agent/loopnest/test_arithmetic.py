"""What C's arithmetic makes of a program's numbers."""

import pytest

from agent.loopnest.arithmetic import coarsest_float
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import DType


@pytest.mark.parametrize(
    ("statement", "coarsest"),
    [
        ("k[i] += 1;", None),
        ("d[i] += 1;", DType.F64),
        ("d[i] += 0.1f;", DType.F64),
        ("float t = d[i]; d[i] = t;", DType.F32),
        ("d[i] += (float)k[i];", DType.F32),
        ("d[i] = sqrtf(d[i]);", DType.F32),
        ("d[i] = sqrt(d[i]);", DType.F64),
        ("if (d[i] > (float)d[0]) k[i] = 1;", DType.F32),
    ],
)
def test_the_coarsest_floats_of_a_program(statement: str, coarsest: DType | None) -> None:
    text = (
        "#include <math.h>\nvoid f(double d[9], int k[9]) "
        f"{{ for (int i = 0; i < 9; i++) {{ {statement} }} }}"
    )
    assert coarsest_float(parse_program(text, "f.c", function="f", sizes={})) is coarsest
