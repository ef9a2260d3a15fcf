"""How good a bundle is on programs and machines that its training never saw.

Machines are simulated, labels get errors such as real machines show beside the simulation
(findings.md 7 and 8: heavy-tailed, partly shared by all schedules of a program), so that heads are
compared where they must work. Figures on real machines come from calibrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.arrays import Doubles, Floats
from agent.model.linear import RidgeHead
from agent.model.observations import Observations
from agent.model.prior import Prior
from agent.model.score import log_error, spearman, top_share
from bundles.training.prior import SECONDS_SHARE
from bundles.training.validation import labels_of

LABELS = 48
SCALES = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
ROW_ERROR, PROGRAM_ERROR, FREEDOM = 0.2, 0.2, 4.0  # misfit of the simulation, in log units


@dataclass(frozen=True)
class HeldOut:
    """Programs and machines not used in training.

    Attributes:
        known: [p, v, E] embeddings of programs that labels are taken from.
        known_target: [p, v, m].
        unseen: [q, v, E] embeddings of programs to predict.
        unseen_target: [q, v, m].
        facts: [m, f] of the machines (``agent.model.facts``).
    """

    known: Doubles
    known_target: Floats
    unseen: Doubles
    unseen_target: Floats
    facts: Doubles


def with_errors(target: Floats, rng: np.random.Generator) -> Doubles:
    """Targets [p, v] with errors of a row and errors shared by a program's variants."""
    rows = ROW_ERROR * rng.standard_t(FREEDOM, target.shape)
    shared = PROGRAM_ERROR * rng.standard_t(FREEDOM, (len(target), 1))
    out = target + np.where(np.arange(target.shape[1]) > 0, rows + shared, 0.0)
    return np.asarray(out + PROGRAM_ERROR * rng.standard_t(FREEDOM, (len(target), 1)))


def some_labels(
    embedding: Doubles, target: Doubles, count: int, rng: np.random.Generator
) -> Observations:
    """``count`` speed-ups, two a program, and the seconds of those programs."""
    programs = rng.choice(len(embedding), count // 2, replace=False)
    picked = rng.permuted(np.tile(np.arange(1, embedding.shape[1]), (len(programs), 1)), axis=1)
    where, which = np.repeat(programs, 2), picked[:, :2].ravel()
    return labels_of(embedding, target, programs, (where, which))


def head_figures(weights: Doubles, embedding: Doubles, target: Doubles) -> dict[str, float]:
    """Errors of a head (w, b) [E+1] on programs [q, v, E] with times [q, v]."""
    gains = ((embedding[:, :1] - embedding[:, 1:]) @ weights[:-1]).ravel()
    truth = (target[:, :1] - target[:, 1:]).ravel()
    group = np.repeat(np.arange(len(target)), target.shape[1] - 1)
    seconds = embedding[:, 0] @ weights[:-1] + weights[-1] - target[:, 0]
    return {
        "log_error": log_error(truth, gains),
        "spearman": spearman(truth, gains, group) or 0.0,
        "top_share": top_share(truth, gains, group) or 0.0,
        "seconds_log_error": float(np.mean(np.abs(seconds))),
    }


def mean_of_rows(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over rows, to four digits."""
    return {name: round(float(np.mean([r[name] for r in rows])), 4) for name in rows[0]}


def calibrated(prior: Prior, held: HeldOut, count: int, seed: int) -> dict[str, float]:
    """Mean figures over the machines, each with ``count`` labels of its own (0: none)."""
    rows = []
    for m in range(held.known_target.shape[2]):
        rng = np.random.default_rng([seed, m])
        known = with_errors(held.known_target[:, :, m], rng)
        here = prior.on(held.facts[m])
        weights = here.mean
        if count:
            weights = RidgeHead.fit(here, some_labels(held.known, known, count, rng)).weights
        unseen = held.unseen_target[:, :, m].astype(np.float64)
        rows.append(head_figures(weights, held.unseen, unseen))
    return mean_of_rows(rows)


def scale_for_simulated(prior: Prior, held: HeldOut, seed: int) -> float:
    """The shrinkage strength that serves machines best with 48 labels."""

    def score(scale: float) -> float:
        tried = calibrated(replace(prior, direction_scale=scale), held, LABELS, seed)
        return tried["log_error"] + SECONDS_SHARE * tried["seconds_log_error"]

    return min(SCALES, key=score)


def held_out_figures(prior: Prior, held: HeldOut, seed: int) -> dict[str, dict[str, float]]:
    """Figures for the manifest: controls, no labels, 16 and 48 labels, and the best linear head."""
    truth = held.unseen_target.astype(np.float64)
    nothing = [
        head_figures(np.zeros(len(prior.mean)), held.unseen, truth[..., m]) for m in _range(held)
    ]
    median = []
    for m in _range(held):
        gains = truth[:, :1, m] - truth[:, 1:, m]
        median.append({"log_error": float(np.mean(np.abs(gains - np.median(gains))))})
    return {
        "median_baseline": {"log_error": mean_of_rows(median)["log_error"], "spearman": 0.0}
        | {"top_share": mean_of_rows(nothing)["top_share"]},
        "labels_0": calibrated(prior, held, 0, seed),
        "labels_16": calibrated(prior, held, 16, seed),
        "labels_48": calibrated(prior, held, LABELS, seed),
    }


def _range(held: HeldOut) -> range:
    return range(held.unseen_target.shape[2])
