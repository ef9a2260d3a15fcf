"""The fixed benchmark set as values: what set.toml beside this module says.

Everything is read on first use and kept: the set ships with the program and does not change
while it runs. A mistake in set.toml is a mistake of ours, so it surfaces as a plain ValueError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.loopnest.lowering.reader import load_program
from agent.loopnest.program import Program
from agent.loopnest.schedules.schedule import Schedule, parse_schedule

SET = Path(__file__).with_name("set.toml")
SCHEMA = 1


@dataclass(frozen=True)
class Kernel:
    """One program of the fixed set.

    Attributes:
        name: unique in the set.
        path: its C file; several kernels of different sizes may share one.
        function: the function in that file.
        purpose: which property of a machine its timings separate.
        stands_for: the factory or laboratory work it is taken from.
        sizes: a value for each of the function's sizes.
    """

    name: str
    path: Path
    function: str
    purpose: str
    stands_for: str
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class PlannedVariant:
    """One timing of the fixed set: ``kernel`` under ``schedule``, against it as written."""

    kernel: Kernel
    schedule: Schedule


def _kernel(entry: Mapping[str, Any]) -> Kernel:
    return Kernel(
        name=entry["name"],
        path=SET.with_name(entry["file"]),
        function=entry["function"],
        purpose=entry["purpose"],
        stands_for=entry["stands_for"],
        sizes=MappingProxyType(dict(entry["sizes"])),
    )


@cache
def _set() -> tuple[tuple[Kernel, ...], tuple[PlannedVariant, ...]]:
    data = tomllib.loads(SET.read_text(encoding="utf-8"))
    if data["schema"] != SCHEMA:
        raise ValueError(f"{SET}: schema {data['schema']}, expected {SCHEMA}")
    known = {entry["name"]: _kernel(entry) for entry in data["kernel"]}
    if len(known) != len(data["kernel"]):
        raise ValueError(f"{SET}: two kernels have one name")
    variants = (
        PlannedVariant(known[entry["kernel"]], parse_schedule(entry["schedule"]))
        for entry in data["variant"]
    )
    return tuple(known.values()), tuple(variants)


def kernels() -> tuple[Kernel, ...]:
    """The kernels of the fixed set, in the order of set.toml."""
    return _set()[0]


def fixed_variants() -> tuple[PlannedVariant, ...]:
    """The variants to time, most informative first: every prefix is a good experiment."""
    return _set()[1]


@cache
def _load(path: Path, function: str, sizes: tuple[tuple[str, int], ...]) -> Program:
    return load_program(path, function=function, sizes=dict(sizes))


def load_kernel(kernel: Kernel) -> Program:
    """``kernel`` as a Program (parsed once a process).

    Raises:
        SourceError: the machine has too little memory for it.
    """
    return _load(kernel.path, kernel.function, tuple(sorted(kernel.sizes.items())))
