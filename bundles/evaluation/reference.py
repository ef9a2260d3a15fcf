"""A strong control: trees on all labels of reference machines, and not one of the target's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.arrays import Doubles, Indices, Singles
from bundles.evaluation.arms import features_and_changes, fit_trees, xgboost_regressor
from bundles.evaluation.case import Case
from bundles.evaluation.scores import ArmPrediction
from bundles.labels.target import Target

TREES = 400  # there are some ten times as many labels as an arm of one target gets


@dataclass(frozen=True, eq=False)
class Reference:
    """Regressors of speed-ups and of times, on features and the facts of a machine."""

    gain: Callable[[Singles], Doubles]
    seconds: Callable[[Singles], Doubles]

    def predict(self, case: Case) -> ArmPrediction:
        """The test rows of another target."""
        bases = _level_inputs(case, case.test_base)
        return ArmPrediction(self.gain(_gain_inputs(case, case.test)), seconds=self.seconds(bases))


def learn_from_references(references: Sequence[Case], seed: int = 0) -> Reference:
    """Learn from every label of the references that is not of a test program."""
    gains, levels, true_gains, true_levels = [], [], [], []
    for case in references:
        rows = np.concatenate([case.pool, case.kernels])
        bases = np.unique(case.base[rows])
        gains.append(_gain_inputs(case, rows))
        levels.append(_level_inputs(case, bases))
        true_gains.append(case.labels.log_speedup[rows])
        true_levels.append(case.seconds[bases])
    return Reference(
        fit_trees(
            xgboost_regressor(seed, TREES), np.concatenate(gains), np.concatenate(true_gains)
        ),
        fit_trees(
            xgboost_regressor(seed, TREES), np.concatenate(levels), np.concatenate(true_levels)
        ),
    )


def _gain_inputs(case: Case, rows: Indices) -> Singles:
    changes = features_and_changes(case.labels.features, case.base, rows)
    return _with_facts(changes, case.labels.target.facts)


def _level_inputs(case: Case, bases: Indices) -> Singles:
    return _with_facts(case.labels.features[bases], case.labels.target.facts)


def _with_facts(inputs: Singles, about: Doubles) -> Singles:
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
