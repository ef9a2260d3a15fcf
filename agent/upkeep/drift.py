"""``agent check``: does the calibration in force still hold? A handful of timings tells.

    the facts of the machine -> sentinels: kernels of the fixed set, as written and under a schedule
        -> their times and speed-ups beside those of the calibration -> verdict, kept in the state

The sentinels are the first kernels of the fixed set that the calibration has usable timings of:
the set begins with those that tell machines apart best. A sentinel has changed if it is beyond its
limit in three looks, in the same direction; one is enough, since memory, cores and clock can change
one without the other. Limits are far above what a busy hour does, and below what predictions are
off by anyway: a smaller drift is not worth measuring everything again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.calibration.calibration import calibration_in_force
from agent.errors import NothingToDoError
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.machine import read_machine
from agent.measure.resolve import runner_for_set, toolchain_for_set
from agent.measure.runner import OpenSetRunner, Runner
from agent.progress import Progress, Stopwatch, Tell
from agent.state import typed
from agent.upkeep import due
from agent.upkeep.checked import Check, Checked, SentinelChange

if TYPE_CHECKING:
    from agent.calibration.calibration import StoredCalibration
    from agent.calibration.labels import Sample
    from agent.calibration.plan import Group
    from agent.measure.timing import Measurement
    from agent.settings.config import Config
    from agent.state.state import State
    from agent.upkeep.checked import CheckVerdict

SENTINELS = 5
LOOKS = 3
BUDGET_S = 6.0  # of timing, all looks together
LEAST_LIMIT = 0.25  # log units
NOISES = 3.0  # of the calibration's noise, and standard deviations of both timings
MOST_LIMIT = 0.5
DISTURBED = frozenset(("steal", "foreign-load", "disturbed-rounds"))


Seen = tuple[tuple[SentinelChange, ...], bool]


def check_drift(
    config: Config, state: State, tell: Tell, *, open_runner: OpenSetRunner = runner_for_set
) -> Checked:
    """Look whether the calibration in force still holds, and keep what was found.

    Args:
        config: compiler and bundle.
        state: opened for writing, with the lock held.
        tell: shown the progress.
        open_runner: gives what times the sentinels.

    Returns:
        What was found, and when.

    Raises:
        NothingToDoError: there is no calibration.
        CompilerError, StateError: the sentinels cannot be timed.
    """
    watch, stored = Stopwatch(), calibration_in_force(state)
    if stored is None:
        raise NothingToDoError("there is no calibration to check", "Run `agent calibrate` first.")
    tell(Progress("checking", 0, SENTINELS, "looking at machine, compiler and bundle"))
    machine = read_machine()
    toolchain = toolchain_for_set(config.compiler, machine)  # none: an error, no change
    present = due.Present(machine, toolchain.mark, time.time())
    reasons = tuple(due.changed_facts(stored, state, config, present))
    sentinels: tuple[SentinelChange, ...] = ()
    disturbed = False
    if not reasons:  # else what would be timed is another thing than then
        runner = open_runner(config, toolchain, machine)
        sentinels, disturbed = _timed(runner, state, stored, tell)
    found = Check(
        calibration=stored.id,
        verdict=drift_verdict(bool(reasons), sentinels, disturbed=disturbed),
        worst=max((abs(c.log_ratio) for c in sentinels), default=0.0),
        sentinels=sentinels,
        reasons=reasons,
        disturbed=disturbed,
        elapsed_s=watch.elapsed_s,
    )
    checked = time.time()
    state.note_drift(typed.to_json(found), checked)
    return Checked(found, checked, stored.created_at)


def drift_verdict(
    changed: bool, sentinels: Sequence[SentinelChange], *, disturbed: bool
) -> CheckVerdict:
    """What the facts and the sentinels say together."""
    if changed:
        return "changed"
    if not sentinels or disturbed:
        return "unclear"
    return "changed" if any(c.beyond for c in sentinels) else "holds"


def _timed(runner: Runner, state: State, stored: StoredCalibration, tell: Tell) -> Seen:
    """The changes of all sentinels, and whether something disturbed the timing."""
    then = _samples(state, stored.id)
    groups = sentinel_groups(then)
    runner.prepare([p for g in groups for p in (g.base, *g.variants)])
    noise = stored.body.noise or 0.0

    def look() -> Seen:
        seen = []
        for number, group in enumerate(groups):
            tell(Progress("checking", number, len(groups), f"timing {group.kernel.name}"))
            seen.append(_look(runner, group, then, noise))
        tell(Progress("checking", len(groups), len(groups)))
        return tuple(c for changes, _ in seen for c in changes), any(d for _, d in seen)

    return confirmed(look)


def confirmed(look: Callable[[], Seen]) -> Seen:
    """A look at all, and more while something is beyond its limit or disturbed; what they all say.

    The whole is looked at again, so that some seconds lie between two looks at the same quantity:
    what disturbs one look often lasts for a moment.

    A quantity that looks find at different places is taken to be as near as the nearest of them.
    Only the last look's disturbances count.
    """
    found, disturbed = look()
    for _ in range(LOOKS - 1):
        if not disturbed and not any(c.beyond for c in found):
            break
        seen, disturbed = look()
        again = {(c.kernel, c.schedule): c for c in seen}
        found = tuple(_nearer(c, again.get((c.kernel, c.schedule), c)) for c in found)
    return found, disturbed


def _nearer(one: SentinelChange, other: SentinelChange) -> SentinelChange:
    nearest = min(one, other, key=lambda c: abs(c.log_ratio) - c.limit)
    return replace(nearest, looks=(*_looks(one), *(() if other is one else _looks(other))))


def _looks(change: SentinelChange) -> tuple[float, ...]:
    return change.looks or (change.log_ratio,)


def _look(
    runner: Runner, group: Group, then: Mapping[tuple[str, str], Sample], noise: float
) -> Seen:
    found = runner.measure(group.base, group.variants, budget_s=BUDGET_S / SENTINELS / LOOKS)
    changes = tuple(changes_of(group, found, then, noise))
    return changes, any(n.kind in DISTURBED for n in found.notices)


def changes_of(
    group: Group, found: Measurement, then: Mapping[tuple[str, str], Sample], noise: float
) -> Iterator[SentinelChange]:
    """What a measurement found beside what was found then; nothing of what could not be timed."""
    from agent.calibration.labels import samples_of
    from agent.calibration.repeat import pairs

    for before, now in pairs(then, samples_of(group, found)):
        spread = math.hypot(now.sd, before.sd)
        limit = min(max(LEAST_LIMIT, NOISES * noise, NOISES * spread), MOST_LIMIT)
        change = now.label - before.label
        yield SentinelChange(*now.version, change, limit, (change,))


def _samples(state: State, calibration: int) -> dict[tuple[str, str], Sample]:
    """Usable timings of a calibration, by kernel and schedule, in the order made."""
    from agent.calibration.journal import newest
    from agent.calibration.labels import by_version, judge
    from agent.kernels.fixed_set import kernels

    run = state.run_of(calibration)
    rows = newest(state.timings(run)) if run else {}
    samples, _ = judge(rows.values(), {k.name: k for k in kernels()})
    return by_version(samples)


def sentinel_groups(then: Mapping[tuple[str, str], Sample]) -> list[Group]:
    """The first kernels that were timed both as written and under a schedule, with one schedule."""
    from agent.calibration.plan import group_of
    from agent.kernels.fixed_set import fixed_variants

    chosen: dict[str, Group] = {}
    for planned in fixed_variants():
        name = planned.kernel.name
        known = {(name, ORIGINAL), (name, str(planned.schedule))} <= then.keys()
        if known and name not in chosen and len(chosen) < SENTINELS:
            chosen[name] = group_of(planned.kernel, (planned,))
    return list(chosen.values())
