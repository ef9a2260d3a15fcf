"""Times that were taken once and are kept in the state, each under a digest of what decides it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from agent.json_values import MalformedError
from agent.state import typed
from agent.state.file import FILE, damage_of
from agent.state.state import open_state, read_state

if TYPE_CHECKING:
    from dataclasses import Field

    from agent.settings.config import Config

KEPT = 1_000  # of a kind, those taken last


class TakenTime(Protocol):
    """A dataclass with the time it was taken ``at``, seconds since the epoch."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]

    @property
    def at(self) -> float:
        """When."""

    @property
    def can_be(self) -> bool:
        """Whether its numbers fit each other."""

    @property
    def is_sure(self) -> bool:
        """Whether it is worth keeping: another time may be better where others work now."""


T = TypeVar("T", bound=TakenTime)


@dataclass(frozen=True)
class KeptTimes(Generic[T]):
    """All times of a kind, as a fact of the state; they are never sent.

    Attributes:
        fact: its name.
        kind: what is kept.
    """

    fact: str
    kind: type[T]

    def known(self, config: Config) -> Mapping[str, T]:
        """By digest; what cannot be read of it is not there."""
        with read_state(config.state_dir) as state:
            stored = state.fact(self.fact) or {}
        found = {}
        for key, body in stored.items():
            with contextlib.suppress(MalformedError):
                read = typed.from_json(self.kind, body)
                if read.can_be:
                    found[key] = read
        return found

    def keep(self, config: Config, key: str, taken: T) -> None:
        """Keep it, and forget the oldest where there are too many.

        In a state that is whole only: to set a damaged one aside is not for a prediction to do.
        """
        path = config.state_dir / FILE
        if path.exists() and damage_of(path, every_record=True):
            return
        known = {**self.known(config), key: taken}
        newest = sorted(known, key=lambda k: -known[k].at)[:KEPT]
        with open_state(config.state_dir) as state:
            state.remember(self.fact, {k: typed.to_json(known[k]) for k in newest})
