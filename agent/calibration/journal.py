"""Timings as they are stored, each the moment it exists, and what is read from them again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.calibration.calibration import CalibrationWarning
from agent.json_values import Later, MalformedError, is_number
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.timing import Timing
from agent.measure.worker import PROTOCOL
from agent.state import typed
from agent.state.state import Run, State, StoredTiming, TimingKey

if TYPE_CHECKING:
    from agent.calibration.plan import Group
    from agent.kernels.fixed_set import Kernel
    from agent.measure.timing import Measurement


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What is stored of one timing; of the program as written also what timing it told.

    Attributes:
        kernel: of the fixed set.
        timing: of one version.
        noise: A/A log-ratios.
        notices: (kind, value, limit) of what disturbed it.
    """

    kernel: str
    timing: Timing
    noise: Later[tuple[float, ...]] = None
    notices: Later[tuple[tuple[object, ...], ...]] = None


@dataclass(frozen=True)
class Journal:
    """Where timings go, the moment they exist."""

    state: State
    run: Run
    machine: str
    toolchain: str

    def key(self, group: Group, schedule: str) -> TimingKey:
        """What the timing of a group's version is stored under."""
        return key_of(group.kernel, group.source, schedule, self.machine, self.toolchain)

    def keys(self, groups: Iterable[Group]) -> set[TimingKey]:
        """What all timings of these groups are stored under."""
        return {self.key(g, s) for g in groups for s in (ORIGINAL, *map(str, g.schedules))}

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
        entries = entries_of(group, found)
        rows = [(self.key(group, name), typed.to_json(entry)) for name, entry in entries]
        self.state.record(self.run, rows)


def key_of(kernel: Kernel, source: str, schedule: str, machine: str, toolchain: str) -> TimingKey:
    """The key of one timing of the fixed set."""
    sizes = ",".join(f"{name}={value}" for name, value in sorted(kernel.sizes.items()))
    return TimingKey(machine, toolchain, source, sizes, schedule, PROTOCOL)


def entries_of(group: Group, found: Measurement) -> Iterator[tuple[str, JournalEntry]]:
    """A measured group by schedule: the base first, with its A/A ratios and notices."""
    name = group.kernel.name
    notices = tuple((n.kind, n.value, n.limit) for n in found.notices)
    yield ORIGINAL, JournalEntry(name, found.base, found.noise, notices)
    for schedule, timing in zip(group.schedules, found.timings, strict=True):
        yield str(schedule), JournalEntry(name, timing)


def newest(stored: Iterable[StoredTiming]) -> dict[TimingKey, StoredTiming]:
    """The last timing of every key."""
    return {timing.key: timing for timing in stored}


def read_entries(stored: Iterable[StoredTiming]) -> Iterator[tuple[str, JournalEntry]]:
    """Schedules and what was stored of them; what cannot be read is left out."""
    for row in stored:
        with contextlib.suppress(MalformedError):
            yield row.key.schedule, typed.from_json(JournalEntry, row.body)


def noise_of(stored: Iterable[StoredTiming]) -> list[tuple[float, ...]]:
    """The A/A log-ratios of every kernel."""
    entries = (entry for schedule, entry in read_entries(stored) if schedule == ORIGINAL)
    return [entry.noise for entry in entries if entry.noise is not None]


def disturbances_of(stored: Iterable[StoredTiming]) -> list[CalibrationWarning]:
    """What disturbed the measuring: each kind once, with how many kernels it touched."""
    count: Counter[str] = Counter()
    worst: dict[str, float] = {}
    for _, entry in read_entries(stored):
        for kind, value, *_ in entry.notices or ():
            if not is_number(value):
                continue
            count[str(kind)] += 1
            worst[str(kind)] = max(worst.get(str(kind), 0.0), float(value))
    return [CalibrationWarning(k, kernels=n, worst=worst[k]) for k, n in count.most_common()]
