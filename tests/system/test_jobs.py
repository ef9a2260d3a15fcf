"""The three jobs as systemd runs them: in their sandbox, on time, through all that happens."""

import json
import os
import shutil
import time
from contextlib import contextmanager

import pytest

from agent.bundle.bundle import default_bundle
from tests.agent.update.published import made_bundle, new_centre
from tests.fake_runner import calibrate_simulated
from tests.system.box import within
from tests.system.conftest import (
    JOBS,
    STATE,
    asked,
    begin_measuring,
    calibrate,
    calibrations,
    forget,
    let_nobody_be_told,
    run_job,
    timings,
    unit,
)

LISTEN = """
import socket
here = socket.create_server(("127.0.0.1", 7))
while True:
    here.accept()[0].close()
"""
ENOUGH_S = 36.0  # of simulated measuring, for the fewest labels that boosting is fitted to
PATIENCE = 300.0  # with what has to happen, however busy this machine is
STOP_S = 10.0  # against hanging; systemd would kill it after 90
PYTHON = ("/usr/bin/python3", "-c")
CALL = (*PYTHON, "import socket; socket.create_connection(('127.0.0.1', 7), 5)")
WRITE = (*PYTHON, "import sys; open(sys.argv[1], 'w')")


@pytest.fixture(scope="module")
def centre(box, tmp_path_factory):
    """A real repository at /srv/centre, its root in place; gives the settings for an address."""
    made = new_centre(tmp_path_factory.mktemp("centre") / "centre")
    made.add(made_bundle(tmp_path_factory.mktemp("bundle") / "field", "2"))
    shutil.copytree(made.public, box.root / "srv/centre")
    shutil.copy(made.root, box.root / "etc/calibration-agent/root.json")
    return 'repository = "{}"'.format


def in_sandbox(box, job, *command):
    """Run a command under everything that a job's unit says; its exit code."""
    text = (box.root / "lib/systemd/system" / unit(job)).read_text()
    kept = [x for x in text.splitlines() if not x.startswith(("ExecStart=", "SuccessExitStatus="))]
    words = " ".join(json.dumps(word) for word in command)
    box.write("/run/systemd/system/probe.service", "\n".join([*kept, f"ExecStart={words}"]))
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", "probe.service", check=False)
    return int(box.show("probe.service", "ExecMainStatus"))


def processes(box):
    """The processes of the calibrating job that are left, its workers and compilers too."""
    let_nobody_be_told(box)
    return box.run("pgrep", "-u", "calibration-agent", "-l", check=False).out.split("\n")[:-1]


def has_run(box, job):
    """Wait until a job has come to an end since the machine was switched on; its result."""
    ended = "InactiveEnterTimestamp"
    within(PATIENCE, lambda: box.show(unit(job), ended), f"{job}: never")
    return box.show(unit(job), "Result")


def newest(box):
    """The calibration made last, whether it came into force or was only kept."""
    known = box.run("agent", "status", "--json").json
    return known["kept"] or known["calibration"]


def waiting(box):
    within(PATIENCE, lambda: "waiting" in box.words(unit("calibrate")), "it does not wait")


def compiling(box):
    within(PATIENCE, lambda: "cc1" in box.run("ps", "-e", "-o", "comm").out, "nothing was compiled")


def seconds_to_stop(box, wait_until):
    """What a stop of the job takes at that stage; it is no failure, and nothing is left running."""
    forget(box, compiled=True)
    box.run("systemctl", "start", "--no-block", unit("calibrate"))
    wait_until(box)
    began = time.monotonic()
    box.run("systemctl", "stop", unit("calibrate"))
    took = time.monotonic() - began
    assert box.show(unit("calibrate"), "Result") == "success"
    assert processes(box) == []
    return took


def test_a_calibration_completes_in_the_sandbox(box):
    forget(box)
    result, code, words = calibrate(box)
    assert (result, code) == ("success", 0), words
    assert calibrations(box) == 1
    assert newest(box)["timings"]["usable"] > 0
    strangers = box.run("find", f"/{STATE}", "!", "-user", "calibration-agent").out
    assert strangers == ""


def test_with_labels_enough_every_head_is_fitted_in_the_sandbox(box, tmp_path):
    """Two seconds give too few for boosting: here the times are simulated, and fitted for real."""
    forget(box)
    calibrate_simulated(tmp_path / "state", default_bundle(), ENOUGH_S)
    shutil.copytree(tmp_path / "state", box.root / STATE, dirs_exist_ok=True)
    box.run("chown", "-R", "calibration-agent:", f"/{STATE}")
    code = in_sandbox(box, "calibrate", "/usr/bin/agent", "calibrate", "--refit")
    assert code == 0, box.words("probe.service")
    assert calibrations(box) == 2
    head = newest(box)["head"]
    tried = {(v["target"], v["candidate"]): v for v in head["verdicts"]}
    assert set(tried) == {("speedup", "ridge"), ("speedup", "boosting"), ("seconds", "ridge")}
    assert [v for v in tried.values() if v["log_error"] is None] == []


def test_a_calibration_that_is_not_due_is_no_failure(box):
    before = calibrations(box)
    result, code, words = calibrate(box)
    assert (result, code) == ("success", 7), words
    assert calibrations(box) == before > 0


def test_jobs_that_have_nothing_to_do_are_no_failures(box):
    for job in ("update", "report"):
        result, code, words = run_job(box, job)
        assert (result, code) == ("success", 7), words


def test_an_offline_machine_is_no_failed_machine(box, centre):
    box.write("/etc/calibration-agent/conf.d/60-centre.toml", centre("https://192.0.2.1/bundles"))
    result, code, words = run_job(box, "update")
    assert (result, code) == ("success", 4), words
    assert "Traceback" not in words
    assert box.failed() == frozenset()


def test_a_bundle_from_the_centre_is_tried_and_taken_in_the_sandbox(box, centre):
    forget(box)  # with timings to judge it by, random projections are turned down
    box.write("/etc/calibration-agent/conf.d/60-centre.toml", centre("/srv/centre"))
    result, code, words = run_job(box, "update")
    assert (result, code) == ("success", 0), words
    assert box.run("agent", "bundle", "show", "--json").json["name"] == "field"
    box.run("rm", "/etc/calibration-agent/conf.d/60-centre.toml")


MAIL = "/run/calibration-agent-notify/mail"
TELLS = """#!/bin/sh
cat >> "$RUNTIME_DIRECTORY/mail" && echo >> "$RUNTIME_DIRECTORY/mail"
"""


def test_a_job_that_fails_has_the_site_told_once(box, centre):
    forget(box)
    box.write("/usr/local/bin/tell", TELLS)
    box.run("chmod", "755", "/usr/local/bin/tell")
    settings = ('on_problem = "/usr/local/bin/tell"', centre("/srv/centre"))
    wrong = 'trusted_root = "/etc/none.json"'
    box.write("/etc/calibration-agent/conf.d/60-told.toml", "\n".join((*settings, wrong)))
    assert told_after(box, "update") == ("success", 0), box.words(unit("notify"))
    [problems] = [json.loads(line)["problems"] for line in box.run("cat", MAIL).out.splitlines()]
    assert any("calibration-agent-update.service failed" in p["message"] for p in problems)
    assert told_after(box, "update") == ("success", 7), box.words(unit("notify"))
    assert len(box.run("cat", MAIL).out.splitlines()) == 1
    box.run("rm", "/etc/calibration-agent/conf.d/60-told.toml", MAIL)
    box.run("systemctl", "reset-failed")


def told_after(box, job):
    """Run a job that fails; how `agent notify` ended, which is started after it."""
    service, ended = unit("notify"), "InactiveEnterTimestampMonotonic"
    before = box.show(service, ended)
    box.run("systemctl", "start", unit(job), check=False)
    assert box.show(unit(job), "Result") == "exit-code"

    def has_ended():
        idle = box.show(service, "ActiveState") in ("inactive", "failed")
        return idle and box.show(service, ended) != before

    within(PATIENCE, has_ended, "nobody was told")
    return box.show(service, "Result"), int(box.show(service, "ExecMainStatus"))


def test_measuring_cannot_talk_and_the_others_can(box):
    box.background("/usr/bin/python3", "-c", LISTEN)
    within(PATIENCE, lambda: not box.run(*CALL, check=False).code, "nobody listens")
    assert in_sandbox(box, "calibrate", *CALL) != 0
    assert in_sandbox(box, "update", *CALL) == 0
    assert in_sandbox(box, "report", *CALL) == 0


@pytest.mark.parametrize("job", JOBS)
def test_a_job_writes_in_its_state_only(box, job):
    for path in ("/etc/calibration-agent/x", "/usr/x", "/root/x", "/var/lib/x"):
        assert in_sandbox(box, job, *WRITE, path) != 0, path
    assert in_sandbox(box, job, *WRITE, f"/{STATE}/x") == 0
    box.run("rm", f"/{STATE}/x")


@pytest.mark.parametrize("job", JOBS)
def test_only_measuring_runs_what_lies_in_the_state(box, job):
    box.run("install", "-o", "calibration-agent", "-m", "700", "/usr/bin/true", f"/{STATE}/true")
    code = in_sandbox(box, job, "/usr/bin/env", f"/{STATE}/true")
    box.run("rm", f"/{STATE}/true")
    assert (code == 0) == (job == "calibrate")


@pytest.mark.parametrize("wait_until", [compiling, begin_measuring])
def test_a_stop_ends_the_job_at_once_and_is_no_failure(box, wait_until):
    assert seconds_to_stop(box, wait_until) < STOP_S


@pytest.fixture
def never_quiet(box):
    """Something else is at work, and that is not borne."""
    path = "/etc/calibration-agent/conf.d/60-never.toml"
    box.write(path, "max_busy = 0.0")
    at_work = box.background("sh", "-c", "while :; do :; done")
    yield path
    box.run("systemctl", "stop", at_work)
    box.run("rm", path)


def test_a_machine_that_is_never_quiet_is_left_alone_and_the_wait_ends_at_once(box, never_quiet):
    assert seconds_to_stop(box, waiting) < STOP_S
    assert timings(box) == 0


def test_the_wait_for_a_quiet_machine_has_an_end_and_that_is_no_failure(box, never_quiet):
    forget(box)
    box.write(never_quiet, 'max_busy = 0.0\nquiet_wait = "2s"')
    result, code, words = run_job(box, "calibrate")
    assert (result, code) == ("success", 8), words
    assert timings(box) == 0


def test_a_hang_is_ended_and_the_next_run_finds_no_trace_of_it(box):
    forget(box)
    begin_measuring(box)
    stuck = box.show(unit("calibrate"), "MainPID")
    # Stopped for good: systemd's SIGCONT, which comes with SIGTERM, does not help either.
    box.background("sh", "-c", f"while kill -STOP {stuck}; do :; done")
    box.drop_in(unit("calibrate"), "[Service]\nTimeoutStartSec=1s")  # in place of the hour
    within(PATIENCE, lambda: box.show(unit("calibrate"), "ActiveState") == "failed", "it hangs on")
    assert box.show(unit("calibrate"), "Result") == "timeout"
    assert processes(box) == []
    box.without_drop_in(unit("calibrate"))
    result, code, words = calibrate(box)
    assert (result, code) == ("success", 0), words


def test_a_second_agent_is_told_who_is_at_work(box):
    forget(box)
    first = box.background("/usr/bin/agent", "calibrate", "--budget", "20s")
    within(PATIENCE, lambda: timings(box) > 0, "nothing was measured")
    box.run("systemctl", "kill", "--signal=STOP", first)  # or it might be done first
    result, code, words = calibrate(box)
    box.run("systemctl", "kill", "--signal=KILL", first)
    within(PATIENCE, lambda: not processes(box), "it is still there")
    assert (result, code) == ("success", 6), words
    assert "another agent is at work" in words


def test_root_by_hand_works_for_the_service_and_leaves_nothing_of_roots(box):
    forget(box)
    box.run("agent", "calibrate", "--budget", "2s")
    assert calibrations(box) == 1
    assert box.run("find", f"/{STATE}", "!", "-user", "calibration-agent").out == ""


def test_another_user_by_hand_is_refused_in_plain_words(box):
    command = ("agent", "calibrate", "--state-dir", f"/{STATE}")
    said = box.run("setpriv", "--reuid=daemon", "--clear-groups", *command, check=False, HOME="/")
    assert said.code == 2
    assert f"/{STATE}" in said.err
    assert "hint: " in said.err
    assert "Traceback" not in said.err


def test_a_unit_that_ran_as_another_user_runs_as_its_own_again(box):
    box.drop_in(unit("report"), "[Service]\nUser=daemon")
    run_job(box, "report")
    box.without_drop_in(unit("report"))
    result, code, words = run_job(box, "report")
    assert (result, code) == ("success", 7), words
    box.run("agent", "status")


@pytest.mark.parametrize("text", ["budgte = '6s'", "budget = [", "budget = '6 parsecs'"])
def test_a_broken_configuration_fails_with_its_file_and_changes_nothing(box, text):
    path = "/etc/calibration-agent/conf.d/70-broken.toml"
    before = calibrations(box)
    box.write(path, text)
    result, code, words = calibrate(box)
    box.run("rm", path)
    assert (result, code) == ("exit-code", 2), words
    assert path in words
    assert "Traceback" not in words
    assert calibrations(box) == before
    box.run("systemctl", "reset-failed")


@contextmanager
def disk_for_the_state(box, options):
    """Another disk where the state is."""
    mine = "uid=calibration-agent,gid=calibration-agent,mode=700"
    box.run("mount", "-t", "tmpfs", "-o", f"{mine},{options}", "small", f"/{STATE}")
    yield
    box.run("umount", f"/{STATE}")
    box.run("systemctl", "reset-failed")


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [("size=256k", 2, "space"), ("size=64m,ro", 2, "read-only"), ("size=64m,noexec", 3, "`exec`")],
)
def test_a_disk_that_is_of_no_use_is_told(box, options, code, told):
    with disk_for_the_state(box, options):
        result, found, words = calibrate(box)
    assert (result, found) == ("exit-code", code), words
    assert told in words
    assert "Traceback" not in words


def test_a_disk_that_is_of_use_again_is_measured_on(box):
    forget(box)
    with disk_for_the_state(box, "size=256k"):
        calibrate(box)
    assert calibrate(box)[:2] == ("success", 0)


def test_a_state_that_someone_else_owns_is_its_own_users_again(box):
    box.run("chown", "-R", "root:root", f"/{STATE}")
    assert run_job(box, "report")[:2] == ("success", 7)
    assert box.run("find", f"/{STATE}", "!", "-user", "calibration-agent").out == ""


def test_a_missing_state_directory_is_made_again(box):
    box.run("rm", "-rf", f"/{STATE}")
    assert run_job(box, "report")[:2] == ("success", 7)
    assert box.run("stat", "-c", "%U %a", f"/{STATE}").out == "calibration-agent 700\n"


def test_a_power_cut_in_the_middle_of_measuring_loses_nothing(box):
    forget(box)
    box.write("/etc/calibration-agent/conf.d/60-longer.toml", 'budget = "6s"')
    begin_measuring(box)
    box.power_off()
    kept = timings(box)
    assert kept >= 2
    box.boot()
    box.run("systemctl", "stop", *(unit(job, "timer") for job in JOBS))
    result, code, words = calibrate(box)
    assert (result, code) == ("success", 0), words
    run = asked(box, "SELECT run FROM calibration ORDER BY id DESC LIMIT 1")
    assert asked(box, "SELECT min(run) FROM timing") == run  # it went on with the same attempt
    assert timings(box) > kept
    box.run("rm", "/etc/calibration-agent/conf.d/60-longer.toml")


def test_timers_fire(box):
    for job in JOBS:
        box.drop_in(
            unit(job, "timer"),
            "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nRandomizedDelaySec=0\nAccuracySec=100ms",
        )
        box.run("systemctl", "start", unit(job, "timer"))
    for job in JOBS:
        assert has_run(box, job) == "success"
    for job in JOBS:
        box.without_drop_in(unit(job, "timer"))
        box.run("systemctl", "stop", unit(job, "timer"), unit(job))


def test_what_was_missed_while_the_machine_was_off_is_made_up_for(box):
    box.power_off()
    for job in JOBS:
        stamp = box.root / "var/lib/systemd/timers" / f"stamp-{unit(job, 'timer')}"
        long_ago = time.time() - 7200
        os.utime(stamp, (long_ago, long_ago))  # as if it had been off for two hours
        dropped = box.root / "etc/systemd/system" / f"{unit(job, 'timer')}.d"
        dropped.mkdir(exist_ok=True)
        (dropped / "now.conf").write_text("[Timer]\nRandomizedDelaySec=0\n")
    box.boot()
    for job in JOBS:
        assert has_run(box, job) == "success"
    assert box.failed() == frozenset()


@pytest.fixture(scope="module")
def bare_box(box):
    """The machine, without a C compiler from here on."""
    box.run("systemctl", "stop", *(unit(job, "timer") for job in JOBS))
    forget(box)
    box.hide_compilers()
    return box


def test_without_a_compiler_the_self_test_passes_too(bare_box):
    assert bare_box.run("agent", "self-test", "--json").json["schema"] == 1


def test_without_a_compiler_the_prebuilt_set_is_measured(bare_box):
    result, code, words = calibrate(bare_box)
    assert (result, code) == ("success", 0), words
    assert calibrations(bare_box) == 1
    assert newest(bare_box)["toolchain"]["kind"] == "prebuilt"
