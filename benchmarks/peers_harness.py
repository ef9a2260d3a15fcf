"""The harness of `benchmarks/peers.py`: versions are compiled, compared, and timed.

    harness = Harness.of(kernel, source, folder)  # runs the function as written
    trial = tried(peer, task, harness)  # a peer's versions, and the best of them
    rounds = final(harness, {peer.name: trial})  # seconds of a call, peers in turns

Every run is a process of its own; what takes much longer than the function as written is ended.
As many versions are made and compiled at once as there are threads; nothing else runs while one is
checked or timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from itertools import count, islice
from pathlib import Path

import numpy as np

from agent.advise.call_memory import NUMBERS, TOLERANCE, CallMemory, Numbers, UncheckedError
from agent.advise.calls import CallPlan, plan_of
from agent.advise.drivers import RUN_S, Drivers
from agent.advise.own_function import timing_case
from agent.advise.splice import SourceRegion
from agent.advise.verify import comparing_case
from agent.arrays import Array
from agent.errors import AgentError
from agent.measure.compiler import Compiler
from agent.system.child import ChildRun
from benchmarks.peers_protocol import ENVIRONMENT, THREADS, Kernel, Peer, PeerError, Task, Version

WRITTEN = (  # to compare with: two ways to round
    ("gcc", "-std=gnu11", "-O1"),
    ("gcc", "-std=gnu11", "-O2", "-march=native"),  # -O1 fuses no multiply-adds
)
COMPILES_S = 10.0  # what is not compiled then is dropped
TRY_S, ROUND_S = 0.06, 0.12  # of calls in a process, where a call takes less
ROUNDS = 5
SLOWEST = 10.0  # a version that takes so many times what -O1 takes, and 2 s, is dropped
STEADY = 0.01  # of the tolerance: two compilations of the function as written are nearer than this
HEAVY = 2.0  # of a diagonal, times the length of a row: numbers are from 0.5 to 2.5


class SteadyPlan(CallPlan):
    """Inputs whose square matrices of floats have a heavy diagonal.

    What factorises them or solves with them then stays finite, so that results can be compared.
    """

    @classmethod
    def of(cls, plan: CallPlan) -> SteadyPlan:
        """A plan with other inputs."""
        return cls(**{f.name: getattr(plan, f.name) for f in fields(plan)})

    def inputs(self, seed: int) -> bytes:
        """The bytes of all memory before a call."""
        rng = np.random.default_rng(seed)
        return b"".join(_heavy(m, m.filled(rng)).tobytes() for m in self.memory)

    def unsteady(self, one: bytes, two: bytes) -> list[Array]:
        """Where ``one`` and ``two`` are not the same: a mask for each field of each memory.

        Both are of the function as written, compiled in two ways: what differs by much more than
        rounding hangs on rounding, and says nothing of another version.
        """
        masks = []
        for (_, first), (number, second) in zip(self._views(one), self._views(two), strict=True):
            near = TOLERANCE.get(number.dtype, 0.0) * STEADY
            kind = number.dtype.is_float
            masks.append(~np.isclose(first, second, rtol=near, atol=near, equal_nan=kind))
        return masks

    def settled(self, output: bytes, one: bytes, unsteady: Sequence[Array]) -> bytes:
        """``output`` with the numbers of ``one`` where they are unsteady."""
        if not any(mask.any() for mask in unsteady):
            return output
        made = bytearray(output)
        views = zip(self._views(made), self._views(one), unsteady, strict=True)
        for (_, of), (_, first), mask in views:
            of[mask] = first[mask]
        return bytes(made)

    def _views(self, output: bytes | bytearray) -> Iterator[tuple[Numbers, Array]]:
        """The fields of each memory."""
        at = 0
        for memory in self.memory:
            whole = np.frombuffer(output, memory.dtype(), memory.count, at)
            yield from ((number, whole[f"f{number.offset}"]) for number in memory.numbers)
            at += memory.size


def _heavy(memory: CallMemory, filled: Array) -> Array:
    """The same, with something added to its diagonal where it may be a square matrix."""
    side = math.isqrt(memory.count)
    first = memory.numbers[0]
    if side > 1 and side * side == memory.count and NUMBERS[first.dtype].startswith("f"):
        filled[f"f{first.offset}"][:: side + 1] += HEAVY * side
    return filled


@dataclass
class Trial:
    """What came of a peer's versions.

    Attributes:
        best: the fastest that does what the function does, and its ``program``; ``seconds``: of a
            call of it.
        found_s: since the peer began, when that was timed; ``took_s``: when all was.
        curve: (seconds since it began, seconds of a call of the best so far).
        dropped: versions that cannot be used, and why.
    """

    best: Version | None = None
    program: Path | None = None
    seconds: float = math.inf
    found_s: float = 0.0
    took_s: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def take(self, version: Version, program: Path, seconds: float, at_s: float) -> None:
        """A version was timed."""
        if seconds < self.seconds:
            self.best, self.program = version, program
            self.seconds, self.found_s = seconds, at_s
            self.curve.append((at_s, seconds))


@dataclass
class Harness:
    """Runs versions of one kernel's function, and compares them with the function as written.

    ``most_s``: how long a run may take.
    """

    kernel: Kernel
    plan: SteadyPlan
    folder: Path
    most_s: float = RUN_S
    expected: list[tuple[bytes, list[Array]]] = field(default_factory=list)
    made: Iterator[int] = field(default_factory=count)

    @classmethod
    def of(cls, kernel: Kernel, source: SourceRegion, folder: Path) -> Harness:
        """Of a kernel; the function as written is compiled in two ways (``WRITTEN``), and run.

        Raises:
            PeerError: it cannot be called with made-up inputs, does not compile, or fails.
        """
        try:
            plan = SteadyPlan.of(plan_of(source))
        except UncheckedError as error:
            raise PeerError(str(error)) from error
        first, second = plan.calls[:2]
        harness = cls(kernel, replace(plan, calls=(first, second, first, first)), folder)
        versions = [Version("as written", kernel.path, command) for command in WRITTEN]
        programs = [harness.build(version) for version in versions]
        began = time.monotonic()
        for number in (0, 1):
            one, two = (harness._written(program, number) for program in programs)
            harness.expected.append((one, plan.unsteady(one, two)))
        most = time.monotonic() - began
        harness.most_s = min(RUN_S, 2.0 + SLOWEST * most / 4)
        return harness

    def _written(self, program: Path, number: int) -> bytes:
        ran = self._run(program, number)
        if ran.status != 0:
            why = ran.words[:200] or f"it takes over {RUN_S:g} s"
            raise PeerError(f"the function as written fails: {why}")
        return ran.output

    def build(self, version: Version) -> Path:
        """A program that does both calls, or times the first, shortly or not.

        Raises:
            PeerError: it does not compile.
        """
        cases = [comparing_case(self.plan, call) for call in self.plan.calls[:2]]
        cases += [timing_case(self.plan, self.plan.calls[0], s) for s in (TRY_S, ROUND_S)]
        drivers = self._drivers(("timeout", f"{COMPILES_S:g}", *version.command))
        program = drivers.program(f"v{next(self.made)}", version.file, cases, version.more)
        if isinstance(program, str):
            lines = program.splitlines()
            why = next((line for line in lines if "error" in line), lines[0])
            raise PeerError(f"{version.what}: {why[:200]}")
        return program

    def built(self, version: Version) -> Path | PeerError:
        """The same, or why it does not compile."""
        try:
            return self.build(version)
        except PeerError as error:
            return error

    def _drivers(self, command: Sequence[str]) -> Drivers:
        (self.folder / "made").mkdir(exist_ok=True)
        words, kernel = tuple(command), self.kernel
        compiler = Compiler(words, "", "", (), openmp=True, identity="")
        return Drivers(self.folder, kernel.path, kernel.function, compiler, kernel.cflags, None)

    def _run(self, program: Path, number: int) -> ChildRun:
        return self._drivers(()).run(program, number, self.plan, ENVIRONMENT, self.most_s)

    def check(self, version: Version, program: Path) -> None:
        """Raises PeerError where it does something else than the function as written."""
        for number, (one, unsteady) in enumerate(self.expected):
            ran = self._run(program, number)
            if ran.status != 0:
                raise PeerError(f"{version.what}: it fails, or takes too long")
            whole = len(ran.output) == len(one)
            if not whole or not self.plan.same(one, self.plan.settled(ran.output, one, unsteady)):
                raise PeerError(f"{version.what}: other results than as written")

    def seconds(self, version: Version, program: Path, *, shortly: bool = True) -> float:
        """Of the shortest of some calls in a process of its own."""
        ran = self._run(program, 2 if shortly else 3)
        if ran.status != 0:
            raise PeerError(f"{version.what}: it fails while it is timed, or takes too long")
        return float(ran.output)


def tried(peer: Peer, task: Task, harness: Harness) -> Trial:
    """Let a peer make versions, check and time them, until there are no more or time is over.

    One at least is timed, however long it took to make it.
    """
    found, began = Trial(), time.monotonic()
    offered = peer.versions(task)
    with ThreadPoolExecutor(THREADS) as compiling:
        while some := _some(offered, found):
            programs = list(compiling.map(harness.built, some))  # all, before one is timed
            for version, program in zip(some, programs, strict=True):
                if time.monotonic() - began <= task.budget_s or found.best is None:
                    _timed(harness, version, program, found, began)
            if time.monotonic() - began > task.budget_s:
                break
    found.took_s = time.monotonic() - began
    return found


def _some(offered: Iterator[Version], found: Trial) -> list[Version]:
    """The next versions of a peer, as many as can be compiled at once."""
    some: list[Version] = []
    try:
        some.extend(islice(offered, THREADS))
    except (PeerError, AgentError) as error:
        found.dropped.append(str(error))
    return some


def _timed(
    harness: Harness, version: Version, program: Path | PeerError, found: Trial, began: float
) -> None:
    try:
        if isinstance(program, PeerError):
            raise program
        harness.check(version, program)
        seconds = harness.seconds(version, program)
    except PeerError as error:
        found.dropped.append(str(error))
    else:
        found.take(version, program, seconds, time.monotonic() - began)


def final(harness: Harness, trials: Mapping[str, Trial]) -> dict[str, list[float]]:
    """The best of each peer in turns: seconds of a call, round by round."""
    best = {name: (t.best, t.program) for name, t in trials.items() if t.best and t.program}
    rounds: dict[str, list[float]] = {name: [] for name in best}
    for number in range(ROUNDS):
        order = list(rounds) if number % 2 == 0 else list(rounds)[::-1]
        for name in order:
            try:
                rounds[name].append(harness.seconds(*best[name], shortly=False))
            except PeerError as error:  # a run that fails now and then is no version to have
                trials[name].dropped.append(str(error))
                del rounds[name]
    return rounds
