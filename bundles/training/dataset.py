"""Pre-training data: random programs, their schedules, features, and times on machines.

Everything is a function of the seed: programs are drawn in shards, each with a generator of its
own, so that the number of processes changes nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.arrays import Indices, Singles, Texts
from agent.errors import AgentError
from agent.loopnest.features.nest import NestTable, concat, lower
from agent.loopnest.features.vector import features, work
from agent.loopnest.program import Program
from agent.loopnest.schedules.candidates import random_schedule, usual_schedule
from bundles.corpus.corpus import random_program
from bundles.simulator.machines import SimulatedMachine
from bundles.simulator.simulate import simulate
from bundles.workers import WorkerDiedError, results_in_order

SHARD = 50  # programs a shard; part of what a seed means
SPARE = 3  # schedules drawn, at most, for each one kept
USUAL = 0.6  # of schedules are such as an expert would try; of the others some are absurd
DEATHS = 5
ARRAYS = ("features", "target", "family")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Programs with their variants; variant 0 is the program as written.

    Attributes:
        features: [p, v, F].
        target: [p, v, m] log seconds on each machine less the program's log work.
        family: [p] names of the families.
        origin: directory whose arrays these are (``bundles.training.shards``), if they are on disk.
        first: row of that directory which is row 0 here.
    """

    features: Singles
    target: Singles
    family: Texts
    origin: Path | None = None
    first: int = 0

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: slice | Indices) -> Dataset:
        """Some of the programs; a slice of arrays on disk stays on disk."""
        picked = Dataset(self.features[rows], self.target[rows], self.family[rows])
        if isinstance(rows, slice):
            start, _, step = rows.indices(len(self))
            if step == 1 and self.origin:
                return replace(picked, origin=self.origin, first=self.first + start)
        return picked

    def loaded(self, most: int) -> Dataset:
        """The first programs, at most so many, in memory."""
        some = self.take(np.arange(min(most, len(self))))
        return Dataset(np.array(some.features), np.array(some.target), np.array(some.family))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a network learns from.

    Attributes:
        train: programs to learn from.
        held: programs to validate on; of more than 16,384, the first are used.
        machines: which machines of ``target`` are learnt.
    """

    train: Dataset
    held: Dataset
    machines: slice | Indices

    def learnt(self, target: Singles) -> Singles:
        """Of times [..., m], those on the machines that are learnt."""
        return target[..., self.machines]


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
    machines: tuple[SimulatedMachine, ...]


Maker = Callable[[Recipe, Sequence[int]], Iterator[tuple[int, Dataset]]]  # numbers -> shards


def variants_of(program: Program, count: int, rng: random.Random) -> NestTable:
    """The program and ``count - 1`` scheduled variants, lowered.

    A program with too few schedules repeats them.
    """
    drawn, table = drawn_variants(program, count, rng)
    return table.take(np.resize(np.arange(len(drawn)), count))


def drawn_variants(
    program: Program, count: int, rng: random.Random
) -> tuple[list[Program], NestTable]:
    """The program and different variants of it, usually more than ``count``; and these lowered.

    Those that share a loop among threads which carries a value are left out: nobody may run them.
    """
    seen: dict[str, Program] = {}
    for _ in range(SPARE * count):
        draw = usual_schedule if rng.random() < USUAL else random_schedule
        schedule, scheduled = draw(program, rng)
        if schedule.steps:
            seen.setdefault(str(schedule), scheduled)
        if len(seen) >= 1.4 * count:
            break
    drawn = [program, *seen.values()]
    table = lower(drawn)
    races = (table.parallel & table.recurrence).any((1, 2))
    kept = np.nonzero(~races)[0]
    kept = np.concatenate([[0], kept[kept > 0]])
    return [drawn[n] for n in kept], table.take(kept)


def shard_count(recipe: Recipe) -> int:
    """How many shards a recipe has."""
    return -(-recipe.programs // SHARD)


def shard_rows(recipe: Recipe, number: int) -> slice:
    """The programs of a shard, counted over the whole data set."""
    return slice(number * SHARD, min((number + 1) * SHARD, recipe.programs))


def shard(recipe: Recipe, number: int) -> Dataset:
    """One shard: a function of the recipe and the number alone, wherever it is computed."""
    rng = random.Random(f"{recipe.seed}/{number}")
    rows = shard_rows(recipe, number)
    programs = [random_program(rng) for _ in range(rows.stop - rows.start)]
    table = concat([variants_of(p, recipe.variants, rng) for p in programs])
    seconds = simulate(table, recipe.machines) - work(table)[:, None]
    shape = (len(programs), recipe.variants, -1)
    return Dataset(
        features(table).reshape(shape),
        seconds.astype(np.float32).reshape(shape),
        np.array([p.name for p in programs]),
    )


def in_processes(processes: int) -> Maker:
    """Makes shards in so many processes of this machine; a process that dies is replaced."""

    def make(recipe: Recipe, numbers: Sequence[int]) -> Iterator[tuple[int, Dataset]]:
        left = deque(numbers)
        for _ in range(DEATHS):
            try:
                for made in results_in_order(
                    shard, [(recipe, number) for number in left], processes
                ):
                    yield left.popleft(), made
            except WorkerDiedError:
                continue
            return
        raise AgentError(
            f"processes that draw programs were killed {DEATHS} times",
            "Memory may be short: use fewer processes. With --work DIR, whole shards are kept.",
        )

    return make


def generate(recipe: Recipe, processes: int = 1, progress: Progress | None = None) -> Dataset:
    """The data set of a recipe in memory, in the order of its shards.

    Raises:
        AgentError: its processes were killed again and again.
    """
    parts = []
    for _, part in in_processes(processes)(recipe, range(shard_count(recipe))):
        parts.append(part)
        if progress:
            progress(sum(map(len, parts)), recipe.programs)
    return Dataset(
        np.concatenate([p.features for p in parts]),
        np.concatenate([p.target for p in parts]),
        np.concatenate([p.family for p in parts]),
    )
