"""What a timing of the program as written says of the predictions of its versions."""

import math

import numpy as np
import pytest

from agent.model.anchor import FAR, NEAR, ErrorModel, LogTime
from agent.model.posterior import Z80

MODEL = ErrorModel(own_sd=0.4, alike=0.75)
GAINS = np.array([0.0, 0.05, 1.0, -1.0, 6.0])


def predicted(gains=GAINS, gain_sd=0.6, written=-7.0, written_sd=0.5):
    return MODEL.of_heads(gains, np.full(len(gains), gain_sd), LogTime(written, written_sd))


def timed(seconds, sd=0.1):
    return LogTime(math.log(seconds), sd)


def test_the_less_a_version_is_said_to_differ_the_surer_that_is():
    sd = predicted().gain_sd
    assert sd[0] == pytest.approx(NEAR * 0.6)
    assert sd[0] < sd[1] < sd[2] == sd[3] < sd[4] == pytest.approx(FAR * 0.6, rel=1e-3)


def test_a_program_slower_than_foretold_gains_more_the_more_a_version_changes():
    found = MODEL.given(predicted(), timed(math.exp(-6.5)))
    shift = found.gain - GAINS
    assert shift[0] == 0.0
    assert 0 < shift[1] < shift[2] == shift[3] < shift[4] < 0.5
    assert np.allclose(MODEL.given(predicted(), timed(math.exp(-7.5))).gain - GAINS, -shift)


def test_the_seconds_as_written_are_those_timed_as_far_as_the_timing_repeats():
    found = MODEL.given(predicted(), timed(2e-3, sd=1e-3))
    assert math.exp(found.written.log_seconds) == pytest.approx(2e-3, rel=1e-3)
    assert found.written.sd == pytest.approx(1e-3, rel=1e-3)
    poor = MODEL.given(predicted(), timed(2e-3, sd=0.5))
    assert poor.written.log_seconds == pytest.approx((-7.0 + math.log(2e-3)) / 2)


def test_it_is_the_joint_gaussian_given_one_of_its_numbers():
    """An error as large as its sd leaves a Student-t as wide as the Gaussian is."""
    gain, before, noise = np.array([0.7]), predicted(np.array([0.7])), 0.1
    shared = MODEL.own_sd**2 * (1 - math.exp(-0.7 / MODEL.alike))
    errors = np.array([[0.25 + noise**2, 0.25, shared], [0.25, 0.25, shared]])
    errors = np.vstack([errors, [shared, shared, before.gain_sd[0] ** 2]])
    size = math.sqrt(errors[0, 0])
    weight = errors[1:, 0] / errors[0, 0]
    left = errors[1:, 1:] - np.outer(weight, errors[0, 1:])
    found = MODEL.given(before, LogTime(-7.0 + size, noise))
    assert found.written.log_seconds == pytest.approx(-7.0 + weight[0] * size)
    assert found.gain == pytest.approx(gain + weight[1] * size)
    assert found.written.sd**2 == pytest.approx(left[0, 0])
    assert found.gain_sd**2 == pytest.approx(left[1, 1])
    assert found.seconds_sd**2 == pytest.approx(left[0, 0] + left[1, 1] - 2 * left[0, 1])


def test_a_program_that_is_far_off_leaves_its_versions_less_sure():
    near, far = (MODEL.given(predicted(), timed(math.exp(x))) for x in (-7.0, -4.0))
    assert (far.gain_sd[1:] > 1.5 * near.gain_sd[1:]).all()


def test_an_interval_becomes_a_standard_deviation_that_is_never_nothing():
    assert LogTime.of(1.0, 0.8, 1.25).sd == pytest.approx(math.log(1.25 / 0.8) / 2 / Z80)
    assert LogTime.of(1.0, 1.0, 1.0).sd == 0.05
