"""Several files changed as one, and durably: what is being written is written down first.

A publisher that dies half-way leaves a journal, and whoever comes next finishes its work. So a name
that was ever there keeps its content for good, as caches and mirrors count on; and the order of
the files is kept, so those who read meanwhile never see a name whose file is not there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError

PUBLIC, JOURNAL = "public", "journal.json"
_PATH = re.compile(r"(metadata|targets/[a-z]+)/[A-Za-z0-9][A-Za-z0-9._-]*")


class RepositoryError(AgentError):
    """The repository is missing, damaged, cannot be written, or does not allow what was asked."""


@dataclass(frozen=True)
class FileChange:
    """A file to be written; ``path`` is relative to ``public``."""

    path: str
    content: bytes


def commit(directory: Path, changes: Sequence[FileChange]) -> None:
    """Write ``changes`` below ``directory``/public, in this order, all or none of them.

    Raises:
        RepositoryError: they cannot be written now. If it had begun, ``recover`` finishes it.
    """
    if not changes:
        return
    for change in changes:
        _check_path(change.path)
    listed = [{"path": c.path, "content": base64.b64encode(c.content).decode()} for c in changes]
    # From here on the changes happen, whoever may die.
    write_whole(directory / JOURNAL, json.dumps(listed).encode(), mode=0o600)
    recover(directory)


def interrupted(directory: Path) -> bool:
    """Whether a publisher died before it was done."""
    return (directory / JOURNAL).exists()


def recover(directory: Path) -> bool:
    """Finish what a publisher began; True if there was something to finish.

    Raises:
        RepositoryError: the journal is damaged, or files cannot be written.
    """
    journal = directory / JOURNAL
    try:
        listed = json.loads(journal.read_bytes())
        changes = [FileChange(x["path"], base64.b64decode(x["content"])) for x in listed]
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RepositoryError(f"{journal} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        hint = "Restore the repository from its last copy."
        raise RepositoryError(f"{journal} is damaged", hint) from error
    for change in changes:
        _check_path(change.path)
        write_whole(directory / PUBLIC / change.path, change.content)
    with contextlib.suppress(FileNotFoundError):
        journal.unlink()
    sync_directory(directory)
    return True


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that, whatever happens, it is there whole or not at all; on disk on return.

    Raises:
        RepositoryError: it cannot be written.
    """
    staged = path.with_name(f".{path.name}.new")
    try:
        make_public_directory(path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(staged, flags, mode)
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(PermissionError):  # a USB stick's file system has no modes
                os.fchmod(descriptor, mode)  # a web server reads it, whatever the umask
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(staged, path)  # noqa: PTH105  tests count the calls that change the disk
        sync_directory(path.parent)
    except OSError as error:
        raise RepositoryError(
            f"{path} cannot be written: {error.strerror}",
            "Make room or make it writable; the next command finishes what was begun.",
        ) from error


def make_public_directory(path: Path) -> None:
    """Make a directory that everybody may read, with its parents; on disk on return."""
    if path.is_dir():
        return
    make_public_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        with contextlib.suppress(PermissionError):
            path.chmod(0o755)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """What was renamed, made or deleted in ``path`` outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise RepositoryError(f"{path[:80]!r} is not a file of a repository")
