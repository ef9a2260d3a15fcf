"""Arrays that may be shorter than their accesses say: no step touches more of them than C does."""

import pytest

from agent.errors import ScheduleError
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule

HISTOGRAM = """
void f(int n, const unsigned char *v, int {counts})
{{
    for (int i = 0; i < n; i++)
        counts[v[i]] += 1;
}}
"""
ONE_BASED = """
void f(int n, const float *a, float {sums})
{{
    for (int i = 0; i < n; i++)
        for (int j = 1; j <= n; j++)
            sums[j] += a[i * n + j];
}}
"""
GUARDED = """
void f(int n, const int *m, const float {b}, float *restrict s)
{{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (m[j])
                s[i * n + j] += b[j];
}}
"""
CASES = [
    (HISTOGRAM, "*counts", "counts[256]", "parallelize i counts"),
    (ONE_BASED, "*sums", "sums[n + 1]", "parallelize i sums"),
    (GUARDED, "*b", "b[n]", "pack b i"),
]


def scheduled(text: str, parameter: str, schedule: str) -> None:
    name = parameter.strip("*").split("[")[0]
    program = parse_program(text.format(**{name: parameter}), "f.c", function="f", sizes={"n": 40})
    transform(program, parse_schedule(schedule))


@pytest.mark.parametrize(("text", "pointer", "declared", "schedule"), CASES)
def test_a_pointer_whose_accesses_may_not_happen_is_not_copied(text, pointer, declared, schedule):
    with pytest.raises(ScheduleError, match="nothing says that") as refused:
        scheduled(text, pointer, schedule)
    assert "Declare the parameter with its extent" in refused.value.hint
    scheduled(text, declared, schedule)


def test_a_pointer_all_of_whose_elements_are_accessed_is_copied():
    text = ONE_BASED.replace("j = 1; j <= n", "j = 0; j < n")
    scheduled(text, "*sums", "parallelize i sums")
