"""Timing the labelled corpus on this machine: random programs, the fixed set, paired rounds.

Every program is measured whole (as written and all its schedules, in one worker) and journalled
(``journal``). At the end the journal becomes a Parquet file (``labels``). Nothing that names the
machine is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import AgentError, CompilerError, ScheduleError
from agent.kernels.fixed_set import fixed_variants, kernels, load_kernel
from agent.loopnest.emitter.emit import emit, emit_source
from agent.loopnest.program import Program, loops
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.cache import Cache
from agent.measure.compiler import Compiler, working_compiler
from agent.measure.machine import Machine, read_machine
from agent.measure.runner import Runner
from agent.measure.session import TimingSettings
from agent.measure.timing import Outcome, Timing
from agent.measure.toolchain import Toolchain, family_of
from agent.measure.worker_runner import WorkerRunner
from agent.system.refused import lock_file
from bundles.labels.journal import JournalHead, LabelJournal, TimedProgram, TimedVersion
from bundles.labels.labels import write_labels
from bundles.labels.programs import FIXED, corpus_program, program_digest, scheduled
from bundles.labels.target import Target
from bundles.labels.units import UnitCompiler

Say = Callable[[str], None]
CHUNK = 32  # programs compiled at once, so that nothing compiles while one is timed
CACHE_BYTES = 1 << 30
QUICK = TimingSettings(
    sample_s=0.002,
    rounds=3,
    min_rounds=3,
    extra_rounds=1,
    shared_rounds=6,
    limit_s=2.0,
    slow_s=0.05,
)


@dataclass(frozen=True)
class Campaign:
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
class ProgramToTime:
    """A program to time, with its schedules; the first one is the program as written."""

    corpus: str
    number: int
    family: str
    program: Program
    schedules: tuple[str, ...]
    versions: tuple[Program, ...]


def programs_to_time(campaign: Campaign, numbers: Sequence[tuple[str, int]]) -> list[ProgramToTime]:
    """The items of (corpus, number); programs too complex to analyse have no schedules."""
    return [_item(campaign, corpus, number) for corpus, number in numbers]


def _item(campaign: Campaign, corpus: str, number: int) -> ProgramToTime:
    if corpus == FIXED:
        kernel = kernels()[number]
        program, family, count = load_kernel(kernel), kernel.name, campaign.kernel_schedules
        wanted = {str(v.schedule) for v in fixed_variants() if v.kernel.name == kernel.name}
    else:
        program = corpus_program(campaign.seed, number)
        family, count, wanted = program.name, campaign.schedules, set()
    try:
        found = {str(s): p for s, p in candidate_schedules(program, count, seed=number)}
    except ScheduleError:
        found = {ORIGINAL: program}
    found |= {text: scheduled(program, text) for text in sorted(wanted - set(found))}
    found = {s: p for s, p in found.items() if s == ORIGINAL or _writable(p)}
    return ProgramToTime(corpus, number, family, program, tuple(found), tuple(found.values()))


def _writable(program: Program) -> bool:
    try:
        emit(program)
    except ScheduleError:
        return False
    return True


def measure_labels(
    campaign: Campaign,
    out: Path,
    compiler: str | None,
    flags: Sequence[str] | None,
    say: Say,
    lock: Path | None = None,
) -> list[Path]:
    """Time the campaign; the files written, one a number of threads.

    Args:
        campaign: what to time.
        out: directory of the label files and of the journals they are made from.
        compiler: as for ``working_compiler``.
        flags: as for ``working_compiler``.
        say: receives progress lines.
        lock: held exclusively (flock) while something is timed, shared while compiling.

    Raises:
        AgentError: no compiler, more threads than there are CPUs, a journal of another campaign, or
            ``out`` cannot be written.
    """
    toolchain, machine = UnitCompiler.of(working_compiler(compiler, flags)), read_machine()
    _check(campaign, machine)
    out.mkdir(parents=True, exist_ok=True)
    targets = [target_of(campaign.machine, machine, toolchain, t) for t in campaign.threads]
    with contextlib.ExitStack() as stack:
        opened = (LabelJournal.open(_journal(out, t), _head(campaign, t)) for t in targets)
        journals = [stack.enter_context(journal) for journal in opened]
        timed_with = list(zip(campaign.threads, journals, strict=True))
        _measure_all(campaign, toolchain, machine, timed_with, say, lock)
        paths = [out / f"{t.name}.parquet" for t in targets]
        for path, target, journal in zip(paths, targets, journals, strict=True):
            write_labels(path, target, journal.labels())
    return paths


def _check(campaign: Campaign, machine: Machine) -> None:
    check_machine_name(campaign.machine)
    if max(campaign.threads) > machine.threads or min(campaign.threads) < 1:
        raise AgentError(f"this machine has {machine.threads} CPUs to offer", "Choose --threads.")


def check_machine_name(name: str) -> None:
    """AgentError where ``name`` does not do as that of a class of machine: it is published."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", name):
        hint = "Use lower-case letters, digits, dots and dashes, such as zen5-vm."
        raise AgentError(f"{name!r} does not do as the name of a class of machine", hint)


def _journal(out: Path, target: Target) -> Path:
    return out / f".{target.name}.journal"


def _head(campaign: Campaign, target: Target) -> JournalHead:
    return JournalHead(campaign.seed, campaign.schedules, target.name)


def target_of(name: str, machine: Machine, toolchain: Toolchain, threads: int) -> Target:
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
    campaign: Campaign,
    toolchain: Compiler,
    machine: Machine,
    targets: Sequence[tuple[int, LabelJournal]],
    say: Say,
    lock: Path | None,
) -> None:
    wanted = [(FIXED, n) for n in range(len(kernels()) if campaign.kernel_schedules else 0)]
    wanted += [("random", n) for n in range(campaign.programs)]
    left = [w for w in wanted if any(w not in journal.done for _, journal in targets)]
    started, total = time.monotonic(), len(left)
    for start in range(0, total, CHUNK):
        chosen = programs_to_time(campaign, left[start : start + CHUNK])
        with tempfile.TemporaryDirectory(prefix="labels-", dir=_roomy()) as place:
            cache = Cache(Path(place), CACHE_BYTES)
            with _locked(lock, exclusive=False):
                runners = [_runner(toolchain, machine, cache, t) for t, _ in targets]
                for runner in runners:  # the second finds everything in the cache
                    runner.prepare([v for item in chosen for v in item.versions])
            with _locked(lock, exclusive=True):
                for item in chosen:
                    _time_on_all(item, list(zip(runners, targets, strict=True)), campaign.budget_s)
        done, spent = start + len(chosen), time.monotonic() - started
        left_s = spent / done * (total - done)
        say(f"{done}/{total} programs, {spent:.0f} s, about {left_s:.0f} s left")


def _time_on_all(
    item: ProgramToTime, places: Sequence[tuple[Runner, tuple[int, LabelJournal]]], budget_s: float
) -> None:
    """Time a program on each target; versions without a parallel loop once, with one thread."""
    alone: TimedProgram | None = None
    for runner, (threads, journal) in sorted(places, key=lambda place: place[1][0]):
        found = journal.timed(item.corpus, item.number)
        if found is None:
            found = _timed_besides(runner, item, alone, budget_s)
            journal.add(found)
        if threads == 1:
            alone = found


def _timed_besides(
    runner: Runner, item: ProgramToTime, alone: TimedProgram | None, budget_s: float
) -> TimedProgram:
    """A program, given what it takes with one thread where that is known."""
    if alone is None:
        return timed(runner, item, budget_s)
    part = parallel_part(item)
    return completed(timed(runner, part, budget_s), alone) if len(part.versions) > 1 else alone


def parallel_part(item: ProgramToTime) -> ProgramToTime:
    """The item with its versions that have a parallel loop, and the program as written."""
    pairs = zip(item.schedules, item.versions, strict=True)
    kept = [(s, v) for s, v in pairs if s == ORIGINAL or any(x.parallel for _, x in loops(v.body))]
    schedules, versions = zip(*kept, strict=True)
    return replace(item, schedules=schedules, versions=versions)


def completed(found: TimedProgram, alone: TimedProgram) -> TimedProgram:
    """Timings with several threads, with those of serial versions as they were with one."""
    known = {row.schedule: row for row in found.rows}
    return replace(found, rows=[known.get(row.schedule, row) for row in alone.rows])


def _roomy() -> str | None:
    """Compiled code that lives for a minute goes to memory where there is a place for it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  mkdtemp in it


def _runner(toolchain: Compiler, machine: Machine, cache: Cache, threads: int) -> Runner:
    return WorkerRunner(toolchain, cache, QUICK, replace(machine, threads=threads))


def timed(runner: Runner, item: ProgramToTime, budget_s: float) -> TimedProgram:
    """A program with one row a version; a version that failed says why."""
    try:
        found = runner.measure(item.versions[0], item.versions[1:], budget_s=budget_s)
        timings = zip(item.schedules, (found.base, *found.timings), strict=True)
        rows = [timed_version(schedule, timing) for schedule, timing in timings]
    except (CompilerError, ScheduleError) as error:
        rows = [timed_version(ORIGINAL, Timing(Outcome.COMPILE_FAILED, detail=error.message))]
    name, source = program_digest(item.program), emit_source(item.program)
    return TimedProgram(item.corpus, item.number, item.family, name, rows, source)


def timed_version(schedule: str, timing: Timing) -> TimedVersion:
    """A timing of a schedule, as journals hold it."""
    if timing.outcome != Outcome.OK:
        return TimedVersion(schedule, str(timing.outcome), 0.0, 0.0, 0.0, 0.0, timing.rounds)
    return TimedVersion(
        schedule,
        str(timing.outcome),
        float(timing.seconds),
        float(timing.log_speedup),
        float(timing.low),
        float(timing.high),
        timing.rounds,
        str(timing.sharing),
        float(timing.disturbed),
    )


@contextlib.contextmanager
def _locked(path: Path | None, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock; who waits for it holds the gate, so that newcomers cannot starve him."""
    if path is None:
        yield
        return
    with path.open("a") as file, path.with_name(f"{path.name}.gate").open("a") as gate:
        lock_file(gate.fileno(), fcntl.LOCK_EX, path.parent)
        lock_file(file.fileno(), fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, path.parent)
        if not exclusive:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield
