"""What a channel offers: the fields of its signed targets that are our own, each checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TargetFile, Targets

from agent.update.floors import MAX_VERSION

SLOTS = ("settled", "candidate")
CUSTOM_SCHEMA = 1
MAX_WITHDRAWN = 100
DIGEST = re.compile(r"[0-9a-f]{64}")


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


def target_path(channel: str, slot: str) -> str:
    """The name of a channel's target."""
    return f"{channel}/{slot}.bundle"


def offers_of(
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
    withdrawn_digests(custom.get("withdrawn"))
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


def _text(path: str, custom: Mapping[str, object], key: str) -> str:
    value = custom.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        _refuse(path, key)
    return value


def _whole(path: str, custom: Mapping[str, object], key: str, most: int) -> int:
    value = custom.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        _refuse(path, key)
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise RepositoryError("a digest is not 64 hexadecimal digits")
    return value


def withdrawn_digests(value: object) -> frozenset[str]:
    """Digests that machines must leave, as metadata list them; RepositoryError for else."""
    if not isinstance(value, list) or len(value) > MAX_WITHDRAWN:
        raise RepositoryError(f"what is withdrawn is not a list of at most {MAX_WITHDRAWN} digests")
    return frozenset(map(_digest, value))
