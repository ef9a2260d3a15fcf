"""Loop nests of public C as Programs, with sizes such as the corpus has them."""

from __future__ import annotations

import contextlib
import math
import random
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.arrays import Singles
from agent.errors import AgentError, SourceError
from agent.loopnest.features.nest import lower as table_of
from agent.loopnest.features.vector import features
from agent.loopnest.frontend.ctree import CFunction, Unit
from agent.loopnest.frontend.parse import parse_all
from agent.loopnest.lowering.lower import lower, sizes_of
from agent.loopnest.lowering.reader import regions_of
from agent.loopnest.lowering.regions import LoopNest, inner_nests
from agent.loopnest.program import Program
from bundles.corpus.corpus import MAX_BYTES, MAX_WORK, MIN_WORK, fault
from bundles.corpus.finishing import statement_runs
from bundles.corpus.sketch import snap
from bundles.corpus.traits import Traits, traits

DEEPEST = (
    4  # loops around a nest that is not read, whose inner nests are looked at: as `agent scan`
)
LIMIT_S = 10  # for one nest
FIRST = 64  # of every size, and twice that, to see how the work grows with them
SMALL = 9  # the same, where an array that the text declares is smaller
LARGEST = 1 << 22  # of any size
MISSING = 6  # headers that a file may lack: configure scripts write them
_NOT_FOUND = re.compile(r"'([\w./+-]+\.h)' file not found")


@dataclass(frozen=True, eq=False)
class FoundNest:
    """What is kept of a nest that is read: nothing from which its text could be made again.

    Attributes:
        repository: where it stands.
        features: [F] of the model, with the sizes drawn for it.
        traits: see ``bundles.corpus.traits``.
        fit: whether it does as much as programs of the corpus do, and nothing for nothing.
    """

    repository: str
    features: Singles
    traits: Traits
    fit: bool


@dataclass(frozen=True)
class FileReport:
    """What became of the nests of some files."""

    files: int
    unread_files: int
    refused: int
    found: Sequence[FoundNest]


class TooLongError(Exception):
    """Reading a nest took longer than ``LIMIT_S``."""


def read_files(repository: str, paths: Sequence[Path], flags: Sequence[str]) -> FileReport:
    """The nests of some files of a repository; a file's place decides which sizes are drawn."""
    signal.signal(signal.SIGALRM, _give_up)
    found: list[FoundNest] = []
    unread = refused = 0
    for path, unit in _units(paths, flags).items():
        if unit is None:
            unread += 1
            continue
        rng = random.Random(f"{repository}/{path.name}")
        for program in _programs(unit, rng):
            if program is None:
                refused += 1
            else:
                found.append(_kept(repository, program))
    return FileReport(len(paths), unread, refused, found)


def _units(paths: Sequence[Path], flags: Sequence[str]) -> dict[Path, Unit | None]:
    """The trees of files, None where there is none; headers that are missing count as empty."""
    found: dict[Path, Unit | None] = dict.fromkeys(paths)
    with TemporaryDirectory(prefix="survey-") as folder:
        for _ in range(MISSING):
            left = [path for path, unit in found.items() if unit is None]
            some = dict(zip(left, parse_all(left, [*flags, f"-I{folder}"]), strict=True))
            found |= {p: u for p, u in some.items() if isinstance(u, Unit) and not u.errors}
            names = [_NOT_FOUND.search(_why(unit)) for unit in some.values()]
            wanted = {Path(folder, m[1]) for m in names if m and not Path(m[1]).is_absolute()}
            if not wanted:
                break
            for header in wanted:
                header.parent.mkdir(parents=True, exist_ok=True)
                header.touch()
    return found


def _why(unit: Unit | SourceError) -> str:
    return unit.message if isinstance(unit, SourceError) else " ".join(unit.errors[:1])


def _kept(repository: str, program: Program) -> FoundNest:
    row = features(table_of([program]))[0]
    return FoundNest(repository, row, traits(program), fit=not fault(program))


def _programs(unit: Unit, rng: random.Random) -> Iterator[Program | None]:
    """Every nest of the functions of a file; None for one that is not read."""
    for function in unit.functions.values():
        if function.place.file != unit.file:
            continue
        with contextlib.suppress(AgentError):
            for part in regions_of(unit, function):
                yield from _nests(unit, function, part, rng)


def _nests(
    unit: Unit, function: CFunction, part: LoopNest, rng: random.Random
) -> Iterator[Program | None]:
    """A nest; where it is not read, those inside it besides, as `agent scan` tells them."""
    program = _sized(unit, function, part, rng)
    yield program
    if program is None and len(part.around) < DEEPEST:
        for inner in inner_nests(part):
            yield from _nests(unit, function, inner, rng)


def _sized(unit: Unit, function: CFunction, part: LoopNest, rng: random.Random) -> Program | None:
    """The nest with sizes for work as the corpus draws it, as far as its own bounds let it."""
    names = sizes_of(unit, function, part)

    def read(sizes: Mapping[str, int]) -> Program | None:
        signal.alarm(LIMIT_S)
        try:
            program = lower(unit, function, part, sizes).program
        except (AgentError, TooLongError, RecursionError):
            return None
        finally:
            signal.alarm(0)
        return program if program.body else None

    found = read(dict.fromkeys(names, FIRST)) or read(dict.fromkeys(names, SMALL))
    grown = found and names and read(dict.fromkeys(names, 2 * FIRST))
    if not (found and grown):
        return found
    steepness = math.log2(statement_runs(grown) / statement_runs(found))
    if steepness < 0.1:
        return found
    wanted = 2 * MIN_WORK * (MAX_WORK / (2 * MIN_WORK)) ** rng.random()
    middle = FIRST * (wanted / statement_runs(found)) ** (1 / steepness)
    for spread in (1.0, 0.0):
        sizes = {n: _size(rng, middle * 2 ** rng.uniform(-spread, spread)) for n in names}
        program = read(sizes)
        if program and program.bytes <= MAX_BYTES:
            return program
    return found


def _size(rng: random.Random, near: float) -> int:
    return min(max(snap(rng, near), 2), LARGEST)


def _give_up(*_: object) -> None:
    raise TooLongError
