"""New signatures before the old ones end."""

from __future__ import annotations

from datetime import timedelta

from tuf.api.metadata import Root, Snapshot, Timestamp

from agent.errors import InputError
from bundles.repository.answers import Answer, signatures_answer
from bundles.repository.guard import locked, require_right_clock
from bundles.repository.publisher import Publisher
from bundles.repository.repository import OFFLINE, ONLINE, ONLINE_KEY

SNAPSHOT_RENEWED = timedelta(days=15)  # half its life: most days only the timestamp is new


def renew_online(where: Publisher, *, clock_is_right: bool = False) -> Answer:
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
            require_right_clock(repository)
        renewed = [Timestamp.type]
        if repository.snapshot().expires - repository.now < SNAPSHOT_RENEWED:
            repository.renew_snapshot()
            renewed.insert(0, Snapshot.type)
        repository.add_online()
        repository.publish()
        return {"action": "timestamp", "renewed": renewed, **signatures_answer(repository)}


def renew_role(where: Publisher, role: str) -> Answer:
    """Sign a role again as it is, to hold its whole life from now.

    Raises:
        InputError: the role is renewed by ``timestamp``, or is none.
        SigningKeyError: keys that must sign are missing.
    """
    if role in (*ONLINE, ONLINE_KEY):
        raise InputError(f"{role} is signed by the online key", "Run `bundles timestamp`.")
    if role not in OFFLINE:
        raise InputError(f"there is no role {role}", f"Renew one of {', '.join(OFFLINE)}.")
    with locked(where.directory):
        repository = where.draft()
        require_right_clock(repository)
        with repository.edit(role):
            pass  # signing is all
        if role != Root.type:
            repository.add_online()
        repository.publish()
        return {"action": "renew", "role": role, **signatures_answer(repository)}
