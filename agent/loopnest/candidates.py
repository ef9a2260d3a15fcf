"""Schedules worth a look: random ones for training, legal and diverse ones for ranking."""

from __future__ import annotations

import itertools
import random

from agent.errors import ScheduleError
from agent.loopnest import transform
from agent.loopnest.program import Loop, Program, loops
from agent.loopnest.schedule import (
    MAX_STEPS,
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Parallelize,
    Reverse,
    Schedule,
    Skew,
    Step,
    Tile,
    Unroll,
    Vectorize,
)
from agent.loopnest.tree import perfect_band

TILE_SIZES = (4, 8, 16, 16, 32, 32, 32, 64, 64, 128, 256, 5, 12, 24, 48, 100)  # repeats: likelier
FACTORS = (2, 4, 4, 8)


class Draft:
    """A schedule under construction: a step that does not fit the program is left out."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.steps: list[Step] = []

    def attempt(self, step: Step) -> bool:
        """Take the step if it fits; whether it did."""
        if len(self.steps) == MAX_STEPS:
            return False
        try:
            self.program = transform.apply(self.program, step)
        except ScheduleError:
            return False
        self.steps.append(step)
        return True

    def loops(self) -> list[Loop]:
        """All loops, outer before inner."""
        return [loop for _, loop in loops(self.program.body)]

    def innermost(self) -> list[Loop]:
        """The loops without loops inside."""
        return [x for x in self.loops() if not any(isinstance(n, Loop) for n in x.body)]

    def outermost(self) -> list[Loop]:
        """The loops without loops around."""
        return [node for node in self.program.body if isinstance(node, Loop)]

    def bands(self) -> list[tuple[Loop, ...]]:
        """The perfectly nested bands, each as long as it gets."""
        found = [perfect_band(loop) for loop in self.loops()]
        inner = {loop.iterator for band in found for loop in band[1:]}
        return [band for band in found if band[0].iterator not in inner]


def random_schedule(program: Program, rng: random.Random) -> tuple[Schedule, Program]:
    """A random schedule that fits the structure of ``program``; dependences are not looked at.

    Every stage is left out at times, so that plain and rich schedules both occur.
    """
    draft = Draft(program)
    _regroup(draft, rng)
    if rng.random() < 0.5:
        _permute(draft, rng)
    if rng.random() < 0.12:
        _reshape(draft, rng)
    if rng.random() < 0.5:
        _tile(draft, rng)
    _mark(draft, rng)
    return Schedule(tuple(draft.steps)), draft.program


def _regroup(draft: Draft, rng: random.Random) -> None:
    """Distribute or fuse loops here and there, where there are several to choose from."""
    for loop in draft.loops():
        if len(loop.body) > 1 and rng.random() < 0.2:
            draft.attempt(Distribute(loop.iterator))
    for _ in range(2):
        if (pairs := _neighbours(draft)) and rng.random() < 0.3:
            draft.attempt(Fuse(*rng.choice(pairs)))


def _neighbours(draft: Draft) -> list[tuple[str, str]]:
    bodies = [draft.program.body, *(loop.body for loop in draft.loops())]
    return [
        (one.iterator, two.iterator)
        for body in bodies
        for one, two in itertools.pairwise(body)
        if isinstance(one, Loop) and isinstance(two, Loop)
    ]


def _permute(draft: Draft, rng: random.Random) -> None:
    bands = [band for band in draft.bands() if len(band) > 1]
    for band in bands:
        if rng.random() < 1 / len(bands) + 0.2:
            pairs = list(itertools.combinations([loop.iterator for loop in band], 2))
            for one, two in rng.sample(pairs, min(len(pairs), rng.choice((1, 1, 2)))):
                draft.attempt(Interchange(one, two))


def _reshape(draft: Draft, rng: random.Random) -> None:
    """Reverse a loop, or skew one and often interchange the two (a wavefront)."""
    if not (names := [loop.iterator for loop in draft.loops()]):
        return
    if rng.random() < 0.4:
        draft.attempt(Reverse(rng.choice(names)))
        return
    if not (bands := [band for band in draft.bands() if len(band) > 1]):
        return
    band = rng.choice(bands)
    inner = rng.randrange(1, len(band))
    outer, skewed = band[inner - 1].iterator, band[inner].iterator
    if draft.attempt(Skew(skewed, outer, rng.choice((1, 1, 1, 2, -1)))) and rng.random() < 0.6:
        draft.attempt(Interchange(outer, skewed))


def _tile(draft: Draft, rng: random.Random) -> None:
    bands = draft.bands()
    for band in bands:
        if rng.random() < 1 / len(bands) + 0.2:
            count = rng.randint(1, min(3, len(band)))
            start = rng.randint(0, len(band) - count)
            picked = band[start : start + count]
            draft.attempt(Tile(tuple((x.iterator, rng.choice(TILE_SIZES)) for x in picked)))
            if count == 1 and start and rng.random() < 0.5:  # a tile loop alone changes nothing
                draft.attempt(Interchange(band[0].iterator, f"{picked[0].iterator}_t"))


def _mark(draft: Draft, rng: random.Random) -> None:
    """Parallelize outer loops, vectorize or unroll inner ones, jam now and then."""
    if rng.random() < 0.2:
        outer = [loop for loop in draft.loops() if loop not in draft.innermost()]
        if outer:
            draft.attempt(Jam(rng.choice(outer).iterator, rng.choice((2, 2, 4))))
    if rng.random() < 0.55:
        for loop in draft.outermost():
            band = perfect_band(loop)
            second = len(band) > 1 and rng.random() < 0.2
            if rng.random() < 0.85:
                draft.attempt(Parallelize(band[1 if second else 0].iterator))
    vectorize = rng.random() < 0.45
    for loop in draft.innermost():
        if vectorize and rng.random() < 0.85:
            draft.attempt(Vectorize(loop.iterator))
        elif rng.random() < 0.25:
            draft.attempt(Unroll(loop.iterator, rng.choice(FACTORS)))
