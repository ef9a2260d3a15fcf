"""Files: written whole (work directories, repositories, label files), and how many may be open."""

from __future__ import annotations

import contextlib
import math
import os
import resource
from pathlib import Path

from agent.system.refused import set_mode, sync_directory


def most_open_files() -> float:
    """How many files this process may have open, once that limit is raised as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if files == resource.RLIM_INFINITY else files


def write_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file so that, whatever happens, it is there whole or not at all; on disk on return.

    Args:
        path: of the file; its directory is there.
        content: all of it.
        mode: of the file, whatever the umask; None: as the umask has it.

    Raises:
        OSError: it cannot be written.
    """
    staged = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(staged, flags, 0o666 if mode is None else mode)
    with os.fdopen(descriptor, "wb") as file:
        if mode is not None:
            set_mode(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(staged, path)  # noqa: PTH105  tests count the calls that change the disk
    sync_directory(path.parent)
