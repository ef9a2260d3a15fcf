"""Generated functions by the thousand: how many are read, why others are not, what differs."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.differential.case import Case, renamed
from tests.differential.compare import PLAIN, Difference, Prepared, differences, versions
from tests.differential.reading import Found, read_all
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


def campaign(
    seeds: Iterable[int],
    folder: Path,
    *,
    scheduled: int = 1,
    count: int = 5,
    size: int = 6,
    flags: Sequence[str] = PLAIN,
) -> Counts:
    """Functions of these seeds, compared; every ``scheduled``-th under ``count`` schedules too.

    Args:
        seeds: one for each function.
        folder: for what is compiled.
        scheduled: every how-manieth function is compared under schedules.
        count: how many schedules.
        size: about how many statements a function has.
        flags: of the compiler.
    """
    counts, left = Counts(), iter(seeds)
    while some := list(itertools.islice(left, BATCH)):
        cases = [_numbered(function(seed, size), seed) for seed in some]
        batch = []
        for case, found, seed in zip(cases, read_all(cases), some, strict=True):
            counts.add(found)
            chosen = 0 if seed % scheduled else count
            try:
                made = versions(case, found.regions, chosen, seed)
            except Exception as error:  # noqa: BLE001  what was read must be emitted
                counts.differences.append(Difference(case, "", repr(error)))
            else:
                batch += [Prepared(case, tuple(made))] * bool(made)
        counts.versions += sum(len(item.versions) for item in batch)
        counts.differences += each_difference(batch, folder, flags) if batch else []
    return counts


def each_difference(batch: list[Prepared], folder: Path, flags: Sequence[str]) -> list[Difference]:
    """As ``differences``; a function that the compiler refuses is one, and costs no others."""
    try:
        return differences(batch, folder, flags)
    except subprocess.CalledProcessError as error:
        if len(batch) == 1:
            return [Difference(batch[0].case, "the compiler", error.stderr[:1000])]
    middle = len(batch) // 2
    halves = batch[:middle], batch[middle:]
    return [found for half in halves for found in each_difference(half, folder, flags)]


def _numbered(case: Case, number: int) -> Case:
    """``case`` with names that no other number's have."""
    names = (case.function, *case.names)
    text = renamed(case.text, names, f"_{number}")
    arguments = tuple(
        replace(
            a,
            name=f"{a.name}_{number}" if a.name in names else a.name,
            type=renamed(a.type, names, f"_{number}"),
            value=renamed(a.value, names, f"_{number}"),
        )
        for a in case.arguments
    )
    return replace(
        case,
        text=text,
        function=f"{case.function}_{number}",
        names=tuple(f"{name}_{number}" for name in case.names),
        arguments=arguments,
    )
