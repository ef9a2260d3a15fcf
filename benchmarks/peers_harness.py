"""The harness of `benchmarks/peers.py`: versions are compiled, compared, and timed.

    harness = Harness.of(kernel, source, folder)  # runs the function as written
    trial = tried(peer, task, harness)  # a peer's versions, and the best of them
    rounds = final(harness, {peer.name: trial})  # seconds of a call, peers in turns

Every run is a process of its own; what takes much longer than the function as written is ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from agent.advise.call_memory import NUMBERS, TOLERANCE, CallMemory, UncheckedError
from agent.advise.calls import CallPlan, plan_of
from agent.advise.drivers import RUN_S, Drivers
from agent.advise.own_function import timing_case
from agent.advise.splice import SourceRegion
from agent.advise.verify import comparing_case
from agent.arrays import Array
from agent.errors import AgentError
from agent.measure.compiler import Compiler
from agent.system.child import ChildRun
from benchmarks.peers_protocol import THREADS, Kernel, Peer, PeerError, Task, Version

WRITTEN = (  # to compare with: two ways to round
    ("gcc", "-std=gnu11", "-O1"),
    ("gcc", "-std=gnu11", "-O2", "-march=native"),  # -O1 fuses no multiply-adds
)
ENVIRONMENT = {f"{who}_NUM_THREADS": str(THREADS) for who in ("OMP", "HL")}
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

    def settled(self, output: bytes, one: bytes, two: bytes) -> bytes:
        """``output`` with the numbers of ``one`` where ``one`` and ``two`` are not the same.

        Both are of the function as written, compiled in two ways: what differs by much more than
        rounding hangs on rounding, and says nothing of another version.
        """
        made, at = bytearray(output), 0
        for memory in self.memory:
            views = (np.frombuffer(x, memory.dtype(), memory.count, at) for x in (made, one, two))
            of, first, second = views
            for number in memory.numbers:
                name, near = f"f{number.offset}", TOLERANCE.get(number.dtype, 0.0) * STEADY
                a, b = first[name], second[name]
                apart = ~np.isclose(a, b, rtol=near, atol=near, equal_nan=number.dtype.is_float)
                of[name][apart] = a[apart]
            at += memory.size
        return bytes(made)


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
        best: the fastest that does what the function does; ``seconds``: of a call of it.
        found_s: since the peer began, when that was timed; ``took_s``: when all was.
        curve: (seconds since it began, seconds of a call of the best so far).
        dropped: versions that cannot be used, and why.
    """

    best: Version | None = None
    seconds: float = math.inf
    found_s: float = 0.0
    took_s: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def take(self, version: Version, seconds: float, at_s: float) -> None:
        """A version was timed."""
        if seconds < self.seconds:
            self.best, self.seconds, self.found_s = version, seconds, at_s
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
    expected: list[tuple[bytes, bytes]] = field(default_factory=list)
    made: int = 0

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
        harness = cls(kernel, replace(plan, calls=(first, second, first)), folder)
        versions = [Version("as written", kernel.path, command) for command in WRITTEN]
        programs = [harness.build(version) for version in versions]
        began = time.monotonic()
        for number in (0, 1):
            one, two = (harness._written(program, number) for program in programs)
            harness.expected.append((one, two))
        most = time.monotonic() - began
        harness.most_s = min(RUN_S, 2.0 + SLOWEST * most / 4)
        return harness

    def _written(self, program: Path, number: int) -> bytes:
        ran = self._run(program, number)
        if ran.status != 0:
            why = ran.words[:200] or f"it takes over {RUN_S:g} s"
            raise PeerError(f"the function as written fails: {why}")
        return ran.output

    def build(self, version: Version, run_s: float = TRY_S) -> Path:
        """A program that does both calls, or times the first.

        Raises:
            PeerError: it does not compile.
        """
        self.made += 1
        compared = [comparing_case(self.plan, call) for call in self.plan.calls[:2]]
        cases = [*compared, timing_case(self.plan, self.plan.calls[0], run_s)]
        drivers = self._drivers(version.command)
        program = drivers.program(f"v{self.made}", version.file, cases, version.more)
        if isinstance(program, str):
            lines = program.splitlines()
            why = next((line for line in lines if "error" in line), lines[0])
            raise PeerError(f"{version.what}: {why[:200]}")
        return program

    def _drivers(self, command: Sequence[str]) -> Drivers:
        (self.folder / "made").mkdir(exist_ok=True)
        words, kernel = tuple(command), self.kernel
        compiler = Compiler(words, "", "", (), openmp=True, identity="")
        return Drivers(self.folder, kernel.path, kernel.function, compiler, kernel.cflags, None)

    def _run(self, program: Path, number: int) -> ChildRun:
        return self._drivers(()).run(program, number, self.plan, ENVIRONMENT, self.most_s)

    def check(self, version: Version, program: Path) -> None:
        """Raises PeerError where it does something else than the function as written."""
        for number, (one, two) in enumerate(self.expected):
            ran = self._run(program, number)
            if ran.status != 0:
                raise PeerError(f"{version.what}: it fails, or takes too long")
            whole = len(ran.output) == len(one)
            if not whole or not self.plan.same(one, self.plan.settled(ran.output, one, two)):
                raise PeerError(f"{version.what}: other results than as written")

    def seconds(self, version: Version, program: Path) -> float:
        """Of the shortest of some calls in a process of its own."""
        ran = self._run(program, 2)
        if ran.status != 0:
            raise PeerError(f"{version.what}: it fails while it is timed, or takes too long")
        return float(ran.output)


def tried(peer: Peer, task: Task, harness: Harness) -> Trial:
    """Let a peer make versions, check and time them, until there are no more or time is over."""
    found, began = Trial(), time.monotonic()
    offered = peer.versions(task)
    try:
        for version in offered:
            try:
                program = harness.build(version)
                harness.check(version, program)
                seconds = harness.seconds(version, program)
            except PeerError as error:
                found.dropped.append(str(error))
            else:
                found.take(version, seconds, time.monotonic() - began)
            if time.monotonic() - began > task.budget_s:
                break
    except (PeerError, AgentError) as error:
        found.dropped.append(str(error))
    found.took_s = time.monotonic() - began
    return found


def final(harness: Harness, trials: Mapping[str, Trial]) -> dict[str, list[float]]:
    """The best of each peer in turns: seconds of a call, round by round."""
    best = {name: t.best for name, t in trials.items() if t.best is not None}
    programs = {name: harness.build(version, ROUND_S) for name, version in best.items()}
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS):
        order = list(programs) if number % 2 == 0 else list(programs)[::-1]
        for name in order:
            try:
                rounds[name].append(harness.seconds(best[name], programs[name]))
            except PeerError as error:  # a run that fails now and then is no version to have
                trials[name].dropped.append(str(error))
                del programs[name], rounds[name]
    return rounds
