"""Does a calibration still hold: what counts as changed, and the check on the real machine."""

import shutil

import pytest

from agent.state.state import read_state
from agent.terminal.calibration_wording import check_blocks
from agent.terminal.numbers import limits
from agent.upkeep.checked import Check, SentinelChange
from agent.upkeep.drift import LOOKS, confirmed, drift_verdict
from tests.agent.state.states import changed
from tests.conftest import agent, valid

EXIT = {"holds": 0, "changed": 9, "unclear": 8}
STEADY = SentinelChange("gemm", "original", 0.02, 0.15)
SLOWER = SentinelChange("gemm", "original", 0.40, 0.15)
FASTER = SentinelChange("gemm", "original", -0.40, 0.15)


def looks(*found):
    """A function that finds one after the other, and the list of how often it was asked."""
    asked = []

    def look():
        asked.append(1)
        return (found[len(asked) - 1],), False

    return look, asked


def test_what_is_within_its_limit_is_looked_at_once():
    look, asked = looks(STEADY)
    assert confirmed(look) == ((STEADY,), False)
    assert len(asked) == 1


def test_what_is_beyond_its_limit_in_every_look_has_changed():
    look, asked = looks(*[SLOWER] * LOOKS)
    assert confirmed(look)[0][0].beyond
    assert len(asked) == LOOKS


def test_what_one_of_the_looks_does_not_find_has_not_changed():
    look, _ = looks(SLOWER, SLOWER, STEADY)
    assert not confirmed(look)[0][0].beyond


@pytest.mark.parametrize("second", [STEADY, FASTER])
def test_what_the_second_look_does_not_confirm_has_not_changed(second):
    look, asked = looks(SLOWER, second)
    assert not confirmed(look)[0][0].beyond
    assert len(asked) == 2


def test_what_the_second_look_could_not_time_counts_as_first_seen():
    found = iter([((SLOWER,), False), *[((), False)] * (LOOKS - 1)])
    assert confirmed(lambda: next(found))[0][0].beyond


def test_a_disturbed_look_is_looked_at_again_until_one_is_quiet():
    found = iter([((STEADY,), True), ((STEADY,), False)])
    assert confirmed(lambda: next(found))[1] is False
    always = confirmed(lambda: ((STEADY,), True))
    assert drift_verdict(False, always[0], disturbed=always[1]) == "unclear"


def test_looks_that_differ_in_direction_are_shown_as_measured_and_not_as_nothing():
    look, _ = looks(SLOWER, FASTER)
    (found,) = confirmed(look)[0]
    assert found.looks == (0.4, -0.4)
    (table,) = check_blocks(Check(1, "holds", 0.4, (found,)))[1:]
    assert table.rows[0][2:] == ("-33.0% to +49.2%", "-14% / +16%")


@pytest.mark.parametrize(
    ("limit", "shown"), [(0.5, "-39% / +65%"), (0.25, "-22% / +28%"), (2.0, "-86% / +639%")]
)
def test_a_limit_of_a_logarithm_is_not_symmetric(limit, shown):
    assert limits(limit) == shown


@pytest.mark.parametrize(
    ("changed", "sentinels", "disturbed", "verdict"),
    [
        (False, (STEADY,), False, "holds"),
        (False, (STEADY,), True, "unclear"),
        (False, (STEADY, SLOWER), False, "changed"),
        (False, (STEADY, FASTER), True, "unclear"),
        (False, (), False, "unclear"),
        (True, (), False, "changed"),
    ],
)
def test_the_verdict_of_facts_and_sentinels(changed, sentinels, disturbed, verdict):
    assert drift_verdict(changed, sentinels, disturbed=disturbed) == verdict


@pytest.fixture
def state(really_calibrated, tmp_path):
    """A calibrated state of this machine, to be written."""
    return shutil.copytree(really_calibrated[0], tmp_path / "state")


def check(state, bundle):
    """The answer of the command; the calibration is of the tests' own bundle."""
    said = agent("check", "--json", "--state-dir", state, AGENT_BUNDLE=bundle)
    return said, valid(said.json, "check")


def test_a_check_times_a_handful_of_programs_and_keeps_what_it_found(state, tiny_bundle):
    said, found = check(state, tiny_bundle)
    assert said.code == EXIT[found["verdict"]]
    assert found["reasons"] == []
    assert len({s["kernel"] for s in found["sentinels"]}) >= 3
    with read_state(state) as read:
        kept = read.drifts()[0].body
    assert kept["verdict"] == found["verdict"]
    assert kept["calibration"] == found["calibration"]


def test_a_machine_that_has_become_far_slower_is_not_said_to_hold(state, tiny_bundle):
    for name in ("seconds", "seconds_low", "seconds_high"):
        at = f"'$.timing.{name}'"
        changed(state, f"UPDATE timing SET body = json_set(body, {at}, body ->> {at} / 1000)")
    said, found = check(state, tiny_bundle)
    assert said.code == EXIT[found["verdict"]] != 0
    slower = [s["log_ratio"] for s in found["sentinels"] if s["schedule"] == "original"]
    assert min(slower) > 3  # log 1000 = 6.9, however busy this machine is meanwhile
    status = valid(agent("status", "--json", "--state-dir", state).json, "status")
    noted = "drift" in [n["code"] for n in status["notes"]]
    assert noted == (found["verdict"] == "changed")


def test_another_kernel_is_a_change_that_needs_no_timing(state, tiny_bundle):
    changed(state, "UPDATE calibration SET body = json_set(body, '$.machine.kernel', '2.6.32')")
    said, found = check(state, tiny_bundle)
    assert said.code == 9
    assert found["sentinels"] == []
    assert [r["code"] for r in found["reasons"]] == ["kernel"]
    again = agent("check", "--state-dir", state, AGENT_BUNDLE=tiny_bundle)
    assert "Calibration 1 no longer holds: run `agent calibrate`." in again.out


def test_a_compiler_that_is_not_there_is_a_mistake_and_no_drift(state, tiny_bundle):
    said = agent("check", "--compiler", "nosuchcc", "--state-dir", state, AGENT_BUNDLE=tiny_bundle)
    assert said.code == 2
    assert "nosuchcc" in said.err
    with read_state(state) as read:
        assert read.drifts() == ()


def test_without_a_calibration_there_is_nothing_to_check(tmp_path):
    said = agent("check", "--state-dir", tmp_path)
    assert said.code == 7
    assert "note: there is no calibration to check\nhint: Run `agent calibrate` first." in said.err
