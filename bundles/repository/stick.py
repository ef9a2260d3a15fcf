"""A copy of the repository for a USB stick or a web server's directory.

A stick for machines without a network carries a snapshot and a timestamp of its own, which hold
long. Their version numbers are below those that are published the same moment: a machine that has
asked the live repository since can no longer be kept on the stick's state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tuf.api.metadata import Snapshot, Targets, Timestamp

from agent.errors import InputError
from agent.settings.config import CHANNELS
from bundles.repository.answers import Answer, signatures_answer
from bundles.repository.guard import locked, require_right_clock
from bundles.repository.journal import RepositoryError, write_public
from bundles.repository.published import channel_of
from bundles.repository.publisher import Publisher
from bundles.repository.repository import (
    LIVES,
    OFFLINE,
    ONLINE,
    TARGETS,
    TIME,
    Repository,
    metadata_file,
    parse_metadata,
    root_versions,
)

FOLDERS = ("metadata", "targets")
_VALID = re.compile(r"([1-9][0-9]{0,4})\s*(d|w|days?|weeks?)")
_DAYS = {"d": 1, "w": 7}


def export_copy(where: Publisher, out: Path, valid: timedelta | None = None) -> Answer:
    """Copy what clients need into ``out``.

    Args:
        where: the repository.
        out: a new directory, an empty one, or an earlier export, which is brought up to date.
        valid: sign a snapshot and a timestamp of its own that hold that long; None: copy those
            that are served.

    Raises:
        InputError: another role ends before that, ``out`` is something else, or a copy with
            signatures of its own would hold no bundle.
        RepositoryError: it cannot be written.
    """
    with locked(where.directory):
        _check_place(out, where.directory)
        repository = where.draft()
        own = _own_signatures(where, valid) if valid else {}
        now = [channel_of(repository, name) for name in CHANNELS]
        if valid and not any(x.offered or x.withdrawn for x in now):
            raise InputError(
                "no channel offers a bundle: machines would find nothing in the copy",
                f"First `bundles add BUNDLE --channel stable --repo {where.directory}`.",
            )
        files = _client_files(repository, own)
        _write(files, out)
        if own:
            _remove_others(files, out)
        ends = {role: repository.open(role).signed.expires for role in OFFLINE}
        for role in (Snapshot.type, Timestamp.type):
            md = repository.open(role).signed
            ends[role] = where.now + valid if valid else md.expires
        return {
            "action": "export",
            "directory": str(out),
            "air_gap": valid is not None,
            "files": len(files),
            "bytes": sum(map(len, files.values())),
            "holds_until": min(ends.values()).strftime(TIME),
            **signatures_answer(repository),
        }


def parse_valid(text: str) -> timedelta:
    """``400d`` or ``8w``.

    Raises:
        InputError: it is something else.
    """
    found = _VALID.fullmatch(text.strip())
    if not found:
        raise InputError(f"--valid {text[:40]} is not a time", "Write 400d or 52w.")
    return timedelta(days=int(found[1]) * _DAYS[found[2][0]])


def _own_signatures(where: Publisher, valid: timedelta) -> Mapping[str, bytes]:
    """Snapshot and timestamp that hold for ``valid``; the live ones take the versions above."""
    require_right_clock(where.draft())
    _refuse_shorter(where.draft(), valid)
    own = where.draft(lives={**LIVES, Snapshot.type: valid, Timestamp.type: valid})
    live = where.draft(reserved=1)
    for each in (own, live):
        each.renew_snapshot()
        each.add_online()
    live.publish()  # first: a number that was given away is never used again
    return {role: own.open(role).to_bytes() for role in ONLINE}


def _refuse_shorter(repository: Repository, valid: timedelta) -> None:
    until = repository.now + valid
    ends = {role: repository.open(role).signed.expires for role in OFFLINE}
    short = {role: end for role, end in ends.items() if end < until}
    if short:
        told = ", ".join(f"{role} on {end:%Y-%m-%d}" for role, end in short.items())
        days = (min(short.values()) - repository.now).days
        commands = " and ".join(f"`bundles repo renew {role}`" for role in short)
        raise InputError(
            f"signatures would end before {until:%Y-%m-%d}: {told}",
            f"Run {commands} first, or ask for --valid {max(days, 1)}d.",
        )


def _client_files(repository: Repository, own: Mapping[str, bytes]) -> dict[str, bytes]:
    """Everything that a client may ask for, in the order in which it may appear.

    Args:
        repository: as it is served.
        own: roles in place of those that are served.
    """
    files: dict[str, bytes] = {}
    roles = (*CHANNELS, TARGETS, *ONLINE)
    content = {role: own.get(role) or repository.published(role) or b"" for role in roles}
    for role in CHANNELS:
        signed = parse_metadata(content[role], role).signed
        for target in signed.targets.values() if isinstance(signed, Targets) else ():
            path = f"targets/{target.get_prefixed_paths()[0]}"
            files[path] = _read(repository.public / path)
    for role in roles:
        version = parse_metadata(content[role], role).signed.version
        files[f"metadata/{metadata_file(role, version)}"] = content[role]
    for version in root_versions(repository.metadata):
        name = f"metadata/{version}.root.json"
        files[name] = _read(repository.public / name)
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from error


def _check_place(out: Path, repository: Path) -> None:
    if out.resolve().is_relative_to(repository.resolve()):
        raise InputError(f"{out} lies inside the repository", "Name a directory elsewhere.")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is not a directory", "Name a new one.")
    others = sorted(p.name for p in out.iterdir() if p.name not in FOLDERS)
    if others:
        raise InputError(
            f"{out} holds something else ({', '.join(others[:3])})",
            "Name a new directory, such as bundles on the stick.",
        )


def _write(files: Mapping[str, bytes], out: Path) -> None:
    for path, content in files.items():
        there = out / path
        if not (there.is_file() and there.read_bytes() == content):
            write_public(there, content)


def _remove_others(files: Mapping[str, bytes], out: Path) -> None:
    """What an earlier export left: nobody asks a stick for it any more."""
    for folder in FOLDERS:
        for path in (out / folder).rglob("*"):
            if path.is_file() and str(path.relative_to(out)) not in files:
                path.unlink()
