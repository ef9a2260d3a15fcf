"""What stands against further steps: the dependences that legality names, with an example."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import ScheduleError
from agent.loopnest.program import Program
from agent.loopnest.schedules.candidates import Draft
from agent.loopnest.schedules.dependence import Dependences
from agent.loopnest.schedules.legality import check_step
from agent.loopnest.schedules.schedule import (
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Parallelize,
    Reverse,
    Skew,
    Step,
    Tile,
    Unroll,
    Vectorize,
)

MOST_TRIED = 40  # steps: a few milliseconds each
SIZE, FACTOR = 32, 4


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A step that would be refused, the reason, and what to do instead."""

    step: str
    reason: str
    hint: str


def obstacles(unmarked: Program, dependences: Dependences) -> tuple[Obstacle, ...]:
    """Steps of each kind on innermost and outermost loops that a dependence forbids.

    Args:
        unmarked: a program under a schedule that is legal, without marks: they come last.
        dependences: of the program as written.
    """
    found = []
    for step in itertools.islice(_steps(unmarked), MOST_TRIED):
        draft = Draft(unmarked)
        if draft.attempt(step):  # else it does not fit the loops: no dependence forbids it
            try:
                check_step(draft.program, step, dependences)
            except ScheduleError as error:
                reason = error.message.removeprefix(f"{step}: ").removeprefix("the schedule ")
                found.append(Obstacle(str(step), reason, error.hint))
    return tuple(found)


def _steps(program: Program) -> Iterator[Step]:
    """Of each kind, on the innermost and outermost loops."""
    draft = Draft(program)
    outer = [x.iterator for x in draft.outermost()]
    inner = [x.iterator for x in draft.innermost()]
    ends = list(dict.fromkeys((*outer, *inner)))
    for loop in ends:
        yield Parallelize(loop)
    for loop in inner:
        yield Vectorize(loop)
    for band in draft.bands():
        if len(band) > 1:
            first, last = band[0].iterator, band[-1].iterator
            yield Interchange(first, last)
            yield Tile(tuple((x.iterator, SIZE) for x in band))
            yield Skew(last, first, 1)
    for loop in outer:
        if loop not in inner:
            yield Jam(loop, FACTOR)
    for pair in draft.neighbours():
        yield Fuse(*pair)
    for loop in outer:
        yield Distribute(loop)
    for loop in ends:
        yield Reverse(loop)
    for loop in inner:
        yield Unroll(loop, FACTOR)
