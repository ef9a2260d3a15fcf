"""A small gradient-boosted forest: fitted by scikit-learn, kept as plain numbers, walked by numpy.

scikit-learn is imported by ``fit_forest`` alone, so that predicting needs neither its time nor its
memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from agent.arrays import Doubles, Ints
from agent.json_values import (
    JsonObject,
    JsonValue,
    MalformedError,
    as_object,
    member,
    number_within,
)
from agent.model.stored_arrays import check_finite, float_vector, int_vector

TREES = 30
DEPTH = 2
LEARNING_RATE = 0.05
SMALLEST_LEAF = 8
FEWEST_ROWS = 2 * SMALLEST_LEAF  # fewer cannot be split
HUBER_QUANTILE = 0.85
SUBSAMPLE = 0.8

# What a forest may hold that comes from a file.
MOST_INPUTS = 4096
MOST_TREES = 256
MOST_NODES = 8192
MOST_DEPTH = 16
LEAF = -1


@dataclass(frozen=True, eq=False)
class Forest:
    """Regression trees whose leaf values add up; nodes of all trees in one numbering.

    A node's children have larger numbers than itself, so every walk ends.

    Attributes:
        inputs: number of input features.
        roots: [T] number of each tree's root.
        feature: [N] feature a node compares (LEAF at leaves).
        threshold: [N] left where the feature, as float32, is <= threshold.
        left: [N] node to go to, LEAF at leaves.
        right: [N] likewise.
        value: [N] what a leaf adds (learning rate included).
    """

    inputs: int
    roots: Ints
    feature: Ints
    threshold: Doubles
    left: Ints
    right: Ints
    value: Doubles

    def __post_init__(self) -> None:
        _check(self)

    def predict(self, features: Doubles) -> Doubles:
        """Sum of the trees for features [n, inputs]: [n]."""
        if len(self.roots) == 0:
            return np.zeros(len(features))
        single = features.astype(np.float32)  # scikit-learn compares float32 with float64
        at = np.broadcast_to(self.roots, (len(features), len(self.roots)))
        row = np.arange(len(features))[:, None]
        for _ in range(MOST_DEPTH):
            inner = self.left[at] != LEAF
            if not inner.any():
                break
            goes_left = single[row, np.maximum(self.feature[at], 0)] <= self.threshold[at]
            at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)
        total: Doubles = self.value[at].sum(axis=1)
        return total

    def to_json(self) -> dict[str, JsonValue]:
        """Plain numbers; ``from_json`` gives the same forest back, bit for bit."""
        return {"inputs": self.inputs} | {name: getattr(self, name).tolist() for name in _ARRAYS}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read a forest; MalformedError where a number, index or shape is wrong."""
        stored = as_object(data, "the forest")
        inputs = int(number_within(member(stored, "inputs"), "inputs", 1, MOST_INPUTS))
        roots = int_vector(member(stored, "roots"), "roots", None, MOST_TREES)
        feature = int_vector(member(stored, "feature"), "feature", None, MOST_NODES)
        count = len(feature)
        left, right = (_indices(stored, name, count) for name in ("left", "right"))
        threshold, value = (_values(stored, name, count) for name in ("threshold", "value"))
        return cls(inputs, roots, feature, threshold, left, right, value)


_ARRAYS = ("roots", "feature", "threshold", "left", "right", "value")


def _indices(stored: JsonObject, name: str, count: int) -> Ints:
    return int_vector(member(stored, name), name, count, MOST_NODES)


def _values(stored: JsonObject, name: str, count: int) -> Doubles:
    return float_vector(member(stored, name), name, count, MOST_NODES)


def _check(forest: Forest) -> None:
    """Every walk stays in range and ends within MOST_DEPTH; MalformedError else."""
    count, number = len(forest.feature), np.arange(len(forest.feature))
    leaf = forest.left == LEAF
    if ((forest.right == LEAF) != leaf).any():
        raise MalformedError("a node has one child only")
    for child in (forest.left, forest.right):
        if ((child >= count) | (~leaf & (child <= number))).any():
            raise MalformedError("a node's child is out of range or comes before it")
    if (~leaf & ((forest.feature < 0) | (forest.feature >= forest.inputs))).any():
        raise MalformedError("a node compares a feature that does not exist")
    if ((forest.roots < 0) | (forest.roots >= count)).any():
        raise MalformedError("a tree's root is out of range")
    check_finite(forest.threshold, "threshold")
    check_finite(forest.value, "value")
    if _height(forest) > MOST_DEPTH:
        raise MalformedError(f"a tree is deeper than {MOST_DEPTH}")


def _height(forest: Forest) -> int:
    """Depth of the deepest node below any root; children have larger numbers than their parents."""
    depth = np.zeros(len(forest.feature), dtype=np.int64)
    for node in np.flatnonzero(forest.left != LEAF):
        for child in (forest.left[node], forest.right[node]):
            depth[child] = max(depth[child], depth[node] + 1)
    return int(depth.max(initial=0))


def fit_forest(features: Doubles, target: Doubles, weight: Doubles, seed: int) -> Forest:
    """Boost shallow trees with Huber's loss, starting from zero.

    Args:
        features: [n, inputs].
        target: [n], n >= FEWEST_ROWS.
        weight: [n] weight of each row.
        seed: makes the fit reproducible.

    Returns:
        A forest equal to scikit-learn's to rounding (source: ``GradientBoostingRegressor``).
    """
    from sklearn import config_context
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(
        loss="huber",
        alpha=HUBER_QUANTILE,
        init="zero",
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=LEARNING_RATE,
        min_samples_leaf=SMALLEST_LEAF,
        subsample=SUBSAMPLE,
        random_state=seed,
    )
    # Else each small tree has its parameters and rows checked again: a sixth of the time.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        model.fit(features, target, sample_weight=weight)
    return from_sklearn(model)


class _FittedTree(Protocol):
    """What is read of ``sklearn.tree._tree.Tree``; [N] nodes."""

    node_count: int
    children_left: Ints
    children_right: Ints
    feature: Ints
    threshold: Doubles
    value: Doubles  # [N, 1, 1]


class _FittedStage(Protocol):
    tree_: _FittedTree


class FittedBoosting(Protocol):
    """What is read of a fitted ``GradientBoostingRegressor``."""

    estimators_: Sequence[Sequence[_FittedStage]]
    learning_rate: float
    n_features_in_: int


def from_sklearn(model: FittedBoosting) -> Forest:
    """Copy a fitted ``GradientBoostingRegressor(init="zero")`` into plain numbers."""
    trees = [stage[0].tree_ for stage in model.estimators_]
    starts = np.cumsum([0] + [tree.node_count for tree in trees])
    left, right = (
        np.concatenate([_moved(getattr(t, side), s) for t, s in zip(trees, starts, strict=False)])
        for side in ("children_left", "children_right")
    )
    leaf = left == LEAF
    feature = np.concatenate([tree.feature for tree in trees]).astype(np.int64)
    threshold = np.concatenate([tree.threshold for tree in trees])
    value = model.learning_rate * np.concatenate([tree.value[:, 0, 0] for tree in trees])
    return Forest(
        inputs=int(model.n_features_in_),
        roots=starts[:-1].astype(np.int64),
        feature=np.where(leaf, LEAF, feature),
        threshold=np.where(leaf, 0.0, threshold),
        left=left,
        right=right,
        value=np.where(leaf, value, 0.0),
    )


def _moved(children: Ints, start: int) -> Ints:
    return np.where(children == LEAF, LEAF, children + start).astype(np.int64)
