"""Reports carried to the centre in a file: one a line, those of several machines in one file."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import InputError
from agent.report.payload import MAX_BYTES
from agent.system.refused import sync_directory

_BEGINS = b'{"agent":"'  # every report, its keys being sorted


@dataclass(frozen=True)
class Carried:
    """A file of reports, open; ``path`` as it was named."""

    path: Path
    descriptor: int

    def add(self, reports: Sequence[bytes]) -> None:
        """Write reports after those that are there; durable on return; InputError if it fails."""
        before = os.fstat(self.descriptor).st_size
        lines = _line_end(self.descriptor) + b"".join(body + b"\n" for body in reports)
        try:
            with os.fdopen(os.dup(self.descriptor), "ab") as file:
                file.write(lines)
            os.fsync(self.descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, before)
            raise _unwritten(self.path, error) from error


@contextlib.contextmanager
def open_export(path: Path) -> Iterator[Carried]:
    """A file to add reports to; made where there is none, and gone again if none was added.

    Raises:
        InputError: it cannot be opened for writing, or holds something else than reports.
    """
    try:
        made = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        if not _holds_reports(descriptor):
            hint = "Name a new file, or one that `agent report --export` has made."
            raise InputError(f"{path} is not a file of reports", hint)
        if made:
            with contextlib.suppress(OSError):  # a folder that may be written and not read
                sync_directory(path.parent)
        yield Carried(path, descriptor)
    finally:
        if made and os.fstat(descriptor).st_size == 0:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(descriptor)


def _unwritten(path: Path, error: OSError) -> InputError:
    words = f"the reports cannot be written to {path}: {error.strerror}"
    return InputError(words, "They are kept; name another file with --export FILE.")


def _holds_reports(descriptor: int) -> bool:
    """Reports, or nothing yet."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    return os.pread(descriptor, len(_BEGINS), 0) in (b"", _BEGINS)


def _line_end(descriptor: int) -> bytes:
    """What has to come before the next line: an end, if the last was cut off (the power went)."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, MAX_BYTES, max(0, size - MAX_BYTES))
    return b"" if not tail or tail.endswith(b"\n") else b"\n"
