"""A log of tuning: a line of JSON a timing, that other machines and versions may add to.

A lookup takes only what was timed of the same program, on a machine of the same class, with the
same toolchain. Lines are only ever added: what this version does not know stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agent.errors import InputError
from agent.json_values import finite_object, is_number
from agent.loopnest.program import Program
from agent.measure.machine import Machine
from agent.measure.timing import Timing
from agent.measure.toolchain import Toolchain

FORMAT = 1
MAX_LOG = 64 << 20  # bytes
LARGEST, LONGEST = 20.0, 2000  # log speed-up and letters of a schedule that are believed
_FLAGS = {"rb": os.O_RDONLY, "ab+": os.O_RDWR | os.O_APPEND | os.O_CREAT}


@dataclass(frozen=True)
class LogKey:
    """What timings must have in common to be comparable, as it stands in every line.

    Attributes:
        program: digest of the loops with their sizes.
        machine: facts that decide timings, and that no one machine alone has.
        toolchain: version and flags.
    """

    program: str
    machine: Mapping[str, Any]
    toolchain: Mapping[str, Any]

    @staticmethod
    def of(program: Program, machine: Machine, toolchain: Toolchain) -> LogKey:
        """That of timing ``program`` here."""
        content = (program.arrays, program.scalars, program.temporaries, program.body)
        facts = {
            "level": machine.level,
            "simd_bytes": machine.simd_bytes,
            "threads": machine.threads,
            "caches": {f"L{level}": size for level, size in sorted(machine.caches.items())},
        }
        compiled = {"version": toolchain.version, "flags": list(toolchain.flags)}
        return LogKey(hashlib.sha256(repr(content).encode()).hexdigest(), facts, compiled)

    def line(self, schedule: str, timing: Timing, at: str) -> dict[str, Any]:
        """A timing, as it stands in the log."""
        told = {
            "format": FORMAT,
            "program": self.program,
            "schedule": schedule,
            "outcome": str(timing.outcome),
            "log_speedup": timing.log_speedup,
            "low": timing.low,
            "high": timing.high,
            "seconds": timing.seconds,
            "base_seconds": timing.base_seconds,
            "rounds": timing.rounds,
            "machine": dict(self.machine),
            "toolchain": dict(self.toolchain),
            "at": at,
        }
        return finite_object(told)


@dataclass(frozen=True)
class Found:
    """What a log holds: log speed-ups by schedule for a setting, and how many lines are others'."""

    speedups: Mapping[str, float]
    others: int
    unreadable: int


def look_up(path: Path, setting: LogKey) -> Found:
    """What was timed before in this setting; the last timing of a schedule counts.

    Raises:
        InputError: the file cannot be read.
    """
    with _opened(path, "rb", "read", "Name a tuning log.") as file:
        data = file.read(MAX_LOG + 1)
    if len(data) > MAX_LOG:
        words = f"{path} is larger than {MAX_LOG >> 20} MiB"
        raise InputError(words, "Keep the lines that are of use: `tail -n 100000`.")
    lines = data.decode("utf-8", "replace").splitlines()
    wanted = (FORMAT, setting.program, setting.machine, setting.toolchain)
    speedups, others, unreadable = dict[str, float](), 0, 0
    for read in map(_read, filter(str.strip, lines)):
        if read is None:
            unreadable += 1
        elif tuple(read.get(k) for k in ("format", "program", "machine", "toolchain")) != wanted:
            others += 1
        else:
            schedule, gain = str(read.get("schedule")), read.get("log_speedup")
            if is_number(gain) and abs(gain) <= LARGEST and len(schedule) <= LONGEST:
                speedups[schedule] = float(gain)
    return Found(speedups, others, unreadable)


@contextmanager
def _opened(path: Path, mode: str, done: str, hint: str) -> Iterator[IO[bytes]]:
    """A log while it is open; InputError where it cannot be ``done``, or is a pipe or a device."""
    try:
        descriptor = os.open(path, _FLAGS[mode] | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{path} is no plain file", hint)
        with os.fdopen(descriptor, mode) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be {done}: {error.strerror}", hint) from error


def _read(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add lines at the end; a last line that was cut off is left as it is.

    Raises:
        InputError: the file cannot be written.
    """
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    with _opened(path, "ab+", "written", "Name another with --save.") as file:
        if file.tell():
            file.seek(-1, 2)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode())


def lines_of(
    setting: LogKey, texts: Sequence[str], timings: Sequence[Timing], at: str
) -> list[dict[str, Any]]:
    """The lines of timings made at one time."""
    return [setting.line(text, timing, at) for text, timing in zip(texts, timings, strict=True)]
