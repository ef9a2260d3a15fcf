"""Is a new bundle as good on this machine as the one in force? Both judged by its own timings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agent.calibration.verdict import RELIABLE_KERNELS, compare_predictions, predictions_of
from agent.model.observations import SECONDS, SPEEDUP

if TYPE_CHECKING:
    from agent.calibration.calibration import Calibration
    from agent.model.paired import Judgement


@dataclass(frozen=True)
class BundleComparison:
    """What the stored timings say of two bundles, on kernels that their heads had not seen.

    Attributes:
        kernels: that both were judged by.
        old, new: mean absolute log error of speed-ups.
        old_seconds, new_seconds: of times in seconds.
        difference: new less old, mean over kernels; below 0 the new bundle is better.
        standard_error: of the difference, over kernels.
        seconds_difference, seconds_standard_error: the same for times in seconds.
        old_order, new_order: share of versions that differ measurably in the right order, pair by
            pair.
        worse: shown to be worse for speed-ups or times (``agent.model.paired``).
        no_worse: shown to be no worse for both. Where it is neither, these kernels cannot tell.
    """

    kernels: int
    old: float
    new: float
    old_seconds: float | None
    new_seconds: float | None
    difference: float
    standard_error: float
    seconds_difference: float | None
    seconds_standard_error: float | None
    worse: bool
    no_worse: bool
    old_order: float | None = None
    new_order: float | None = None

    @property
    def decision(self) -> str:
        """``take``, ``decline``, or ``wait`` where there is too little evidence for either."""
        if self.kernels < RELIABLE_KERNELS:
            return "wait"
        return "decline" if self.worse else "take" if self.no_worse else "wait"

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def compare_bundles(old: Calibration, new: Calibration) -> BundleComparison | None:
    """Judge ``new`` against ``old``, fitted on the same evidence; None with too few kernels."""
    before, points = predictions_of(old.points or ()), new.points or ()
    speedups = compare_predictions(points, before, SPEEDUP)
    seconds = compare_predictions(points, before, SECONDS)
    return None if speedups is None else both_judged(speedups, seconds)


def both_judged(speedups: Judgement, seconds: Judgement | None) -> BundleComparison:
    """The comparison that the losses of speed-ups and of times make together."""
    judged = (speedups,) if seconds is None else (speedups, seconds)
    error, misorder = speedups.error, speedups.misorder
    times = seconds.error if seconds else None
    return BundleComparison(
        kernels=error.programs,
        old=error.before,
        new=error.after,
        old_seconds=times.before if times else None,
        new_seconds=times.after if times else None,
        difference=error.difference,
        standard_error=error.standard_error,
        seconds_difference=times.difference if times else None,
        seconds_standard_error=times.standard_error if times else None,
        worse=any(found.worse for found in judged),
        no_worse=all(found.no_worse for found in judged),
        old_order=1 - misorder.before if misorder else None,
        new_order=1 - misorder.after if misorder else None,
    )
