"""How good predictions of real programs are: figures of a program, means, intervals, the worst.

Speed-ups and order are judged among a program's timed versions and the program as written, as the
person who ranks them meets them. Pure functions of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from agent.arrays import Doubles
from agent.model.posterior import Z80
from agent.model.score import central_interval, spearman

APART = np.log(1.1)  # pairs whose times differ by less are not judged
FIRST = 3
TIES = 64  # orders of versions that are predicted equally fast
LEVEL, RESAMPLES = 0.95, 2_000
LESS_IS_BETTER = ("log_error", "width", "seconds_log_error")


@dataclass(frozen=True)
class RealFigures:
    """Of one program, or means over programs; None where a way to predict has none.

    Attributes:
        log_error: mean absolute log error of speed-ups.
        spearman: rank correlation.
        pairs: share of pairs more than 10 % apart that are in the right order.
        top_share: speed of the version predicted fastest over that of the fastest.
        first_share: the same of the best of the three predicted fastest.
        coverage: share of 80 % intervals that hold; ``width``: their mean half width, log units.
        seconds_log_error: of the time of the program as written.
    """

    log_error: float | None = None
    spearman: float | None = None
    pairs: float | None = None
    top_share: float | None = None
    first_share: float | None = None
    coverage: float | None = None
    width: float | None = None
    seconds_log_error: float | None = None


METRICS = tuple(f.name for f in fields(RealFigures))


@dataclass(frozen=True)
class RealGuess:
    """Predictions of a program's k versions, log units.

    Attributes:
        gain: [k] log speed-ups, or [d, k] of d draws that count alike.
        sd: [k]; None: no intervals.
        seconds: log seconds of the program as written; None: not predicted.
    """

    gain: Doubles
    sd: Doubles | None = None
    seconds: float | None = None


def judge_guess(truth: Doubles, seconds: float, guess: RealGuess) -> RealFigures:
    """Figures of one program, from its k log speed-ups and its log seconds as written."""
    draws = np.atleast_2d(guess.gain)
    each = [_order_figures(truth, gain) for gain in draws]
    order = {name: _mean([row[name] for row in each]) for name in each[0]}
    coverage = width = None
    if guess.sd is not None:
        coverage = float(np.mean(np.abs(truth - guess.gain) <= Z80 * guess.sd))
        width = float(np.mean(Z80 * guess.sd))
    return RealFigures(
        log_error=float(np.mean(np.abs(draws - truth))),
        coverage=coverage,
        width=width,
        seconds_log_error=None if guess.seconds is None else abs(guess.seconds - seconds),
        **order,
    )


def _order_figures(truth: Doubles, gain: Doubles) -> dict[str, float | None]:
    true, guess = np.append(0.0, truth), np.append(0.0, gain)
    top, first = _picked(true, guess, 1), _picked(true, guess, FIRST)
    return {
        "spearman": spearman(truth, gain, np.zeros(len(truth), np.int64)),
        "pairs": _pairs(true, guess),
        "top_share": top,
        "first_share": first,
    }


def _picked(true: Doubles, guess: Doubles, count: int) -> float:
    """Speed of the best of the first ``count`` over that of the best; ties in every order alike."""
    tied = TIES if len(np.unique(guess)) < len(guess) else 1
    rng = np.random.default_rng(0)
    orders = (np.lexsort((rng.random(len(guess)), -guess))[:count] for _ in range(tied))
    return float(np.mean([np.exp(true[order].max() - true.max()) for order in orders]))


def _pairs(true: Doubles, guess: Doubles) -> float | None:
    one, two = np.triu_indices(len(true), 1)
    gap, guessed = true[one] - true[two], guess[one] - guess[two]
    apart = np.abs(gap) > APART
    if not apart.any():
        return None
    return float(np.mean((np.sign(gap) * np.sign(guessed) + 1)[apart] / 2))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def mean_figures(rows: Sequence[RealFigures]) -> RealFigures:
    """Means over programs that have the figure."""
    return RealFigures(**{m: _mean([getattr(row, m) for row in rows]) for m in METRICS})


def intervals(rows: Sequence[RealFigures]) -> dict[str, tuple[float, float]]:
    """95 % intervals of the means by bootstrap over programs."""
    found = {}
    for metric in METRICS:
        values = np.array([np.nan if (v := getattr(r, metric)) is None else v for r in rows])
        if np.isfinite(values).any():
            found[metric] = _interval(values[np.isfinite(values)])
    return found


def _interval(values: Doubles) -> tuple[float, float]:
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return central_interval(values[drawn].mean(axis=1), LEVEL)


def difference(
    ours: Sequence[RealFigures], others: Sequence[RealFigures], metric: str
) -> tuple[float, float, float] | None:
    """Mean paired difference of two ways to predict with its interval; None where none has it."""
    pairs = ((getattr(a, metric), getattr(b, metric)) for a, b in zip(ours, others, strict=True))
    gaps = np.array([a - b for a, b in pairs if a is not None and b is not None])
    return (float(gaps.mean()), *_interval(gaps)) if len(gaps) else None


def worst_programs(rows: Mapping[str, RealFigures]) -> dict[str, str]:
    """By metric, the program with the worst figure (of coverage: the fewest that hold)."""
    found = {}
    for metric in METRICS:
        sign = 1 if metric in LESS_IS_BETTER else -1
        known = {n: sign * v for n, r in rows.items() if (v := getattr(r, metric)) is not None}
        if known:
            found[metric] = max(known, key=lambda name: known[name])
    return found
