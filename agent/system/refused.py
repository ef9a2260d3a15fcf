"""What some kernels and file systems refuse: done without where that loses nothing, else in words.

NFS without a lock daemon cannot lock, FAT and CIFS have no modes, some cannot sync a directory,
sandboxes leave out system calls.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from agent.errors import AgentError, StateError

_UNKNOWN_HERE = frozenset((errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ENOTTY))
_BY_THE_SYSTEM = _UNKNOWN_HERE | frozenset((
    errno.EACCES, errno.EAGAIN, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ELOOP, errno.EMFILE,
    errno.ENAMETOOLONG, errno.ENFILE, errno.ENODEV, errno.ENOLCK, errno.ENOMEM, errno.ENOSPC,
    errno.EROFS, errno.ESTALE, errno.ETXTBSY,
))  # fmt: skip
LOCAL = "Use a directory on a local disk, or mount this one so that files can be locked."


class SystemRefusedError(AgentError):
    """The system refused something that nobody foresaw."""


def lock_file(descriptor: int, operation: int, place: Path) -> None:
    """flock(2) on an open file of the directory ``place``.

    Raises:
        BlockingIOError: it is held.
        StateError: the file system cannot lock.
    """
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        words = f"the file system of {place} cannot lock files: {error.strerror}"
        raise StateError(words, LOCAL) from error


def sync_directory(path: Path) -> None:
    """What was renamed, made or deleted in ``path`` outlives a power cut, where that can be had."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _done_without():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_mode(descriptor: int, mode: int) -> None:
    """Give an open file its mode, where its file system has modes."""
    with _done_without():
        os.fchmod(descriptor, mode)


def memory_file(name: str) -> IO[bytes]:
    """A file without a name, in memory, else in the temporary directory; unbuffered."""
    try:
        return os.fdopen(os.memfd_create(name), "w+b", buffering=0)
    except OSError:
        return tempfile.TemporaryFile(buffering=0)


def usable_cpus() -> tuple[int, ...]:
    """The CPUs that this process may use; all, where that is not told."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except OSError:
        return tuple(range(os.cpu_count() or 1))


def as_refusal(error: Exception, log: str) -> SystemRefusedError | None:
    """What the system refused, in words; None for other errors, which are bugs.

    Args:
        error: that reached the end of a command.
        log: where its traceback is.
    """
    if not isinstance(error, OSError) or error.errno not in _BY_THE_SYSTEM:
        return None
    what = f" ({error.filename!s})" if error.filename is not None else ""
    return SystemRefusedError(f"the system refused something: {error.strerror}{what}", log)


@contextlib.contextmanager
def _done_without() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNKNOWN_HERE:
            raise
