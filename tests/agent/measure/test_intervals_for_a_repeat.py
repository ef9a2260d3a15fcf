"""An 80 % interval holds what an independent session finds in 58 to 68 % of cases: both vary.

Simulated sessions differ by a known standard deviation, so what has to come out is known.
"""

import math
from itertools import pairwise

import pytest

from agent.measure.shots import SESSION_SD, Sharing
from agent.measure.stats import different_again
from benchmarks.repeat import both_ways, session_sd
from tests.agent.measure.simulated_cores import SimulatedCores, SimulatedProgram, measured_on

SESSIONS = 24
BASE = SimulatedProgram(3.0e-3, factor=1.02)
VERSIONS = tuple(SimulatedProgram(3.0e-3 + 1e-3 * i, factor=1.5 + 0.1 * i) for i in range(8))
LONG = tuple(SimulatedProgram(9.0e-3 + 1e-3 * i, factor=1.5 + 0.1 * i) for i in range(4))
OWN = (0.0, 1.0)  # seconds in which others use the core, and do not
ALWAYS = (1e9, 0.0)
SHORTER = (3e-3, 1e-3)  # than an execution


def sessions(spells, sd, versions=VERSIONS):
    """Timings of every version in one session after the other, whose speed-ups vary by ``sd``."""
    busy_s, free_s = spells
    of_a_program = sd / math.sqrt(2)  # a speed-up is made of two
    cores = (SimulatedCores(busy_s, free_s, session=of_a_program, seed=n) for n in range(SESSIONS))
    return [measured_on(c, BASE, *versions, lowest=1.1).timings for c in cores]


def pairs(found):
    return [
        {"one": one.to_json(), "other": other.to_json()}
        for a, b in pairwise(found)
        for one, other in zip(a, b, strict=True)
    ]


@pytest.mark.parametrize(
    ("spells", "versions", "sharing"),
    [
        (OWN, VERSIONS, Sharing.UNDISTURBED),
        (ALWAYS, VERSIONS[:3], Sharing.SHARED),
        (SHORTER, LONG, Sharing.INFERRED),
    ],
)
def test_intervals_hold_a_repeat_as_often_as_is_right(spells, versions, sharing):
    found = sessions(spells, SESSION_SD[sharing], versions)
    states = [t.sharing for timings in found for t in timings]
    assert states.count(sharing) >= 0.9 * len(states)
    held = [
        one.low <= other.log_speedup <= one.high
        for a, b in pairwise(found)
        for pair in zip(a, b, strict=True)
        for one, other in (pair, pair[::-1])
        if one.sharing == other.sharing == sharing
    ]
    assert 0.58 <= sum(held) / len(held) <= 0.68


@pytest.mark.parametrize("sd", [0.004, 0.03])
def test_what_sessions_differ_by_is_learned_from_repeats(sd):
    assert session_sd(both_ways(pairs(sessions(OWN, sd)))) == pytest.approx(sd, rel=0.2)


def test_without_repeats_nothing_is_learned():
    assert session_sd([]) is None


def test_a_difference_that_sessions_explain_is_none():
    rounds = [0.010, 0.011, 0.012, 0.011, 0.010, 0.012, 0.011]
    assert different_again(rounds, sd=0.001)
    assert not different_again(rounds, sd=0.01)
    assert not different_again(rounds[:4], sd=0.001)


def test_undisturbed_times_beside_disturbed_ones_may_not_be_found_again():
    alone, beside = (
        measured_on(SimulatedCores(busy_s, 0.05, seed=1), BASE, VERSIONS[0], lowest=1.1).timings[0]
        for busy_s in (0.0, 0.05)
    )
    assert alone.sharing == beside.sharing == Sharing.UNDISTURBED
    assert beside.high - beside.low > 2 * (alone.high - alone.low)
