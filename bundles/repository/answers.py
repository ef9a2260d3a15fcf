"""What commands on a repository answer: its channels and roles as plain data, and notes on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bundles.repository.channel import Listed
from bundles.repository.keys import file_of
from bundles.repository.published import channel_of
from bundles.repository.repository import OFFLINE, ONLINE, ROLES, TIME, Repository

SOON = timedelta(days=60)
Answer = dict[str, Any]
Note = tuple[str, str]  # code, message


@dataclass(frozen=True)
class RoleState:
    """How a role stands.

    Attributes:
        role, version, expires: of its newest file.
        threshold, keys: who signs it; names of key files.
    """

    role: str
    version: int
    expires: datetime
    threshold: int
    keys: tuple[str, ...]

    def days_left(self, now: datetime) -> float:
        """Days until it expires; negative after that."""
        return (self.expires - now) / timedelta(days=1)

    def to_json(self, now: datetime) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "role": self.role,
            "version": self.version,
            "expires": self.expires.strftime(TIME),
            "days_left": round(self.days_left(now), 2),
            "threshold": self.threshold,
            "keys": list(self.keys),
        }


def role_states(repository: Repository) -> list[RoleState]:
    """All roles, root first."""
    found = []
    for role in ROLES:
        signed = repository.open(role).signed
        listed, keys = repository.role_of(role)
        names = tuple(map(file_of, keys))
        found.append(RoleState(role, signed.version, signed.expires, listed.threshold, names))
    return found


def change_answer(
    repository: Repository,
    action: str,
    bundle: Listed,
    names: Sequence[str],
    notes: list[Note],
    *,
    changed: bool = True,
) -> Answer:
    """What was done with ``bundle``, and how the channels ``names`` are now."""
    return {
        "action": action,
        "changed": changed,
        "bundle": bundle.to_json(),
        "channels": [channel_answer(name, repository) for name in names],
        **signatures_answer(repository, notes),
    }


def channel_answer(name: str, repository: Repository) -> Answer:
    """A channel as its machines see it."""
    now = channel_of(repository, name)
    candidate = now.candidate
    return {
        "channel": name,
        "settled": now.settled.to_json() if now.settled else None,
        "candidate": {**candidate.to_json(), "rollout": now.rollout} if candidate else None,
        "withdrawn": list(now.withdrawn),
        "history": [x.to_json() for x in now.history],
    }


def signatures_answer(repository: Repository, notes: Sequence[Note] = ()) -> Answer:
    """How long signatures hold, with what to say about it."""
    states = role_states(repository)
    told = [*notes, *expiry_notes(states, repository.now)]
    return {
        "repository": str(repository.directory),
        "roles": [state.to_json(repository.now) for state in states],
        "notes": notes_to_json(told),
    }


def notes_to_json(notes: Sequence[Note]) -> list[dict[str, str]]:
    """For ``--json``: as notes of the agent's answers."""
    return [{"code": code, "message": message} for code, message in notes]


def expiry_notes(states: Sequence[RoleState], now: datetime) -> list[Note]:
    """Roles whose signatures end soon, or have ended."""
    notes = []
    for state in states:
        left = state.days_left(now)
        renew = f"`bundles repo renew {state.role}`"
        if state.role in ONLINE:
            renew = "`bundles timestamp`"
        if left <= 0:
            words = f"The signature of {state.role} has expired: machines refuse it. Run {renew}."
            notes.append(("expired", words))
        elif state.role in OFFLINE and left < SOON.days:
            words = f"The signature of {state.role} holds for {left:.0f} days more. Run {renew}."
            notes.append(("expires-soon", words))
    return notes
