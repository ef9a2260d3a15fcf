"""What the centre does with its repository: the operations behind ``bundles add`` and the rest.

Each takes the time and a keyring, changes the repository as one, and returns what it did: the data
that ``--json`` prints and ``publish_words`` tells people.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Root, Snapshot, Timestamp

from agent.bundle.bundle import Bundle
from agent.errors import InputError
from agent.loopnest.features.vector import FEATURES_VERSION
from agent.settings.config import CHANNELS
from agent.update.archive import unpack
from bundles.repository import channel as channels
from bundles.repository.answers import Answer, Note, did, seen, standing
from bundles.repository.channel import (
    CANDIDATE,
    EVERY_MACHINE,
    SETTLED,
    Channel,
    Listed,
    find,
    offer,
    stored_path,
)
from bundles.repository.fitness import doubts, packed
from bundles.repository.guard import check_clock, locked, require
from bundles.repository.journal import RepositoryError, interrupted, sync_directory
from bundles.repository.keys import Keyring, Passphrases
from bundles.repository.repository import KEYS, ONLINE, TARGETS, Repository, every_version

SNAPSHOT_RENEWED = timedelta(days=15)  # half its life: most days only the timestamp is new
MOST_ROOT_KEYS = 20


@dataclass(frozen=True)
class Place:
    """A repository, and with what it is changed.

    Attributes:
        directory: of the repository.
        keyring: its private keys.
        now: the time of signing, UTC.
    """

    directory: Path
    keyring: Keyring
    now: datetime

    def draft(self, **options: Any) -> Repository:
        """The repository, ready to be changed."""
        return Repository(self.directory, self.now, self.keyring, **options)


def place(
    directory: Path, now: datetime, passphrases: Passphrases, keys: Sequence[Path] = ()
) -> Place:
    """A repository whose keys are looked for in ``keys``, then beside it."""
    return Place(directory, Keyring((*keys, directory / KEYS), passphrases), now)


def init(where: Place, root_keys: int, threshold: int, offline: Path | None = None) -> Answer:
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
        made = Place(staged, where.keyring, where.now)
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
        **status(where),
    }


def _first_version(where: Place, root_keys: int, threshold: int, offline: Path) -> None:
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
            channels.write(Channel(), name, empty)
    repository.add_online()
    where.keyring.save()
    repository.publish()


def add(
    where: Place, directory: Path, name: str, rollout: int = EVERY_MACHINE, *, again: bool = False
) -> Answer:
    """Check a bundle and offer it to ``rollout`` percent of a channel's machines.

    Raises:
        BundleError: the bundle is not fit to be published.
        InputError: the same name and version is known with other bytes; it was withdrawn.
    """
    require(where.directory)  # before a bundle is tried
    content, bundle = packed(directory)
    return put(where, content, bundle, name, rollout, again=again)


def put(
    where: Place,
    content: bytes,
    bundle: Bundle,
    name: str,
    rollout: int = EVERY_MACHINE,
    *,
    again: bool = False,
) -> Answer:
    """``add`` for the archive of a bundle that was examined."""
    listed = Listed(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.digest,
        features_version=FEATURES_VERSION,
        length=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    with locked(where.directory):
        repository = where.draft()
        check_clock(repository)
        _refuse_other_bytes(repository, listed)
        before = channels.read(name, repository.targets(name))
        notes = doubts(bundle) + _older(repository, before, bundle)
        return _offer(repository, name, listed, content, rollout, notes, "add", again)


def promote(
    where: Place, wanted: str, name: str, rollout: int = EVERY_MACHINE, *, again: bool = False
) -> Answer:
    """Offer the bytes that pilot has on another channel, or to more machines of pilot.

    Raises:
        InputError: pilot has no such bundle, or several.
    """
    with locked(where.directory):
        repository = where.draft()
        check_clock(repository)
        pilot = channels.read("pilot", repository.targets("pilot"))
        listed = _to_promote(pilot, wanted, name)
        content = stored(repository, listed)
        notes: list[Note] = []
        if name != "pilot" and listed == pilot.candidate:
            words = f"{listed.title} is still a candidate of pilot: {pilot.rollout} % run it."
            notes = [("pilot-candidate", words)]
        return _offer(repository, name, listed, content, rollout, notes, "promote", again)


def to_promote(where: Place, wanted: str, name: str) -> Listed:
    """The bundle that ``promote`` would offer; changes nothing.

    Raises:
        InputError: pilot has no such bundle, or several.
    """
    require(where.directory)
    return _to_promote(channels.read("pilot", where.draft().targets("pilot")), wanted, name)


def _to_promote(pilot: Channel, wanted: str, name: str) -> Listed:
    candidate = pilot.candidate
    if name == "pilot" and candidate and wanted in (candidate.name, candidate.title):
        return candidate
    offered = [x for x in pilot.offered if wanted in (x.name, x.title)]
    return find(wanted, pilot.offered if offered else pilot.known, "pilot")


def _offer(
    repository: Repository,
    name: str,
    listed: Listed,
    content: bytes,
    rollout: int,
    notes: list[Note],
    action: str,
    again: bool,
) -> Answer:
    before = channels.read(name, repository.targets(name))
    same_rollout = rollout == (EVERY_MACHINE if listed == before.settled else before.rollout)
    if listed in before.offered and same_rollout:
        return did(repository, action, listed, [name], [*notes], changed=False)
    after = offer(before, listed, rollout, again=again)
    slot = SETTLED if rollout == EVERY_MACHINE else CANDIDATE
    repository.add_file(stored_path(name, slot, listed.sha256), content)
    _put(repository, name, after)
    repository.add_online()
    repository.publish()
    return did(repository, action, listed, [name], notes + _left(before, after, listed))


def _left(before: Channel, after: Channel, listed: Listed) -> list[Note]:
    """What the change takes from machines."""
    notes = []
    old = before.candidate
    if old and old not in (after.candidate, listed):
        words = f"The candidate {old.title} ({before.rollout} %) is no longer offered."
        notes.append(("candidate-replaced", words))
    if old == after.candidate and 0 < after.rollout < before.rollout:
        words = f"Fewer machines than before ({before.rollout} %): some go back to the settled one."
        notes.append(("rollout-lowered", words))
    return notes


def withdraw(where: Place, wanted: str, name: str | None = None) -> Answer:
    """Tell machines to leave a bundle; where it was settled, the one before comes back.

    Args:
        where: the repository.
        wanted: NAME or NAME@VERSION.
        name: the channel; default: every channel that knows it.

    Raises:
        InputError: no channel ever offered it, or several bundles are meant.
    """
    with locked(where.directory):
        repository = where.draft()
        check_clock(repository)
        names = [name] if name else CHANNELS
        looked = {x: channels.read(x, repository.targets(x)) for x in names}
        ever = {x: _ever_listed(repository, x) for x in names}
        listed = _to_withdraw(wanted, list(looked.values()), ever, name or "this repository")
        had = [x for x in names if listed.digest in ever[x]]
        touched = [x for x in had if listed.digest not in looked[x].withdrawn]
        if not touched:
            return did(repository, "withdraw", listed, had, [], changed=False)
        for each in touched:
            after = channels.withdraw(looked[each], listed.digest)
            if after.settled and after.settled != looked[each].settled:
                content = stored(repository, after.settled)
                repository.add_file(stored_path(each, SETTLED, after.settled.sha256), content)
            _put(repository, each, after)
        repository.add_online()  # once: what it signs is of both
        repository.publish()
        return did(repository, "withdraw", listed, touched, [])


def _to_withdraw(
    wanted: str, now: Sequence[Channel], ever: Mapping[str, Mapping[str, Listed]], where: str
) -> Listed:
    """What is offered, else what was settled before, else what was a candidate once.

    A candidate that another replaced is in no channel's record any more, and machines still run it.
    """
    offered = tuple(x for each in now for x in each.offered)
    known = tuple(x for each in now for x in each.known)
    once = tuple(x for each in ever.values() for x in each.values())
    for among in (offered, known, once):
        if any(wanted in (x.name, x.title) for x in among):
            return find(wanted, among, where)
    return find(wanted, known, where)  # it is nowhere: says so


def _put(repository: Repository, name: str, after: Channel) -> None:
    with repository.edit_targets(name) as role:
        channels.write(after, name, role)


def _ever_listed(repository: Repository, name: str) -> dict[str, Listed]:
    """By digest, every bundle that any version of a channel's role has offered."""
    versions = every_version(repository.metadata, name)
    return {x.digest: x for role in versions for x in channels.read(name, role).known}


def timestamp(where: Place, *, clock_is_right: bool = False) -> Answer:
    """Renew the short-lived signatures, and say how long the others hold.

    Args:
        where: the repository.
        clock_is_right: a person has looked at the clock; sign even if it seems wrong.

    Raises:
        InputError: the clock of this computer is plainly wrong.
    """
    with locked(where.directory):
        repository = where.draft()
        if not clock_is_right:
            check_clock(repository)
        renewed = [Timestamp.type]
        if repository.snapshot().expires - repository.now < SNAPSHOT_RENEWED:
            repository.renew_snapshot()
            renewed.insert(0, Snapshot.type)
        repository.add_online()
        repository.publish()
        return {"action": "timestamp", "renewed": renewed, **standing(repository)}


def status(where: Place) -> Answer:
    """What each channel offers, and how long every signature holds; changes nothing."""
    require(where.directory)
    repository = where.draft()
    unfinished = [(
        "interrupted",
        "A publisher died before it was done; the next command that publishes finishes its work.",
    )]  # fmt: skip
    found = standing(repository, unfinished if interrupted(where.directory) else [])
    name = "1.root.json"
    return {
        **found,
        "channels": [seen(name, repository) for name in CHANNELS],
        "trusted_root": str(repository.metadata / name),
        "trusted_root_sha256": hashlib.sha256(repository.read(name) or b"").hexdigest(),
    }


def _older(repository: Repository, before: Channel, bundle: Bundle) -> list[Note]:
    settled = before.settled
    if settled is None or settled.digest == bundle.digest:
        return []
    notes = []
    manifest = json.loads(unpack(stored(repository, settled))["manifest.json"])
    created = str(manifest.get("created", ""))
    if bundle.created <= created:
        words = f"It was made {bundle.created}, no later than {settled.title} ({created})."
        notes.append(("not-newer", words))
    if settled.features_version != FEATURES_VERSION:
        words = (
            f"It is for features version {FEATURES_VERSION}, {settled.title} for "
            f"{settled.features_version}: agents that are not updated keep what they have."
        )
        notes.append(("other-features", words))
    return notes


def _refuse_other_bytes(repository: Repository, bundle: Listed) -> None:
    """A name and version means the same bytes for ever, on both channels."""
    for name in CHANNELS:
        for known in _ever_listed(repository, name).values():
            if known.title == bundle.title and known.digest != bundle.digest:
                raise InputError(
                    f"{bundle.title} was published before with other content",
                    "Give the new bundle another version.",
                )


def stored(repository: Repository, bundle: Listed) -> bytes:
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
