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
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError
from agent.system.refused import sync_directory
from bundles.files import write_whole

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
    write_public(directory / JOURNAL, json.dumps(listed).encode(), mode=0o600)
    recover(directory)


def is_interrupted(directory: Path) -> bool:
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
        write_public(directory / PUBLIC / change.path, change.content)
    with contextlib.suppress(FileNotFoundError):
        journal.unlink()
    sync_directory(directory)
    return True


def write_public(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole, whatever the umask (a web server reads it), and the directories above.

    Raises:
        RepositoryError: it cannot be written.
    """
    try:
        make_public_directory(path.parent)
        write_whole(path, content, mode)
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
        with contextlib.suppress(OSError):
            path.chmod(0o755)
    sync_directory(path.parent)


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise RepositoryError(f"{path[:80]!r} is not a file of a repository")
