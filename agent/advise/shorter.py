"""Programs that take seconds, made shorter for a search: fewer iterations of a loop of time.

A batch runs each of its versions about ten times, and the program as written more often. Where the
iterations of the outermost loop follow each other and all do the same work on the same data, as
time steps do, a few dozen of them tell as much of a version as all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.loopnest.program import Affine, Bound, Loop, Program, all_reads, loops, statements
from agent.loopnest.schedules.dependence import Dependences
from agent.measure.timing import Timing

LONG_S, SHORT_S = 0.4, 0.2  # an execution that is made shorter, and what it is to take
LEAST = 32  # iterations that are left, or twice as many, and so on: some tiles in time
SMALL = 64 << 10  # bytes of an array of which each iteration may take an element of its own


@dataclass(frozen=True)
class Shorter:
    """What is timed in place of a program.

    Attributes:
        program: the same loops, of which the outermost may have fewer iterations.
        times: how many times as long the whole takes.
        note: what was left out; empty: nothing.
    """

    program: Program
    times: float = 1.0
    note: str = ""

    def whole(self, timing: Timing) -> Timing:
        """A timing with the seconds that the whole takes, as far as a part of it tells."""
        if self.times == 1 or not timing.ok:
            return timing
        names = ("seconds", "seconds_low", "seconds_high", "base_seconds")
        return replace(timing, **{name: getattr(timing, name) * self.times for name in names})


def shorter(program: Program, seconds: float) -> Shorter:
    """What to time in place of ``program``, an execution of which takes ``seconds``."""
    if seconds <= LONG_S or (time := _time_loop(program)) is None:
        return Shorter(program)
    first, last = time.lower[0].expr.const, time.upper[0].expr.const
    trips = last - first + 1
    kept = LEAST
    while kept < trips * SHORT_S / seconds:
        kept *= 2  # the same of similar predictions, so that a log is found again
    if kept * 2 > trips:
        return Shorter(program)
    part = time.but(upper=(Bound(Affine.constant(first + kept - 1)),))
    note = (
        f"versions were timed with {kept} of the {trips} iterations of loop {time.iterator}: "
        "an execution takes seconds"
    )
    return Shorter(program.with_body((part,)), trips / kept, note)


def _time_loop(program: Program) -> Loop | None:
    """The loop around everything, if its iterations follow each other and all do the same."""
    (time,) = program.body if len(program.body) == 1 else (None,)
    if not isinstance(time, Loop) or time.step > 1:
        return None
    ends = (*time.lower, *time.upper)
    if len(ends) > 2 or any(b.divisor > 1 or not b.expr.is_constant for b in ends):
        return None
    name = time.iterator
    if any(name in b.expr.names for _, x in loops(time.body) for b in (*x.lower, *x.upper)):
        return None
    if any(program.array(array).bytes > SMALL for array in _moving(time)):
        return None
    items = (item for item in Dependences.of(program).items if not item.reduction)
    return time if any(item.distance.get(name, (0, 0))[0] > 0 for item in items) else None


def _moving(time: Loop) -> Iterator[str]:
    """The arrays of which every iteration of ``time`` takes elements of its own."""
    for _, statement in statements(time.body):
        for access in (statement.target, *all_reads(statement)):
            if any(time.iterator in subscript.names for subscript in access.subscripts):
                yield access.array
