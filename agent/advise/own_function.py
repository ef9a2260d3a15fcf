"""How long the person's function takes as written: what "1.0 x" means.

    own = own_base(source, path, OwnBuild(compiler, cflags))    # about 0.5 s, and compiling
    own.seconds_before    # of a call of the function as written
    own.seconds_after     # of one with the agent's emission of its loops as written in their place
    own.log_speedup       # of the second over the first; own.low, own.high: 80 % interval
    own.over(timing)      # a timing over the agent's emission, as one over the function

Any other version of the file is timed against it in the same way (``own_times``).

The function is called through a pointer, so that sizes are run-time values as in a person's
program, with the person's flags where they say how to optimise, else with the toolchain's besides.
Processes of one and of the other alternate; each tells the shortest of its calls, so that others on
the machine count little (they slow threads that wait for each other more than one that waits for
none); memory is as it was before every call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.advise.call_memory import UncheckedError
from agent.advise.calls import CallPlan, FunctionCall, plan_of
from agent.advise.drivers import RUN_S, Drivers, drivers, faulty
from agent.advise.splice import Origin, SourceRegion, spliced
from agent.errors import CompilerError, SourceError
from agent.loopnest.lowering.reader import regions_of
from agent.measure.compiler import UNOPTIMISED, Compiler, build_flags
from agent.measure.stats import median_interval
from agent.measure.timing import Timing
from agent.measure.toolchain import Toolchain

ROUNDS = 7  # pairs of processes; fewer where they take longer than the budget
CALLS_SHARE = 0.6  # of it in calls: processes start, and read what is in memory
NOT_TIMED = "since the function itself was not timed"
SHORTEST_S = 1e-6  # of a call that a clock can tell the time of


@dataclass(frozen=True)
class OwnBuild:
    """What the function is compiled with.

    Attributes:
        compiler: as the agent found it, with the agent's flags.
        cflags: the person's flags.
    """

    compiler: Compiler
    cflags: tuple[str, ...] = ()

    def flagged(self) -> tuple[Compiler, tuple[str, ...]]:
        """The compiler and the flags to give it: the agent's own only where nothing is said."""
        if build_flags(self.cflags) is not None:
            return replace(self.compiler, flags=()), self.cflags
        return self.compiler, tuple(flag for flag in self.cflags if flag not in UNOPTIMISED)


@dataclass(frozen=True)
class Effort:
    """How long a function is timed.

    Attributes:
        budget_s: seconds to aim for, compiling left aside.
        least: pairs of processes that are run all the same.
        call_s: what a call may take.
    """

    budget_s: float = 0.5
    least: int = 3
    call_s: float = RUN_S


USUAL = Effort()


@dataclass(frozen=True)
class OwnTimes:
    """What paired rounds say of a function and another version of it.

    Attributes:
        seconds_before, seconds_after: of a call, medians of the rounds.
        log_speedup: median of the log-ratios of the pairs; ``low``, ``high``: 80 % interval.
    """

    seconds_before: float
    seconds_after: float
    log_speedup: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """As answers hold it."""
        return {
            "seconds_before": self.seconds_before,
            "seconds_after": self.seconds_after,
            "speedup": math.exp(self.log_speedup),
            "low": math.exp(self.low),
            "high": math.exp(self.high),
        }

    def over(self, gain: float, low: float, high: float) -> tuple[float, float, float]:
        """Log speed-up over the function, low and high, of one over what ``after`` is.

        Both were found apart from each other: their errors are independent, and add up so.
        """
        median = self.log_speedup + gain
        below = math.hypot(self.log_speedup - self.low, gain - low)
        above = math.hypot(self.high - self.log_speedup, high - gain)
        return median, median - below, median + above


def has_gained(timing: Timing, own: OwnTimes | None) -> bool:
    """Whether a version is faster than the program as written, and would be another time."""
    if own is None:
        return timing.wins
    return timing.ok and own.over(timing.log_speedup, timing.low, timing.high)[1] > 0


def own_base(source: SourceRegion, path: Path, build: OwnBuild, effort: Effort = USUAL) -> OwnTimes:
    """Time the function of ``path`` against the same with the agent's emission in it.

    A function that does more than the loops does it in both.

    Raises:
        UncheckedError: it cannot be called with inputs that are made up.
    """
    new = spliced(source, source.reading.program, Origin("original", ""))
    return own_times(source, path, new, build, effort)


def own_base_or_why(
    source: SourceRegion,
    path: Path,
    toolchain: Toolchain,
    cflags: Sequence[str] | None,
    effort: Effort = USUAL,
) -> tuple[OwnTimes | None, str]:
    """``own_base``, and a note of what to bear in mind; None where it cannot be had."""
    why = "there is no compiler"
    if isinstance(toolchain, Compiler):
        try:
            build = OwnBuild(toolchain, tuple(cflags or ()))
            return own_base(source, path, build, effort), does_more(source)
        except (UncheckedError, CompilerError, SourceError) as error:
            why = str(error)
    return None, over_emission(why)


def over_emission(why: str) -> str:
    """What "1.0 x" is where the function itself was not timed, and why it was not."""
    return f"speed-ups are over the loops as the agent writes them, {NOT_TIMED}: {why}"


def does_more(source: SourceRegion) -> str:
    """That a function gains less than the loops, where it does more than those; else empty."""
    if len(regions_of(source.unit, source.function)) < 2:
        return ""
    name = source.reading.function
    return f"{name} does more than these loops: speed-ups are of the loops, the whole gains less"


def own_times(
    source: SourceRegion, path: Path, new: bytes, build: OwnBuild, effort: Effort = USUAL
) -> OwnTimes:
    """Time the function of ``path`` against the one in ``new``.

    Args:
        source: the file and its loops.
        path: where it is.
        new: the file with another version of the loops.
        build: what both are compiled with.
        effort: how long.

    Raises:
        UncheckedError: it cannot be called with inputs that are made up, or not be timed.
        CompilerError: the compiler refuses ``new``.
    """
    plan = plan_of(source)
    compiler, cflags = build.flagged()
    with drivers(source, path, new, compiler, cflags) as made:
        case = [timing_case(plan, plan.calls[0], effort.budget_s * CALLS_SHARE / (2 * ROUNDS))]
        before = made.program("timed_before", made.old, case)
        if isinstance(before, str):
            raise UncheckedError("the file does not link by itself")
        after = made.program("timed_after", made.new, case)
        if isinstance(after, str):
            raise faulty(after)
        pairs = list(_pairs(made, plan, (before, after), effort))
    ratios = median_interval([math.log(b / a) for b, a in pairs])
    seconds = [median_interval(list(s)).median for s in zip(*pairs, strict=True)]
    return OwnTimes(seconds[0], seconds[1], ratios.median, ratios.low, ratios.high)


def _pairs(
    made: Drivers, plan: CallPlan, programs: tuple[Path, Path], effort: Effort
) -> Iterator[tuple[float, float]]:
    """Seconds of a process of each, in turns the one and the other first."""
    until = time.monotonic() + effort.budget_s
    for number in range(ROUNDS):
        if number >= effort.least and time.monotonic() > until:
            return
        order = programs if number % 2 == 0 else programs[::-1]
        found = {program: _seconds(made, plan, program, effort.call_s) for program in order}
        yield found[programs[0]], found[programs[1]]


def _seconds(made: Drivers, plan: CallPlan, program: Path, most_s: float) -> float:
    run = made.run(program, 0, plan, {}, most_s)
    if run.status is None:
        raise UncheckedError(f"a call takes longer than {most_s:g} s")
    if run.status != 0:
        raise UncheckedError("the function fails with inputs that are made up")
    if (seconds := float(run.output)) < SHORTEST_S:
        raise UncheckedError("a call is over in less than a microsecond: too short to be timed")
    return seconds


def timing_case(plan: CallPlan, call: FunctionCall, run_s: float) -> str:
    """Calls until they took ``run_s``, three unless those take much longer; prints the shortest."""
    numbered = list(enumerate(plan.memory))
    keep = (f"char *kept_{n} = malloc({m.size} + 1);" for n, m in numbered)
    fill = (f"memcpy(kept_{n}, agent_{n}, {m.size});" for n, m in numbered)
    restore = (f"memcpy(agent_{n}, kept_{n}, {m.size});" for n, m in numbered)
    more = f"agent_n < 1 || agent_total < (agent_n < 3 ? {4 * run_s} : {run_s})"
    lines = [
        *call.memory,
        *keep,
        *fill,
        "double agent_least = 1e9, agent_total = 0;",
        f"for (int agent_n = 0; {more}; agent_n++) {{",
        *restore,
        *call.globals,
        "double agent_took = agent_now();",
        f"{call.call};",
        "agent_took = agent_now() - agent_took;",
        "agent_total += agent_took + 1e-6;",
        "agent_least = agent_took < agent_least ? agent_took : agent_least;",
        "}",
        'fprintf(agent_out, "%.9e", agent_least);',
    ]
    return "\n".join(lines)
