"""What the centre signed: judged by python-tuf, and by floors that outlive its cache.

    trusted root -> newer roots -> timestamp -> snapshot -> targets -> the channel's role -> offers

python-tuf (The Update Framework) verifies signatures, versions and expiry. It keeps what it saw in
files that a power cut can empty, and asks the machine's clock. So three things are added here:
floors for versions and time that the caller keeps in durable state, a reference time that is never
before the newest signature seen, and checks of the fields that are our own.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard, cast

from tuf.api.exceptions import ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Role, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from agent.errors import InputError, StateError, UntrustedError
from agent.settings.config import CHANNELS
from agent.update.archive import MAX_BYTES
from agent.update.refusals import OlderError, date, day, in_words, plain
from agent.update.source import TELL

if TYPE_CHECKING:
    from agent.update.source import Source

SLOTS = ("settled", "candidate")
CUSTOM_SCHEMA = 1
MAX_WITHDRAWN = 100
MAX_VERSION = 2**53  # a centre that counts higher is broken; it must fit into the state database
MAX_CACHED = 1 << 20  # bytes of a file in the cache, as of the largest role
DAY_S = 86_400.0
STALE_S = 14 * DAY_S  # a live timestamp ends after seven days; what is made for sticks does not
_MOST_SECONDS = 253_402_300_800.0  # to the year 10,000: what calendars hold
_TOP = (Root.type, Timestamp.type, Snapshot.type, Targets.type)
DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True)
class Floors:
    """The newest that was ever accepted: anything older is refused. Kept by the caller.

    Attributes:
        versions: by role (root, timestamp, snapshot, targets, and the channels seen).
        keys: by role, the keys that this version was seen under; compared, never shown.
        signed_at: the newest time of signing, in seconds since 1970.
    """

    versions: Mapping[str, int]
    keys: Mapping[str, str]
    signed_at: float

    @classmethod
    def from_json(cls, body: Mapping[str, Any] | None) -> Floors:
        """The floors kept by ``to_json``, by this agent or a newer one; none where there are none.

        Raises:
            StateError: they make no sense. To go on without them would be to forget them.
        """
        if body is None:
            return NO_FLOORS
        versions, keys, signed_at = map(body.get, ("versions", "keys", "signed_at"))
        if not (_is_versions(versions) and _is_texts(keys) and _is_time(signed_at)):
            raise StateError(
                "what this machine has kept of earlier updates makes no sense: it cannot tell what"
                " is too old",
                "Put a copy of the state directory in its place, or begin anew in another one with"
                " --state-dir DIR.",
            )
        return cls(dict(versions), dict(keys), float(signed_at))

    def to_json(self) -> dict[str, Any]:
        """As the caller keeps them."""
        return asdict(self)


def _is_version(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_VERSION


def _is_versions(value: object) -> TypeGuard[Mapping[str, int]]:
    return isinstance(value, Mapping) and all(map(_is_version, value.values()))


def _is_texts(value: object) -> TypeGuard[Mapping[str, str]]:
    return isinstance(value, Mapping) and all(isinstance(x, str) for x in value.values())


def _is_time(value: object) -> TypeGuard[float]:
    return type(value) in (int, float) and abs(cast("float", value)) <= _MOST_SECONDS


NO_FLOORS = Floors({}, {}, 0.0)


@dataclass(frozen=True)
class Offer:
    """A bundle that a channel offers.

    Attributes:
        slot: ``settled`` (every machine) or ``candidate`` (``rollout`` percent of them).
        name, version, digest, features_version: as the bundle's manifest says.
        rollout: percent, 1 to 100.
        length: of the archive, in bytes.
        target: python-tuf's record of the archive, with its hashes.
    """

    slot: str
    name: str
    version: str
    digest: str
    features_version: int
    rollout: int
    length: int
    target: TargetFile


@dataclass(frozen=True)
class Trusted:
    """What is signed, in force, and not older than anything seen before.

    Attributes:
        floors: to be kept durably before anything else here is used.
        offers: by slot; a slot that is empty is absent.
        withdrawn: digests of bundles that machines must leave.
        expires: by role, when its signatures end, in seconds since 1970.
        notes: codes, and words without a full stop, of what a person should know.
    """

    floors: Floors
    offers: Mapping[str, Offer]
    withdrawn: frozenset[str]
    expires: Mapping[str, float]
    notes: tuple[tuple[str, str], ...]


class Session:
    """A repository as it was when it was refreshed; downloads what it offers."""

    def __init__(self, source: Source, updater: Updater, trusted: Trusted) -> None:
        self.trusted = trusted
        self._source = source
        self._updater = updater

    def download(self, offer: Offer) -> bytes:
        """The archive of an offer; length and hashes are those signed.

        Raises:
            UnreachableError: it does not come.
            UntrustedError: it is too large, or not what was signed.
        """
        if offer.length > MAX_BYTES:
            raise UntrustedError(
                f"{offer.name} {offer.version} would be {offer.length} bytes; the most that is"
                f" taken is {MAX_BYTES}",
                TELL,
            )
        with in_words(self._source):
            return fetch_target(self._updater, self._source, offer.target)


def refresh(
    source: Source, root: bytes, place: Path, channel: str, floors: Floors, now: float
) -> Session:
    """Verify what the repository says now.

    Args:
        source: where it is.
        root: the trusted root metadata of this machine (a file that came with the agent or site).
        place: directory for python-tuf's cache; losing it costs a few downloads, no protection.
        channel: ``pilot`` or ``stable``.
        floors: of the refresh before this one, or ``NO_FLOORS``.
        now: this machine's clock, in seconds since 1970.

    Raises:
        UnreachableError: it does not answer, or not whole.
        UntrustedError: something is not signed as it must be, has expired, is older than what was
            seen before, or makes no sense.
        StateError: the cache cannot be written.
        InputError: there is no such channel.
    """
    if channel not in CHANNELS:
        raise InputError(f"there is no channel {channel!r}", f"Use {' or '.join(CHANNELS)}.")
    try:
        return _verified(source, root, place, channel, floors, now)
    except OSError:
        forget(place)  # damaged in a way that python-tuf cannot write over
    try:
        return _verified(source, root, place, channel, floors, now)
    except OSError as error:
        raise StateError(
            f"the update cache {place} cannot be written: {error.strerror}",
            "Free some space or make the directory writable, then run the command again.",
        ) from error


def forget(place: Path) -> None:
    """Remove python-tuf's cache, or whatever lies in its place."""
    if place.is_symlink() or not place.is_dir():
        with contextlib.suppress(OSError):
            place.unlink()
    shutil.rmtree(place, ignore_errors=True)


def _tidy(place: Path) -> None:
    """Remove from the cache what python-tuf would not get over.

    It opens whatever lies there and reads it to its end: it would wait for a named pipe for ever,
    and read a link to /dev/zero until the memory is full. Files called tmp... are left where the
    power went between writing and renaming.
    """
    history = place / "root_history"
    for folder in (place, history):
        if folder.is_symlink():
            folder.unlink()
    for path in (*place.glob("*"), *history.glob("*")):
        found = path.lstat()
        plain_file = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_CACHED
        if not plain_file and path not in (history, place / "root.json"):  # that link is not read
            forget(path)
        elif path.name.startswith("tmp"):
            path.unlink(missing_ok=True)


def open_updater(source: Source, root: bytes, place: Path, reference: float) -> Updater:
    """python-tuf with our limits, our way of fetching, and ``reference`` for the time of day.

    Raises:
        UntrustedError: ``root`` is not a root that signs itself.
        OSError: the cache cannot be written.
    """
    _tidy(place)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        updater = Updater(
            metadata_dir=str(place),
            metadata_base_url=source.metadata_url,
            fetcher=source,
            config=UpdaterConfig(
                max_root_rotations=256,
                max_delegations=8,
                root_max_length=256 << 10,
                timestamp_max_length=16 << 10,
                snapshot_max_length=256 << 10,
                targets_max_length=MAX_CACHED,
            ),
            bootstrap=root,
        )
    except RepositoryError as error:
        raise UntrustedError(
            f"the trusted root of this machine cannot be used: {plain(error)}",
            "Put the root.json that the centre gives out in its place.",
        ) from error
    # python-tuf has no public way to be told the time; this is the time it compares expiry with.
    updater._trusted_set.reference_time = date(reference)
    return updater


def fetch_target(updater: Updater, source: Source, target: TargetFile) -> bytes:
    """The content of a target, in memory; python-tuf's errors if it is not what was signed."""
    folder, slash, name = target.path.rpartition("/")
    if updater._trusted_set.root.consistent_snapshot:
        name = f"{next(iter(target.hashes.values()))}.{name}"
    content = source.download_bytes(f"{source.targets_url}/{folder}{slash}{name}", target.length)
    target.verify_length_and_hashes(content)
    return content


def _verified(
    source: Source, root: bytes, place: Path, channel: str, floors: Floors, now: float
) -> Session:
    with in_words(source, floors.signed_at, now):
        updater = _refreshed(source, root, place, floors, now)
        found = {slot: updater.get_targetinfo(target_path(channel, slot)) for slot in SLOTS}
        roles = _roles(updater, channel)
        try:
            raised = _raised(floors, roles)
        except OlderError:
            forget(place)  # what was older is in it now
            raise
        _check_ends(roles, max(now, raised.signed_at))
        offers = _offers(channel, roles[channel].signed, found)
        withdrawn = _withdrawn(roles[channel].signed.unrecognized_fields.get("withdrawn", []))
        for offer in offers.values():
            withdrawn |= _withdrawn(offer.target.custom["withdrawn"])
    expires = {name: role.expires for name, role in roles.items()}
    odd = _times(source, raised.signed_at, _signed_at(roles[Timestamp.type].signed), now)
    trusted = Trusted(raised, offers, withdrawn, expires, odd)
    return Session(source, updater, trusted)


def _refreshed(source: Source, root: bytes, place: Path, floors: Floors, now: float) -> Updater:
    updater = open_updater(source, root, place, max(now, floors.signed_at))
    try:
        updater.refresh()
    except ExpiredMetadataError:
        # A stolen timestamp key can sign in the year 2090; a new root that revokes it also ends
        # the floor of time that was seen under it, or nothing would ever be in force again.
        if not _replaced(floors, Timestamp.type, updater._trusted_set.root.roles[Timestamp.type]):
            raise
        updater = open_updater(source, root, place, now)
        updater.refresh()
    return updater


@dataclass(frozen=True)
class _Loaded:
    """A role that python-tuf accepted, and the keys it was accepted by."""

    signed: Any
    keys: Role

    @property
    def expires(self) -> float:
        return float(self.signed.expires.timestamp())


def _roles(updater: Updater, channel: str) -> dict[str, _Loaded]:
    accepted = updater._trusted_set
    listed = accepted.targets.delegations.roles if accepted.targets.delegations else None
    if not listed or channel not in listed or not accepted.contains(channel, Targets.type):
        raise RepositoryError(f"it has no channel {channel}")
    roles = {name: _Loaded(accepted[name], accepted.root.roles[name]) for name in _TOP}
    return {**roles, channel: _Loaded(accepted[channel], listed[channel])}


def _raised(floors: Floors, roles: Mapping[str, _Loaded]) -> Floors:
    """The floors after accepting ``roles``; OlderError if they are below those given."""
    signed_at = _signed_at(roles[Timestamp.type].signed)
    versions, keys = dict(floors.versions), dict(floors.keys)
    for name, role in roles.items():
        version, floor = role.signed.version, floors.versions.get(name, 0)
        if not _is_version(version):
            raise RepositoryError(f"the version of {name}.json is not a sensible number")
        restart = name != Root.type and _replaced(floors, name, role.keys)
        if version < floor and not restart:
            raise OlderError(
                f"{name}.json has version {version}, older than what this machine has already seen"
                f" (version {floor})"
            )
        versions[name], keys[name] = version, _text_of(role.keys)
    restart = _replaced(floors, Timestamp.type, roles[Timestamp.type].keys)
    return Floors(versions, keys, signed_at if restart else max(signed_at, floors.signed_at))


def _text_of(keys: Role) -> str:
    # python-tuf lets key identifiers be anything as long as none is asked for.
    return f"{keys.threshold}:{','.join(sorted(map(str, keys.keyids)))}"


def _replaced(floors: Floors, name: str, keys: Role) -> bool:
    """Was the floor of a role seen under keys whose signatures no longer suffice?

    Then what an attacker pushed ahead with a stolen key does not hold the machine back (recovery
    from fast-forward attacks), and nothing signed before can be replayed below the new floor.
    """
    before = floors.keys.get(name)
    if before is None:
        return False
    left = set(before.partition(":")[2].split(",")) & set(keys.keyids)
    return len(left) < keys.threshold


def _signed_at(timestamp: Timestamp) -> float:
    text = timestamp.unrecognized_fields.get("signed_at")
    try:
        if not isinstance(text, str) or not _TIME.fullmatch(text):
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        raise RepositoryError("timestamp.json does not say when it was signed") from None


def _check_ends(roles: Mapping[str, _Loaded], reference: float) -> None:
    """Nothing may have ended before ``reference``.

    python-tuf looked at this already, but before it was known when the centre last signed.
    """
    for name, role in roles.items():
        if role.expires <= reference:
            raise ExpiredMetadataError(f"{name}.json is expired")


def target_path(channel: str, slot: str) -> str:
    """The name of a channel's target."""
    return f"{channel}/{slot}.bundle"


def _offers(
    channel: str, role: Targets, found: Mapping[str, TargetFile | None]
) -> dict[str, Offer]:
    """The offers of a channel, from what python-tuf found by following the delegations."""
    for slot, target in found.items():
        path = target_path(channel, slot)
        if target is not role.targets.get(path):
            raise RepositoryError(f"{path} is not signed by the keys of {channel}")
    return {slot: _offer(slot, target) for slot, target in found.items() if target}


def _offer(slot: str, target: TargetFile) -> Offer:
    custom = target.custom
    if not isinstance(custom, dict):
        raise RepositoryError(f"nothing is said about {target.path}")
    if custom.get("schema") != CUSTOM_SCHEMA or isinstance(custom["schema"], bool):
        schema = str(custom.get("schema"))[:40]
        raise RepositoryError(
            f"{target.path} is described by schema {schema}; this agent reads {CUSTOM_SCHEMA}"
        )
    if "sha256" not in target.hashes:
        raise RepositoryError(f"{target.path} has no SHA-256")
    if slot == "settled" and custom.get("rollout") != 100:
        _refuse(target.path, "rollout")
    _withdrawn(custom.get("withdrawn"))
    return Offer(
        slot=slot,
        name=_text(target.path, custom, "name"),
        version=_text(target.path, custom, "version"),
        digest=_digest(custom.get("digest")),
        features_version=_whole(target.path, custom, "features_version", 1_000_000),
        rollout=_whole(target.path, custom, "rollout", 100),
        length=_whole(target.path, {"length": target.length}, "length", MAX_VERSION),
        target=target,
    )


def _refuse(path: str, key: str) -> NoReturn:
    raise RepositoryError(f"{path} is described without a proper {key!r}")


def _text(path: str, custom: Mapping[str, Any], key: str) -> str:
    value = custom.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        _refuse(path, key)
    return value


def _whole(path: str, custom: Mapping[str, Any], key: str, most: int) -> int:
    value = custom.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        _refuse(path, key)
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise RepositoryError("a digest is not 64 hexadecimal digits")
    return value


def _withdrawn(value: object) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > MAX_WITHDRAWN:
        raise RepositoryError(f"what is withdrawn is not a list of at most {MAX_WITHDRAWN} digests")
    return frozenset(map(_digest, value))


def _times(
    source: Source, newest: float, signed_at: float, now: float
) -> tuple[tuple[str, str], ...]:
    """What is odd about the times: the clock, or a server that offers what is on sticks."""
    if now < newest - DAY_S:
        words = f"the clock of this machine says {day(now)}, but the repository was signed on"
        return (("clock-behind", f"{words} {day(newest)}: set the clock"),)
    if not source.local and now > signed_at + STALE_S:
        words = f"the repository was last signed on {day(signed_at)}, where a live one is signed"
        return (("old-signature", f"{words} every week: it may be an old copy of it"),)
    return ()
