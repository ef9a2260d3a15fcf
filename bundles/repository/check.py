"""Looks at a repository and changes nothing: how it stands, and all that a machine would check."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.metadata import Root

from agent.errors import AgentError, InputError
from agent.settings.config import CHANNELS
from agent.update.floors import NO_FLOORS
from agent.update.source import open_source
from agent.update.trust import Trust, refresh
from bundles.repository.answers import (
    Answer,
    Note,
    RoleState,
    channel_answer,
    expiry_notes,
    notes_to_json,
    role_states,
    signatures_answer,
)
from bundles.repository.fitness import examine_archive
from bundles.repository.guard import require_repository
from bundles.repository.journal import PUBLIC, RepositoryError, is_interrupted
from bundles.repository.keys import file_of
from bundles.repository.published import channel_of, published_archive
from bundles.repository.publisher import Publisher
from bundles.repository.repository import KEYS, OFFLINE, ONLINE, Repository


def repository_status(where: Publisher) -> Answer:
    """What each channel offers, and how long every signature holds; changes nothing."""
    require_repository(where.directory)
    repository = where.draft()
    unfinished = [(
        "interrupted",
        "A publisher died before it was done; the next command that publishes finishes its work.",
    )]  # fmt: skip
    found = signatures_answer(repository, unfinished if is_interrupted(where.directory) else [])
    name = "1.root.json"
    return {
        **found,
        "channels": [channel_answer(name, repository) for name in CHANNELS],
        "trusted_root": str(repository.metadata / name),
        "trusted_root_sha256": hashlib.sha256(repository.read(name) or b"").hexdigest(),
    }


def check_repository(where: Publisher, root: Path | None = None) -> Answer:
    """Look at a repository, or at an export of one, as machines do; changes nothing.

    Args:
        where: the directory, and the time at which signatures must hold.
        root: the root that machines trust; default: the first one of the repository itself.

    Returns:
        ``problems`` are what makes machines refuse it; ``notes`` can wait.

    Raises:
        RepositoryError: there is no repository.
    """
    whole, public = _what_is_served(where.directory)
    trusted = _read_root(root or public / "metadata" / "1.root.json")
    problems = [note for name in CHANNELS for note in _as_a_machine(name, public, trusted, where)]
    said = _Said()
    try:
        said.read(Repository(where.directory, where.now, public=public), where if whole else None)
    except AgentError as error:
        problems.append(("damaged", error.message))
    expiring = expiry_notes(said.roles, where.now)
    problems += [note for note in expiring if note[0] == "expired"]
    notes = said.notes + [note for note in expiring if note[0] != "expired"]
    if whole and is_interrupted(where.directory):
        words = "A publisher died before it was done; the next one finishes its work."
        notes.append(("interrupted", words))
    unique = list(dict.fromkeys(problems))
    return {
        "action": "check",
        "directory": str(where.directory),
        "ok": not unique,
        "problems": notes_to_json(unique),
        "notes": notes_to_json(notes),
        "roles": [state.to_json(where.now) for state in said.roles],
        "channels": said.channels,
    }


@dataclass
class _Said:
    """What a repository says of itself, as far as it can be read."""

    roles: list[RoleState] = field(default_factory=list)
    channels: list[Answer] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def read(self, repository: Repository, where: Publisher | None) -> None:
        """Its roles and channels; with ``where`` (no export) also what lies beside them."""
        self.roles = role_states(repository)
        self.channels = [channel_answer(name, repository) for name in CHANNELS]
        if where is not None:
            self.notes = [*_history(repository), *_keys(repository, where)]


def _what_is_served(directory: Path) -> tuple[bool, Path]:
    """Whether it is a whole repository, and not an export; and what machines see of it."""
    whole = (directory / PUBLIC / "metadata").is_dir()
    public = directory / PUBLIC if whole else directory
    if not (public / "metadata").is_dir():
        raise RepositoryError(
            f"{directory} is not a bundle repository",
            "Name a repository, or a directory made by `bundles export`.",
        )
    return whole, public


def _as_a_machine(name: str, public: Path, root: bytes, where: Publisher) -> Iterator[Note]:
    """What a new machine of the channel would refuse."""
    with tempfile.TemporaryDirectory(prefix="bundles-") as cache:
        try:
            source, now = open_source(str(public)), where.now.timestamp()
            session = refresh(source, Trust(root, name, Path(cache), NO_FLOORS, now))
            for slot, offer in session.trusted.offers.items():
                bundle = examine_archive(session.download(offer), offer.target.path)
                said = (offer.name, offer.version, offer.digest)
                if said != (bundle.name, bundle.version, bundle.digest):
                    words = f"{name}: the {slot} bundle is not the one its metadata describe."
                    yield "mislabelled", words
        except AgentError as error:
            yield "refused", f"{name}: {error.message}."


def _keys(repository: Repository, where: Publisher) -> Iterator[Note]:
    """The daily timer must be able to sign; whoever takes this computer must not get it all."""
    try:
        for role in ONLINE:
            for key in repository.role_of(role)[1]:
                where.keyring.signer(key, role)
    except AgentError as error:
        yield "online-key", f"`bundles timestamp` could not sign: {error.message}."
    here: dict[str, str] = {}  # by name of the file, its role
    for role in OFFLINE:
        names = map(file_of, repository.role_of(role)[1])
        beside = (x for x in names if os.path.lexists(where.directory / KEYS / x))
        here |= dict.fromkeys(beside, role)
    if not here:
        return
    words = (
        f"Beside the online key, where whoever gets into this computer has them: {', '.join(here)}."
        " Move each to where only those who use it get at it."
    )
    if list(here.values()).count(Root.type) >= repository.role_of(Root.type)[0].threshold:
        words += " The root keys among them are enough to replace every key."
    yield "offline-keys-here", words


def _history(repository: Repository) -> Iterator[Note]:
    """What a withdrawal would bring back must be there."""
    for name in CHANNELS:
        for bundle in channel_of(repository, name).history:
            try:
                published_archive(repository, bundle)
            except RepositoryError as error:
                yield "history", f"{name}: {error.message}."


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the root {path} cannot be read: {error.strerror}") from error
