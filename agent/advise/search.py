"""The decisions of a search: what a program's timings teach, what is timed next, who has won.

Nothing here acts: programs are rows of numbers, timings are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.advise.own_function import OwnTimes, has_gained
from agent.arrays import Doubles
from agent.measure.stats import DIFFERENT_LEVEL, half_width
from agent.measure.timing import Timing
from agent.model.posterior import Z80

PROGRAM_SD = 0.5  # of an error that all versions of a program have in common, log units
VERSION_SD = 0.35  # of one that versions share the more, the more alike they are
GUESS_SD = 0.7  # of one that versions with the same marks share which the bundle was not taught
LEAST_SD = 1e-3  # of a timing, log units
TIMING_SD = 0.05  # the least of what a timing says of its version
BEST_SHARE = 2 / 3  # of a batch are the best by what is known; the rest could be better still
APART = 0.1  # of that distance lie between versions of a batch
MOST_PASSED_OVER = 400  # for being alike


@dataclass(frozen=True)
class Versions:
    """Versions of a program as a search sees them.

    Attributes:
        vectors: [n, E] embeddings.
        untaught: [n, K] which marks each has that the bundle was not taught: of length 1, or zeros.
    """

    vectors: Doubles
    untaught: Doubles

    def take(self, places: Sequence[int]) -> Versions:
        """Some of them."""
        at = np.array(places, np.intp)
        return Versions(self.vectors[at], self.untaught[at])


@dataclass(frozen=True)
class Correction:
    """What timings of a program say of the errors of its predictions: a Gaussian process.

    Attributes:
        timed: the n versions that were timed.
        weights: [n], ``inverse``: [n, n] of the covariance; of the process.
        length: the distance within which versions are alike.
    """

    timed: Versions
    weights: Doubles
    inverse: Doubles
    length: float

    @staticmethod
    def of(timed: Versions, residuals: Doubles, doubts: Doubles, length: float) -> Correction:
        """From ``residuals`` [n], log speed-ups measured less predicted, +- ``doubts`` [n]."""
        noise = np.diag(np.maximum(doubts, TIMING_SD) ** 2)  # so that it can be inverted, too
        inverse = np.linalg.inv(_alike(timed, timed, length) + noise).astype(np.float64)
        return Correction(timed, inverse @ residuals, inverse, length)

    def at(self, versions: Versions) -> tuple[Doubles, Doubles]:
        """Errors to be expected of m ``versions``, and their standard deviations."""
        guessed = GUESS_SD**2 * (versions.untaught**2).sum(axis=1)
        cross = _alike(versions, self.timed, self.length)
        explained = ((cross @ self.inverse) * cross).sum(axis=1)
        sd = np.sqrt(np.maximum(PROGRAM_SD**2 + VERSION_SD**2 + guessed - explained, 1e-12))
        return cross @ self.weights, sd


def _alike(one: Versions, two: Versions, length: float) -> Doubles:
    near = np.exp(-_squares(one.vectors, two.vectors) / (2 * length**2))
    guessed = one.untaught @ two.untaught.T
    return np.asarray(PROGRAM_SD**2 + VERSION_SD**2 * near + GUESS_SD**2 * guessed)


def _squares(one: Doubles, two: Doubles) -> Doubles:
    """Squared distances [n, m] of vectors [n, E] and [m, E]; no array [n, m, E] is made."""
    both = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1)[None, :]
    return np.asarray(np.maximum(both - 2 * one @ two.T, 0.0))


def length_of(vectors: Doubles) -> float:
    """A distance within which versions are alike: half the median one, of some of them."""
    some = vectors[:: max(1, len(vectors) // 64)]
    distances = np.sqrt(((some[:, None, :] - some[None, :, :]) ** 2).sum(axis=2))
    apart = distances[distances > 0]
    return float(np.median(apart)) / 2 if len(apart) else 1.0


@dataclass(frozen=True)
class Alike:
    """Which versions are so alike that timing one of them says enough of the other.

    Attributes:
        vectors: [n, E] of all versions.
        length: the distance within which versions are alike.
    """

    vectors: Doubles
    length: float

    def far(self, place: int, chosen: Sequence[int]) -> bool:
        """Whether a version is worth its time beside those chosen."""
        squares = ((self.vectors[list(chosen)] - self.vectors[place]) ** 2).sum(axis=1)
        return bool((squares > (APART * self.length) ** 2).all())


def next_batch(
    mean: Doubles,
    sd: Doubles,
    free: Sequence[int],
    count: int,
    alike: Alike,
    guesses: Sequence[int] = (),
) -> list[int]:
    """Which of the versions ``free`` to time: the best, and some that could be better than they.

    One is the best of ``guesses``, those of ``free`` with marks that the bundle was not taught:
    what it predicts of all of them may be far too low. No two are alike, as far as there are
    others.
    """
    chosen = _best_apart(mean, free, [], math.ceil(count * BEST_SHARE), alike)
    if len(chosen) < count:
        chosen += _best_apart(mean, guesses, chosen, 1, alike)
    chosen += _best_apart(mean + sd, free, chosen, count - len(chosen), alike)
    rest = _best(mean, [n for n in free if n not in chosen])
    return [*chosen, *rest[: count - len(chosen)]]


def _best(worth: Doubles, free: Sequence[int]) -> list[int]:
    at = np.array(free, np.int64)
    return [int(n) for n in at[np.argsort(-worth[at], kind="stable")]]


def _best_apart(
    worth: Doubles, free: Sequence[int], chosen: Sequence[int], count: int, alike: Alike
) -> list[int]:
    found: list[int] = []
    for n in _best(worth, free)[:MOST_PASSED_OVER]:
        if len(found) == count:
            break
        if n not in chosen and alike.far(n, [*chosen, *found]):
            found.append(n)
    return found


def expected_gain(mean: Doubles, sd: Doubles, free: Sequence[int], best: float) -> float:
    """The most that timing one of ``free`` is expected to add to the log speed-up ``best``."""
    if not len(free):
        return 0.0
    chosen = np.array(free, np.int64)
    over = (mean[chosen] - best) / sd[chosen]
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in over])
    gains = sd[chosen] * (over * below + np.exp(-(over**2) / 2) / math.sqrt(2 * math.pi))
    return float(gains.max())


def pooled(one: Timing, two: Timing) -> Timing:
    """Two timings of a version as one, each weighted by how sure it is.

    It is no surer than the two agree.
    """
    weights = np.array([1 / _sd(t) ** 2 for t in (one, two)])
    gain = float(np.average([one.log_speedup, two.log_speedup], weights=weights))
    sd = max(float(weights.sum() ** -0.5), abs(one.log_speedup - two.log_speedup) / 4)
    return replace(
        two,
        log_speedup=gain,
        low=gain - Z80 * sd,
        high=gain + Z80 * sd,
        rounds=one.rounds + two.rounds,
        different=abs(gain) > half_width(DIFFERENT_LEVEL) * sd,
    )


def _sd(timing: Timing) -> float:
    return max((timing.high - timing.low) / (2 * Z80), LEAST_SD)


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
    simplicity: Sequence[tuple[int, bool, str]],
    own: OwnTimes | None = None,
) -> Verdict:
    """The simplest of those that cannot be told from the fastest.

    Only what is faster than the person's function counts; where that was not timed (``own``), than
    the program as the agent writes it.
    """
    order = sorted(range(len(timings)), key=lambda n: -timings[n].log_speedup)
    winning = [n for n in order if has_gained(timings[n], own)]
    if not winning:
        return Verdict(None)
    least = timings[winning[0]].low
    near = [n for n in winning if timings[n].high >= least]
    tied = sorted(near, key=lambda n: simplicity[n])
    return Verdict(tied[0], tuple(tied), tuple(n for n in winning if n not in near))
