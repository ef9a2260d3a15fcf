"""The programs of label files, made again from what a file says of them.

A program is read from its C, whatever draws or emits programs by then. In earlier files, which do
not hold that, it is drawn from the corpus's seed and number, or is a kernel of the fixed set, and
must come out as it was (``program_digest``).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, groupby
from typing import NamedTuple

import numpy as np

from agent.arrays import Doubles, Singles
from agent.errors import AgentError, SourceError
from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.emitter.emit import emit
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import features, work
from agent.loopnest.frontend.parse import plain
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import Program
from agent.loopnest.schedules.schedule import parse_schedule
from agent.loopnest.schedules.transform import apply
from bundles.corpus.corpus import random_program
from bundles.labels.target import RIGHT
from bundles.workers import WorkerDiedError, results_in_order

BATCH = 25  # programs a job of a worker
FIXED = "fixed"  # corpus of the rows whose program is a kernel of the fixed set


class ProgramSource(NamedTuple):
    """What a label file says of a program: enough to make it again and to know it."""

    digest: str
    corpus: str
    seed: int
    number: int
    family: str
    source: str = ""


def program_digest(program: Program) -> str:
    """What identifies a program: the C it is written as."""
    return hashlib.sha256(emit(program).encode()).hexdigest()[:24]


@cache
def corpus_program(seed: int, number: int) -> Program:
    """The program of that number in the labelled corpus of a seed."""
    return random_program(random.Random(f"labels/{seed}/{number}"))


def scheduled(program: Program, text: str) -> Program:
    """The program with a schedule's steps applied; whether they are legal is not looked at."""
    for step in parse_schedule(text).steps:
        program = apply(program, step)
    return program


def features_again(
    versions: Iterable[tuple[ProgramSource, str]], processes: int
) -> tuple[Singles, Doubles]:
    """Features [k, F] and log work [k] of versions, their programs made again.

    Args:
        versions: source and schedule of each; those of one program stand together.
        processes: that share the work.

    Raises:
        AgentError: a program is another one in this version, or a process was killed.
    """
    jobs = [(key, [text for _, text in group]) for key, group in groupby(versions, _source)]
    batches = [(jobs[i : i + BATCH],) for i in range(0, len(jobs), BATCH)]
    workers = processes if len(batches) > 4 else 1
    try:
        parts = list(chain.from_iterable(results_in_order(_all_rebuilt, batches, workers)))
    except WorkerDiedError as error:
        what = "a process that made its programs again was killed"
        raise AgentError(what, "Memory may be short: free some, then try again.") from error
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _source(version: tuple[ProgramSource, str]) -> ProgramSource:
    return version[0]


def _all_rebuilt(
    jobs: Sequence[tuple[ProgramSource, list[str]]],
) -> list[tuple[Singles, Doubles]]:
    return [_rebuilt(*job) for job in jobs]


def _rebuilt(source: ProgramSource, schedules: list[str]) -> tuple[Singles, Doubles]:
    """Features and log work of a program's versions, the program made again and recognised."""
    program = program_of(source)
    table = lower([scheduled(program, text) for text in schedules])
    return features(table), np.full(len(schedules), float(work(lower([program]))[0]))


def program_of(source: ProgramSource) -> Program:
    """The program that a label file speaks of.

    Raises:
        AgentError: its C cannot be read, or it is another program in this version.
    """
    return _read(source) if source.source else _drawn(source)


def _read(source: ProgramSource) -> Program:
    """A program from its C; files are anybody's, so only plain text is read in this process."""
    if not plain(source.source.encode()):
        raise AgentError(
            f"the C of program {source.digest} is not plain: it is too long or deep, or includes "
            "or computes what a program does not need",
            RIGHT,
        )
    try:
        return parse_program(source.source, f"{source.digest}.c", function=None, sizes={})
    except SourceError as error:
        raise AgentError(f"the C of a program cannot be read: {error.message}", RIGHT) from error


def _drawn(source: ProgramSource) -> Program:
    if source.corpus == FIXED:
        program = _kernel(source.family)
    else:
        program = corpus_program(source.seed, source.number)
    if program_digest(program) != source.digest:
        raise AgentError(
            f"program {source.number} of its corpus is another one in this version",
            "Measure again with this version, or evaluate with the version that measured.",
        )
    return program


def _kernel(name: str) -> Program:
    found = {k.name: k for k in kernels()}
    if name not in found:
        raise AgentError(f"the fixed set has no kernel {name!r} in this version", "Measure again.")
    return load_kernel(found[name])
