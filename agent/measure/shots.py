"""Which part of a sample was timed while its core was its own: shots, and the readings beside them.

Where the other thread of a core works for somebody else, a program is slowed down by a factor of
its own (a chain of dependent operations not at all, vector code two times), in spells from under a
millisecond to seconds. Neither load nor steal nor the clock frequency shows it; ``harness.c`` has a
reading that does, and takes one before and after each *shot*, a few executions.

Undisturbed, all cores of a kind give one reading; the lowest seen in a while is taken for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

UNDISTURBED = 1.15  # times the lowest reading; a shared core gives 1.25 and more, findings 12
UNDISTURBED_INSIDE = 1.05  # the same for a mean: disturbed for less than a tenth of the time
MIN_SHOTS = 3  # of a sample, for a median that one preempted shot does not move


class Sharing(StrEnum):
    """How much of the machine's cores was used by others while a program was timed."""

    UNDISTURBED = "undisturbed"  # every core that the program uses was its own
    PARTLY = "partly-shared"  # the core of its first thread was its own, not all of them
    INFERRED = "inferred"  # it was shared, more and less: undisturbed times follow (``mixture``)
    SHARED = "shared"


# Standard deviation of what another session finds beyond a session's own rounds, in log units, as
# ``benchmarks/repeat.py`` prints it (twice eight sessions on a Zen 4 VM, 2 CPUs, 2026-11-30; the
# first line is that of another silicon too). The other session may find the cores in another
# state, unless they were undisturbed throughout.
SESSION_SD = {
    Sharing.UNDISTURBED: 0.005,
    Sharing.PARTLY: 0.07,
    Sharing.INFERRED: 0.04,
    Sharing.SHARED: 0.025,
}
AT_TIMES_SD = 0.012  # of undisturbed shots where others were disturbed
AT_TIMES = 0.05  # of the shots, at least: one or two are the machine's own housekeeping


@dataclass(frozen=True, slots=True)
class Shot:
    """A few executions.

    Attributes:
        seconds: of one execution.
        main: worse reading of the first thread's core, before and after.
        inside: mean of its readings meanwhile; 0 where the execution is too short for any.
        all: worst reading of any core that the program uses, before and after.
        switches: how often a thread had to leave its CPU to another process, or to wait for it.
    """

    seconds: float
    main: float
    inside: float
    all: float
    switches: int = 0

    def fits(self, sharing: Sharing, lowest: float) -> bool:
        """Whether no more was shared than ``sharing`` says (``lowest``: an undisturbed reading)."""
        if sharing is Sharing.SHARED:
            return True
        if self.switches:
            return False
        worst = self.all if sharing is Sharing.UNDISTURBED else self.main
        return worst <= UNDISTURBED * lowest and self.inside <= UNDISTURBED_INSIDE * lowest


@dataclass(frozen=True, slots=True)
class Shots:
    """A program's part of a round."""

    shots: tuple[Shot, ...]

    @property
    def seconds(self) -> float:
        """Per execution, as it was: the mean over the shots."""
        return statistics.fmean(shot.seconds for shot in self.shots)

    def inside(self, lowest: float) -> tuple[float, float] | None:
        """Seconds, and by how much the readings meanwhile were above ``lowest`` (0: not at all).

        Of shots that kept their CPU, since readings tell nothing of time without one; None where
        there are none, or executions too short for readings.
        """
        kept = [shot for shot in self.shots if not shot.switches]
        if not kept or not all(shot.inside for shot in kept):
            return None
        spent = sum(shot.seconds for shot in kept)
        reading = sum(shot.seconds * shot.inside for shot in kept) / spent
        return spent / len(kept), max(reading / lowest - 1, 0.0)

    def seconds_when(self, sharing: Sharing, lowest: float) -> float | None:
        """Median over the shots of that state; None where there are too few.

        Args:
            sharing: the most that may have been shared.
            lowest: the reading of an undisturbed core.
        """
        fitting = [s.seconds for s in self.shots if s.fits(sharing, lowest)]
        if len(fitting) < min(MIN_SHOTS, len(self.shots)):
            return None
        return statistics.median(fitting)


def disturbed_share(samples: Iterable[Shots], lowest: float) -> float:
    """Of the shots, how many had a core that was shared; 0 where there are none."""
    shots = [shot for sample in samples for shot in sample.shots]
    disturbed = sum(not shot.fits(Sharing.UNDISTURBED, lowest) for shot in shots)
    return disturbed / len(shots) if shots else 0.0


def least_shared(samples: Sequence[Shots], lowest: float, rounds: int) -> Sharing:
    """The best state in which a program was timed in at least ``rounds`` of its samples."""
    for sharing in (Sharing.UNDISTURBED, Sharing.PARTLY):
        if sum(s.seconds_when(sharing, lowest) is not None for s in samples) >= rounds:
            return sharing
    return Sharing.SHARED
