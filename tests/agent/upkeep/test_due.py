"""What makes a calibration due, and what does not."""

import os
import shutil
import sys
import time
from dataclasses import replace

import pytest

from agent.bundle.installed import ACTIVATED
from agent.settings.config import Config
from agent.settings.values import DAY, HOUR
from agent.state.last_error import has_errors
from agent.state.state import open_state
from agent.upkeep.due import look_around, what_is_due
from tests.agent.state.states import left_by_schema
from tests.agent.upkeep.bodies import body_of_now, put_in_force
from tests.conftest import agent
from tests.own_mounts import run_with_mounts

NOW = 1_795_500_000.0  # 2026-11-24
SENTINEL = {"kernel": "gemm", "schedule": "original", "log_ratio": 0.4, "limit": 0.25}


@pytest.fixture
def config(tmp_path):
    return Config(state_dir=tmp_path / "state")


@pytest.fixture
def state(config):
    with open_state(config.state_dir) as opened:
        yield opened


def codes(state, config, now=NOW, **present):
    found = what_is_due(state, config, replace(look_around(config, now), **present))
    return [reason.code for reason in found.reasons]


def check_is_due(state, config, now=NOW):
    return what_is_due(state, config, look_around(config, now)).check


def test_a_machine_that_was_never_calibrated_is_due(state, config):
    assert codes(state, config) == ["never"]


def test_a_calibration_of_this_machine_as_it_is_is_not_due(state, config):
    put_in_force(state, body_of_now(config), NOW - HOUR)
    assert codes(state, config) == []


@pytest.mark.parametrize(
    ("fact", "code"),
    [("fingerprint", "machine"), ("microcode", "microcode"), ("kernel", "kernel")],
)
def test_a_machine_that_has_changed_is_due(state, config, fact, code):
    put_in_force(state, body_of_now(config, **{fact: "another"}), NOW - HOUR)
    assert codes(state, config) == [code]


def test_facts_that_an_older_agent_did_not_note_count_as_unchanged(state, config):
    body = body_of_now(config)
    del body["machine"]["microcode"], body["toolchain"]["mark"]
    put_in_force(state, body, NOW - HOUR)
    assert codes(state, config) == []


def test_a_compiler_that_was_replaced_makes_it_due(state, tmp_path):
    compiler = tmp_path / "cc"
    shutil.copy(shutil.which("gcc"), compiler)
    config = Config(state_dir=tmp_path / "state", compiler=str(compiler))
    put_in_force(state, body_of_now(config), NOW - HOUR)
    assert codes(state, config) == []
    os.utime(compiler, (1, 1))
    assert codes(state, config) == ["compiler"]


def test_a_compiler_that_is_gone_makes_it_due(state, config, monkeypatch, tmp_path):
    put_in_force(state, body_of_now(config), NOW - HOUR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert codes(state, config) == ["compiler"]


def test_a_bundle_that_was_put_in_force_since_makes_it_due(state, config):
    number = put_in_force(state, body_of_now(config), NOW - HOUR)
    state.note([(ACTIVATED, "f" * 64, {"outdates": number})], NOW)
    assert codes(state, config) == ["bundle"]


def test_a_bundle_that_came_with_another_agent_makes_it_due(state, config):
    body = body_of_now(config)
    body["bundle"]["digest"] = "f" * 64
    put_in_force(state, body, NOW - HOUR)
    assert codes(state, config) == ["bundle"]


def test_somebodys_own_bundle_is_left_alone(state, config):
    body = body_of_now(config)
    body["bundle"] |= {"digest": "f" * 64, "path": "/home/me/bundle"}
    put_in_force(state, body, NOW - HOUR)
    assert codes(state, config) == []


def test_a_bundle_named_in_the_configuration_makes_it_due(state, config, tiny_bundle):
    put_in_force(state, body_of_now(config), NOW - HOUR)
    assert codes(state, replace(config, bundle=tiny_bundle)) == ["bundle"]


@pytest.mark.parametrize(
    ("verdict", "expected"), [("changed", ["drift"]), ("holds", []), ("unclear", [])]
)
def test_a_check_that_found_drift_makes_it_due(state, config, verdict, expected):
    number = put_in_force(state, body_of_now(config), NOW - HOUR)
    state.note_drift({"calibration": number, "verdict": verdict, "sentinels": [SENTINEL]}, NOW - 60)
    assert codes(state, config) == expected


def test_a_check_by_hand_under_other_facts_is_no_drift(state, config):
    number = put_in_force(state, body_of_now(config), NOW - HOUR)
    state.note_drift({"calibration": number, "verdict": "changed", "sentinels": []}, NOW - 60)
    assert codes(state, config) == []


def test_drift_of_an_earlier_calibration_is_over(state, config):
    number = put_in_force(state, body_of_now(config), NOW - 2 * HOUR)
    state.note_drift(
        {"calibration": number, "verdict": "changed", "sentinels": [SENTINEL]}, NOW - HOUR
    )
    put_in_force(state, body_of_now(config), NOW - 60)
    assert codes(state, config) == []


def test_an_old_calibration_is_due(state, config):
    put_in_force(state, body_of_now(config), NOW - config.max_age_s)
    assert codes(state, config) == ["age"]
    assert codes(state, config, NOW - 1) == []


def test_age_is_not_asked_for_while_the_clock_is_not_set(state, config):
    put_in_force(state, body_of_now(config), NOW)
    assert codes(state, config, 3600.0) == []
    assert not check_is_due(state, config, 3600.0)


def test_a_calibration_of_the_future_is_no_older_than_the_one_before_it(state, config):
    put_in_force(state, body_of_now(config), NOW - HOUR)
    put_in_force(state, body_of_now(config), NOW + 4000 * DAY)
    assert codes(state, config) == []


def test_a_calibration_of_the_future_alone_is_due(state, config):
    put_in_force(state, body_of_now(config), NOW + 4000 * DAY)
    assert codes(state, config) == ["age"]


def test_a_check_is_due_a_day_after_the_last_look(state, config):
    number = put_in_force(state, body_of_now(config), NOW - 2 * DAY)
    assert check_is_due(state, config)
    state.note_drift({"calibration": number, "verdict": "holds"}, NOW - DAY + 1)
    assert not check_is_due(state, config)


def test_no_check_is_due_where_a_calibration_is(state, config):
    put_in_force(state, body_of_now(config, kernel="another"), NOW - 2 * DAY)
    assert not check_is_due(state, config)


def test_a_calibration_that_is_not_due_ends_with_7_and_says_since_when(tmp_path, config):
    with open_state(config.state_dir) as state:
        put_in_force(state, body_of_now(config), time.time())
    said = agent("calibrate", "--if-due", "--when-quiet", "--state-dir", config.state_dir)
    assert said.code == 7
    assert said.err.startswith("note: not due: nothing has changed since calibration 1")


def test_an_error_that_is_over_is_forgotten_where_nothing_is_due(config):
    with open_state(config.state_dir) as state:
        put_in_force(state, body_of_now(config), time.time())
    agent("calibrate", "--state-dir", config.state_dir, AGENT_COMPILER="nosuchcc")
    with open_state(config.state_dir) as state:
        assert has_errors(state, "calibrate")
    assert agent("calibrate", "--if-due", "--state-dir", config.state_dir).code == 7
    with open_state(config.state_dir) as state:
        assert not has_errors(state, "calibrate")


def test_refit_and_if_due_exclude_each_other(tmp_path):
    said = agent("calibrate", "--refit", "--if-due", "--state-dir", tmp_path)
    assert said.code == 2
    assert "--refit measures nothing" in said.err


@pytest.mark.parametrize("schema", [1, 2])
def test_the_state_of_an_older_agent_is_read_without_being_changed(tmp_path, config, schema):
    directory = left_by_schema(schema, tmp_path / "old")
    before = (directory / "state.sqlite").read_bytes()
    never = {"AGENT_QUIET_WAIT": "1s", "AGENT_MAX_BUSY": "0", "AGENT_MAX_TEMPERATURE": "20"}
    said = agent("calibrate", "--if-due", "--when-quiet", "--state-dir", directory, **never)
    assert said.code in (7, 8)  # another machine's calibration, and never quiet
    assert (directory / "state.sqlite").read_bytes() == before


PLACES = {
    "ProcSubset=pid": "mount -t proc -o subset=pid proc /proc",
    "no /proc and no /sys": "mount -t tmpfs none /sys && mount -t tmpfs none /proc",
}


@pytest.mark.parametrize("place", PLACES)
def test_where_facts_cannot_be_read_nothing_has_changed_and_nothing_breaks(state, config, place):
    put_in_force(state, body_of_now(config), time.time() - HOUR)
    asked = "; ".join(
        f"{sys.executable} -m agent {command}; echo ended $?"
        for command in ("status", "calibrate --if-due", "doctor")
    )
    where = {**os.environ, "AGENT_STATE_DIR": str(config.state_dir)}
    ran = run_with_mounts(PLACES[place], asked, where)
    ended = [line for line in ran.stdout.splitlines() if line.startswith("ended")]
    assert ended[:2] == ["ended 0", "ended 7"], ran.stdout + ran.stderr
    assert ended[2] != "ended 70"
    assert "another machine" not in ran.stdout
