"""Measuring a program and its variants: one worker process, paired and rotated rounds.

    compile everything -> start a worker -> check every program -> size the samples -> rounds

A program that crashes, hangs or gives a wrong result is left out and the others go on: the
worker is started again without it. Nothing else of ours runs while a round is timed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent.errors import MeasureError, ScheduleError
from agent.loopnest.emitter.emit import emit
from agent.loopnest.program import Program
from agent.measure.cache import Cache
from agent.measure.cores import Cores, KeptReading, quietest
from agent.measure.machine import Machine, of_one_kind, read_machine
from agent.measure.plan import Job, arguments_of
from agent.measure.session import (
    BASE,
    FIRST_VARIANT,
    START_S,
    TWIN,
    TimingSettings,
    WorkerSession,
    lowest_by_cpu,
    start_worker,
)
from agent.measure.timing import MeasureEvent, Measurement, Outcome, Timing
from agent.measure.toolchain import Built, OnBuilt, Toolchain
from agent.measure.trial import CompiledPrograms, OnEvent, Trial, because_of_base
from agent.measure.worker import RefusedError, WorkerExitError, WorkerTimeoutError

PARALLEL = "#pragma omp parallel"  # in a program that uses all cores
LOOKS = 3  # at all CPUs, before one is chosen
MOST_CPUS = 8  # that are looked at
MOSTLY = 0.9  # of a base's shots were beside somebody: worth looking for another CPU
MISCOMPILED = (
    "the compiler computes a wrong result for the program as written (right without optimisation)"
)


class WorkerRunner:
    """Times programs in a worker process on this machine (a ``Runner``).

    Args:
        toolchain: compiles the programs and the worker, or holds them prebuilt.
        cache: directory of compiled code.
        settings: see ``TimingSettings``.
        machine: facts of this machine (read where not given).
    """

    def __init__(
        self,
        toolchain: Toolchain,
        cache: Path | Cache,
        settings: TimingSettings | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.toolchain = toolchain
        self.settings = settings or TimingSettings()
        self.machine = machine or read_machine()
        self._cache = cache if isinstance(cache, Cache) else Cache(cache.absolute())
        self._compiled: dict[str, Built] = {}
        self._worker: Path | None = None
        self._may_move = of_one_kind(self.machine.cpus) and len(self.machine.cpus) > 1
        self._shared = True  # what others do on the first CPU is not known yet

    def prepare(self, programs: Sequence[Program], *, progress: OnBuilt | None = None) -> None:
        """Compile ``programs`` and the worker in parallel, so that nothing compiles later."""
        sources = [_emitted(p) for p in programs]
        self.prepare_sources([s for s in sources if isinstance(s, str)], progress=progress)

    def prepare_sources(self, sources: Sequence[str], *, progress: OnBuilt | None = None) -> None:
        """``prepare`` for C sources; the others may not take much longer than the first."""
        if self._worker is None or not self._worker.exists():
            self._worker = self.toolchain.worker(self._cache)
        new = [s for s in dict.fromkeys(sources) if not self._is_compiled(s)]
        if new:
            wanted = [sources[0], *new]
            built = self.toolchain.build(wanted, self._cache, progress)
            self._compiled.update(zip(wanted, built, strict=True))

    def measure(
        self,
        base: Program,
        variants: Sequence[Program],
        *,
        on_event: OnEvent | None = None,
        budget_s: float | None = None,
    ) -> Measurement:
        """See ``Runner``.

        Raises:
            ScheduleError: ``base`` cannot be written as C. MeasureError: the worker does not work.
        """
        sources = [_emitted(v) for v in variants]
        given = tuple(s for s in sources if isinstance(s, str))
        job = Job(arguments_of(base), emit(base), given)
        measured = self.measure_job(job, on_event=on_event, budget_s=budget_s)
        return _with_unwritable(measured, sources)

    def measure_job(
        self, job: Job, *, on_event: OnEvent | None = None, budget_s: float | None = None
    ) -> Measurement:
        """``measure`` for C sources with described arguments.

        Where a variant's result is wrong, it may be the base's that is: compilers have bugs, and
        a schedule may avoid one. Then the base's outcome is ``wrong-result``.
        """
        tell = on_event or _silent
        self.prepare_sources(
            (job.base, *job.variants), progress=lambda d, t: tell(MeasureEvent("compiled", d, t))
        )
        programs = {BASE: job.base, TWIN: job.base}
        programs |= {FIRST_VARIANT + i: source for i, source in enumerate(job.variants)}
        compiled = {p: self._compiled[source] for p, source in programs.items()}
        settings = replace(self.settings, budget_s=budget_s)
        assert self._worker is not None  # noqa: S101  prepare_sources made it
        if self._may_move and self._shared:
            self._choose_cpu(self._worker)
        kept = KeptReading(self._cache, self._worker, self.machine)
        cores = Cores(kept.read(), frozenset(p for p, s in programs.items() if PARALLEL in s))
        measured = self._try(CompiledPrograms(job.arguments, compiled), settings, tell, cores)
        kept.keep(cores.lowest)
        self._shared = measured.base.disturbed > MOSTLY
        if any(t.outcome == Outcome.WRONG_RESULT for t in measured.timings):
            tell(MeasureEvent("arbitrating", 0, 1))
            if self._miscompiles(job):
                return _blaming_compiler(measured)
        return measured

    def _choose_cpu(self, executable: Path) -> None:
        """Serial programs go where others use the core least; where nothing is seen, as before."""
        everywhere = replace(self.machine, threads=min(len(self.machine.cpus), MOST_CPUS))
        cpus = everywhere.pinning_order()
        # What is wrong with a worker is said by the one that measures.
        with (
            contextlib.suppress(MeasureError, WorkerExitError, WorkerTimeoutError, RefusedError),
            start_worker(executable, everywhere) as worker,
        ):
            worker.ready()
            if worker.ask(f"cpus {' '.join(map(str, cpus))}", START_S) == ["ok"]:
                chosen = quietest(cpus, lowest_by_cpu(worker, LOOKS))
                self.machine = self.machine.serial_on(chosen)

    def _miscompiles(self, job: Job) -> bool:
        """Whether optimisation makes the base's own result wrong.

        Without fused multiply-adds no optimisation may change a bit: a program whose result is
        right again without them is but sensitive to rounding, and no fault of the compiler.
        """
        references = self.toolchain.references(job.base, self._cache)
        if not references:
            return False
        plain, unfused = references
        built = {BASE: plain, FIRST_VARIANT: self._compiled[job.base], FIRST_VARIANT + 1: unfused}
        programs = CompiledPrograms(job.arguments, built)
        check_only = replace(self.settings, rounds=0)
        found = self._try(programs, check_only, _silent, Cores(math.inf, frozenset()))
        return all(t.outcome == Outcome.WRONG_RESULT for t in found.timings)

    def _try(
        self,
        programs: CompiledPrograms,
        settings: TimingSettings,
        tell: OnEvent,
        cores: Cores,
    ) -> Measurement:
        def start() -> WorkerSession:
            assert self._worker is not None  # noqa: S101  prepare_sources made it
            worker = start_worker(self._worker, self.machine)
            return WorkerSession(worker, self.machine, settings, programs.arguments)

        return Trial(start, programs, self.machine, settings, tell, cores).measurement()

    def _is_compiled(self, source: str) -> bool:
        built = self._compiled.get(source)
        return built is not None and (not isinstance(built, Path) or built.exists())


def _emitted(program: Program) -> str | ScheduleError:
    """The C source, or why C cannot express what the schedule asks for."""
    try:
        return emit(program)
    except ScheduleError as error:
        return error


def _with_unwritable(measured: Measurement, sources: Sequence[str | ScheduleError]) -> Measurement:
    """``measured`` of the sources that are C, as a measurement of all of them."""
    timed = iter(measured.timings)
    timings = tuple(
        next(timed) if isinstance(s, str) else Timing(Outcome.COMPILE_FAILED, detail=s.message)
        for s in sources
    )
    asked = [BASE, TWIN, *(FIRST_VARIANT + i for i, s in enumerate(sources) if isinstance(s, str))]
    rounds = tuple(
        replace(r, seconds=tuple((asked[program], s) for program, s in r.seconds))
        for r in measured.rounds
    )
    return replace(measured, timings=timings, rounds=rounds)


def _blaming_compiler(measured: Measurement) -> Measurement:
    """``measured`` with the base wrong; what was compared with it is worth nothing."""
    wrong = Timing(Outcome.WRONG_RESULT, detail=MISCOMPILED)
    timings = tuple(because_of_base(wrong) for _ in measured.timings)
    return replace(measured, base=wrong, timings=timings, noise=())


def _silent(_: MeasureEvent) -> None:
    """No one listens."""
