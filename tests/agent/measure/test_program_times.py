"""Times of two programs, round by round."""

import math

from agent.measure.program_times import ProgramTimes, log_ratios, paired_log_ratios, together
from agent.measure.shots import Sharing


def times(*seconds: float) -> ProgramTimes:
    return ProgramTimes(dict(enumerate(seconds)), Sharing.UNDISTURBED)


def test_a_faster_variant_has_a_positive_log_ratio() -> None:
    assert log_ratios(times(2.0, 1.0), times(1.0, 1.0)) == (math.log(2), 0.0)
    assert paired_log_ratios(times(2.0, 1.0), times(1.0, 1.0)) == (math.log(2), 0.0)


def test_the_geometric_mean_of_equal_times_is_that_time() -> None:
    assert together(times(4.0, 2.0), times(1.0, 2.0)).seconds == {0: 2.0, 1: 2.0}


def test_a_round_that_the_base_lacks_is_compared_with_its_median() -> None:
    base, version = times(1.0, 3.0, 2.0), ProgramTimes({7: 1.0}, Sharing.UNDISTURBED)
    assert log_ratios(base, version) == (math.log(2),)
