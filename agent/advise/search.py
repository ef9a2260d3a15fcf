"""The decisions of a search: what a program's timings teach, what is timed next, who has won.

Nothing here acts: programs are rows of numbers, timings are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.advise.own_function import OwnTimes, has_gained
from agent.arrays import Doubles
from agent.measure.timing import Timing

SHARE = 0.5  # of the error of the predicted time as written that every speed-up has too (measured)
PROGRAM_SD = 0.5  # of an error that all versions of a program have in common, log units
VERSION_SD = 0.35  # of one that versions share the more, the more alike they are
TIMING_SD = 0.05  # the least of what a timing says of its version
BEST_SHARE = 2 / 3  # of a batch are the best by what is known; the rest could be better still


@dataclass(frozen=True)
class Correction:
    """What timings of a program say of the errors of its predictions: a Gaussian process.

    Attributes:
        vectors: [n, E] of the versions that were timed.
        weights: [n], ``inverse``: [n, n] of the covariance; of the process.
        length: the distance within which versions are alike.
        shift: an error known without them.
    """

    vectors: Doubles
    weights: Doubles
    inverse: Doubles
    length: float
    shift: float

    @staticmethod
    def of(
        vectors: Doubles, residuals: Doubles, doubts: Doubles, length: float, shift: float
    ) -> Correction:
        """From ``residuals`` [n], log speed-ups measured less predicted, +- ``doubts`` [n]."""
        noise = np.diag(np.maximum(doubts, TIMING_SD) ** 2)  # so that it can be inverted, too
        inverse = np.linalg.inv(_alike(vectors, vectors, length) + noise).astype(np.float64)
        return Correction(vectors, inverse @ (residuals - shift), inverse, length, shift)

    def at(self, vectors: Doubles) -> tuple[Doubles, Doubles]:
        """Errors to be expected at ``vectors`` [m, E], and their standard deviations."""
        prior = PROGRAM_SD**2 + VERSION_SD**2
        cross = _alike(vectors, self.vectors, self.length)
        explained = ((cross @ self.inverse) * cross).sum(axis=1)
        sd = np.sqrt(np.maximum(prior - explained, 1e-12))
        return self.shift + cross @ self.weights, sd


def _alike(one: Doubles, two: Doubles, length: float) -> Doubles:
    squares = ((one[:, None, :] - two[None, :, :]) ** 2).sum(axis=2)
    near: Doubles = PROGRAM_SD**2 + VERSION_SD**2 * np.exp(-squares / (2 * length**2))
    return near


def length_of(vectors: Doubles) -> float:
    """A distance within which versions are alike: half the median one, of some of them."""
    some = vectors[:: max(1, len(vectors) // 64)]
    distances = np.sqrt(((some[:, None, :] - some[None, :, :]) ** 2).sum(axis=2))
    apart = distances[distances > 0]
    return float(np.median(apart)) / 2 if len(apart) else 1.0


def next_batch(mean: Doubles, sd: Doubles, free: Sequence[int], count: int) -> list[int]:
    """Which of the versions ``free`` to time: the best, and some that could be better than they."""
    best = sorted(free, key=lambda n: (-mean[n], n))[: math.ceil(count * BEST_SHARE)]
    rest = sorted(set(free) - set(best), key=lambda n: (-(mean[n] + sd[n]), n))
    return [*best, *rest[: count - len(best)]]


def expected_gain(mean: Doubles, sd: Doubles, free: Sequence[int], best: float) -> float:
    """The most that timing one of ``free`` is expected to add to the log speed-up ``best``."""
    if not len(free):
        return 0.0
    chosen = list(free)
    over = (mean[chosen] - best) / sd[chosen]
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in over])
    gains = sd[chosen] * (over * below + np.exp(-(over**2) / 2) / math.sqrt(2 * math.pi))
    return float(gains.max())


@dataclass(frozen=True)
class Verdict:
    """Who has won: places in a list.

    Attributes:
        winner: the first of ``tied``; None: the program as written.
        tied: what cannot be told from the fastest, the simplest first.
        others: what has gained as well, the fastest first.
    """

    winner: int | None
    tied: tuple[int, ...] = ()
    others: tuple[int, ...] = ()


def verdict_of(
    timings: Sequence[Timing],
    texts: Sequence[str],
    steps: Sequence[int],
    own: OwnTimes | None = None,
) -> Verdict:
    """The simplest of those that cannot be told from the fastest: fewest steps, then by text.

    Only what is faster than the person's function counts; where that was not timed (``own``), than
    the program as the agent writes it.
    """
    order = sorted(range(len(timings)), key=lambda n: -timings[n].log_speedup)
    winning = [n for n in order if has_gained(timings[n], own)]
    if not winning:
        return Verdict(None)
    least = timings[winning[0]].low
    near = [n for n in winning if timings[n].high >= least]
    tied = sorted(near, key=lambda n: (steps[n], texts[n]))
    return Verdict(tied[0], tuple(tied), tuple(n for n in winning if n not in near))
