"""Timing the plan, one kernel after the other, each journalled the moment it exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.calibration.plan import FEWEST_VARIANTS, Group, time_left, weight
from agent.measure.quiet import Between, never
from agent.progress import Progress, Stopwatch, Tell

if TYPE_CHECKING:
    from agent.calibration.journal import Journal
    from agent.measure.runner import Runner

FITTING_S = 2.0  # of the budget, kept for what comes after measuring
AGAIN_S = 4.0  # of the budget, kept for timing some kernels again


@dataclass(frozen=True)
class Pace:
    """How long timing may take, and who is asked and told meanwhile.

    Attributes:
        budget_s: from the start of ``watch``, fitting included.
        watch: running.
        tell: shown the progress.
        between: asked after every kernel; may raise to end it.
    """

    budget_s: float
    watch: Stopwatch
    tell: Tell
    between: Between = never

    @property
    def end_s(self) -> float:
        """When the last timing should be done, by ``watch``."""
        return self.budget_s - FITTING_S


@dataclass(frozen=True)
class Collected:
    """Variants that were not reached in time; seconds in rounds that only others made necessary."""

    skipped: int
    waited_s: float


def collect(runner: Runner, groups: Sequence[Group], journal: Journal, pace: Pace) -> Collected:
    """Time group by group, each with its share of the time left."""
    total = sum(len(g.variants) for g in groups)
    done, behind, waited_s = 0, 0.0, 0.0
    start = pace.watch.elapsed_s
    for number, group in enumerate(groups):
        left = max(pace.end_s - AGAIN_S - pace.watch.elapsed_s, 0.0)
        if left == 0 and done >= FEWEST_VARIANTS:
            break
        ahead = sum(map(weight, groups[number:]))
        needed = time_left(pace.watch.elapsed_s - start, behind, ahead)
        what = f"{group.kernel.name} (versions: {len(group.variants)})"
        pace.tell(Progress("measuring", done, total, what, min(left, needed)))
        budget_s = left * weight(group) / ahead
        found = runner.measure(group.base, group.variants, budget_s=budget_s)
        journal.write(group, found)
        pace.between(found)
        waited_s += found.waited_s
        done += len(group.variants)
        behind += weight(group)
    pace.tell(Progress("measuring", done, total, "", 0.0))
    return Collected(total - done, waited_s)
