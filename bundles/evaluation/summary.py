"""From results to the report: which statements are made, about which arms and budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np

from agent import __version__
from agent.arrays import Doubles
from agent.model.score import central_interval
from bundles.evaluation.arms import ARMS, BUNDLE
from bundles.evaluation.case import Case
from bundles.evaluation.options import EvaluationProtocol
from bundles.evaluation.report import (
    CURVES,
    LESS_IS_BETTER,
    METRICS,
    MONOTONE,
    SCHEMA,
    ArmTitle,
    BundleEncoder,
    Curves,
    Efficiencies,
    Efficiency,
    EvaluationReport,
    Figures,
    Focus,
    Gain,
    HowEvaluated,
    LeftOutEncoder,
    MeanFigures,
    PairedDifference,
    ProgramCounts,
    SkippedTarget,
    TargetReport,
    VersionCounts,
    Worsening,
    Worst,
    WorstTarget,
)
from bundles.evaluation.statistics import (
    LEVEL,
    RESAMPLES,
    Bootstrap,
    Results,
    label_efficiency,
    paired_differences,
    rises,
)

MEAN_OF_NORMAL = math.sqrt(2 / math.pi)  # of the absolute value, over the standard deviation


@dataclass(frozen=True)
class Evaluated:
    """What the report says beside the results: how, of what, and what was left out."""

    encoder: BundleEncoder | LeftOutEncoder
    protocol: EvaluationProtocol
    cases: Sequence[Case]
    skipped: tuple[SkippedTarget, ...]


def summarise(results: Results, about: Evaluated) -> EvaluationReport:
    """Everything that was found; ``elapsed_s`` is still 0."""
    boot = Bootstrap.of(results)
    present = [arm for arm in ARMS if any(results.budgets(t, arm.name) for t in results.targets)]
    names = [arm.name for arm in present]
    plain = [arm.name for arm in present if not arm.pretrained]
    protocol = about.protocol
    return EvaluationReport(
        schema=SCHEMA,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        agent=__version__,
        protocol=HowEvaluated(about.encoder, protocol.seeds, protocol.budgets, RESAMPLES, LEVEL),
        arms={arm.name: ArmTitle(arm.title, arm.draw, arm.pretrained) for arm in present},
        targets=tuple(_target(results, case, names) for case in about.cases),
        focus=Focus(*results.focus) if results.focus else None,
        compared=results.compared,
        mean=_means(results, boot, names),
        worst=_worst(results),
        differences=_differences(results, boot, names),
        efficiency=_efficiencies(results, plain),
        gains=_gains(results, names),
        never_worse=_never_worse(results, names),
        skipped=about.skipped,
        elapsed_s=0.0,
    )


def _target(results: Results, case: Case, names: Sequence[str]) -> TargetReport:
    target, base = case.labels.target, case.base
    counts = [len(np.unique(base[rows])) for rows in (case.pool, case.kernels)]
    fixed = len(case.fixed_draw(len(case.fixed_order)))
    curves = _curves(results, target.name, names)
    return TargetReport(
        name=target.name,
        machine={k: v for k, v in asdict(target).items() if k != "name"},
        programs=ProgramCounts(len(case.test_base), *counts),
        versions=VersionCounts(len(case.test), len(case.pool), len(case.kernels), fixed),
        arms={n: {b: _rounded(f) for b, f in c.items()} for n, c in curves.items() if c},
        ceiling=round(MEAN_OF_NORMAL * float(case.labels.sd[case.test].mean()), 3),
    )


def _curves(results: Results, target: str, names: Sequence[str]) -> Curves:
    return {
        name: {b: results.figures(target, name, b) for b in results.budgets(target, name)}
        for name in names
    }


def _mean_curves(results: Results, names: Sequence[str]) -> Curves:
    """At budgets that all targets compared reach."""
    return {name: {b: results.mean(name, b) for b in results.common(name)} for name in names}


def _means(
    results: Results, boot: Bootstrap, names: Sequence[str]
) -> dict[str, dict[int, MeanFigures]]:
    """Mean over targets, with intervals."""
    points = [(name, budget) for name in names for budget in results.common(name)]
    shared = {metric: boot.shared(points, metric) for metric in CURVES}
    found: dict[str, dict[int, MeanFigures]] = {}
    for name, budget in points:
        intervals = {}
        for metric in CURVES:
            values = boot.values(name, budget, metric)
            intervals[f"{metric}_interval"] = _rounded_interval(values)
            intervals[f"{metric}_band"] = _rounded_interval(values - shared[metric])
        row = vars(_rounded(results.mean(name, budget)))
        found.setdefault(name, {})[budget] = MeanFigures(**row | intervals)
    return found


def _worst(results: Results) -> Worst | None:
    if (focus := results.focus) is None:
        return None
    rows = {t: results.figures(t, *focus) for t in results.compared}
    error = max(rows, key=lambda t: rows[t].log_error or 0.0)
    rank = min(rows, key=lambda t: rows[t].spearman or 0.0)
    return Worst(
        WorstTarget(error, _round(rows[error].log_error)),
        WorstTarget(rank, _round(rows[rank].spearman)),
    )


def _differences(
    results: Results, boot: Bootstrap, names: Sequence[str]
) -> tuple[PairedDifference, ...]:
    """Our arm against every other one with as many labels (0 where it takes none), paired."""
    if (focus := results.focus) is None:
        return ()
    found: list[PairedDifference] = []
    for name in names:
        budget = focus[1] if focus[1] in results.common(name) else 0
        if name != focus[0] and budget in results.common(name):
            found += paired_differences(boot, focus, (name, budget))
    return tuple(
        replace(
            d,
            value=round(d.value, 4),
            low=round(d.low, 4),
            high=round(d.high, 4),
            relative=round(d.relative, 4),
        )
        for d in found
    )


def _efficiencies(results: Results, plain: Sequence[str]) -> Efficiencies:
    if (focus := results.focus) is None:
        return Efficiencies((), {})
    return Efficiencies(
        _efficiency(results.mean(*focus), focus[1], _mean_curves(results, plain)),
        {
            t: _efficiency(results.figures(t, *focus), focus[1], _curves(results, t, plain))
            for t in results.compared
        },
    )


def _efficiency(ours: Figures, count: int, curves: Curves) -> tuple[Efficiency, ...]:
    rows = [label_efficiency(metric, ours, count, curves) for metric in CURVES] if count else []
    return tuple(
        replace(
            row, wanted=round(row.wanted, 4), labels=round(row.labels, 1), times=round(row.times, 2)
        )
        for row in rows
        if row
    )


def _gains(results: Results, names: Sequence[str]) -> dict[str, Gain]:
    """By target and for their mean."""
    if (focus := results.focus) is None or BUNDLE not in names:
        return {}
    pairs = {
        t: (results.figures(t, BUNDLE, 0), results.figures(t, *focus)) for t in results.compared
    }
    pairs["mean"] = (results.mean(BUNDLE, 0), results.mean(*focus))
    return {
        name: Gain(*(round(1 - (after[m] or 0.0) / (before[m] or 1.0), 4) for m in LESS_IS_BETTER))
        for name, (before, after) in pairs.items()
    }


def _never_worse(results: Results, names: Sequence[str]) -> dict[str, dict[str, Worsening]]:
    """Of our arms."""
    alone = results.mean(BUNDLE, 0) if BUNDLE in names else Figures()
    curves = _mean_curves(results, [name for name in names if name.startswith(f"{BUNDLE}_")])
    return {
        name: {metric: _worsening(curve, alone, metric) for metric in MONOTONE}
        for name, curve in curves.items()
    }


def _worsening(curve: Mapping[int, Figures], alone: Figures, metric: str) -> Worsening:
    errors = {budget: _error(figures, metric) for budget, figures in curve.items()}
    bound = _error(alone, metric)
    over = [b for b, e in errors.items() if e is not None and bound is not None and e > bound]
    return Worsening(rises(errors), tuple(over))


def _error(figures: Figures, metric: str) -> float | None:
    value = figures[metric]
    return value if value is None or metric in LESS_IS_BETTER else -value


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rounded(figures: Figures) -> Figures:
    return Figures(**{metric: _round(figures[metric]) for metric in METRICS})


def _rounded_interval(values: Doubles) -> tuple[float, float]:
    low, high = central_interval(values, LEVEL)
    return round(low, 4), round(high, 4)
