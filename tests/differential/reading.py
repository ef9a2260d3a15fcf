"""What the agent reads of a case: a Region for every loop nest or pair of pragmas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from agent.errors import SourceError
from agent.loopnest.frontend.parse import parse
from agent.loopnest.lowering.lower import Binding, Reading
from agent.loopnest.lowering.reader import read_region, regions_of
from tests.differential.case import Case, Region, renamed


@dataclass(frozen=True)
class Found:
    """The regions of a function that are read, and why others are not."""

    regions: tuple[Region, ...]
    refusals: tuple[str, ...]


def read(case: Case, folder: Path) -> Found:
    """Every region of the function."""
    path = folder / "case.c"
    path.write_text(case.text)
    unit = parse(path, (), None)
    function = next(f for f in unit.functions.values() if f.name == case.function)
    regions, refusals = [], []
    try:
        parts = regions_of(unit, function)
    except SourceError as error:
        return Found((), (error.message,))
    for number in range(1, len(parts) + 1):
        try:
            reading = read_region(unit, case.function, case.sizes, number)
            regions.append(_region(case, reading))
        except SourceError as error:
            refusals.append(error.message.removeprefix(f"{path}:"))
    return Found(tuple(regions), tuple(refusals))


def _region(case: Case, reading: Reading) -> Region:
    items = reading.part.items
    return Region(
        reading.program,
        items[0].place.start,
        items[-1].place.end,
        {b.array: _address(case, reading, b) for b in reading.bindings},
        {s.name: s.name for s in reading.program.scalars},
        tuple((name, str(value)) for name, value in reading.leaving),
    )


def _address(case: Case, reading: Reading, binding: Binding) -> str:
    """C of a pointer to the first element of an array of the Program."""
    row = math.prod(reading.program.array(binding.array).shape[1:])
    return f"{renamed(binding.expression, case.pointers, '_entry')} + {binding.low * row}"
