"""Can a calibration be believed? One verdict, found once, from its predictions of unseen kernels.

    no worse than the bundle alone, and than the calibration in force on the same kernels?
        no, or not shown: not to be used    yes: few kernels, noise, disturbance, large errors?
                                                 one of them: usable    none: good

What is not to be used is kept and does not come into force. The rule for "no worse", in errors and
in the order of versions, is ``agent.model.paired``'s; labels of the new calibration judge both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from agent.calibration.calibration import CalibrationVerdict

if TYPE_CHECKING:
    from agent.calibration.calibration import Calibration, Point, StoredCalibration
    from agent.model.paired import Judgement
    from agent.model.records import Kind

RELIABLE_KERNELS = 8  # with fewer, the figures are too uncertain to call anything good
NOISY = 0.10  # log ratio of two timings of the same thing
INEXACT = math.log(2)  # log error of speed-ups
MOST_STEAL = 0.03  # share of CPU time that the host may take
NAMES: Final[Mapping[Kind, str]] = {"speedup": "speed-ups", "seconds": "times"}
_PAIRS = "pairs of versions in the right order"
_OLDER = ("drift-arithmetic", "drift-stream")  # by older agents
_DISTURBING = frozenset(("foreign-load", "disturbed-rounds", "drift", *_OLDER))
Predicted = Mapping[tuple[str, str, str], float]  # by kernel, schedule and kind


def calibration_verdict(calibration: Calibration) -> CalibrationVerdict:
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


def compare_predictions(judges: Sequence[Point], before: Predicted, kind: Kind) -> Judgement | None:
    """Their own predictions beside those of ``before``, both judged by what was measured.

    Args:
        judges: timings with what was predicted of them unseen.
        before: another way's predictions; programs that it lacks are left out.
        kind: speed-ups or seconds.
    """
    import numpy as np  # not for those who only tell a verdict

    from agent.model.paired import Measured, judge_ways

    rows = [p for p in judges if p.kind == kind and _key(p) in before]
    columns = [(p.measured, p.low, p.high, p.calibrated, before[_key(p)]) for p in rows]
    with np.errstate(all="ignore"):  # a damaged number gives NaN, which shows nothing
        truth, low, high, new, old = np.log(np.array(columns).reshape(-1, 5)).T
    kernels = np.unique([p.kernel for p in rows], return_inverse=True)[1]
    return judge_ways(Measured(kind, kernels, truth, (high - low) / 2), old, new)


def predictions_of(points: Sequence[Point]) -> Predicted:
    """What a calibration predicted of each program without having seen it."""
    return {_key(p): p.calibrated for p in points}


def _key(p: Point) -> tuple[str, str, str]:
    return p.kernel, p.schedule, p.kind


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
    """What the best head that was tried for speed-ups does worse than the bundle."""
    tried = [v for v in new.head.verdicts if v.target == "speedup" and v.log_error is not None]
    if not tried:
        return ""
    best = min(tried, key=lambda v: v.log_error or 0.0)
    ours, alone = _factor(best.log_error), _factor(best.bundle_log_error)
    words = f"speed-ups are off by a factor of {ours} adjusted to them, by {alone} as they were"
    if best.order is not None and best.bundle_order is not None:
        words += f", and put {best.order:.0%} and {best.bundle_order:.0%} of {_PAIRS}"
    return f" ({words})"


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
            words = f"{_kernels(judged.error.programs)} do not show that it predicts as well as"
            return "not-better-than-present", f"{words} {named} ({_why_not(judged, kind)})"
    return None


def _why_not(judged: Judgement, kind: Kind) -> str:
    """What is not shown to be no worse than in the calibration in force."""
    error, misorder = judged.error, judged.misorder
    if misorder is None or not error.no_worse:
        ours, theirs = _factor(error.after), _factor(error.before)
        return f"{NAMES[kind]} off by a factor of {ours}, by that one {theirs}"
    ours, theirs = f"{1 - misorder.after:.0%}", f"{1 - misorder.before:.0%}"
    return f"{ours} of {_PAIRS}, by that one {theirs}"


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
