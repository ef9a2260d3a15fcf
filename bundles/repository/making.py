"""A new repository: its keys, its first root, and two channels that offer nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Root

from agent.errors import InputError
from agent.settings.config import CHANNELS
from agent.system.refused import sync_directory
from bundles.repository.answers import Answer
from bundles.repository.channel import Channel, write_channel
from bundles.repository.check import repository_status
from bundles.repository.journal import RepositoryError
from bundles.repository.publisher import Publisher
from bundles.repository.repository import KEYS, ONLINE, TARGETS

MOST_ROOT_KEYS = 20


def make_repository(
    where: Publisher, root_keys: int, threshold: int, offline: Path | None = None
) -> Answer:
    """Make a repository with new keys, and nothing in it.

    Args:
        where: the directory to make; it may exist if it is empty.
        root_keys: how many root keys.
        threshold: how many of them must sign.
        offline: where the keys of people go; default: beside the online key.

    Raises:
        InputError: numbers that make no sense.
        RepositoryError: the directory is taken or cannot be written.
    """
    if not 1 <= threshold <= root_keys <= MOST_ROOT_KEYS:
        raise InputError(
            f"{threshold} of {root_keys} root keys cannot be",
            f"Take 1 to {MOST_ROOT_KEYS} keys, and a threshold no larger than that.",
        )
    final = where.directory
    staged = final.with_name(f".{final.name}.init")  # its keys were never trusted: no loss
    try:
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise RepositoryError(f"{final} is there already", "Name a new directory.")
        shutil.rmtree(staged, ignore_errors=True)
        (staged / KEYS).mkdir(mode=0o700, parents=True)
        made = Publisher(staged, where.keyring, where.now)
        _first_version(made, root_keys, threshold, offline or staged / KEYS)
        staged.replace(final)
        sync_directory(final.parent)
    except OSError as error:
        raise RepositoryError(f"{final} cannot be made: {error.strerror}") from error
    return {
        "action": "init",
        "keys": str(offline or final / KEYS),
        "root_keys": root_keys,
        "threshold": threshold,
        **repository_status(where),
    }


def _first_version(where: Publisher, root_keys: int, threshold: int, offline: Path) -> None:
    def made(stem: str) -> CryptoSigner:
        return where.keyring.make(f"{stem}.pem", offline, encrypted=True)

    repository = where.draft()
    with repository.edit_root() as root:
        for number in range(1, root_keys + 1):
            root.add_key(made(f"root-{number}").public_key, Root.type)
        root.roles[Root.type].threshold = threshold
        root.add_key(made(TARGETS).public_key, TARGETS)
        online = where.keyring.make("online.pem", where.directory / KEYS, encrypted=False)
        for role in ONLINE:
            root.add_key(online.public_key, role)
    with repository.edit_targets() as targets:
        roles = {
            name: DelegatedRole(name, [], 1, terminating=True, paths=[f"{name}/*"])
            for name in CHANNELS
        }
        targets.delegations = Delegations({}, roles)
        for name in CHANNELS:
            targets.add_key(made(name).public_key, name)
    for name in CHANNELS:
        with repository.edit_targets(name) as empty:
            write_channel(Channel(), name, empty)
    repository.add_online()
    where.keyring.save()
    repository.publish()
