"""The figures of ``agent.model.score`` for many predictions of the same test programs at once.

Programs are padded to one table, ranks and pairs come from signs of differences: thousands of
calls take seconds. ``tests/bundles/evaluation/test_scores.py`` holds both to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Doubles, Indices
from agent.model.posterior import Z80
from agent.model.score import FEWEST_VERSIONS

MOST_EXP = 50.0


@dataclass(frozen=True, eq=False)
class ArmPrediction:
    """Of a target's test rows, log units; an sd is None where the arm gives no interval.

    Attributes:
        gain: [k] log speed-ups; ``gain_sd``: [k].
        seconds: [q] log seconds less log work of programs as written, None if the arm has none;
            ``seconds_sd``: [q].
    """

    gain: Doubles
    gain_sd: Doubles | None = None
    seconds: Doubles | None = None
    seconds_sd: Doubles | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """Figures of one prediction, program by program [q]; nan where a program has none.

    Attributes:
        error: sum of absolute log errors of a program's speed-ups; ``relative``: of absolute
            relative errors; ``count``: how many they are.
        spearman, top_share, pairwise: as in ``agent.model.score``.
        covered: how many 80 % intervals hold.
        seconds: absolute log error of the program as written; ``seconds_covered``: 0 or 1.
        median_ape: over all rows.
    """

    error: Doubles
    relative: Doubles
    count: Doubles
    spearman: Doubles
    top_share: Doubles
    pairwise: Doubles
    covered: Doubles
    seconds: Doubles
    seconds_covered: Doubles
    median_ape: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What the test rows of a target really took, laid out for scoring.

    Attributes:
        gain: [k] log speed-ups; ``program``: [k] number 0..q-1 of each row's program.
        seconds: [q] log seconds less log work of the programs as written.
        place: [k] column of each row in the padded tables (column 0: the program as written).
        present: [q, V].
        order: [q, V, V] sign of the true difference of two versions; 0 where one is padding.
    """

    gain: Doubles
    program: Indices
    seconds: Doubles
    place: Indices
    present: Bools
    order: npt.NDArray[np.int8]

    @classmethod
    def of(cls, gain: Doubles, program: Indices, seconds: Doubles) -> Truth:
        """Lay out rows [k] of programs numbered 0..q-1."""
        q = len(seconds)
        by_program = np.argsort(program, kind="stable")
        starts = np.searchsorted(program[by_program], np.arange(q))
        place = np.empty(len(gain), np.intp)
        place[by_program] = np.arange(len(gain)) - starts[program[by_program]] + 1
        present = np.zeros((q, int(place.max(initial=0)) + 1), np.bool_)
        present[:, 0] = True
        present[program, place] = True
        empty = np.zeros((q, 0, 0), np.int8)
        truth = cls(gain, program, seconds, place, present, empty)
        return cls(gain, program, seconds, place, present, truth.signs(gain))

    def table(self, gain: Doubles) -> Doubles:
        """[q, V] of rows [k]; the program as written and padding are 0."""
        out = np.zeros(self.present.shape)
        out[self.program, self.place] = gain
        return out

    def signs(self, gain: Doubles) -> npt.NDArray[np.int8]:
        """[q, V, V] signs of differences, 0 where a version is padding."""
        table = self.table(gain)
        both = self.present[:, :, None] & self.present[:, None, :]
        more = (table[:, :, None] > table[:, None, :]) & both
        return more.astype(np.int8) - more.transpose(0, 2, 1).astype(np.int8)


def score(truth: Truth, found: ArmPrediction) -> Scores:
    """Judge one prediction."""
    gap = found.gain - truth.gain
    relative = np.abs(np.expm1(np.clip(gap, -MOST_EXP, MOST_EXP)))
    signs = truth.signs(found.gain)
    covered = np.full(len(truth.seconds), np.nan)
    if found.gain_sd is not None:
        covered = _sums(truth, (np.abs(gap) <= Z80 * found.gain_sd).astype(np.float64))
    seconds, held = _seconds(truth, found)
    return Scores(
        error=_sums(truth, np.abs(gap)),
        relative=_sums(truth, relative),
        count=_sums(truth, np.ones(len(gap))),
        spearman=_spearman(truth, signs),
        top_share=_top_share(truth, found.gain),
        pairwise=_pairwise(truth, signs),
        covered=covered,
        seconds=seconds,
        seconds_covered=held,
        median_ape=float(np.median(relative)),
    )


def _sums(truth: Truth, values: Doubles) -> Doubles:
    return np.bincount(truth.program, values, len(truth.seconds)).astype(np.float64)


def _seconds(truth: Truth, found: ArmPrediction) -> tuple[Doubles, Doubles]:
    none = np.full(len(truth.seconds), np.nan)
    if found.seconds is None:
        return none, none
    error = np.abs(found.seconds - truth.seconds)
    if found.seconds_sd is None:
        return error, none
    return error, (error <= Z80 * found.seconds_sd).astype(np.float64)


def _spearman(truth: Truth, signs: npt.NDArray[np.int8]) -> Doubles:
    """[q] a rank is, up to a constant, half the sum of a row's signs; padding has 0."""
    a = truth.order.sum(axis=2, dtype=np.float64)
    b = signs.sum(axis=2, dtype=np.float64)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    found = np.divide((a * b).sum(1), size, out=np.zeros(len(a)), where=size > 0)
    judged = (truth.present.sum(1) >= FEWEST_VERSIONS) & a.any(1)
    return np.where(judged, found, np.nan)


def _top_share(truth: Truth, gain: Doubles) -> Doubles:
    speed = np.where(truth.present, truth.table(truth.gain), -np.inf)
    guess = np.where(truth.present, truth.table(gain), -np.inf)
    picked = guess == guess.max(1, keepdims=True)
    share = np.exp(speed - speed.max(1, keepdims=True))
    return np.asarray((share * picked).sum(1) / picked.sum(1))


def _pairwise(truth: Truth, signs: npt.NDArray[np.int8]) -> Doubles:
    decided = (truth.order != 0).sum((1, 2))
    agree = (truth.order.astype(np.int16) * signs).sum((1, 2)) / np.maximum(decided, 1)
    return np.where(decided > 0, (agree + 1) / 2, np.nan)
