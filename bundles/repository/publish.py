"""Bundles offered and withdrawn: the operations behind ``bundles add``, ``promote``, ``withdraw``.

Each changes the repository as one and returns what it did: the data that ``--json`` prints and
``bundles.repository.words`` tells people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.bundle.bundle import Bundle, default_bundle, load_bundle
from agent.errors import InputError
from agent.loopnest.features.vector import FEATURES_VERSION
from agent.settings.config import CHANNELS
from agent.update.archive import unpack
from bundles.repository.answers import Answer, Note, change_answer
from bundles.repository.channel import (
    CANDIDATE,
    EVERY_MACHINE,
    SETTLED,
    Channel,
    Listed,
    find_bundle,
    offer,
    stored_path,
    without_bundle,
    write_channel,
)
from bundles.repository.fitness import doubts, examined_archive, refuse_quick
from bundles.repository.guard import locked, require_repository, require_right_clock
from bundles.repository.published import channel_of, ever_listed, published_archive
from bundles.repository.publisher import Publisher
from bundles.repository.repository import Repository


@dataclass(frozen=True)
class Audience:
    """To which machines a bundle is offered.

    Attributes:
        channel: ``pilot`` or ``stable``.
        rollout: percent of its machines, 1 to 100; at 100 it is settled.
        again: though the bundle was withdrawn from the channel before.
        force: though the bundle was made as a test; asked for anew by each who offers it.
        dry_run: only say what would be.
    """

    channel: str
    rollout: int = EVERY_MACHINE
    again: bool = False
    force: bool = False
    dry_run: bool = False


def add_bundle(where: Publisher, directory: Path, to: Audience) -> Answer:
    """Check a bundle and offer it.

    Raises:
        BundleError: the bundle is not fit to be published.
        InputError: the same name and version is known with other bytes; it was withdrawn; it was
            made as a test.
    """
    require_repository(where.directory)  # before a bundle is tried
    content, bundle = examined_archive(directory)
    if not to.force:
        refuse_quick(f"{bundle.name} {bundle.version}", bundle.provenance)
    return add_archive(where, content, bundle, to)


def add_archive(where: Publisher, content: bytes, bundle: Bundle, to: Audience) -> Answer:
    """``add_bundle`` for the archive of a bundle that was examined."""
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
        require_right_clock(repository)
        _refuse_other_bytes(repository, listed)
        notes = doubts(bundle) + _older(repository, channel_of(repository, to.channel), bundle)
        return _offer(repository, "add", listed, content, to, notes)


def promote_bundle(where: Publisher, wanted: str, to: Audience) -> Answer:
    """Offer the bytes that pilot has on another channel, or to more machines of pilot.

    Raises:
        InputError: pilot has no such bundle, or several; it was made as a test.
    """
    with locked(where.directory):
        repository = where.draft()
        require_right_clock(repository)
        pilot = channel_of(repository, "pilot")
        listed = _to_promote(pilot, wanted, to.channel)
        content = published_archive(repository, listed)
        if not to.force:
            refuse_quick(listed.title, _manifest(content).get("provenance"))
        notes: list[Note] = []
        if to.channel != "pilot" and listed == pilot.candidate:
            words = f"{listed.title} is still a candidate of pilot: {pilot.rollout} % run it."
            notes = [("pilot-candidate", words)]
        return _offer(repository, "promote", listed, content, to, notes)


def bundle_to_promote(where: Publisher, wanted: str, channel: str) -> Listed:
    """The bundle that ``promote_bundle`` would offer; changes nothing.

    Raises:
        InputError: pilot has no such bundle, or several.
    """
    require_repository(where.directory)
    return _to_promote(channel_of(where.draft(), "pilot"), wanted, channel)


def _to_promote(pilot: Channel, wanted: str, channel: str) -> Listed:
    candidate = pilot.candidate
    if channel == "pilot" and candidate and wanted in (candidate.name, candidate.title):
        return candidate
    offered = [x for x in pilot.offered if wanted in (x.name, x.title)]
    return find_bundle(wanted, pilot.offered if offered else pilot.known, "pilot")


def _offer(
    repository: Repository,
    action: str,
    listed: Listed,
    content: bytes,
    to: Audience,
    notes: list[Note],
) -> Answer:
    before = channel_of(repository, to.channel)
    same_rollout = to.rollout == (EVERY_MACHINE if listed == before.settled else before.rollout)
    if listed in before.offered and same_rollout:
        return change_answer(repository, action, listed, [to.channel], notes, changed=False)
    after = offer(before, listed, to.rollout, again=to.again)
    slot = SETTLED if to.rollout == EVERY_MACHINE else CANDIDATE
    repository.add_file(stored_path(to.channel, slot, listed.sha256), content)
    _put(repository, to.channel, after)
    repository.add_online()
    if not to.dry_run:
        repository.publish()
    lost = _left(before, after, listed)
    return change_answer(repository, action, listed, [to.channel], notes + lost)


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


def withdraw_bundle(
    where: Publisher, wanted: str, name: str | None = None, *, dry_run: bool = False
) -> Answer:
    """Tell machines to leave a bundle; where it was settled, the one before comes back.

    Args:
        where: the repository.
        wanted: NAME or NAME@VERSION.
        name: the channel; default: every channel that knows it.
        dry_run: only say what would be.

    Raises:
        InputError: no channel ever offered it, or several bundles are meant.
    """
    with locked(where.directory):
        repository = where.draft()
        require_right_clock(repository)
        names = [name] if name else CHANNELS
        looked = {x: channel_of(repository, x) for x in names}
        ever = {x: ever_listed(repository, x) for x in names}
        listed = _to_withdraw(wanted, list(looked.values()), ever, name or "this repository")
        had = [x for x in names if listed.digest in ever[x]]
        touched = [x for x in had if listed.digest not in looked[x].withdrawn]
        if not touched:
            return change_answer(repository, "withdraw", listed, had, [], changed=False)
        for each in touched:
            after = without_bundle(looked[each], listed.digest)
            if after.settled and after.settled != looked[each].settled:
                content = published_archive(repository, after.settled)
                repository.add_file(stored_path(each, SETTLED, after.settled.sha256), content)
            _put(repository, each, after)
        repository.add_online()  # once: what it signs is of both
        if not dry_run:
            repository.publish()
        return change_answer(repository, "withdraw", listed, touched, [])


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
            return find_bundle(wanted, among, where)
    return find_bundle(wanted, known, where)  # it is nowhere: says so


def _put(repository: Repository, name: str, after: Channel) -> None:
    with repository.edit_targets(name) as role:
        write_channel(after, name, role)


def _older(repository: Repository, before: Channel, bundle: Bundle) -> list[Note]:
    settled = before.settled
    if settled is None or settled.digest == bundle.digest:
        return []
    notes = []
    created = str(_manifest(published_archive(repository, settled)).get("created", ""))
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


def _manifest(content: bytes) -> Mapping[str, object]:
    """What the bundle in an archive that was published says of itself."""
    found: Mapping[str, object] = json.loads(unpack(content)["manifest.json"])
    return found


def _refuse_other_bytes(repository: Repository, bundle: Listed) -> None:
    """A name and version means the same bytes for ever: reports tell no more of a bundle."""
    own = load_bundle(default_bundle())
    if (own.name, own.version) == (bundle.name, bundle.version) and own.digest != bundle.digest:
        raise InputError(
            f"{bundle.title} is the name of the bundle that comes with the agent, and this is "
            "another",
            "Give the new bundle another version.",
        )
    for name in CHANNELS:
        for known in ever_listed(repository, name).values():
            if known.title == bundle.title and known.digest != bundle.digest:
                raise InputError(
                    f"{bundle.title} was published before with other content",
                    "Give the new bundle another version.",
                )
