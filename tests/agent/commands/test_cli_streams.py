"""Standard streams that are full or closed: the work goes on, and an answer is not lost unsaid."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import Exit
from tests import forked
from tests.conftest import SCRIPT, SIZES, agent, environment
from tests.own_mounts import run_with_mounts

BUNDLES = SCRIPT.with_name("bundles")
CALIBRATE = ("calibrate", "--refit")
OF_AGENT = {
    "calibrate": (*CALIBRATE, "--report", "page.html"),
    "check": ("check", "--compiler", "no-such-cc"),
    "status": ("status",),
    "history": ("history",),
    "kernels": ("kernels",),
    "rank": ("rank", "gemm.c", *SIZES, "--no-run"),
    "predict": ("predict", "gemm.c", *SIZES, "--no-run", "--schedule", "original"),
    "doctor": ("doctor",),
    "config": ("config", "check"),
    "update": ("update",),
    "report": ("report", "show"),
    "help": ("--help",),
    "usage": ("no-such-command",),
}

# A fit of boosted trees, without the minute of measuring that it takes to have enough to fit.
WITH_TREES = """
from agent.terminal.streams import steady_streams
steady_streams()
import numpy, agent.model.boosting as boosting
rows = numpy.eye(40)
boosting.fit_forest(rows, rows[0], rows[0] + 1, 1)
"""


def shell(line, place, *words, **env):
    """How a command ends whose streams the shell directs: ``line`` runs it as "$@"."""
    done = subprocess.run(
        ["bash", "-c", line, "bash", *map(str, words)],
        capture_output=True, text=True, timeout=120, check=False, cwd=place,
        env=environment(**env),
    )  # fmt: skip
    return done.returncode


@pytest.fixture
def state(calibrated, tmp_path, gemm):
    shutil.copytree(calibrated, tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize("name", OF_AGENT)
def test_messages_that_nobody_can_read_change_no_exit_code(state, tmp_path, name):
    where = {"AGENT_STATE_DIR": str(state)}
    wanted = forked.run("agent", *OF_AGENT[name], env=environment(**where), cwd=tmp_path).returncode
    line = ('"$@" 2>/dev/full', '"$@" 2>&-')[len(name) % 2]
    assert shell(line, tmp_path, SCRIPT, *OF_AGENT[name], **where) == wanted, line


@pytest.mark.parametrize("line", ['"$@" >&-', '"$@" >/dev/full 2>&1'])
def test_an_answer_that_cannot_be_written_is_an_error_after_the_work_is_done(state, tmp_path, line):
    before = agent("history", "--json", "--state-dir", state).json["calibrations"]
    words = (SCRIPT, *OF_AGENT["calibrate"])
    assert shell(line, tmp_path, *words, AGENT_STATE_DIR=str(state)) == Exit.NOT_WRITTEN
    after = agent("history", "--json", "--state-dir", state).json["calibrations"]
    assert len(after) == len(before) + 1
    assert (tmp_path / "page.html").exists()


def test_a_reader_who_has_gone_is_no_error(state, tmp_path):
    line = '"$@" 2>&1 | true; exit ${PIPESTATUS[0]}'
    assert shell(line, tmp_path, SCRIPT, *CALIBRATE, AGENT_STATE_DIR=str(state)) == Exit.OK


def test_an_answer_that_cannot_be_written_is_told_once_and_in_words(state):
    with Path("/dev/full").open("w") as full:
        command = [SCRIPT, "history", "--json", "--state-dir", state]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr.count("the answer cannot be written: No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("line", ['"$@" 2>/dev/full', '"$@" 2>&-'])
def test_work_of_the_centre_goes_on_without_its_messages(tmp_path, line):
    words = (BUNDLES, "corpus", "--help")
    assert shell(line, tmp_path, *words) == shell('"$@"', tmp_path, *words)
    assert shell('"$@" >/dev/full', tmp_path, BUNDLES, "--help") == Exit.NOT_WRITTEN


@contextlib.contextmanager
def calibrating(place, *before):
    """A calibration that has begun to talk."""
    command = [*before, SCRIPT, "calibrate", "--state-dir", place / "state"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    ) as process:
        process.stderr.readline()
        yield process
        process.stderr.read()
        assert process.wait(100) == Exit.INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_stops_a_calibration_as_sigterm_does(tmp_path, number):
    with calibrating(tmp_path) as process:
        process.send_signal(number)


def test_nohup_is_respected(tmp_path):
    with calibrating(tmp_path, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        process.stderr.readline()  # it goes on and tells more
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)


def test_nothing_is_wrapped_where_no_terminal_is(state):
    lines = agent("history", "--state-dir", state).out.splitlines()
    rows = [line for line in lines if line.strip()[:2] == "20" or "20" in line[:12]]
    told = agent("history", "--json", "--state-dir", state).json["calibrations"]
    assert len(rows) == len(told)
    assert max(len(line) for line in agent("kernels").out.splitlines()) > 100


def test_on_an_odd_machine_the_words_on_stderr_are_the_agents_own(state, tmp_path):
    mounts = "mount -t tmpfs none /proc && mount -t tmpfs -o ro none /dev/shm"
    commands = [" ".join((str(SCRIPT), *words)) for words in (OF_AGENT["predict"], CALIBRATE)]
    commands.append(f"{sys.executable} -c '{WITH_TREES}'")
    asked = "; ".join(f"{command}; echo ended $?" for command in commands)
    bare = {"PATH": os.environ["PATH"], "AGENT_CONFIG": "", "AGENT_STATE_DIR": str(state)}
    ran = run_with_mounts(mounts, asked, bare, tmp_path)
    assert ran.stdout.count("ended 0\n") == 3, ran.stderr
    assert [x for x in ran.stderr.splitlines() if not re.match("[a-z ]+: ", x)] == []
