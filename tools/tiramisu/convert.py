"""The public Tiramisu timings (LOOPerSet, CC-BY-4.0) as labels of one more machine.

Every line of the file is a program with its timed schedules. Both are said anew in this project's
terms (``programs``, ``schedules``); what cannot be said is left out and counted.
The programs cannot be made again from a seed, so their features go into the file of labels.

**Time.** The smallest of a schedule's runs, not the median: of the schedules that come out the same
(their file holds some twice) the smallest times differ by 0.10 in the median, in log units, the
medians by 0.13. The half-width of the interval is the distance between smallest and median, of the
schedule and of the program as written together; ``GAP_OF_ONE_RUN`` where there was one run. A
schedule that is there twice gets an interval that holds both. The authors checked legality.
"""

from __future__ import annotations

import json
import lzma
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from agent.arrays import Singles
from agent.errors import AgentError, ScheduleError
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import features, work
from agent.loopnest.program import Program
from agent.loopnest.schedules.schedule import ORIGINAL
from bundles.labels.labels import LONGEST_S, SHORTEST_S, write_labels
from bundles.labels.programs import program_digest
from bundles.labels.target import Target
from tools.tiramisu.programs import (
    InexpressibleError,
    Source,
    field,
    malformed,
    number_of,
    read_program,
)
from tools.tiramisu.schedules import Converter

FAMILY = "tiramisu"
LONGEST_LINE = 64 << 20  # characters
MOST_PROGRAMS, MOST_SCHEDULES = 1_000_000, 100_000
GAP_OF_ONE_RUN = 0.038  # nine in ten of the schedules timed three times lie below (their file)
SAY_EVERY = 25  # programs
CHUNK = 16  # schedules lowered at once: counting skewed domains takes up to 2 MB each

# What the times speak for. The nodes are called lanka*; their data do not name the processor. Taken
# from public sources: "Xeon" (the notes that came with our copy); two sockets of 12 cores (Slurm
# scripts for lanka, such as FinchBenchmarks', reserve 24 CPUs of a node). Parallel loops gain up to
# 41 times here, so Halide's pool, as large as the CPUs the system shows, has two threads a core.
# 32 KiB of L1 and 256 KiB of L2 a core are those of every Xeon E5, 30 MiB of L3 a socket those with
# 12 cores: inferred, not confirmed. Tiramisu's autoscheduler lets Halide use AVX and SSE 4.1 and
# nothing newer (include/tiramisu/auto_scheduler/evaluator.h): vectors of 32 bytes on any of them.
# Halide is LLVM at -O3, its loop vectorizer on by default in those years (halide/Halide pull
# requests 3456 and 5019), so a loop that nobody vectorizes may still be vectorized; the facts
# that a prior reads count this compiler as clang.
TARGET = Target(
    name="tiramisu-xeon-halide-O3-avx-t48",
    machine="tiramisu-xeon",
    architecture="x86_64",
    level="x86-64-v2",
    simd_bytes=32,
    threads=48,
    l1=32 << 10,
    l2=256 << 10,
    l3=30 << 20,
    virtual=False,
    compiler="clang",
    version="halide",
    flags=("-O3", "-mavx", "-msse4.1"),
)


@dataclass
class Report:
    """What became of the file.

    Attributes:
        programs, schedules: read; ``used``: of the schedules; ``skipped``: the others, by reason.
    """

    programs: int = 0
    schedules: int = 0
    used: int = 0
    skipped: Counter[str] = attribute(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """For a machine; ``skipped`` most frequent first."""
        share = round(self.used / self.schedules, 4) if self.schedules else 0.0
        return {
            "programs": self.programs,
            "schedules": self.schedules,
            "used": self.used,
            "share_used": share,
            "skipped": dict(self.skipped.most_common()),
        }


@dataclass(frozen=True)
class Timed:
    """One schedule of a program; ``log_ms`` and the distance of the median above it."""

    text: str
    program: Program
    log_ms: float
    gap: float
    apart: float = 0.0


def load_tiramisu(path: Path, out: Path, say: Callable[[str], None]) -> Report:
    """Write the labels of the file ``path`` (JSON lines, ``.xz`` or not) to ``out``.

    Raises:
        AgentError: the file cannot be read or a line is malformed (with its number), or nothing
            in it can be used.
    """
    report = Report()
    parts: dict[str, list[Any]] = {}
    seen: set[str] = set()
    for number, line in _lines(path):
        try:
            columns = _program(line, report, seen)
        except AgentError as error:
            raise AgentError(f"{path}, line {number}: {error.message}", error.hint) from error
        for name, values in columns.items():
            parts.setdefault(name, []).append(values)
        if number % SAY_EVERY == 0:
            say(f"{number} programs, {report.used} of {report.schedules} schedules")
    if not parts:
        raise AgentError(f"{path} holds no schedule that can be used", "Fetch the file again.")
    write_labels(out, TARGET, {name: np.concatenate(values) for name, values in parts.items()})
    return report


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbers of lines, from 1, and what they hold."""
    number = 0
    try:
        with _opened(path) as file:
            while text := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(text) > LONGEST_LINE or number > MOST_PROGRAMS:
                    raise AgentError(f"{path}, line {number}: too long", "Fetch the file again.")
                yield number, json.loads(text)
    except (OSError, EOFError, lzma.LZMAError, ValueError, RecursionError) as error:
        raise AgentError(
            f"cannot read {path} after line {number}: {str(error)[:200]}",
            "It has to be JSON lines in UTF-8, as they are or packed with xz.",
        ) from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _program(line: Any, report: Report, seen: set[str]) -> Mapping[str, npt.NDArray[Any]]:
    """The columns of one program's usable schedules; none where there is none."""
    schedules = field(line, "schedules", list)
    if len(schedules) > MOST_SCHEDULES:
        malformed(f"{len(schedules)} schedules of one program are not usable")
    report.programs += 1
    report.schedules += len(schedules)
    try:
        source = read_program(field(line, "program", dict))
        name = _named(source, seen)
        timed = _timed(source, schedules, report)
        if ORIGINAL not in timed:
            raise InexpressibleError("no time of it as written")
    except InexpressibleError as reason:
        before = report.skipped.total()
        report.skipped[f"program: {reason}"] += report.schedules - report.used - before
        return {}
    report.used += len(timed)
    return _columns(name, source.program, list(timed.values()), timed[ORIGINAL])


def _named(source: Source, seen: set[str]) -> str:
    try:
        name = program_digest(source.program)
    except ScheduleError as error:
        raise InexpressibleError("it cannot be written as C") from error
    if name in seen:
        raise InexpressibleError("the same as an earlier one")
    seen.add(name)
    return name


def _timed(source: Source, schedules: list[Any], report: Report) -> dict[str, Timed]:
    """By schedule, the first time of each."""
    found: dict[str, Timed] = {}
    skipped: Counter[str] = Counter()
    converter = Converter(source, schedules)
    for data in schedules:
        try:
            new = _one(converter, data)
        except InexpressibleError as reason:
            skipped[str(reason)] += 1
            continue
        old = found.get(new.text)
        if old is None:
            found[new.text] = new
            continue
        skipped["a schedule that comes out as an earlier one"] += 1
        apart = max(old.apart, abs(new.log_ms - old.log_ms))
        found[new.text] = Timed(old.text, old.program, old.log_ms, old.gap, apart)
    if ORIGINAL in found:
        report.skipped += skipped
    return found


def _one(converter: Converter, data: Any) -> Timed:
    if data is None or field(data, "legal", bool) is False:
        raise InexpressibleError("not legal, say the authors")
    least, median = (_milliseconds(data, key) for key in ("min_ms", "median_ms"))
    if median < least:
        malformed("a median time is below the smallest")
    runs = number_of(field(data, "runs", int))
    schedule, program = converter.convert(data)
    gap = math.log(median / least) if runs > 1 else GAP_OF_ONE_RUN
    return Timed(str(schedule), program, math.log(least), gap)


def _milliseconds(data: Any, key: str) -> float:
    value = data.get(key)
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not SHORTEST_S <= value / 1e3 <= LONGEST_S:
        malformed(f"{key} is {str(value)[:40]}, which is no time")
    return float(value)


def _columns(
    name: str, program: Program, timed: list[Timed], base: Timed
) -> Mapping[str, npt.NDArray[Any]]:
    """Columns of ``bundles.labels.labels``, a row a schedule."""
    log_ms = np.array([t.log_ms for t in timed])
    gap = np.array([t.gap for t in timed])
    half = np.maximum(np.hypot(gap, base.gap), [t.apart for t in timed])
    half[[t is base for t in timed]] = max(base.gap, base.apart)
    speedup = base.log_ms - log_ms
    n = len(timed)
    return {
        "program": np.full(n, name),
        "family": np.full(n, FAMILY),
        "corpus": np.full(n, FAMILY),
        "schedule": np.array([t.text for t in timed], object),
        "outcome": np.full(n, "ok"),
        "seconds": np.exp(log_ms) / 1e3,
        "log_speedup": speedup,
        "low": speedup - half,
        "high": speedup + half,
        "work": np.full(n, float(work(lower([program]))[0])),
        "features": _features([t.program for t in timed]),
    }


def _features(programs: list[Program]) -> Singles:
    starts = range(0, len(programs), CHUNK)
    return np.concatenate([features(lower(programs[at : at + CHUNK])) for at in starts])
