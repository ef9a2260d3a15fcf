"""The posterior of a machine's head: Gaussian given robust weights, which are found by iteration.

Student-t errors are Gaussian errors of unknown precision (a scale mixture). Given the precisions
everything is linear: the posterior of the weights, of each program's shared error and of each row's
own error come from one n x n inverse. Given those, each precision has a closed form. The two steps
are repeated (variational Bayes; Tipping and Lawrence 2005, "Variational inference for Student-t
models"). Noise scales are re-estimated with the prior's as pseudo-labels, so that few labels cannot
move them far.
"""

from dataclasses import dataclass

import numpy as np

from agent.model.observations import KINDS, Observations, PerKind
from agent.model.plain import Floats, Ints
from agent.model.prior import Prior

ITERATIONS = 12
TOLERANCE = 1e-3
LEVEL = 0.8
Z80 = 1.2815515655446004  # half width of the central 80 % of a standard normal
MOST_LABELS = 2000  # the n x n inverse stays under a second


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the labels say about this machine.

    Attributes:
        weights: [E+1] posterior mean of (w, b).
        covariance: [E+1, E+1].
        noise: sd of a row's error on a new program, own and shared together.
        left_out: [n] prediction of each row from the labels of all other programs.
        left_out_sd: [n] predictive sd that goes with it.
    """

    weights: Floats
    covariance: Floats
    noise: PerKind
    left_out: Floats
    left_out_sd: Floats


@dataclass(frozen=True, eq=False)
class _Problem:
    """The parts of the covariance of the labels that iteration does not change."""

    prior: Prior
    residual: Floats  # [n] target less the bundle's prediction
    along: Floats  # [n, K] designs projected on the directions
    rest: Floats  # [n, n] covariance through weights beyond the directions
    member: Floats  # [n, B] 1 where a row belongs to a block (a program's rows of one kind)
    observations: Observations


@dataclass(frozen=True, eq=False)
class _Scales:
    """Precisions and variances: what iteration does change."""

    machine: float  # precision of z
    row: Floats  # [n] variance of each row's own error
    block: Floats  # [B] variance of each block's shared error
    noise: Floats  # [2] variance by kind of an ordinary row
    program: Floats  # [2] variance by kind of an ordinary program


def posterior(prior: Prior, observations: Observations) -> Posterior:
    """Fit the labels robustly; with none of them the prior itself comes back.

    Raises:
        ValueError: designs do not have the prior's width, or there are more than MOST_LABELS.
    """
    if observations.design.shape[1] != len(prior.mean) or len(observations) > MOST_LABELS:
        raise ValueError(f"designs are [n <= {MOST_LABELS}, {len(prior.mean)}]")
    problem = _problem(prior, observations)
    scales = _start(problem)
    for _ in range(ITERATIONS):
        before, scales = scales, _update(problem, scales, _inverse(problem, scales))
        if np.allclose(before.row, scales.row, rtol=TOLERANCE):
            break
    return _finish(problem, scales, _inverse(problem, scales))


def _problem(prior: Prior, observations: Observations) -> _Problem:
    design = observations.design
    block = _blocks(observations)
    member = (block[:, None] == np.arange(block.max(initial=-1) + 1)).astype(np.float64)
    beyond = design * prior.rest
    residual = observations.target - design @ prior.mean
    along = design @ prior.scaled_directions
    return _Problem(prior, residual, along, beyond @ beyond.T, member, observations)


def _blocks(observations: Observations) -> Ints:
    """[n] number of the (program, kind) a row belongs to."""
    group = np.unique(observations.group, return_inverse=True)[1]
    block: Ints = np.unique(2 * group + _kind_index(observations), return_inverse=True)[1]
    return block


def _kind_index(observations: Observations) -> Ints:
    second: Ints = (observations.kind == KINDS[1]).astype(np.int64)
    return second


def _block_kind(problem: _Problem) -> Ints:
    return problem.member.argmax(axis=0).astype(np.int64) if len(problem.residual) else _NONE


_NONE = np.zeros(0, dtype=np.int64)


def _start(problem: _Problem) -> _Scales:
    prior = problem.prior
    noise = np.array([prior.noise.of(kind) for kind in KINDS]) ** 2
    program = np.array([prior.program.of(kind) for kind in KINDS]) ** 2
    kind = _kind_index(problem.observations)
    block = program[kind[_block_kind(problem)]]
    return _Scales(1.0, noise[kind] + problem.observations.sd**2, block, noise, program)


def _inverse(problem: _Problem, scales: _Scales) -> Floats:
    """[n, n] inverse covariance of the labels."""
    total = problem.along @ problem.along.T / scales.machine + problem.rest
    total += (problem.member * scales.block) @ problem.member.T
    total[np.diag_indices_from(total)] += scales.row
    return np.linalg.inv(total).astype(np.float64, copy=False)


def _update(problem: _Problem, scales: _Scales, inverse: Floats) -> _Scales:
    """One round: expected squares of all errors, then the precisions and scales they imply."""
    pull = inverse @ problem.residual
    own = (scales.row * pull) ** 2 + scales.row - scales.row**2 * np.diag(inverse)
    shared_pull = problem.member.T @ pull
    shared_inverse = np.sum((inverse @ problem.member) * problem.member, axis=0)
    shared = (scales.block * shared_pull) ** 2 + scales.block - scales.block**2 * shared_inverse
    machine = _machine_precision(problem, scales, inverse, pull)
    return _rescale(problem, scales, np.maximum(own, 0), np.maximum(shared, 0), machine)


def _machine_precision(problem: _Problem, scales: _Scales, inverse: Floats, pull: Floats) -> float:
    """Precision of z: below 1 where this machine lies farther out than most."""
    along, dof, size = problem.along, problem.prior.machine_dof, problem.along.shape[1]
    mean = along.T @ pull / scales.machine
    explained = float(np.sum(along * (inverse @ along))) / scales.machine**2
    square = float(mean @ mean) + size / scales.machine - explained
    return float((dof + size) / (dof + max(square, 0.0)))


def _rescale(
    problem: _Problem, scales: _Scales, own: Floats, shared: Floats, machine: float
) -> _Scales:
    prior, sd = problem.prior, problem.observations.sd
    dof = prior.noise_dof
    kind = _kind_index(problem.observations)
    block_kind = kind[_block_kind(problem)]
    usual = scales.noise[kind] + sd**2
    precision = (dof + 1) / (dof + own / usual)
    ordinary = np.maximum(scales.program[block_kind], 1e-12)
    block_precision = (dof + 1) / (dof + shared / ordinary)
    noise = _pooled(prior, prior.noise, precision * own - sd**2, kind)
    program = _pooled(prior, prior.program, block_precision * shared, block_kind)
    row = (noise[kind] + sd**2) / precision
    return _Scales(machine, row, program[block_kind] / block_precision, noise, program)


def _pooled(prior: Prior, before: PerKind, squares: Floats, kind: Ints) -> Floats:
    """[2] variance by kind: the prior's and the labels' own, weighted by how many each is worth."""
    start = np.array([before.of(k) for k in KINDS]) ** 2
    total = np.maximum(np.bincount(kind, weights=squares, minlength=2), 0.0)
    count = np.bincount(kind, minlength=2) + prior.noise_weight
    pooled = (prior.noise_weight * start + total) / np.maximum(count, 1e-12)
    return np.where(count > 0, np.maximum(pooled, 1e-2 * start), start)


def _finish(problem: _Problem, scales: _Scales, inverse: Floats) -> Posterior:
    prior, design = problem.prior, problem.observations.design
    spread = prior.scaled_directions
    back = spread @ problem.along.T / scales.machine + (prior.rest**2)[:, None] * design.T
    weights = prior.mean + back @ (inverse @ problem.residual)
    before = spread @ spread.T / scales.machine + np.diag(prior.rest**2)
    covariance = before - back @ inverse @ back.T
    noise = tail_factor(prior.noise_dof) * np.sqrt(scales.noise + scales.program)
    left_out, left_out_sd = _leave_out(problem, scales, inverse)
    covariance = (covariance + covariance.T) / 2
    return Posterior(weights, covariance, PerKind(*map(float, noise)), left_out, left_out_sd)


def _leave_out(problem: _Problem, scales: _Scales, inverse: Floats) -> tuple[Floats, Floats]:
    """Prediction and sd of each row without its program, from one inverse (block leave-one-out).

    With P the inverse covariance and g the rows of a program, the residual without them is
    ``inv(P[g, g]) @ (P @ residual)[g]`` and its covariance ``inv(P[g, g])``; the rows' own
    down-weighting, which knew them, is taken out of that covariance again.
    """
    observations = problem.observations
    pull = inverse @ problem.residual
    error, variance = np.zeros(len(observations)), np.zeros(len(observations))
    for group in np.unique(observations.group):
        rows = np.flatnonzero(observations.group == group)
        block = np.linalg.inv(inverse[np.ix_(rows, rows)])
        error[rows] = block @ pull[rows]
        variance[rows] = np.diag(block)
    shared = problem.member @ scales.block
    tail = tail_factor(problem.prior.noise_dof)
    nominal = tail**2 * (scales.noise + scales.program)[_kind_index(observations)]
    signal = np.maximum(variance - scales.row - shared, 0.0)
    return observations.target - error, np.sqrt(signal + nominal)


def tail_factor(dof: float) -> float:
    """80 % half width of Student's t over the normal's: what a robust scale means as an sd.

    First terms of the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5).
    """
    z = Z80
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return float((z + first / dof + second / dof**2) / z)


def quantile_scale(score: Floats, groups: int) -> float:
    """How much wider intervals must be, from errors in units of their predicted sd.

    The finite-sample level of split conformal prediction, with programs as the units (rows of one
    are not independent), drawn towards 1 while there are few programs.

    Args:
        score: [n] absolute error / predicted sd, each from a fit without that program.
        groups: number of programs in ``score``.
    """
    if len(score) == 0:
        return 1.0
    found = float(np.quantile(score, min(1.0, LEVEL * (1 + 1 / groups)))) / Z80
    trust = groups / (groups + 8)
    return float(np.clip(max(found, 1e-3) ** trust, 0.25, 4.0))
