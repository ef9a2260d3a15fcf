"""From numbers to places in a drawing, and the round numbers to write beside an axis.

x = Axis(low, high, start, end)    # places from start to end; logarithmic unless log=False
x.at(number), x.ticks(most)        # where it lies; what to write beside the axis
spread(numbers, least)             # ends that leave a little room around what is drawn
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

MOST_TICKS: Final = 7
_MANTISSAS: Final = (
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)


@dataclass(frozen=True)
class Axis:
    """One axis of a drawing.

    Attributes:
        low: number at ``start``; positive on a logarithmic axis.
        high: number at ``end``, more than ``low``.
        start: where it starts in the drawing.
        end: where it ends; less than ``start`` on an axis that points up.
        log: equal factors are equally long.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    def at(self, value: float) -> float:
        """The place of a number; one outside lies on the nearer end."""
        inside = min(max(value, self.low), self.high)
        share = (self._of(inside) - self._of(self.low)) / (self._of(self.high) - self._of(self.low))
        return self.start + share * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether a number lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self, most: int = MOST_TICKS) -> list[float]:
        """Round numbers on the axis, at most so many."""
        found = _log_ticks if self.log else _linear_ticks
        return found(self.low, self.high, most)

    def _of(self, value: float) -> float:
        return math.log(value) if self.log else value


def spread(values: Iterable[float], least: float) -> tuple[float, float]:
    """Ends of a logarithmic axis for positive numbers: a little room, and ``least`` as a factor."""
    logs = [math.log(v) for v in values]
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    short = max(0.0, math.log(least) - (high - low)) / 2
    room = short + 0.05 * (high - low + 2 * short)
    return math.exp(low - room), math.exp(high + room)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for mantissas in _MANTISSAS:
        round_numbers = (float(f"{m}e{p}") for p in powers for m in mantissas)
        found = [n for n in round_numbers if low <= n <= high]
        if len(found) <= most:
            return found
    return _thinned(found, most)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    power = 10.0 ** math.floor(math.log10(high - low))
    steps = [m * power * scale for scale in (0.1, 1.0) for m in (1, 2, 5)] + [10 * power]
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [n * step for n in range(first, last + 1)]
    return [low, high]


def _thinned(ticks: Sequence[float], most: int) -> list[float]:
    return list(ticks[:: math.ceil(len(ticks) / most)])
