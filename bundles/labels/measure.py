"""Timing the labelled corpus on this machine: random programs, the fixed set, paired rounds.

Every program is measured whole (as written and all its schedules, in one worker) and journalled as
one line of JSON, synced; a run that was stopped goes on after the last whole line. At the end the
journal becomes a Parquet file (``labels``). Nothing that names the machine is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import AgentError, CompilerError, ScheduleError
from agent.kernels.fixed_set import fixed_variants, kernels, load_kernel
from agent.loopnest.emitter.emit import emit
from agent.loopnest.program import Program
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.schedule import ORIGINAL, parse_schedule
from agent.loopnest.schedules.transform import apply
from agent.measure.cache import Cache
from agent.measure.compiler import Compiler, find_compiler
from agent.measure.machine import Machine, read_machine
from agent.measure.runner import Runner
from agent.measure.session import TimingSettings
from agent.measure.timing import Outcome, Timing
from agent.measure.toolchain import family_of
from agent.measure.worker_runner import WorkerRunner
from bundles.labels.labels import FIXED, Target, corpus_program, digest, write_labels

Say = Callable[[str], None]
CHUNK = 32  # programs compiled at once, so that nothing compiles while one is timed
CACHE_BYTES = 1 << 30
QUICK = TimingSettings(
    sample_s=0.002,
    rounds=3,
    min_rounds=3,
    extra_rounds=1,
    limit_s=2.0,
    slow_s=0.05,
)


@dataclass(frozen=True)
class Plan:
    """What to time.

    Attributes:
        machine: a name for this class of machine, such as ``zen5-vm``: it is published.
        programs: how many random programs; ``schedules``: of each, the program as written included.
        kernel_schedules: of each kernel of the fixed set (0: none of them).
        seed: of the corpus.
        threads: one target for each of these.
        budget_s: wall time to aim for per program (three rounds are always run).
    """

    machine: str
    programs: int = 2_000
    schedules: int = 16
    kernel_schedules: int = 12
    seed: int = 0
    threads: tuple[int, ...] = (1,)
    budget_s: float = 0.5


@dataclass(frozen=True)
class Item:
    """A program to time, with its schedules; the first one is the program as written."""

    corpus: str
    number: int
    family: str
    program: Program
    schedules: tuple[str, ...]
    versions: tuple[Program, ...]


def items(plan: Plan, numbers: Sequence[tuple[str, int]]) -> list[Item]:
    """The items of (corpus, number); programs too complex to analyse have no schedules."""
    return [_item(plan, corpus, number) for corpus, number in numbers]


def _item(plan: Plan, corpus: str, number: int) -> Item:
    if corpus == FIXED:
        kernel = kernels()[number]
        program, family, count = load_kernel(kernel), kernel.name, plan.kernel_schedules
        wanted = {str(v.schedule) for v in fixed_variants() if v.kernel.name == kernel.name}
    else:
        program = corpus_program(plan.seed, number)
        family, count, wanted = program.name, plan.schedules, set()
    try:
        found = {str(s): p for s, p in candidate_schedules(program, count, seed=number)}
    except ScheduleError:
        found = {ORIGINAL: program}
    for text in sorted(wanted - set(found)):
        version = program
        for step in parse_schedule(text).steps:
            version = apply(version, step)
        found[text] = version
    found = {s: p for s, p in found.items() if s == ORIGINAL or _writable(p)}
    return Item(corpus, number, family, program, tuple(found), tuple(found.values()))


def _writable(program: Program) -> bool:
    try:
        emit(program)
    except ScheduleError:
        return False
    return True


def measure(
    plan: Plan,
    out: Path,
    compiler: str | None,
    flags: Sequence[str] | None,
    say: Say,
    lock: Path | None = None,
) -> list[Path]:
    """Time the plan; the files written, one a number of threads.

    Args:
        plan: what to time.
        out: directory of the label files and of the journals they are made from.
        compiler: as for ``find_compiler``.
        flags: as for ``find_compiler``.
        say: receives progress lines.
        lock: held exclusively (flock) while something is timed, shared while compiling.

    Raises:
        AgentError: no compiler, more threads than there are CPUs, a journal of another plan, or
            ``out`` cannot be written.
    """
    toolchain, machine = find_compiler(compiler, flags), read_machine()
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", plan.machine):
        hint = "Use lower-case letters, digits, dots and dashes, such as zen5-vm."
        raise AgentError(f"{plan.machine!r} does not do as the name of a class of machine", hint)
    if max(plan.threads) > machine.threads or min(plan.threads) < 1:
        raise AgentError(f"this machine has {machine.threads} CPUs to offer", "Choose --threads.")
    out.mkdir(parents=True, exist_ok=True)
    targets = [describe(plan.machine, machine, toolchain, t) for t in plan.threads]
    with contextlib.ExitStack() as stack:
        journals = [
            stack.enter_context(Journal.open(out / f".{t.name}.journal", plan, t)) for t in targets
        ]
        _measure_all(
            plan, toolchain, machine, list(zip(plan.threads, journals, strict=True)), say, lock
        )
        paths = [out / f"{t.name}.parquet" for t in targets]
        for path, target, journal in zip(paths, targets, journals, strict=True):
            write_labels(path, target, journal.rows())
    return paths


def describe(name: str, machine: Machine, toolchain: Compiler, threads: int) -> Target:
    """The anonymous description of a target."""
    family = family_of(toolchain.version)
    telling = [f for f in toolchain.flags if f.startswith(("-O", "-march=", "-mcpu="))]
    short = "-".join(
        f.removeprefix("-").removeprefix("march=").removeprefix("mcpu=") for f in telling
    )
    numbers = [w for w in toolchain.version.split() if w[:1].isdigit()]
    return Target(
        name=f"{name}-{family}-{short}-t{threads}",
        machine=name,
        architecture=machine.architecture,
        level=machine.level,
        simd_bytes=toolchain.vector_bytes(),
        threads=threads,
        l1=machine.caches.get(1, 0),
        l2=machine.caches.get(2, 0),
        l3=machine.caches.get(3, 0),
        virtual=machine.virtual,
        compiler=family,
        version=numbers[0] if numbers else "",
        flags=toolchain.flags,
    )


def _measure_all(
    plan: Plan,
    toolchain: Compiler,
    machine: Machine,
    targets: Sequence[tuple[int, Journal]],
    say: Say,
    lock: Path | None,
) -> None:
    wanted = [(FIXED, n) for n in range(len(kernels()) if plan.kernel_schedules else 0)]
    wanted += [("random", n) for n in range(plan.programs)]
    left = [w for w in wanted if any(w not in journal.done for _, journal in targets)]
    started, total = time.monotonic(), len(left)
    for start in range(0, total, CHUNK):
        chosen = items(plan, left[start : start + CHUNK])
        with tempfile.TemporaryDirectory(prefix="labels-", dir=_roomy()) as place:
            cache = Cache(Path(place), CACHE_BYTES)
            with _locked(lock, exclusive=False):
                runners = [_runner(toolchain, machine, cache, t) for t, _ in targets]
                for runner in runners:  # the second finds everything in the cache
                    runner.prepare([v for item in chosen for v in item.versions])
            with _locked(lock, exclusive=True):
                for item in chosen:
                    for runner, (_, journal) in zip(runners, targets, strict=True):
                        if (item.corpus, item.number) not in journal.done:
                            journal.add(item, timed(runner, item, plan.budget_s))
        done, spent = start + len(chosen), time.monotonic() - started
        left_s = spent / done * (total - done)
        say(f"{done}/{total} programs, {spent:.0f} s, about {left_s:.0f} s left")


def _roomy() -> str | None:
    """Compiled code that lives for a minute goes to memory where there is a place for it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  mkdtemp in it


def _runner(toolchain: Compiler, machine: Machine, cache: Cache, threads: int) -> Runner:
    return WorkerRunner(toolchain, cache, QUICK, replace(machine, threads=threads))


def timed(runner: Runner, item: Item, budget_s: float) -> list[dict[str, Any]]:
    """One row a version; a version that failed says why."""
    try:
        found = runner.measure(item.versions[0], item.versions[1:], budget_s=budget_s)
    except (CompilerError, ScheduleError) as error:
        failed = Timing(Outcome.COMPILE_FAILED, detail=error.message)
        return [_row(ORIGINAL, failed)]
    timings = (found.base, *found.timings)
    return [_row(s, t) for s, t in zip(item.schedules, timings, strict=True)]


def _row(schedule: str, timing: Timing) -> dict[str, Any]:
    good = timing.outcome == Outcome.OK
    numbers = ("seconds", "log_speedup", "low", "high")
    return {
        "schedule": schedule,
        "outcome": str(timing.outcome),
        **{name: float(getattr(timing, name)) if good else 0.0 for name in numbers},
        "rounds": timing.rounds,
    }


@contextlib.contextmanager
def _locked(path: Path | None, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock; who waits for it holds the gate, so that newcomers cannot starve him."""
    if path is None:
        yield
        return
    with path.open("a") as file, path.with_name(f"{path.name}.gate").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        if not exclusive:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


class Journal:
    """What was measured so far, one program a line; the first line says for which plan."""

    def __init__(self, path: Path, lines: list[dict[str, Any]]) -> None:
        self.path, self._lines = path, lines
        self.done = {(line["corpus"], line["number"]) for line in lines}
        self._file = path.open("a", encoding="utf-8")

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, plan: Plan, target: Target) -> Iterator[Journal]:
        """Open or go on with a journal; AgentError if it belongs to another experiment."""
        head = {"seed": plan.seed, "schedules": plan.schedules, "target": target.name}
        try:
            lines = _whole_lines(path)
            if lines and lines[0] != head:
                raise AgentError(
                    f"{path} was begun with other settings: {lines[0]}",
                    "Give the same seed and schedules to go on, or another --out to start anew.",
                )
            journal = cls(path, lines[1:])
            if not lines:
                journal._write(head)
        except OSError as error:
            raise AgentError(f"cannot write {path}: {error.strerror}", "Choose --out.") from error
        with journal._file:
            yield journal

    def add(self, item: Item, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of a program; they are on the disk when this returns."""
        line = {
            "corpus": item.corpus,
            "number": item.number,
            "family": item.family,
            "program": digest(item.program),
            "rows": rows,
        }
        self._write(line)
        self._lines.append(line)
        self.done.add((item.corpus, item.number))

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """Everything as rows of ``labels``; of programs drawn twice, the first."""
        with self.path.open(encoding="utf-8") as file:
            seed = json.loads(file.readline())["seed"]
        keys = ("program", "family", "corpus", "number")
        first = {line["program"]: line for line in reversed(self._lines)}
        return [
            {**{k: line[k] for k in keys}, "seed": seed, **row}
            for line in self._lines
            if line is first[line["program"]]
            for row in line["rows"]
        ]


def _whole_lines(path: Path) -> list[dict[str, Any]]:
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
