"""A TUF repository in a directory: ``public`` is served, ``keys`` is not.

    DIR/public/metadata/   N.root.json, N.targets.json, N.pilot.json, N.stable.json,
                           N.snapshot.json, timestamp.json
    DIR/public/targets/    pilot/DIGEST.SLOT.bundle, stable/DIGEST.SLOT.bundle
    DIR/keys/              private keys; those of people may live elsewhere
    DIR/lock  DIR/journal.json

What a command changes is signed in memory first and then written through a journal, in an order
that clients may watch: bundles, roles, snapshot, timestamp, root. A new root comes last because
what it newly trusts is signed by the old keys too, so that clients of either root accept it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.repository import Repository as TufRepository

from agent.settings.config import CHANNELS
from bundles.repository.journal import PUBLIC, FileChange, RepositoryError, commit
from bundles.repository.keys import Keyring, file_of, missing
from bundles.repository.passphrases import SigningKeyError

KEYS = "keys"
TARGETS = Targets.type
OFFLINE = (Root.type, TARGETS, *CHANNELS)
ONLINE = (Snapshot.type, Timestamp.type)
ONLINE_KEY = "online"  # how people call the key of both
ROLES = (*OFFLINE, *ONLINE)
LIVES: Mapping[str, timedelta] = {
    Root.type: timedelta(days=3 * 365),
    TARGETS: timedelta(days=3 * 365),
    **dict.fromkeys(CHANNELS, timedelta(days=2 * 365)),
    Snapshot.type: timedelta(days=30),
    Timestamp.type: timedelta(days=7),
}
SIGNED_AT = "signed_at"
TIME = "%Y-%m-%dT%H:%M:%SZ"
_NEW: Mapping[str, Callable[[], Signed]] = {
    Root.type: Root,
    Snapshot.type: Snapshot,
    Timestamp.type: Timestamp,
}
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,9})\.root\.json")
_ORDER = (*CHANNELS, TARGETS, Snapshot.type, Timestamp.type, Root.type)
_RESTORE = "Restore the repository from its last copy."


class Repository(TufRepository):
    """The published state of a directory, and the changes to it that are not written yet.

    Args:
        directory: of the repository.
        now: the time of signing, UTC, in whole seconds.
        keyring: where private keys are; None for reading only.
        lives: how long signatures hold, by role; default: ``LIVES``.
        reserved: version numbers of snapshot and timestamp that were given away.
        public: what is served; default: ``directory``/public.
    """

    def __init__(
        self,
        directory: Path,
        now: datetime,
        keyring: Keyring | None = None,
        lives: Mapping[str, timedelta] = LIVES,
        reserved: int = 0,
        public: Path | None = None,
    ) -> None:
        self.directory, self.now = directory, now.replace(microsecond=0)
        self.public = public or directory / PUBLIC
        self.keyring, self.lives, self.reserved = keyring, lives, reserved
        self._changed: dict[str, Metadata[Any]] = {}
        self._files: dict[str, bytes] = {}

    # What tuf.repository.Repository asks for.

    def open(self, role: str) -> Metadata[Any]:
        """A role as changed here, else as published, else new (version 0)."""
        if role in self._changed:
            return copy.deepcopy(self._changed[role])
        if (published := self.published(role)) is not None:
            return parse_metadata(published, role)
        made: Metadata[Any] = Metadata(_NEW.get(role, Targets)())
        made.signed.version = 0  # the first is 1: ``close`` counts
        if isinstance(made.signed, Snapshot):
            made.signed.meta = {}
        if isinstance(made.signed, Timestamp):
            made.signed.snapshot_meta.version = 0
        return made

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Sign a changed role, one version above the published one.

        Raises:
            SigningKeyError: keys that it needs are missing.
        """
        signed = md.signed
        before = self.published(role)
        signed.version = 1 + (parse_metadata(before, role).signed.version if before else 0)
        if role in ONLINE:
            signed.version += self.reserved
        signed.expires = self.now + self.lives[role]
        if role == Timestamp.type:
            signed.unrecognized_fields[SIGNED_AT] = self.now.strftime(TIME)
            # python-tuf looks at its version only, and keeps the digest of one signed again.
            signed.snapshot_meta = self.snapshot_info
        md.signatures.clear()
        for signer in self._signers(role, signed):
            md.sign(signer, append=True)
        self._changed[role] = md

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        """Version, length and digest of the roles that a snapshot lists."""
        return {f"{role}.json": self._info(role) for role in (TARGETS, *CHANNELS)}

    @property
    def snapshot_info(self) -> MetaFile:
        """Version, length and digest of the snapshot."""
        return self._info(Snapshot.type)

    # Reading.

    @property
    def metadata(self) -> Path:
        """Where signed metadata lie."""
        return self.public / "metadata"

    def published(self, role: str) -> bytes | None:
        """The role's file as clients get it; None before the first."""
        if role == Root.type:
            version = max(root_versions(self.metadata), default=0)
        elif role == Timestamp.type:
            return self.read("timestamp.json")
        elif (listing := self._listing(role)) is None:
            return None
        else:
            version = listing.version
        return self.read(f"{version}.{role}.json") if version else None

    def read(self, name: str) -> bytes | None:
        """A file of metadata; None for the timestamp of a repository that is being made.

        Raises:
            RepositoryError: it is missing.
        """
        path = self.metadata / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if name == "timestamp.json" and not root_versions(self.metadata):
                return None  # it is being made
            raise RepositoryError(f"{path} is missing", _RESTORE) from None
        except OSError as error:
            raise RepositoryError(f"{path} cannot be read: {error.strerror}") from error

    def role_of(self, role: str) -> tuple[Role, list[Key]]:
        """Who may sign a role, by what is changed here: threshold and public keys."""
        delegator: Root | Targets = self.targets() if role in CHANNELS else self.root()
        try:
            listed = delegator.get_delegated_role(role)
            return listed, [delegator.get_key(keyid) for keyid in listed.keyids]
        except ValueError as error:
            raise RepositoryError(f"{self.directory} trusts nobody for {role}", _RESTORE) from error

    # Writing.

    def add_file(self, path: str, content: bytes) -> None:
        """A bundle to be written; ``path`` is relative to ``public``."""
        self._files[path] = content

    def add_online(self, *, always: bool = True) -> None:
        """Snapshot and timestamp for what was changed; ``always``: a new timestamp at least."""
        self.do_snapshot()
        self.do_timestamp(force=always)

    def renew_snapshot(self) -> None:
        """A new snapshot of the same versions, to live longer."""
        self.do_snapshot(force=True)

    def changes(self) -> list[FileChange]:
        """What ``publish`` would write, in order."""
        roles = [role for role in _ORDER if role in self._changed]
        files = [FileChange(path, content) for path, content in self._files.items()]
        return files + [
            FileChange(f"metadata/{metadata_file(role, md.signed.version)}", md.to_bytes())
            for role in roles
            for md in (self._changed[role],)
        ]

    def publish(self) -> None:
        """Write what was changed: all of it or nothing.

        Raises:
            RepositoryError: it cannot be written now; the next command finishes it.
        """
        commit(self.directory, self.changes())
        self._changed.clear()
        self._files.clear()

    def _signers(self, role: str, signed: Signed) -> list[CryptoSigner]:
        if self.keyring is None:
            raise AssertionError("opened for reading")
        if isinstance(signed, Root):
            return self._root_signers(signed)
        _, keys = self.role_of(role)
        signers = [self.keyring.signer(key, role) for key in keys]
        return signers + [self.keyring.signer(key, role) for key in self._former(role, keys)]

    def _former(self, role: str, keys: list[Key]) -> list[Key]:
        """Keys that the published root still names: with them, clients of either root accept it."""
        published = self.published(Root.type)
        if self.keyring is None or role in CHANNELS or published is None:
            return []
        root: Root = parse_metadata(published, Root.type).signed
        now = {key.keyid for key in keys}
        former = [root.get_key(keyid) for keyid in root.roles[role].keyids if keyid not in now]
        return [key for key in former if self.keyring.has(key)]

    def _root_signers(self, root: Root) -> list[CryptoSigner]:
        """A new root is signed by a threshold of the old root's keys, and of its own."""
        assert self.keyring is not None  # noqa: S101  _signers has looked
        published = self.published(Root.type)
        old: Root = parse_metadata(published, Root.type).signed if published else root
        keys: dict[str, Key] = {}
        for which, trusted in (("present", old), ("new", root)):
            role = trusted.roles[Root.type]
            all_keys = [trusted.get_key(keyid) for keyid in role.keyids]
            here = [key for key in all_keys if self.keyring.has(key)]
            if len(here) < role.threshold:
                raise self._too_few(which, role.threshold, all_keys, here)
            keys |= {key.keyid: key for key in here}
        return [self.keyring.signer(key, Root.type) for key in keys.values()]

    def _too_few(
        self, which: str, threshold: int, keys: list[Key], here: list[Key]
    ) -> SigningKeyError:
        assert self.keyring is not None  # noqa: S101
        absent = [file_of(key) for key in keys if key not in here]
        counted = f"{threshold} of the {len(keys)} {which} root keys, and found {len(here)}; it"
        return missing(f"root needs {counted}", absent, self.keyring.places)

    def _info(self, role: str) -> MetaFile:
        md = self._changed.get(role)
        content = md.to_bytes() if md else self.published(role)
        if content is None:
            raise RepositoryError(f"{self.directory} has no {role}", _RESTORE)
        version = parse_metadata(content, role).signed.version
        return MetaFile.from_data(version, content, ["sha256"])

    def _listing(self, role: str) -> MetaFile | None:
        """What the timestamp or the snapshot says of a role."""
        above = Timestamp.type if role == Snapshot.type else Snapshot.type
        content = self.published(above)
        if content is None:
            return None
        signed = parse_metadata(content, above).signed
        if isinstance(signed, Timestamp):
            return signed.snapshot_meta
        listed = signed.meta.get(f"{role}.json") if isinstance(signed, Snapshot) else None
        if listed is None:
            raise RepositoryError(f"the snapshot of {self.directory} has no {role}", _RESTORE)
        return listed


def parse_time(text: object) -> datetime:
    """A time as metadata write it.

    Raises:
        RepositoryError: it is none.
    """
    try:
        return datetime.strptime(str(text), TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise RepositoryError(f"{str(text)[:40]!r} is not a time", _RESTORE) from error


def parse_metadata(content: bytes, role: str) -> Metadata[Any]:
    """Signed metadata from a file.

    Raises:
        RepositoryError: it is no metadata.
    """
    try:
        return Metadata.from_bytes(content)
    except DeserializationError as error:
        raise RepositoryError(f"the metadata of {role} are damaged: {error}", _RESTORE) from error


def metadata_file(role: str, version: int) -> str:
    """The file of a role: all but the timestamp have their version in the name."""
    return "timestamp.json" if role == Timestamp.type else f"{version}.{role}.json"


def root_versions(metadata: Path) -> list[int]:
    """The versions of root that are there, ascending."""
    try:
        found = [_ROOT_FILE.fullmatch(path.name) for path in metadata.iterdir()]
    except OSError:
        return []
    return sorted(int(name[1]) for name in found if name)


def every_version(metadata: Path, role: str) -> Iterable[Targets]:
    """Every version of a targets role that was ever published here, oldest first."""
    numbered = re.compile(rf"([1-9][0-9]{{0,9}})\.{role}\.json")
    found = {int(m[1]): p for p in metadata.iterdir() if (m := numbered.fullmatch(p.name))}
    for _, path in sorted(found.items()):
        signed = parse_metadata(path.read_bytes(), role).signed
        if isinstance(signed, Targets):
            yield signed
