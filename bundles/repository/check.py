"""Everything a machine would check, before machines do; and when signatures end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tuf.api.metadata import Root

from agent.errors import AgentError, InputError
from agent.settings.config import CHANNELS
from agent.update.source import open_source
from agent.update.trust import NO_FLOORS, refresh
from bundles.repository import channel as channels
from bundles.repository.answers import (
    Answer,
    Note,
    RoleState,
    expiry_notes,
    notes_to_json,
    role_states,
    seen,
)
from bundles.repository.fitness import examine
from bundles.repository.journal import PUBLIC, RepositoryError, interrupted
from bundles.repository.keys import file_of
from bundles.repository.publish import Place, stored
from bundles.repository.repository import KEYS, OFFLINE, ONLINE, Repository


def check(where: Place, root: Path | None = None) -> Answer:
    """Look at a repository, or at an export of one, as machines do; changes nothing.

    Args:
        where: the directory, and the time at which signatures must hold.
        root: the root that machines trust; default: the first one of the repository itself.

    Returns:
        ``problems`` are what makes machines refuse it; ``notes`` can wait.

    Raises:
        RepositoryError: there is no repository.
    """
    whole = (where.directory / PUBLIC / "metadata").is_dir()
    public = where.directory / PUBLIC if whole else where.directory
    if not (public / "metadata").is_dir():
        raise RepositoryError(
            f"{where.directory} is not a bundle repository",
            "Name a repository, or a directory made by `bundles export`.",
        )
    repository = Repository(where.directory, where.now, public=public)
    trusted = _read_root(root or public / "metadata" / "1.root.json")
    problems = [note for name in CHANNELS for note in _as_a_machine(name, public, trusted, where)]
    notes: list[Note] = []
    states: list[RoleState] = []
    views: list[Answer] = []
    try:
        states = role_states(repository)
        views = [seen(name, repository) for name in CHANNELS]
        if whole:
            notes += [*_history(repository), *_keys(repository, where)]
    except AgentError as error:
        problems.append(("damaged", error.message))
    expiring = expiry_notes(states, where.now)
    problems += [note for note in expiring if note[0] == "expired"]
    notes += [note for note in expiring if note[0] != "expired"]
    if whole and interrupted(where.directory):
        words = "A publisher died before it was done; the next one finishes its work."
        notes.append(("interrupted", words))
    unique = list(dict.fromkeys(problems))
    return {
        "action": "check",
        "directory": str(where.directory),
        "ok": not unique,
        "problems": notes_to_json(unique),
        "notes": notes_to_json(notes),
        "roles": [state.to_json(where.now) for state in states],
        "channels": views,
    }


def _as_a_machine(name: str, public: Path, root: bytes, where: Place) -> Iterator[Note]:
    """What a new machine of the channel would refuse."""
    with tempfile.TemporaryDirectory(prefix="bundles-") as cache:
        try:
            source, now = open_source(str(public)), where.now.timestamp()
            session = refresh(source, root, Path(cache), name, NO_FLOORS, now)
            for slot, offer in session.trusted.offers.items():
                bundle = examine(session.download(offer), offer.target.path)
                said = (offer.name, offer.version, offer.digest)
                if said != (bundle.name, bundle.version, bundle.digest):
                    words = f"{name}: the {slot} bundle is not the one its metadata describe."
                    yield "mislabelled", words
        except AgentError as error:
            yield "refused", f"{name}: {error.message}."


def _keys(repository: Repository, where: Place) -> Iterator[Note]:
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
        for bundle in channels.read(name, repository.targets(name)).history:
            try:
                stored(repository, bundle)
            except RepositoryError as error:
                yield "history", f"{name}: {error.message}."


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the root {path} cannot be read: {error.strerror}") from error
