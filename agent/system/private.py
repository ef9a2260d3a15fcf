"""Places that no other user may change: looked at by descriptor, from the root down.

What the agent runs, and what it believes, lies in its state directory. A name is safe to use again
and again only if nobody but root and the user at work may replace a part of the way to it, links
included; where that holds, nothing can be swapped between a look and a use. Sticky directories such
as /tmp are safe: only its owner may replace an entry there.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import StateError

ANYONE = -1  # in place of a user's number: more than one user
MAX_LINKS = 40  # as the kernel has it
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
ANOTHER = "Name another directory with --state-dir DIR or AGENT_STATE_DIR."


@dataclass(frozen=True, slots=True)
class InspectedPath:
    """A directory as it was found.

    Attributes:
        path: as it was asked for.
        found: its owner and mode; None: it is not there.
        replacers: who may replace a part of the way to it, each with the directory that lets them.
    """

    path: Path
    found: os.stat_result | None
    replacers: tuple[tuple[int, Path], ...]


def inspect_path(path: Path) -> InspectedPath:
    """Walk from the root to a directory, and note who may replace a part of the way.

    Raises:
        OSError: a part cannot be looked at, or leads nowhere.
    """
    walk, links = _Descent(), 0
    todo = [*reversed(path.absolute().parts[1:])]
    try:
        while todo:
            target = walk.enter(todo.pop())
            if target is not None:
                links += 1
                todo += _parts_of(target, links)
                if target.is_absolute():
                    walk.restart()
        return InspectedPath(path, os.fstat(walk.here), tuple(walk.replacers))
    except FileNotFoundError:
        return InspectedPath(path, None, tuple(walk.replacers))
    finally:
        os.close(walk.here)


def refuse_if_replaceable(place: InspectedPath, owner: int) -> None:
    """StateError where somebody else than root and ``owner`` may replace a part of the way."""
    trusted = (0, owner, os.stat("/").st_uid)  # noqa: PTH116  who owns all may replace all
    for uid, folder in place.replacers:
        if uid not in trusted:
            whom = "any user" if uid == ANYONE else f"the user {name_of(uid)}"
            raise StateError(
                f"{place.path} is not safe to use: {whom} may replace what is in {folder}",
                f"Run `chmod go-w {folder}` if that was not meant. {ANOTHER}",
            )


def refuse_if_writable(place: InspectedPath, owner: int) -> None:
    """StateError where a directory that is there has another owner, or others may write in it."""
    if place.found is None:
        return
    if place.found.st_uid != owner:
        raise StateError(f"{place.path} belongs to the user {name_of(place.found.st_uid)}", ANOTHER)
    if may_write(place.found) - {owner}:
        raise StateError(
            f"other users may write in {place.path}: what they put there would be believed and run",
            f"Look at what is in it, then run `chmod go-w {place.path}`. Where that does nothing "
            f"(FAT, CIFS), mount it with `umask=077`. {ANOTHER}",
        )


def open_code(path: Path) -> int:
    """A descriptor of a file that is to be run; what was checked is what is run by it.

    Raises:
        OSError: it cannot be opened, is no plain file, or somebody else than root and the user at
            work may write to it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    plain = stat.S_ISREG(found.st_mode)
    if plain and not may_write(found) - {0, os.geteuid()}:
        return descriptor
    os.close(descriptor)
    why = "another user may write to it" if plain else "it is no plain file"
    raise PermissionError(errno.EPERM, why, str(path))


def may_write(found: os.stat_result) -> set[int]:
    """Who may write to a file or a directory (and so replace what is in it)."""
    users = {found.st_uid}
    if found.st_mode & stat.S_IWOTH:
        users.add(ANYONE)
    if found.st_mode & stat.S_IWGRP:
        users.add(_only_member(found.st_gid))
    return users


def name_of(uid: int) -> str:
    """A user's name, else ``#`` and the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


class _Descent:
    """A place on the way: ``here`` is a descriptor of it, ``shown`` its name."""

    def __init__(self) -> None:
        self.here = os.open("/", _LOOK | os.O_DIRECTORY)
        self.shown = Path("/")
        self.replacers: list[tuple[int, Path]] = []

    def restart(self) -> None:
        """Go back to the root."""
        os.close(self.here)
        self.here, self.shown = os.open("/", _LOOK | os.O_DIRECTORY), Path("/")

    def enter(self, name: str) -> Path | None:
        """Go into a directory, or stay: then it is a link, and this is where it leads."""
        folder = os.fstat(self.here)
        try:
            entry = _open(name, self.here)
        except FileNotFoundError:  # whoever makes it owns it
            self._note(_sticky(folder) or may_write(folder))
            raise
        found = os.fstat(entry)
        if name != "..":
            self._note(_sticky(folder, found.st_uid) or may_write(folder))
        if stat.S_ISLNK(found.st_mode):
            try:
                return Path(os.readlink("", dir_fd=entry))  # of the descriptor itself
            finally:
                os.close(entry)
        os.close(self.here)
        self.here, self.shown = entry, self.shown / name
        return None

    def _note(self, users: Iterable[int]) -> None:
        self.replacers += [(uid, self.shown) for uid in users]


def _open(name: str, folder: int) -> int:
    """Directories are asked for as such first: what is mounted when it is used is mounted then."""
    with suppress(NotADirectoryError):
        return os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=folder)
    return os.open(name, _LOOK, dir_fd=folder)


def _sticky(folder: os.stat_result, *owners: int) -> set[int]:
    """Who may replace an entry of a sticky directory; empty where it is not one."""
    return {folder.st_uid, *owners} if folder.st_mode & stat.S_ISVTX else set()


def _parts_of(target: Path, links: int) -> list[str]:
    if links > MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    return [*reversed(target.parts[1:] if target.is_absolute() else target.parts)]


def _only_member(gid: int) -> int:
    """The user whose own group that is, as many distributions give each one; else ``ANYONE``."""
    try:
        group = grp.getgrgid(gid)
        user = pwd.getpwnam(group.gr_name)
    except KeyError:
        return ANYONE
    alone = set(group.gr_mem) <= {user.pw_name}
    return user.pw_uid if alone and user.pw_gid == gid else ANYONE
