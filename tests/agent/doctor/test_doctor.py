"""`agent doctor` on real trouble: broken settings, damaged, full, read-only and foreign state."""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from agent.bundle.installed import CHECKED
from agent.doctor import examine as examination
from agent.doctor import machine, model, outside, place
from agent.doctor.examine import CHECKS, examine
from agent.doctor.findings import look
from agent.doctor.scene import Scene, opened
from agent.measure import quiet as measure_quiet
from agent.measure.quiet import Conditions
from agent.settings.config import Config
from agent.settings.resolve import resolve_config
from agent.state.lock import hold
from agent.state.state import open_state
from tests import other_user
from tests.agent.state.states import changed, made_newer
from tests.conftest import SCRIPT, agent, environment, valid
from tests.other_user import NOBODY, needs_root

IN_TMPFS = """
mount -t tmpfs -o size=60m tmpfs "$1"
mkdir "$1/s"
{then}
shift
exec "$@"
"""
NO_TEMPORARY = """
cd /proc
for place in /tmp /var/tmp /usr/tmp; do
    if [ -d $place ]; then
        mount -t tmpfs -o size=64k tmpfs $place
        head -c 1m /dev/zero > $place/ballast 2> /dev/null || true
    fi
done
exec "$@"
"""


def doctor(*arguments, **env):
    ran = agent("doctor", "--json", *arguments, **env)
    body = valid(ran.json, "doctor")
    assert ran.code == (9 if body["problems"] else 0), ran.err
    assert "Traceback" not in ran.err
    return body


def lines(body, check):
    return [c for c in body["checks"] if c["check"] == check]


def worst(body, check):
    return max((c["level"] for c in lines(body, check)), key="ok warning problem".split().index)


def tree(path):
    """Everything below ``path`` with what a write would change."""
    found = sorted(p for p in (path, *path.rglob("*")))
    return [(str(p), p.stat().st_mtime_ns, p.stat().st_size, p.stat().st_uid) for p in found]


@pytest.fixture
def state(calibrated, tmp_path):
    """A calibrated state directory of the test's own."""
    return Path(shutil.copytree(calibrated, tmp_path / "state"))


def scene(directory, state=None, now=None, trouble=None, **settings):
    """What checks look at, with settings of the test's own."""
    resolved = resolve_config({"AGENT_CONFIG": "", "HOME": "/h"}, {})
    config = Config(directory, **settings)
    return Scene({}, resolved, config, state, trouble, time.time() if now is None else now)


def test_a_calibrated_machine_has_no_problem_and_every_check_says_something(state):
    body = doctor("--state-dir", state)
    assert body["problems"] == 0, body
    assert {c["check"] for c in body["checks"]} == {name for name, _ in CHECKS}
    assert worst(body, "state") == worst(body, "bundle") == worst(body, "compiler") == "ok"
    assert all(c["advice"] for c in body["checks"] if c["level"] != "ok")


def test_nothing_is_changed_by_looking(state):
    before = tree(state)
    doctor("--state-dir", state)
    assert tree(state) == before


def test_a_state_that_is_not_there_yet_is_no_problem_and_is_not_made(tmp_path):
    body = doctor("--state-dir", tmp_path / "none")
    assert body["problems"] == 0
    assert "Run `agent calibrate`" in lines(body, "calibration")[0]["advice"]
    assert not (tmp_path / "none").exists()


def test_a_broken_configuration_is_a_line_and_everything_else_is_looked_at(state, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("budgte = 1\nchannel = 'pilto'\n")
    body = doctor("--state-dir", state, AGENT_CONFIG=str(path))
    found = lines(body, "configuration")
    assert [f["level"] for f in found] == ["problem", "problem"]
    assert "budget" in found[0]["advice"]
    assert worst(body, "calibration") != "problem"
    assert worst(body, "state") == "ok"


def test_a_configuration_that_is_no_toml_is_a_line_too(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    body = doctor("--state-dir", tmp_path / "s", AGENT_CONFIG=str(path))
    assert "UTF-8" in lines(body, "configuration")[0]["message"]


def test_a_damaged_state_is_a_problem_and_what_hangs_on_it_is_said(state):
    content = (state / "state.sqlite").read_bytes()
    (state / "state.sqlite").write_bytes(content[:5000] + b"\xaa" * 9000 + content[14_000:])
    body = doctor("--state-dir", state)
    assert worst(body, "state") == "problem"
    assert "damaged" in lines(body, "state")[0]["message"]
    assert worst(body, "calibration") == "problem"
    assert not list(state.glob("state.corrupt-*"))


def test_a_state_of_a_newer_agent_is_a_problem_and_is_left_alone(state):
    made_newer(state)
    body = doctor("--state-dir", state)
    assert "newer agent" in lines(body, "state")[0]["message"]
    advice = lines(body, "state")[0]["advice"]
    assert advice.startswith("Update this agent: install the newer one again.")
    assert f"`rm {state / 'state.sqlite'}`, which costs a calibration" in advice


def test_a_database_that_was_set_aside_is_told(state):
    (state / "state.corrupt-1").write_bytes(b"x")
    body = doctor("--state-dir", state)
    assert "state.corrupt-1" in lines(body, "state")[-1]["message"]


def test_a_file_in_place_of_the_state_directory(tmp_path):
    (tmp_path / "s").write_text("")
    body = doctor("--state-dir", tmp_path / "s")
    assert "is not a directory" in lines(body, "permissions")[0]["message"]


@needs_root
def test_a_state_of_another_owner_is_said_plainly(calibrated, open_place, nobody):
    state = Path(shutil.copytree(calibrated, open_place / "state"))
    state.chmod(0o700)
    ran = nobody("doctor", "--json", "--state-dir", state)
    body = valid(ran.json, "doctor")
    assert ran.code == 9
    assert "belongs to root" in lines(body, "permissions")[0]["message"]
    assert "sudo agent doctor" in lines(body, "permissions")[0]["advice"]
    assert worst(body, "state") == "problem"


@needs_root
def test_root_looks_with_the_eyes_of_the_owner(calibrated, open_place, as_root):
    state = Path(shutil.copytree(calibrated, open_place / "state"))
    for path in (state, *state.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(state / "lock", 0, 0)
    body = valid(as_root("doctor", "--json", "--state-dir", state).json, "doctor")
    assert body["user"] == "nobody"
    (found,) = lines(body, "permissions")
    assert found["level"] == "problem"
    assert f"1 file in {state} of other users than nobody" in found["message"]
    assert "chown" in found["advice"]


@needs_root
def test_a_database_of_another_owner_than_its_directory_is_given_back(
    calibrated, open_place, as_root, nobody
):
    state = Path(shutil.copytree(calibrated, open_place / "state"))
    for path in (state, *state.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    file = state / "state.sqlite"
    os.chown(file, 0, 0)
    file.chmod(0o600)
    back = f"`sudo chown --reference={state} {file}`"
    for run in (as_root, nobody):
        body = valid(run("doctor", "--json", "--state-dir", state).json, "doctor")
        assert back in lines(body, "state")[0]["advice"]
        assert f"hint: Give it back: {back}" in run("calibrate", "--state-dir", state).err
    file.chmod(0o644)  # can be read, and not be written
    ran = as_root("calibrate", "--refit", "--state-dir", state)
    assert ran.code == 2
    assert f"hint: Give it back: {back}" in ran.err


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_a_lock_that_is_no_plain_file_is_a_problem(state, kind):
    lock = state / "lock"
    lock.unlink()
    if kind == "directory":
        lock.mkdir()
    elif kind == "link":
        lock.symlink_to("elsewhere")
    else:
        os.mkfifo(lock)
    (found,) = lines(doctor("--state-dir", state), "permissions")
    assert found["level"] == "problem"
    assert found["advice"] == f"Remove it: `rm -r {lock}`."
    if kind != "pipe":
        ran = agent("bundle", "unpin", "--state-dir", state)
        assert f"hint: Remove it (`rm -r {lock}`)" in ran.err


def test_advice_about_the_services_state_is_for_root(tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "SYSTEM_STATE", tmp_path)
    monkeypatch.setattr(place, "SYSTEM_STATE", tmp_path)
    (tmp_path / "lock").mkdir()
    tmp_path.chmod(0o777)
    body = examine({"AGENT_CONFIG": "", "HOME": "/h", "AGENT_STATE_DIR": str(tmp_path)}, {})
    advice = " ".join(c["advice"] for c in body["checks"])
    assert "`sudo agent calibrate" in advice
    assert f"`sudo rm -r {tmp_path}/lock`" in advice
    assert f"`sudo chmod go-w {tmp_path}`" in advice
    assert not re.search("`(agent|rm|chmod) ", advice)


def test_advice_about_a_persons_own_state_is_for_that_person(state):
    state.chmod(0o777)
    body = doctor("--state-dir", state)
    assert lines(body, "permissions")[0]["advice"] == f"Run `chmod go-w {state}`."


def test_a_state_that_everybody_may_write_is_a_problem(state):
    state.chmod(0o777)
    body = doctor("--state-dir", state)
    assert "other users may write" in lines(body, "permissions")[0]["message"]


def in_tmpfs(tmp_path, then):
    """The answer of doctor for a state in a small file system of its own."""
    spot = tmp_path / "mounted"
    spot.mkdir()
    start = ["unshare", "--mount", "sh", "-c", IN_TMPFS.format(then=then), "sh", spot]
    tried = subprocess.run([*start, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr}")
    command = [*start, SCRIPT, "doctor", "--json", "--state-dir", spot / "s"]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), timeout=600
    )
    assert ran.returncode == 9, ran.stderr
    import json

    return valid(json.loads(ran.stdout), "doctor")


@needs_root
def test_a_full_disk_is_a_problem(tmp_path):
    body = in_tmpfs(tmp_path, 'head -c 55m /dev/zero > "$1/ballast"')
    assert worst(body, "disk") == "problem"
    assert "Free some space" in lines(body, "disk")[0]["advice"]


@needs_root
def test_a_read_only_disk_is_a_problem(tmp_path):
    body = in_tmpfs(tmp_path, 'mount -o remount,ro "$1"')
    assert "read-only" in lines(body, "disk")[0]["message"]


@needs_root
def test_a_disk_that_runs_no_programs_is_a_problem(tmp_path):
    body = in_tmpfs(tmp_path, 'mount -o remount,noexec "$1"')
    assert "noexec" in lines(body, "disk")[-1]["message"]


@needs_root
def test_a_temporary_directory_that_is_full_is_a_problem_and_no_crash(tmp_path):
    if any(SCRIPT.is_relative_to(place) for place in ("/tmp", "/var/tmp")):
        pytest.skip("this checkout lies where the full disk has to be mounted")
    state = Path("/var/lib") / f"agent-test-{os.getpid()}"  # pytest's own folders are in /tmp
    start = ["unshare", "--mount", "sh", "-c", NO_TEMPORARY, "sh"]
    tried = subprocess.run([*start, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr}")
    try:
        found = other_user.run(start, "doctor", "--json", "--state-dir", state)
        body = valid(found.json, "doctor")
        assert "no temporary directory can be written" in [c["message"] for c in body["checks"]]
        ran = other_user.run(start, "calibrate", "--state-dir", state)
        assert ran.code == 2
        assert "hint: Free some space" in ran.err
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_without_a_compiler_it_says_what_to_install(tmp_path):
    body = doctor("--state-dir", tmp_path / "s", AGENT_COMPILER="no-such-compiler")
    assert worst(body, "compiler") == "problem"
    assert "apt install gcc" in lines(body, "compiler")[0]["advice"]


def test_an_error_of_a_command_is_shown_until_it_succeeds(state, tmp_path):
    failing = ("update", "--from", tmp_path / "no-stick", "--state-dir", state)
    assert agent(*failing).code == 4
    (found,) = lines(doctor("--state-dir", state), "last error")
    assert found["level"] == "warning"  # offline is no fault of the machine
    assert "`agent update` has failed since" in found["message"]
    assert agent("calibrate", "--refit", "--compiler", "x", "--state-dir", state).code == 0
    assert worst(doctor("--state-dir", state), "last error") == "warning"


def test_the_trace_of_a_bug_is_shown(state):
    (state / "crash-20260101-000000-1.log").write_text("x")
    (found,) = lines(doctor("--state-dir", state), "last error")
    assert "crash-20260101-000000-1.log" in found["message"]


@pytest.mark.parametrize("place_of_it", ["missing", "http://127.0.0.1:9", "ftp://example.org"])
def test_a_repository_that_cannot_be_reached(tmp_path, place_of_it):
    where = str(tmp_path / "none") if place_of_it == "missing" else place_of_it
    body = doctor("--state-dir", tmp_path / "s", AGENT_REPOSITORY=where)
    wrong = where.startswith("ftp")
    assert lines(body, "repository")[-1]["level"] == ("problem" if wrong else "warning")
    assert "trusted root" in lines(body, "repository")[0]["message"]


def test_a_server_that_never_answers_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        begun = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        body = doctor("--state-dir", tmp_path / "s", AGENT_REPOSITORY=url)
        assert time.monotonic() - begun < 100  # it waits for a second
    assert lines(body, "repository")[-1]["level"] == "warning"


def test_a_compiler_that_hangs_is_not_waited_for(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 3000\n")
    compiler.chmod(0o755)
    begun = time.monotonic()
    (tmp_path / "tmp").mkdir()
    on = {"AGENT_COMPILER": str(compiler), "TMPDIR": str(tmp_path / "tmp")}
    body = doctor("--state-dir", tmp_path / "s", **on)
    assert time.monotonic() - begun < 190  # it waits for five
    (found,) = lines(body, "compiler")
    assert (found["level"], found["message"]) == ("warning", "it has not answered within 5 s")
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_repository_that_answers(tmp_path):
    metadata = tmp_path / "repository" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "timestamp.json").write_text("{}")
    root = tmp_path / "root.json"
    root.write_text("{}")
    (found,) = outside.repository(
        scene(tmp_path, repository=str(metadata.parent), trusted_root=root)
    )
    assert (found.level, found.message) == ("ok", f"{metadata.parent} answers")


def test_a_clock_that_was_never_set(tmp_path):
    (found,) = place.clock(scene(tmp_path, now=86_400.0))
    assert found.level == "problem"
    assert "never set" in found.message


@pytest.mark.parametrize(
    "words",
    [
        "calibrate --bundle /nonexistent",
        "calibrate --compiler nosuchcc",
        "check --compiler nosuchcc",
    ],
)
def test_what_was_named_by_mistake_is_no_trouble_of_the_machine(state, words):
    ran = agent(*words.split(), "--state-dir", state)
    assert (ran.code, words.split()[-1] in ran.err) == (2, True)
    with opened(state) as (known, _):
        (found,) = place.last_error(scene(state, known))
    assert (found.level, found.message) == ("ok", "none")


def test_a_clock_that_is_behind_what_was_recorded(state):
    with opened(state) as (known, _):
        (found,) = place.clock(scene(state, known, now=time.time() - 90 * 86_400))
    assert found.level == "problem"
    assert "something was recorded here at" in found.message


@pytest.mark.parametrize(("days", "level"), [(1, "ok"), (29, "ok"), (31, "warning")])
def test_a_calibration_grows_old(state, tiny_bundle, days, level):
    now = time.time() + days * 86_400
    with opened(state) as (known, _):
        found = list(model.calibration(scene(state, known, now=now, bundle=tiny_bundle)))
    assert found[0].level == level


def test_a_calibration_of_another_machine_is_a_warning(state):
    another = "json_set(body, '$.machine.fingerprint', 'another')"
    changed(state, f"UPDATE calibration SET body = {another}")
    with opened(state) as (known, _):
        found = list(model.calibration(scene(state, known)))
    assert "another machine" in found[0].message


@pytest.mark.parametrize(("days", "level"), [(None, "warning"), (1, "ok"), (15, "warning")])
def test_a_centre_that_was_not_asked_for_long_is_a_warning(state, days, level):
    if days is not None:
        with open_state(state) as known:
            known.remember(CHECKED, {"at": time.time() - days * 86_400})
    with opened(state) as (known, _):
        found = list(model.bundle(scene(state, known, repository="/stick")))
    assert [f.level for f in found] == ["ok", level]


def test_units_of_systemd_are_read():
    text = (
        "Id=calibration-agent-update.timer\nLoadState=loaded\nActiveState=active\n"
        "NextElapseUSecRealtime=Tue 2026-11-24 06:00:00 UTC\n\n"
        "Id=calibration-agent-update.service\nActiveState=failed\nResult=exit-code\n"
    )
    units = outside.parse_units(text)
    assert units["calibration-agent-update.timer"]["LoadState"] == "loaded"
    found = list(outside._timer("update", *units.values()))
    assert [f.level for f in found] == ["problem", "ok"]
    assert "journalctl -u calibration-agent-update.service" in found[0].advice
    assert found[1].message.endswith("next Tue 2026-11-24 06:00:00 UTC")


def test_a_timer_that_is_not_started_says_how_to_start_it():
    (found,) = outside._timer("report", {"ActiveState": "inactive"}, {})
    assert found.level == "warning"
    assert "systemctl enable --now calibration-agent-report.timer" in found.advice


@pytest.mark.parametrize("text", ["", "\n\n", "nonsense", "Id=\n", "=\n\n=="])
def test_any_answer_of_systemd_is_put_up_with(text):
    assert all(isinstance(unit, dict) for unit in outside.parse_units(text).values())


def test_reporting_that_cannot_work_is_a_problem(state, tmp_path):
    config = {"report": True, "report_to": "https://x", "report_token_file": tmp_path / "none"}
    with opened(state) as (known, _):
        found = list(outside.reporting(scene(state, known, **config)))
    assert found[0].level == "problem"
    assert str(tmp_path / "none") in found[0].message


def test_reporting_is_off_until_somebody_turns_it_on(state):
    with opened(state) as (known, _):
        (found,) = outside.reporting(scene(state, known, report_to="https://x"))
    assert (found.level, found.message) == ("ok", "off: nothing is sent")


@pytest.mark.parametrize(("verdict", "level"), [("holds", "ok"), ("changed", "warning")])
def test_drift_that_the_newest_check_found_is_a_warning(state, tiny_bundle, verdict, level):
    with open_state(state) as known:
        sentinel = {"kernel": "gemm", "schedule": "original", "log_ratio": 0.4, "limit": 0.25}
        number = known.calibration_in_force().id
        body = {"verdict": verdict, "calibration": number, "sentinels": [sentinel]}
        known.note_drift(body, time.time())
    with opened(state) as (known, _):
        found = list(model.calibration(scene(state, known, bundle=tiny_bundle)))
    assert found[0].level == level


@pytest.fixture
def busy(monkeypatch):
    """Somebody uses half of the CPUs."""
    monkeypatch.setattr(measure_quiet, "conditions_now", lambda _: Conditions(0.5, 0.0))


@pytest.mark.usefixtures("busy")
def test_a_machine_that_is_busier_than_allowed_is_a_warning(tmp_path):
    (found,) = machine.quiet(scene(tmp_path))
    assert found.level == "warning"


@pytest.mark.usefixtures("busy")
def test_an_agent_at_work_is_not_taken_for_other_programs(tmp_path):
    with hold(tmp_path, "calibrate"):
        (found,) = machine.quiet(scene(tmp_path))
    assert found.level == "ok"
    assert f"an agent is at work: `agent calibrate`, process {os.getpid()}" in found.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h", 3600), ("1h 30min", 5400), ("1min 30s", 90), ("2d 1h", 176_400), ("500ms", 0.5),
        ("infinity", None), ("", None), ("soon", None),
    ],
)  # fmt: skip
def test_spans_of_systemd_are_read(text, seconds):
    assert outside.parse_span(text) == seconds


@pytest.mark.parametrize(
    ("limit", "wait_s", "level"),
    [
        ("1h", 20 * 60.0, None),
        ("1h", 3600.0, "warning"),
        ("2h", 3600.0, None),
        ("infinity", 86_400.0, None),
        ("", 86_400.0, None),
    ],
)
def test_a_job_that_systemd_would_end_while_it_waits_is_a_warning(tmp_path, limit, wait_s, level):
    config = Config(tmp_path, quiet_wait_s=wait_s)
    found = list(outside._time_enough({"TimeoutStartUSec": limit}, config))
    assert [f.level for f in found] == ([level] if level else [])
    assert all("`sudo systemctl edit calibration-agent-calibrate`" in f.advice for f in found)
    assert all("`TimeoutStartSec=2h`" in f.advice for f in found)


@pytest.mark.parametrize(
    ("settings", "check", "level"),
    [
        ("report = true\n", "reporting", "warning"),
        ("report_client_key = '/k.pem'\n", "configuration", "problem"),
    ],
)
def test_doctor_and_config_check_agree_on_what_is_a_mistake(tmp_path, settings, check, level):
    path = tmp_path / "config.toml"
    path.write_text(settings)
    body = doctor("--state-dir", tmp_path / "s", AGENT_CONFIG=str(path))
    assert [f["level"] for f in lines(body, check)] == [level]
    assert (agent("config", "check", path).code == 9) is (level == "problem")


def test_a_check_that_fails_unexpectedly_is_a_line_and_not_the_end():
    def broken():
        raise ZeroDivisionError("odd machine")

    (found,) = look("CPU", broken)
    assert found.level == "warning"
    assert "ZeroDivisionError" in found.message


def test_examine_takes_the_configuration_from_the_environment_it_is_given(tmp_path):
    body = examine({"AGENT_CONFIG": "", "HOME": "/h", "AGENT_STATE_DIR": str(tmp_path / "s")}, {})
    assert body["state_dir"] == str(tmp_path / "s")
    assert other_user.NOBODY.pw_name != body["user"]
