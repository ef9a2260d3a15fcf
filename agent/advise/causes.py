"""Why a schedule is predicted to be faster or slower: the prediction as a sum over causes.

Marks come last in a schedule and restructure nothing, so they are looked at by themselves: the
transformed program with each set of its marks is a program of its own, and Shapley values say what
the marks for threads, for SIMD lanes, to unroll and to jam add. What is left, the transformed
program without marks, is split over groups of features: of a group in a coalition the features of
that program replace those of the program as written. All in one batch through encoder and head.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.loopnest.features.groups import CAUSES, GROUPS, Cause
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import features
from agent.loopnest.program import Loop, Node, Program, loops
from agent.model.shapley import coalitions, shapley

if TYPE_CHECKING:
    from agent.arrays import Singles
    from agent.calibration.predictor import Predictor

ROUNDING = 1e-6  # of a log speed-up
_MARKS: Mapping[str, Cause] = {
    "parallel": Cause.PARALLEL,
    "vector": Cause.VECTORIZATION,
    "unroll": Cause.LOOPS,
    "jam": Cause.REGISTERS,
    "lanes": Cause.REGISTERS,
    "packs": Cause.MEMORY,
    "private": Cause.PARALLEL,
    "cyclic": Cause.PARALLEL,
    "collapse": Cause.PARALLEL,
    "stream": Cause.MEMORY,
}
_UNMARKED: Mapping[str, object] = {
    "parallel": False,
    "vector": False,
    "unroll": 1,
    "jam": 1,
    "lanes": 1,
    "packs": (),
    "private": (),
    "cyclic": 0,
    "collapse": False,
    "stream": "",
}


@dataclass(frozen=True, slots=True)
class Share:
    """What a cause does: its part of the log speed-up, as a factor too."""

    cause: Cause
    log_speedup: float

    @property
    def factor(self) -> float:
        """Above 1 where it makes the program faster."""
        return math.exp(self.log_speedup)

    def to_json(self) -> dict[str, str | float]:
        """Plain values."""
        return {"cause": self.cause, "log_speedup": self.log_speedup, "factor": self.factor}


def shares(
    predictor: Predictor, base: Program, variant: Program, predicted: float | None = None
) -> tuple[Share, ...]:
    """The causes that matter, the largest first; they add up to the predicted log speed-up.

    Args:
        predictor: whose prediction it is.
        base: the program as written.
        variant: the same under a schedule.
        predicted: its log speed-up, where a timing of ``base`` changed it: by the rest.
    """
    if variant.body == base.body:
        return ()
    marks, programs = _by_marks(variant)
    seen = features(lower((base, *programs)))
    mixed, groups = _mixed(seen[0], seen[1])
    vectors = predictor.encoder.embed(np.concatenate([seen, mixed])).astype(np.float64)
    gain, _ = predictor.gain(vectors)
    of_marks, of_groups = np.split(gain, [len(programs)])
    if programs[0].body == base.body:
        of_marks[0] = 0.0  # as in ``predict``, whatever the head says of no difference
    of_groups[0], of_groups[-1] = 0.0, of_marks[0]
    parts = dict.fromkeys(CAUSES, 0.0)
    causes = (*(_MARKS[m] for m in marks), *groups)
    for cause, part in zip(causes, (*shapley(of_marks), *shapley(of_groups)), strict=True):
        parts[cause] += float(part)
    if predicted is not None:
        timed = predicted - float(gain[len(programs) - 1])
        parts[Cause.REST] += timed if abs(timed) > ROUNDING else 0.0
    told = (Share(cause, part) for cause, part in parts.items() if part)
    return tuple(sorted(told, key=lambda s: -abs(s.log_speedup)))


def _by_marks(variant: Program) -> tuple[list[str], list[Program]]:
    """The k kinds of marks there are, and ``variant`` with each set of them, 2^k: without first."""
    there = [x for _, x in loops(variant.body)]
    marks = [m for m in _MARKS if any(getattr(x, m) != _UNMARKED[m] for x in there)]
    sets = [frozenset(itertools.compress(marks, row)) for row in coalitions(len(marks))]
    return marks, [with_marks(variant, kept) for kept in sets]


def with_marks(program: Program, kept: frozenset[str]) -> Program:
    """``program`` without any marks but those ``kept``."""
    return program.with_body(_marked(program.body, kept))


def _marked(nodes: tuple[Node, ...], kept: frozenset[str]) -> tuple[Node, ...]:
    gone: dict[str, Any] = {mark: value for mark, value in _UNMARKED.items() if mark not in kept}
    return tuple(
        replace(node, body=_marked(node.body, kept), **gone) if isinstance(node, Loop) else node
        for node in nodes
    )


def _mixed(before: Singles, after: Singles) -> tuple[Singles, list[Cause]]:
    """[2^k,F] every mixture of two programs' features, and the k causes that tell them apart.

    Where none does, the rest is what is changed: something is to add up to the prediction.
    """
    differ = {int(g) for g in GROUPS[before != after]}
    changed = sorted(differ) or [CAUSES.index(Cause.REST)]
    taken = np.zeros((2 ** len(changed), len(CAUSES)), np.bool_)
    taken[:, changed] = coalitions(len(changed))
    return np.where(taken[:, GROUPS], after, before), [CAUSES[g] for g in changed]
