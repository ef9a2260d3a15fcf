"""Is staged fine-tuning worth it? The three modes and the bundle as it is, on the same labels.

Every arm learns from the same programs and is judged on the same test programs, which nothing has
learned from. Seeds draw the programs of a budget, the validation programs and the batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.arrays import Doubles
from agent.bundle.bundle import Bundle
from agent.errors import AgentError
from agent.model.linear import RidgeHead
from agent.model.observations import SECONDS, SPEEDUP, Observations
from agent.model.posterior import MOST_LABELS
from agent.model.prior import Prior
from bundles.finetuning.finetune import (
    FEWEST_PROGRAMS,
    embed,
    enough,
    predict,
    spread,
    starting_heads,
)
from bundles.finetuning.site import Figures, Site, figures, join
from bundles.finetuning.thaw import thaw
from bundles.finetuning.tuning import Mode, Tuning, split, tune
from bundles.labels.labels import Labels
from bundles.training.network import EncoderNetwork
from bundles.training.settings import Say

BUDGETS = (200, 1000, 3000)
RESAMPLES, LEVEL = 2000, 0.8
BUNDLE, CALIBRATED, FREE_SLOW = "bundle", "calibrated", "free-slow"
COLUMNS = ("log_error", "spearman", "top_share", "seconds_log_error")


@dataclass(frozen=True, eq=False)
class _Start:
    """What every arm starts from, and what it is judged by."""

    encoder: EncoderNetwork
    prior: Prior
    pool: Site
    test: Site


def compare(
    bundle: Bundle,
    labels: Sequence[Labels],
    tuning: Tuning,
    budgets: Sequence[int],
    seeds: int,
    say: Say,
) -> dict[str, Any]:
    """Figures of each arm at each budget of labels a target, and of all labels.

    Args:
        bundle: to start from.
        labels: one a target.
        tuning: how; ``mode`` is each in turn, ``seed`` the first one.
        budgets: numbers of speed-ups a target; those beyond what there is are left out.
        seeds: how many.
        say: receives progress lines.

    Raises:
        AgentError: too few programs, or a budget of too few.
    """
    pool, test = enough(join(labels))
    start = _Start(thaw(bundle), Prior.from_json(bundle.prior), pool, test)
    most = pool.labels // len(pool.targets)
    rows = []
    for budget in [*(b for b in sorted(set(budgets)) if b < most), most]:
        tried = [
            _predictions(start, budget, replace(tuning, seed=tuning.seed + n)) for n in range(seeds)
        ]
        rows += _summary(start, budget, tried)
        for row in rows[-len(tried[0]) :]:
            say(_line(row))
    return {
        "bundle": bundle.digest,
        "targets": [target.name for target in pool.targets],
        "test_programs": len(test),
        "test_labels": test.labels,
        "seeds": seeds,
        "level": LEVEL,
        "rows": rows,
    }


def draw(pool: Site, budget: int, seed: int) -> Site:
    """Programs, drawn one by one, with about ``budget`` speed-ups a target."""
    order = np.random.default_rng([seed, 2]).permutation(len(pool))
    owner = np.repeat(np.arange(len(pool)), pool.count)
    each = np.bincount(owner, np.isfinite(pool.speedup).mean(1), len(pool))[order]
    cut = int(np.searchsorted(np.cumsum(each), budget)) + 1
    if cut < FEWEST_PROGRAMS:
        raise AgentError(
            f"{budget} labels are {cut} programs; at least {FEWEST_PROGRAMS} are needed",
            "Give a larger --budget.",
        )
    return pool.take(np.sort(order[:cut]))


def arms(tuning: Tuning) -> dict[str, Tuning]:
    """What is compared: every mode, and from the start as slowly as in mode staged."""
    modes = {mode.value: replace(tuning, mode=mode) for mode in Mode}
    return {**modes, FREE_SLOW: replace(tuning, mode=Mode.FREE, freed=tuning.slower)}


def _predictions(start: _Start, budget: int, tuning: Tuning) -> dict[str, Doubles]:
    """Predicted times [n, t] of the test programs, by arm."""
    chosen = draw(start.pool, budget, tuning.seed)
    heads = starting_heads(start.prior, chosen)
    found = {BUNDLE: predict(start.encoder, heads, start.test)}
    rows = np.isfinite(chosen.speedup).sum(0) + np.isfinite(chosen.seconds[chosen.first]).sum(0)
    if rows.max() <= MOST_LABELS:
        found[CALIBRATED] = predict(start.encoder, _calibrated(start, chosen), start.test)
    train, held = split(chosen, tuning)
    reach = spread(start.prior)
    for name, arm in arms(tuning).items():
        tuned = tune(start.encoder, heads, reach, train, held, arm, lambda _: None)
        found[name] = predict(tuned.encoder, tuned.heads, start.test)
    return found


def _calibrated(start: _Start, chosen: Site) -> Doubles:
    """[t, E+1] the agent's own head on the same labels, the encoder as it is."""
    embedding = embed(start.encoder, chosen)
    heads = [
        RidgeHead.fit(start.prior.on(target.facts), observations(chosen, embedding, column))
        for column, target in enumerate(chosen.targets)
    ]
    return np.array([head.weights for head in heads])


def observations(site: Site, embedding: Doubles, column: int) -> Observations:
    """A target's labels as the agent's heads see them: all speed-ups, seconds of the bases."""
    group = np.repeat(np.arange(len(site)), site.count)
    fast = np.flatnonzero(np.isfinite(site.speedup[:, column]))
    slow = site.first[np.isfinite(site.seconds[site.first, column])]
    gains = (embedding[site.base] - embedding)[fast]
    return Observations(
        design=np.column_stack(
            [
                np.concatenate([gains, embedding[slow]]),
                np.repeat([0.0, 1.0], [len(fast), len(slow)]),
            ]
        ),
        target=np.concatenate([site.speedup[fast, column], site.seconds[slow, column]]),
        sd=site.sd[np.concatenate([fast, slow]), column],
        kind=np.repeat([SPEEDUP, SECONDS], [len(fast), len(slow)]),
        group=group[np.concatenate([fast, slow])],
    )


def _summary(
    start: _Start, budget: int, tried: Sequence[dict[str, Doubles]]
) -> list[dict[str, Any]]:
    """One row an arm: means over seeds, their spread, and the error staged tuning saves."""
    staged = np.mean([program_errors(start.test, t[Mode.STAGED.value]) for t in tried], axis=0)
    rows = []
    for arm in tried[0]:
        each = [figures(start.test, t[arm]) for t in tried]
        error = np.mean([program_errors(start.test, t[arm]) for t in tried], axis=0)
        rows.append(
            {
                "labels": budget,
                "arm": arm,
                **{name: round(float(np.mean([f[name] for f in each])), 4) for name in COLUMNS},
                "log_error_sd": _spread(each),
                "staged_saves": _interval(error - staged),
            }
        )
    return rows


def program_errors(site: Site, times: Doubles) -> Doubles:
    """[p] mean absolute log error of a program's speed-ups; nan where it has none."""
    errors = np.abs((times[site.base] - times) - site.speedup)
    timed = np.isfinite(errors)
    total = np.add.reduceat(np.where(timed, errors, 0.0).sum(1), site.first)
    count = np.add.reduceat(timed.sum(1), site.first)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _spread(each: Sequence[Figures]) -> float:
    return round(float(np.std([f["log_error"] for f in each])), 4)


def _interval(saved: Doubles) -> list[float]:
    """Mean over programs and its paired bootstrap interval; programs are drawn again."""
    saved = saved[np.isfinite(saved)]
    drawn = np.random.default_rng(0).integers(len(saved), size=(RESAMPLES, len(saved)))
    low, high = np.quantile(saved[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [round(float(x), 4) for x in (saved.mean(), low, high)]


def table(value: dict[str, Any]) -> str:
    """The comparison as text."""
    head = f"{'labels':>7}  {'arm':10}" + "".join(f"{name:>19}" for name in COLUMNS)
    about = (
        f"{', '.join(value['targets'])}: {value['test_programs']} test programs, "
        f"{value['seeds']} seeds; staged saves: log error less than this arm's, mean over "
        f"programs with its {value['level']:.0%} interval"
    )
    return "\n".join([about, f"{head}  staged saves", *map(_line, value["rows"])])


def _line(row: dict[str, Any]) -> str:
    mean, low, high = row["staged_saves"]
    cells = "".join(f"{row[name]:>19.3f}" for name in COLUMNS)
    saves = "" if row["arm"] == Mode.STAGED else f"  {mean:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{row['labels']:>7}  {row['arm']:10}{cells}{saves}"
