"""A runner that times nothing: simulated machines with known answers, for tests of what uses one.

A program's true time is a formula of the program alone (``seconds_of``), every round adds seeded
noise, and what others do on the machine meanwhile is said, not made. So a test knows what has to
come out, needs no compiler, and does not depend on how fast or how quiet its machine is.

    runner = FakeRunner(noise=0.01)
    (timing,) = runner.measure(base, [version]).timings
    assert timing.log_speedup == pytest.approx(runner.log_speedup(base, version), abs=0.02)

It is an ``agent.measure.runner.Runner``; pass ``lambda *_: FakeRunner()`` where a runner is opened.
``calibrate_simulated`` is a whole calibration by it, as ``agent calibrate`` would keep it; and
``take_the_place`` has the commands of a process use it, for tests of what happens around timing.
"""
# ruff: noqa: ARG002  a stand-in takes all that a runner takes

from __future__ import annotations

import hashlib
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

from agent.bundle.bundle import load_bundle
from agent.bundle.encoder import Encoder
from agent.calibration import plan
from agent.calibration.calibrate import calibrate
from agent.calibration.calibration import StoredCalibration
from agent.calibration.predictor import prior_of, represent
from agent.kernels.fixed_set import fixed_variants
from agent.loopnest.features.nest import lower
from agent.loopnest.program import Program
from agent.measure.cache import Cache
from agent.measure.evidence import Notice, Round
from agent.measure.machine import Machine
from agent.measure.stats import different_again, median_interval
from agent.measure.timing import MeasureEvent, Measurement, Outcome, Timing
from agent.measure.toolchain import Built, Kind, OnBuilt, Toolchain
from agent.settings.config import Config
from agent.state.file import make_directory
from agent.state.lock import hold
from agent.state.state import open_state
from agent.upkeep.drift import check_drift

ROUNDS = 5
ROUND_S = 0.1  # simulated wall time of a round
FEW_S = 4.0  # a budget for four kernels
NO_HURRY_S = 600.0
THREADS = 2  # of the machine that the budget is taken to be for


@dataclass(frozen=True)
class FakeToolchain:
    """Facts of a compiler that is never run."""

    kind: Kind = "compiler"
    compiler: str = "/fake/cc"
    version: str = "cc (Fake) 1.0"
    flags: tuple[str, ...] = ("-O3",)
    openmp: bool = True
    identity: str = "fake-identity"
    mark: str = "fake-mark"
    described: str = "cc (Fake) 1.0"
    preparing: str = "compiling with /fake/cc"

    def vector_bytes(self) -> int:
        return 32

    def worker(self, cache: Cache) -> Path:
        raise AssertionError("a fake toolchain compiles nothing")

    def build(
        self, sources: Sequence[str], cache: Cache, progress: OnBuilt | None = None
    ) -> Sequence[Built]:
        raise AssertionError("a fake toolchain compiles nothing")

    def references(self, source: str, cache: Cache) -> Sequence[Built]:
        return ()


def seconds_of(program: Program) -> float:
    """A true time between 1 and 100 ms that hangs on the program's loops and on nothing else."""
    digest = hashlib.sha256(repr(program.body).encode()).digest()
    return 10 ** (-3 + 2 * int.from_bytes(digest[:8]) / 2**64)


@dataclass
class FakeRunner:
    """Times programs by a formula.

    Attributes:
        seconds: the true time of a program.
        noise: standard deviation of one timing, in log units; ``seed``: of the noise.
        session: the same of what all timings of a program in one measurement have in common.
        slower: log units by which everything takes longer from one measurement to the next.
        foreign: CPUs' worth of work that others do meanwhile.
        failing: outcomes of programs (by ``Program.body``) that cannot be timed.
        elapsed_s: what a measurement says it took; ``waited_s``: of it for others.
        lasts_s: what it takes indeed.
        notices: what it says besides.
        asked: every (base, variants) that was to be timed, in order.
    """

    seconds: Callable[[Program], float] = seconds_of
    noise: float = 0.0
    session: float = 0.0
    slower: float = 0.0
    seed: int = 0
    foreign: float = 0.0
    failing: Mapping[object, Timing] = field(default_factory=dict)
    elapsed_s: float = ROUNDS * ROUND_S
    lasts_s: float = 0.0
    waited_s: float = 0.0
    notices: tuple[Notice, ...] = ()
    toolchain: Toolchain = FakeToolchain()
    asked: list[tuple[Program, tuple[Program, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random, self._occasion = random.Random(self.seed), random.Random(self.seed)

    def log_speedup(self, base: Program, version: Program) -> float:
        """The known answer."""
        return math.log(self.seconds(base) / self.seconds(version))

    def prepare(self, programs: Sequence[Program], *, progress: OnBuilt | None = None) -> None:
        """Nothing to do, and told to be done."""
        if progress is not None:
            progress(len(programs), len(programs))

    def measure(
        self,
        base: Program,
        variants: Sequence[Program],
        *,
        on_event: Callable[[MeasureEvent], None] | None = None,
        budget_s: float | None = None,
    ) -> Measurement:
        time.sleep(self.lasts_s)
        self.asked.append((base, tuple(variants)))
        programs = (base, base, *variants)
        times = [self._now(p) for p in (base, *variants)]
        rounds = tuple(self._round((times[0], *times)) for _ in range(ROUNDS))
        if on_event is not None:
            for done in range(ROUNDS):
                on_event(MeasureEvent("round", done + 1, ROUNDS))
        seen = [[dict(r.seconds)[n] for r in rounds] for n in range(len(programs))]
        both = [math.sqrt(a * b) for a, b in zip(*seen[:2], strict=True)]
        timings = [
            self.failing.get(p.body) or _timing(both, s, first=n == 0)
            for n, (p, s) in enumerate(zip(programs, seen, strict=True))
        ]
        return Measurement(
            base=timings[0],
            timings=tuple(timings[2:]),
            noise=tuple(math.log(a / b) for a, b in zip(*seen[:2], strict=True)),
            notices=self.notices,
            rounds=rounds,
            elapsed_s=self.elapsed_s,
            waited_s=self.waited_s,
        )

    def _now(self, program: Program) -> float:
        """What a program takes in the measurement asked for last."""
        common = self.slower * len(self.asked) + self._occasion.gauss(0.0, self.session)
        return self.seconds(program) * math.exp(common)

    def _round(self, times: Sequence[float]) -> Round:
        timed = tuple(
            (n, seconds * math.exp(self._random.gauss(0.0, self.noise)))
            for n, seconds in enumerate(times)
        )
        busy = ROUND_S * (1 + self.foreign)
        return Round(timed, ROUND_S, ROUND_S, steal_s=0.0, busy_s=busy, switches=0, others=0)


def _timing(base: Sequence[float], seconds: Sequence[float], *, first: bool) -> Timing:
    """A usable timing from rounds, with the intervals that real ones have."""
    own = median_interval(seconds)
    ratios = [math.log(b / s) for b, s in zip(base, seconds, strict=True)]
    gain = median_interval(ratios)
    return Timing(
        outcome=Outcome.OK,
        log_speedup=0.0 if first else gain.median,
        low=0.0 if first else gain.low,
        high=0.0 if first else gain.high,
        seconds=own.median,
        seconds_low=own.low,
        seconds_high=own.high,
        base_seconds=statistics.median(base),
        rounds=len(seconds),
        checksum="fake",
        max_error=0.0,
        different=not first and different_again(ratios, 0.0),
    )


def take_the_place(lasts_s: float = 0.0) -> None:
    """From now on `agent calibrate` and `agent check` compile and time nothing in this process.

    Args:
        lasts_s: as of a ``FakeRunner``, for who wants to come in the middle of a measurement.
    """

    def opened(_: Config, toolchain: Toolchain, __: Machine) -> FakeRunner:
        return FakeRunner(toolchain=toolchain, noise=0.02, lasts_s=lasts_s)

    for command in (calibrate, check_drift):
        command.__kwdefaults__["open_runner"] = opened


def as_the_bundle_says(bundle: Path, times: float = 1.0) -> Callable[[Program], float]:
    """The times of a machine of which the bundle is right, but for a factor of them all."""
    known = load_bundle(bundle)
    encoder, mean = Encoder(known), prior_of(known).mean

    def seconds(program: Program) -> float:
        seen = represent(encoder, lower((program,)))
        return times * math.exp(float(seen.vectors[0] @ mean[:-1] + mean[-1] + seen.work[0]))

    return seconds


def calibrate_simulated(
    state_dir: Path, bundle: Path, budget_s: float = 15.0, machine: FakeRunner | None = None
) -> StoredCalibration:
    """Calibrate on ``bundle`` with simulated times and this machine's own facts and compiler.

    Args:
        state_dir: where it is kept; made where it is not there.
        bundle: its directory.
        budget_s: decides how much of the fixed set is timed, however long that takes: by default
            too little for boosting, so that every test that refits it does so in a moment;
            ``FEW_S``: four kernels.
        machine: that is simulated; by default one that makes a good calibration.
    """
    simulated = machine or FakeRunner(as_the_bundle_says(bundle, times=3.0), noise=0.02)
    config = Config(state_dir, bundle=bundle, budget_s=NO_HURRY_S)
    planned = plan.prefix_for(fixed_variants(), budget_s, THREADS)
    make_directory(state_dir)

    def opened(_: Config, toolchain: Toolchain, __: Machine) -> FakeRunner:
        return replace(simulated, toolchain=toolchain)

    chosen = mock.patch.object(plan, "prefix_for", return_value=planned)
    with chosen, hold(state_dir, "calibrate"), open_state(state_dir) as state:
        return calibrate(config, state, lambda _: None, open_runner=opened)
