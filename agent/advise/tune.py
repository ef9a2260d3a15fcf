"""``agent tune``: a search that the model guides and measurements correct.

Legal schedules are drawn, and mutations of the best; all are ranked by the model; a few are timed
beside the program as written; what they teach corrects the model for this program, and so on. In
the end the fastest are timed again, together: those that cannot be told apart are one winner, the
simplest of them.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.advise.advise import Request, described, measured, predictor_of, refuse_nothing
from agent.advise.calls import UncheckedError
from agent.advise.emission import Wish, check_place, read_source, write
from agent.advise.own_function import (
    LEAST_RUN_S,
    MOST_RUN_S,
    RUN_SHARE,
    OwnTimes,
    own_times,
)
from agent.advise.search import (
    SHARE,
    Correction,
    Verdict,
    expected_gain,
    length_of,
    next_batch,
    verdict_of,
)
from agent.advise.splice import Origin, SourceRegion, spliced
from agent.advise.tuning_log import LogKey, append, lines_of, look_up
from agent.arrays import Doubles
from agent.calibration.predictor import Predictor
from agent.clock import stamp
from agent.errors import AgentError, CompilerError, MeasureError
from agent.loopnest.program import Program
from agent.loopnest.schedules.candidates import LegalDraft, Outcomes, proposals
from agent.loopnest.schedules.dependence import Dependences
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.mutations import mutation
from agent.loopnest.schedules.schedule import Schedule, parse_schedule
from agent.measure.compiler import Compiler
from agent.measure.machine import Machine, read_machine
from agent.measure.runner import OpenRunner, Runner
from agent.measure.stats import noise_floor
from agent.measure.timing import Measurement, Timing
from agent.model.posterior import Z80
from agent.progress import Progress, Tell
from agent.settings.config import Config

FIRST_DRAWN, DRAWN, MUTATED = 240, 150, 150  # schedules that are looked at: first, then a batch
PARENTS = 6  # of mutations
BATCH = 6  # timed together
FINALISTS = 4
FINAL_SHARE = 0.35  # of the budget, for making the best simpler and timing the last ones again
BATCHES = 8  # that the rest of the budget is divided among, if the program allows it
LEAST_BATCH_S = 2.0
LEAST_BATCHES = 3  # before the search may end because nothing is to be gained
LEAST_GAIN, MOST_NOISE = 0.01, 0.05  # log units: a gain between them is not worth a batch
KNOWN_SD = 0.1  # of what a log says of a version, log units
MOST_SHIFT, MOST_GAIN = 2.0, 7.0  # log units that are believed


@dataclass(frozen=True)
class TuneWish:
    """How to search, and what to do with what is found.

    Attributes:
        save: a log that timings are added to.
        known: a log whose timings of this program, machine class and toolchain are used.
        write: what becomes of the winner.
        seed: of everything that is drawn.
        clock: seconds.
    """

    save: Path | None = None
    known: Path | None = None
    write: Wish = field(default_factory=Wish)
    seed: int = 0
    clock: Callable[[], float] = time.monotonic


@dataclass
class Pool:
    """The schedules looked at so far, each once, with what the model says of them."""

    program: Program
    predictor: Predictor
    found: list[tuple[Schedule, Program]] = field(default_factory=list)
    vectors: Doubles = field(default_factory=lambda: np.zeros((0, 0)))
    gains: Doubles = field(default_factory=lambda: np.zeros(0))
    _places: dict[object, int] = field(default_factory=dict)

    def add(self, drawn: Iterable[tuple[Schedule, Program]]) -> None:
        """Takes those with loops that are new, and predicts them in one batch."""
        fresh: dict[object, tuple[Schedule, Program]] = {}
        for schedule, variant in drawn:
            body = variant.body
            if body in self._places:
                self._shorten(self._places[body], schedule)
            elif body != self.program.body:
                fresh.setdefault(body, (schedule, variant))
        if not fresh:
            return
        self._places |= {body: len(self.found) + n for n, body in enumerate(fresh)}
        self.found += fresh.values()
        seen, gains, _ = self.predictor.log_speedups(
            self.program, [variant for _, variant in fresh.values()]
        )
        vectors = seen.vectors[1:]
        self.vectors = np.concatenate([self.vectors, vectors]) if len(self.gains) else vectors
        self.gains = np.append(self.gains, np.clip(gains, -MOST_GAIN, MOST_GAIN))

    def _shorten(self, place: int, schedule: Schedule) -> None:
        """Of schedules that give the same loops the shortest is kept."""
        known, variant = self.found[place]
        if simplicity(schedule) < simplicity(known):
            self.found[place] = (schedule, variant)

    def place(self, variant: Program) -> int | None:
        """Where a program is that was added; None: it is the one as written."""
        return self._places.get(variant.body)


def simplicity(schedule: Schedule) -> tuple[int, str]:
    """Simple schedules are before others."""
    return len(schedule.steps), str(schedule)


@dataclass
class Search:
    """A search while it goes on.

    Attributes:
        timings: the newest timing by place in the pool; ``gains``: log speed-ups that count;
            ``doubts``: their standard deviations.
        curve: (seconds since the start, versions timed, log speed-up of the best).
    """

    pool: Pool
    runner: Runner
    setting: LogKey
    wish: TuneWish
    tell: Tell
    budget_s: float
    timings: dict[int, Timing] = field(default_factory=dict)
    gains: dict[int, float] = field(default_factory=dict)
    doubts: dict[int, float] = field(default_factory=dict)
    base: Timing | None = None
    noise: float = LEAST_GAIN
    shift: float = 0.0
    curve: list[tuple[float, int, float]] = field(default_factory=list)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.wish.clock()
        program = self.pool.program
        self._rng = random.Random(self.wish.seed)
        self._dependences = Dependences.of(program)
        self._drafts = proposals(self._dependences, self._rng)
        self._outcomes: Outcomes = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.wish.clock() - self.started

    def look(self, count: int) -> None:
        """Draw more schedules."""
        drafts = itertools.islice(self._drafts, count)
        self.pool.add((Schedule(tuple(d.steps)), d.program) for d in drafts)

    def _draft(self) -> LegalDraft:
        """A schedule without steps, to which some are added."""
        return LegalDraft(self._dependences, self._outcomes)

    def remember(self, speedups: dict[str, float]) -> None:
        """What a log says of schedules that are legal here."""
        for text, gain in speedups.items():
            try:
                schedule = parse_schedule(text)
                variant = transform(self.pool.program, schedule, self._dependences)
            except AgentError:
                continue  # of a version with other steps
            self.pool.add([(schedule, variant)])
            place = self.pool.place(variant)
            if place is not None:
                self.gains[place], self.doubts[place] = gain, KNOWN_SD

    def expected(self) -> tuple[Doubles, Doubles]:
        """Log speed-ups to be expected of the pool, and their standard deviations."""
        known = list(self.gains)
        residuals = np.array([self.gains[n] for n in known]) - self.pool.gains[known]
        doubts = np.array([self.doubts[n] for n in known])
        length = length_of(self.pool.vectors)
        timed = self.pool.vectors[known]
        correction = Correction.of(timed, residuals, doubts, length, self.shift)
        error, sd = correction.at(self.pool.vectors)
        return self.pool.gains + error, sd

    def mutate(self) -> None:
        """Look at schedules near those that are best by what is known."""
        mean, _ = self.expected()
        best = sorted(range(len(mean)), key=lambda n: (-self.gains.get(n, mean[n]), n))[:PARENTS]
        self.pool.add(
            mutation(self.pool.found[self._rng.choice(best)][0], self._draft(), self._rng)
            for _ in range(MUTATED if best else 0)
        )

    def shorter(self, place: int) -> list[int]:
        """Places of what is left of a schedule without one of its steps."""
        steps = self.pool.found[place][0].steps
        drafts = []
        for left_out in range(len(steps)):
            draft = self._draft()
            for step in (*steps[:left_out], *steps[left_out + 1 :]):
                draft.attempt(step)
            drafts.append((Schedule(tuple(draft.steps)), draft.program))
        self.pool.add(drafts)
        places = (self.pool.place(variant) for _, variant in drafts)
        return sorted({n for n in places if n is not None})

    def order(self) -> list[int]:
        """Places of what has gained, best first, with noise taken out as far as that goes."""
        mean, _ = self.expected()
        found = self.pool.found
        order = sorted(self.gains, key=lambda n: (-mean[n], simplicity(found[n][0])))
        return [n for n in order if self.gains[n] > 0]

    def failed(self, place: int) -> bool:
        """Whether a version cannot be used."""
        return place in self.timings and place not in self.gains

    def free(self) -> list[int]:
        """Places of what has not been tried."""
        return [n for n in range(len(self.pool.found)) if n not in self.gains | self.timings]

    def batch(self, budget_s: float) -> None:
        """Time what is worth it most."""
        mean, sd = self.expected()
        self.time(next_batch(mean, sd, self.free(), BATCH), budget_s)

    def time(self, chosen: Sequence[int], budget_s: float) -> Measurement:
        """Time versions beside the program as written, and remember what comes out."""
        variants = [self.pool.found[n][1] for n in chosen]
        found = self.runner.measure(self.pool.program, variants, budget_s=budget_s)
        if self.base is None:
            if not found.base.ok:
                refuse_nothing(found, self.runner.toolchain)
            self.base = found.base
            self._learn_offset(found.base.seconds)
        floor = noise_floor([found.noise])
        self.noise = min(max(LEAST_GAIN, floor.label_median if floor else 0.0), MOST_NOISE)
        for n, timing in zip(chosen, found.timings, strict=True):
            self.timings[n] = timing
            if timing.ok:
                self.gains[n] = timing.log_speedup
                self.doubts[n] = (timing.high - timing.low) / (2 * Z80)
            else:
                self.gains.pop(n, None)
        self.curve.append((self.elapsed_s, len(self.timings), self.best))
        self._save(chosen, found.timings)
        return found

    def _learn_offset(self, seconds: float) -> None:
        """The error of the time as written is one of the program: speed-ups share half of it."""
        program = self.pool.program
        predicted = self.pool.predictor.predict(program, [program])[0].seconds
        shift = SHARE * math.log(seconds / predicted)
        self.shift = min(max(shift, -MOST_SHIFT), MOST_SHIFT)

    def _save(self, chosen: Sequence[int], timings: Sequence[Timing]) -> None:
        if self.wish.save is not None:
            texts = [str(self.pool.found[n][0]) for n in chosen]
            append(self.wish.save, lines_of(self.setting, texts, timings, stamp(time.time())))

    @property
    def best(self) -> float:
        """The best log speed-up so far; 0: the program as written."""
        return max([0.0, *self.gains.values()])

    def told(self) -> None:
        """Say where the search is."""
        best = max(self.gains, key=lambda n: self.gains[n], default=None)
        what = "nothing faster than as written yet"
        if best is not None and self.gains[best] > 0:
            schedule = self.pool.found[best][0]
            what = f"best so far {math.exp(self.gains[best]):.2f} times as fast: {schedule}"
        left = max(0.0, self.budget_s - self.elapsed_s)
        self.tell(Progress("tuning", len(self.timings), 0, what, left))


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
        if own is not None and own.high < 0:
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
    if own.high < 0:
        return own, (f"the function itself is slower with {schedule}: it stays as it is",)
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
