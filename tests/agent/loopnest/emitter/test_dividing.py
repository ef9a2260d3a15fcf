"""Divisions by numbers as products."""

import subprocess
from pathlib import Path

import pytest

from agent.loopnest.emitter.dividing import HELPERS, divided
from agent.loopnest.emitter.emit import emit
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import Access, Binary, DType, Literal, Program, Read
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule

DIVIDES = """
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <stdint.h>
{helpers}
static uint64_t state = 88172645463325252u;
static uint64_t drawn(void)
{{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}}
int main(void)
{{
    static const double by[] = {{3, 7, 9, 399, 0.1, 1e10, 12345.678, 0x1.fffffffffffffp0}};
    int wrong = 0;
    for (int d = 0; d < 8; d++) {{
        float single = by[d];
        for (int n = 0; n < 40000; n++) {{
            double number = ldexp((double)(int64_t)drawn(), (int)(drawn() % 200) - 150);
            float less = ldexpf((float)(int64_t)drawn(), (int)(drawn() % 60) - 90);
            wrong += divided_double(number, by[d], 1.0 / by[d]) != number / by[d];
            wrong += divided_float(less, single, 1.0f / single) != less / single;
        }}
        wrong += divided_double(INFINITY, by[d], 1.0 / by[d]) != INFINITY;
        wrong += divided_double(-INFINITY, by[d], 1.0 / by[d]) != -INFINITY;
        wrong += !isnan(divided_double(NAN, by[d], 1.0 / by[d]));
        wrong += divided_double(0.0, by[d], 1.0 / by[d]) != 0;
    }}
    return wrong > 0;
}}
"""


@pytest.mark.parametrize("flags", ["-O2 -march=native", "-O0"])
def test_the_product_with_the_inverse_is_the_quotient_bit_by_bit(
    tmp_path: Path, flags: str
) -> None:
    helpers = "\n".join(f"static inline {text}" for text in HELPERS.values())
    source, made = tmp_path / "divides.c", tmp_path / "divides"
    source.write_text(DIVIDES.format(helpers=helpers))
    command = ["gcc", "-Wall", "-Werror", *flags.split(), str(source), "-lm", "-o", str(made)]
    subprocess.run(command, check=True, timeout=120)
    assert subprocess.run([made], timeout=120).returncode == 0


def program(update: str) -> Program:
    text = f"""void f(int n, double s[n], const double a[n][n]) {{
      for (int j = 0; j < n; j++)
        for (int i = 0; i < n; i++) {update}
    }}"""
    return parse_program(text, "f.c", function=None, sizes={"n": 100})


def test_a_sum_of_quotients_in_lanes_divides_by_multiplying() -> None:
    text = emit(transform(program("s[j] += a[i][j] / (n - 1);"), parse_schedule("vectorize j 8")))
    assert "+= divided_double(a[i][j + j_lane], (100 - 1), 1.0 / (100 - 1));" in text


@pytest.mark.parametrize(
    ("update", "schedule"),
    [
        ("s[j] += a[i][j] / (n - 1);", "jam j 4"),  # no lanes
        ("s[j] += a[i][j] / 8.0;", "vectorize j 8"),  # compilers know that inverse
        ("s[j] += a[i][j] / a[j][i];", "vectorize j 8"),
        ("s[j] = a[i][j] / 3.0;", "vectorize j 8"),  # -0 is not lost in a sum
        ("s[j] += fabs(a[i][j] / 3.0);", "vectorize j 8"),
    ],
)
def test_other_quotients_are_divided(update: str, schedule: str) -> None:
    assert "divided" not in emit(transform(program(update), parse_schedule(schedule)))


@pytest.mark.parametrize("by", ["0.0", "1e30", "1e-30", "16777217"])
def test_numbers_without_a_good_inverse_are_divided_by(by: str) -> None:
    quotient = Binary("/", Read(Access("x")), Literal(by))
    assert divided(quotient, lambda _: DType.F32) is None
