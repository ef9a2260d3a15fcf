"""From simulated machines to the prior of a bundle: whitened embedding, mean head, directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.model.prior import Prior, prior_from_machines

Doubles = npt.NDArray[np.float64]
SECONDS_SHARE = 0.3  # weight of a seconds row beside a speed-up row
EXPLAINED, MOST_DIRECTIONS = 0.97, 12
FLOOR = 1e-4  # least eigenvalue kept, relative to the largest
LEAST_REST = 1e-3  # machines are never all in the span of a few directions
# Errors on real machines are several times those on simulated ones (findings.md 1, 7 and 8): 0.5
# to 0.7 in all for speed-ups. A head must not believe its labels more than that allows.
REAL_NOISE = {"noise_speedup": 0.3, "noise_seconds": 0.3}
REAL_PROGRAM = {"program_speedup": 0.3, "program_seconds": 0.4}


@dataclass(frozen=True)
class Whitening:
    """e' = (e - shift) @ turn: differences of variants have about unit covariance.

    Attributes:
        shift: [E] mean embedding of programs as written.
        turn: [E, E].
    """

    shift: Doubles
    turn: Doubles

    def __call__(self, embedding: npt.NDArray[np.floating]) -> Doubles:
        """[..., E] embeddings, whitened."""
        return np.asarray((embedding - self.shift) @ self.turn, np.float64)


def whitening(embedding: npt.NDArray[np.floating]) -> Whitening:
    """The whitening of embeddings [p, v, E]; variant 0 is the base."""
    base, others = embedding[:, 0].astype(np.float64), embedding[:, 1:]
    shift = base.mean(0)
    gains = (base[:, None] - others).reshape(-1, base.shape[1])
    covariance = gains.T @ gains / len(gains) + SECONDS_SHARE * np.cov((base - shift).T)
    values, axes = np.linalg.eigh(covariance)
    return Whitening(shift, axes / np.sqrt(np.maximum(values, FLOOR * values[-1])))


def heads(embedding: Doubles, target: npt.NDArray[np.floating], ridge: float = 1e-3) -> Doubles:
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


def directions_needed(weights: Doubles) -> int:
    """How many principal directions explain ``EXPLAINED`` of how machines differ."""
    lengths = np.linalg.svd(weights - weights.mean(0), compute_uv=False) ** 2
    share = np.cumsum(lengths) / lengths.sum()
    return min(MOST_DIRECTIONS, 1 + int((share < EXPLAINED).sum()))


def make_prior(weights: Doubles, direction_scale: float = 1.0) -> Prior:
    """The prior of machines with heads [m, E+1].

    ``rest_sd`` is what the directions leave of the machines' differences, a weight.
    """
    count = directions_needed(weights)
    centred = weights - weights.mean(0)
    _, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    rest = max(LEAST_REST, float(np.sqrt((lengths[count:] ** 2).sum() / weights.size)))
    noise = {**REAL_NOISE, **REAL_PROGRAM}
    return prior_from_machines(
        weights, count, rest_sd=rest, direction_scale=direction_scale, intercept_sd=1.0, **noise
    )
