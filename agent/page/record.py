"""What the page is about: calibrations and checks of one machine.

A calibration may be of an older agent, and lack what newer ones say: every figure may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.calibration.calibration import Point, StoredCalibration
from agent.model.records import Kind
from agent.upkeep.checked import StoredCheck

LEAST, MOST = 1e-30, 1e30  # of numbers that can be drawn


@dataclass(frozen=True)
class Record:
    """All that the page shows.

    Attributes:
        calibrations: newest first.
        in_force: number of the one in force; None: none is.
        checks: whether the calibration then in force still held, newest first.
        notes: what a person should do, in words (of ``agent status``).
        machine: the name of this machine.
        agent: version of the agent that writes the page.
        now: when the page is written, seconds since 1970.
    """

    calibrations: tuple[StoredCalibration, ...]
    in_force: int | None
    checks: tuple[StoredCheck, ...]
    notes: tuple[str, ...]
    machine: str
    agent: str
    now: float

    @property
    def subject(self) -> StoredCalibration | None:
        """What the page is about: the calibration in force, else the newest, if there is one."""
        found = (c for c in self.calibrations if c.id == self.in_force)
        return next(found, next(iter(self.calibrations), None))

    @property
    def newer_checks(self) -> tuple[StoredCheck, ...]:
        """Checks of that calibration."""
        made = self.subject.created_at if self.subject else 0.0
        return tuple(c for c in self.checks if c.created_at >= made)


def drawable(points: Iterable[Point] | None, kind: Kind) -> tuple[Point, ...]:
    """The points of a kind, those that cannot be drawn left out; none of an older agent."""
    return tuple(p for p in points or () if p.kind == kind and _can_be_drawn(p))


def _can_be_drawn(p: Point) -> bool:
    measured = (p.measured, p.low, p.high)
    predicted = (p.calibrated, p.calibrated_low, p.calibrated_high, p.alone)
    return all(LEAST < n < MOST for n in (*measured, *predicted))
