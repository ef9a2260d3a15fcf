"""Can a calibration be believed? One verdict, found once, from its predictions of unseen kernels.

    no worse than the bundle alone, and than the calibration in force on the same kernels?
        no, or not shown: not to be used    yes: few kernels, noise, disturbance, large errors?
                                                 one of them: usable    none: good

What is not to be used is kept and does not come into force. The rule for "no worse" is
``agent.model.paired``'s; labels of the new calibration judge both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from agent.calibration.calibration import CalibrationVerdict

if TYPE_CHECKING:
    from agent.arrays import Doubles
    from agent.calibration.calibration import Calibration, Point, StoredCalibration
    from agent.model.paired import PairedErrors
    from agent.model.records import Kind

RELIABLE_KERNELS = 8  # with fewer, the figures are too uncertain to call anything good
NOISY = 0.10  # log ratio of two timings of the same thing
INEXACT = math.log(2)  # log error of speed-ups
MOST_STEAL = 0.03  # share of CPU time that the host may take
NAMES: Final[Mapping[Kind, str]] = {"speedup": "speed-ups", "seconds": "times"}
_OLDER = ("drift-arithmetic", "drift-stream")  # by older agents
_DISTURBING = frozenset(("foreign-load", "disturbed-rounds", "drift", *_OLDER))
Predicted = Mapping[tuple[str, str, str], float]  # by kernel, schedule and kind


def verdict_of(calibration: Calibration) -> CalibrationVerdict:
    """As it was found then; of a calibration by an older agent, as far as it tells."""
    return calibration.verdict or judge_calibration(calibration)


def judge_calibration(
    new: Calibration, present: StoredCalibration | None = None
) -> CalibrationVerdict:
    """The verdict on a calibration; ``present``: the one in force, where that is comparable."""
    bad = _beside_the_bundle(new) or (_beside(new, present) if present else None)
    if bad:
        return CalibrationVerdict("not-to-be-used", *bad)
    for code, reason in _reserves(new):
        return CalibrationVerdict("usable", code, reason)
    ours, alone = new.accuracy.calibrated.log_error, new.accuracy.bundle_alone.log_error
    reason = f"speed-ups are off by a factor of {_factor(ours)} (bundle alone: {_factor(alone)})"
    return CalibrationVerdict("good", "exact", reason)


def is_comparable(new: Calibration, old: Calibration) -> bool:
    """Whether the older one is of this machine and toolchain, and says what it predicted."""
    then, now = (
        (c.machine.fingerprint, c.machine.microcode, c.machine.kernel, c.toolchain.mark)
        for c in (old, new)
    )
    same = all(a == b for a, b in zip(then, now, strict=True) if a and b)
    return same and bool(old.points)


def compare_predictions(
    judges: Sequence[Point], before: Predicted, kind: Kind
) -> PairedErrors | None:
    """Their own predictions beside those of ``before``, both judged by what was measured.

    Args:
        judges: timings with what was predicted of them unseen.
        before: another way's predictions; programs that it lacks are left out.
        kind: speed-ups or seconds.
    """
    import numpy as np  # not for those who only tell a verdict

    from agent.model.paired import by_program, compare_errors

    rows = [p for p in judges if p.kind == kind and _key(p) in before]
    measured = np.array([p.measured for p in rows])
    kernels = np.unique([p.kernel for p in rows], return_inverse=True)[1]
    old = _errors(np.array([before[_key(p)] for p in rows]), measured)
    new = _errors(np.array([p.calibrated for p in rows]), measured)
    return compare_errors(by_program(old, kernels), by_program(new, kernels))


def predictions_of(points: Sequence[Point]) -> Predicted:
    """What a calibration predicted of each program without having seen it."""
    return {_key(p): p.calibrated for p in points}


def _key(p: Point) -> tuple[str, str, str]:
    return p.kernel, p.schedule, p.kind


def _errors(predicted: Doubles, measured: Doubles) -> Doubles:
    import numpy as np

    with np.errstate(all="ignore"):  # a damaged number gives NaN, which shows nothing
        found: Doubles = np.abs(np.log(predicted / measured))
    return found


def _beside_the_bundle(new: Calibration) -> tuple[str, str] | None:
    """Why it is no better to have than the bundle alone."""
    from agent.model.paired import FEWEST_PAIRS

    points = new.points or ()
    alone = {_key(p): p.alone for p in points}
    adjusted = [kind for kind in NAMES if new.head.kinds.get(kind, "bundle") != "bundle"]
    shown = (compare_predictions(points, alone, kind) for kind in adjusted if points)
    if adjusted and all(judged is not None and judged.no_worse for judged in shown):
        return None
    kernels = new.accuracy.calibrated.programs
    if kernels < FEWEST_PAIRS:
        return "too-few-kernels", f"only {_kernels(kernels)} could be timed, which says too little"
    words = f"{_kernels(kernels)} do not show that it predicts as well as the bundle alone"
    return "not-better-than-bundle", words + _tried(new)


def _tried(new: Calibration) -> str:
    """The errors of the best head that was tried for speed-ups, and the bundle's."""
    tried = [v for v in new.head.verdicts if v.target == "speedup" and v.log_error is not None]
    if not tried:
        return ""
    best = min(tried, key=lambda v: v.log_error or 0.0)
    ours, alone = _factor(best.log_error), _factor(best.bundle_log_error)
    return f" (speed-ups are off by a factor of {ours} adjusted to them, by {alone} as they were)"


def _beside(new: Calibration, present: StoredCalibration) -> tuple[str, str] | None:
    """Why the calibration in force is the better one to have."""
    named = f"calibration {present.id}, which is in force"
    if _is_noisy(new) and not _is_noisy(present.body):
        return "too-noisy", f"its timings are too noisy to be judged beside those of {named}"
    before = predictions_of(present.body.points or ())
    for kind in NAMES:
        judged = compare_predictions(new.points or (), before, kind)
        if judged is None:
            return "not-compared", f"too few kernels are the same as those of {named}"
        if not judged.no_worse:
            words = (
                f"{_kernels(judged.programs)} do not show that it predicts as well as {named}"
                f" ({NAMES[kind]} off by a factor of {_factor(judged.after)},"
                f" by that one {_factor(judged.before)})"
            )
            return "not-better-than-present", words
    return None


def _reserves(new: Calibration) -> Iterator[tuple[str, str]]:
    """Why it is not called good, the weightiest first."""
    kernels = new.accuracy.calibrated.programs
    if kernels < RELIABLE_KERNELS:
        yield "few-kernels", f"only {_kernels(kernels)} were timed; {RELIABLE_KERNELS} are reliable"
    if _is_noisy(new):
        twice = math.expm1(min(new.noise or 0.0, 45.0))
        yield "noisy", f"two timings of the same thing differ by {twice:.0%}"
    if any(_disturbs(w.code, w.worst) for w in new.warnings):
        yield "disturbed", "other work, heat or the host disturbed the timing"
    error = new.accuracy.calibrated.log_error
    if error is None or not error <= INEXACT:
        yield "inexact", f"speed-ups are off by a factor of {_factor(error)}, which is much"


def _is_noisy(calibration: Calibration) -> bool:
    return (calibration.noise or 0.0) > NOISY


def _disturbs(code: str, worst: float | None) -> bool:
    return code in _DISTURBING or (code == "steal" and (worst or 0.0) > MOST_STEAL)


def _kernels(count: int) -> str:
    return f"{count} kernel{'' if count == 1 else 's'}"


def _factor(log_error: float | None) -> str:
    return "unknown size" if log_error is None else f"{math.exp(min(log_error, 45.0)):.3g}"
