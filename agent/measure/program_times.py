"""A program's seconds over the rounds of a measurement, all of them in one state of its cores.

Two programs are compared in the same state. Where the core was the program's own often enough,
that is the state compared in, since it comes again; what others took meanwhile does not. A parallel
program that never had all cores to itself is compared in the next best state that it was seen in,
and its timing says so. Executions that are longer than the spells of others tell how long they
take undisturbed by taking longer the more they were disturbed (``mixture``). Where nothing of that
can be said, both are as they were.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.measure.evidence import Round
from agent.measure.mixture import inferred
from agent.measure.shots import (
    AT_TIMES,
    AT_TIMES_SD,
    SESSION_SD,
    Sharing,
    Shots,
    disturbed_share,
    least_shared,
)


@dataclass(frozen=True, slots=True)
class ProgramTimes:
    """Seconds per execution by round.

    Attributes:
        seconds: by number of the round.
        sharing: the state that they are of.
        sd: of what they have in common, log units: 0 but for inferred ones, and where the next
            session may find no undisturbed cores.
    """

    seconds: Mapping[int, float]
    sharing: Sharing
    sd: float = 0.0

    @property
    def another_time(self) -> float:
        """Standard deviation of what the same differs by in another session, log units."""
        return math.hypot(self.sd, SESSION_SD[self.sharing])

    @property
    def typical(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.seconds.values())


def times_of(
    rounds: Sequence[Round],
    program: int,
    lowest: float,
    least: int,
    sharing: Sharing | None = None,
) -> ProgramTimes:
    """What ``rounds`` say of a program.

    Args:
        rounds: of one measurement.
        program: its number.
        lowest: the reading of an undisturbed core (``shots``).
        least: rounds that a state needs to be the one spoken of.
        sharing: the state asked for; None: the best that there is enough of.
    """
    samples = {i: s for i, r in enumerate(rounds) if (s := r.sample(program)) is not None}
    state = sharing or least_shared(tuple(samples.values()), lowest, least)
    if state is not sharing and state is Sharing.SHARED and (found := _inferred(samples, lowest)):
        return found
    if state is Sharing.SHARED:
        as_it_was = {i: dict(r.seconds) for i, r in enumerate(rounds)}
        return ProgramTimes({i: s[program] for i, s in as_it_was.items() if program in s}, state)
    timed = {i: s.seconds_when(state, lowest) for i, s in samples.items()}
    at_times = disturbed_share(samples.values(), lowest) >= AT_TIMES
    sd = AT_TIMES_SD if state is Sharing.UNDISTURBED and at_times else 0.0
    return ProgramTimes({i: s for i, s in timed.items() if s is not None}, state, sd)


def _inferred(samples: Mapping[int, Shots], lowest: float) -> ProgramTimes | None:
    """Undisturbed times of a long program that uses one core; None where nothing tells them."""
    if any(shot.all > shot.main for s in samples.values() for shot in s.shots):
        return None  # nothing tells what the other cores did meanwhile
    told = {i: known for i, s in samples.items() if (known := s.inside(lowest)) is not None}
    found = inferred(told)
    return ProgramTimes(found.seconds, Sharing.INFERRED, found.sd) if found else None


def together(first: ProgramTimes, second: ProgramTimes) -> ProgramTimes:
    """Both of the same program: the geometric mean where both have a round."""
    both = dict(second.seconds) | dict(first.seconds)
    for i in first.seconds.keys() & second.seconds.keys():
        both[i] = math.sqrt(first.seconds[i] * second.seconds[i])
    return replace(less_sure_of(first, second), seconds=both)


def less_sure_of(first: ProgramTimes, second: ProgramTimes) -> ProgramTimes:
    """The one that differs more from what another session finds."""
    return max(first, second, key=lambda times: times.another_time)


def log_ratios(base: ProgramTimes, version: ProgramTimes) -> tuple[float, ...]:
    """log(base / version), one for each round of ``version``: positive where it is faster.

    In the round itself where the base has it; else against the base's median, which in one state
    is as good.
    """
    typical = base.typical
    return tuple(math.log(base.seconds.get(i, typical) / s) for i, s in version.seconds.items())


def paired_log_ratios(first: ProgramTimes, second: ProgramTimes) -> tuple[float, ...]:
    """The same of the rounds that both have: what a program differs by from itself (A/A)."""
    common = sorted(first.seconds.keys() & second.seconds.keys())
    return tuple(math.log(first.seconds[i] / second.seconds[i]) for i in common)
