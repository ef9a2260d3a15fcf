"""Two ways to predict, judged on the same programs: the rule by which one replaces another.

Each program that neither way had seen gives one number: how much larger the mean absolute log error
is the new way. Their mean has an 80 % interval (Student's t over programs). The new way is *no
worse* if the upper end of it is at most ``TOLERANCE``, *worse* if the lower end is above 0. What
is neither is not known: with few programs the interval is wide, so the burden of proof lies with
what is new. See docs/explanation/when-to-calibrate.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.arrays import Doubles, Ints
from agent.model.posterior import Z80

FEWEST_PAIRS = 3  # below, programs do not tell how much they differ
TOLERANCE = 0.05  # log units: 5 % of the factor that predictions are off by


@dataclass(frozen=True, slots=True)
class PairedErrors:
    """Mean absolute log errors of two ways to predict, over the same programs.

    Attributes:
        programs: how many.
        before, after: means over programs, log units.
        difference: mean of after less before; ``standard_error``: of it, over programs.
    """

    programs: int
    before: float
    after: float
    difference: float
    standard_error: float

    @property
    def no_worse(self) -> bool:
        """Whether the new way is shown to be as good; not where a number is none."""
        return self.difference + self._half <= TOLERANCE

    @property
    def worse(self) -> bool:
        """Whether the new way is shown to be worse."""
        return not self.difference - self._half <= 0

    @property
    def _half(self) -> float:
        return student_80(self.programs - 1) * self.standard_error


def compare_errors(before: Doubles, after: Doubles) -> PairedErrors | None:
    """Judge errors [k] of k programs the new way by those the old way; None with too few."""
    if len(before) < FEWEST_PAIRS:
        return None
    gap = after - before
    return PairedErrors(
        programs=len(gap),
        before=float(before.mean()),
        after=float(after.mean()),
        difference=float(gap.mean()),
        standard_error=float(gap.std(ddof=1) / len(gap) ** 0.5),
    )


def by_program(error: Doubles, program: Ints) -> Doubles:
    """[k] means of errors [n] over the rows of each program [n], in order."""
    _, which = np.unique(program, return_inverse=True)
    found: Doubles = np.bincount(which, weights=error) / np.bincount(which)
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
