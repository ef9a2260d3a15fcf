"""What was timed of real programs: a journal of one line a program, synced; the first says how.

A run that was stopped goes on after the last whole line. A journal can be scored again, with
another bundle, where the programs are not at hand: it holds what an encoder reads of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np

from agent.arrays import Doubles, Singles
from agent.errors import InputError
from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION
from agent.measure.timing import Outcome
from bundles.labels.journal import Line, TimedVersion, alone_at, whole_lines, write_line
from bundles.labels.target import Target

SCHEMA = 1
ANOTHER = "Give the same list and settings to go on, or another --out to start anew."
NOT_ONE = "Give the timings.jsonl that `bundles evaluate --programs` wrote."


@dataclass(frozen=True)
class RealHead:
    """What a journal is of: another experiment may not go on with it.

    Attributes:
        programs: name of the list; ``digest``: of what stands in it.
        target: machine and toolchain, never a machine's name.
        looked_at, timed, first, seed: see ``RealCampaign``.
        chosen_by: digest of the bundle whose first choices were timed.
        facts: of the calibration there; ``fixed``: its timings, to fit heads on other bundles.
        features_version: of the features in it.
    """

    programs: str
    digest: str
    target: Target
    looked_at: int
    timed: int
    first: int
    seed: int
    chosen_by: str
    facts: Mapping[str, float | None] | None = None
    fixed: tuple[Line, ...] = ()
    features_version: int = FEATURES_VERSION
    schema: int = SCHEMA


@dataclass(frozen=True)
class RealProgram:
    """A program with its times.

    Attributes:
        name: in the list.
        why: where nothing could be timed; empty else.
        versions: the program as written first; ``features``: [n][F] of each.
        work: log work of the program as written.
        seconds: of the program as written, timed alone beforehand, with the ends of its 80 %
            interval; None where it could not be.
        elapsed_s: wall time of all of it.
    """

    name: str
    why: str = ""
    versions: tuple[TimedVersion, ...] = ()
    features: tuple[tuple[float, ...], ...] = ()
    work: float = 0.0
    seconds: tuple[float, float, float] | None = None
    elapsed_s: float = 0.0

    @property
    def timed(self) -> list[int]:
        """Places of the versions that have a time, the program as written left out."""
        return [n for n, v in enumerate(self.versions) if n and v.outcome == Outcome.OK]

    @property
    def speedups(self) -> Doubles:
        """[k] their log speed-ups."""
        return np.array([self.versions[n].log_speedup for n in self.timed])

    @property
    def matrix(self) -> Singles:
        """[n, F] features."""
        return np.array(self.features, np.float32).reshape(-1, len(FEATURES))

    @classmethod
    def from_json(cls, line: Line) -> Self:
        """Read what ``asdict`` gave."""
        seconds = line["seconds"]
        return replace(
            cls(**line),
            versions=tuple(TimedVersion(**v) for v in line["versions"]),
            features=tuple(map(tuple, line["features"])),
            seconds=None if seconds is None else (seconds[0], seconds[1], seconds[2]),
        )


@dataclass(frozen=True)
class RealTimings:
    """A whole journal."""

    head: RealHead
    programs: tuple[RealProgram, ...]


def read_timings(path: Path) -> RealTimings:
    """A journal as it is.

    Raises:
        InputError: it is none, or of another version of the features.
    """
    try:
        lines = whole_lines(path) if path.is_file() else []
        first: dict[str, Any] = dict(lines[0])
        target = Target.from_json(first["target"])
        head = RealHead(**{**first, "target": target, "fixed": tuple(first["fixed"])})
        programs = tuple(map(RealProgram.from_json, lines[1:]))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no journal of real programs: {error}", NOT_ONE) from error
    if (head.schema, head.features_version) != (SCHEMA, FEATURES_VERSION):
        raise InputError(
            f"{path} holds features of version {head.features_version}; this is {FEATURES_VERSION}",
            "Time the programs again.",
        )
    return RealTimings(head, programs)


class RealJournal:
    """A journal open for writing; ``done``: names of the programs in it."""

    def __init__(self, file: TextIO, done: set[str]) -> None:
        self.done = done
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, head: RealHead) -> Iterator[RealJournal]:
        """Open or go on with a journal.

        Raises:
            InputError: it belongs to another experiment.
            AgentError: it is damaged, or cannot be written. BusyError: another run writes to it.
        """
        with alone_at(path) as file:
            lines = whole_lines(path)
            if lines and read_timings(path).head != head:
                raise InputError(f"{path} was begun with another list or other settings", ANOTHER)
            if not lines:
                write_line(file, asdict(head))
            yield cls(file, {line["name"] for line in lines[1:]})

    def add(self, program: RealProgram) -> None:
        """Keep what was found of a program; it is on the disk when this returns."""
        write_line(self._file, asdict(program))
        self.done.add(program.name)
