"""Two ways to predict, judged on the same programs: the rule by which one replaces another.

Each program that neither way had seen gives one number for each *loss*: the mean absolute log error
of its predictions, and for speed-ups also its misorder, the share of its pairs of versions that
differ measurably and are put in the wrong order: order is what people use the predictions for.
By how much a loss is larger the new way has a mean over programs, with an 80 % interval (Student's
t). The new way is *no worse* if the upper end is at most the tolerance of that loss, for every
loss; *worse* if a lower end is above 0. What is neither is not known: with few programs intervals
are wide, so the burden of proof lies with what is new. See docs/explanation/when-to-calibrate.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agent.arrays import Doubles, Ints
from agent.model.observations import SPEEDUP
from agent.model.posterior import Z80
from agent.model.records import Kind

FEWEST_PAIRS = 3  # below, programs do not tell how much they differ
ERROR_TOLERANCE = 0.05  # log units: 5 % of the factor that predictions are off by
ORDER_TOLERANCE = 0.10  # of a program's pairs; most programs of the fixed set have one or two
LEAST_GAP = math.log(1.10)  # of two versions that differ; timings repeat no better


@dataclass(frozen=True, eq=False)
class Measured:
    """What two ways to predict are judged by: n labels of one kind.

    Attributes:
        kind: speed-ups or seconds.
        program: [n] whose versions they are.
        truth: [n] log speed-ups, or log seconds.
        half: [n] half the widths of their 80 % intervals.
    """

    kind: Kind
    program: Ints
    truth: Doubles
    half: Doubles


@dataclass(frozen=True, slots=True)
class PairedLoss:
    """One loss of two ways to predict, over the same programs.

    Attributes:
        programs: how many.
        before, after: means over programs.
        difference: mean of after less before; ``standard_error``: of it, over programs.
        tolerance: what counts as no difference.
    """

    programs: int
    before: float
    after: float
    difference: float
    standard_error: float
    tolerance: float = ERROR_TOLERANCE

    @property
    def no_worse(self) -> bool:
        """Whether the new way is shown to be as good; not where a number is none."""
        return self.difference + self._half <= self.tolerance

    @property
    def worse(self) -> bool:
        """Whether the new way is shown to be worse."""
        return not self.difference - self._half <= 0

    @property
    def _half(self) -> float:
        return student_80(self.programs - 1) * self.standard_error


@dataclass(frozen=True, slots=True)
class Judgement:
    """All losses of two ways to predict one kind: the error, and of speed-ups the misorder.

    ``misorder`` is None of times, and where versions do not differ measurably.
    """

    error: PairedLoss
    misorder: PairedLoss | None = None

    @property
    def no_worse(self) -> bool:
        """Whether the new way is shown to be as good in everything."""
        return all(loss.no_worse for loss in self._losses)

    @property
    def worse(self) -> bool:
        """Whether it is shown to be worse in something."""
        return any(loss.worse for loss in self._losses)

    @property
    def _losses(self) -> tuple[PairedLoss, ...]:
        return (self.error,) if self.misorder is None else (self.error, self.misorder)


def judge_ways(measured: Measured, before: Doubles, after: Doubles) -> Judgement | None:
    """Judge log predictions [n] the new way by those the old way; None with too few programs.

    Where too few have versions that differ measurably there is no order, and errors alone decide.
    """
    program = measured.program
    old, new = (_by_program(np.abs(x - measured.truth), program) for x in (before, after))
    error = _compare(old, new, ERROR_TOLERANCE)
    if error is None:
        return None
    if measured.kind != SPEEDUP:
        return Judgement(error)
    old, new = _misorder(measured, before, after)
    return Judgement(error, _compare(old, new, ORDER_TOLERANCE))


def _compare(before: Doubles, after: Doubles, tolerance: float) -> PairedLoss | None:
    """Losses [k] of k programs."""
    if len(before) < FEWEST_PAIRS:
        return None
    gap = after - before
    return PairedLoss(
        programs=len(gap),
        before=float(before.mean()),
        after=float(after.mean()),
        difference=float(gap.mean()),
        standard_error=float(gap.std(ddof=1) / len(gap) ** 0.5),
        tolerance=tolerance,
    )


def _by_program(loss: Doubles, program: Ints) -> Doubles:
    """[k] means of losses [n] over the rows of each program [n], in order."""
    _, which = np.unique(program, return_inverse=True)
    found: Doubles = np.bincount(which, weights=loss) / np.bincount(which)
    return found


def _misorder(measured: Measured, *ways: Doubles) -> Doubles:
    """[ways, k] shares of pairs in the wrong order, of the k programs that have any; ties half.

    The program as written takes part as one more version, with log speed-up 0.
    """
    shares = []
    for name in np.unique(measured.program):
        rows = measured.program == name
        gaps = _gaps(measured.truth[rows])
        noise = np.abs(_gaps(measured.half[rows], np.hypot))
        differ = np.abs(gaps) > np.maximum(LEAST_GAP, noise)
        if differ.any():
            signs = [np.sign(_gaps(way[rows])[differ]) for way in ways]
            shares.append([np.mean(1 - np.sign(gaps[differ]) * s) / 2 for s in signs])
    return np.array(shares).reshape(-1, len(ways)).T


def _gaps(values: Doubles, of: np.ufunc = np.subtract) -> Doubles:
    """``of`` all pairs of [v] values and the 0 of the program as written."""
    all_of_them = np.append(0.0, values)
    first, second = np.triu_indices(len(all_of_them), 1)
    found: Doubles = of(all_of_them[first], all_of_them[second])
    return found


def student_80(freedom: int) -> float:
    """Half the width of Student's 80 % interval, 2 degrees of freedom or more; good to 0.006.

    The expansion around the normal quantile: Abramowitz and Stegun, 26.7.5.
    """
    z, n = Z80, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return float(z + first / n + second / n**2 + third / n**3)
