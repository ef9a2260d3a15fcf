"""What a channel offers, and how it changes: pure functions on frozen records.

A channel (``pilot``, ``stable``) has a settled bundle, for every machine, and perhaps a candidate,
for part of them. What was settled before is remembered, so that a bundle that is withdrawn leaves
no hole. The signed form is described in docs/reference/repository.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuf.api.metadata import TargetFile, Targets

from agent.errors import InputError
from agent.update.offers import CUSTOM_SCHEMA, DIGEST, MAX_WITHDRAWN, SLOTS, target_path
from bundles.repository.journal import RepositoryError

SETTLED, CANDIDATE = SLOTS
EVERY_MACHINE = 100
MOST_HISTORY = 20


@dataclass(frozen=True)
class Listed:
    """A bundle as it is published.

    Attributes:
        name, version, features_version: as its manifest says.
        digest: SHA-256 of its manifest, which identifies it.
        length, sha256: of its archive.
    """

    name: str
    version: str
    digest: str
    features_version: int
    length: int
    sha256: str

    @property
    def title(self) -> str:
        """``NAME@VERSION``, as commands take it."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> dict[str, Any]:
        """The fields, for the history and for ``--json``."""
        return dict(vars(self))


@dataclass(frozen=True)
class Channel:
    """What a channel offers.

    Attributes:
        settled: for every machine; None where machines keep what they have.
        candidate: for machines whose bucket is below ``rollout`` (1 to 99).
        withdrawn: digests that machines must leave, oldest first.
        history: what was settled before, oldest first; never withdrawn, never the settled one.
    """

    settled: Listed | None = None
    candidate: Listed | None = None
    rollout: int = 0
    withdrawn: tuple[str, ...] = ()
    history: tuple[Listed, ...] = ()

    @property
    def offered(self) -> tuple[Listed, ...]:
        """The settled one and the candidate, where they are."""
        return tuple(x for x in (self.settled, self.candidate) if x)

    @property
    def known(self) -> tuple[Listed, ...]:
        """Everything offered now or settled before."""
        return (*self.offered, *self.history)


def offer(channel: Channel, bundle: Listed, rollout: int, *, again: bool = False) -> Channel:
    """``bundle`` as the candidate of ``rollout`` percent of the machines, or settled at 100.

    Args:
        channel: as it is.
        bundle: what to offer.
        rollout: 1 to 100.
        again: take it though it was withdrawn.

    Raises:
        InputError: it was withdrawn, or is settled and cannot be rolled out to fewer machines.
    """
    if bundle.digest in channel.withdrawn and not again:
        raise InputError(
            f"{bundle.title} was withdrawn from this channel: machines that have it leave it",
            "Publish a new version. To offer these very bytes again, add --again.",
        )
    settled = channel.settled
    if rollout < EVERY_MACHINE and settled and settled.digest == bundle.digest:
        raise InputError(
            f"{bundle.title} is settled: every machine of the channel takes it",
            "Withdraw it to send machines back to the bundle before it.",
        )
    withdrawn = tuple(d for d in channel.withdrawn if d != bundle.digest)
    if rollout < EVERY_MACHINE:
        return replace(channel, candidate=bundle, rollout=rollout, withdrawn=withdrawn)
    before = (*channel.history, settled) if settled else channel.history
    history = tuple(x for x in before if x.digest != bundle.digest)[-MOST_HISTORY:]
    return Channel(settled=bundle, withdrawn=withdrawn, history=history)


def without_bundle(channel: Channel, digest: str) -> Channel:
    """Without that bundle: machines leave it; where it was settled, the one before comes back."""
    history = tuple(x for x in channel.history if x.digest != digest)
    settled, candidate = channel.settled, channel.candidate
    if settled and settled.digest == digest:
        settled, history = (history[-1], history[:-1]) if history else (None, ())
    if candidate and (candidate.digest == digest or candidate == settled):
        candidate = None
    earlier = tuple(d for d in channel.withdrawn if d != digest)
    return Channel(
        settled=settled,
        candidate=candidate,
        rollout=channel.rollout if candidate else 0,
        withdrawn=(*earlier, digest)[-MAX_WITHDRAWN:],
        history=history,
    )


def find_bundle(wanted: str, among: tuple[Listed, ...], where: str) -> Listed:
    """The bundle called ``wanted``: its name, or NAME@VERSION.

    Raises:
        InputError: there is none, or there are several.
    """
    found = {x.digest: x for x in among if wanted in (x.name, x.title)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        choice = " or ".join(x.title for x in found.values())
        raise InputError(f"{where} has several bundles called {wanted}", f"Say {choice}.")
    there = ", ".join(dict.fromkeys(x.title for x in among)) or "nothing"
    raise InputError(f"{where} has no bundle called {wanted}", f"It has {there}.")


def write_channel(channel: Channel, name: str, role: Targets) -> None:
    """Put what the channel offers into the signed part of its role."""
    role.targets = {
        path: TargetFile(x.length, {"sha256": x.sha256}, path, {"custom": _custom(channel, x, p)})
        for slot, x, p in (
            (SETTLED, channel.settled, EVERY_MACHINE),
            (CANDIDATE, channel.candidate, channel.rollout),
        )
        if x
        for path in (target_path(name, slot),)
    }
    role.unrecognized_fields["history"] = [x.to_json() for x in channel.history]
    # On both targets too; here it is also said where nothing is offered any more.
    role.unrecognized_fields["withdrawn"] = list(channel.withdrawn)


def read_channel(name: str, role: Targets) -> Channel:
    """What ``write`` wrote.

    Raises:
        RepositoryError: the role holds something else.
    """
    try:
        slots = {
            slot: _listed(role.targets[path])
            for slot in (SETTLED, CANDIDATE)
            if (path := target_path(name, slot)) in role.targets
        }
        candidate = role.targets.get(target_path(name, CANDIDATE))
        return Channel(
            settled=slots.get(SETTLED),
            candidate=slots.get(CANDIDATE),
            rollout=_percent(candidate.custom["rollout"]) if candidate else 0,
            withdrawn=tuple(map(_digest, role.unrecognized_fields.get("withdrawn", []))),
            history=tuple(map(_from_json, role.unrecognized_fields.get("history", []))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RepositoryError(f"the metadata of {name} are not this centre's: {error}") from error


def stored_path(channel: str, slot: str, sha256: str) -> str:
    """Where its bytes lie below ``public``: the digest before the name, as TUF has it."""
    return f"targets/{channel}/{sha256}.{slot}.bundle"


def _custom(channel: Channel, bundle: Listed, rollout: int) -> dict[str, Any]:
    return {
        "schema": CUSTOM_SCHEMA,
        "name": bundle.name,
        "version": bundle.version,
        "digest": bundle.digest,
        "features_version": bundle.features_version,
        "rollout": rollout,
        "withdrawn": list(channel.withdrawn),
    }


def _listed(target: TargetFile) -> Listed:
    named = {key: target.custom[key] for key in ("name", "version", "digest", "features_version")}
    return _from_json({**named, "length": target.length, "sha256": target.hashes["sha256"]})


def _from_json(value: Mapping[str, Any]) -> Listed:
    return Listed(
        name=str(value["name"]),
        version=str(value["version"]),
        digest=_digest(value["digest"]),
        features_version=int(value["features_version"]),
        length=int(value["length"]),
        sha256=_digest(value["sha256"]),
    )


def _digest(value: object) -> str:
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise ValueError(f"{str(value)[:80]!r} is not a digest")
    return value


def _percent(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= EVERY_MACHINE:
        raise ValueError(f"{str(value)[:20]!r} is not a percentage")
    return value
