"""The newest that was ever accepted: anything older is refused, whatever python-tuf's cache holds.

python-tuf keeps what it saw in files that a power cut can empty. These floors for versions and time
are kept by the caller in durable state, and outlive that cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeGuard, cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Role, Root, Signed, Timestamp

from agent.errors import StateError
from agent.update.refusals import OlderError
from agent.update.times import signed_at

MAX_VERSION = 2**53  # a centre that counts higher is broken; it must fit into the state database
_MOST_SECONDS = 253_402_300_800.0  # to the year 10,000: what calendars hold


@dataclass(frozen=True)
class AcceptedRole:
    """A role that python-tuf accepted, and the keys it was accepted by."""

    signed: Signed
    keys: Role

    @property
    def expires(self) -> float:
        """When its signatures end, in seconds since 1970."""
        return float(self.signed.expires.timestamp())


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
    def from_json(cls, body: Mapping[str, object] | None) -> Floors:
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

    def to_json(self) -> dict[str, object]:
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


def raised(floors: Floors, roles: Mapping[str, AcceptedRole]) -> Floors:
    """The floors after accepting ``roles``; OlderError if they are below those given."""
    latest = signed_at(roles[Timestamp.type].signed)
    versions, keys = dict(floors.versions), dict(floors.keys)
    for name, role in roles.items():
        version, floor = role.signed.version, floors.versions.get(name, 0)
        if not _is_version(version):
            raise RepositoryError(f"the version of {name}.json is not a sensible number")
        restart = name != Root.type and replaced(floors, name, role.keys)
        if version < floor and not restart:
            raise OlderError(
                f"{name}.json has version {version}, older than what this machine has already seen"
                f" (version {floor})"
            )
        versions[name], keys[name] = version, _text_of(role.keys)
    restart = replaced(floors, Timestamp.type, roles[Timestamp.type].keys)
    return Floors(versions, keys, latest if restart else max(latest, floors.signed_at))


def _text_of(keys: Role) -> str:
    # python-tuf lets key identifiers be anything as long as none is asked for.
    return f"{keys.threshold}:{','.join(sorted(map(str, keys.keyids)))}"


def replaced(floors: Floors, name: str, keys: Role) -> bool:
    """Was the floor of a role seen under keys whose signatures no longer suffice?

    Then what an attacker pushed ahead with a stolen key does not hold the machine back (recovery
    from fast-forward attacks), and nothing signed before can be replayed below the new floor.
    """
    before = floors.keys.get(name)
    if before is None:
        return False
    left = set(before.partition(":")[2].split(",")) & set(keys.keyids)
    return len(left) < keys.threshold
