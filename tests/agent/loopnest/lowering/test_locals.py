"""Variables of the function that stand for numbers, and memory whose extent nothing declares."""

import cProfile
import pstats

import pytest

from agent.errors import SourceError
from agent.loopnest.lowering.reader import parse_program


def read(text, **sizes):
    return parse_program(text, "f.c", function="f", sizes=sizes)


def shapes(program):
    return {array.name: array.shape for array in program.arrays}


def test_a_variable_that_iterators_alone_give_a_value_takes_no_memory():
    program = read(
        """
        void f(int n, int c, const float *x, float *out)
        {
            int half = c / 2;
            for (int k = 0; k < c; k++)
                for (int i = 0; i < n; i++) {
                    int group = k / half, column = i * 2 + k % half % 2;
                    int at = column + 2 * n * group;
                    out[at] = x[i + n * k];
                }
        }
        """,
        n=10,
        c=8,
    )
    assert program.temporaries == ()
    assert shapes(program) == {"x": (80,), "out": (40,)}


def test_such_a_variable_that_is_changed_later_is_data():
    text = """
    void f(int n, const float *x, float *out)
    {
        for (int i = 0; i < n; i++) {
            int at = i / 2;
            if (x[i] > 0.0f)
                at = 0;
            out[at] = x[i];
        }
    }
    """
    with pytest.raises(SourceError, match="nothing says how many elements 'out' has"):
        read(text, n=10)


def test_sizes_that_a_condition_corrects_before_the_loops_are_known():
    program = read(
        """
        void f(int n, int m, float *a)
        {
            int step = n / m, times = m / n;
            if (step < 1)
                step = 1;
            if (times < 1) {
                times = 1;
            } else
                n = 5;
            for (int i = 0; i < n; i++)
                a[i * step * times] = 0.0f;
        }
        """,
        n=20,
        m=10,
    )
    assert shapes(program) == {"a": (39,)}


def test_a_global_array_without_an_extent_is_as_long_as_it_is_used():
    program = read(
        """
        extern const float table[];
        void f(int n, float *a)
        {
            for (int i = 0; i < n; i++)
                a[i] *= table[2 * i + 1];
        }
        """,
        n=8,
    )
    assert shapes(program) == {"table": (16,), "a": (8,)}


def test_work_does_not_multiply_with_every_loop_within_loops():
    names = [f"i{n}" for n in range(8)]
    loops = "".join(f"for ({name} = 0; {name} < 9; {name}++) " for name in names)
    profile = cProfile.Profile()
    profile.runcall(read, f"double s; void f(void) {{ int {', '.join(names)}; {loops} s += 1; }}")
    assert pstats.Stats(profile).total_calls < 1_000_000  # a hundred times as many before
