"""From simulated machines to the prior of a bundle: whitened embedding, mean head, directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from agent.arrays import Doubles, Floats
from agent.model.prior import Prior

SECONDS_SHARE = 0.3  # weight of a seconds row beside a speed-up row
EXPLAINED, MOST_DIRECTIONS = 0.97, 12
FLOOR = 1e-4  # least eigenvalue kept, relative to the largest
LEAST_REST = 1e-3  # machines are never all in the span of a few directions
REFERENCE_WEIGHT = 10.0  # a real machine says as much about what facts do as so many simulated
REFERENCE_SHARE = 1.0  # of the differences between machines: real ones weigh as much as simulated
FACTS_RIDGE, BIAS_RIDGE = 10.0, 20.0
KNOWN_INTERCEPT_SD = 0.4  # beyond the directions, once some real machine is known
LEAST_SPREAD = 0.25  # of a fact: log units, or share of machines


@dataclass(frozen=True)
class Whitening:
    """e' = (e - shift) @ turn: differences of variants have about unit covariance.

    Attributes:
        shift: [E] mean embedding of programs as written.
        turn: [E, E].
    """

    shift: Doubles
    turn: Doubles

    def __call__(self, embedding: Floats) -> Doubles:
        """[..., E] embeddings, whitened."""
        return np.asarray((embedding - self.shift) @ self.turn, np.float64)


def whitening(embedding: Floats) -> Whitening:
    """The whitening of embeddings [p, v, E]; variant 0 is the base."""
    shift = embedding[:, 0].astype(np.float64).mean(0)
    axes, scale = _principal_axes(embedding)
    return Whitening(shift, axes / scale)


def _principal_axes(embedding: Floats) -> tuple[Doubles, Doubles]:
    """Axes [E, E] of what embeddings [p, v, E] differ by, and the sd on each [E]."""
    base, others = embedding[:, 0].astype(np.float64), embedding[:, 1:]
    gains = (base[:, None] - others).reshape(-1, base.shape[1])
    covariance = gains.T @ gains / len(gains) + SECONDS_SHARE * np.cov(base.T)
    values, axes = np.linalg.eigh(covariance)
    return axes, np.sqrt(np.maximum(values, FLOOR * values[-1]))


@dataclass(frozen=True)
class Joining:
    """e' = e @ turn: embeddings of K encoders, beside each other, in fewer whitened coordinates.

    Attributes:
        turn: [K E, E].
        back: [K E, E]; heads h of e become h @ back, and predict what they did where the
            coordinates left out say little.
    """

    turn: Doubles
    back: Doubles

    def heads(self, found: Doubles) -> Doubles:
        """[m, K E+1] heads as heads [m, E+1] of the joined embedding."""
        return np.column_stack([found[:, :-1] @ self.back, found[:, -1]])


def joining(embedding: Doubles, found: Doubles, parts: int) -> Joining:
    """The coordinates in which machines' predictions by embeddings [p, v, K E] differ most.

    Args:
        embedding: of K encoders beside each other, whitened each; variant 0 is the base.
        found: [m, K E+1] heads of machines.
        parts: K.
    """
    axes, scale = _principal_axes(embedding)
    _, _, directions = np.linalg.svd(found[:, :-1] @ (axes * scale))
    kept = directions[: embedding.shape[-1] // parts].T
    return Joining((axes / scale) @ kept, (axes * scale) @ kept)


def heads(embedding: Doubles, target: Floats, ridge: float = 1e-3) -> Doubles:
    """[m, E+1] best linear head of every machine, intercept last.

    Args:
        embedding: [p, v, E] whitened; variant 0 is the base.
        target: [p, v, m] log seconds less log work.
        ridge: times the number of rows, added to the diagonal.
    """
    p, v, e = embedding.shape
    gains = (embedding[:, :1] - embedding[:, 1:]).reshape(-1, e)
    rows = np.concatenate([gains, embedding[:, 0]])
    ones = np.concatenate([np.zeros(len(gains)), np.ones(p)])
    design = np.column_stack([rows, ones])
    labels = np.concatenate(
        [(target[:, :1] - target[:, 1:]).reshape(p * (v - 1), -1), target[:, 0]]
    ).astype(np.float64)
    weight = np.where(ones > 0, SECONDS_SHARE * (v - 1), 1.0)[:, None]
    normal = design.T @ (weight * design) + ridge * p * np.eye(e + 1)
    return np.asarray(np.linalg.solve(normal, design.T @ (weight * labels)).T)


def mean_heads(found: Iterable[Doubles]) -> Doubles:
    """[m, K E+1] heads of K encoders beside each other that predict the mean of heads [m, E+1]."""
    each = list(found)
    weights = np.concatenate([some[:, :-1] for some in each], axis=1)
    intercepts = np.sum([some[:, -1:] for some in each], axis=0)
    return np.concatenate([weights, intercepts], axis=1) / len(each)


@dataclass(frozen=True, eq=False)
class MachineHeads:
    """Machines with their linear heads: what a prior is learnt from.

    Attributes:
        heads: [m, E+1] intercept last.
        facts: [m, f] as ``agent.model.facts.FACTS``; nan where unknown.
    """

    heads: Doubles
    facts: Doubles


@dataclass(frozen=True)
class Noise:
    """What no head explains, log units: robust scales on programs that no head has seen."""

    speedup: float = 0.3
    seconds: float = 0.3
    program_speedup: float = 0.3
    program_seconds: float = 0.4


def directions_needed(differences: Doubles, most: int = MOST_DIRECTIONS) -> int:
    """How many principal directions explain ``EXPLAINED`` of how machines differ."""
    lengths = np.linalg.svd(differences, compute_uv=False) ** 2
    share = np.cumsum(lengths) / lengths.sum()
    return min(most, 1 + int((share < EXPLAINED).sum()))


def make_prior(
    simulated: MachineHeads,
    reference: MachineHeads | None = None,
    noise: Noise = Noise(),
    direction_scale: float = 1.0,
) -> Prior:
    """The prior of heads: how facts move them, how real machines differ from simulated ones.

    A machine's head is ``centre + shift . facts + bias + difference``. The shift is a ridge
    regression over all machines, a reference machine counting as ``REFERENCE_WEIGHT`` simulated
    ones; the bias, what reference machines have in common beyond it, is part of the mean of every
    real machine; the differences that remain, of simulated and of reference machines, give the
    directions.

    Args:
        simulated: many machines; ``reference``: a few real ones, or none.
        reference: see there.
        noise: what no head explains.
        direction_scale: see ``Prior``.
    """
    known = np.zeros((0, simulated.heads.shape[1])) if reference is None else reference.heads
    facts = simulated.facts if reference is None else np.vstack([simulated.facts, reference.facts])
    centre = np.nanmean(simulated.facts, axis=0)
    scale = np.maximum(np.nanstd(simulated.facts, axis=0), LEAST_SPREAD)
    x = np.nan_to_num((facts - centre) / scale)
    y = np.vstack([simulated.heads, known])
    real = (np.arange(len(y)) >= len(simulated.heads)).astype(np.float64)
    weight = np.where(real > 0, REFERENCE_WEIGHT, 1.0)
    design = np.column_stack([np.ones(len(y)), real, x])
    penalty = np.diag([0.0, BIAS_RIDGE, *np.full(x.shape[1], FACTS_RIDGE)])
    normal = design.T @ (weight[:, None] * design) + penalty
    found = np.linalg.solve(normal, design.T @ (weight[:, None] * y))  # [2+f, E+1]
    rest = y - design @ found
    spread = np.where(
        real > 0, np.sqrt(REFERENCE_SHARE / max(len(known), 1)), 1 / np.sqrt(len(simulated.heads))
    )
    differences = rest * spread[:, None]
    return _prior(found, differences, (centre, scale), noise, direction_scale, known=len(known) > 0)


def _prior(
    found: Doubles,
    differences: Doubles,
    facts: tuple[Doubles, Doubles],
    noise: Noise,
    direction_scale: float,
    *,
    known: bool,
) -> Prior:
    """The prior of coefficients [2+f, E+1] and weighted differences [m, E+1] of machines."""
    count = directions_needed(differences)
    _, lengths, axes = np.linalg.svd(differences, full_matrices=False)
    left = max(LEAST_REST, float(np.sqrt((lengths[count:] ** 2).sum() / found.shape[1])))
    return Prior(
        mean=found[0] + found[1],
        directions=axes[:count].T * lengths[:count],
        noise_speedup=noise.speedup,
        noise_seconds=noise.seconds,
        program_speedup=noise.program_speedup,
        program_seconds=noise.program_seconds,
        rest_sd=left,
        intercept_sd=KNOWN_INTERCEPT_SD if known else 1.0,
        direction_scale=direction_scale,
        facts_centre=facts[0],
        facts_scale=facts[1],
        facts_shift=found[2:].T,
    )
