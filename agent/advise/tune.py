"""``agent tune``: a search that the model guides and measurements correct.

Legal schedules are drawn, and mutations of the best; all are ranked by the model; a few are timed
beside the program as written; what they teach corrects the model for this program, and so on. In
the end the fastest are timed again, together: those that cannot be told apart are one winner, the
simplest of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from agent.advise.advise import Request, described, measured, predictor_of, read_source
from agent.advise.call_memory import UncheckedError
from agent.advise.emission import check_place, write
from agent.advise.guided import BATCH, Pool, Search, TuneWish, simplicity
from agent.advise.own_function import Effort, OwnBuild, OwnTimes, own_base_or_why, own_times
from agent.advise.search import (
    Verdict,
    expected_gain,
    verdict_of,
)
from agent.advise.shorter import Shorter, shorter
from agent.advise.splice import Origin, SourceRegion, spliced
from agent.advise.tuning_log import LogKey, append, look_up
from agent.errors import CompilerError, MeasureError, ScheduleError
from agent.loopnest.emitter.emit import emit_kernel
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import Schedule
from agent.measure.compiler import Compiler
from agent.measure.machine import Machine, read_machine
from agent.measure.runner import OpenRunner
from agent.measure.timing import Timing
from agent.model.posterior import Z80
from agent.progress import Tell
from agent.settings.config import Config

LOOKED_AT = 300  # schedules, a second of the budget (some are drawn twice)
FIRST_SHARE = 0.2  # of them before the first batch
LOOK_SHARE = 0.3  # of a batch's time at most: programs of many loops take longer to look at
FINALISTS = 4
FINAL_SHARE = 0.35  # of the budget, for making the best simpler and timing the last ones again
BATCHES = 8  # that the rest of the budget is divided among, if the program allows it
PART = 250  # of them are looked at, then at the clock
LEAST_BATCH_S = 2.0
LEAST_BATCHES = 3  # before the search may end because nothing is to be gained
OWN_SHARE, LEAST_OWN_S, MOST_OWN_S = 0.1, 0.7, 4.0  # of the budget, to time the function with it
LONGER = 3.0  # times that, where it could not be told whether the function is faster
MOST_AGAIN = 8  # times that versions are timed once more because they cannot be told apart
MOST_OFFERED = 3  # that may fail in the function, or under its tests, before none is offered


def tune(
    config: Config, request: Request, wish: TuneWish, tell: Tell, open_runner: OpenRunner
) -> dict[str, Any]:
    """Search for a fast schedule for ``config.budget_s``; see docs/reference/schemas/tune.json.

    Call with the lock held. Interrupted (KeyboardInterrupt), it answers with what it has.

    Raises:
        SourceError, CompilerError, BundleError, StateError, InputError: a part is unusable.
        MeasureError: the program as written cannot be timed.
    """
    if wish.write.out is not None:
        check_place(wish.write.out, wish.write.force)
    if wish.save is not None:
        append(wish.save, ())  # it can be written, or that is told now
    source = read_source(config, request)
    if wish.write.tests is not None:
        wish.write.tests.try_out(request.path)
    runner, machine = open_runner(config), read_machine()
    program, predictor = source.reading.program, predictor_of(config)
    part = shorter(program, math.exp(predictor.written(program).log_seconds))
    setting = LogKey.of(part.program, machine, runner.toolchain)
    search = Search(Pool(part.program, predictor), runner, setting, wish, tell, config.budget_s)
    notes = (*_remembered(search), *([part.note] if part.note else ()))
    stopped, final = "interrupted", None
    try:
        notes += _time_own(search, source, request)
        stopped = _explore(search)
        final = _final(search)
    except KeyboardInterrupt:
        stopped = "interrupted"
        if search.base is None:
            raise
    except (CompilerError, MeasureError) as error:  # what was found is kept
        if search.base is None:
            raise
        stopped, notes = "failed", (*notes, error.message)
    outcome = _Outcome(search, part, stopped, final, machine, notes)
    try:
        return _answer(config, request, source, outcome)
    except KeyboardInterrupt:
        return _answer(config, request, source, replace(outcome, hurried=True))


def _time_own(search: Search, source: SourceRegion, request: Request) -> tuple[str, ...]:
    """What "1.0 x" is: the person's function; a note where it cannot be timed."""
    search.say("timing the function as it is")
    toolchain = search.runner.toolchain
    search.own, note = own_base_or_why(source, request.path, toolchain, request.cflags)
    return (note,) if note else ()


def _remembered(search: Search) -> tuple[str, ...]:
    if search.wish.known is None:
        return ()
    found = look_up(search.wish.known, search.setting)
    search.remember(dict(found.speedups))
    notes = [f"{search.wish.known}: {_count(len(found.speedups), 'schedule')} timed before"]
    if found.others:
        why = "another program, machine class, toolchain or format"
        notes.append(f"{_count(found.others, 'line')} of {why} not used")
    if found.unreadable:
        notes.append(f"{_count(found.unreadable, 'line')} not readable")
    return tuple(notes)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _explore(search: Search) -> str:
    """Batches until the time for them is over or no gain is to be expected; why it ended."""
    until = search.budget_s * (1 - FINAL_SHARE)
    slice_s = max(LEAST_BATCH_S, until / BATCHES)
    whole = LOOKED_AT * search.budget_s
    _look(search, whole * FIRST_SHARE, slice_s)
    longest = 0.0
    while True:
        if search.gains:
            _look(search, whole * (1 - FIRST_SHARE) / BATCHES, slice_s)
        if not search.free():
            if search.base is None:
                search.time([], slice_s)
            return "exhausted"
        began = search.elapsed_s
        search.told()
        search.batch(slice_s)
        longest = max(longest, search.elapsed_s - began)
        if search.elapsed_s + longest > until:
            return "budget"
        mean, sd = search.expected()
        if len(search.curve) < LEAST_BATCHES:
            continue
        if expected_gain(mean, sd, search.free(), search.best) < search.noise:
            return "no-gain"


def _look(search: Search, count: float, slice_s: float) -> None:
    """Draw schedules, half of them near the best ones once there are any, in parts.

    Their number is fixed where there is time for it, so that a seed finds the same ones again.
    """
    until = search.elapsed_s + LOOK_SHARE * slice_s
    for done in range(0, math.ceil(count), PART):
        if done and search.elapsed_s > until:
            return
        left = min(PART, math.ceil(count) - done)
        search.look(left - left // 2 if search.gains else left)
        if search.gains:
            search.mutate(left // 2)


def _simplified(search: Search) -> list[int]:
    """The best, without steps that make no difference that can be told; empty: none has gained."""
    best = search.order()[:1]
    slice_s = max(LEAST_BATCH_S, search.budget_s * FINAL_SHARE / 4)
    while best and search.elapsed_s + slice_s < search.budget_s * (1 - FINAL_SHARE / 2):
        steps = len(search.pool.found[best[0]][0].steps)
        shorter = [n for n in search.shorter(best[0]) if n != best[0] and not search.failed(n)]
        if any(n not in search.timings for n in (*shorter, *best)):
            search.told()
            search.time([*best, *shorter[:BATCH]], slice_s)
        least = search.timings[best[0]].low
        timed = [n for n in shorter if n in search.timings and n in search.gains]
        near = [n for n in timed if search.timings[n].high >= least]
        near.sort(key=lambda n: simplicity(search.pool.found[n][0]))
        if not near and len(search.pool.found[best[0]][0].steps) == steps:
            if len(timed) == len(shorter):
                search.needed.add(best[0])
            break
        best = near[:1] or best
    return best


def _final(search: Search) -> list[int]:
    """The simplest of the best and the fastest once more, in rounds of their own.

    Those that cannot be told apart then are timed for as long as there is time.
    """
    best = _simplified(search)
    chosen = [*best, *(n for n in search.order() if n not in best)][:FINALISTS]
    if chosen:
        search.told()
        left = search.budget_s - search.elapsed_s
        search.time(chosen, max(LEAST_BATCH_S, left))
        _tell_apart(search, chosen)
    return chosen


def _tell_apart(search: Search, chosen: list[int]) -> None:
    longest = LEAST_BATCH_S
    for _ in range(MOST_AGAIN):
        tied, began = search.tied(chosen), search.elapsed_s
        if len(tied) < 2 or began + longest > search.budget_s:
            return
        search.say(f"timing {_count(len(tied), 'version')} longer that cannot be told apart")
        search.time_more(tied, LEAST_BATCH_S)
        longest = search.elapsed_s - began


# --- the answer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outcome:
    """A search that has ended: why, who was timed last, and where; ``part``: in place of what.

    ``hurried``: what is left to do was interrupted, too: nothing is timed any more, or tested.
    """

    search: Search
    part: Shorter
    stopped: str
    final: list[int] | None
    machine: Machine
    notes: tuple[str, ...]
    hurried: bool = False

    @cached_property
    def candidates(self) -> list[tuple[Schedule, Timing]]:
        """What may win: what was timed last, or everything where it was interrupted before.

        As the agent writes the program is a version like others, against the person's function.
        """
        search = self.search
        timed = [(search.pool.found[n][0], search.timings[n]) for n in self._last]
        return [(s, self.part.whole(timing)) for s, timing in (*self._plain, *timed)]

    @property
    def _last(self) -> list[int]:
        return list(self.search.timings) if self.final is None else self.final

    @property
    def _plain(self) -> list[tuple[Schedule, Timing]]:
        search = self.search
        return [(Schedule(), search.base)] if search.own and search.base else []

    @cached_property
    def verdict(self) -> Verdict:
        """Who has won, by these timings."""
        plain = [(0, False, "") for _ in self._plain]
        simplicity = [*plain, *map(self.search.simplicity, self._last)]
        return verdict_of([t for _, t in self.candidates], simplicity, self.search.own)


@dataclass(frozen=True)
class _Offer:
    """What came of the versions that have won: the first that is as good in the function.

    Attributes:
        place: which candidate it is; None: none is.
        own: the function with it, or with the last that was tried, against it as written.
        written: what became of the file.
        notes: why others were not offered.
    """

    place: int | None
    own: OwnTimes | None
    written: dict[str, Any] | None
    notes: tuple[str, ...]


def _answer(
    config: Config, request: Request, source: SourceRegion, outcome: _Outcome
) -> dict[str, Any]:
    search, verdict, own = outcome.search, outcome.verdict, outcome.search.own
    offer = _offer(config, request, source, outcome)
    entries = [measured(schedule, timing, own) for schedule, timing in outcome.candidates]
    written = offer.written
    winner = None if offer.place is None else outcome.candidates[offer.place][0]
    return {
        "program": described(source.reading),
        "sizes": dict(source.sizes),
        "machine": dict(search.setting.machine),
        "toolchain": dict(search.setting.toolchain),
        "loops": _loops(source, winner),
        "base": {"seconds": outcome.part.whole(search.base).seconds if search.base else None},
        "own": own.to_json() if own else None,
        "winner": None if offer.place is None else entries[offer.place],
        "function": offer.own.to_json() if offer.own else None,
        "tied": [entries[n]["schedule"] for n in verdict.tied],
        "finalists": entries,
        "tried": [_tried(search, n) for n in search.timings],
        "curve": [_point(search, *point) for point in search.curve],
        "looked_at": len(search.pool.found),
        "stopped": outcome.stopped,
        "confirmed": outcome.final is not None,
        "seed": search.wish.seed,
        "elapsed_s": search.elapsed_s,
        "out": written["out"] if written else None,
        "check": written["check"] if written else None,
        "notes": [
            *outcome.notes,
            *offer.notes,
            *(words for _, words in search.pool.predictor.notes),
        ],
    }


def _point(search: Search, at_s: float, tried: int, best: float) -> dict[str, Any]:
    own = math.exp(best + search.own.log_speedup) if search.own else None
    return {"at_s": at_s, "tried": tried, "speedup": math.exp(best), "own_speedup": own}


def _offer(config: Config, request: Request, source: SourceRegion, outcome: _Outcome) -> _Offer:
    """The first of the winners that is as good as it looked."""
    own, notes, wish = None, list[str](), outcome.search.wish.write
    if outcome.hurried and wish.tests is not None:
        return _Offer(None, None, None, ("your tests were interrupted: nothing is offered",))
    order = (*outcome.verdict.tied, *outcome.verdict.others)[:MOST_OFFERED]
    for place in order:
        schedule, timing = outcome.candidates[place]
        try:
            transform(source.reading.program, schedule)
        except ScheduleError as error:  # where fewer time steps were timed than there are
            notes.append(f"{schedule} is not offered: {error.message}")
            continue
        own, more = _own_times(request, source, outcome, schedule)
        notes += more
        if own is not None and own.log_speedup <= 0:  # the function is what counts
            continue
        if wish.idle:
            return _Offer(place, own, None, tuple(notes))
        facts = _facts(outcome, timing, own)
        if wish.tests is not None:
            outcome.search.say(f"running your tests with {schedule}")
        try:
            written = write(config, request, source, schedule, wish, facts)
        except (CompilerError, MeasureError) as error:
            notes.append(f"{schedule} is not offered: {error.message}")
            continue
        return _Offer(place, own, written, tuple(notes))
    return _Offer(None, own, None, tuple(notes))


def _tried(search: Search, place: int) -> dict[str, Any]:
    timing, (mean, sd) = search.timings[place], search.foreseen[place]
    logs = (timing.log_speedup, timing.low, timing.high)
    speedup, low, high = (math.exp(x) if timing.ok else None for x in logs)
    return {
        "schedule": str(search.pool.found[place][0]),
        "outcome": str(timing.outcome),
        "speedup": speedup,
        "low": low,
        "high": high,
        "predicted": math.exp(search.pool.gains[place]),
        "expected": math.exp(mean),
        "expected_low": math.exp(mean - Z80 * sd),
        "expected_high": math.exp(mean + Z80 * sd),
    }


def _loops(source: SourceRegion, winner: Schedule | None) -> dict[str, str | None]:
    """The loops as they stand in the file, and those of the winner."""
    part = source.reading.part
    lines = source.text.splitlines()[part.first_line - 1 : part.last_line]
    written = b"\n".join(lines).decode("utf-8", "replace")
    if winner is None:
        return {"written": written, "winner": None}
    kernel = emit_kernel(transform(source.reading.program, winner))
    return {"written": written, "winner": "\n\n".join(kernel.definitions)}


def _own_times(
    request: Request, source: SourceRegion, outcome: _Outcome, schedule: Schedule
) -> tuple[OwnTimes | None, tuple[str, ...]]:
    """The person's function as written against the one with the winner in it, and notes."""
    search, compiler = outcome.search, outcome.search.runner.toolchain
    if not isinstance(compiler, Compiler) or outcome.final is None or outcome.hurried:
        return None, ("the function was not timed with a version in it",) if search.own else ()
    search.say("timing the function itself")
    variant = transform(source.reading.program, schedule)
    new = spliced(source, variant, Origin(str(schedule), ""))
    effort = Effort(min(max(OWN_SHARE * search.budget_s, LEAST_OWN_S), MOST_OWN_S))
    build = OwnBuild(compiler, request.cflags or ())
    try:
        own = own_times(source, request.path, new, build, effort)
        if own.low <= 0 <= own.high:  # longer, before it is said that it cannot be told
            longer = replace(effort, budget_s=LONGER * effort.budget_s)
            own = own_times(source, request.path, new, build, longer)
    except UncheckedError as why:
        return None, (f"the function itself was not timed: {why}",)
    if own.log_speedup <= 0:
        return own, (f"the function itself is no faster with {schedule}",)
    unclear = "whether the function itself is faster could not be told: its times differ too much"
    return own, (unclear,) if own.low <= 0 else ()


def _facts(outcome: _Outcome, timing: Timing, own: OwnTimes | None) -> list[str]:
    """Sentences for the comment of the file that is written."""
    toolchain, machine = outcome.search.runner.toolchain, outcome.machine
    caches = ", ".join(f"L{n} {size >> 10} KiB" for n, size in sorted(machine.caches.items()))
    speedup, low, high = map(math.exp, (timing.log_speedup, timing.low, timing.high))
    function = (
        []
        if own is None
        else [
            f"The function: {math.exp(own.log_speedup):.2f} times as fast as it was "
            f"({math.exp(own.low):.2f} to {math.exp(own.high):.2f}), "
            f"{own.seconds_after:.3g} s a call"
        ]
    )
    return [
        f"Compiler: {toolchain.version}",
        f"Flags: {' '.join(toolchain.flags)}",
        f"Machine: {machine.level}, {_count(machine.threads, 'thread')}, {caches}",
        f"Measured: {speedup:.2f} times as fast as the loops as written (80 % interval "
        f"{low:.2f} to {high:.2f}), {timing.seconds:.3g} s an execution",
        *function,
    ]
