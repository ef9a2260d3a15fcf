"""The posterior of a machine's head: Gaussian given robust weights, which are found by iteration.

With y [n] the targets, X [n, E+1] the designs and m the prior's mean, the model is

    y = X (m + D z + u) + s + e        D [E+1, K] directions, z [K], u [E+1] the rest
    z ~ t_v(0, I),  u ~ N(0, diag(rest^2)),  its intercept ~ t_v
    s_b ~ t_d(0, program^2)  shared by block b (a program's rows of one kind)
    e_i ~ t_d(0, noise^2 + sd_i^2)  of row i alone

Student-t errors are Gaussian errors of unknown precision (a scale mixture). Given the precisions
everything is linear: the posterior of the weights, of each program's shared error and of each row's
own error. Given those, each precision has a closed form. The two steps are repeated (variational
Bayes; Tipping and Lawrence 2005, "Variational inference for Student-t models"; the rows' weights
are those of iteratively reweighted least squares). Noise scales are re-estimated with the prior's
as pseudo-labels, so that few labels cannot move them far.

Nothing is ever [n, n]: errors of different programs are independent, and what is common to all rows
are the q = K + E + 1 unknowns (z, u) of the machine. By Woodbury's identity a round costs n q^2.
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
NO_VARIANCE = 1e-12  # in place of nothing, where it would be divided by
LEAST_OF_PRIOR = 1e-2  # of a prior's variance: no labels say that there is less noise
SCALES = (0.25, 4.0)  # of intervals: what ``quantile_scale`` gives at most; chosen
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
    residual: Doubles  # [n] r = y - X m
    along: Doubles  # [n, K] X D
    beyond: Doubles  # [n, E+1] X diag(rest)
    kind: Ints  # [n] index of the row's kind
    block: Ints  # [n] number of the block that the row belongs to
    block_kind: Ints  # [B]
    observations: Observations


@dataclass(frozen=True, eq=False)
class _Scales:
    """Precisions and variances: what iteration does change."""

    direction_precision: float  # of z
    intercept_precision: float  # of the intercept beyond the directions
    row_variance: Doubles  # [n] R_i of each row's own error
    block_variance: Doubles  # [B] G_b of each block's shared error
    noise: Doubles  # [2] noise^2 by kind: variance of an ordinary row
    program: Doubles  # [2] program^2 by kind: variance of an ordinary program


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """The posterior at given scales, of the q unknowns in units of their prior sd.

    With ``C = diag(R) + blocks of G`` the covariance of the errors and ``V = A A' + C`` that of
    the labels.
    """

    loadings: Doubles  # [n, q] A: what one sd of each unknown adds to a row
    whitened: Doubles  # [n, q] inv(C) A
    covariance: Doubles  # [q, q] S = inv(I + A' inv(C) A)
    mean: Doubles  # [q] S A' inv(C) r
    dual: Doubles  # [n] inv(V) r = inv(C) (r - A mean)


def posterior(prior: Prior, observations: Observations) -> Posterior:
    """Fit the labels robustly; with none of them the prior itself comes back.

    Raises:
        ValueError: designs do not have the prior's width, or there are more than MOST_LABELS.
    """
    if observations.design.shape[1] != len(prior.mean) or len(observations) > MOST_LABELS:
        raise ValueError(f"designs are [n <= {MOST_LABELS}, {len(prior.mean)}]")
    problem = _problem(prior, observations)
    scales = _prior_scales(problem)
    for _ in range(ITERATIONS):
        before, scales = scales, _reweighted(problem, scales, _solve(problem, scales))
        if np.allclose(before.row_variance, scales.row_variance, rtol=TOLERANCE):
            break
    return _summary(problem, scales, _solve(problem, scales))


def _problem(prior: Prior, observations: Observations) -> _Problem:
    design = observations.design
    kind = (observations.kind == KINDS[1]).astype(np.int64)
    group = np.unique(observations.group, return_inverse=True)[1]
    blocks, block = np.unique(2 * group + kind, return_inverse=True)
    residual = observations.target - design @ prior.mean
    along, beyond = design @ prior.scaled_directions, design * prior.rest
    return _Problem(prior, residual, along, beyond, kind, block, blocks % 2, observations)


def _prior_scales(problem: _Problem) -> _Scales:
    """Where iteration starts: every precision as the prior expects it."""
    prior = problem.prior
    noise = np.array([prior.noise.of(kind) for kind in KINDS]) ** 2
    program = np.array([prior.program.of(kind) for kind in KINDS]) ** 2
    row_variance = noise[problem.kind] + problem.observations.sd**2
    return _Scales(1.0, 1.0, row_variance, program[problem.block_kind], noise, program)


def _solve(problem: _Problem, scales: _Scales) -> _Gaussian:
    """The Gaussian step: everything linear, by Woodbury's identity."""
    loadings = np.hstack([problem.along, problem.beyond]) * _unknowns_sd(problem, scales)
    whitened = _error_precision_times(problem, scales, loadings)
    precision = np.eye(loadings.shape[1]) + loadings.T @ whitened  # I + A' inv(C) A
    covariance = np.linalg.inv(precision)
    mean = covariance @ (whitened.T @ problem.residual)
    rest = (problem.residual - loadings @ mean)[:, None]
    dual = _error_precision_times(problem, scales, rest)[:, 0]
    return _Gaussian(loadings, whitened, (covariance + covariance.T) / 2, mean, dual)


def _unknowns_sd(problem: _Problem, scales: _Scales) -> Doubles:
    """[q] sd of this machine's unknowns in units of the prior's: 1 / sqrt(precision)."""
    sd = np.ones(problem.along.shape[1] + problem.beyond.shape[1])
    sd[: problem.along.shape[1]] = 1 / np.sqrt(scales.direction_precision)
    sd[-1] = 1 / np.sqrt(scales.intercept_precision)
    return sd


def _error_precision_times(problem: _Problem, scales: _Scales, columns: Doubles) -> Doubles:
    """[n, c] inv(C) times ``columns`` [n, c]; C is block-diagonal, ``diag(R) + G 1 1'`` a block.

    By Sherman and Morrison: ``inv(R) x - inv(R) 1 g (1' inv(R) x)`` with the gain g.
    """
    own = columns / scales.row_variance[:, None]
    taken = _block_sums(problem, own) * _shared_gain(problem, scales)[:, None]
    return own - taken[problem.block] / scales.row_variance[:, None]


def _shared_gain(problem: _Problem, scales: _Scales) -> Doubles:
    """[B] g = G / (1 + G 1' inv(R) 1)."""
    total = np.bincount(problem.block, 1 / scales.row_variance, len(scales.block_variance))
    return scales.block_variance / (1 + scales.block_variance * total)


def _block_sums(problem: _Problem, columns: Doubles) -> Doubles:
    """[B, c] sums over the rows of each block."""
    sums = np.zeros((len(problem.block_kind), columns.shape[1]))
    np.add.at(sums, problem.block, columns)
    return sums


def _reweighted(problem: _Problem, scales: _Scales, found: _Gaussian) -> _Scales:
    """The other step: expected squares of all errors, then the precisions and scales they imply.

    With P = inv(V), an error of prior variance R has the posterior mean ``R (P r)_i`` and variance
    ``R - R^2 P_ii``: ``E[e_i^2] = (R dual_i)^2 + R - R^2 P_ii``; of a block's shared error
    likewise, with ``1' P 1`` over the block in place of ``P_ii``.
    """
    row, block, whitened = scales.row_variance, scales.block_variance, found.whitened
    gain = _shared_gain(problem, scales)
    explained = np.sum((whitened @ found.covariance) * whitened, axis=1)
    inverse = 1 / row - gain[problem.block] / row**2 - explained  # P_ii
    own = (row * found.dual) ** 2 + row - row**2 * inverse
    dual = np.bincount(problem.block, found.dual, len(block))
    total = np.bincount(problem.block, 1 / row, len(block))
    sums = _block_sums(problem, whitened)
    explained = np.sum((sums @ found.covariance) * sums, axis=1)
    inverse = total - gain * total**2 - explained  # 1' P 1
    shared = (block * dual) ** 2 + block - block**2 * inverse
    scales = _machine_precisions(problem, scales, found)
    return _error_scales(problem, scales, np.maximum(own, 0), np.maximum(shared, 0))


def _machine_precisions(problem: _Problem, scales: _Scales, found: _Gaussian) -> _Scales:
    """How far out this machine lies: precisions below 1 where it is farther than most.

    Of a Student-t of v degrees of freedom in k dimensions: ``(v + k) / (v + E[z' z])``.
    """
    dof, size = problem.prior.machine_dof, problem.along.shape[1]
    square = found.mean**2 + np.diag(found.covariance)  # E[.^2] in units of the present sd
    directions = float(square[:size].sum()) / scales.direction_precision
    intercept = float(square[-1]) / scales.intercept_precision
    return replace(
        scales,
        direction_precision=(dof + size) / (dof + directions),
        intercept_precision=(dof + 1) / (dof + intercept),
    )


def _error_scales(problem: _Problem, scales: _Scales, own: Doubles, shared: Doubles) -> _Scales:
    """Precisions of all errors from their expected squares, then the scales by kind.

    Of each error ``w = (d + 1) / (d + E[e^2] / scale^2)``: the weights of iteratively reweighted
    least squares under Student's t with d degrees of freedom.
    """
    prior, sd, kind = problem.prior, problem.observations.sd, problem.kind
    dof = prior.noise_dof
    usual = scales.noise[kind] + sd**2
    weight = (dof + 1) / (dof + own / usual)
    ordinary = np.maximum(scales.program[problem.block_kind], NO_VARIANCE)
    block_weight = (dof + 1) / (dof + shared / ordinary)
    noise = _pooled_variance(prior, prior.noise, weight * own - sd**2, kind)
    program = _pooled_variance(prior, prior.program, block_weight * shared, problem.block_kind)
    row = (noise[kind] + sd**2) / weight
    block = program[problem.block_kind] / block_weight
    return replace(scales, row_variance=row, block_variance=block, noise=noise, program=program)


def _pooled_variance(prior: Prior, before: PerKind, squares: Doubles, kind: Ints) -> Doubles:
    """[2] variance by kind: ``(c prior^2 + sum of squares) / (c + count)``, c pseudo-labels."""
    start = np.array([before.of(k) for k in KINDS]) ** 2
    total = np.maximum(np.bincount(kind, weights=squares, minlength=2), 0.0)
    count = np.bincount(kind, minlength=2) + prior.noise_weight
    pooled = (prior.noise_weight * start + total) / np.maximum(count, NO_VARIANCE)
    return np.where(count > 0, np.maximum(pooled, LEAST_OF_PRIOR * start), start)


def _summary(problem: _Problem, scales: _Scales, found: _Gaussian) -> Posterior:
    """Of the weights: mean ``m + L mean`` and covariance ``L S L'``, with L = [D, diag(rest)]."""
    prior = problem.prior
    unknowns_sd = _unknowns_sd(problem, scales)
    spread = np.hstack([prior.scaled_directions, np.diag(prior.rest)]) * unknowns_sd  # L
    covariance = spread @ found.covariance @ spread.T
    noise = tail_factor(prior.noise_dof) * np.sqrt(scales.noise + scales.program)
    left_out, left_out_sd = _leave_programs_out(problem, scales, found)
    covariance = (covariance + covariance.T) / 2
    weights = prior.mean + spread @ found.mean
    sizes = (noise, np.sqrt(scales.noise), np.sqrt(scales.program))
    total, own, shared = (PerKind(*map(float, size)) for size in sizes)
    return Posterior(weights, covariance, total, own, shared, left_out, left_out_sd)


def _leave_programs_out(
    problem: _Problem, scales: _Scales, found: _Gaussian
) -> tuple[Doubles, Doubles]:
    """[n] prediction and sd of each row without its program, from one fit (block leave-one-out).

    With P = inv(V) and g the rows of a program, the residual without them is
    ``inv(P[g, g]) @ (P @ r)[g]`` and its covariance ``inv(P[g, g])``; the rows' own
    down-weighting, which knew them, is taken out of that covariance again.
    """
    observations = problem.observations
    error, variance = np.zeros(len(observations)), np.zeros(len(observations))
    order = np.argsort(observations.group, kind="stable")
    ends = np.flatnonzero(np.diff(observations.group[order])) + 1
    for rows in np.split(order, ends) if len(order) else ():
        block = np.linalg.inv(_label_precision(problem, scales, found, rows))
        error[rows] = block @ found.dual[rows]
        variance[rows] = np.diag(block)
    tail = tail_factor(problem.prior.noise_dof)
    nominal = tail**2 * (scales.noise + scales.program)[problem.kind]
    fitted = variance - scales.row_variance - scales.block_variance[problem.block]
    return observations.target - error, np.sqrt(np.maximum(fitted, 0.0) + nominal)


def _label_precision(problem: _Problem, scales: _Scales, found: _Gaussian, rows: Ints) -> Doubles:
    """[g, g] of P = inv(C) - inv(C) A S A' inv(C), the part of one program's rows."""
    block, own, whitened = problem.block[rows], 1 / scales.row_variance[rows], found.whitened[rows]
    gain = _shared_gain(problem, scales)[block]
    same = block[:, None] == block
    shared = same * gain * np.outer(own, own)
    precision: Doubles = np.diag(own) - shared - whitened @ found.covariance @ whitened.T
    return precision


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
    return float(np.clip(max(found, 1e-3) ** trust, *SCALES))
