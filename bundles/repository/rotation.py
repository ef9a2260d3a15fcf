"""New keys for old.

A machine follows by itself: each new root is signed by a threshold of the keys it trusts already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Timestamp

from agent.errors import InputError
from agent.settings.config import CHANNELS
from bundles.repository.answers import Answer, Note, signatures_answer
from bundles.repository.guard import locked, require_right_clock
from bundles.repository.keys import file_of
from bundles.repository.publisher import Publisher
from bundles.repository.repository import (
    KEYS,
    OFFLINE,
    ONLINE,
    ONLINE_KEY,
    TARGETS,
    Repository,
)

_BELONGS: Mapping[str, str] = {
    Root.type: "a medium and a place of its own, apart from the other root keys",
    TARGETS: "an offline medium, with the holder of a root key",
    **dict.fromkeys(CHANNELS, "those who release bundles"),
}


def replace_key(
    where: Publisher, wanted: str, place: Path | None = None, *, clock_is_right: bool = False
) -> Answer:
    """Replace a key by a new one; what it signed is signed anew.

    Args:
        where: the repository.
        wanted: ``root`` (the oldest of its keys), ``targets``, ``pilot``, ``stable``, ``online``,
            or the name of a key's file such as ``root-2``.
        place: where the new key goes; default: beside the online key, with a note that it must
            not stay there.
        clock_is_right: a person has looked at the clock; sign even if it seems wrong.

    Raises:
        InputError: no such key; the clock of this computer is plainly wrong.
        SigningKeyError: keys that must sign are missing.
    """
    with locked(where.directory):
        repository = where.draft()
        role, old = _meant(repository, wanted)
        if not clock_is_right:
            require_right_clock(repository, new_online_key=role in ONLINE)
        stem = ONLINE_KEY if role in ONLINE else role
        _, present = repository.role_of(role)
        beside = where.directory / KEYS
        to = beside if role in ONLINE or place is None else place
        name = where.keyring.free_name(stem, present)
        new = where.keyring.make(name, to, encrypted=role not in ONLINE).public_key
        _replace(repository, role, old, new)
        where.keyring.save()
        repository.publish()
        return {
            "action": "rotate-key",
            "role": stem,
            "old": file_of(old),
            "new": str(to / name),
            **signatures_answer(repository, _to_be_moved(role, to / name, beside)),
        }


def _to_be_moved(role: str, new: Path, beside: Path) -> list[Note]:
    """An offline key must not stay with the online one: a thief of this computer had both."""
    if role in ONLINE or new.parent.resolve() != beside.resolve():
        return []
    words = (
        f"{new} lies beside the online key: move it to {_BELONGS[role]}. "
        "With --new-key-in DIR it is written there at once."
    )
    return [("offline-keys-here", words)]


def _meant(repository: Repository, wanted: str) -> tuple[str, Key]:
    """The role and its key that a person names."""
    asked = Timestamp.type if wanted in (*ONLINE, ONLINE_KEY) else wanted.removesuffix(".pem")
    named: dict[str, tuple[str, Key]] = {}
    for role in (*OFFLINE, Timestamp.type):
        _, keys = repository.role_of(role)
        named |= {file_of(key).removesuffix(".pem"): (role, key) for key in keys}
        named.setdefault(role, (role, keys[0]))  # the oldest: new keys come last
        if role == asked:
            return role, keys[0]
    if asked not in named:
        known = ", ".join((*OFFLINE, ONLINE_KEY, *(x for x in named if x not in OFFLINE)))
        raise InputError(f"there is no key {wanted}", f"There are {known}.")
    return named[asked]


def _replace(repository: Repository, role: str, old: Key, new: Key) -> None:
    if role in CHANNELS:
        with repository.edit_targets() as targets:
            targets.revoke_key(old.keyid, role)
            targets.add_key(new, role)
        with repository.edit_targets(role):
            pass  # the new key signs it
    else:
        roles = ONLINE if role in ONLINE else (role,)
        with repository.edit_root() as root:
            for each in roles:
                root.revoke_key(old.keyid, each)
                root.add_key(new, each)
    if role == Root.type:
        return
    if role == TARGETS:
        with repository.edit_targets():
            pass
    repository.add_online()
