"""Figures from counts: quantiles of a spread, intervals of shares and of differences. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agent.arrays import Doubles
from bundles.fleet.analysis.released import Spread

Z95 = 1.959964
RELEASES = (
    15  # of one week: daily, while it is open; so a lot has a 15th of its machines, on average
)
LARGE = 2.5  # times the threshold: lots of which the means show about half of the variance, or more
HIDDEN = 3  # a lot's means hide at most 3 thresholds / machines of its variance (measured: tests)
ALIKE = 2  # times as large as that of others may a variance be that nobody sees
ROUNDED = 1 / 12  # variance of a mean that is told as a whole bin
TWO_BINS = 0.25  # largest variance of means that are told as one bin or the next
FEWEST_FREE = 4  # degrees of freedom on either side: five means of one architecture


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


def mean_difference(
    ours: Mapping[str, Spread],
    theirs: Mapping[str, Spread],
    step: float,
    threshold: int,
    releases: int = RELEASES,
) -> tuple[float, float | None]:
    """Mean of ours minus mean of theirs, like with like, and how far a 95 % interval goes.

    Both are compared within each stratum (architecture) that both have; strata weigh as ours do.
    The interval is Student's, from variances that are rather too large (``_Scatter``).

    Args:
        ours: by stratum.
        theirs: likewise.
        step: of one bin.
        threshold: machines that a lot, and a group of a lot, has at least.
        releases: at most so many lots of one stratum there were.

    Returns:
        Estimate and half of the interval, in units of ``step`` a bin; None: nobody can tell.
    """
    strata = sorted(ours.keys() & theirs.keys())
    sides = [[side[name] for name in strata] for side in (ours, theirs)]
    machines = np.array([[machines_of(spread) for spread in side] for side in sides], float)
    weights = machines[0] / machines[0].sum()
    means = np.array([[_mean(spread) for spread in side] for side in sides])
    estimate = float(weights @ (means[0] - means[1])) * step

    lender = _known([*sides[0], *sides[1]], threshold, releases)
    found = [_limited(_scatter(side, threshold), lender) for side in sides]
    if min(scatter.freedom for scatter in found) < FEWEST_FREE:
        return estimate, None
    parts = [
        scatter.most * float((weights**2 / side).sum())
        for scatter, side in zip(found, machines, strict=True)
    ]
    freedom = sum(parts) ** 2 / sum(
        part**2 / scatter.freedom for part, scatter in zip(parts, found, strict=True)
    )  # Welch and Satterthwaite
    variance = sum(parts) + sum(_rounding(scatter.visible) for scatter in found)
    return estimate, student(freedom) * math.sqrt(variance) * step


def _rounding(visible: float) -> float:
    """Variance of what rounding does to all means alike: nothing unless one or two bins hold them.

    Beyond that it averages out, as fast as a normal curve of their width has no period of a bin.
    """
    return ROUNDED * math.exp(-((2 * math.pi) ** 2) * max(0.0, visible - TWO_BINS))


def student(freedom: float) -> float:
    """What 2.5 % of Student's t lie above (series in 1 / freedom; right to 1 % from 4 on)."""
    z = Z95
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


class _Scatter(NamedTuple):
    """How much machines of one stratum differ: bounds of a variance, in bins.

    Means of a lot's machines in order show nearly all of it if there are several of them, and next
    to nothing if there is one. Which it was is not kept, so there are two bounds.

    Attributes:
        visible: that of the means. The machines' own is not below it.
        most: the machines' own if every mean were of a lot by itself: not above it.
        freedom: means that tell, less one a stratum.
    """

    visible: float
    most: float
    freedom: float


def _scatter(spreads: Sequence[Spread], threshold: int) -> _Scatter:
    alone = 2 * threshold - 1  # machines; with more there are two means, but for ties
    seen = machines = weighed = room = freedom = 0.0
    for spread in spreads:
        values, counts = _arrays(spread)
        squares = (values - _mean(spread)) ** 2
        groups = float(np.ceil(counts / alone).sum())
        seen += float(counts @ squares)
        machines += float(counts.sum())
        weighed += float((counts * np.minimum(counts, alone)) @ squares)
        room += float(counts.sum()) * (1 - 1 / groups)
        freedom += groups - 1
    most = max(weighed / room if room else 0.0, alone * ROUNDED)
    return _Scatter(seen / machines if machines else 0.0, most, freedom)


def _known(spreads: Sequence[Spread], threshold: int, releases: int) -> _Scatter | None:
    """From the strata with so many machines that their lots must have had several means."""
    enough = LARGE * threshold * releases
    large = [spread for spread in spreads if machines_of(spread) >= enough]
    if not large:
        return None
    found = _scatter(large, threshold)
    lot = sum(map(machines_of, large)) / len(large) / releases
    return found._replace(
        most=max(found.visible * (1 + HIDDEN * threshold / lot), threshold * ROUNDED)
    )


def _limited(scatter: _Scatter, lender: _Scatter | None) -> _Scatter:
    """With help of what is known of others: nobody's variance is more than twice theirs, unseen."""
    if lender is None:
        return scatter
    limit = ALIKE * max(lender.most, scatter.visible)
    if scatter.freedom >= FEWEST_FREE and scatter.most <= limit:
        return scatter
    return _Scatter(scatter.visible, limit, lender.freedom)


def _mean(spread: Spread) -> float:
    values, counts = _arrays(spread)
    return float(values @ counts / counts.sum())


def _arrays(spread: Spread) -> tuple[Doubles, Doubles]:
    return np.array([p.value for p in spread], float), np.array([p.machines for p in spread], float)
