"""Which processes are there."""

import contextlib
import time
from pathlib import Path


def processes_with(setting):
    """The ids of processes that were started with ``NAME=VALUE`` in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if setting.encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


def all_end(setting, seconds=60):
    """Whether the last process with that setting ends: one that is killed takes a moment."""
    end = time.monotonic() + seconds
    while processes_with(setting):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
