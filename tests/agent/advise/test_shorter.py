"""What a search times in place of programs that take seconds."""

import math

import pytest

from agent.advise.shorter import LEAST, SHORT_S, shorter
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import Loop, Program
from agent.measure.timing import Outcome, Timing

SWEEP = "for (int i = 1; i < n - 1; i++) B[i] = A[i - 1] + A[i + 1];"
BACK = "for (int i = 1; i < n - 1; i++) A[i] = B[i];"


def timed(body: str, parameters: str = "double A[n], double B[n]", n: int = 9000) -> Program:
    """A function with 1000 time steps around ``body``."""
    text = f"void f(int n, {parameters}) {{ for (int t = 2; t < 1002; t++) {{ {body} }} }}"
    return parse_program(text, "f.c", function=None, sizes={"n": n})


def trips(program: Program) -> int:
    (time,) = program.body
    assert isinstance(time, Loop)
    return time.upper[0].expr.const - time.lower[0].expr.const + 1


def test_a_program_of_time_steps_that_takes_seconds_is_timed_with_fewer_of_them() -> None:
    whole = timed(SWEEP + BACK)
    part = shorter(whole, 2.0)
    assert trips(part.program) == 128 >= 1000 * SHORT_S / 2.0
    assert part.times == 1000 / 128
    assert part.note.startswith("versions were timed with 128 of the 1000 iterations of loop t")
    assert part.program.body[0].body == whole.body[0].body


def test_some_tiles_in_time_are_left() -> None:
    assert trips(shorter(timed(SWEEP + BACK), 60.0).program) == LEAST


@pytest.mark.parametrize(
    ("program", "seconds"),
    [
        (timed(SWEEP + BACK), 0.3),  # quick enough
        (timed("for (int i = 0; i < n; i++) B[i] += A[i];"), 3.0),  # sums may be in any order
        (timed("for (int i = t; i < n - 1; i++) A[i] = A[i - 1];"), 3.0),  # less and less work
        (timed("for (int i = 0; i < n; i++) D[t][i] = D[t - 1][i];", "double D[1002][n]"), 3.0),
        (timed(SWEEP + BACK + "} for (int i = 0; i < n; i++) { A[i] = 0;"), 3.0),  # not all of it
    ],
)
def test_other_programs_are_timed_whole(program: Program, seconds: float) -> None:
    part = shorter(program, seconds)
    assert part.program == program
    assert (part.times, part.note) == (1.0, "")


def test_seconds_are_those_of_the_whole_and_speed_ups_stay() -> None:
    part = shorter(timed(SWEEP + BACK), 2.0)
    timing = Timing(Outcome.OK, 0.7, 0.6, 0.8, 0.1, 0.2, 0.09, 0.11)
    whole = part.whole(timing)
    seconds = (whole.seconds, whole.base_seconds, whole.seconds_low, whole.seconds_high)
    assert seconds == pytest.approx([s * 1000 / 128 for s in (0.1, 0.2, 0.09, 0.11)])
    assert (whole.log_speedup, whole.low, whole.high) == (0.7, 0.6, 0.8)


def test_a_timing_that_failed_has_no_seconds() -> None:
    failed = Timing(Outcome.TIMEOUT, detail="did not end")
    assert shorter(timed(SWEEP + BACK), 2.0).whole(failed) is failed
    assert math.isnan(failed.seconds)
