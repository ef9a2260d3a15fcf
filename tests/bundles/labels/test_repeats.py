"""What a label is worth another time."""

import math

import numpy as np
import pytest

from agent.measure.shots import SESSION_SD
from bundles.labels.repeats import (
    ALL_CORES,
    AS_WRITTEN,
    ONE_CORE,
    label_sd,
    label_sd_for_a_repeat,
)

SCHEDULES = np.array(["original", "vectorize j", "parallelize i; vectorize j"])


@pytest.mark.parametrize(("threads", "parallel"), [(1, ONE_CORE), (2, ALL_CORES)])
def test_labels_of_one_session_are_worth_less_than_they_say(threads, parallel):
    within = np.array([0.0, 0.03, 0.03])
    found = label_sd(within, SCHEDULES, threads)
    expected = [AS_WRITTEN, math.hypot(0.03, ONE_CORE), math.hypot(0.03, parallel)]
    assert found == pytest.approx(expected)


def test_intervals_for_a_repeat_are_taken_as_they_are_and_seconds_by_the_state_of_the_cores():
    within, sharing = np.array([0.0, 0.02, 0.3]), np.array(["shared", "undisturbed", "shared"])
    found = label_sd_for_a_repeat(within, SCHEDULES, sharing)
    assert found == pytest.approx([SESSION_SD["shared"], 0.02, 0.3])
