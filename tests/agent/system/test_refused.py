"""What a kernel or a file system refuses is told in words, or done without; it is never a bug.

strace makes the calls of real commands fail.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.system.refused import memory_file, sync_directory
from tests.conftest import SCRIPT, SIZES, Ran, environment

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
MEASURE = ("--schedule", "original", *SIZES)


def refusing(refusals, *words, within=None, script=SCRIPT):
    """A command whose system calls fail: ``{"flock": "ENOLCK"}``; ``within`` a directory only."""
    command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        *(["-P", within] if within else []),
    ]
    command += ["-e", "trace=" + ",".join(refusals)]
    for call, error in refusals.items():
        command += ["-e", f"inject={call}:error={error}"]
    done = subprocess.run(
        [*command, script, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment(AGENT_BUDGET="2s", BUNDLES_PASSPHRASE="correct horse battery staple"),
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip("this machine does not let processes be traced")
    assert "bug" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def state(calibrated, tmp_path):
    return shutil.copytree(calibrated, tmp_path / "state")


@needs_strace
@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_where_nothing_can_be_locked_that_is_said_with_what_to_do(state, error):
    ran = refusing({"flock": error}, "report", "--show", "--state-dir", state)
    assert ran.code == 2
    assert f"the file system of {state} cannot lock files" in ran.err
    assert "hint: Use a directory on a local disk" in ran.err


@needs_strace
def test_doctor_has_a_line_where_nothing_can_be_locked(state):
    ran = refusing({"flock": "ENOLCK"}, "doctor", "--state-dir", state)
    assert ran.code == 9
    assert "cannot lock files" in ran.out


@needs_strace
def test_a_file_system_without_modes_is_used_as_it_is(state):
    refusals = dict.fromkeys(("chmod", "fchmod", "fchmodat"), "EPERM")
    ran = refusing(refusals, "report", "enable", "--yes", "--state-dir", state)
    assert ran.code == 0, ran.err


@needs_strace
def test_without_files_in_memory_modes_and_times_of_use_programs_are_still_timed(tmp_path, gemm):
    refusals = dict.fromkeys(("memfd_create", "sched_getaffinity"), "ENOSYS")
    refusals |= dict.fromkeys(("fchmod", "utimensat"), "EPERM")
    ran = refusing(refusals, "measure", gemm, *MEASURE, "--state-dir", tmp_path / "state")
    assert ran.code == 0, ran.err


@needs_strace
@pytest.mark.parametrize("call", ["setsid", "fsync", "pipe2", "mkdir", "rename"])
def test_what_cannot_be_done_without_is_told_in_words(tmp_path, gemm, call):
    state = tmp_path / "state"
    ran = refusing({call: "EPERM"}, "measure", gemm, *MEASURE, "--state-dir", state)
    assert ran.code in (2, 3), ran.err
    assert "error: " in ran.err


@needs_strace
def test_a_directory_that_cannot_be_synced_is_not_missed_by_a_publisher(tmp_path):
    publisher = SCRIPT.with_name("bundles")
    words = ("repo", "init", tmp_path / "repo", "--keys", tmp_path / "keys")
    refusals = {"fsync": "EINVAL", "chmod": "EPERM", "fchmodat": "EPERM"}
    ran = refusing(refusals, *words, within=tmp_path, script=publisher)
    assert ran.code == 0, ran.err
    ran = refusing({"flock": "ENOLCK"}, "timestamp", "--repo", tmp_path / "repo", script=publisher)
    assert ran.code == 2
    assert "cannot lock files" in ran.err


def test_a_directory_that_is_not_there_is_an_error_all_the_same(tmp_path):
    sync_directory(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "none")


def test_a_file_in_memory_is_one_in_the_temporary_directory_where_there_is_none(
    monkeypatch, tmp_path
):
    def refused(name):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with memory_file("x") as file:
        file.write(b"abc")
        assert Path(f"/proc/self/fd/{file.fileno()}").readlink().is_relative_to(tmp_path)
        assert list(tmp_path.iterdir()) == []
