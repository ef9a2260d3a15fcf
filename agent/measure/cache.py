"""A content-addressed store of compiled files that survives power cuts, rivals and rot.

An entry is written whole beside the store, synced, and renamed into place; it ends in a seal
(the SHA-256 of what precedes it; ELF loaders ignore trailing bytes), so that an entry which
is empty, cut short or altered is recognised and made again. So is one that another user could have
written; a store in which others may write is not used at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import StateError
from agent.system.private import inspect_path, open_code, refuse_if_replaceable, refuse_if_writable
from agent.system.refused import set_mode

SEAL = b"\nagent-sealed-1 "
SEAL_BYTES = len(SEAL) + 64
STALE_S = 3600.0
DEFAULT_CAP_BYTES = 256 << 20


@dataclass(frozen=True)
class Cache:
    """The store in ``root`` (made with mode 0700), at most ``cap_bytes`` after ``trim``."""

    root: Path
    cap_bytes: int = DEFAULT_CAP_BYTES

    def path(self, key: str) -> Path:
        """Where the entry called ``key`` (hexadecimal) lies."""
        return self.root / key[:2] / key

    def get(self, key: str) -> Path | None:
        """The entry if it is there and whole (it then counts as used now), else None.

        Raises:
            StateError: others may write in the store.
        """
        path = self.path(key)
        try:
            self._refuse_if_open()
            with os.fdopen(open_code(path), "rb") as file:
                content = file.read()
                body, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
                if not body or seal != SEAL + hashlib.sha256(body).hexdigest().encode():
                    return None
                with contextlib.suppress(OSError):
                    os.utime(file.fileno())
        except OSError:
            return None
        return path

    def put(self, key: str, built: Path) -> Path:
        """Seal the file ``built`` and move it into the store; StateError if that fails."""
        path = self.path(key)
        with _explained(self.root):
            seal = SEAL + hashlib.sha256(built.read_bytes()).hexdigest().encode()
            with built.open("ab") as file:
                set_mode(file.fileno(), 0o700)  # a compiler asks the umask
                file.write(seal)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(mode=0o700, exist_ok=True)
            built.replace(path)
        return path

    @contextlib.contextmanager
    def workplace(self) -> Iterator[Path]:
        """A private directory on the store's file system, removed afterwards."""
        with _explained(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_if_open()
            place = Path(tempfile.mkdtemp(prefix="tmp-", dir=self.root))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def trim(self) -> None:
        """Remove left-over work places, then the entries unused for longest beyond the cap."""
        for place in self.root.glob("tmp-*"):
            with contextlib.suppress(OSError):
                if place.stat().st_mtime < time.time() - STALE_S:
                    shutil.rmtree(place, ignore_errors=True)
        used = sorted(_entries(self.root), reverse=True)
        total = 0
        for _, size, path in used:
            total += size
            if total > self.cap_bytes:
                path.unlink(missing_ok=True)

    def _refuse_if_open(self) -> None:
        place = inspect_path(self.root)
        refuse_if_replaceable(place, os.geteuid())
        refuse_if_writable(place, os.geteuid())


def _entries(root: Path) -> Iterator[tuple[float, int, Path]]:
    """(time of last use, bytes, path) of every entry; entries that vanish are left out."""
    for path in root.glob("[0-9a-f][0-9a-f]/*"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turn a failing file system into a StateError that says which directory and why."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "Free some space, or choose another directory with --state-dir."
        raise StateError(f"cannot write compiled code to {root}: {reason}", hint) from error
