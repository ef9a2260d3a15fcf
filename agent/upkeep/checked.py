"""What a check found, as the state keeps it and ``--json`` gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.clock import stamp
from agent.state import typed
from agent.state.state import StoredRecord

if TYPE_CHECKING:
    from agent.state.state import State

CheckVerdict = Literal["holds", "changed", "unclear"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a calibration should be made.

    Codes: ``never``, ``machine``, ``microcode``, ``kernel``, ``compiler``, ``bundle``, ``drift``,
    ``age``, ``refused``.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SentinelChange:
    """One quantity then and now.

    Attributes:
        kernel: of the fixed set.
        schedule: ``original``: its seconds as written; else the speed-up under this schedule.
        log_ratio: log(now / then); positive: more seconds, or a larger speed-up, than then. Of
            several looks the one nearest to no change.
        limit: beyond which it counts as changed, in log units.
        looks: what each look found, in order; empty: by an older agent.
    """

    kernel: str
    schedule: str
    log_ratio: float
    limit: float
    looks: tuple[float, ...] = ()

    @property
    def agreed(self) -> bool:
        """Do all looks find a change in the same direction?"""
        return len({look > 0 for look in self.looks}) < 2

    @property
    def beyond(self) -> bool:
        """Is it beyond its limit, in every look and in the same direction?"""
        return self.agreed and abs(self.log_ratio) > self.limit


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a calibration still holds (docs/reference/schemas/check.json).

    Attributes:
        calibration: its number; 0: not known.
        verdict: ``holds``, ``changed``, or ``unclear`` where something disturbed the timing, or
            nothing could be timed.
        worst: largest change of a sentinel, in log units.
        sentinels: what was timed.
        reasons: facts that have changed; nothing is timed then.
        disturbed: whether something disturbed the timing.
        elapsed_s: how long it took.
    """

    calibration: int = 0
    verdict: CheckVerdict = "unclear"
    worst: float = 0.0
    sentinels: tuple[SentinelChange, ...] = ()
    reasons: tuple[Reason, ...] = ()
    disturbed: bool = False
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Checked:
    """A check just made: what it found, and when it and its calibration were made (since 1970)."""

    found: Check
    checked_at: float
    calibrated_at: float

    def to_json(self) -> dict[str, object]:
        """The answer of ``agent check``."""
        times = {"checked_at": stamp(self.checked_at), "calibrated_at": stamp(self.calibrated_at)}
        return typed.to_json(self.found) | times


StoredCheck = StoredRecord[Check]


def stored_checks(state: State) -> tuple[StoredCheck, ...]:
    """Checks on record, newest first."""
    kept = state.drifts()
    return tuple(StoredRecord(c.id, c.created_at, typed.from_json(Check, c.body)) for c in kept)
