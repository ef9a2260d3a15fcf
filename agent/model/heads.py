"""From embeddings to log times on this machine: three heads with one contract.

Every head predicts mean and standard deviation of the log speed-up (or of log seconds less log
work) from a design, is made of plain numbers, and needs numpy only to predict. ``mean +- Z80 * sd``
is meant to hold the truth four times out of five on programs the head has not seen.

- ``BundleHead``: the prior's mean; no labels.
- ``RidgeHead``: posterior of the weights under the prior and a robust likelihood.
- ``BoostedHead``: ridge, plus boosted trees on what ridge leaves over in speed-ups.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

import numpy as np

from agent.arrays import Doubles, Texts
from agent.errors import StateError
from agent.model import plain
from agent.model.boosting import FEWEST_ROWS, Forest, fit_forest
from agent.model.observations import KINDS, SPEEDUP, Kind, Observations, PerKind, as_kinds
from agent.model.plain import MalformedError
from agent.model.posterior import posterior, quantile_scale, tail_factor
from agent.model.prior import MOST_DIRECTIONS, MOST_WEIGHTS, Prior

HeadKind = Literal["bundle", "ridge", "boosting"]
MOST_ERROR = 1.5  # errors beyond so many sd teach the forest no more than these
ONE = PerKind(1.0, 1.0)
STEPS = 10_000  # of a correlation, as stored


class Head(Protocol):
    """What every head does."""

    @property
    def kind(self) -> str:
        """Name of the head (of the speed-up head, where the two kinds of row have their own)."""

    def predict(self, design: Doubles, kind: Texts | str) -> tuple[Doubles, Doubles]:
        """Mean [n] and sd [n], log units, for designs [n, E+1] of the given kind (one, or [n])."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, for ``head_from_json``."""


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

    def to_json(self) -> dict[str, Any]:
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
    def _read(cls, data: Mapping[str, Any]) -> Self:
        weights = plain.floats(plain.field(data, "weights"), "weights", (None,), MOST_WEIGHTS)
        covariance = _covariance(data, len(weights))
        return cls(weights, covariance, _pair(data, "noise"), _pair(data, "interval_scale"))


def _covariance(data: Mapping[str, Any], size: int) -> Doubles:
    if "covariance" in data:  # written by version 0.1: the lower triangle, row by row
        triangle = size * (size + 1) // 2
        lower = plain.floats(data["covariance"], "covariance", (triangle,), triangle)
        covariance = _symmetric(lower, size, 0)
        if (np.diag(covariance) < 0).any():
            raise MalformedError("a variance is negative")
        return covariance
    sd = plain.floats(plain.field(data, "sd"), "sd", (size,), size)
    triangle = size * (size - 1) // 2
    steps = plain.integers(plain.field(data, "correlation"), "correlation", triangle, triangle)
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


def _pair(data: Mapping[str, Any], name: str) -> PerKind:
    values = plain.floats(plain.field(data, name), name, (2,), 2).tolist()
    return PerKind(*(plain.scale(value, name) for value in values))


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


@dataclass(frozen=True, eq=False)
class BoostedHead:
    """Ridge plus a small forest on what ridge leaves over in speed-ups; seconds are ridge's.

    Attributes:
        base: the ridge head (its sd serves both).
        projection: [E+1, I] designs to the forest's inputs: position along the prior's directions,
            the bundle's and ridge's predictions.
        forest: what to add to ridge's log speed-up.
    """

    base: RidgeHead
    projection: Doubles
    forest: Forest

    def __post_init__(self) -> None:
        if self.projection.shape != (len(self.base.weights), self.forest.inputs):
            raise MalformedError("projection does not fit the weights and the forest")

    @property
    def kind(self) -> str:
        """Name of the head."""
        return "boosting"

    @classmethod
    def fit(cls, prior: Prior, observations: Observations, seed: int = 0) -> Self:
        """Fit ridge, then the forest on ridge's errors on programs left out of it."""
        base, left_out = RidgeHead.fit_and_leave_out(prior, observations)
        return cls.on(base, left_out, prior, observations, seed)

    @classmethod
    def on(
        cls,
        base: RidgeHead,
        left_out: Doubles,
        prior: Prior,
        observations: Observations,
        seed: int,
    ) -> Self:
        """The same with ridge and its left-out predictions given."""
        projection = _projection(prior, base)
        rows = observations.take(observations.kind == SPEEDUP)
        if len(rows) < FEWEST_ROWS:
            return cls(base, projection, _no_forest(projection.shape[1]))
        most = MOST_ERROR * base.noise.speedup
        error = np.clip(rows.target - left_out[observations.kind == SPEEDUP], -most, most)
        weight = 1.0 / (1.0 + (rows.sd / base.noise.speedup) ** 2)
        forest = fit_forest(rows.design @ projection, error, weight, seed)
        return cls(base, projection, forest)

    def predict(self, design: Doubles, kind: Texts | str) -> tuple[Doubles, Doubles]:
        """Mean [n] and sd [n], log units, for designs [n, E+1]."""
        kinds = as_kinds(kind, len(design))
        mean, sd = self.base.predict(design, kinds)
        more = self.forest.predict(design @ self.projection)
        return mean + np.where(kinds == SPEEDUP, more, 0.0), sd

    def rescaled(self, kind: Kind, factor: float) -> Self:
        """The same head with intervals of one kind wider by ``factor``."""
        return replace(self, base=self.base.rescaled(kind, factor))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        parts = {"base": self.base.to_json(), "forest": self.forest.to_json()}
        return {"kind": "boosting", "projection": self.projection.tolist(), **parts}

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        base = RidgeHead._read(plain.record(plain.field(data, "base"), "base"))
        forest = Forest.from_json(plain.field(data, "forest"))
        shape = (len(base.weights), forest.inputs)
        most = MOST_WEIGHTS + MOST_DIRECTIONS
        return cls(
            base, plain.floats(plain.field(data, "projection"), "projection", shape, most), forest
        )


def _projection(prior: Prior, base: RidgeHead) -> Doubles:
    """[E+1, K+2]; a prior without directions (a control) gives the design itself instead."""
    along = prior.directions if prior.directions.shape[1] else np.eye(len(prior.mean))
    exact = np.column_stack([along, prior.mean, base.weights])
    return np.array([[float(f"{x:.6g}") for x in row] for row in exact])  # short, as stored


def _no_forest(inputs: int) -> Forest:
    none, empty = np.zeros(0, dtype=np.int64), np.zeros(0)
    return Forest(inputs, none, none, empty, none, none, empty)


SingleHead = BundleHead | RidgeHead | BoostedHead


@dataclass(frozen=True, eq=False)
class PairHead:
    """One head for speed-ups, another for seconds."""

    speedup: SingleHead
    seconds: SingleHead

    @property
    def kind(self) -> str:
        """Name of the speed-up head."""
        return self.speedup.kind

    def predict(self, design: Doubles, kind: Texts | str) -> tuple[Doubles, Doubles]:
        """Mean [n] and sd [n], log units, for designs [n, E+1]."""
        fast = as_kinds(kind, len(design)) == SPEEDUP
        both = zip(
            self.speedup.predict(design, kind), self.seconds.predict(design, kind), strict=True
        )
        mean, sd = (np.where(fast, a, b) for a, b in both)
        return mean, sd

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; ``seconds`` is null where one head serves both."""
        seconds = None if self.seconds is self.speedup else self.seconds.to_json()
        return {"kind": "pair", "speedup": self.speedup.to_json(), "seconds": seconds}


def head_from_json(data: object) -> Head:
    """Read a head that ``to_json`` wrote.

    Raises:
        StateError: a number, index, shape or kind is wrong.
    """
    try:
        return _any(plain.record(data, "the head"))
    except MalformedError as error:
        hint = "run `agent calibrate --refit` to make the head again from stored timings"
        raise StateError(f"the stored head is not usable: {error}", hint) from error


def _any(data: Mapping[str, Any]) -> Head:
    if data.get("kind") != "pair":
        return _single(data)
    speedup = _single(plain.record(plain.field(data, "speedup"), "speedup"))
    seconds = plain.field(data, "seconds")
    return PairHead(
        speedup, speedup if seconds is None else _single(plain.record(seconds, "seconds"))
    )


def _single(data: Mapping[str, Any]) -> SingleHead:
    kind = plain.field(data, "kind")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise MalformedError("kind is none of bundle, ridge, boosting, pair")
    return reader(data)


_READERS: dict[str, Callable[[Mapping[str, Any]], SingleHead]] = {
    "bundle": BundleHead._read,
    "ridge": RidgeHead._read,
    "boosting": BoostedHead._read,
}
