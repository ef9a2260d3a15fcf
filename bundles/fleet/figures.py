"""Figures from counts: quantiles of a spread, intervals of shares and of differences. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bundles.fleet.released import Spread

DRAWS = 4000
Z95 = 1.959964
Floats = npt.NDArray[np.float64]


def machines_of(spread: Spread) -> int:
    """How many machines it counts."""
    return sum(part.machines for part in spread)


def quantiles(spread: Spread, shares: Sequence[float], step: float) -> list[float]:
    """Values below which such shares of the machines are, in units of ``step`` a bin.

    Between the means of two groups of machines it goes along a straight line.
    """
    values, counts = _arrays(spread)
    middles = np.cumsum(counts) - counts / 2
    wanted = np.asarray(shares) * counts.sum()
    return [float(x) for x in np.interp(wanted, middles, values * step)]


def wilson(some: int, all_: int) -> tuple[float, float]:
    """A 95 % interval of a share (Wilson 1927); 0 to 1 where there is nothing to count."""
    if not all_:
        return 0.0, 1.0
    share, square = some / all_, Z95 * Z95
    middle = share + square / (2 * all_)
    half = Z95 * math.sqrt(share * (1 - share) / all_ + square / (4 * all_ * all_))
    scale = 1 + square / all_
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def difference(
    ours: Mapping[str, Spread], theirs: Mapping[str, Spread], step: float
) -> tuple[float, float, float]:
    """Mean of ours minus mean of theirs, like with like, and its 95 % interval.

    Both are compared within each stratum (architecture) that both have; strata weigh as ours do.
    The interval is a bootstrap over counts: machines of each stratum are drawn again, 4,000 times.

    Returns:
        estimate, low, high; in units of ``step`` a bin.
    """
    strata = sorted(ours.keys() & theirs.keys())
    weights = np.array([machines_of(ours[name]) for name in strata], float)
    weights /= weights.sum()
    generator = np.random.default_rng(0)  # the same counts give the same interval, always

    estimate, draws = 0.0, np.zeros(DRAWS)
    for name, weight in zip(strata, weights, strict=True):
        estimate += weight * (_mean(ours[name]) - _mean(theirs[name]))
        draws += weight * (_drawn(ours[name], generator) - _drawn(theirs[name], generator))
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(estimate) * step, float(low) * step, float(high) * step


def _mean(spread: Spread) -> float:
    values, counts = _arrays(spread)
    return float(values @ counts / counts.sum())


def _drawn(spread: Spread, generator: np.random.Generator) -> Floats:
    """Means of as many machines, drawn again."""
    values, counts = _arrays(spread)
    total = int(counts.sum())
    return generator.multinomial(total, counts / total, size=DRAWS) @ values / total


def _arrays(spread: Spread) -> tuple[Floats, Floats]:
    return np.array([p.value for p in spread], float), np.array([p.machines for p in spread], float)
