"""Is staged fine-tuning worth it? The three modes and the bundle as it is, on the same labels.

Every arm learns from the same programs and is judged on the same test programs, which nothing has
learned from. Seeds draw the programs of a budget, the validation programs and the batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from agent.arrays import Doubles
from agent.bundle.bundle import Bundle
from agent.errors import AgentError
from agent.model.linear import RidgeHead
from agent.model.observations import SECONDS, SPEEDUP, Observations, design_rows
from agent.model.posterior import MOST_LABELS
from agent.model.prior import Prior
from agent.model.score import central_interval
from bundles.finetuning.site import Site, SiteFigures, join_labels, program_errors, site_figures
from bundles.finetuning.start import (
    FEWEST_PROGRAMS,
    predicted_times,
    site_embedding,
    split_off_test,
    starting_point,
)
from bundles.finetuning.thaw import thaw
from bundles.finetuning.tuning import Mode, Tuning, split_off_validation, tune_in_stages
from bundles.labels.labels import Labels
from bundles.training.network import Encoders
from bundles.training.settings import Say

RESAMPLES, LEVEL = 2000, 0.8
BUNDLE, CALIBRATED, FREE_SLOW = "bundle", "calibrated", "free-slow"
COLUMNS = tuple(field.name for field in fields(SiteFigures))


@dataclass(frozen=True)
class ModeFigures:
    """One arm at one budget; ``staged_saves``: of the log error, mean and interval."""

    labels: int
    arm: str
    log_error: float
    spearman: float
    top_share: float
    seconds_log_error: float
    log_error_sd: float
    staged_saves: tuple[float, float, float]


@dataclass(frozen=True)
class ModeComparison:
    """All of it; ``level``: of the intervals."""

    bundle: str
    targets: tuple[str, ...]
    test_programs: int
    test_labels: int
    seeds: int
    level: float
    rows: tuple[ModeFigures, ...]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Known:
    """What every arm starts from, and what it is judged by."""

    encoder: Encoders
    prior: Prior
    pool: Site
    test: Site


def compare_modes(
    bundle: Bundle,
    labels: Sequence[Labels],
    tuning: Tuning,
    budgets: Sequence[int],
    seeds: int,
    say: Say,
) -> ModeComparison:
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
    pool, test = split_off_test(join_labels(labels))
    known = _Known(thaw(bundle), Prior.from_json(bundle.prior), pool, test)
    most = pool.labels // len(pool.targets)
    rows: list[ModeFigures] = []
    for budget in [*(b for b in sorted(set(budgets)) if b < most), most]:
        tried = [
            _predictions(known, budget, replace(tuning, seed=tuning.seed + n)) for n in range(seeds)
        ]
        found = _figures(test, budget, tried)
        for row in found:
            say(_line(row))
        rows += found
    names = tuple(target.name for target in pool.targets)
    return ModeComparison(bundle.digest, names, len(test), test.labels, seeds, LEVEL, tuple(rows))


def draw_to_label(pool: Site, budget: int, seed: int) -> Site:
    """Programs, drawn one by one, with about ``budget`` speed-ups a target."""
    order = np.random.default_rng([seed, 2]).permutation(len(pool))
    each = np.bincount(pool.owner, np.isfinite(pool.speedup).mean(1), len(pool))[order]
    cut = int(np.searchsorted(np.cumsum(each), budget)) + 1
    if cut < FEWEST_PROGRAMS:
        raise AgentError(
            f"{budget} labels are {cut} programs; at least {FEWEST_PROGRAMS} are needed",
            "Give a larger --budget.",
        )
    return pool.take(np.sort(order[:cut]))


def tuned_arms(tuning: Tuning) -> dict[str, Tuning]:
    """What is compared: every mode, and from the start as slowly as in mode staged."""
    modes = {mode.value: replace(tuning, mode=mode) for mode in Mode}
    return {**modes, FREE_SLOW: replace(tuning, mode=Mode.FREE, freed=tuning.slower)}


def _predictions(known: _Known, budget: int, tuning: Tuning) -> dict[str, Doubles]:
    """Predicted times [n, t] of the test programs, by arm."""
    chosen = draw_to_label(known.pool, budget, tuning.seed)
    start = starting_point(known.encoder, known.prior, chosen)
    found = {BUNDLE: predicted_times(known.encoder, start.heads, known.test)}
    rows = np.isfinite(chosen.speedup).sum(0) + np.isfinite(chosen.seconds[chosen.first]).sum(0)
    if rows.max() <= MOST_LABELS:
        heads = _calibrated(known, chosen)
        found[CALIBRATED] = predicted_times(known.encoder, heads, known.test)
    train, held = split_off_validation(chosen, tuning)
    for name, arm in tuned_arms(tuning).items():
        tuned = tune_in_stages(start, train, held, arm, lambda _: None)
        found[name] = predicted_times(tuned.encoder, tuned.heads, known.test)
    return found


def _calibrated(known: _Known, chosen: Site) -> Doubles:
    """[t, E+1] the agent's own head on the same labels, the encoder as it is."""
    embedding = site_embedding(known.encoder, chosen)
    heads = [
        RidgeHead.fit(known.prior.on(target.facts), observed_labels(chosen, embedding, column))
        for column, target in enumerate(chosen.targets)
    ]
    return np.array([head.weights for head in heads])


def observed_labels(site: Site, embedding: Doubles, column: int) -> Observations:
    """A target's labels as the agent's heads see them: all speed-ups, seconds of the bases."""
    fast = np.flatnonzero(np.isfinite(site.speedup[:, column]))
    slow = site.first[np.isfinite(site.seconds[site.first, column])]
    both = np.concatenate([fast, slow])
    return Observations(
        design=design_rows((embedding[site.base] - embedding)[fast], embedding[slow]),
        target=np.concatenate([site.speedup[fast, column], site.seconds[slow, column]]),
        sd=site.sd[both, column],
        kind=np.repeat([SPEEDUP, SECONDS], [len(fast), len(slow)]),
        group=site.owner[both],
    )


def _figures(test: Site, budget: int, tried: Sequence[dict[str, Doubles]]) -> list[ModeFigures]:
    """One row an arm: means over seeds, their spread, and the error staged tuning saves."""
    errors = {
        arm: np.mean([program_errors(test, times[arm]) for times in tried], axis=0)
        for arm in tried[0]
    }
    rows = []
    for arm, error in errors.items():
        each = [site_figures(test, times[arm]) for times in tried]
        spread = round(float(np.std([figures.log_error for figures in each])), 4)
        saved = _saved(error - errors[Mode.STAGED])
        means = vars(SiteFigures.mean(each))
        rows.append(ModeFigures(budget, arm, **means, log_error_sd=spread, staged_saves=saved))
    return rows


def _saved(saved: Doubles) -> tuple[float, float, float]:
    """Mean over programs and its paired bootstrap interval; programs are drawn again."""
    saved = saved[np.isfinite(saved)]
    drawn = np.random.default_rng(0).integers(len(saved), size=(RESAMPLES, len(saved)))
    low, high = central_interval(saved[drawn].mean(1), LEVEL)
    return round(float(saved.mean()), 4), round(low, 4), round(high, 4)


def comparison_table(found: ModeComparison) -> str:
    """The comparison as text."""
    head = f"{'labels':>7}  {'arm':10}" + "".join(f"{name:>19}" for name in COLUMNS)
    about = (
        f"{', '.join(found.targets)}: {found.test_programs} test programs, "
        f"{found.seeds} seeds; staged saves: log error less than this arm's, mean over "
        f"programs with its {found.level:.0%} interval"
    )
    return "\n".join([about, f"{head}  staged saves", *map(_line, found.rows)])


def _line(row: ModeFigures) -> str:
    mean, low, high = row.staged_saves
    cells = "".join(f"{getattr(row, name):>19.3f}" for name in COLUMNS)
    saves = "" if row.arm == Mode.STAGED else f"  {mean:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{row.labels:>7}  {row.arm:10}{cells}{saves}"
