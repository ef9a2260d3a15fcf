"""The ways to predict that are compared: each sees the same labels and the same test programs.

An arm is a function of a bench (a target with all its representations), the rows whose labels it
may see, and a seed. Arms without pre-training know the features of programs, and how they spread
over the programs that labels are drawn from; no arm sees anything of a test program but features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from agent.arrays import Doubles, Indices, Singles
from agent.model.heads import Head
from agent.model.linear import BundleHead, RidgeHead
from agent.model.observations import SECONDS, SPEEDUP, design_rows
from agent.model.posterior import MOST_LABELS
from agent.model.prior import Prior, weak_prior
from agent.model.select import best_head
from bundles.evaluation.case import Case
from bundles.evaluation.scores import ArmPrediction, Truth
from bundles.training.trained import Trained

HEAD_MOST = MOST_LABELS // 2  # a head takes MOST_LABELS; a speed-up brings up to one time along
Draw = Literal["none", "random", "fixed", "candidates"]
MEDIAN, PLAIN, REFERENCE = "median", "plain_autoencoder", "reference"
BUNDLE, BUNDLE_RANDOM, BUNDLE_FIXED = "bundle", "bundle_random", "bundle_fixed"
FEWEST_LEAF, MOST_LEAF, LEAF_SHARE = 3, 20, 20
BOOSTING = {"max_iter": 200, "learning_rate": 0.05, "max_leaf_nodes": 15}
TREES = 200
XGBOOST: dict[str, float | str] = {
    "max_depth": 6,
    "learning_rate": 0.05,
    "subsample": 0.8,
    "colsample_bytree": 0.3,
    "min_child_weight": 2,
    "objective": "reg:pseudohubererror",
    "tree_method": "hist",
    "n_jobs": 1,
}


@dataclass(frozen=True, eq=False)
class Bench:
    """A target and everything arms read of it.

    Attributes:
        case: labels and split; ``truth``: what the test rows really took.
        raw: [n, F] features, standardised over the programs that labels are drawn from.
        plain: [n, E] embedding of the plain autoencoder.
        bundle: [n, E] embedding of the bundle; ``prior``: of its heads, on this machine's facts.
        reference: prediction from the labels of reference machines, None where there are none.
    """

    case: Case
    truth: Truth
    raw: Doubles
    plain: Doubles
    bundle: Doubles
    prior: Prior
    reference: ArmPrediction | None = None


Predict = Callable[[Bench, Indices, int], ArmPrediction]


@dataclass(frozen=True)
class LineStyle:
    """How an arm is drawn; colours of Okabe and Ito, told apart by the colour-blind."""

    colour: str
    marker: str
    width: float = 1.3
    line: str = "-"


@dataclass(frozen=True)
class Arm:
    """One way to predict.

    Attributes:
        name: in the JSON; ``title``: for people.
        draw: where its labels come from.
        pretrained: whether it knows anything that labels or simulated machines taught before.
        predict: (bench, rows with labels, seed) -> prediction of the bench's test rows.
        style: of its learning curve.
        least, most: labels that it can take.
    """

    name: str
    title: str
    draw: Draw
    pretrained: bool
    predict: Predict
    style: LineStyle
    least: int = 1
    most: float = math.inf


class Regressor(Protocol):
    """What scikit-learn and XGBoost have in common."""

    def fit(self, inputs: Singles, target: Doubles) -> object:
        """Learn from inputs [n, I] and their values [n]."""

    def predict(self, inputs: Singles) -> Doubles:
        """[k] of inputs [k, I]."""


def make_bench(
    case: Case, trained: Trained, plain: Doubles, reference: ArmPrediction | None = None
) -> Bench:
    """Everything that is computed once for a target."""
    labels = case.labels
    program = np.searchsorted(case.test_base, case.base[case.test])
    truth = Truth.of(labels.log_speedup[case.test], program, case.seconds[case.test_base])
    prior = trained.prior.on(labels.target.facts)
    embedding = trained.embed(labels.features)
    return Bench(case, truth, standardised(case), plain, embedding, prior, reference)


def standardised(case: Case) -> Doubles:
    """[n, F] features with mean 0 and sd 1 over the pool; columns constant there are 0."""
    features = case.labels.features.astype(np.float64)
    known = features[np.concatenate([case.pool, np.unique(case.base[case.pool])])]
    sd = known.std(axis=0)
    return np.asarray(np.where(sd > 1e-6, (features - known.mean(axis=0)) / (sd + 1e-12), 0.0))


def _median(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:  # noqa: ARG001
    case = bench.case
    if not len(rows):
        return ArmPrediction(np.zeros(len(case.test)))
    gain = float(np.median(case.labels.log_speedup[rows]))
    level = float(np.median(case.seconds[np.unique(case.base[rows])]))
    return ArmPrediction(np.full(len(case.test), gain), None, np.full(len(case.test_base), level))


def _with_head(bench: Bench, embedding: Doubles, head: Head) -> ArmPrediction:
    case = bench.case
    nothing = embedding[:0]
    gain = head.predict(design_rows(case.gains(embedding, case.test), nothing), SPEEDUP)
    seconds = head.predict(design_rows(nothing, embedding[case.test_base]), SECONDS)
    return ArmPrediction(*gain, *seconds)


def _ridge(view: Callable[[Bench], Doubles]) -> Predict:
    """The agent's robust ridge on a representation [n, E], with a prior that knows nothing."""

    def predict(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:  # noqa: ARG001
        embedding = view(bench)
        seen = bench.case.observations(embedding, rows)
        prior = weak_prior(seen.design[seen.kind == SPEEDUP])
        return _with_head(bench, embedding, RidgeHead.fit(prior, seen))

    return predict


def _bundle_head(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:
    """The head the agent would use: chosen and fitted on all labels, without outer folds."""
    seen = bench.case.observations(bench.bundle, rows)
    return _with_head(bench, bench.bundle, best_head(bench.prior, seen, seed)[0])


def _bundle_alone(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:  # noqa: ARG001
    return _with_head(bench, bench.bundle, BundleHead.fit(bench.prior))


def _raw_boosting(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:
    from sklearn.ensemble import HistGradientBoostingRegressor

    def make(count: int) -> Regressor:
        leaf = max(FEWEST_LEAF, min(MOST_LEAF, count // LEAF_SHARE))
        made: Regressor = HistGradientBoostingRegressor(
            **BOOSTING, min_samples_leaf=leaf, random_state=seed
        )
        return made

    return _trees(bench, rows, make, feature_changes)


def _hand_made(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:
    return _trees(bench, rows, lambda _: xgboost_regressor(seed), features_and_changes)


def xgboost_regressor(seed: int, trees: int = TREES) -> Regressor:
    """With the settings of ``XGBOOST``."""
    from xgboost import XGBRegressor

    made: Regressor = XGBRegressor(**XGBOOST, n_estimators=trees, random_state=seed)
    return made


def feature_changes(features: Singles, base: Indices, rows: Indices) -> Singles:
    """[k, F] features of programs as written less those of their versions."""
    return features[base[rows]] - features[rows]


def features_and_changes(features: Singles, base: Indices, rows: Indices) -> Singles:
    """[k, 2F] features of versions, and what changed."""
    return np.concatenate([features[rows], feature_changes(features, base, rows)], axis=1)


def _trees(
    bench: Bench,
    rows: Indices,
    make: Callable[[int], Regressor],
    view: Callable[[Singles, Indices, Indices], Singles],
) -> ArmPrediction:
    """A regressor on speed-up rows and another on the times of programs as written."""
    case, labels = bench.case, bench.case.labels
    bases = np.unique(case.base[rows])
    gain = fit_trees(
        make(len(rows)), view(labels.features, case.base, rows), labels.log_speedup[rows]
    )
    level = fit_trees(make(len(bases)), labels.features[bases], case.seconds[bases])
    return ArmPrediction(
        gain(view(labels.features, case.base, case.test)),
        seconds=level(labels.features[case.test_base]),
    )


def fit_trees(model: Regressor, inputs: Singles, target: Doubles) -> Callable[[Singles], Doubles]:
    """Fit a regressor of trees on one thread, around the median: robust losses start at 0."""
    from threadpoolctl import threadpool_limits

    middle = float(np.median(target))
    with threadpool_limits(1):
        model.fit(inputs, target - middle)

    def predict(more: Singles) -> Doubles:
        with threadpool_limits(1):
            return np.asarray(model.predict(more) + middle, np.float64)

    return predict


def _scratch(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:
    from bundles.evaluation.scratch import train_and_predict

    return train_and_predict(bench.case, rows, seed)


def _reference(bench: Bench, rows: Indices, seed: int) -> ArmPrediction:  # noqa: ARG001
    if bench.reference is None:
        raise ValueError("there are no reference labels")
    return bench.reference


ARMS: tuple[Arm, ...] = (
    Arm(MEDIAN, "predict the median", "random", False, _median, LineStyle("#999999", "."), least=0),
    Arm(
        "raw_ridge", "raw features, ridge", "random", False,
        _ridge(lambda bench: bench.raw), LineStyle("#E69F00", "s"), most=HEAD_MOST,
    ),
    Arm(
        "raw_boosting", "raw features, boosting", "random", False,
        _raw_boosting, LineStyle("#E69F00", "^", line="--"),
    ),
    Arm(
        "hand_xgboost", "hand-made features, XGBoost", "random", False,
        _hand_made, LineStyle("#009E73", "D"),
    ),
    Arm(
        PLAIN, "plain autoencoder, ridge", "random", False,
        _ridge(lambda bench: bench.plain), LineStyle("#CC79A7", "v"), most=HEAD_MOST,
    ),
    Arm("scratch", "network from scratch", "random", False, _scratch, LineStyle("#56B4E9", "P")),
    Arm(
        REFERENCE, "reference labels, XGBoost", "none", True,
        _reference, LineStyle("#000000", "X", line=":"), least=0,
    ),
    Arm(
        BUNDLE, "bundle alone", "none", True,
        _bundle_alone, LineStyle("#0072B2", "o", line=":"), least=0,
    ),
    Arm(
        BUNDLE_RANDOM, "bundle + head, random labels", "random", True,
        _bundle_head, LineStyle("#0072B2", "o", 2.4), most=HEAD_MOST,
    ),
    Arm(
        "bundle_candidates", "bundle + head, random of the set", "candidates", True,
        _bundle_head, LineStyle("#D55E00", "d", line="--"),
    ),
    Arm(
        BUNDLE_FIXED, "bundle + head, fixed set", "fixed", True,
        _bundle_head, LineStyle("#D55E00", "*", 2.8),
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Arm] = {arm.name: arm for arm in ARMS}
