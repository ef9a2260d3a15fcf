"""What the agent reads of a case: a Region for every loop nest or pair of pragmas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import Unit
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.lowering.lower import Binding, Reading
from agent.loopnest.lowering.reader import read_region, regions_of
from tests.differential.case import Case, Region, renamed


@dataclass(frozen=True)
class Found:
    """The regions of a function that are read, and why others are not."""

    regions: tuple[Region, ...]
    refusals: tuple[str, ...]


FILE = "case.c"


def read(case: Case) -> Found:
    """Every region of the function."""
    (found,) = read_all([case])
    return found


def read_all(cases: Sequence[Case]) -> list[Found]:
    """Every region of each function; no two cases define the same name."""
    starts = list(itertools.accumulate((len(case.text) for case in cases), initial=0))
    unit = parse_text("".join(case.text for case in cases), FILE)
    assert not unit.errors, unit.errors[0]
    return [_found(unit, case, start) for case, start in zip(cases, starts, strict=False)]


def _found(unit: Unit, case: Case, start: int) -> Found:
    """The regions of the case whose text begins at ``start`` in the unit's."""
    function = next(f for f in unit.functions.values() if f.name == case.function)
    regions, refusals = [], []
    try:
        parts = regions_of(unit, function)
    except SourceError as error:
        return Found((), (error.message,))
    for number in range(1, len(parts) + 1):
        try:
            reading = read_region(unit, case.function, case.sizes, number)
            regions.append(_region(case, reading, start))
        except SourceError as error:
            refusals.append(error.message.removeprefix(f"{FILE}:"))
    return Found(tuple(regions), tuple(refusals))


def _region(case: Case, reading: Reading, start: int) -> Region:
    items = reading.part.items
    return Region(
        reading.program,
        items[0].place.start - start,
        items[-1].place.end - start,
        {b.array: _address(case, reading, b) for b in reading.bindings},
        {s.name: s.name for s in reading.program.scalars},
        tuple((name, str(value)) for name, value in reading.leaving),
    )


def _address(case: Case, reading: Reading, binding: Binding) -> str:
    """C of a pointer to the first element of an array of the Program."""
    array = reading.program.array(binding.array)
    if binding.is_local:
        return f"({array.dtype.value}[{array.elements}]){{0}}"
    row = math.prod(array.shape[1:])
    return f"{renamed(binding.expression, case.pointers, '_entry')} + {binding.low * row}"
