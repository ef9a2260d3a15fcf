"""Which of two ways to predict may replace the other, by constructed predictions."""

import numpy as np
import pytest

from agent.model.paired import Measured, judge_ways


def measured(programs=12, versions=3, kind="speedup", half=0.02, spread=1.0):
    """Programs whose versions differ by ``spread`` each."""
    truth = np.tile(spread * np.arange(1, versions + 1), programs) - 2.5 * spread
    program = np.repeat(np.arange(programs), versions)
    return Measured(kind, program, truth, np.full(len(truth), half))


def right(of):
    """Off by as much everywhere, in the right order."""
    return 0.5 * of.truth


def turned(of, programs):
    """As ``right``, but for the first programs, whose versions are in the opposite order."""
    return np.where(of.program < programs, -1.0, 1.0) * right(of)


def exact_in_error_only(of):
    """Halves every error, and turns the order of versions that lie close together."""
    return np.where(np.arange(len(of.truth)) % 2, of.truth + 0.12, of.truth - 0.12)


def test_the_same_predictions_are_no_worse_and_not_worse():
    of = measured()
    judged = judge_ways(of, right(of), right(of))
    assert judged.no_worse
    assert not judged.worse


def test_smaller_errors_with_another_order_are_not_no_worse():
    of = measured(versions=4, spread=0.15)
    before, after = of.truth * 3, exact_in_error_only(of)
    judged = judge_ways(of, before, after)
    assert judged.error.no_worse
    assert judged.misorder.worse
    assert judged.worse
    assert not judged.no_worse


def test_one_program_of_many_in_another_order_is_chance_and_four_are_not():
    of = measured(programs=24)
    assert judge_ways(of, right(of), turned(of, 1)).misorder.no_worse
    assert not judge_ways(of, right(of), turned(of, 4)).misorder.no_worse


def test_of_few_programs_one_in_another_order_is_too_much():
    of = measured(programs=4)
    assert not judge_ways(of, right(of), turned(of, 1)).misorder.no_worse


@pytest.mark.parametrize("how", [{"half": 5.0}, {"spread": 0.01}])
def test_versions_that_do_not_differ_measurably_have_no_order(how):
    of = measured(**how)
    judged = judge_ways(of, right(of), -right(of))
    assert judged.misorder is None
    assert judged.no_worse == judged.error.no_worse


def test_times_are_judged_by_their_errors_alone():
    of = measured(kind="seconds", versions=1)
    judged = judge_ways(of, of.truth + 1.0, of.truth - 1.0)
    assert judged.misorder is None
    assert judged.no_worse


def test_predicting_everything_equal_is_half_right_in_order():
    of = measured()
    judged = judge_ways(of, right(of), np.zeros(len(of.truth)))
    assert judged.misorder.after == pytest.approx(0.5)
    assert judged.misorder.before == 0.0


def test_a_number_that_is_none_shows_nothing():
    of = measured()
    way = right(of)
    way[3] = np.nan
    assert not judge_ways(of, right(of), way).no_worse


@pytest.mark.parametrize("programs", [0, 1, 2])
def test_too_few_programs_say_nothing(programs):
    of = measured(programs)
    assert judge_ways(of, right(of), right(of)) is None
