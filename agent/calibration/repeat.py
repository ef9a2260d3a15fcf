"""What a timing differs by from the same made again: the noise floor of a calibration.

Rounds of one worker agree with each other better than with those of another one: memory is laid out
anew, neighbours come and go. So some kernels are timed once more when all others are done, each in
a new process, and both timings are compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from agent.calibration.calibration import CalibrationWarning, RepeatNoise
from agent.calibration.labels import Sample, by_version, samples_of
from agent.calibration.plan import weight
from agent.measure.stats import quantile
from agent.progress import Progress

if TYPE_CHECKING:
    from agent.calibration.collect import Pace
    from agent.calibration.plan import Group
    from agent.measure.runner import Runner

KERNELS = 5  # timed again
FEWEST = 2  # of them, however late it is
LEAST_DRIFT = 0.05  # log units; a smaller one is not worth a word
DEVIATIONS = 3.0  # of both timings' standard deviations: more is not chance
Pair = tuple[Sample, Sample]


def timed_again(
    runner: Runner, groups: Sequence[Group], first: Iterable[Sample], pace: Pace
) -> tuple[Pair, ...]:
    """Time kernels again; what was found before and now of each version that gave both.

    Those with most versions are taken, of these the ones timed first: most time lies between.

    Args:
        runner: that timed them first.
        groups: all that was planned, in the order timed.
        first: usable timings.
        pace: how long it may take.
    """
    then = by_version(first)
    usable = [g for g in groups if any((g.kernel.name, str(s)) in then for s in g.schedules)]
    chosen = sorted(usable, key=lambda g: -len(g.variants))[:KERNELS]
    found: list[Pair] = []
    for number, group in enumerate(chosen):
        left = max(pace.end_s - pace.watch.elapsed_s, 0.0)
        if left == 0 and number >= FEWEST:
            break
        pace.tell(Progress("measuring", number, len(chosen), f"{group.kernel.name} again", left))
        budget_s = left * weight(group) / sum(map(weight, chosen[number:]))
        measured = runner.measure(group.base, group.variants, budget_s=budget_s)
        pace.between(measured)
        found += pairs(then, samples_of(group, measured))
    pace.tell(Progress("measuring", len(chosen), len(chosen), "", 0.0))
    return tuple(found)


def pairs(then: Mapping[tuple[str, str], Sample], now: Iterable[Sample]) -> list[Pair]:
    """Timings of the same versions."""
    return [(then[s.version], s) for s in now if s.version in then]


def repeat_noise(found: Iterable[Pair]) -> RepeatNoise | None:
    """By how much speed-ups differ that were timed twice; None where none was."""
    both = [(one, other) for one, other in found if not one.base]
    if not both:
        return None
    changes = [abs(one.label - other.label) for one, other in both]
    held = [a.low <= b.label <= a.high for pair in both for a, b in (pair, pair[::-1])]
    return RepeatNoise(
        median=statistics.median(changes),
        p90=quantile(changes, 0.9),
        held=sum(held) / len(held),
        versions=len(both),
    )


def drift(found: Iterable[Pair]) -> tuple[CalibrationWarning, ...]:
    """A warning where programs as written took longer, or less, at the end than at first."""
    changes = [
        (abs(one.label - other.label), DEVIATIONS * math.hypot(one.sd, other.sd))
        for one, other in found
        if one.base
    ]
    beyond = [change for change, limit in changes if change > max(limit, LEAST_DRIFT)]
    if not beyond:
        return ()
    return (CalibrationWarning("drift", kernels=len(beyond), worst=max(beyond)),)
