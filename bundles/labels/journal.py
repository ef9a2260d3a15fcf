"""What was timed so far: one program a line of JSON, synced; the first line says for which target.

A run that was stopped goes on after the last whole line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from agent.errors import AgentError, BusyError
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.system.refused import lock_file
from bundles.labels.labels import Row

Line = dict[str, Any]  # of JSON


@dataclass(frozen=True)
class TimedVersion:
    """A version of a program with its time; all zero where ``outcome`` says why there is none."""

    schedule: str
    outcome: str
    seconds: float
    log_speedup: float
    low: float
    high: float
    rounds: int
    sharing: str = ""
    disturbed: float = 0.0


@dataclass(frozen=True)
class TimedProgram:
    """A line of the journal: a program as label files name it, its versions, and it as C."""

    corpus: str
    number: int
    family: str
    program: str
    rows: Sequence[TimedVersion]
    source: str = ""

    @classmethod
    def from_json(cls, line: Line) -> Self:
        """Read what ``asdict`` gave."""
        return cls(**{**line, "rows": [TimedVersion(**row) for row in line["rows"]]})

    def labels(self, seed: int) -> list[Row]:
        """Rows of a label file."""
        about: Row = {
            "program": self.program,
            "family": self.family,
            "corpus": self.corpus,
            "number": self.number,
            "seed": seed,
        }
        sources = (self.source if row.schedule == ORIGINAL else "" for row in self.rows)
        return [
            {**about, **asdict(row), "source": source}
            for row, source in zip(self.rows, sources, strict=True)
        ]


@dataclass(frozen=True)
class JournalHead:
    """What a journal is for: another experiment may not go on with it."""

    seed: int
    schedules: int
    target: str


class LabelJournal:
    """The journal of one target, open for writing."""

    def __init__(self, file: TextIO, head: JournalHead, timed: list[TimedProgram]) -> None:
        self.head, self._timed = head, timed
        self.done = {(program.corpus, program.number) for program in timed}
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, head: JournalHead) -> Iterator[LabelJournal]:
        """Open or go on with a journal.

        Raises:
            AgentError: it belongs to another experiment, is damaged, or cannot be written.
            BusyError: another run writes to it.
        """
        with alone_at(path) as file:
            lines = whole_lines(path)
            if lines and lines[0] != asdict(head):
                raise AgentError(
                    f"{path} was begun with other settings: {lines[0]}",
                    "Give the same seed and schedules to go on, or another --out to start anew.",
                )
            if not lines:
                write_line(file, asdict(head))
            yield cls(file, head, [TimedProgram.from_json(line) for line in lines[1:]])

    def add(self, timed: TimedProgram) -> None:
        """Keep a program's rows; they are on the disk when this returns."""
        write_line(self._file, asdict(timed))
        self._timed.append(timed)
        self.done.add((timed.corpus, timed.number))

    def timed(self, corpus: str, number: int) -> TimedProgram | None:
        """What is known of a program."""
        same = (t for t in self._timed if (t.corpus, t.number) == (corpus, number))
        return next(same, None)

    def labels(self) -> list[Row]:
        """Everything as rows of a label file; of programs drawn twice, the first."""
        first = {timed.program: timed for timed in reversed(self._timed)}
        kept = [timed for timed in self._timed if timed is first[timed.program]]
        return [row for timed in kept for row in timed.labels(self.head.seed)]


@contextlib.contextmanager
def alone_at(path: Path) -> Iterator[TextIO]:
    """``path`` open for more lines, locked: two runs would time beside each other.

    Raises:
        AgentError: it cannot be written.
        BusyError: another run has it open.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a", encoding="utf-8"))
            lock_file(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, path.parent)
        except BlockingIOError as error:
            hint = "Wait for it to end, or choose another --out."
            raise BusyError(f"another run writes to {path}", hint) from error
        except OSError as error:
            raise AgentError(f"cannot write {path}: {error.strerror}", "Choose --out.") from error
        yield file


def write_line(file: TextIO, line: object) -> None:
    """Add a line to a journal; it is on the disk when this returns."""
    file.write(json.dumps(line) + "\n")
    file.flush()
    os.fsync(file.fileno())


def whole_lines(path: Path) -> list[Line]:
    """The lines of a journal that were written whole; a torn last one is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise AgentError(f"{path} is damaged: {error}", "Move it away to start anew.") from error
