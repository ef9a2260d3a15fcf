"""Who publishes: a repository, the keys it is signed with, and the time of signing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bundles.repository.keys import Keyring
from bundles.repository.passphrases import Passphrases
from bundles.repository.repository import KEYS, LIVES, Repository


@dataclass(frozen=True)
class Publisher:
    """A repository, and with what it is changed.

    Attributes:
        directory: of the repository.
        keyring: its private keys.
        now: the time of signing, UTC.
    """

    directory: Path
    keyring: Keyring
    now: datetime

    def draft(self, lives: Mapping[str, timedelta] = LIVES, reserved: int = 0) -> Repository:
        """The repository, ready to be changed; how long signatures hold, versions given away."""
        return Repository(self.directory, self.now, self.keyring, lives, reserved)


def publisher_at(
    directory: Path, now: datetime, passphrases: Passphrases, keys: Sequence[Path] = ()
) -> Publisher:
    """A repository whose keys are looked for in ``keys``, then beside it."""
    return Publisher(directory, Keyring((*keys, directory / KEYS), passphrases), now)
