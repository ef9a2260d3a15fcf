"""From embeddings to log times on this machine: three heads with one contract.

Every head predicts mean and standard deviation of the log speed-up (or of log seconds less log
work) from a design, is made of plain numbers, and needs numpy only to predict. ``mean +- Z80 * sd``
is meant to hold the truth four times out of five on programs the head has not seen.

- ``BundleHead``: the prior's mean; no labels.
- ``RidgeHead``: posterior of the weights under the prior and a robust likelihood.
- ``BoostedHead``: ridge, plus boosted trees on what ridge leaves over in speed-ups.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from agent.arrays import Doubles, Texts
from agent.errors import StateError
from agent.json_values import JsonObject, JsonValue, MalformedError, as_object, member
from agent.model.boosting import FEWEST_ROWS, Forest, fit_forest
from agent.model.linear import BundleHead, RidgeHead
from agent.model.observations import SPEEDUP, Observations, as_kinds
from agent.model.prior import MOST_DIRECTIONS, MOST_WEIGHTS, Prior
from agent.model.records import Kind
from agent.model.stored_arrays import float_matrix

MOST_ERROR = 1.5  # errors beyond so many sd teach the forest no more than these


class Head(Protocol):
    """What every head does."""

    @property
    def kind(self) -> str:
        """Name of the head (of the speed-up head, where the two kinds of row have their own)."""

    def predict(self, design: Doubles, kind: Texts | str) -> tuple[Doubles, Doubles]:
        """Mean [n] and sd [n], log units, for designs [n, E+1] of the given kind (one, or [n])."""

    def to_json(self) -> dict[str, JsonValue]:
        """Plain numbers, for ``head_from_json``."""


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

    def to_json(self) -> dict[str, JsonValue]:
        """Plain numbers."""
        parts = {"base": self.base.to_json(), "forest": self.forest.to_json()}
        return {"kind": "boosting", "projection": self.projection.tolist(), **parts}

    @classmethod
    def from_json(cls, data: JsonObject) -> Self:
        """Read what ``to_json`` wrote; MalformedError where it is wrong."""
        base = RidgeHead.from_json(as_object(member(data, "base"), "base"))
        forest = Forest.from_json(member(data, "forest"))
        shape, most = (len(base.weights), forest.inputs), MOST_WEIGHTS + MOST_DIRECTIONS
        projection = float_matrix(member(data, "projection"), "projection", shape, most)
        return cls(base, projection, forest)


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

    def to_json(self) -> dict[str, JsonValue]:
        """Plain numbers; ``seconds`` is null where one head serves both."""
        seconds = None if self.seconds is self.speedup else self.seconds.to_json()
        return {"kind": "pair", "speedup": self.speedup.to_json(), "seconds": seconds}


def head_from_json(data: object) -> Head:
    """Read a head that ``to_json`` wrote.

    Raises:
        StateError: a number, index, shape or kind is wrong.
    """
    try:
        return _any(as_object(data, "the head"))
    except MalformedError as error:
        hint = "run `agent calibrate --refit` to make the head again from stored timings"
        raise StateError(f"the stored head is not usable: {error}", hint) from error


def _any(data: JsonObject) -> Head:
    if data.get("kind") != "pair":
        return _single(data)
    speedup = _single(as_object(member(data, "speedup"), "speedup"))
    seconds = member(data, "seconds")
    return PairHead(speedup, speedup if seconds is None else _single(as_object(seconds, "seconds")))


def _single(data: JsonObject) -> SingleHead:
    kind = member(data, "kind")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise MalformedError("kind is none of bundle, ridge, boosting, pair")
    return reader(data)


_READERS: dict[str, Callable[[JsonObject], SingleHead]] = {
    "bundle": BundleHead.from_json,
    "ridge": RidgeHead.from_json,
    "boosting": BoostedHead.from_json,
}
