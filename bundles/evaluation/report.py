"""The report of an evaluation: one JSON, its tables as Markdown, one plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agent import __version__
from bundles.evaluation.arms import ARMS
from bundles.evaluation.case import Case
from bundles.evaluation.summary import (
    LESS_IS_BETTER,
    LEVEL,
    RESAMPLES,
    Bootstrap,
    Figures,
    Results,
    differences,
    efficiency,
    interval,
    rises,
)
from bundles.labels.labels import Target

SCHEMA = 1
BANDS = ("log_error", "spearman")


def as_json(
    results: Results, targets: Sequence[Target], cases: Sequence[Case], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that was found, as plain data (docs/reference/evaluation.md)."""
    boot = Bootstrap.of(results)
    present = [arm for arm in ARMS if any(results.budgets(t, arm.name) for t in results.targets)]
    names = [arm.name for arm in present]
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "agent": __version__,
        "protocol": {**about, "resamples": RESAMPLES, "interval": LEVEL},
        "arms": {
            a.name: {"title": a.title, "draw": a.draw, "pretrained": a.pretrained} for a in present
        },
        "targets": [
            {**_target(t, c), "arms": _curves(results, t.name, names)}
            for t, c in zip(targets, cases, strict=True)
        ],
        "focus": _focus(results),
        "compared": list(results.compared),
        "mean": _means(results, boot, names),
        "worst": _worst(results),
        "differences": _differences(results, boot, names),
        "efficiency": _efficiencies(results, names),
        "gains": _gains(results, names),
        "never_worse": _never_worse(results, names),
    }


def _focus(results: Results) -> dict[str, Any] | None:
    focus = results.focus
    return None if focus is None else {"arm": focus[0], "labels": focus[1]}


def _target(target: Target, case: Case) -> dict[str, Any]:
    return {
        "name": target.name,
        "machine": {k: v for k, v in asdict(target).items() if k != "name"},
        "programs": {
            "test": len(case.test_base),
            "training": len(np.unique(case.base[case.pool])),
            "kernels": len(np.unique(case.base[case.kernels])),
        },
        "versions": {
            "test": len(case.test),
            "training": len(case.pool),
            "kernels": len(case.kernels),
            "fixed_set": len(case.fixed_draw(len(case.fixed_order))),
        },
    }


def _curves(results: Results, target: str, names: Sequence[str]) -> dict[str, Any]:
    return {
        name: {str(b): _rounded(results.figures(target, name, b)) for b in budgets}
        for name in names
        if (budgets := results.budgets(target, name))
    }


def _means(results: Results, boot: Bootstrap, names: Sequence[str]) -> dict[str, Any]:
    """Mean over targets, at budgets that all of them reach, with intervals."""
    cells = [(name, budget) for name in names for budget in results.common(name)]
    shared = {metric: boot.shared(cells, metric) for metric in BANDS}
    found: dict[str, Any] = {}
    for name, budget in cells:
        row: dict[str, Any] = _rounded(results.mean(name, budget))
        for metric in BANDS:
            values = boot.values(name, budget, metric)
            row[f"{metric}_interval"] = [round(x, 4) for x in interval(values)]
            row[f"{metric}_band"] = [round(x, 4) for x in interval(values - shared[metric])]
        found.setdefault(name, {})[str(budget)] = row
    return found


def _worst(results: Results) -> dict[str, Any] | None:
    """The target with the largest error of our arm, and the one it ranks worst."""
    if (focus := results.focus) is None:
        return None
    rows = {t: results.figures(t, *focus) for t in results.compared}
    error = max(rows, key=lambda t: rows[t]["log_error"] or 0.0)
    rank = min(rows, key=lambda t: rows[t]["spearman"] or 0.0)
    return {
        "log_error": {"target": error, "value": _round(rows[error]["log_error"])},
        "spearman": {"target": rank, "value": _round(rows[rank]["spearman"])},
    }


def _differences(results: Results, boot: Bootstrap, names: Sequence[str]) -> list[dict[str, Any]]:
    """Our arm against every other one with as many labels (0 where it takes none), paired."""
    if (focus := results.focus) is None:
        return []
    found = []
    for name in names:
        budget = focus[1] if focus[1] in results.common(name) else 0
        if name == focus[0] or budget not in results.common(name):
            continue
        for difference in differences(boot, focus, (name, budget)):
            numbers = {
                k: _round(v) if isinstance(v, float) else v for k, v in asdict(difference).items()
            }
            found.append({"against": name, "labels": budget, **numbers})
    return found


def _efficiencies(results: Results, names: Sequence[str]) -> dict[str, Any]:
    """For the mean of targets, and for each: it may have more labels than all of them have."""
    found: dict[str, Any] = {"mean": [], "targets": {}}
    if (focus := results.focus) is None:
        return found
    plain = [a.name for a in ARMS if a.name in names and not a.pretrained]
    curves = {n: {b: results.mean(n, b) for b in results.common(n)} for n in plain}
    found["mean"] = _efficiency(results.mean(*focus), focus[1], curves)
    for t in results.compared:
        curves = {n: {b: results.figures(t, n, b) for b in results.budgets(t, n)} for n in plain}
        found["targets"][t] = _efficiency(results.figures(t, *focus), focus[1], curves)
    return found


def _efficiency(
    ours: Figures, count: int, curves: Mapping[str, Mapping[int, Figures]]
) -> list[dict[str, Any]]:
    rows = [efficiency(m, ours, count, curves) for m in ("log_error", "spearman")] if count else []
    return [
        {**asdict(r), "wanted": _round(r.wanted), "labels": round(r.labels, 1)}
        | {"times": round(r.times, 2)}
        for r in rows
        if r
    ]


def _gains(results: Results, names: Sequence[str]) -> dict[str, Any]:
    """By how much, relatively, our arm's labels lower the errors of the bundle alone."""
    if (focus := results.focus) is None or "bundle" not in names:
        return {}
    rows = {
        t: (results.figures(t, "bundle", 0), results.figures(t, *focus)) for t in results.compared
    }
    rows["mean"] = (results.mean("bundle", 0), results.mean(*focus))
    return {
        name: {m: _round(1 - (after[m] or 0.0) / (before[m] or 1.0)) for m in LESS_IS_BETTER}
        for name, (before, after) in rows.items()
    }


def _never_worse(results: Results, names: Sequence[str]) -> dict[str, Any]:
    """Budgets at which our arms are worse than with fewer labels, or than the bundle alone."""
    found: dict[str, Any] = {}
    for name in (n for n in names if n.startswith("bundle_")):
        curve = {b: results.mean(name, b) for b in results.common(name)}
        alone = results.mean("bundle", 0) if "bundle" in names else None
        found[name] = {
            metric: {
                "than_fewer": rises(curve, lambda f, m=metric: _error(f, m)),  # type: ignore[misc]
                "than_bundle": _worse_than(curve, alone, metric),
            }
            for metric in ("log_error", "spearman", "seconds_log_error")
        }
    return found


def _error(figures: Figures, metric: str) -> float | None:
    value = figures[metric]
    return value if value is None or metric in LESS_IS_BETTER else -value


def _worse_than(curve: Mapping[int, Figures], alone: Figures | None, metric: str) -> list[int]:
    bound = None if alone is None else _error(alone, metric)
    if bound is None:
        return []
    errors = {b: _error(f, metric) for b, f in curve.items()}
    return [b for b, e in errors.items() if e is not None and e > bound]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rounded(figures: Figures) -> dict[str, float | None]:
    return {name: _round(value) for name, value in figures.items()}


def write(found: Mapping[str, Any], out: Path) -> None:
    """Write evaluation.json, evaluation.md and the plot into a directory."""
    from bundles.evaluation.plot import plot
    from bundles.evaluation.tables import markdown

    _write(out / "evaluation.json", json.dumps(found, indent=1) + "\n")
    _write(out / "evaluation.md", markdown(found))
    plot(found, out)


def _write(path: Path, text: str) -> None:
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)
