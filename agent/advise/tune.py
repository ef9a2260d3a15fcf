"""``agent tune``: a search that the model guides and measurements correct.

Legal schedules are drawn, and mutations of the best; all are ranked by the model; a few are timed
beside the program as written; what they teach corrects the model for this program, and so on. In
the end the fastest are timed again, together: those that cannot be told apart are one winner, the
simplest of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from agent.advise.advise import Request, described, measured, predictor_of
from agent.advise.calls import UncheckedError
from agent.advise.emission import check_place, read_source, write
from agent.advise.guided import BATCH, Pool, Search, TuneWish, simplicity
from agent.advise.own_function import (
    LEAST_RUN_S,
    MOST_RUN_S,
    RUN_SHARE,
    OwnTimes,
    own_times,
)
from agent.advise.search import (
    Verdict,
    expected_gain,
    verdict_of,
)
from agent.advise.splice import Origin, SourceRegion, spliced
from agent.advise.tuning_log import LogKey, append, look_up
from agent.errors import CompilerError, MeasureError
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from agent.measure.compiler import Compiler
from agent.measure.machine import Machine, read_machine
from agent.measure.runner import OpenRunner, Runner
from agent.progress import Progress, Tell
from agent.settings.config import Config

FIRST_DRAWN, DRAWN = 240, 150  # schedules that are looked at: first, then with every batch
FINALISTS = 4
FINAL_SHARE = 0.35  # of the budget, for making the best simpler and timing the last ones again
BATCHES = 8  # that the rest of the budget is divided among, if the program allows it
LEAST_BATCH_S = 2.0
LEAST_BATCHES = 3  # before the search may end because nothing is to be gained


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
    runner, machine = open_runner(config), read_machine()
    program = source.reading.program
    setting = LogKey.of(program, machine, runner.toolchain)
    pool = Pool(program, predictor_of(config))
    search = Search(pool, runner, setting, wish, tell, config.budget_s)
    notes = _remembered(search)
    stopped, final = "interrupted", None
    try:
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
    return _answer(config, request, source, _Outcome(search, stopped, final, machine, notes))


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
    search.look(FIRST_DRAWN)
    longest = 0.0
    while True:
        if search.gains:
            search.look(DRAWN)
            search.mutate()
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
            break
        best = near[:1] or best
    return best


def _final(search: Search) -> list[int]:
    """The simplest of the best and the fastest once more, in rounds of their own."""
    best = _simplified(search)
    chosen = [*best, *(n for n in search.order() if n not in best)][:FINALISTS]
    if chosen:
        search.told()
        left = search.budget_s - search.elapsed_s
        search.time(chosen, max(LEAST_BATCH_S, left))
    return chosen


# --- the answer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outcome:
    """A search that has ended: why, who was timed last, and where."""

    search: Search
    stopped: str
    final: list[int] | None
    machine: Machine
    notes: tuple[str, ...]

    @property
    def last(self) -> list[int]:
        """Places that may win: those timed last, or all where it was interrupted before."""
        search = self.search
        return list(search.timings) if self.final is None else self.final

    def verdict(self) -> Verdict:
        """Who has won."""
        found = [self.search.pool.found[n][0] for n in self.last]
        timings = [self.search.timings[n] for n in self.last]
        return verdict_of(timings, [str(s) for s in found], [len(s.steps) for s in found])


def _answer(
    config: Config, request: Request, source: SourceRegion, outcome: _Outcome
) -> dict[str, Any]:
    search, last, verdict = outcome.search, outcome.last, outcome.verdict()
    entries = [measured(search.pool.found[n][0], search.timings[n]) for n in last]
    winner, own, written, notes = None, None, None, outcome.notes
    if verdict.winner is not None:
        winner = entries[verdict.winner]
        own, more = _own_times(request, source, outcome, winner["schedule"])
        notes += more
        if own is not None and own.log_speedup <= 0:
            winner = None  # the function is what counts
    if winner is not None and search.wish.write.out is not None:
        facts = _facts(search.runner, outcome.machine, winner, own)
        schedule = parse_schedule(winner["schedule"])
        written = write(config, request, source, schedule, search.wish.write, facts)
    return {
        "program": described(source.reading),
        "base": {"seconds": search.base.seconds if search.base else None},
        "winner": winner,
        "function": own.to_json() if own else None,
        "tied": [entries[n]["schedule"] for n in verdict.tied],
        "finalists": entries,
        "tried": [_tried(search, n) for n in search.timings],
        "curve": [{"at_s": at, "tried": n, "speedup": math.exp(b)} for at, n, b in search.curve],
        "looked_at": len(search.pool.found),
        "stopped": outcome.stopped,
        "confirmed": outcome.final is not None,
        "seed": search.wish.seed,
        "elapsed_s": search.elapsed_s,
        "out": written["out"] if written else None,
        "check": written["check"] if written else None,
        "notes": [*notes, *(words for _, words in search.pool.predictor.notes)],
    }


def _tried(search: Search, place: int) -> dict[str, Any]:
    timing = search.timings[place]
    speedup = math.exp(timing.log_speedup) if timing.ok else None
    schedule = str(search.pool.found[place][0])
    return {"schedule": schedule, "outcome": str(timing.outcome), "speedup": speedup}


def _own_times(
    request: Request, source: SourceRegion, outcome: _Outcome, schedule: str
) -> tuple[OwnTimes | None, tuple[str, ...]]:
    """The person's function as written against the one with the winner in it, and notes."""
    search, compiler = outcome.search, outcome.search.runner.toolchain
    if not isinstance(compiler, Compiler) or outcome.final is None:
        return None, ("the function itself was not timed",)
    search.tell(Progress("tuning", len(search.timings), 0, "timing the function itself"))
    variant = transform(source.reading.program, parse_schedule(schedule))
    new = spliced(source, variant, Origin(schedule, ""))
    run_s = min(max(RUN_SHARE * search.budget_s, LEAST_RUN_S), MOST_RUN_S)
    try:
        own = own_times(source, request.path, new, (compiler, request.cflags or ()), run_s)
    except UncheckedError as why:
        return None, (f"the function itself was not timed: {why}",)
    if own.log_speedup <= 0:
        return own, (f"the function itself is no faster with {schedule}: it stays as it is",)
    unclear = "whether the function itself is faster could not be told: its times differ too much"
    return own, (unclear,) if own.low <= 0 else ()


def _facts(
    runner: Runner, machine: Machine, winner: dict[str, Any], own: OwnTimes | None
) -> list[str]:
    """Sentences for the comment of the file that is written."""
    toolchain = runner.toolchain
    caches = ", ".join(f"L{n} {size >> 10} KiB" for n, size in sorted(machine.caches.items()))
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
        f"Measured: {winner['speedup']:.2f} times as fast as the loops as written (80 % interval "
        f"{winner['low']:.2f} to {winner['high']:.2f}), {winner['seconds']:.3g} s an execution",
        *function,
    ]
