"""One process at a time that measures or changes the state.

The kernel drops the lock when its holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import BusyError, StateError
from agent.system.refused import lock_file

FILE = "lock"
MAX_NOTE = 1_000
RETRY_S = 0.05  # a look (``holder``) has long ended then
RETAKE_S = 30.0  # a short command (`agent bundle pin`) has ended then; a calibration has not


@dataclass(frozen=True)
class HeldLock:
    """A lock that this process holds, and may let go for a while."""

    descriptor: int
    command: str
    directory: Path

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Let others have the lock while in the context, then hold it again.

        An error from inside goes before one of the lock: it is tried for once then.

        Raises:
            BusyError: another process has it, and has had it for ``RETAKE_S``.
        """
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        try:
            yield
        except BaseException:
            with contextlib.suppress(BusyError):
                _take(self.descriptor, self.command, self.directory)
            raise
        ends = time.monotonic() + RETAKE_S
        while time.monotonic() < ends:
            with contextlib.suppress(BusyError):
                return _take(self.descriptor, self.command, self.directory)
        _take(self.descriptor, self.command, self.directory)


@contextlib.contextmanager
def hold(directory: Path, command: str, file: str = FILE) -> Iterator[HeldLock]:
    """Hold the lock of a state directory while in the context.

    Args:
        directory: an existing state directory.
        command: what is being done, told to whoever comes second.
        file: another than that of the whole state.

    Raises:
        BusyError: another process holds it; the message says which, and since when.
        StateError: the lock file cannot be made, or its file system cannot lock.
    """
    path = directory / file
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        hint = "Name another directory with --state-dir DIR or AGENT_STATE_DIR."
        if is_odd(directory, file):
            hint = f"Remove it (`rm -r {path}`): nothing is kept in it."
        raise StateError(f"{path} cannot be opened: {error.strerror}", hint) from error
    try:
        _take(descriptor, command, directory)
        yield HeldLock(descriptor, command, directory)
    finally:
        os.close(descriptor)


def holder(directory: Path) -> str | None:
    """Who holds the lock, in its own words; None: nobody, or it cannot be told.

    Nothing is made or changed. The look itself is a shared lock for a moment.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(directory / FILE, flags)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def why_not(directory: Path) -> str:
    """Why nothing can be locked in a directory, in words; empty where it can. Nothing is made."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return ""
    try:
        with contextlib.suppress(BlockingIOError):
            lock_file(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, directory)
    except StateError as error:
        return error.message
    finally:
        os.close(descriptor)
    return ""


def is_odd(directory: Path, file: str = FILE) -> bool:
    """Whether something else than a plain file is in the lock's place."""
    try:
        return not stat.S_ISREG((directory / file).lstat().st_mode)
    except OSError:
        return False


def _take(descriptor: int, command: str, directory: Path) -> None:
    try:
        _try_twice(descriptor, directory)
    except BlockingIOError as error:
        hint = "Wait for it to end. Two at once would disturb each other."
        raise BusyError(f"another agent is at work: {_holder(descriptor)}", hint) from error
    note = {"pid": os.getpid(), "since": time.time(), "command": command}
    with contextlib.suppress(OSError):  # a full disk costs the note, not the lock
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _try_twice(descriptor: int, directory: Path) -> None:
    """Somebody who only looks is no reason to give way; BlockingIOError where it is held."""
    with contextlib.suppress(BlockingIOError):
        lock_file(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, directory)
        return
    time.sleep(RETRY_S)
    lock_file(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, directory)


def _holder(descriptor: int) -> str:
    """What the holder wrote about itself."""
    try:
        note = json.loads(os.pread(descriptor, MAX_NOTE, 0))
        pid, since, command = int(note["pid"]), float(note["since"]), str(note["command"])[:40]
        started = time.strftime("%H:%M:%S", time.localtime(since))
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return "it has not said which process it is"
    return f"`agent {command}`, process {pid}, since {started}"
