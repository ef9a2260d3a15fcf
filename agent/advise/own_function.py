"""How long the person's function takes, as written and with a tuned version in it.

Both are called through a pointer, so that sizes are run-time values as in a person's program, with
the flags of the toolchain and the person's. Processes of one and of the other alternate; each tells
the shortest of its calls, so that others on the machine count little (they slow threads that wait
for each other more than one that waits for none); memory is as it was before every call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.advise.calls import CallPlan, FunctionCall, UncheckedError, plan_of
from agent.advise.drivers import Drivers, drivers, faulty
from agent.advise.splice import SourceRegion
from agent.measure.compiler import Compiler
from agent.measure.stats import median_interval

ROUNDS = 7  # pairs of processes
RUN_SHARE, LEAST_RUN_S, MOST_RUN_S = 0.01, 0.05, 0.3  # of the budget, for a process


@dataclass(frozen=True)
class OwnTimes:
    """What paired rounds say of a function.

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


def own_times(
    source: SourceRegion,
    path: Path,
    new: bytes,
    toolchain: tuple[Compiler, Sequence[str]],
    run_s: float,
) -> OwnTimes:
    """Time the function of ``path`` against the one in ``new``.

    Args:
        source: the file and its loops.
        path: where it is.
        new: the file with a tuned version.
        toolchain: the compiler, and the person's flags.
        run_s: seconds of calls in a process.

    Raises:
        UncheckedError: it cannot be called with inputs that are made up.
        CompilerError: the compiler refuses ``new``.
    """
    plan = plan_of(source)
    compiler, cflags = toolchain
    with drivers(path, source.reading.function, new, compiler, cflags) as made:
        case = [_case(plan, plan.calls[0], run_s)]
        before = made.program("timed_before", path, case)
        if isinstance(before, str):
            raise UncheckedError("the file does not link by itself")
        after = made.program("timed_after", made.new, case)
        if isinstance(after, str):
            raise faulty(after)
        pairs = [_pair(made, plan, before, after, number) for number in range(ROUNDS)]
    ratios = median_interval([math.log(b / a) for b, a in pairs])
    seconds = [median_interval(list(s)).median for s in zip(*pairs, strict=True)]
    return OwnTimes(seconds[0], seconds[1], ratios.median, ratios.low, ratios.high)


def _pair(
    made: Drivers, plan: CallPlan, before: Path, after: Path, number: int
) -> tuple[float, float]:
    """A process of each, in turns the one and the other first."""
    order = (before, after) if number % 2 == 0 else (after, before)
    found: Mapping[Path, float] = {program: _seconds(made, plan, program) for program in order}
    return found[before], found[after]


def _seconds(made: Drivers, plan: CallPlan, program: Path) -> float:
    run = made.run(program, 0, plan, {})
    if run.status != 0:
        raise UncheckedError("the function fails, or takes too long, with inputs that are made up")
    return max(float(run.output), 1e-9)


def _case(plan: CallPlan, call: FunctionCall, run_s: float) -> str:
    """Calls until it took ``run_s``, three times at least; prints the shortest."""
    numbered = list(enumerate(plan.memory))
    keep = (f"char *kept_{n} = malloc({m.size} + 1);" for n, m in numbered)
    fill = (f"memcpy(kept_{n}, agent_{n}, {m.size});" for n, m in numbered)
    restore = (f"memcpy(agent_{n}, kept_{n}, {m.size});" for n, m in numbered)
    lines = [
        *call.memory,
        *keep,
        *fill,
        "double agent_least = 1e9, agent_total = 0;",
        f"for (int agent_n = 0; agent_n < 3 || agent_total < {run_s}; agent_n++) {{",
        *restore,
        *call.globals,
        "double agent_took = agent_now();",
        f"{call.call};",
        "agent_took = agent_now() - agent_took;",
        "agent_total += agent_took + 1e-6;",
        "agent_least = agent_took < agent_least ? agent_took : agent_least;",
        "}",
        'fprintf(out, "%.9e", agent_least);',
    ]
    return "\n".join(lines)
