"""What executions longer than the spells in which a core is shared take undisturbed: inferred.

In the share q of its time a program runs f times slower, so of its work a second does

    1 / seconds = (1 - q (1 - 1 / f)) / undisturbed seconds

a straight line in q. Readings meanwhile rise with q (``shots``), so the line is fitted to rounds
and read where the reading is that of an undisturbed core. The slope is the median of the slopes of
all pairs of rounds (Theil 1950; Sen 1968), so that a round that something else disturbed does not
turn it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

ROUNDS = 8  # at least, for a line
EFFICIENCY = 1.25  # sd of a Theil-Sen slope over that of least squares, at most (normal noise)
LEAST_VARIED = (
    0.1  # of what rounds were disturbed by, sd over mean: below, it is the readings' noise
)
MOST_SD = 0.1  # of what is inferred, log units: beyond, the rounds do not tell


@dataclass(frozen=True, slots=True)
class Inferred:
    """Seconds by round as they would have been undisturbed; ``sd``: their common error, log."""

    seconds: Mapping[int, float]
    sd: float


def inferred(rounds: Mapping[int, tuple[float, float]]) -> Inferred | None:
    """Undisturbed seconds from rounds that were disturbed more and less.

    Args:
        rounds: seconds per execution, and by how much the readings meanwhile were above that of an
            undisturbed core (0: none).

    Returns:
        None where rounds are too few, or were disturbed too much alike to tell.
    """
    if len(rounds) < ROUNDS:
        return None
    above = {i: x for i, (_, x) in rounds.items()}
    rate = {i: 1 / seconds for i, (seconds, _) in rounds.items()}
    mean, varied = statistics.fmean(above.values()), statistics.pstdev(above.values())
    if not varied > LEAST_VARIED * mean:
        return None
    slope = _slope([(above[i], rate[i]) for i in rounds])
    undisturbed = {i: rate[i] - slope * above[i] for i in rounds}
    scatter = statistics.stdev(undisturbed.values()) / statistics.median(undisturbed.values())
    sd = EFFICIENCY * scatter * mean / (varied * math.sqrt(len(rounds)))
    return Inferred({i: 1 / r for i, r in undisturbed.items()}, sd) if sd <= MOST_SD else None


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil-Sen; not above 0, since nobody is faster for being disturbed."""
    pairs = combinations(points, 2)
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairs if x1 != x2]
    return min(statistics.median(slopes), 0.0)
