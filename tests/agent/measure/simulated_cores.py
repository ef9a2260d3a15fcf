"""Cores with a hidden state, and programs on them with known answers: a session that times nothing.

Others use the second thread of a core in spells; a program is then slower by its own factor. The
clock is simulated, the spells are seeded, so that a test knows what has to come out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.measure.cores import Cores
from agent.measure.evidence import Round
from agent.measure.machine import read_machine
from agent.measure.plan import Arguments
from agent.measure.session import FIRST_VARIANT, LOOK_EVERY_S, CheckedRun, TimingSettings
from agent.measure.shots import Shot, Shots
from agent.measure.timing import Measurement
from agent.measure.trial import CompiledPrograms, Trial

UNDISTURBED, SHARED = 1.1, 1.7  # readings
SHOT_S, SAMPLE_S = 200e-6, 10e-3


@dataclass(frozen=True)
class SimulatedProgram:
    """Seconds of an execution when undisturbed, and how many times that on a shared core."""

    seconds: float
    factor: float = 1.0
    parallel: bool = False


@dataclass
class SimulatedCores:
    """Two cores that others use in spells.

    Attributes:
        busy_s: mean length of a spell in which the first core is shared; ``free_s``: between two.
        second_busy: share of the time in which the second core is shared.
        noise: standard deviation of a shot, in log units; ``reading_noise``: of a reading.
        drift: log units by which everything gets slower in a second.
        bursts: share of the shots that something interrupts for ten times their length.
        session: standard deviation of what each program differs by from one session (``seed``) to
            the next, in log units; ``neighbours``: of how much others slow programs down.
        placement: the same from one worker to the next, for where its arrays lie.
        workers: how many there were.
    """

    busy_s: float
    free_s: float
    second_busy: float = 0.0
    noise: float = 0.003
    reading_noise: float = 0.01
    drift: float = 0.0
    bursts: float = 0.0
    session: float = 0.0
    neighbours: float = 0.0
    placement: float = 0.0
    seed: int = 0
    now: float = 0.0
    workers: int = field(default=0, init=False)
    _until: float = field(default=0.0, init=False)
    shared: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.shared = self.random.random() < self.busy_s / (self.busy_s + self.free_s)
        self._until = self._spell()
        self.strength = math.exp(self.random.gauss(0, self.neighbours))
        self.placed: dict[SimulatedProgram, float] = {}
        self.moved: dict[tuple[SimulatedProgram, int], float] = {}

    def own(self, program: SimulatedProgram) -> float:
        """Seconds of an undisturbed execution in this session, by this worker."""
        if program not in self.placed:
            self.placed[program] = program.seconds * math.exp(self.random.gauss(0, self.session))
        key = program, self.workers
        if self.placement and key not in self.moved:
            self.moved[key] = math.exp(self.random.gauss(0, self.placement))
        return self.placed[program] * self.moved.get(key, 1.0)

    def run(self, work: float, factor: float) -> tuple[float, float]:
        """Do what takes ``work`` seconds undisturbed: seconds it took, share of them shared."""
        spent = busy = 0.0
        while work > 0:
            speed = 1 / factor if self.shared else 1.0
            step = min(work / speed, max(self._until - self.now, 1e-9))
            busy += self.advance(step) * step
            spent, work = spent + step, work - step * speed
        return spent, busy / spent

    def advance(self, seconds: float) -> float:
        """Let time pass; the share of it in which the first core was shared."""
        end, busy = self.now + seconds, 0.0
        while self.now < end:
            step = min(end, self._until) - self.now
            busy += step if self.shared else 0.0
            self.now += step
            if self.now >= self._until:
                self.shared = not self.shared
                self._until = self.now + self._spell()
        return busy / seconds

    def reading(self, shared: bool | float) -> float:
        level = UNDISTURBED + (SHARED - UNDISTURBED) * shared
        return level * (1 + self.random.gauss(0, self.reading_noise))

    def shot(self, program: SimulatedProgram) -> Shot:
        before = self.shared
        second = program.parallel and self.random.random() < self.second_busy
        executions = max(1, int(SHOT_S / program.seconds))
        factor = 1 + (program.factor - 1) * self.strength
        spent, share = self.run(executions * self.own(program), factor)
        if second and program.parallel:
            spent = max(spent, executions * self.own(program) * factor)
        seconds = spent / executions * (1 + self.random.gauss(0, self.noise))
        seconds *= 1 + self.drift * self.now + 10 * (self.random.random() < self.bursts)
        main = max(self.reading(before), self.reading(self.shared))
        inside = self.reading(share) if program.seconds > SHOT_S else 0.0
        every = max(main, self.reading(second)) if program.parallel else main
        return Shot(seconds, main, inside, every)

    def _spell(self) -> float:
        mean = self.busy_s if self.shared else self.free_s
        return self.random.expovariate(1 / mean) if mean else 1e-9


@dataclass
class SimulatedSession:
    """Stands in for ``session.WorkerSession``: programs 0 and 1 are the base."""

    cores: SimulatedCores
    programs: Sequence[SimulatedProgram]
    unpinned: bool = False
    seconds: dict[int, float] = field(default_factory=dict)

    def set_up(self, libraries: object, cpu_limit_s: float) -> None:  # noqa: ARG002
        """Nothing to load."""
        self.cores.workers += 1

    def check(self, program: int) -> CheckedRun:
        return CheckedRun(self.programs[program].seconds, 0.0, -1, "same")

    def disturb(self, seed: int, rounding: str) -> tuple[float, ...]:  # noqa: ARG002
        """It has no arrays."""
        return ()

    def tolerate(self, tolerances: Sequence[float]) -> None:
        """See ``disturb``."""

    def tune(self, program: int, *, parallel: bool, known_s: float = 0.0) -> float:  # noqa: ARG002
        assert parallel == self.programs[program].parallel
        self.seconds[program] = self.programs[program].seconds
        return self.seconds[program]

    def cost(self, programs: Sequence[int]) -> float:
        return SAMPLE_S * len(programs)

    def lowest_reading(self, looks: int) -> float:
        found = []
        for _ in range(looks):
            found.append(self.cores.reading(self.cores.shared))
            self.cores.advance(LOOK_EVERY_S)
        return min(found)

    def round(self, order: Sequence[int]) -> Round:
        samples = tuple(self._sample(self.programs[p]) for p in order)
        seconds = tuple((p, s.seconds) for p, s in zip(order, samples, strict=True))
        wall = self.cost(order)
        return Round(seconds, wall, wall, 0.0, wall, 0, 0, samples=samples)

    def _sample(self, program: SimulatedProgram) -> Shots:
        shots = max(1, int(SAMPLE_S / max(SHOT_S, program.seconds)))
        return Shots(tuple(self.cores.shot(program) for _ in range(shots)))

    def close(self) -> int:
        return 0


def measured_on(
    cores: SimulatedCores,
    base: SimulatedProgram,
    *versions: SimulatedProgram,
    lowest: float = math.inf,
    settings: TimingSettings | None = None,
) -> Measurement:
    """What the real ``Trial`` finds on simulated cores (``lowest``: the reading known before)."""
    programs = (base, base, *versions)
    start: Callable[[], SimulatedSession] = lambda: SimulatedSession(cores, programs)  # noqa: E731
    parallel = frozenset(p for p, known in enumerate(programs) if known.parallel)
    return Trial(
        start,  # type: ignore[arg-type]
        CompiledPrograms(
            Arguments(()), dict.fromkeys(range(FIRST_VARIANT + len(versions)), "built")
        ),
        read_machine(),
        settings or TimingSettings(),
        lambda _: None,
        Cores(lowest, parallel),
    ).measurement()
