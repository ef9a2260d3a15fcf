"""How well a classifier tells programs people wrote from drawn ones by the model's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.arrays import Singles, Texts

FOLDS = 5
TREES = {"max_iter": 200, "learning_rate": 0.1, "max_leaf_nodes": 15, "random_state": 0}


@dataclass(frozen=True)
class Telling:
    """What tells real programs from drawn ones.

    Attributes:
        auc: area under the curve of a classifier on repositories that it has not seen; 0.5: chance.
        apart: features by the greatest distance between their two distribution functions.
    """

    auc: float
    apart: Sequence[tuple[str, float]]


def tell_apart(real: Singles, drawn: Singles, repository: Texts, names: Sequence[str]) -> Telling:
    """Boosted trees, cross-validated so that no repository is on both sides.

    Args:
        real: [n, F] features of programs people wrote.
        drawn: [k, F] of drawn ones.
        repository: [n] where each real one stands.
        names: [F] of the features.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    inputs = np.concatenate([real, drawn])
    known = np.arange(len(inputs)) < len(real)
    alone = np.array([f"drawn {n}" for n in range(len(drawn))])
    groups = np.concatenate([repository, alone])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    trees = HistGradientBoostingClassifier(**TREES)
    with threadpool_limits(1):  # trees of few rows: threads would wait for each other
        shares = cross_val_predict(
            trees, inputs, known, groups=groups, cv=folds, method="predict_proba"
        )
    apart = {n: _apart(real[:, i], drawn[:, i]) for i, n in enumerate(names)}
    ordered = sorted(apart.items(), key=lambda item: -item[1])
    return Telling(float(roc_auc_score(known, shares[:, 1])), ordered)


def _apart(one: Singles, other: Singles) -> float:
    """The greatest distance of two samples' distribution functions (Kolmogorov and Smirnov)."""
    places = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(x), places, side="right") / len(x) for x in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())
