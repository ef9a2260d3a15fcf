"""Is a new bundle as good on this machine as the one in force? Both judged by its own timings."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from agent.arrays import Doubles
from agent.calibration.fit import Fitted
from agent.model.observations import SECONDS, SPEEDUP
from agent.model.records import Kind

FEWEST_KERNELS = 3


@dataclass(frozen=True)
class BundleComparison:
    """What the stored timings say of two bundles, on kernels that their heads had not seen.

    Attributes:
        kernels: that both were judged by.
        old, new: mean absolute log error of speed-ups.
        old_seconds, new_seconds: of times in seconds.
        difference: new less old, mean over kernels; below 0 the new bundle is better.
        standard_error: of the difference, over kernels.
        worse: by more than chance would explain (one standard error).
    """

    kernels: int
    old: float
    new: float
    old_seconds: float | None
    new_seconds: float | None
    difference: float
    standard_error: float
    worse: bool

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def compare_bundles(old: Fitted, new: Fitted) -> BundleComparison | None:
    """Judge ``new`` against ``old``, fitted on the same evidence; None with too few kernels."""
    before, after = _by_kernel(old, SPEEDUP), _by_kernel(new, SPEEDUP)
    if len(before) < FEWEST_KERNELS:
        return None
    gap = after - before
    error = float(gap.std(ddof=1) / len(gap) ** 0.5)
    return BundleComparison(
        kernels=len(gap),
        old=float(before.mean()),
        new=float(after.mean()),
        old_seconds=_mean(_by_kernel(old, SECONDS)),
        new_seconds=_mean(_by_kernel(new, SECONDS)),
        difference=float(gap.mean()),
        standard_error=error,
        worse=not gap.mean() <= error,  # also where one of them is no number
    )


def _by_kernel(fitted: Fitted, kind: Kind) -> Doubles:
    """[k] mean absolute log error of each kernel that has labels of this kind, in order."""
    rows = fitted.observations.kind == kind
    off = np.abs(fitted.observations.target - fitted.predicted)[rows]
    _, which = np.unique(fitted.observations.programs[rows], return_inverse=True)
    found: Doubles = np.bincount(which, weights=off) / np.bincount(which)
    return found


def _mean(values: Doubles) -> float | None:
    return float(values.mean()) if len(values) else None
