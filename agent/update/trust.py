"""What the centre signed: judged by python-tuf, by floors that outlive its cache, and by our rules.

    trusted root -> newer roots -> timestamp -> snapshot -> targets -> the channel's role -> offers

python-tuf (The Update Framework) verifies signatures, versions and expiry. Three things are added:
floors for versions and time that the caller keeps in durable state (``agent.update.floors``), a
reference time that is never before the newest signature seen (``agent.update.times``), and checks
of the fields that are our own (``agent.update.offers``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuf.api.exceptions import ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater

from agent.errors import AgentError, InputError, StateError, UntrustedError
from agent.settings.config import CHANNELS
from agent.update.archive import MAX_BYTES
from agent.update.floors import AcceptedRole, Floors, raised, replaced
from agent.update.offers import SLOTS, Offer, offers_of, target_path, withdrawn_digests
from agent.update.refusals import OlderError, told_in_words
from agent.update.source import TELL
from agent.update.times import odd_times, signed_at
from agent.update.tuf_updater import fetch_target, forget_cache, open_updater

if TYPE_CHECKING:
    from agent.update.source import RepositorySource

_TOP = (Root.type, Timestamp.type, Snapshot.type, Targets.type)


@dataclass(frozen=True)
class Trust:
    """What a machine goes by when it judges a repository.

    Attributes:
        root: the trusted root metadata (a file that came with the agent or site).
        channel: ``pilot`` or ``stable``.
        cache: directory for python-tuf; losing it costs a few downloads, no protection.
        floors: of the refresh before this one, or ``NO_FLOORS``.
        now: this machine's clock, in seconds since 1970.
    """

    root: bytes
    channel: str
    cache: Path
    floors: Floors
    now: float


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


class VerifiedRepository:
    """A repository as it was when it was refreshed; downloads what it offers."""

    def __init__(self, source: RepositorySource, updater: Updater, trusted: Trusted) -> None:
        self.trusted = trusted
        self._source = source
        self._updater = updater

    def elsewhere(self, channel: str) -> dict[str, list[Offer]]:
        """What other channels offer, where that is signed and in force: to be told, not taken."""
        found: dict[str, list[Offer]] = {}
        for other in CHANNELS:
            with contextlib.suppress(AgentError, OSError), told_in_words(self._source):
                paths = [target_path(other, slot) for slot in SLOTS if other != channel]
                targets = dict(zip(SLOTS, map(self._updater.get_targetinfo, paths), strict=False))
                if targets:
                    _, role = _accepted(self._updater, other)
                    found[other] = list(offers_of(other, role, targets).values())
        return {other: offers for other, offers in found.items() if offers}

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
        with told_in_words(self._source):
            return fetch_target(self._updater, self._source, offer.target)


def refresh(source: RepositorySource, trust: Trust) -> VerifiedRepository:
    """Verify what the repository says now.

    Raises:
        UnreachableError: it does not answer, or not whole.
        UntrustedError: something is not signed as it must be, has expired, is older than what was
            seen before, or makes no sense.
        StateError: the cache cannot be written.
        InputError: there is no such channel.
    """
    if trust.channel not in CHANNELS:
        channels = " or ".join(CHANNELS)
        raise InputError(f"there is no channel {trust.channel!r}", f"Use {channels}.")
    try:
        return _verified(source, trust)
    except OSError:
        forget_cache(trust.cache)  # damaged in a way that python-tuf cannot write over
    try:
        return _verified(source, trust)
    except OSError as error:
        raise StateError(
            f"the update cache {trust.cache} cannot be written: {error.strerror}",
            "Free some space or make the directory writable, then run the command again.",
        ) from error


def _verified(source: RepositorySource, trust: Trust) -> VerifiedRepository:
    with told_in_words(source, trust.floors.signed_at, trust.now):
        updater = _refreshed(source, trust)
        paths = {slot: target_path(trust.channel, slot) for slot in SLOTS}
        found = {slot: updater.get_targetinfo(path) for slot, path in paths.items()}
        roles, channel = _accepted(updater, trust.channel)
        try:
            floors = raised(trust.floors, roles)
        except OlderError:
            forget_cache(trust.cache)  # what was older is in it now
            raise
        _require_in_force(roles, max(trust.now, floors.signed_at))
        offers = offers_of(trust.channel, channel, found)
        withdrawn = withdrawn_digests(channel.unrecognized_fields.get("withdrawn", []))
        for offer in offers.values():
            withdrawn |= withdrawn_digests(offer.target.custom["withdrawn"])
    expires = {name: role.expires for name, role in roles.items()}
    signed = signed_at(roles[Timestamp.type].signed)
    odd = odd_times(floors.signed_at, signed, trust.now, local=source.local)
    return VerifiedRepository(source, updater, Trusted(floors, offers, withdrawn, expires, odd))


def _refreshed(source: RepositorySource, trust: Trust) -> Updater:
    reference = max(trust.now, trust.floors.signed_at)
    updater = open_updater(source, trust.root, trust.cache, reference)
    try:
        updater.refresh()
    except ExpiredMetadataError:
        # A stolen timestamp key can sign in the year 2090; a new root that revokes it also ends
        # the floor of time that was seen under it, or nothing would ever be in force again.
        keys = updater._trusted_set.root.roles[Timestamp.type]
        if not replaced(trust.floors, Timestamp.type, keys):
            raise
        updater = open_updater(source, trust.root, trust.cache, trust.now)
        updater.refresh()
    return updater


def _accepted(updater: Updater, channel: str) -> tuple[dict[str, AcceptedRole], Targets]:
    """The roles that python-tuf has verified, by name; and that of the channel."""
    verified = updater._trusted_set
    listed = verified.targets.delegations.roles if verified.targets.delegations else None
    role = verified[channel] if verified.contains(channel, Targets.type) else None
    if not listed or channel not in listed or not isinstance(role, Targets):
        raise RepositoryError(f"it has no channel {channel}")
    roles = {name: AcceptedRole(verified[name], verified.root.roles[name]) for name in _TOP}
    return {**roles, channel: AcceptedRole(role, listed[channel])}, role


def _require_in_force(roles: Mapping[str, AcceptedRole], reference: float) -> None:
    """Nothing may have ended before ``reference``.

    python-tuf looked at this already, but before it was known when the centre last signed.
    """
    for name, role in roles.items():
        if role.expires <= reference:
            raise ExpiredMetadataError(f"{name}.json is expired")
