"""The ways to predict that are compared: each sees the same labels and the same test programs.

An arm is a function of a bench (a target with all its representations), the rows whose labels it
may see, and a seed. Arms without pre-training know the features of programs, and how they spread
over the programs that labels are drawn from; no arm sees anything of a test program but features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from agent.arrays import Doubles, Indices, Singles
from agent.model.heads import BundleHead, Head, RidgeHead
from agent.model.observations import SECONDS, SPEEDUP, Observations
from agent.model.posterior import MOST_LABELS
from agent.model.prior import Prior, weak_prior
from agent.model.select import best_head
from bundles.evaluation.case import Case
from bundles.evaluation.scores import Prediction, Truth
from bundles.training.trained import Trained

HEAD_MOST = MOST_LABELS // 2  # a head takes MOST_LABELS; a speed-up brings up to one time along
Draw = Literal["none", "random", "fixed", "candidates"]
FEWEST_LEAF, MOST_LEAF, LEAF_SHARE = 3, 20, 20
BOOSTING = {"max_iter": 200, "learning_rate": 0.05, "max_leaf_nodes": 15}
XGBOOST: dict[str, Any] = {
    "n_estimators": 200,
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
    reference: Prediction | None = None


@dataclass(frozen=True)
class Arm:
    """One way to predict.

    Attributes:
        name: in the JSON; ``title``: for people.
        draw: where its labels come from.
        pretrained: whether it knows anything that labels or simulated machines taught before.
        predict: (bench, rows with labels, seed) -> prediction of the bench's test rows.
        most: labels that it can take.
    """

    name: str
    title: str
    draw: Draw
    pretrained: bool
    predict: Callable[[Bench, Indices, int], Prediction]
    most: float = math.inf


def make_bench(
    case: Case, trained: Trained, plain: Doubles, reference: Prediction | None = None
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


def _median(bench: Bench, rows: Indices, seed: int) -> Prediction:  # noqa: ARG001
    case = bench.case
    if not len(rows):
        return Prediction(np.zeros(len(case.test)))
    gain = float(np.median(case.labels.log_speedup[rows]))
    level = float(np.median(case.seconds[np.unique(case.base[rows])]))
    return Prediction(np.full(len(case.test), gain), None, np.full(len(case.test_base), level))


def _with_head(bench: Bench, embedding: Doubles, head: Head) -> Prediction:
    case = bench.case
    gain = head.predict(case.gains(embedding, case.test), SPEEDUP)
    seconds = head.predict(case.levels(embedding, case.test_base), SECONDS)
    return Prediction(*gain, *seconds)


def _ridge(bench: Bench, embedding: Doubles, rows: Indices) -> Prediction:
    seen = bench.case.observations(embedding, rows)
    prior = weak_prior(seen.design[seen.kind == SPEEDUP])
    return _with_head(bench, embedding, RidgeHead.fit(prior, seen))


def _raw_ridge(bench: Bench, rows: Indices, seed: int) -> Prediction:  # noqa: ARG001
    return _ridge(bench, bench.raw, rows)


def _plain_ridge(bench: Bench, rows: Indices, seed: int) -> Prediction:  # noqa: ARG001
    return _ridge(bench, bench.plain, rows)


def _bundle_head(bench: Bench, rows: Indices, seed: int) -> Prediction:
    seen = bench.case.observations(bench.bundle, rows)
    return _with_head(bench, bench.bundle, chosen_head(bench.prior, seen, seed))


def _bundle_alone(bench: Bench, rows: Indices, seed: int) -> Prediction:  # noqa: ARG001
    return _with_head(bench, bench.bundle, BundleHead.fit(bench.prior))


def chosen_head(prior: Prior, observations: Observations, seed: int) -> Head:
    """The head the agent would use: chosen and fitted on all labels, without outer folds."""
    return best_head(prior, observations, seed)[0]


def _raw_boosting(bench: Bench, rows: Indices, seed: int) -> Prediction:
    from sklearn.ensemble import HistGradientBoostingRegressor

    def make(count: int) -> Any:
        leaf = max(FEWEST_LEAF, min(MOST_LEAF, count // LEAF_SHARE))
        return HistGradientBoostingRegressor(**BOOSTING, min_samples_leaf=leaf, random_state=seed)

    return _trees(bench, rows, make, differences)


def _hand_made(bench: Bench, rows: Indices, seed: int) -> Prediction:
    from xgboost import XGBRegressor

    return _trees(bench, rows, lambda _: XGBRegressor(**XGBOOST, random_state=seed), both)


def differences(features: Singles, base: Indices, rows: Indices) -> Singles:
    """[k, F] features of programs as written less those of their versions."""
    return features[base[rows]] - features[rows]


def both(features: Singles, base: Indices, rows: Indices) -> Singles:
    """[k, 2F] features of versions, and what changed."""
    return np.concatenate([features[rows], differences(features, base, rows)], axis=1)


def _trees(
    bench: Bench,
    rows: Indices,
    make: Callable[[int], Any],
    view: Callable[[Singles, Indices, Indices], Singles],
) -> Prediction:
    """A regressor on speed-up rows and another on the times of programs as written."""
    case, labels = bench.case, bench.case.labels
    bases = np.unique(case.base[rows])
    gain = fitted(make(len(rows)), view(labels.features, case.base, rows), labels.log_speedup[rows])
    level = fitted(make(len(bases)), labels.features[bases], case.seconds[bases])
    return Prediction(
        gain(view(labels.features, case.base, case.test)),
        seconds=level(labels.features[case.test_base]),
    )


def fitted(model: Any, inputs: Singles, target: Doubles) -> Callable[[Singles], Doubles]:
    """Fit a regressor of trees on one thread, around the median: robust losses start at 0."""
    from threadpoolctl import threadpool_limits

    middle = float(np.median(target))
    with threadpool_limits(1):
        model.fit(inputs, target - middle)

    def predict(more: Singles) -> Doubles:
        with threadpool_limits(1):
            return np.asarray(model.predict(more) + middle, np.float64)

    return predict


def _scratch(bench: Bench, rows: Indices, seed: int) -> Prediction:
    from bundles.evaluation.scratch import train_and_predict

    return train_and_predict(bench.case, rows, seed)


def _reference(bench: Bench, rows: Indices, seed: int) -> Prediction:  # noqa: ARG001
    if bench.reference is None:
        raise ValueError("there are no reference labels")
    return bench.reference


ARMS: tuple[Arm, ...] = (
    Arm("median", "predict the median", "random", False, _median),
    Arm("raw_ridge", "raw features, ridge", "random", False, _raw_ridge, HEAD_MOST),
    Arm("raw_boosting", "raw features, boosting", "random", False, _raw_boosting),
    Arm("hand_xgboost", "hand-made features, XGBoost", "random", False, _hand_made),
    Arm("plain_autoencoder", "plain autoencoder, ridge", "random", False, _plain_ridge, HEAD_MOST),
    Arm("scratch", "network from scratch", "random", False, _scratch),
    Arm("reference", "reference labels, XGBoost", "none", True, _reference),
    Arm("bundle", "bundle alone", "none", True, _bundle_alone),
    Arm("bundle_random", "bundle + head, random labels", "random", True, _bundle_head, HEAD_MOST),
    Arm("bundle_candidates", "bundle + head, random of the set", "candidates", True, _bundle_head),
    Arm("bundle_fixed", "bundle + head, fixed set", "fixed", True, _bundle_head),
)
BY_NAME: Mapping[str, Arm] = {arm.name: arm for arm in ARMS}
