"""Pre-training data: random programs, their schedules, features, and times on machines.

Everything is a function of the seed: programs are drawn in shards, each with a generator of its
own, so that the number of processes changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from agent.loopnest.candidates import random_schedule
from agent.loopnest.features import features, work
from agent.loopnest.nest import NestTable, concat, lower
from agent.loopnest.program import Program
from bundles.corpus import random_program
from bundles.machines import Machine
from bundles.simulate import simulate

Floats = npt.NDArray[np.float32]
SHARD = 50  # programs a shard; part of what a seed means
SPARE = 3  # schedules drawn, at most, for each one kept
NICE = 10
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Dataset:
    """Programs with their variants; variant 0 is the program as written.

    Attributes:
        features: [p, v, F].
        target: [p, v, m] log seconds on each machine less the program's log work.
        family: [p] names of the families.
    """

    features: Floats
    target: Floats
    family: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: slice | npt.NDArray[np.intp]) -> Dataset:
        """Some of the programs."""
        return Dataset(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Recipe:
    """What a data set is made of; the same recipe gives the same data.

    Attributes:
        programs, variants: how many, the base included.
        seed: of programs and schedules.
        machines: where the variants are timed.
    """

    programs: int
    variants: int
    seed: int
    machines: tuple[Machine, ...]


def variants_of(program: Program, count: int, rng: random.Random) -> NestTable:
    """The program and ``count - 1`` scheduled variants, lowered.

    Distinct ones first; those that share a loop among threads which carries a value are left out
    (nobody may run them). A program with too few schedules repeats them.
    """
    seen: dict[str, Program] = {}
    for _ in range(SPARE * count):
        schedule, scheduled = random_schedule(program, rng)
        if schedule.steps:
            seen.setdefault(str(schedule), scheduled)
        if len(seen) >= 1.4 * count:
            break
    table = lower([program, *seen.values()])
    races = (table.parallel & table.recurrence).any((1, 2))
    kept = np.nonzero(~races)[0]
    kept = np.concatenate([[0], kept[kept > 0]])
    return table.take(np.resize(kept, count))


def _shard(recipe: Recipe, number: int) -> Dataset:
    rng = random.Random(f"{recipe.seed}/{number}")
    count = min(SHARD, recipe.programs - number * SHARD)
    programs = [random_program(rng) for _ in range(count)]
    table = concat([variants_of(p, recipe.variants, rng) for p in programs])
    seconds = simulate(table, recipe.machines) - work(table)[:, None]
    shape = (count, recipe.variants, -1)
    return Dataset(
        features(table).reshape(shape),
        seconds.astype(np.float32).reshape(shape),
        np.array([p.name for p in programs]),
    )


def _shards(recipe: Recipe, processes: int) -> Iterator[Dataset]:
    count = -(-recipe.programs // SHARD)
    if processes <= 1:
        yield from (_shard(recipe, number) for number in range(count))
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(processes, context, initializer=_quiet) as pool:
        yield from pool.map(_shard, [recipe] * count, range(count))


def _quiet() -> None:
    os.nice(NICE)


def generate(recipe: Recipe, processes: int = 1, progress: Progress | None = None) -> Dataset:
    """The data set of a recipe, in the order of its shards."""
    parts = []
    for part in _shards(recipe, processes):
        parts.append(part)
        if progress:
            progress(sum(map(len, parts)), recipe.programs)
    return Dataset(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Dataset)))
