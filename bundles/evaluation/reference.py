"""A strong control: trees on all labels of reference machines, and not one of the target's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.arrays import Doubles, Indices, Singles
from bundles.evaluation.arms import XGBOOST, both, fitted
from bundles.evaluation.case import Case
from bundles.evaluation.scores import Prediction
from bundles.labels.labels import Target

TREES = 400  # there are some ten times as many labels as an arm of one target gets


@dataclass(frozen=True, eq=False)
class Reference:
    """Regressors of speed-ups and of times, on features and the facts of a machine."""

    gain: Callable[[Singles], Doubles]
    seconds: Callable[[Singles], Doubles]

    def predict(self, case: Case) -> Prediction:
        """The test rows of another target."""
        about, features = case.labels.target.facts, case.labels.features
        return Prediction(
            self.gain(_with(both(features, case.base, case.test), about)),
            seconds=self.seconds(_with(features[case.test_base], about)),
        )


def learn(references: Sequence[Case], seed: int = 0) -> Reference:
    """Learn from every label of the references that is not of a test program."""
    from xgboost import XGBRegressor

    def model() -> Any:
        return XGBRegressor(**{**XGBOOST, "n_estimators": TREES}, random_state=seed)

    rows = [np.concatenate([c.pool, c.kernels]) for c in references]
    bases = [np.unique(c.base[r]) for c, r in zip(references, rows, strict=True)]
    pairs = list(zip(references, rows, strict=True))
    gains = [_gains(c, r) for c, r in pairs]
    levels = [
        _with(c.labels.features[b], c.labels.target.facts)
        for c, b in zip(references, bases, strict=True)
    ]
    true_gain = np.concatenate([c.labels.log_speedup[r] for c, r in pairs])
    true_level = np.concatenate([c.seconds[b] for c, b in zip(references, bases, strict=True)])
    return Reference(
        fitted(model(), np.concatenate(gains), true_gain),
        fitted(model(), np.concatenate(levels), true_level),
    )


def _gains(case: Case, rows: Indices) -> Singles:
    return _with(both(case.labels.features, case.base, rows), case.labels.target.facts)


def _with(inputs: Singles, about: Doubles) -> Singles:
    """[k, I] inputs with the facts of their machine beside them; trees take nan for unknown."""
    return np.column_stack([inputs, np.tile(about, (len(inputs), 1))]).astype(np.float32)


def left_out(how: str, target: Target) -> Callable[[Target], bool]:
    """Which targets may not be learned from when ``target`` is tested.

    Args:
        how: ``machine``: all of the same silicon; ``target``: those of the same silicon, compiler
            and flags, whatever their threads.
        target: that is tested.
    """
    mark = _mark(how, target)
    return lambda other: _mark(how, other) == mark


def _mark(how: str, target: Target) -> tuple[object, ...]:
    if how == "machine":
        return (target.machine,)
    return (target.machine, target.compiler, target.version, target.flags)
