"""Linear heads: a Gaussian over the weights of this machine, and the width of its intervals.

- ``BundleHead``: the prior's mean; no labels.
- ``RidgeHead``: posterior of the weights under the prior and a robust likelihood.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self, TypeVar

import numpy as np

from agent.arrays import Doubles, Texts
from agent.json_values import JsonObject, JsonValue, MalformedError, member
from agent.model.observations import KINDS, Observations, PerKind, as_kinds
from agent.model.posterior import posterior, quantile_scale, tail_factor
from agent.model.prior import MOST_WEIGHTS, Prior
from agent.model.records import HeadKind, Kind
from agent.model.stored_arrays import check_scale, float_vector, int_vector

ONE = PerKind(1.0, 1.0)
STEPS = 10_000  # of a correlation, as stored


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A Gaussian over the weights of this machine, and the error no weights explain.

    Attributes:
        weights: [E+1] mean.
        covariance: [E+1, E+1].
        noise: sd of the error on a new program, by kind.
        interval_scale: factor on the sd, by kind, so that 80 % intervals hold.
    """

    name: ClassVar[HeadKind]
    weights: Doubles
    covariance: Doubles
    noise: PerKind
    interval_scale: PerKind = ONE

    @property
    def kind(self) -> str:
        """Name of the head."""
        return self.name

    def predict(self, design: Doubles, kind: Texts | str) -> tuple[Doubles, Doubles]:
        """Mean [n] and sd [n], log units, for designs [n, E+1]."""
        kinds = as_kinds(kind, len(design))
        known = np.maximum(np.sum((design @ self.covariance) * design, axis=1), 0.0)
        sd = np.sqrt(known + self.noise.rows(kinds) ** 2)
        return design @ self.weights, sd * self.interval_scale.rows(kinds)

    def rescaled(self, kind: Kind, factor: float) -> Self:
        """The same head with intervals of one kind wider by ``factor``."""
        scale = PerKind(
            *(self.interval_scale.of(k) * (factor if k == kind else 1.0) for k in KINDS)
        )
        return replace(self, interval_scale=scale)

    def to_json(self) -> dict[str, JsonValue]:
        """Plain numbers; of the covariance, sds and the correlations in units of 1/``STEPS``.

        Means come back exactly, sds to within a few 0.0001 of them.
        """
        sd = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        scale = np.where(sd > 0, sd, 1.0)
        lower = (self.covariance / np.outer(scale, scale))[np.tril_indices(len(sd), -1)]
        return {
            "kind": self.name,
            "weights": self.weights.tolist(),
            "sd": [float(f"{x:.6g}") for x in sd],
            "correlation": np.rint(STEPS * lower).astype(int).tolist(),
            "noise": [self.noise.speedup, self.noise.seconds],
            "interval_scale": [self.interval_scale.speedup, self.interval_scale.seconds],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Self:
        """Read what ``to_json`` wrote; MalformedError where it is wrong."""
        weights = float_vector(member(data, "weights"), "weights", None, MOST_WEIGHTS)
        covariance = _covariance(data, len(weights))
        return cls(weights, covariance, _pair(data, "noise"), _pair(data, "interval_scale"))


def _covariance(data: JsonObject, size: int) -> Doubles:
    if "covariance" in data:  # written by version 0.1: the lower triangle, row by row
        triangle = size * (size + 1) // 2
        lower = float_vector(data["covariance"], "covariance", triangle, triangle)
        covariance = _symmetric(lower, size, 0)
        if (np.diag(covariance) < 0).any():
            raise MalformedError("a variance is negative")
        return covariance
    sd = float_vector(member(data, "sd"), "sd", size, size)
    triangle = size * (size - 1) // 2
    steps = int_vector(member(data, "correlation"), "correlation", triangle, triangle)
    if (sd < 0).any() or (np.abs(steps) > STEPS).any():
        raise MalformedError("an sd is negative or a correlation beyond one")
    correlation = _symmetric(steps / STEPS, size, -1)
    np.fill_diagonal(correlation, 1.0)
    return correlation * np.outer(sd, sd)


def _symmetric(lower: Doubles, size: int, diagonal: int) -> Doubles:
    """[size, size] from what stands on and below a diagonal."""
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size, diagonal)] = lower
    return matrix + np.tril(matrix, -1).T


_Linear = TypeVar("_Linear", bound=LinearHead)


def _pair(data: JsonObject, name: str) -> PerKind:
    pair = float_vector(member(data, name), name, 2, 2).tolist()
    for value in pair:
        check_scale(value, name)
    return PerKind(*pair)


class BundleHead(LinearHead):
    """The bundle alone: the prior's mean. Labels only tell how wide its intervals must be."""

    name = "bundle"

    @classmethod
    def fit(cls, prior: Prior, observations: Observations | None = None) -> Self:
        """Take the prior; check its intervals against labels where there are some."""
        tail = tail_factor(prior.noise_dof)
        size = {k: float(np.hypot(prior.noise.of(k), prior.program.of(k))) for k in KINDS}
        noise = PerKind(*(tail * size[k] for k in KINDS))
        head = cls(prior.mean, prior.covariance(), noise)
        if observations is None:
            return head
        mean, sd = head.predict(observations.design, observations.kind)
        return _calibrated(head, observations, mean, sd, prior.noise_weight)


class RidgeHead(LinearHead):
    """Posterior under the bundle's prior, Student-t errors and a shared error for each program."""

    name = "ridge"

    @classmethod
    def fit(cls, prior: Prior, observations: Observations) -> Self:
        """Fit; ValueError if designs and prior differ in width."""
        return cls.fit_and_leave_out(prior, observations)[0]

    @classmethod
    def fit_and_leave_out(cls, prior: Prior, observations: Observations) -> tuple[Self, Doubles]:
        """The head, and its prediction [n] of each row from the labels of all other programs."""
        found = posterior(prior, observations)
        head = cls(found.weights, found.covariance, found.noise)
        left_out = (found.left_out, found.left_out_sd)
        return _calibrated(head, observations, *left_out, prior.noise_weight), found.left_out


def _calibrated(
    head: _Linear, observations: Observations, mean: Doubles, sd: Doubles, prior_weight: float
) -> _Linear:
    for kind in KINDS:
        factor = interval_factor(observations, mean, sd, kind, prior_weight)
        head = head.rescaled(kind, factor)
    return head


def interval_factor(
    observations: Observations, mean: Doubles, sd: Doubles, kind: Kind, prior_weight: float
) -> float:
    """Factor on one kind's sd that makes 80 % intervals hold on unseen programs.

    Args:
        observations: labels [n].
        mean: [n] predictions of each by a fit without its program.
        sd: [n] that goes with them.
        kind: which rows count.
        prior_weight: how many programs the sd as it is is worth.
    """
    rows = observations.kind == kind
    error = np.abs(observations.target - mean)[rows]
    score = error / np.hypot(sd, observations.sd)[rows]
    groups = len(np.unique(observations.group[rows]))
    return quantile_scale(score, groups, prior_weight)
