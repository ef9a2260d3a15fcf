"""A prior that fits a fine-tuned encoder: mean from the site's heads, the rest re-expressed.

What the old prior says of machines (its directions, what facts shift) is a prediction for every
program. The tuned embedding has other coordinates, so the same predictions need other weights:
those that repeat them best on the site's programs and differ little from the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from agent.arrays import Doubles
from agent.model.observations import design_rows
from agent.model.posterior import LEVEL, Z80, tail_factor
from agent.model.prior import Prior
from bundles.finetuning.site import Site

RIDGE = 1e-3  # times the number of rows; embeddings are whitened
LEAST_NOISE = 1e-3


@dataclass(frozen=True, eq=False)
class EmbeddedRows:
    """Rows by which a prior is re-expressed.

    Attributes:
        old: [n, E+1] designs in the old embedding.
        new: [n, E+1] the same in the tuned embedding.
    """

    old: Doubles
    new: Doubles


def prior_rows(site: Site, embedding: Doubles, others: Doubles) -> Doubles:
    """[m, E+1] speed-up rows of a site's versions [n, E], seconds rows of all bases and others."""
    gains = embedding[site.base] - embedding
    return design_rows(gains, np.concatenate([embedding[site.first], others]))


def refit_prior(
    prior: Prior, rows: EmbeddedRows, heads: Doubles, held: Site, times: Doubles
) -> Prior:
    """The prior of a fine-tuned encoder.

    Args:
        prior: of the encoder before.
        rows: what both encoders make of the same programs.
        heads: [t, E+1] of the site's targets, in the tuned embedding.
        held: programs that did not train them; errors on these set the noise.
        times: [n, t] log seconds less log work that the heads predict of ``held``.
    """
    moved = replace(
        prior,
        directions=_reexpressed(prior.directions, rows),
        facts_shift=_reexpressed(prior.facts_shift, rows),
    )
    known = [moved.on(target.facts).mean - moved.mean for target in held.targets]
    moved = replace(moved, mean=(heads - np.array(known)).mean(0))
    return _with_noise(moved, held, times)


def _reexpressed(weights: Doubles, rows: EmbeddedRows) -> Doubles:
    """Weights [E+1, k] in the tuned embedding that predict what they did in the old one."""
    ridge = RIDGE * len(rows.new) * np.eye(len(weights))
    missed = rows.new.T @ ((rows.old - rows.new) @ weights)
    new: Doubles = weights + np.linalg.solve(rows.new.T @ rows.new + ridge, missed)
    return new


def _with_noise(prior: Prior, held: Site, times: Doubles) -> Prior:
    """Noise scales fitted again, the prior's own counting as ``noise_weight`` labels more."""
    program, own = _parted(held, times)
    level = (times - held.seconds)[held.first]
    total = _scale(prior, level[np.isfinite(level)])
    before = float(np.hypot(prior.noise_seconds, prior.program_seconds))
    count = int(np.isfinite(level).sum())
    pooled = _pooled(prior, before, total, count) / before  # one row a program: keep the shares
    return replace(
        prior,
        noise_speedup=_pooled(prior, prior.noise_speedup, _scale(prior, own), len(own)),
        program_speedup=_pooled(prior, prior.program_speedup, _scale(prior, program), len(program)),
        noise_seconds=max(LEAST_NOISE, pooled * prior.noise_seconds),
        program_seconds=pooled * prior.program_seconds,
    )


def _parted(held: Site, times: Doubles) -> tuple[Doubles, Doubles]:
    """Errors of speed-ups: what all versions of a program and target share, and what is left."""
    errors = (times[held.base] - times) - held.speedup
    shared, own = [], []
    for start, count in zip(held.first, held.count, strict=True):
        for column in errors[start : start + count].T:
            timed = column[np.isfinite(column)]
            if len(timed):
                shared.append(float(np.median(timed)))
                own.append(timed - shared[-1])
    return np.array(shared), np.concatenate([np.zeros(0), *own])


def _scale(prior: Prior, errors: Doubles) -> float:
    """Scale of a Student-t of the prior's degrees of freedom, from its 80 % quantile."""
    if not len(errors):
        return 0.0
    return float(np.quantile(np.abs(errors), LEVEL)) / (Z80 * tail_factor(prior.noise_dof))


def _pooled(prior: Prior, before: float, found: float, count: int) -> float:
    weight = prior.noise_weight
    if weight + count == 0:
        return before
    return max(
        LEAST_NOISE, float(np.sqrt((weight * before**2 + count * found**2) / (weight + count)))
    )
