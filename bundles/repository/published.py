"""What is or was published: the channels of a repository, and the bytes of their bundles."""

from __future__ import annotations

import hashlib
import itertools

from agent.settings.config import CHANNELS
from bundles.repository.channel import (
    CANDIDATE,
    SETTLED,
    Channel,
    Listed,
    read_channel,
    stored_path,
)
from bundles.repository.journal import RepositoryError
from bundles.repository.repository import Repository, every_version


def channel_of(repository: Repository, name: str) -> Channel:
    """What a channel offers, by what is published or changed here."""
    return read_channel(name, repository.targets(name))


def ever_listed(repository: Repository, name: str) -> dict[str, Listed]:
    """By digest, every bundle that any version of a channel's role has offered."""
    versions = every_version(repository.metadata, name)
    return {x.digest: x for role in versions for x in read_channel(name, role).known}


def published_archive(repository: Repository, bundle: Listed) -> bytes:
    """The bytes of a bundle that is or was published, from wherever they lie.

    Raises:
        RepositoryError: they are not there any more.
    """
    for name, slot in itertools.product(CHANNELS, (SETTLED, CANDIDATE)):
        path = repository.public / stored_path(name, slot, bundle.sha256)
        if path.exists():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == bundle.sha256:
                return content
    raise RepositoryError(
        f"the bytes of {bundle.title} are missing or damaged below {repository.public}",
        "Restore `public/targets` from its last copy.",
    )
