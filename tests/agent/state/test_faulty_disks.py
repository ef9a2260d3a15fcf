"""Disks that are full, read-only or damaged: said plainly, nothing lost, and well again after."""

import os
import shutil
import subprocess

import pytest

from agent.state.file import FILE
from agent.state.state import read_state
from tests.agent.update.test_bad_disks import mounted
from tests.conftest import NO_TIMING, agent, valid

COMMANDS = (
    "calibrate --budget 3s",
    "calibrate --refit",
    "check",
    "report enable --yes",
    "report --show",
    "bundle pin",
)
WELL = (0, 7, 8, 9)  # done; nothing to do; not now; a check that says the machine has changed
READING = ("status", "history", "bundle list", "report")


@pytest.fixture
def disk(calibrated, tmp_path):
    """A calibrated state on a small file system of its own."""
    with mounted(tmp_path / "disk", "size=8m"):
        yield shutil.copytree(calibrated, tmp_path / "disk" / "state")


def fill(folder, left=0):
    """Take all the room but ``left`` bytes."""
    room = os.statvfs(folder)
    with (folder / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - left)
    return folder / "ballast"


def remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def run(state, words, first=NO_TIMING):
    ran = agent(*words.split(), "--state-dir", state, first=first)
    assert "Traceback" not in ran.err
    assert "bug" not in ran.err, ran.err
    return ran


def in_force(state):
    with read_state(state) as opened:
        return opened.calibration_in_force()


@pytest.mark.parametrize(
    ("words", "left"),
    [*((words, 0) for words in COMMANDS), ("calibrate --refit", 8 << 10), ("bundle pin", 8 << 10)],
)
def test_on_a_full_disk_a_command_works_or_asks_for_space_and_loses_nothing(disk, words, left):
    before = in_force(disk)
    ballast = fill(disk.parent, left)
    ran = run(disk, words)
    if ran.code not in WELL:
        assert ran.code == 2, ran.err
        assert "hint: Free some space" in ran.err
        assert in_force(disk) == before
    ballast.unlink()
    assert run(disk, words).code in WELL


def test_a_disk_that_is_too_full_to_compile_anything_is_told_so(disk):
    fill(disk.parent)
    ran = run(disk, "calibrate --budget 3s", first="")
    assert ran.code == 2, ran.err
    assert "hint: Free some space" in ran.err


@pytest.mark.parametrize("words", COMMANDS)
def test_on_a_read_only_disk_what_writes_is_refused_with_what_to_do(disk, words):
    before = in_force(disk)
    remount(disk.parent, "ro")
    ran = run(disk, words)
    assert ran.code == 2, ran.err
    assert "hint: " in ran.err
    assert in_force(disk) == before
    remount(disk.parent, "rw")
    assert run(disk, "bundle pin").code in WELL


@pytest.mark.parametrize("words", READING)
def test_what_only_reads_works_on_a_full_and_on_a_read_only_disk(disk, words):
    fill(disk.parent)
    well = run(disk, words)
    remount(disk.parent, "ro")
    assert (run(disk, words).code, well.code) in ((0, 0), (7, 7))


def test_a_damaged_state_is_set_aside_by_the_next_calibration_and_told_until_then(
    calibrated, tmp_path, tiny_bundle
):
    state = shutil.copytree(calibrated, tmp_path / "state")
    content = (state / FILE).read_bytes()
    damaged = content[:4096] + b"\xf4" * 8192 + content[12288:]
    (state / FILE).write_bytes(damaged)
    for words in ("status", "history", "report"):
        ran = run(state, words)
        assert ran.code == 2
        assert "damaged" in ran.err
        assert "hint: Run `agent calibrate`" in ran.err
    words = ("calibrate", "--budget", "3s", "--if-due", "--json", "--bundle", tiny_bundle)
    ran = agent(*words, "--state-dir", state, first=NO_TIMING)
    assert ran.code == 0, ran.err
    assert "state.corrupt-1" in ran.err
    assert (state / "state.corrupt-1").read_bytes() == damaged
    assert valid(ran.json, "calibrate")["calibration_id"] == 1
    assert run(state, "status").code == 0
