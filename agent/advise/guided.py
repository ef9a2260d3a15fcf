"""A search while it goes on: what was looked at, what was timed, and what is drawn next."""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.advise.advise import refuse_nothing
from agent.advise.emission import Wish
from agent.advise.own_function import OwnTimes
from agent.advise.search import (
    Alike,
    Correction,
    Versions,
    length_of,
    next_batch,
    pooled,
    verdict_of,
)
from agent.advise.tuning_log import LogKey, append, lines_of
from agent.arrays import Doubles
from agent.calibration.predictor import Predictor
from agent.clock import stamp
from agent.errors import AgentError, ScheduleError
from agent.loopnest.features.nest import Geometry
from agent.loopnest.features.vector import MARKS, marks_of
from agent.loopnest.program import Program
from agent.loopnest.schedules.candidates import LegalDraft, Outcomes, proposals
from agent.loopnest.schedules.dependence import Dependences
from agent.loopnest.schedules.legality import check_in_c, transform
from agent.loopnest.schedules.mutations import mutation
from agent.loopnest.schedules.schedule import Schedule, parse_schedule
from agent.measure.runner import Runner
from agent.measure.stats import noise_floor
from agent.measure.timing import Measurement, Timing
from agent.model.anchor import LogTime
from agent.model.posterior import Z80
from agent.progress import Progress, Tell

PARENTS = 6  # of mutations
BATCH = 6  # timed together
LEAST_GAIN, MOST_NOISE = 0.01, 0.05  # log units: a gain between them is not worth a batch
KNOWN_SD = 0.1  # of what a log says of a version, log units
MOST_GAIN = 7.0  # log units that are believed


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
    untaught: list[Doubles] = field(default_factory=list)
    vectors: Doubles = field(default_factory=lambda: np.zeros((0, 0)))
    gains: Doubles = field(default_factory=lambda: np.zeros(0))
    _places: dict[object, int] = field(default_factory=dict)
    _geometry: Geometry = field(default_factory=Geometry)

    def add(self, drawn: Iterable[tuple[Schedule, Program]]) -> None:
        """Takes those with loops that are new, and predicts them in one batch."""
        fresh, places = self._told_apart(drawn)
        if not fresh:
            return
        variants = [variant for _, variant in fresh]
        seen, gains, _ = self.predictor.log_speedups(self.program, variants, self._geometry)
        vectors = seen.vectors[1:]
        self.vectors = np.concatenate([self.vectors, vectors]) if len(self.gains) else vectors
        self.gains = np.append(self.gains, np.clip(gains, -MOST_GAIN, MOST_GAIN))
        taught = self.predictor.bundle.taught
        self.untaught += (_untaught(variant, taught) for variant in variants)
        self._places |= places
        self.found += fresh

    def _told_apart(
        self, drawn: Iterable[tuple[Schedule, Program]]
    ) -> tuple[list[tuple[Schedule, Program]], dict[object, int]]:
        """Those with loops that are new, and their places; of equal ones the simplest is kept.

        Most are drawn again as the same object, which is told sooner than that loops are equal.
        """
        fresh = list[tuple[Schedule, Program]]()
        places = dict[object, int]()
        objects = dict[int, tuple[Program, int]]()  # which are kept, so that no other gets the id
        for schedule, variant in drawn:
            if id(variant) not in objects:
                objects[id(variant)] = variant, self._place(variant, places)
            place = objects[id(variant)][1]
            at = place - len(self.found)
            if at == len(fresh):
                fresh.append((schedule, variant))
            elif place >= 0:
                pool, n = (self.found, place) if at < 0 else (fresh, at)
                pool[n] = _simpler(pool[n], schedule)
        return fresh, places

    def _place(self, variant: Program, places: dict[object, int]) -> int:
        """Where a program is, or will be; -1: nowhere, it is the one as written."""
        known = self._places.get(variant.body)
        if known is not None:
            return known
        if variant.body == self.program.body:
            return -1
        return places.setdefault(variant.body, len(self.found) + len(places))

    def place(self, variant: Program) -> int | None:
        """Where a program is that was added; None: it is the one as written."""
        return self._places.get(variant.body)


def _untaught(variant: Program, taught: frozenset[str]) -> Doubles:
    """[K] which of ``MARKS`` it has that were not ``taught``, of length 1; zeros: none."""
    marks = marks_of(variant) - taught
    return np.array([mark in marks for mark in MARKS]) / math.sqrt(max(len(marks), 1))


def _simpler(known: tuple[Schedule, Program], schedule: Schedule) -> tuple[Schedule, Program]:
    """A schedule in place of the one known that gives the same loops, where it is simpler."""
    if len(schedule.steps) > len(known[0].steps) or schedule.steps == known[0].steps:
        return known
    return (schedule, known[1]) if simplicity(schedule) < simplicity(known[0]) else known


@contextmanager
def _no_collection() -> Iterator[None]:
    """Everything drawn is kept: a collector looks at all of it again and again, and finds nothing.

    That took a third of the time of looking at some thousands.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def simplicity(schedule: Schedule) -> tuple[int, str]:
    """Simple schedules are before others: fewest steps, then by text."""
    return len(schedule.steps), str(schedule)


@dataclass
class Search:
    """A search while it goes on.

    Attributes:
        timings: the newest timing by place in the pool; ``gains``: log speed-ups that count;
            ``doubts``: their standard deviations.
        needed: places of schedules that were slower without any of their steps.
        foreseen: what was expected of a version when it was chosen, and its standard deviation.
        curve: (seconds since the start, versions timed, log speed-up of the best).
        base: the program as the agent writes it; ``own``: that against the person's function.
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
    needed: set[int] = field(default_factory=set)
    foreseen: dict[int, tuple[float, float]] = field(default_factory=dict)
    base: Timing | None = None
    own: OwnTimes | None = None
    noise: float = LEAST_GAIN
    written: tuple[LogTime, LogTime] | None = None
    curve: list[tuple[float, int, float]] = field(default_factory=list)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.wish.clock()
        program = self.pool.program
        self._rng = random.Random(self.wish.seed)
        self._dependences = Dependences.of(program)
        self._outcomes = Outcomes()
        self._drafts = proposals(self._dependences, self._rng, self._outcomes, in_c=False)
        self._in_c, self._not_in_c = set[int](), set[int]()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.wish.clock() - self.started

    def look(self, count: int) -> None:
        """Draw more schedules."""
        drafts = itertools.islice(self._drafts, count)
        with _no_collection():
            self.pool.add((Schedule(tuple(d.steps)), d.program) for d in drafts)

    def _draft(self) -> LegalDraft:
        """A schedule without steps, to which some are added."""
        return LegalDraft(self._dependences, self._outcomes, in_c=False)

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
        predicted = self._predicted()
        residuals = np.array([self.gains[n] for n in known]) - predicted[known]
        doubts = np.array([self.doubts[n] for n in known])
        versions = Versions(self.pool.vectors, np.array(self.pool.untaught))
        length = length_of(versions.vectors)
        correction = Correction.of(versions.take(known), residuals, doubts, length)
        error, sd = correction.at(versions)
        return predicted + error, sd

    def _predicted(self) -> Doubles:
        """Log speed-ups of the pool by the model, once it knows the time as written."""
        gains, written = self.pool.gains, self.written
        return gains if written is None else self.pool.predictor.errors.corrected(gains, *written)

    def mutate(self, count: int) -> None:
        """Look at schedules near those that are best by what is known."""
        mean, _ = self.expected()
        order = np.argsort(-self._known(mean), kind="stable").tolist()
        best = list(itertools.islice(filter(self.in_c, order), PARENTS))
        with _no_collection():
            self.pool.add(
                mutation(self.pool.found[self._rng.choice(best)][0], self._draft(), self._rng)
                for _ in range(count if best else 0)
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
        return sorted({n for n in places if n is not None and self.in_c(n)})

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
        """Places of what has not been tried, and can be written as C as far as that is known."""
        taken = self.gains.keys() | self.timings.keys() | self._not_in_c
        return [n for n in range(len(self.pool.found)) if n not in taken]

    def in_c(self, place: int) -> bool:
        """Whether a version can be written as C: looked at once it is worth it."""
        if place not in self._in_c and place not in self._not_in_c:
            try:
                check_in_c(self.pool.found[place][1], self._dependences)
            except ScheduleError:
                self._not_in_c.add(place)
            else:
                self._in_c.add(place)
        return place in self._in_c

    def _known(self, mean: Doubles) -> Doubles:
        """Log speed-ups that were measured, else those to be expected."""
        known = mean.copy()
        known[list(self.gains)] = list(self.gains.values())
        return known

    def batch(self, budget_s: float) -> None:
        """Time what is worth it most."""
        mean, sd = self.expected()
        length = length_of(self.pool.vectors)
        while free := self.free():
            guesses = [n for n in free if self.pool.untaught[n].any()]
            chosen = next_batch(mean, sd, free, BATCH, Alike(self.pool.vectors, length), guesses)
            if all(self.in_c(n) for n in chosen):
                break
        self.time(chosen if free else [], budget_s)

    def time(self, chosen: Sequence[int], budget_s: float) -> Measurement:
        """Time versions beside the program as written, and remember what comes out."""
        mean, sd = self.expected()
        self.foreseen = {n: (float(mean[n]), float(sd[n])) for n in chosen} | self.foreseen
        variants = [self.pool.found[n][1] for n in chosen]
        found = self.runner.measure(self.pool.program, variants, budget_s=budget_s)
        if self.base is None:
            if not found.base.ok:
                refuse_nothing(found, self.runner.toolchain)
            self.base = found.base
            self._learn_offset(found.base)
        floor = noise_floor([found.noise])
        self.noise = min(max(LEAST_GAIN, floor.label_median if floor else 0.0), MOST_NOISE)
        for n, timing in zip(chosen, found.timings, strict=True):
            self._take(n, timing)
        self.curve.append((self.elapsed_s, len(self.timings), self.best))
        self._save(chosen, found.timings)
        return found

    def time_more(self, chosen: Sequence[int], budget_s: float) -> None:
        """Time versions once more, beside what is known of them from before."""
        before = {n: self.timings[n] for n in chosen}
        self.time(chosen, budget_s)
        for n, timing in before.items():
            if timing.ok and self.timings[n].ok:
                self._take(n, pooled(timing, self.timings[n]))

    def _take(self, place: int, timing: Timing) -> None:
        self.timings[place] = timing
        if timing.ok:
            self.gains[place] = timing.log_speedup
            self.doubts[place] = (timing.high - timing.low) / (2 * Z80)
        else:
            self.gains.pop(place, None)

    def tied(self, chosen: Sequence[int]) -> list[int]:
        """Those of ``chosen`` that cannot be told from the fastest, the simplest first."""
        timings = [self.timings[n] for n in chosen]
        found = verdict_of(timings, [self.simplicity(n) for n in chosen], self.own)
        return [chosen[n] for n in found.tied]

    def simplicity(self, place: int) -> tuple[int, bool, str]:
        """As that of its schedule; of as many steps, one whose steps all matter comes first."""
        steps, text = simplicity(self.pool.found[place][0])
        return steps, place not in self.needed, text

    def _learn_offset(self, base: Timing) -> None:
        """The error of the time as written is partly one of the speed-ups."""
        timed = LogTime.of(base.seconds, base.seconds_low, base.seconds_high)
        self.written = self.pool.predictor.written(self.pool.program), timed

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
            gain = self.gains[best] + (self.own.log_speedup if self.own else 0.0)
            what = f"best so far {math.exp(gain):.2f} times as fast: {schedule}"
        self.say(what)

    def say(self, what: str) -> None:
        """Say what is done now."""
        left = max(0.0, self.budget_s - self.elapsed_s)
        self.tell(Progress("tuning", len(self.timings), 0, what, left))
