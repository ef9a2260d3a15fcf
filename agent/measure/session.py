"""One worker's life: set up, check every program, size the samples, run paired rounds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import MeasureError
from agent.measure.evidence import Round, disturbances
from agent.measure.machine import Machine
from agent.measure.plan import Arguments
from agent.measure.shots import Shot, Shots
from agent.measure.worker import RefusedError, Worker, environment

BASE, TWIN, FIRST_VARIANT = 0, 1, 2
ADDRESS_SLACK = 1 << 30  # libraries, stacks, malloc
ADDRESS_PER_THREAD = 256 << 20  # a stack and a malloc arena
BYTES_PER_S = 2e8  # at least this fast: filling, copying, comparing
START_S = 5.0
RESOLUTION_S = 1e-10
LOOK_EVERY_S = 0.025
SLEEP_S = 2e-3  # SLEEP_NS of the worker
CLOCKS_DIFFER, CLOCK_SLACK_S = 1.05, 1e-3  # the worker's and ours: one is slewed by NTP
PATIENCE = 8.0  # a round may take so many times what its programs took before


@dataclass(frozen=True, slots=True)
class TimingSettings:
    """How to measure.

    Attributes:
        sample_s: shortest sample; executions are repeated until one lasts that long.
        rounds: paired rounds wanted. 9 gives intervals of 82.0 % and 96.1 % coverage.
            0: results are compared, nothing is timed.
        min_rounds: at least so many, whatever the budget.
        early_rounds: from so many rounds on, stop once every 80 % interval of a log-ratio is
            at most ``early_width`` wide (the rule sees widths only, never which way they lie).
        early_width: see there.
        extra_rounds: rounds that may be run in place of disturbed ones.
        shared_rounds: rounds beyond, where others use the cores and have not left them alone
            long enough yet to know what each program takes then.
        limit_s: longest single execution; a program that takes longer is given up.
        slow_s: programs slower than this take part in the first ``min_rounds`` only.
        memory_share: of the available memory that the arguments may take.
        budget_s: wall time to aim for; None: as long as the rounds take.
        placements: workers that the rounds wanted are shared out to, each with arrays in other
            pages. Where a cache tells addresses apart, times hang on them, and those of one
            worker say nothing of another's.
        place_bytes: arrays that are larger, or executions longer than ``place_s``, are set up once.
        place_s: see there.
    """

    sample_s: float = 0.010
    rounds: int = 9
    min_rounds: int = 5
    early_rounds: int = 7
    early_width: float = 0.01
    extra_rounds: int = 5
    shared_rounds: int = 20
    limit_s: float = 10.0
    slow_s: float = 0.25
    memory_share: float = 0.8
    budget_s: float | None = None
    placements: int = 3
    place_bytes: int = 64 << 20
    place_s: float = 0.05


class OutOfMemoryError(Exception):
    """The arguments do not fit."""


class LoadError(Exception):
    """A compiled program cannot be loaded; ``program`` says which."""

    def __init__(self, program: int, words: str) -> None:
        super().__init__(words)
        self.program = program


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """One run from the pristine state, compared with the base's.

    Attributes:
        seconds: of this first execution.
        max_error: see ``Timing``; ``bad_array``: first array beyond its tolerance, or -1.
        checksum: of the outputs.
        not_finite: how many elements of the base's outputs are NaN or infinite.
    """

    seconds: float
    max_error: float
    bad_array: int
    checksum: str
    not_finite: int = 0


class WorkerSession:
    """A worker with the arguments and programs of one job loaded.

    Programs are called by number: 0 the base, 1 the base again, 2 + i the i-th variant.

    Raises:
        OutOfMemoryError, LoadError: see there. MeasureError: the worker does not work.
        WorkerExitError, WorkerTimeoutError: from every method (``program_of`` translates).
    """

    def __init__(
        self, worker: Worker, machine: Machine, settings: TimingSettings, arguments: Arguments
    ) -> None:
        self._worker, self._machine, self._settings = worker, machine, settings
        self._arguments = arguments
        self._cpus = machine.pinning_order()
        self._slots: list[int] = []
        self.seconds: dict[int, float] = {}
        self.unpinned = False

    def set_up(self, libraries: dict[int, Path | str], cpu_limit_s: float) -> None:
        """Pin, limit, make the arguments, load ``libraries`` (program -> what ``load`` takes)."""
        self._tick = 1.0 / self._worker.ready()
        _require_running_clock(float(self._worker.ask("clock", START_S)[1]))
        copying = START_S + self._arguments.bytes / BYTES_PER_S
        pinned = self._worker.ask("cpus " + " ".join(map(str, self._cpus)), START_S)
        self.unpinned = pinned != ["ok"]
        space = self._arguments.bytes + ADDRESS_SLACK + ADDRESS_PER_THREAD * len(self._cpus)
        seconds = int(cpu_limit_s * len(self._cpus)) + 1
        for command in (f"limits {space} {seconds}", *self._arguments.commands(), "seal"):
            if self._worker.ask(command, copying) == ["nomem"]:
                raise OutOfMemoryError(f"{self._arguments.bytes} bytes for the arrays")
        for program, library in libraries.items():
            try:
                self._worker.ask(f"load {library}", START_S)
            except RefusedError as error:
                raise LoadError(program, str(error)) from error
            self._slots.append(program)

    def program_of(self, slot: int) -> int:
        """The program in a worker's slot, -1 where there is none."""
        return self._slots[slot] if 0 <= slot < len(self._slots) else -1

    def check(self, program: int) -> CheckedRun:
        """Run ``program`` once from the pristine state; the base first, it is the reference."""
        slot = self._slots.index(program)
        words = self._ask(f"check {slot}", "check", 6, self._check_limit())
        seconds = _seconds(words[1])
        return CheckedRun(seconds, float(words[2]), int(words[3]), words[4], int(words[5]))

    def disturb(self, seed: int, rounding: str) -> tuple[float, ...]:
        """How far the base's result is off, for each array, if it is disturbed.

        Args:
            seed: decides which inputs get another last bit; 0: none.
            rounding: of its operations: ``near``, ``up`` or ``down``.
        """
        arrays = len(self._arguments.arrays)
        words = self._ask(f"disturb {seed} {rounding}", "disturb", 2 + arrays, self._check_limit())
        return tuple(float(w) for w in words[2:])

    def tolerate(self, tolerances: Sequence[float]) -> None:
        """Compare with other tolerances from now on, one for each array."""
        self._ask("tolerate " + " ".join(map(repr, tolerances)), "ok", 1, START_S)

    def make_dominant(self) -> None:
        """Give the programs other inputs: matrices dominated by their diagonals."""
        copying = START_S + self._arguments.bytes / BYTES_PER_S
        self._ask("dominant", "ok", 1, copying)

    def _check_limit(self) -> float:
        return self._settings.limit_s + 1.0 + 3 * self._arguments.bytes / BYTES_PER_S

    def lowest_reading(self, looks: int) -> float:
        """The lowest of all CPUs: that of an undisturbed core where one was seen.

        Args:
            looks: how often, some time apart.
        """
        return min(lowest_by_cpu(self._worker, looks))

    def tune(self, program: int, *, parallel: bool, known_s: float = 0.0) -> float:
        """Set how many executions make one sample; seconds of an execution.

        Args:
            program: its number.
            parallel: whether it uses all cores.
            known_s: what an execution took in an earlier worker; 0: it is tried.
        """
        limit = self._settings.limit_s * 2 + 1.0
        slot = self._slots.index(program)
        command = f"tune {slot} {self._settings.sample_s!r} {int(parallel)} {known_s!r}"
        words = self._ask(command, "tune", 3, limit + self._arguments.bytes / BYTES_PER_S)
        self.seconds[program] = _seconds(words[2])
        return self.seconds[program]

    def cost(self, programs: Sequence[int]) -> float:
        """Expected seconds of one round of ``programs``."""
        restored = sum(a.bytes for a in self._arguments.arrays if a.restored)
        sample = self._settings.sample_s
        return sum(max(1.15 * sample, self.seconds[p]) + restored / 4e9 for p in programs)

    def round(self, order: Sequence[int]) -> Round:
        """Time every program in ``order`` once, with the evidence around it."""
        command = "round " + " ".join(str(self._slots.index(p)) for p in order)
        copying = len(order) * self._arguments.bytes / BYTES_PER_S
        limit = PATIENCE * self.cost(order) + self._settings.limit_s + copying
        begun = time.monotonic()
        words = self._ask(command, "round", None, limit)
        _require_steady_clock(float(words[1]), time.monotonic() - begun)
        samples = _samples(words[7:], len(order))
        observed = Round(
            seconds=tuple((p, s.seconds) for p, s in zip(order, samples, strict=True)),
            samples=samples,
            wall_s=_seconds(words[1]),
            cpu_s=float(words[2]),
            steal_s=int(words[3]) * self._tick,
            busy_s=int(words[4]) * self._tick,
            switches=int(words[5]),
            others=int(words[6]),
        )
        alone = len(self._cpus) == self._machine.cpus_online
        return replace(observed, reasons=disturbances(observed, len(self._cpus), alone))

    def close(self) -> int:
        """End the worker; how many lines of garbage it wrote."""
        self._worker.close()
        return self._worker.garbage

    def _ask(self, command: str, word: str, length: int | None, limit_s: float) -> list[str]:
        words = self._worker.ask(command, limit_s)
        if words[0] != word or length not in (None, len(words)):
            raise _not_understood(words)
        return words


def _samples(words: Sequence[str], count: int) -> tuple[Shots, ...]:
    """``count`` samples as the worker writes them: number of shots, five words a shot."""
    samples, rest = [], iter(words)
    try:
        for _ in range(count):
            count_of_shots = int(next(rest))
            samples.append(Shots(tuple(_shot(rest) for _ in range(count_of_shots))))
    except (StopIteration, RuntimeError, ValueError) as error:
        raise _not_understood(words) from error
    if next(rest, None) is not None or not all(s.shots for s in samples):
        raise _not_understood(words)
    return tuple(samples)


def _shot(words: Iterator[str]) -> Shot:
    seconds, main, inside, every = (float(next(words)) for _ in range(4))
    if seconds < 0:
        raise _clock_jumps(f"an execution took {seconds:.3g} s")
    return Shot(max(seconds, RESOLUTION_S), main, inside, every, switches=int(next(words)))


def _require_steady_clock(told_s: float, passed_s: float) -> None:
    """Refuse a round that took longer by the worker's clock than by ours, or less than nothing.

    Less is no evidence: this process may have had to wait for its CPU.
    """
    if not 0 <= told_s <= passed_s * CLOCKS_DIFFER + CLOCK_SLACK_S:
        raise _clock_jumps(f"a round of {passed_s:.3g} s took {told_s:.3g} s")


def _require_running_clock(told_s: float) -> None:
    """Refuse a clock by which a sleep took no time: with it a round would never end."""
    if told_s < SLEEP_S / CLOCKS_DIFFER:
        raise _odd_clock("stands still", f"a sleep of {SLEEP_S:g} s took {told_s:.3g} s")


def _clock_jumps(seen: str) -> MeasureError:
    return _odd_clock("jumps", seen)


def _odd_clock(does: str, seen: str) -> MeasureError:
    return MeasureError(
        f"this machine's clock {does} (CLOCK_MONOTONIC_RAW: {seen})",
        "Timings made with it mean nothing: have the clock source looked at "
        "(/sys/devices/system/clocksource).",
    )


def _not_understood(words: Sequence[str]) -> MeasureError:
    return MeasureError(f"the measuring process answered {' '.join(words)[:200]!r}")


def _seconds(word: str) -> float:
    """A positive time; the clock's resolution where it could not tell it from zero."""
    return max(float(word), RESOLUTION_S)


def lowest_by_cpu(worker: Worker, looks: int) -> list[float]:
    """The lowest reading of every CPU, in the worker's order; ``looks``: some time apart."""
    found = []
    for look in range(looks):
        time.sleep(LOOK_EVERY_S if look else 0.0)
        found.append([float(word) for word in worker.ask("look", START_S)[1:]])
    return [min(readings) for readings in zip(*found, strict=True)]


def start_worker(executable: Path, machine: Machine) -> Worker:
    """A worker bound to the machine's usable CPUs."""
    return Worker([executable], environment(machine.pinning_order()))
