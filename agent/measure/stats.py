"""The statistics of noisy timings: pure functions of numbers, no I/O.

A label is the median of paired log-ratios; its interval is made of two order statistics, so
that nothing is assumed about the noise's distribution: for n independent ratios the interval
from the k-th smallest to the k-th largest holds the true median with probability exactly
``1 - 2 * P(Binomial(n, 1/2) < k)`` (David & Nagaraja, Order Statistics, section 7.1). The
narrowest such interval that covers at least the asked share is used, so it covers 80 % or more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

LEVEL = 0.8
DIFFERENT_LEVEL = 0.95  # two programs are called different when this interval excludes 0
FEWEST_ROUNDS = 5  # whose whole range holds the median in 94 %: fewer never show a difference


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """A median with the order statistics around it.

    Attributes:
        median: of the sample.
        low: lower order statistic; ``high``: upper one.
        coverage: the exact probability that [low, high] holds the true median; below the
            level asked for only where the sample is too small (then the whole range is given).
    """

    median: float
    low: float
    high: float
    coverage: float

    @property
    def width(self) -> float:
        """``high - low``."""
        return self.high - self.low

    def widened(self, sd: float, level: float = LEVEL) -> MedianInterval:
        """The same for another occasion, which differs by ``sd`` besides; both in log units."""
        more = half_width(level) * sd
        low = self.median - math.hypot(self.median - self.low, more)
        return replace(self, low=low, high=self.median + math.hypot(self.high - self.median, more))


def interval_coverage(n: int, k: int) -> float:
    """Probability that the k-th smallest to k-th largest of n values hold the true median.

    >>> interval_coverage(5, 1)
    0.9375
    """
    return 1.0 - sum(math.comb(n, i) for i in range(k)) / float(2 ** (n - 1))


def order_rank(n: int, level: float) -> int:
    """The largest k >= 1 whose interval covers at least ``level`` (1 where none does)."""
    k = 1
    while 2 * (k + 1) <= n and interval_coverage(n, k + 1) >= level:
        k += 1
    return k


def median_interval(values: Sequence[float], level: float = LEVEL) -> MedianInterval:
    """The median of ``values`` and its order-statistic interval; ValueError if empty."""
    if not values:
        raise ValueError("no values")
    ordered, n = sorted(values), len(values)
    k = order_rank(n, level)
    return MedianInterval(
        statistics.median(ordered), ordered[k - 1], ordered[n - k], interval_coverage(n, k)
    )


def half_width(level: float) -> float:
    """Of a standard normal's central interval that holds ``level``."""
    return statistics.NormalDist().inv_cdf((1 + level) / 2)


def called_different(ratios: Sequence[float], level: float = DIFFERENT_LEVEL) -> bool:
    """Whether the interval of the median log-ratio excludes 0 (never below the asked level)."""
    interval = median_interval(ratios, level)
    return interval.coverage >= level and not interval.low <= 0 <= interval.high


def different_again(ratios: Sequence[float], sd: float) -> bool:
    """Whether another session would find a difference of the same sign, whose sd is ``sd``."""
    if len(ratios) < FEWEST_ROUNDS:
        return False
    interval = median_interval(ratios, DIFFERENT_LEVEL).widened(sd, DIFFERENT_LEVEL)
    return not interval.low <= 0 <= interval.high


def quantile(values: Sequence[float], share: float) -> float:
    """The value at ``share`` of the sorted sample, linearly interpolated; ValueError if empty."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = min(int(position), len(ordered) - 2) if len(ordered) > 1 else 0
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """What timing a program against itself gives on this machine (A/A), in log units.

    Attributes:
        label_median: median over kernels of |label|, a label being a median over rounds.
        label_p90: 90th percentile of the same.
        round_median: median of |log-ratio| of single rounds; ``round_p90``: 90th percentile.
        called_different: share of kernels called different from themselves (95 % interval).
        kernels: how many A/A labels these figures are made of.
    """

    label_median: float
    label_p90: float
    round_median: float
    round_p90: float
    called_different: float
    kernels: int


def noise_floor(noise: Sequence[Sequence[float]]) -> NoiseFloor | None:
    """Combine A/A log-ratios, one sequence a kernel; None where there are none."""
    usable = [ratios for ratios in noise if ratios]
    if not usable:
        return None
    labels = [abs(statistics.median(ratios)) for ratios in usable]
    rounds = [abs(r) for ratios in usable for r in ratios]
    return NoiseFloor(
        label_median=statistics.median(labels),
        label_p90=quantile(labels, 0.9),
        round_median=statistics.median(rounds),
        round_p90=quantile(rounds, 0.9),
        called_different=sum(map(called_different, usable)) / len(usable),
        kernels=len(usable),
    )


def round_order(slots: Sequence[int], index: int) -> tuple[int, ...]:
    """The order of slots in round ``index``: rotated, balanced, alternately reversed.

    A Williams design: over ``len(slots)`` rounds (twice as many where that is odd) every slot
    takes every place equally often and follows every other slot equally often, so that what a
    program leaves behind (caches, clock frequency) is shared out evenly.
    """
    n = len(slots)
    zigzag = [(i + 1) // 2 if i % 2 else (n - i // 2) % n for i in range(n)]
    order = tuple(slots[(z + index // 2) % n] for z in zigzag)
    return order[::-1] if index % 2 else order
