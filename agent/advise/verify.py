"""The person's function as written against the one written for it: both run on the same inputs.

Each file becomes a program of its own (a driver includes it), compiled with the sanitizers for
addresses and undefined behaviour where there are any; the new one once more as it will be built,
since compilers have faults too (gcc 12 adds up a reversed loop wrongly with -O3, for one). An input
is what the function is given: its
sizes (those that were tuned, then others: odd ones, 1 and 0), numbers, and memory as large as its
loops use; all memory and the result are compared afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.advise.call_memory import UncheckedError
from agent.advise.calls import CallPlan, FunctionCall, plan_of
from agent.advise.drivers import MEMORY, Drivers, drivers, faulty
from agent.advise.splice import SourceRegion
from agent.measure.compiler import Compiler
from agent.system.child import ChildRun

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
PLAIN = ("-O1",)
THREADS = {"OMP_NUM_THREADS": "3"}
WATCHED = {**THREADS, "ASAN_OPTIONS": f"detect_leaks=0:hard_rss_limit_mb={MEMORY >> 20}"}


@dataclass(frozen=True)
class Agreement:
    """What was compared, and what was not.

    Attributes:
        runs: sizes that both were run with, and whether their results agree.
        miscompiled: the sizes with which results differ only as it will be built.
        sanitized: whether the sanitizers watched.
        unchecked: what was not compared, in words.
    """

    runs: tuple[tuple[Mapping[str, int], bool], ...] = ()
    miscompiled: tuple[Mapping[str, int], ...] = ()
    sanitized: bool = False
    unchecked: tuple[str, ...] = ()

    @property
    def wrong(self) -> list[Mapping[str, int]]:
        """The sizes with which the results differ."""
        return [sizes for sizes, same in self.runs if not same]


def verify(
    source: SourceRegion, path: Path, new: bytes, compiler: Compiler, cflags: Sequence[str]
) -> Agreement:
    """Run the function of ``path`` and the one in ``new``, and compare what they do.

    Raises:
        CompilerError: the compiler refuses ``new``.
    """
    with drivers(source, path, new, compiler, cflags) as made:
        try:
            return _checked(made, plan_of(source))
        except UncheckedError as why:
            made.check_new()
            return Agreement(unchecked=(str(why),))


def _checked(made: Drivers, plan: CallPlan) -> Agreement:
    """Both functions through every call of ``plan``."""
    cases = [comparing_case(plan, call) for call in plan.calls]
    flags, old = _first_that_compiles(made, cases)
    new = made.program("new_driver", made.new, cases, flags)
    if isinstance(new, str):
        raise faulty(new)
    environment = WATCHED if flags is SANITIZED else THREADS
    built = made.program("built_driver", made.new, cases)
    runs, miscompiled = list[tuple[Mapping[str, int], bool]](), list[Mapping[str, int]]()
    unchecked = list[str]()
    if isinstance(built, str):
        unchecked.append(f"the new file as it will be built: {_first_line(built)}")

    def same(program: Path, number: int, around: Mapping[str, str], expected: bytes) -> bool:
        run = made.run(program, number, plan, around)
        return run.status == 0 and plan.same(expected, run.output)

    for number, call in enumerate(plan.calls):
        before = made.run(old, number, plan, environment)
        if before.status != 0:
            if not call.sizes or any(call.sizes.values()):  # few take sizes of 0
                unchecked.append(_failed(call, before))
            continue
        right = same(new, number, environment, before.output)
        runs.append((call.sizes, right))
        if right and isinstance(built, Path) and not same(built, number, THREADS, before.output):
            miscompiled.append(call.sizes)
    told = tuple(dict.fromkeys(unchecked))
    return Agreement(tuple(runs), tuple(miscompiled), flags is SANITIZED, told)


def _first_line(words: str) -> str:
    return next(iter(words.splitlines()), "")[:200]


def _first_that_compiles(made: Drivers, cases: Sequence[str]) -> tuple[tuple[str, ...], Path]:
    for flags in (SANITIZED, PLAIN):
        old = made.program("old_driver", made.old, cases, flags)
        if isinstance(old, Path):
            return flags, old
    raise UncheckedError("the file does not link by itself")


def comparing_case(plan: CallPlan, call: FunctionCall) -> str:
    """Does the call, and writes what is in memory then, and the result."""
    result = "__typeof__({0}) agent_result = {0};" if plan.result else "{0};"
    lines = [*call.memory, *call.globals, result.format(call.call), *call.collect]
    lines += [f"fwrite(agent_{n}, 1, {m.size}, agent_out);" for n, m in enumerate(plan.memory)]
    if plan.result is not None:
        lines.append("fwrite(&agent_result, 1, sizeof agent_result, agent_out);")
    return "\n".join(lines)


def _failed(call: FunctionCall, run: ChildRun) -> str:
    sizes = ", ".join(f"{name} = {value}" for name, value in call.sizes.items())
    why = "takes longer than 20 s" if run.status is None else "fails"
    return f"sizes {sizes}: the function as written {why} with inputs that are made up"
