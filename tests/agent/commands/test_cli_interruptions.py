"""Calibrations that are killed, stopped, or started twice."""

import shutil
import signal
import subprocess
import time

import pytest

from tests import forked
from tests.conftest import NO_TIMING, SCRIPT, SIZES, Ran, agent, environment

ENDLESS = "from tests.fake_runner import take_the_place; take_the_place(lasts_s=600)"


@pytest.fixture
def state(tmp_path, really_calibrated):
    """A copy of the calibrated state, compiled code included."""
    copy = tmp_path / "state"
    shutil.copytree(really_calibrated[0], copy)
    return copy


def until_measuring(state, tiny_bundle):
    """Start a calibration and wait until some programs have been timed."""
    process = subprocess.Popen(
        [SCRIPT, "calibrate", "--budget", "12s", "--bundle", tiny_bundle, "--state-dir", state],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("[") and "measuring" in line and int(line[1:].split("/")[0]) >= 2:
            return process
    process.wait()
    raise AssertionError("".join(lines))


def ended(process) -> Ran:
    out, err = process.communicate(timeout=240)
    return Ran(process.returncode, out, err)


def test_a_killed_calibration_resumes_and_the_old_one_stays_in_force(state, tiny_bundle):
    process = until_measuring(state, tiny_bundle)
    process.kill()
    ended(process)

    between = agent("status", "--json", "--state-dir", state).json
    assert between["calibration"]["calibration_id"] == 1
    assert between["unfinished"]["timed"] >= 2
    assert "goes on from there" in " ".join(agent("status", "--state-dir", state).out.split())

    where = ("--bundle", tiny_bundle, "--state-dir", state, "--json")
    ran = agent("calibrate", "--budget", "12s", *where, first=NO_TIMING)
    assert ran.code == 0, ran.err
    assert ran.json["timings"]["reused"] >= 2
    assert "resumed" in [w["code"] for w in ran.json["warnings"]]
    assert ran.json["calibration_id"] == 2
    after = agent("status", "--json", "--state-dir", state).json
    assert after["calibration"]["calibration_id"] == (2 if ran.json["in_force"] else 1)
    assert after["unfinished"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_calibration_says_what_is_kept(state, tiny_bundle, number):
    process = until_measuring(state, tiny_bundle)
    process.send_signal(number)
    ran = ended(process)
    assert ran.code == 130
    assert "timings are kept" in ran.err
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err
    body = agent("status", "--json", "--state-dir", state).json
    assert body["calibration"]["calibration_id"] == 1
    assert body["unfinished"]["timed"] >= 2


@pytest.fixture
def calibrating(state, tiny_bundle, tmp_path):
    """A calibration that has begun to measure and does not end by itself."""
    words = ("calibrate", "--bundle", str(tiny_bundle), "--state-dir", str(state))
    told = tmp_path / "told"
    command = forked.Command("agent", words, environment(), ".", ENDLESS)
    process = forked.start(command, tmp_path / "out", told)
    while not (told.exists() and "measuring" in told.read_text()):
        assert process.is_alive(), told.read_text()
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def test_of_two_at_once_the_second_says_who_is_running(state, tiny_bundle, calibrating):
    ran = agent("calibrate", "--bundle", tiny_bundle, "--state-dir", state)
    assert ran.code == 6
    assert f"process {calibrating.pid}" in ran.err
    assert "since" in ran.err
    assert "hint: " in ran.err
    assert agent("status", "--state-dir", state).code == 0


def test_a_refit_uses_stored_timings_and_no_compiler(state, tiny_bundle):
    where = ("--bundle", tiny_bundle, "--state-dir", state, "--json")
    ran = agent("calibrate", "--refit", *where, PATH="/nonexistent")
    assert ran.code == 0, ran.err
    before = agent("history", "--json", "--state-dir", state).json["calibrations"]
    assert [c["calibration_id"] for c in before] == [2, 1]
    assert ran.json["refit"] is True
    assert ran.json["timings"]["usable"] == before[1]["timings"]["usable"]
    assert ran.json["accuracy"] == before[1]["accuracy"]
    assert ran.json["elapsed"]["measuring"] == 0


@pytest.mark.usefixtures("calibrating")
def test_predict_goes_on_while_a_calibration_runs(state, gemm):
    asked = ("predict", gemm, *SIZES, "--no-run", "--schedule", "original")
    ran = agent(*asked, "--state-dir", state)
    assert ran.code == 0, ran.err
