"""Which calibrations are believed, what is used in their place, and what people are told."""

import math
import shutil
import subprocess
from dataclasses import replace

import pytest

from agent.calibration.calibration import calibration_in_force
from agent.calibration.verdict import judge_calibration
from agent.page.gather import page_of
from agent.state.state import open_state
from agent.terminal.calibration_wording import calibration_blocks
from tests.agent.update.in_process import agent
from tests.agent.update.published import made_bundle
from tests.conftest import valid
from tests.fake_runner import FEW_S, FakeRunner, as_the_bundle_says, calibrate_simulated

GEMM = [x for n in ("ni", "nj", "nk") for x in ("--size", f"{n}=64")]


@pytest.fixture(scope="session")
def field(tmp_path_factory):
    return made_bundle(tmp_path_factory.mktemp("bundle") / "field", "1")


@pytest.fixture(scope="session")
def slow(field):
    """A machine of which the bundle is right, but for its being thirty times as slow."""
    return as_the_bundle_says(field, times=30.0)


@pytest.fixture(scope="session")
def once_believed(made_once, field, slow):
    def fill(place):
        stored = calibrate_simulated(place / "state", field, machine=FakeRunner(slow, noise=0.02))
        assert stored.body.verdict.level == "good"

    return made_once("believed", fill) / "state"


@pytest.fixture
def believed(once_believed, tmp_path):
    """A machine with a good calibration in force."""
    shutil.copytree(once_believed, tmp_path / "state")
    return tmp_path / "state"


def busy(slow):
    """The same machine while others use it: timings that say little."""
    return FakeRunner(slow, noise=1.5, seed=3)


def in_force(place):
    with open_state(place) as state:
        found = state.calibration_in_force()
        return found.id if found else None


def asked(command, place, *more):
    found = agent(command, *more, "--state-dir", place, "--json").json
    return valid(found, command)


def test_a_good_calibration_is_called_good_wherever_it_is_told_of(believed, gemm):
    assert asked("status", believed)["calibration"]["verdict"]["level"] == "good"
    assert asked("history", believed)["calibrations"][0]["verdict"]["level"] == "good"
    assert asked("rank", believed, gemm, *GEMM, "--no-run")["verdict"]["level"] == "good"
    assert asked("doctor", believed)["verdict"]["level"] == "good"
    assert "Verdict: good" in page_of(believed)
    assert agent("status", "--state-dir", believed).out.startswith("Verdict: good")


def test_four_kernels_on_a_busy_machine_do_not_replace_a_good_calibration(believed, field, slow):
    stored = calibrate_simulated(believed, field, FEW_S, busy(slow))
    assert (stored.id, stored.body.verdict.level) == (2, "not-to-be-used")
    assert stored.body.verdict.stays == 1
    assert calibration_blocks(stored)[0].startswith("Not put in force, only kept. Verdict: not to")
    assert in_force(believed) == 1
    told = asked("status", believed)
    assert (told["calibration"]["calibration_id"], told["kept"]["calibration_id"]) == (1, 2)
    assert "is kept and not in force" in agent("status", "--state-dir", believed).out


def test_many_kernels_on_a_busy_machine_do_not_either(believed, field, slow):
    stored = calibrate_simulated(believed, field, machine=busy(slow))
    assert stored.body.verdict.level == "not-to-be-used"
    assert in_force(believed) == 1


def test_the_same_machine_measured_again_replaces_its_calibration(believed, field, slow):
    stored = calibrate_simulated(believed, field, machine=FakeRunner(slow, noise=0.02, seed=5))
    assert stored.body.verdict.level == "good"
    assert in_force(believed) == 2


def test_a_machine_that_has_changed_replaces_its_calibration(believed, field, slow):
    faster = FakeRunner(lambda program: slow(program) / 4, noise=0.02)
    assert calibrate_simulated(believed, field, machine=faster).body.verdict.level == "good"
    assert in_force(believed) == 2


def test_without_one_in_force_the_bundle_predicts_alone_and_that_is_said(
    tmp_path, field, slow, gemm
):
    place = tmp_path / "state"
    assert (
        calibrate_simulated(place, field, FEW_S, busy(slow)).body.verdict.level == "not-to-be-used"
    )
    assert in_force(place) is None
    told = asked("rank", place, gemm, *GEMM, "--no-run")
    assert (told["calibration_id"], told["verdict"]) == (None, None)
    assert [note["code"] for note in told["notes"]][:2] == ["no-calibration", "kept"]
    assert "bundle predicts alone" in agent("status", "--state-dir", place).out
    assert "bundle predicts alone" in page_of(place)
    levels = {c["level"] for c in asked("doctor", place)["checks"] if c["check"] == "calibration"}
    assert levels == {"warning"}
    assert "not to be used" in agent("doctor", "--state-dir", place).out


def predicting(stored, ours, alone, turned=0):
    """A calibration whose speed-ups are predicted as powers of what was measured.

    ``turned``: of so many kernels what is faster is predicted slower, by a tenth.
    """
    points = stored.body.points
    far = {p.kernel for p in points if p.kind == "speedup" and abs(math.log(p.measured)) > 0.2}
    wrong = sorted(far)[:turned]

    def changed(p):
        power = -0.1 if p.kernel in wrong else ours
        return replace(p, calibrated=p.measured**power, alone=p.measured**alone)

    said = tuple(changed(p) if p.kind == "speedup" else p for p in points)
    head = replace(stored.body.head, kinds={"speedup": "ridge", "seconds": "ridge"})
    return replace(stored, body=replace(stored.body, points=said, head=head, verdict=None))


def test_smaller_errors_than_the_bundles_do_not_make_up_for_a_worse_order(believed):
    with open_state(believed) as state:
        stored = calibration_in_force(state)
    exact = predicting(stored, ours=1.1, alone=3.0).body
    turned = predicting(stored, ours=1.1, alone=3.0, turned=3).body
    assert judge_calibration(exact).believed
    assert judge_calibration(turned).code == "not-better-than-bundle"


def test_smaller_errors_than_the_present_ones_do_not_make_up_for_a_worse_order(believed):
    with open_state(believed) as state:
        stored = calibration_in_force(state)
    present = predicting(stored, ours=3.0, alone=-1.0)
    exact = predicting(stored, ours=1.1, alone=-1.0).body
    turned = predicting(stored, ours=1.1, alone=-1.0, turned=3).body
    assert judge_calibration(exact, present).believed
    verdict = judge_calibration(turned, present)
    assert verdict.code == "not-better-than-present"
    assert verdict.reason.endswith("pairs of versions in the right order, by that one 100%)")


def test_history_tells_measured_from_refitted_and_what_is_in_force(believed, field):
    refit = ("calibrate", "--refit", "--bundle", field, "--state-dir", believed)
    assert agent(*refit).code == 0
    found = asked("history", believed)["calibrations"]
    assert [(c["calibration_id"], c["refit"], c["in_force"]) for c in found] == [
        (2, True, True),
        (1, False, False),
    ]
    words = agent("history", "--state-dir", believed).out
    assert "refitted" in words
    assert "measured" in words


def test_a_person_goes_back_to_an_older_calibration(believed, field, slow):
    calibrate_simulated(believed, field, machine=FakeRunner(slow, noise=0.02, seed=5))
    ran = agent("calibration", "use", "1", "--state-dir", believed, "--json")
    told = valid(ran.json, "calibration-use")
    assert (ran.code, told["calibration_id"], told["before"]) == (0, 1, 2)
    assert in_force(believed) == 1
    again = agent("calibration", "use", "1", "--state-dir", believed)
    assert (again.code, in_force(believed)) == (7, 1)


def test_a_person_may_use_what_is_not_to_be_used_and_is_reminded(tmp_path, field, slow, gemm):
    place = tmp_path / "state"
    calibrate_simulated(place, field, FEW_S, busy(slow))
    assert agent("calibration", "use", "1", "--state-dir", place).code == 0
    told = asked("rank", place, gemm, *GEMM, "--no-run")
    assert told["calibration_id"] == 1
    assert told["notes"][0]["code"] == "verdict"


@pytest.mark.parametrize("number", ["7", "0", "-1"])
def test_a_calibration_that_is_not_there_cannot_be_used(believed, number):
    ran = agent("calibration", "use", "--state-dir", believed, "--", number)
    assert (ran.code, "no calibration" in ran.err) == (2, True)
    assert in_force(believed) == 1


def test_a_busy_machine_is_told_of_before_anything_is_measured(tmp_path):
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        never = {"AGENT_COMPILER": "nosuchcc", "AGENT_MAX_BUSY": "0", "AGENT_MAX_STEAL": "1"}
        ran = agent("calibrate", "--state-dir", tmp_path / "state", **never)
    finally:
        busy.kill()
        busy.wait()
    assert ran.code == 2  # there is no such compiler: nothing was measured
    assert "this machine is not quiet: other programs use" in ran.err
