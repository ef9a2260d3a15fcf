"""From trials to statements: means, bootstrap intervals, differences, label efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from agent.arrays import Doubles, Indices, Texts
from agent.model.score import central_interval
from bundles.evaluation.arms import BUNDLE_FIXED, BUNDLE_RANDOM
from bundles.evaluation.protocol import ArmTrial
from bundles.evaluation.report import (
    COMPARED,
    LESS_IS_BETTER,
    METRICS,
    Curves,
    Efficiency,
    Figures,
    PairedDifference,
)
from bundles.evaluation.scores import Scores

RESAMPLES = 1_000
LEVEL = 0.95
LABELS = 48  # that a user times, at least nearly
ArmBudget = tuple[str, int]


def _share(part: Doubles, whole: Doubles) -> float:
    total = float(np.nansum(part))
    return total / float(whole.sum()) if np.isfinite(part).any() else float("nan")


def _mean(values: Doubles) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def figures_of(scores: Scores) -> Figures:
    """All figures of one prediction; nan where an arm has none."""
    error = _share(scores.error, scores.count)
    return Figures(
        log_error=error,
        factor=float(np.exp(min(error, 50.0))),
        mape=_share(scores.relative, scores.count),
        median_ape=scores.median_ape,
        spearman=_mean(scores.spearman),
        top_share=_mean(scores.top_share),
        pairwise=_mean(scores.pairwise),
        coverage=_share(scores.covered, scores.count),
        seconds_log_error=_mean(scores.seconds),
        seconds_coverage=_mean(scores.seconds_covered),
    )


@dataclass(frozen=True, eq=False)
class Results:
    """The scores of all trials in order, with the names of each target's test programs.

    Attributes:
        scores: by target, arm and budget; one a seed, in the order of seeds.
        programs: by target, [q].
    """

    scores: Mapping[tuple[str, str, int], Sequence[Scores]]
    programs: Mapping[str, Texts]

    @classmethod
    def of(cls, trials: Sequence[ArmTrial], programs: Mapping[str, Texts]) -> Results:
        """Sort trials."""
        found: dict[tuple[str, str, int], list[Scores]] = {}
        for trial in sorted(trials, key=lambda t: t.seed):
            found.setdefault((trial.target, trial.arm, trial.budget), []).append(trial.scores)
        return cls(found, programs)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(self.programs)

    @property
    def compared(self) -> tuple[str, ...]:
        """Targets that means are over: those that timed the fixed set, if there are any."""
        timed = tuple(t for t in self.targets if self.budgets(t, BUNDLE_FIXED))
        return timed or self.targets

    @property
    def focus(self) -> ArmBudget | None:
        """The arm and budget that others are compared with: ours, at most ``LABELS``."""
        for arm in (BUNDLE_FIXED, BUNDLE_RANDOM):
            if fitting := [b for b in self.common(arm) if b <= LABELS]:
                return arm, fitting[-1]
        return None

    def budgets(self, target: str, arm: str) -> list[int]:
        """Budgets that an arm has on a target."""
        return sorted(b for t, a, b in self.scores if (t, a) == (target, arm))

    def common(self, arm: str) -> list[int]:
        """Budgets that an arm has on every target compared."""
        return sorted(set.intersection(*(set(self.budgets(t, arm)) for t in self.compared)))

    def figures(self, target: str, arm: str, budget: int) -> Figures:
        """Mean over seeds."""
        return _averaged([figures_of(s) for s in self.scores[target, arm, budget]])

    def mean(self, arm: str, budget: int) -> Figures:
        """Mean over seeds and the targets compared."""
        rows = [figures_of(s) for t in self.compared for s in self.scores[t, arm, budget]]
        return _averaged(rows)


def _averaged(rows: Sequence[Figures]) -> Figures:
    means = {metric: _mean(np.array([row[metric] for row in rows])) for metric in METRICS}
    return Figures(**{m: value if np.isfinite(value) else None for m, value in means.items()})


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Programs and seeds drawn again, the same ones for every arm: paired.

    A program that several targets have is drawn for all of them at once, since its errors on them
    are not independent.

    Attributes:
        results: what is resampled.
        programs: [B, U] how often each program was drawn; ``seeds``: [B, S].
        place: by target, [q] columns of its programs.
    """

    results: Results
    programs: Doubles
    seeds: Doubles
    place: Mapping[str, Indices]

    @classmethod
    def of(cls, results: Results, seed: int = 0) -> Bootstrap:
        """Draw ``RESAMPLES`` times."""
        names = np.unique(np.concatenate(list(results.programs.values())))
        count = max(len(s) for s in results.scores.values())
        rng = np.random.default_rng(seed)
        place = {t: np.searchsorted(names, p) for t, p in results.programs.items()}
        return cls(results, _drawn(rng, len(names)), _drawn(rng, count), place)

    def values(self, arm: str, budget: int, metric: str) -> Doubles:
        """[B] the mean over seeds and the targets compared of a metric, in each resample."""
        scores, compared = self.results.scores, self.results.compared
        rows = [self._target(t, scores[t, arm, budget], metric) for t in compared]
        return np.asarray(np.mean(rows, axis=0))

    def _target(self, target: str, seeds: Sequence[Scores], metric: str) -> Doubles:
        weight = self.programs[:, self.place[target]]  # [B, q]
        parts = [_parts(s, metric) for s in seeds]
        top = weight @ np.stack([p[0] for p in parts]).T  # [B, S]
        bottom = weight @ np.stack([p[1] for p in parts]).T
        value = top / np.maximum(bottom, 1e-12)
        return np.asarray((value * self.seeds).sum(1) / self.seeds.sum(1))

    def shared(self, points: Sequence[ArmBudget], metric: str) -> Doubles:
        """[B] how far the mean of all these arms and budgets is off in each resample.

        What is hard for all arms alike is of no interest in comparing them: less this, intervals
        show what tells arms apart (within-subject intervals; Cousineau 2005, Morey 2008).
        """
        means = [self.results.mean(*point)[metric] for point in points]
        known = [p for p, m in zip(points, means, strict=True) if m is not None]
        rows = np.mean([self.values(*point, metric) for point in known], axis=0)
        return np.asarray(rows - np.mean([m for m in means if m is not None]))


def _drawn(rng: np.random.Generator, count: int) -> Doubles:
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


def _parts(scores: Scores, metric: str) -> tuple[Doubles, Doubles]:
    """[q] sum and count of a metric in each program."""
    if metric == "log_error":
        return scores.error, scores.count
    column = {"seconds_log_error": "seconds"}.get(metric, metric)
    value: Doubles = getattr(scores, column)
    there = np.isfinite(value)
    return np.where(there, value, 0.0), there.astype(np.float64)


def paired_differences(
    boot: Bootstrap, ours: ArmBudget, other: ArmBudget
) -> list[PairedDifference]:
    """Paired differences in all compared metrics that both arms have."""
    mean = [boot.results.mean(*pair) for pair in (ours, other)]
    found = []
    for metric in COMPARED:
        a, b = (m[metric] for m in mean)
        if a is None or b is None:
            continue
        gap = boot.values(*ours, metric) - boot.values(*other, metric)
        low, high = central_interval(gap, LEVEL)
        sign = -1 if metric in LESS_IS_BETTER else 1
        better, worse = min(sign * low, sign * high) > 0, max(sign * low, sign * high) < 0
        relative = (a - b) / abs(b) if b else 0.0
        found.append(PairedDifference(*other, metric, a - b, low, high, relative, better, worse))
    return found


def label_efficiency(metric: str, ours: Figures, count: int, curves: Curves) -> Efficiency | None:
    """Compare with learning curves of arms without pre-training; None where nothing is known.

    Args:
        metric: ``log_error``, ``spearman``, ...
        ours: figures with ``count`` labels.
        count: our labels.
        curves: by arm, figures by budget.
    """
    wanted = ours[metric]
    if wanted is None:
        return None
    sign = 1.0 if metric in LESS_IS_BETTER else -1.0
    found = []
    for arm, curve in curves.items():
        points = [(b, sign * v) for b, f in sorted(curve.items()) if b and (v := f[metric])]
        if points:
            labels = crossing_budget(points, sign * wanted)
            closest, least = min(v for _, v in points), points[0][0]
            if labels is None:
                found.append((True, closest, arm, float(points[-1][0]), False))
            else:
                found.append((False, labels, arm, labels, labels <= least))
    if not found:
        return None
    missed, _, arm, labels, at_most = min(found)
    return Efficiency(metric, wanted, arm, labels, labels / count, not missed, at_most)


def crossing_budget(points: Sequence[tuple[int, float]], wanted: float) -> float | None:
    """The first budget at which a falling curve is at most ``wanted``; None if it never is."""
    before: tuple[int, float] | None = None
    for budget, value in points:
        if value <= wanted:
            if before is None:
                return float(budget)
            share = (before[1] - wanted) / (before[1] - value)
            start, end = np.log(before[0]), np.log(budget)
            return float(np.exp(start + share * (end - start)))
        before = (budget, value)
    return None


def rises(errors: Mapping[int, float | None]) -> tuple[int, ...]:
    """Budgets with a larger error than some smaller budget."""
    known = [(budget, error) for budget, error in sorted(errors.items()) if error is not None]
    least = accumulate((error for _, error in known), min)
    return tuple(b for (b, error), low in zip(known, least, strict=True) if error > low)
