"""Disks that are full or may not be written: the bundle in force stays, and the next update works.

Real file systems where this process may mount them, else the kernel's limit on the size of files.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.update.followed import Machine, World, made_world, refused, unharmed
from tests.conftest import SCRIPT, Ran, environment

SOMEONE = 54_321  # a user who is not here
# Root may write everywhere; without these two capabilities it is held to permissions as others are.
WITHOUT_PRIVILEGES = """
import ctypes, os, sys
for capability in (1, 2):  # DAC_OVERRIDE, DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""
SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return made_world(tmp_path_factory.mktemp("world"))


def through(machine: Machine, world: World, program: str, *more: object) -> Ran:
    """An update by the command, which ``program`` starts after it has changed its own process."""
    command = [sys.executable, "-c", program, *more, SCRIPT, "update"]
    command += machine.words(world.later.public)
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def placed(world: World, folder: Path) -> Machine:
    shutil.copytree(world.machine.state, folder / "machine", symlinks=True)
    return Machine(folder / "machine", world.now.root)


def takes_the_third(machine: Machine, world: World) -> None:
    assert machine.call(world.later.public)["outcome"] == "activated"
    assert machine.bundle() == world.digests[2]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory, below ``folder``."""
    folder.mkdir()
    mount = shutil.which("mount")
    asked = [mount or "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if mount is None or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("left", [0, 16 << 10, 1 << 20])
def test_a_full_disk_leaves_the_bundle_in_force(world, tmp_path, left) -> None:
    with mounted(tmp_path / "disk", "size=32m"):
        machine, filler = placed(world, tmp_path / "disk"), tmp_path / "disk" / "filler"
        room = os.statvfs(tmp_path / "disk")
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - left)
        with unharmed(machine, world):
            refused(machine.update(world.later.public), 2, "Free some space")
        filler.unlink()
        takes_the_third(machine, world)


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_disk_without_room_for_more_files_leaves_the_bundle_in_force(
    world, tmp_path, left
) -> None:
    with mounted(tmp_path / "disk", "size=32m,nr_inodes=100"):
        machine, fillers = placed(world, tmp_path / "disk"), tmp_path / "disk" / "fillers"
        fillers.mkdir()
        for number in range(os.statvfs(fillers).f_ffree - left):
            (fillers / str(number)).touch()
        with unharmed(machine, world):
            refused(machine.update(world.later.public), 2, "")
        shutil.rmtree(fillers)
        takes_the_third(machine, world)


@pytest.mark.parametrize("largest", [0, 2 << 10, 12 << 10])
def test_files_that_may_not_grow_leave_the_bundle_in_force(world, tmp_path, largest) -> None:
    machine = placed(world, tmp_path)
    with unharmed(machine, world):
        refused(through(machine, world, SMALL_FILES, largest), 2, "")
    takes_the_third(machine, world)


def test_a_read_only_file_system_leaves_the_bundle_in_force(world, tmp_path) -> None:
    with mounted(tmp_path / "disk", "size=32m"):
        machine = placed(world, tmp_path / "disk")
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        with unharmed(machine, world):
            refused(machine.update(world.later.public), 2, "--state-dir")
        subprocess.run(["mount", "-o", "remount,rw", tmp_path / "disk"], check=True)
        takes_the_third(machine, world)


@pytest.mark.parametrize("which", [".", "bundles", "repository", "state.sqlite", "lock"])
def test_what_may_not_be_written_leaves_the_bundle_in_force(world, tmp_path, which) -> None:
    machine = placed(world, tmp_path)
    path = machine.state / which
    mode = path.stat().st_mode
    path.chmod(mode & 0o555)
    try:
        with unharmed(machine, world):
            refused(through(machine, world, WITHOUT_PRIVILEGES), 2, "")
    finally:
        path.chmod(mode)
    takes_the_third(machine, world)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_the_state_of_another_user_is_left_alone(world, tmp_path, mode) -> None:
    machine = placed(world, tmp_path)
    machine.state.chmod(mode)
    with unharmed(machine, world):
        given_to(machine, SOMEONE)
        refused(through(machine, world, WITHOUT_PRIVILEGES), 2, "--state-dir")
        given_to(machine, 0)
    takes_the_third(machine, world)


def given_to(machine: Machine, owner: int) -> None:
    for path in (machine.state, *machine.state.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)
