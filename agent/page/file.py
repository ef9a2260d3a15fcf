"""The page onto the disk: the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from agent.errors import InputError


def check_place(path: Path) -> None:
    """Refuse a place that cannot be written before anything is measured for it.

    A link is refused: what lies at its end may be somebody else's, or a device.

    Raises:
        InputError: says why not.
    """
    hint = "Name a file, e.g. --report page.html."
    try:
        if path.is_dir():
            raise InputError(f"{path} is a directory", hint)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InputError(f"{path} is not a plain file", hint)
        if not path.parent.is_dir():
            raise InputError(f"there is no directory {path.parent}", "Make it, or name another.")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", hint) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{path} cannot be written: the directory is not yours to write to",
            "Name a file in another directory.",
        )


def write_page(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, in place of what was there.

    Raises:
        InputError: it cannot be written; what was there is unchanged.
    """
    check_place(path)
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
