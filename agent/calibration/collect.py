"""Timing the plan, one kernel after the other, each journalled the moment it exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.calibration import experiment
from agent.calibration.experiment import Group
from agent.measure.quiet import Between, never
from agent.measure.sentinel import sentinel_drift
from agent.measure.worker import PROTOCOL
from agent.progress import Progress, Stopwatch, Tell
from agent.state.state import Run, State, StoredTiming, TimingKey

if TYPE_CHECKING:
    from agent.measure.evidence import Notice
    from agent.measure.runner import Runner
    from agent.measure.timing import Measurement

FITTING_S = 2.0  # of the budget, kept for what comes after measuring


@dataclass(frozen=True)
class Journal:
    """Where timings go, the moment they exist."""

    state: State
    run: Run
    machine: str
    toolchain: str

    def key(self, group: Group, schedule: str) -> TimingKey:
        """What the timing of a group's version is stored under."""
        return experiment.key_of(
            group.kernel, group.source, schedule, self.machine, self.toolchain, PROTOCOL
        )

    def missing(self, group: Group, known: dict[TimingKey, StoredTiming]) -> Group | None:
        """What of a group is still to be timed; None if nothing."""
        left = [
            (s, v)
            for s, v in zip(group.schedules, group.variants, strict=True)
            if self.key(group, str(s)) not in known
        ]
        if not left:
            return None
        schedules, variants = zip(*left, strict=True)
        return replace(group, schedules=schedules, variants=variants)

    def write(self, group: Group, found: Measurement) -> None:
        """Store what was measured; it is on the disk when this returns."""
        rows = experiment.rows_of(group, found, self.machine, self.toolchain, PROTOCOL)
        self.state.record(self.run, rows)


@dataclass(frozen=True)
class Collected:
    """Variants that were not reached in time, and what the sentinels say of the machine."""

    skipped: int
    drifts: tuple[Notice, ...]


def collect(
    runner: Runner,
    groups: Sequence[Group],
    journal: Journal,
    budget_s: float,
    watch: Stopwatch,
    tell: Tell,
    between: Between = never,
) -> Collected:
    """Time group by group, each with its share of the time left.

    Sentinels are timed at the start, in the middle and at the end: they tell whether the machine
    itself changed meanwhile. ``between`` is asked after every kernel, and may raise to end it.
    """
    if not groups:
        return Collected(0, ())
    total = sum(len(g.variants) for g in groups)
    done, behind = 0, 0.0
    sentinels = [runner.sentinel()]
    start = watch.elapsed_s
    for number, group in enumerate(groups):
        left = budget_s - watch.elapsed_s - FITTING_S
        if left <= 0 and done >= experiment.FEWEST_VARIANTS:
            break
        if number == len(groups) // 2:
            sentinels.append(runner.sentinel())
        ahead = sum(map(experiment.weight, groups[number:]))
        needed = experiment.time_left(watch.elapsed_s - start, behind, ahead)
        what = f"{group.kernel.name} ({len(group.variants)} version(s))"
        tell(Progress("measuring", done, total, what, min(max(left, 0.0), needed)))
        share = experiment.weight(group) / ahead
        found = runner.measure(group.base, group.variants, budget_s=max(left, 0.0) * share)
        journal.write(group, found)
        between(found)
        done += len(group.variants)
        behind += experiment.weight(group)
    sentinels.append(runner.sentinel())
    tell(Progress("measuring", done, total, "", 0.0))
    return Collected(total - done, sentinel_drift(sentinels))
