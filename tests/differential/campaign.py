"""Generated functions by the thousand: how many are read, why others are not, what differs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.differential.case import Case
from tests.differential.compare import Difference, Prepared, differences, versions
from tests.differential.reading import Found, read
from tests.generated_c.functions import function

BATCH = 100  # functions in a C file
_NAMES = re.compile(r"'[^']*'|`[^`]*`|\b\w+\[[^ ]*|-?\d+")


@dataclass
class Counts:
    """What came of some functions; a region is a loop nest, or what stands between pragmas."""

    functions: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Counts what was read of a function."""
        self.functions += 1
        self.read += len(found.regions)
        self.refused.update(kind(why) for why in found.refusals)


def kind(refusal: str) -> str:
    """A refusal without its place and the names in it."""
    return _NAMES.sub("_", re.sub(r"^[\d:]+ ", "", refusal))[:120]


def campaign(seeds: Iterable[int], folder: Path, *, scheduled: int = 1, count: int = 5) -> Counts:
    """Functions of these seeds, compared; every ``scheduled``-th under ``count`` schedules too."""
    counts, batch = Counts(), list[Prepared]()
    for seed in seeds:
        case = function(seed)
        found = read(case, folder)
        counts.add(found)
        if found.regions:
            batch.append(_prepared(case, found, 0 if seed % scheduled else count, seed))
        if len(batch) == BATCH:
            _compare(counts, batch, folder)
            batch = []
    _compare(counts, batch, folder)
    return counts


def _prepared(case: Case, found: Found, count: int, seed: int) -> Prepared:
    return Prepared(case, tuple(versions(case, found.regions, count, seed)))


def _compare(counts: Counts, batch: list[Prepared], folder: Path) -> None:
    counts.versions += sum(len(item.versions) for item in batch)
    if batch:
        counts.differences += differences(batch, folder)
