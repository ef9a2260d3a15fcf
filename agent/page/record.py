"""What the page is about: calibrations and checks of one machine, read without trust.

A calibration may be of an older agent, and lack what newer ones say: every figure may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Body = Mapping[str, Any]
Kind = Literal["speedup", "seconds"]
NOTHING: Body = {}


@dataclass(frozen=True)
class Entry:
    """A calibration or a check: its number, when it was made (seconds since 1970), what it says."""

    id: int
    at: float
    body: Body


@dataclass(frozen=True)
class Record:
    """All that the page shows.

    Attributes:
        calibrations: newest first; the first one is in force.
        checks: whether the calibration then in force still held, newest first.
        notes: what a person should do, in words (of ``agent status``).
        machine: the name of this machine.
        agent: version of the agent that writes the page.
        now: when the page is written, seconds since 1970.
    """

    calibrations: tuple[Entry, ...]
    checks: tuple[Entry, ...]
    notes: tuple[str, ...]
    machine: str
    agent: str
    now: float


@dataclass(frozen=True)
class Point:
    """A timing beside what was predicted of it: speed-ups or seconds, all positive.

    Attributes:
        kernel: of the fixed set.
        schedule: of the timed version.
        measured: the label, ``low`` and ``high`` the ends of its 80 % interval.
        low: see there.
        high: see there.
        calibrated: predicted by a model of this machine that had not seen the kernel.
        calibrated_low: lower end of its 80 % interval.
        calibrated_high: upper end.
        alone: predicted by the bundle alone.
    """

    kernel: str
    schedule: str
    measured: float
    low: float
    high: float
    calibrated: float
    calibrated_low: float
    calibrated_high: float
    alone: float

    @property
    def off(self) -> float:
        """By which factor the prediction is off; 1 is exact."""
        return math.exp(abs(math.log(self.calibrated / self.measured)))

    @property
    def held(self) -> bool:
        """Whether the measured value lies in the predicted interval."""
        return self.calibrated_low <= self.measured <= self.calibrated_high


_NUMBERS = ("measured", "low", "high", "calibrated", "calibrated_low", "calibrated_high", "alone")


def points_of(body: Body, kind: Kind) -> tuple[Point, ...]:
    """The points of a calibration, those that cannot be drawn left out; none of an older agent."""
    found = []
    for item in records(body, "points"):
        numbers = [number(item, name) for name in _NUMBERS]
        if item.get("kind") == kind and all(n is not None and 1e-30 < n < 1e30 for n in numbers):
            values = [float(n) for n in numbers if n is not None]
            found.append(Point(words(item, "kernel"), words(item, "schedule"), *values))
    return tuple(found)


def part(body: Body, *path: str) -> Body:
    """The record below a path of keys; an empty one where there is none."""
    for key in path:
        found = body.get(key)
        body = found if isinstance(found, Mapping) else NOTHING
    return body


def records(body: Body, key: str) -> list[Body]:
    """The records in a list; none where there is no list."""
    found = body.get(key)
    return [x for x in found if isinstance(x, Mapping)] if isinstance(found, list) else []


def number(body: Body, key: str) -> float | None:
    """A finite number, or None."""
    found = body.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if abs(found) < 1e300 else None  # NaN compares false


def words(body: Body, key: str) -> str:
    """A text, empty where there is none."""
    found = body.get(key)
    return found if isinstance(found, str) else ""


def texts(body: Body, key: str) -> Sequence[str]:
    """The texts in a list."""
    found = body.get(key)
    return [str(x) for x in found] if isinstance(found, list | tuple) else []
