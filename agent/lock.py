"""One process at a time that measures or changes the state.

The kernel drops the lock when its holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from agent.errors import BusyError, StateError

FILE = "lock"
MAX_NOTE = 1_000


@contextlib.contextmanager
def hold(directory: Path, command: str) -> Iterator[None]:
    """Hold the lock of a state directory while in the context.

    Args:
        directory: an existing state directory.
        command: what is being done, told to whoever comes second.

    Raises:
        BusyError: another process holds it; the message says which, and since when.
        StateError: the lock file cannot be made.
    """
    path = directory / FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        hint = "Name another directory with --state-dir DIR or AGENT_STATE_DIR."
        raise StateError(f"{path} cannot be opened: {error.strerror}", hint) from error
    try:
        _take(descriptor, command)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, command: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        hint = "Wait for it to end. Two at once would disturb each other."
        raise BusyError(f"another agent is at work: {_holder(descriptor)}", hint) from error
    note = {"pid": os.getpid(), "since": time.time(), "command": command}
    with contextlib.suppress(OSError):  # a full disk costs the note, not the lock
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _holder(descriptor: int) -> str:
    """What the holder wrote about itself."""
    try:
        note = json.loads(os.pread(descriptor, MAX_NOTE, 0))
        pid, since, command = int(note["pid"]), float(note["since"]), str(note["command"])[:40]
        started = time.strftime("%H:%M:%S", time.localtime(since))
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return "it has not said which process it is"
    return f"`agent {command}`, process {pid}, since {started}"
