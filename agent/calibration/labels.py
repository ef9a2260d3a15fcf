"""What a timing says: a label with its error, or why it gives none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.calibration.calibration import FailedTiming
from agent.calibration.journal import read_entries
from agent.kernels.fixed_set import Kernel
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.model.posterior import Z80

if TYPE_CHECKING:
    from agent.calibration.plan import Group
    from agent.measure.timing import Measurement, Timing
    from agent.state.state import StoredTiming

SMALLEST_SD = 0.005  # of a label, log units: below, rounds agree by luck
WORST_SD = 1.0


@dataclass(frozen=True)
class Sample:
    """A usable timing of a kernel: its program, and the label with its 80 % interval (log units).

    ``base`` rows carry log seconds, others log speed-ups.
    """

    kernel: Kernel
    schedule: str
    base: bool
    label: float
    low: float
    high: float

    @property
    def version(self) -> tuple[str, str]:
        """Kernel and schedule."""
        return self.kernel.name, self.schedule

    @property
    def sd(self) -> float:
        """Standard deviation of the label."""
        return min(max((self.high - self.low) / (2 * Z80), SMALLEST_SD), WORST_SD)


def judge(
    stored: Iterable[StoredTiming], kernels: Mapping[str, Kernel]
) -> tuple[list[Sample], list[FailedTiming]]:
    """Timings as labels, and those that give none; of kernels that are still in the set."""
    samples: list[Sample] = []
    failures: list[FailedTiming] = []
    for schedule, entry in read_entries(stored):
        kernel, timing = kernels.get(entry.kernel), entry.timing
        if kernel is None:
            continue
        sample = sample_of(kernel, schedule, timing)
        if sample is not None:
            samples.append(sample)
        elif schedule != ORIGINAL:
            words = (timing.outcome, timing.detail)
            failures.append(FailedTiming(kernel.name, schedule, *words))
    return samples, failures


def by_version(samples: Iterable[Sample]) -> dict[tuple[str, str], Sample]:
    """Samples by kernel and schedule, in their order."""
    return {sample.version: sample for sample in samples}


def samples_of(group: Group, found: Measurement) -> Iterator[Sample]:
    """The usable timings of a measured group."""
    names = (ORIGINAL, *map(str, group.schedules))
    for schedule, timing in zip(names, (found.base, *found.timings), strict=True):
        if (sample := sample_of(group.kernel, schedule, timing)) is not None:
            yield sample


def sample_of(kernel: Kernel, schedule: str, timing: Timing) -> Sample | None:
    """A timing as a label; None where it gives none."""
    if not timing.ok:
        return None
    if schedule != ORIGINAL:
        values = (timing.log_speedup, timing.low, timing.high)
    else:
        seconds = (timing.seconds, timing.seconds_low, timing.seconds_high)
        if not min(seconds) > 0:
            return None
        values = (math.log(seconds[0]), math.log(seconds[1]), math.log(seconds[2]))
    if not all(map(math.isfinite, values)):
        return None
    return Sample(kernel, schedule, schedule == ORIGINAL, *values)
