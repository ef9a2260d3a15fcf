"""The page onto the disk: the old page or the new one, whole, and in place of nothing else."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from agent.errors import InputError
from agent.page.document import GENERATOR
from agent.system.private import name_of

HEAD = 512  # bytes within which a page says who wrote it
_NEW = "Name a new file."


def check_page_path(path: Path, state_dir: Path | None = None) -> None:
    """Refuse a place that cannot be written before anything is measured for it.

    What is there is replaced only if it is empty or a page of ours: a slip must not cost a file.
    A link is refused: what lies at its end may be somebody else's, or a device.

    Args:
        path: of the page.
        state_dir: where no page may be written; None: there is no such place.

    Raises:
        InputError: says why not.
    """
    try:
        _refuse_odd(path)
        if not path.parent.is_dir():
            raise InputError(f"there is no directory {path.parent}", "Make it, or name another.")
        if state_dir is not None and path.parent.resolve().is_relative_to(state_dir.resolve()):
            words = f"{path} is in the state directory, where the agent keeps files of its own"
            raise InputError(words, f"Name a file elsewhere, {_example(path)}.")
        there = os.path.lexists(path)
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unwritable(path, "the directory is not that user's to write to")
    if there:
        _refuse_others(path)


def _refuse_odd(path: Path) -> None:
    hint = "Name a file, e.g. --report page.html."
    if path.is_dir():
        raise InputError(f"{path} is a directory", hint)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError(f"{path} is not a plain file", hint)


def _unwritable(path: Path, why: str | None) -> InputError:
    """Root may be acting as the owner of the state, so it is told who could not write."""
    user = name_of(os.geteuid())
    return InputError(
        f"{path} cannot be written by the user {user}, as whom this command acts: {why}",
        f"Name a file where {user} may write, {_example(path)}.",
    )


def _example(path: Path) -> str:
    return f"e.g. --report {Path('/tmp', path.name or 'page.html')}"  # noqa: S108  a person's choice


def _refuse_others(path: Path) -> None:
    """What is there must be empty or a page of ours, and no other user's where that matters."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found, head = os.fstat(file.fileno()), file.read(HEAD)
    except OSError as error:
        words = f"{path} is there already, and cannot be looked at: {error.strerror}"
        raise InputError(words, _NEW) from error
    if head and not is_page(head):
        words = f"{path} is there already, and is no page of this agent's ({found.st_size:,} bytes)"
        raise InputError(words, _NEW)
    if found.st_uid != os.geteuid() and (os.geteuid() == 0 or _is_sticky(path.parent)):
        raise InputError(f"{path} is there already, a file of {name_of(found.st_uid)}'s", _NEW)


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is a page of ours."""
    mark = f'<meta name="generator" content="{GENERATOR} '.encode()
    return head.startswith(b"<!DOCTYPE html>") and mark in head[:HEAD]


def _is_sticky(directory: Path) -> bool:
    """Whether only its owner may replace a file here, as in /tmp."""
    found = directory.stat()
    return bool(found.st_mode & stat.S_ISVTX) and found.st_uid != os.geteuid()


def write_page(path: Path, text: str, state_dir: Path | None = None) -> None:
    """Write ``text`` to ``path``, in place of a page that was there.

    Raises:
        InputError: it cannot be written, or is no place for it (``check_page_path``); what was
            there is unchanged.
    """
    check_page_path(path, state_dir)
    staged = path.with_name(f".page-{secrets.token_hex(8)}")
    try:
        with staged.open("x", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        hint = "Free space or name another file; `agent status --report FILE` tries again."
        raise InputError(f"{path} cannot be written: {error.strerror}", hint) from error
