"""How good are predictions: pure functions of log speed-ups, predictions and programs.

``truth`` and ``predicted`` are [n] log speed-ups over the program as written, ``group`` [n] says
which program. In ranking metrics the program as written takes part as one more version, with log
speed-up 0.
"""

from collections.abc import Iterator

import numpy as np

from agent.arrays import Doubles, Ints
from agent.model.observations import SECONDS, SPEEDUP, Observations
from agent.model.posterior import Z80
from agent.model.records import PredictionAccuracy

FEWEST_VERSIONS = 3  # a rank correlation of two versions is plus or minus one by chance
RESAMPLES = 1000


def log_error(truth: Doubles, predicted: Doubles) -> float:
    """Mean absolute error of the logarithm; exp of it is the typical factor."""
    return float(np.mean(np.abs(truth - predicted)))


def mape(truth: Doubles, predicted: Doubles) -> float:
    """Mean absolute error of the speed-up, relative to the true one (1.0 = 100 %)."""
    return float(np.mean(_relative_error(truth, predicted)))


def median_ape(truth: Doubles, predicted: Doubles) -> float:
    """Median absolute error of the speed-up, relative to the true one."""
    return float(np.median(_relative_error(truth, predicted)))


def _relative_error(truth: Doubles, predicted: Doubles) -> Doubles:
    error: Doubles = np.abs(np.expm1(np.clip(predicted - truth, -50, 50)))
    return error


def spearman(truth: Doubles, predicted: Doubles, group: Ints) -> float | None:
    """Rank correlation within a program, mean over programs with at least 3 versions.

    A program whose versions are all predicted equal counts as 0; one whose versions all take the
    same time is left out. None if no program is left.
    """
    found = [
        _correlation(_ranks(t), _ranks(p))
        for t, p in _programs(truth, predicted, group)
        if len(t) >= FEWEST_VERSIONS and np.ptp(t) > 0
    ]
    return _mean(found)


def top_share(truth: Doubles, predicted: Doubles, group: Ints) -> float | None:
    """Speed of the version predicted fastest / speed of the fastest, mean over programs.

    Where several are predicted equally fast, their mean speed counts.
    """
    found = [
        float(np.mean(np.exp(t[p == p.max()] - t.max())))
        for t, p in _programs(truth, predicted, group)
    ]
    return _mean(found)


def pairwise(truth: Doubles, predicted: Doubles, group: Ints) -> float | None:
    """Share of a program's pairs in the right order, mean over programs; ties count half."""
    found = []
    for t, p in _programs(truth, predicted, group):
        first, second = np.triu_indices(len(t), 1)
        order = np.sign(t[first] - t[second])
        agree = order * np.sign(p[first] - p[second])
        if order.any():
            found.append(float(np.mean((agree[order != 0] + 1) / 2)))
    return _mean(found)


def coverage(truth: Doubles, mean: Doubles, sd: Doubles) -> float | None:
    """Share of the 80 % intervals that hold the truth."""
    return float(np.mean(np.abs(truth - mean) <= Z80 * sd)) if len(truth) else None


def log_error_interval(
    truth: Doubles, predicted: Doubles, group: Ints, seed: int = 0, level: float = 0.8
) -> tuple[float, float]:
    """Bootstrap interval of ``log_error``; programs, not rows, are drawn again."""
    which = np.unique(group, return_inverse=True)[1]
    total = np.bincount(which, weights=np.abs(truth - predicted))
    count = np.bincount(which)
    drawn = np.random.default_rng(seed).integers(len(count), size=(RESAMPLES, len(count)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    return central_interval(means, level)


def central_interval(values: Doubles, level: float) -> tuple[float, float]:
    """The interval that holds this share of the values, as many left out below it as above."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def accuracy(
    observations: Observations, mean: Doubles, sd: Doubles | None = None, seed: int = 0
) -> PredictionAccuracy:
    """Judge predictions [n] (and their sd [n]) of labels.

    Args:
        observations: the labels; speed-ups and seconds are judged apart.
        mean: [n] predictions by something that has not seen these programs.
        sd: [n] their standard deviations, if intervals are to be judged too.
        seed: of the bootstrap.
    """
    figures = _speedup_figures(observations, mean, sd, seed)
    rows = observations.kind == SECONDS
    truth, predicted = observations.target[rows], mean[rows]
    if len(truth):
        figures["seconds_log_error"] = log_error(truth, predicted)
        figures["seconds_coverage"] = None if sd is None else coverage(truth, predicted, sd[rows])
    fast = observations.programs[observations.kind == SPEEDUP]
    return PredictionAccuracy(len(fast), len(np.unique(fast)), **figures)


def _speedup_figures(
    observations: Observations, mean: Doubles, sd: Doubles | None, seed: int
) -> dict[str, float | None]:
    rows = observations.kind == SPEEDUP
    truth, predicted, group = observations.target[rows], mean[rows], observations.programs[rows]
    if len(truth) == 0:
        return {}
    error = log_error(truth, predicted)
    low, high = log_error_interval(truth, predicted, group, seed)
    return {
        "log_error": error,
        "log_error_low": low,
        "log_error_high": high,
        "factor": float(np.exp(min(error, 50.0))),
        "mape": mape(truth, predicted),
        "median_ape": median_ape(truth, predicted),
        "spearman": spearman(truth, predicted, group),
        "top_share": top_share(truth, predicted, group),
        "pairwise": pairwise(truth, predicted, group),
        "coverage": None if sd is None else coverage(truth, predicted, sd[rows]),
    }


def predict_the_median(observations: Observations) -> Doubles:
    """A control: each row predicted by the median label of its kind in all other programs, [n]."""
    predicted = np.zeros(len(observations))
    for row in range(len(observations)):
        others = (observations.group != observations.group[row]) & (
            observations.kind == observations.kind[row]
        )
        predicted[row] = np.median(observations.target[others]) if others.any() else 0.0
    return predicted


def _programs(truth: Doubles, predicted: Doubles, group: Ints) -> Iterator[tuple[Doubles, Doubles]]:
    """Each program's true and predicted log speed-ups, the program as written first."""
    for name in np.unique(group):
        rows = group == name
        yield np.append(0.0, truth[rows]), np.append(0.0, predicted[rows])


def _ranks(values: Doubles) -> Doubles:
    """Ranks from 1; equal values share the average of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Doubles = (last - (count - 1) / 2)[place]
    return ranks


def _correlation(a: Doubles, b: Doubles) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
