"""What ``agent explain`` says: the data of ``--json`` as words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.terminal.advice_wording import CAUSES, cause_factor, prediction_blocks
from agent.terminal.blocks import Answer, Block, Table
from agent.terminal.numbers import Count, decimal, size

_LANES = {
    "marked": "is marked for SIMD lanes",
    "marked-strided": "is marked for SIMD lanes and gathers its data",
    "by-compiler": "can run in SIMD lanes",
    "strided": "strides through memory, which SIMD lanes do not like",
    "sum": "adds up floats in their order, so in no SIMD lanes",
    "carried": "needs what its last iteration left, so no SIMD lanes",
    "call": "calls the C library, so in no SIMD lanes",
}
_PAGE = 4096
EMISSION = "the loops as the agent writes them, with sizes as constants (this was timed)"
MOST = 8  # reasons against further steps
_SMALL = 0.005  # a cause that changes less than this, with nothing to tell, is not told


def explanation_blocks(answer: Answer) -> list[Block]:
    """The prediction, its causes, the loops with their data, what stands against further steps."""
    predicted, seconds, *notes = prediction_blocks(answer)
    causes, loops = _causes(answer), _both_loops(answer["loops"])
    return [predicted, seconds, *causes, *loops, *_obstacles(answer["obstacles"]), *notes]


def _causes(answer: Answer) -> list[Block]:
    told = [c for c in answer["causes"] if c["figures"] or abs(c["log_speedup"]) >= _SMALL]
    if not told:
        return ["Nothing that the model sees is changed."]
    own = [f"x {decimal(answer['own']['speedup'])} {EMISSION}."] if answer["own"] else []
    return ["Why (the factors multiply to the prediction):", *own, *map(_cause, told)]


def _cause(cause: Answer) -> str:
    figures = "; ".join(_figure(f) for f in cause["figures"])
    line = f"{cause_factor(cause)} {CAUSES[cause['cause']]}"
    return f"{line}: {figures}." if figures else f"{line}."


def _figure(figure: Answer) -> str:
    what, subject = figure["what"], figure["subject"]
    if what == "lanes":
        return f"the innermost loop {_LANES[figure['before']]} -> {_LANES[figure['after']]}"
    before, after = (_NUMBERS.get(what, _count)(figure[when]) for when in ("before", "after"))
    return _WORDS[what].format(subject=subject, before=before, after=after)


_WORDS: Mapping[str, str] = {
    "stride": "{subject}: stride {before} -> {after} at each step of the innermost loop",
    "bytes-moved": "bytes moved from {subject}: {before} -> {after}",
    "page-walks": "touches of a page that is none of the last 64: {before} -> {after}",
    "threads": "works on {before} -> {after}",
    "forks": "threads are started {after}",
    "accesses": "accesses that stay in the innermost loop: {before} -> {after} an iteration",
    "jammed": "copies of the outer loops' iterations side by side: {before} -> {after}",
    "unrolled": "copies of the innermost loop's body: {before} -> {after}",
    "iterations": "the innermost loop runs {before} -> {after}",
    "entries": "the innermost loop is entered {before} -> {after}",
    "gcc-interchanges": "gcc interchanges the two innermost loops by itself: {before} -> {after}",
    "gcc-unrolls": "inner loops that gcc unrolls completely: {before} -> {after}",
}


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _noun(noun: str) -> Callable[[float], str]:
    def counted(value: float) -> str:
        return f"{Count(value):{noun}}" if value == 1 else f"{_count(value)} {noun}s"

    return counted


def _stride(value: float) -> str:
    words = "none" if value < 1 else size(value)
    return f"{words} (a new page)" if value >= _PAGE else words


_NUMBERS: Mapping[str, Callable[[Any], str]] = {
    "stride": _stride,
    "bytes-moved": size,
    "threads": _noun("thread"),
    "forks": _noun("time"),
    "iterations": _noun("iteration"),
    "entries": _noun("time"),
    "gcc-interchanges": str,
}


def _both_loops(loops: Answer) -> list[Block]:
    """The loops as written and under the schedule, once where they are the same."""
    before, after = _loops(loops["before"]), _loops(loops["after"])
    told = {"As written": before, "Under the schedule": after}
    if before == after:
        told = {"As written and under the schedule": after}
    words = "{}, around the statement with most work:"
    return [block for when, table in told.items() for block in (words.format(when), table)]


def _loops(loops: Sequence[Answer]) -> Table:
    rows = tuple(
        (x["loop"], _count(x["iterations"]), size(x["bytes"]), x["fits"].replace("memory", "none"))
        for x in loops
    )
    return Table(("loop", "iterations", "data of one run", "fits in"), rows)


def _obstacles(obstacles: Sequence[Answer]) -> list[Block]:
    if not obstacles:
        return ["No dependence forbids a further step on the innermost and outermost loops."]
    steps: dict[str, list[str]] = {}
    for obstacle in obstacles:
        steps.setdefault(obstacle["reason"], []).append(obstacle["step"])
    told = [f"Not possible: {', '.join(names)}: {why}." for why, names in steps.items()]
    more = [f"And {len(told) - MOST} more reasons (see --json)."] if len(told) > MOST + 1 else []
    return ["What stands against further steps:", *told[: MOST if more else None], *more]
