"""The posterior of a machine's head: Gaussian given robust weights, which are found by iteration.

Student-t errors are Gaussian errors of unknown precision (a scale mixture). Given the precisions
everything is linear: the posterior of the weights, of each program's shared error and of each row's
own error. Given those, each precision has a closed form. The two steps are repeated (variational
Bayes; Tipping and Lawrence 2005, "Variational inference for Student-t models"). Noise scales are
re-estimated with the prior's as pseudo-labels, so that few labels cannot move them far.

Nothing is ever [n, n]: errors of different programs are independent, and what is common to all rows
are the q = E + 1 + K unknowns of the machine (its weights beyond the directions, its place along
them). By Woodbury's identity a round costs n q^2.
"""

from dataclasses import dataclass, replace

import numpy as np

from agent.arrays import Doubles, Ints
from agent.model.observations import KINDS, Observations, PerKind
from agent.model.prior import Prior

ITERATIONS = 12
TOLERANCE = 1e-3
LEVEL = 0.8
Z80 = 1.2815515655446004  # half width of the central 80 % of a standard normal
MOST_LABELS = 100_000  # a few kB of memory each


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the labels say about this machine.

    Attributes:
        weights: [E+1] posterior mean of (w, b).
        covariance: [E+1, E+1].
        noise: sd of a row's error on a new program, own and shared together.
        own: scale (``Prior.noise``) of rows' own errors, the prior's and the labels' pooled.
        shared: scale (``Prior.program``) of the errors that a program's rows share, likewise.
        left_out: [n] prediction of each row from the labels of all other programs.
        left_out_sd: [n] predictive sd that goes with it.
    """

    weights: Doubles
    covariance: Doubles
    noise: PerKind
    own: PerKind
    shared: PerKind
    left_out: Doubles
    left_out_sd: Doubles


@dataclass(frozen=True, eq=False)
class _Problem:
    """The parts that iteration does not change; a block is a program's rows of one kind."""

    prior: Prior
    residual: Doubles  # [n] target less the bundle's prediction
    along: Doubles  # [n, K] designs projected on the directions
    beyond: Doubles  # [n, E+1] designs times the sd of each weight beyond the directions
    kind: Ints  # [n] index of the row's kind
    block: Ints  # [n] number of the block that the row belongs to
    block_kind: Ints  # [B]
    observations: Observations


@dataclass(frozen=True, eq=False)
class _Scales:
    """Precisions and variances: what iteration does change."""

    machine: float  # precision of z
    level: float  # precision of the intercept beyond the directions
    row: Doubles  # [n] variance of each row's own error
    block: Doubles  # [B] variance of each block's shared error
    noise: Doubles  # [2] variance by kind of an ordinary row
    program: Doubles  # [2] variance by kind of an ordinary program


@dataclass(frozen=True, eq=False)
class _Solved:
    """The Gaussian posterior at given scales, in units of the prior of the q unknowns."""

    common: Doubles  # [n, q] what one sd of each unknown adds to a row
    seen: Doubles  # [n, q] the inverse covariance of the errors times ``common``
    left: Doubles  # [q, q] posterior covariance of the unknowns
    place: Doubles  # [q] posterior mean of the unknowns
    pull: Doubles  # [n] the inverse covariance of the labels times the residual


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
        before, scales = scales, _update(problem, scales, _solve(problem, scales))
        if np.allclose(before.row, scales.row, rtol=TOLERANCE):
            break
    return _finish(problem, scales, _solve(problem, scales))


def _problem(prior: Prior, observations: Observations) -> _Problem:
    design = observations.design
    kind = (observations.kind == KINDS[1]).astype(np.int64)
    group = np.unique(observations.group, return_inverse=True)[1]
    blocks, block = np.unique(2 * group + kind, return_inverse=True)
    residual = observations.target - design @ prior.mean
    along, beyond = design @ prior.scaled_directions, design * prior.rest
    return _Problem(prior, residual, along, beyond, kind, block, blocks % 2, observations)


def _start(problem: _Problem) -> _Scales:
    prior = problem.prior
    noise = np.array([prior.noise.of(kind) for kind in KINDS]) ** 2
    program = np.array([prior.program.of(kind) for kind in KINDS]) ** 2
    row = noise[problem.kind] + problem.observations.sd**2
    return _Scales(1.0, 1.0, row, program[problem.block_kind], noise, program)


def _solve(problem: _Problem, scales: _Scales) -> _Solved:
    common = np.hstack([problem.along, problem.beyond]) * _spread(problem, scales)
    seen = _whiten(problem, scales, common)
    precision = np.eye(common.shape[1]) + common.T @ seen
    left = np.linalg.inv(precision)
    place = left @ (seen.T @ problem.residual)
    pull = _whiten(problem, scales, (problem.residual - common @ place)[:, None])[:, 0]
    return _Solved(common, seen, (left + left.T) / 2, place, pull)


def _spread(problem: _Problem, scales: _Scales) -> Doubles:
    """[q] sd of the unknowns of this machine, in units of the prior's."""
    spread = np.ones(problem.along.shape[1] + problem.beyond.shape[1])
    spread[: problem.along.shape[1]] = 1 / np.sqrt(scales.machine)
    spread[-1] = 1 / np.sqrt(scales.level)
    return spread


def _whiten(problem: _Problem, scales: _Scales, columns: Doubles) -> Doubles:
    """[n, c] the inverse of the errors' covariance (own and shared) times ``columns`` [n, c]."""
    own = columns / scales.row[:, None]
    taken = _by_block(problem, own) * _shared_gain(problem, scales)[:, None]
    return own - taken[problem.block] / scales.row[:, None]


def _shared_gain(problem: _Problem, scales: _Scales) -> Doubles:
    """[B] by Sherman and Morrison: variance shared / (1 + that times the rows' precisions)."""
    total = np.bincount(problem.block, 1 / scales.row, len(scales.block))
    return scales.block / (1 + scales.block * total)


def _by_block(problem: _Problem, columns: Doubles) -> Doubles:
    """[B, c] sums over the rows of each block."""
    sums = np.zeros((len(problem.block_kind), columns.shape[1]))
    np.add.at(sums, problem.block, columns)
    return sums


def _update(problem: _Problem, scales: _Scales, solved: _Solved) -> _Scales:
    """One round: expected squares of all errors, then the precisions and scales they imply."""
    row, block, seen = scales.row, scales.block, solved.seen
    gain = _shared_gain(problem, scales)
    inverse = 1 / row - gain[problem.block] / row**2 - np.sum((seen @ solved.left) * seen, axis=1)
    own = (row * solved.pull) ** 2 + row - row**2 * inverse
    pull = np.bincount(problem.block, solved.pull, len(block))
    total = np.bincount(problem.block, 1 / row, len(block))
    sums = _by_block(problem, seen)
    inverse = total - gain * total**2 - np.sum((sums @ solved.left) * sums, axis=1)
    shared = (block * pull) ** 2 + block - block**2 * inverse
    scales = _place(problem, scales, solved)
    return _rescale(problem, scales, np.maximum(own, 0), np.maximum(shared, 0))


def _place(problem: _Problem, scales: _Scales, solved: _Solved) -> _Scales:
    """How far out this machine lies: precisions below 1 where it is farther than most."""
    dof, size = problem.prior.machine_dof, problem.along.shape[1]
    square = solved.place**2 + np.diag(solved.left)
    machine = (dof + size) / (dof + float(square[:size].sum()) / scales.machine)
    level = (dof + 1) / (dof + float(square[-1]) / scales.level)
    return replace(scales, machine=machine, level=level)


def _rescale(problem: _Problem, scales: _Scales, own: Doubles, shared: Doubles) -> _Scales:
    prior, sd, kind = problem.prior, problem.observations.sd, problem.kind
    dof = prior.noise_dof
    usual = scales.noise[kind] + sd**2
    precision = (dof + 1) / (dof + own / usual)
    ordinary = np.maximum(scales.program[problem.block_kind], 1e-12)
    block_precision = (dof + 1) / (dof + shared / ordinary)
    noise = _pooled(prior, prior.noise, precision * own - sd**2, kind)
    program = _pooled(prior, prior.program, block_precision * shared, problem.block_kind)
    row = (noise[kind] + sd**2) / precision
    block = program[problem.block_kind] / block_precision
    return replace(scales, row=row, block=block, noise=noise, program=program)


def _pooled(prior: Prior, before: PerKind, squares: Doubles, kind: Ints) -> Doubles:
    """[2] variance by kind: the prior's and the labels' own, weighted by how many each is worth."""
    start = np.array([before.of(k) for k in KINDS]) ** 2
    total = np.maximum(np.bincount(kind, weights=squares, minlength=2), 0.0)
    count = np.bincount(kind, minlength=2) + prior.noise_weight
    pooled = (prior.noise_weight * start + total) / np.maximum(count, 1e-12)
    return np.where(count > 0, np.maximum(pooled, 1e-2 * start), start)


def _finish(problem: _Problem, scales: _Scales, solved: _Solved) -> Posterior:
    prior = problem.prior
    spread = np.hstack([prior.scaled_directions, np.diag(prior.rest)]) * _spread(problem, scales)
    covariance = spread @ solved.left @ spread.T
    noise = tail_factor(prior.noise_dof) * np.sqrt(scales.noise + scales.program)
    left_out, left_out_sd = _leave_out(problem, scales, solved)
    covariance = (covariance + covariance.T) / 2
    weights = prior.mean + spread @ solved.place
    sizes = (noise, np.sqrt(scales.noise), np.sqrt(scales.program))
    total, own, shared = (PerKind(*map(float, size)) for size in sizes)
    return Posterior(weights, covariance, total, own, shared, left_out, left_out_sd)


def _leave_out(problem: _Problem, scales: _Scales, solved: _Solved) -> tuple[Doubles, Doubles]:
    """Prediction and sd of each row without its program, from one fit (block leave-one-out).

    With P the inverse covariance of the labels and g the rows of a program, the residual without
    them is ``inv(P[g, g]) @ (P @ residual)[g]`` and its covariance ``inv(P[g, g])``; the rows' own
    down-weighting, which knew them, is taken out of that covariance again.
    """
    observations = problem.observations
    error, variance = np.zeros(len(observations)), np.zeros(len(observations))
    order = np.argsort(observations.group, kind="stable")
    ends = np.flatnonzero(np.diff(observations.group[order])) + 1
    for rows in np.split(order, ends) if len(order) else ():
        block = np.linalg.inv(_inverse_within(problem, scales, solved, rows))
        error[rows] = block @ solved.pull[rows]
        variance[rows] = np.diag(block)
    tail = tail_factor(problem.prior.noise_dof)
    nominal = tail**2 * (scales.noise + scales.program)[problem.kind]
    signal = np.maximum(variance - scales.row - scales.block[problem.block], 0.0)
    return observations.target - error, np.sqrt(signal + nominal)


def _inverse_within(problem: _Problem, scales: _Scales, solved: _Solved, rows: Ints) -> Doubles:
    """[g, g] the part of the labels' inverse covariance that is of one program's rows."""
    block, own, seen = problem.block[rows], 1 / scales.row[rows], solved.seen[rows]
    gain = _shared_gain(problem, scales)[block]
    same = block[:, None] == block
    inverse: Doubles = np.diag(own) - same * gain * np.outer(own, own) - seen @ solved.left @ seen.T
    return inverse


def tail_factor(dof: float) -> float:
    """80 % half width of Student's t over the normal's: what a robust scale means as an sd.

    First terms of the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5).
    """
    z = Z80
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return float((z + first / dof + second / dof**2) / z)


def quantile_scale(score: Doubles, groups: int, prior_weight: float) -> float:
    """How much wider intervals must be, from errors in units of their predicted sd.

    The finite-sample level of split conformal prediction, with programs as the units (rows of one
    are not independent), drawn towards 1, the scale that the prior and these labels agreed on.

    Args:
        score: [n] absolute error / predicted sd, each from a fit without that program.
        groups: number of programs in ``score``.
        prior_weight: how many programs it takes to be believed half (``Prior.noise_weight``).
    """
    if len(score) == 0:
        return 1.0
    found = float(np.quantile(score, min(1.0, LEVEL * (1 + 1 / groups)))) / Z80
    trust = groups / (groups + prior_weight)
    return float(np.clip(max(found, 1e-3) ** trust, 0.25, 4.0))
