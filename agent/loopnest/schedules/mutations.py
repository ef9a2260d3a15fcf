"""Schedules near one that is good: a step more, a step less, or a step with another number."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

from agent.loopnest.program import Program, Statement, all_reads
from agent.loopnest.schedules.candidates import FACTORS, TILE_SIZES, LegalDraft
from agent.loopnest.schedules.register_tiles import LANES
from agent.loopnest.schedules.schedule import (
    MAX_STEPS,
    Collapse,
    Cyclic,
    Diamond,
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Pack,
    Parallelize,
    Schedule,
    Step,
    Stream,
    Tile,
    Unroll,
    Vectorize,
)
from agent.loopnest.schedules.tree import find_loop

CHUNKS = (1, 1, 4, 8, 16)  # repeats: likelier
ROWS = (2, 4, 6, 8, 12)  # that are jammed


def mutation(schedule: Schedule, draft: LegalDraft, rng: random.Random) -> tuple[Schedule, Program]:
    """A legal schedule one change away from ``schedule``; what fits no more is left out.

    May be ``schedule`` itself, where the change does not fit. ``draft``: an empty one.
    """
    steps = list(schedule.steps)
    kind = rng.random()
    if steps and kind < 0.25:
        del steps[rng.randrange(len(steps))]
    elif steps and kind < 0.55:
        at = rng.randrange(len(steps))
        steps[at] = _renumbered(steps[at], rng)
    where = rng.randint(0, len(steps)) if kind >= 0.55 else -1
    for number, step in enumerate([*steps, None]):
        if number == where:
            _add(draft, rng)
        if step is not None:
            draft.attempt(step)
    return Schedule(tuple(draft.steps)), draft.program


def _renumbered(step: Step, rng: random.Random) -> Step:
    """The step with another size or factor, where it has one."""
    match step:
        case Tile(sizes=sizes) | Diamond(sizes=sizes):
            at = rng.randrange(len(sizes))
            chosen = rng.choice(TILE_SIZES)
            changed = [(name, chosen if n == at else s) for n, (name, s) in enumerate(sizes)]
            return replace(step, sizes=tuple(changed))
        case Unroll():
            return replace(step, factor=rng.choice(FACTORS))
        case Jam():
            return replace(step, factor=rng.choice(ROWS))
        case Cyclic():
            return replace(step, chunk=rng.choice(CHUNKS))
        case Vectorize(_, lanes) if lanes > 1:
            return replace(step, lanes=rng.choice(LANES))
        case _:
            return step


def _add(draft: LegalDraft, rng: random.Random) -> None:
    """One more step, of those that may be possible here."""
    options = list(_options(draft, rng))
    rng.shuffle(options)
    room = len(draft.steps) < MAX_STEPS
    for step in options[:4] * room:
        if draft.attempt(step):
            return


def _options(draft: LegalDraft, rng: random.Random) -> Iterator[Step]:
    for band in draft.bands():
        names = [loop.iterator for loop in band]
        yield from (Interchange(a, b) for a, b in itertools.combinations(names, 2))
        count = rng.randint(1, min(3, len(names)))
        start = rng.randint(0, len(names) - count)
        yield Tile(tuple((n, rng.choice(TILE_SIZES)) for n in names[start : start + count]))
        yield from (Collapse(a, b) for a, b in itertools.pairwise(names[:2]))
        yield Parallelize(rng.choice(names[:2]))
        yield Jam(rng.choice(names), rng.choice(ROWS))
        yield Vectorize(rng.choice(names), rng.choice(LANES))
    yield from (Cyclic(x.iterator, rng.choice(CHUNKS)) for x in draft.loops() if x.parallel)
    yield from _memory_options(draft, rng)
    for loop in draft.innermost():
        yield Vectorize(loop.iterator)
        yield Unroll(loop.iterator, rng.choice(FACTORS))
    yield from (Fuse(a, b) for a, b in draft.neighbours())
    yield from (Distribute(x.iterator) for x in draft.loops() if len(x.body) > 1)


def _memory_options(draft: LegalDraft, rng: random.Random) -> Iterator[Step]:
    """A read to pack, where some loop may hold a buffer for it, and an array to stream."""
    for loop in draft.innermost():
        body = [s for s in loop.body if isinstance(s, Statement)]
        reads = [a for s in body for a in all_reads(s) if a.subscripts]
        path, _ = find_loop(draft.program, "pack", loop.iterator)
        if reads and path:
            yield Pack(str(rng.choice(reads)), rng.choice(path).iterator)
        if loop.vector and body:
            yield Stream(rng.choice(body).target.array, loop.iterator)
