"""One measurement: what is known so far of every program, across restarts of the worker."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.errors import CompilerError, MeasureError
from agent.measure.cores import Cores
from agent.measure.evidence import Notice, Round, notices
from agent.measure.machine import Machine
from agent.measure.plan import ROUGH, Arguments, roughness, tolerances
from agent.measure.program_times import (
    ProgramTimes,
    less_sure_of,
    log_ratios,
    paired_log_ratios,
    times_of,
    together,
)
from agent.measure.session import (
    BASE,
    FIRST_VARIANT,
    TWIN,
    CheckedRun,
    LoadError,
    OutOfMemoryError,
    TimingSettings,
    WorkerSession,
)
from agent.measure.shots import Sharing, disturbed_share
from agent.measure.stats import different_again, median_interval, quantile, round_order
from agent.measure.timing import MeasureEvent, Measurement, Outcome, Timing
from agent.measure.toolchain import Built
from agent.measure.worker import WorkerExitError, WorkerTimeoutError
from agent.system.tasks import check_words

CPU_LIMIT_S = 3600.0
MAX_DETAIL = 600
FLIPS = (1, 2)  # seeds: two ways to change the last bits of the inputs
FIRST_LOOKS = 20  # at the cores of a machine that nothing is known of: half a second
SHARED_SHARE = 0.1  # of the shots: less is not worth a word
STATE_ROUNDS = 3  # that a state of the cores needs for a program to be judged in it
LOW_READING = 0.05  # share of a round's readings below that of an undisturbed core, at least
SLOW_EXTRA = 2  # attempts at rounds of slow programs beyond the least number
OnEvent = Callable[[MeasureEvent], None]


@dataclass(frozen=True, slots=True)
class CompiledPrograms:
    """What one measurement runs.

    Attributes:
        arguments: of all programs.
        built: base, twin, variants, as the worker loads them, or why it cannot.
    """

    arguments: Arguments
    built: Mapping[int, Built]


class Trial:
    """A base program and its variants on the way to a ``Measurement``.

    Args:
        start: makes a session with a new worker.
        programs: to run.
        machine: facts of this machine; ``settings``: how to measure.
        tell: told of progress.
        cores: what is known of them, and which programs use all; what is seen is added.
    """

    def __init__(
        self,
        start: Callable[[], WorkerSession],
        programs: CompiledPrograms,
        machine: Machine,
        settings: TimingSettings,
        tell: OnEvent,
        cores: Cores,
    ) -> None:
        self.start, self.arguments, self.compiled = start, programs.arguments, programs.built
        self.machine, self.settings = machine, settings
        self.tell, self.cores = tell, cores
        self.libraries = {
            p: c for p, c in self.compiled.items() if not isinstance(c, CompilerError)
        }
        self.failed = {
            p: Timing(Outcome.COMPILE_FAILED, detail=c.message)
            for p, c in programs.built.items()
            if isinstance(c, CompilerError)
        }
        self.checks: dict[int, CheckedRun] = {}
        self.dominant = False  # the inputs
        self.allowed: tuple[float, ...] | None = None  # differences, for each array
        self.rounds: list[Round] = []
        self.garbage = 0
        self.unpinned = False
        self.wanted = 0  # rounds, on a machine of one's own
        self.seconds: dict[int, float] = {}  # of an execution, by the first worker
        self.started = time.monotonic()

    def measurement(self) -> Measurement:
        """Run to the end; a failing base fails everything."""
        need, have = self.arguments.bytes, self.machine.available_bytes
        if have and need > self.settings.memory_share * have:
            detail = f"the arrays need {need >> 20} MiB and {have >> 20} MiB are available"
            self.failed[BASE] = Timing(Outcome.OUT_OF_MEMORY, detail=detail)
        while BASE not in self.failed and not self._attempt():
            pass
        return self._result()

    def _attempt(self) -> bool:
        """One worker's life; False where another is needed: without a program, or to go on."""
        alive = {p: lib for p, lib in self.libraries.items() if p not in self.failed}
        session = self.start()
        try:
            session.set_up(alive, CPU_LIMIT_S)
            if self.dominant:
                session.make_dominant()
            self._check_all(session, tuple(alive))
            done = self._time_all(session, tuple(p for p in alive if p not in self.failed))
        except OutOfMemoryError as error:
            self.failed[BASE] = Timing(Outcome.OUT_OF_MEMORY, detail=str(error))
        except LoadError as error:
            self._fail(error.program, Outcome.COMPILE_FAILED, str(error))
        except WorkerTimeoutError as error:
            detail = f"did not end within {error.limit_s:.0f} s"
            self._fail(session.program_of(error.slot), Outcome.TIMEOUT, detail)
        except WorkerExitError as error:
            check_words(error.words)
            self._fail(session.program_of(error.slot), *_death(error))
        else:
            return done
        finally:
            self.garbage += session.close()
            self.unpinned |= session.unpinned
        self.tell(MeasureEvent("restarted", len(self.failed), len(self.libraries)))
        return False

    def _fail(self, program: int, outcome: Outcome, detail: str) -> None:
        if program < 0:
            raise MeasureError(f"the measuring process {detail} before any program ran")
        self.failed[BASE if program == TWIN else program] = Timing(
            outcome, detail=detail[:MAX_DETAIL]
        )

    def _check_all(self, session: WorkerSession, alive: tuple[int, ...]) -> None:
        """Run every program not yet checked once; the base always, for its reference."""
        for done, program in enumerate(p for p in alive if p != TWIN):
            if program not in self.checks or program == BASE:
                check = session.check(program)
                self.checks[program] = check
                if check.seconds > self.settings.limit_s:
                    detail = f"one execution took {check.seconds:.1f} s"
                    self._fail(program, Outcome.TIMEOUT, detail)
                elif check.bad_array >= 0:
                    self._wrong(program, check)
            self.tell(MeasureEvent("checked", done + 1, len(alive) - 1))
            if BASE in self.failed:
                return
            if program == BASE and len(alive) > FIRST_VARIANT:
                self._tolerate(session)

    def _tolerate(self, session: WorkerSession) -> None:
        """Let the base say how far apart equal results may be, on inputs that let it say."""
        if self.allowed is None:
            self.allowed = self._tolerances(session)
            rough = roughness(self.arguments, self.allowed) > ROUGH
            if rough or self.checks[BASE].not_finite:
                session.make_dominant()
                self.dominant, self.checks[BASE] = True, session.check(BASE)
                self.allowed = self._tolerances(session)
        session.tolerate(self.allowed)

    def _tolerances(self, session: WorkerSession) -> tuple[float, ...]:
        flips = [session.disturb(seed, "near") for seed in FLIPS]
        turns = [session.disturb(0, rounding) for rounding in ("up", "down")]
        flipped, directed = (tuple(map(max, zip(*f, strict=True))) for f in (flips, turns))
        return tolerances(self.arguments, flipped, directed)

    def _wrong(self, program: int, check: CheckedRun) -> None:
        name = self.arguments.arrays[check.bad_array].name
        detail = f"array {name} differs from the base's by {check.max_error:.3g}"
        if self.allowed is not None:
            detail += f" (rounding explains {self.allowed[check.bad_array]:.1g})"
        self.failed[program] = Timing(
            Outcome.WRONG_RESULT,
            detail=detail,
            checksum=check.checksum,
            max_error=check.max_error,
        )

    def _time_all(self, session: WorkerSession, alive: tuple[int, ...]) -> bool:
        """Paired rounds until enough are undisturbed, the intervals are narrow, or time is up.

        Returns:
            False where the rounds are to go on with a new worker, whose arrays lie elsewhere.
        """
        if BASE in self.failed or not self.settings.rounds:
            return True
        self._tune(session, alive)
        quick = tuple(p for p in alive if p <= TWIN or session.seconds[p] <= self.settings.slow_s)
        self.wanted = wanted = self.wanted or self._affordable(session, quick, alive)
        until = self._next_placement()
        while not self._enough(wanted, quick):
            good = len(_undisturbed(self.rounds))
            now = alive if self._slow_join(good) else quick
            self._add(session.round(round_order(now, len(self.rounds))))
            self.tell(MeasureEvent("round", min(good + 1, wanted), wanted))
            if self._late(session.cost(quick)) and len(self.rounds) >= self.settings.min_rounds:
                break
            if len(self.rounds) == until:
                return False
        return True

    def _tune(self, session: WorkerSession, alive: tuple[int, ...]) -> None:
        looks = 1 if math.isfinite(self.cores.lowest) else FIRST_LOOKS
        self.cores.see(session.lowest_reading(looks))
        for program in alive:
            parallel, known = program in self.cores.parallel, self.seconds.get(program, 0.0)
            self.seconds[program] = session.tune(program, parallel=parallel, known_s=known)

    def _next_placement(self) -> int:
        """After how many rounds the arrays are to lie elsewhere; 0: they stay where they are."""
        settings, done = self.settings, len(self.rounds)
        large = self.arguments.bytes > settings.place_bytes
        if large or self.seconds[BASE] > settings.place_s:
            return 0
        places = (self.wanted * i // settings.placements for i in range(1, settings.placements))
        return next((end for end in places if end > done), 0)

    def _add(self, timed: Round) -> None:
        self.rounds.append(timed)
        readings = [shot.main for sample in timed.samples for shot in sample.shots]
        if readings:
            self.cores.see(quantile(readings, LOW_READING))

    def _enough(self, wanted: int, quick: tuple[int, ...]) -> bool:
        """Whether to stop: never decided by what the times are, but by how well they are known."""
        settings, done = self.settings, len(self.rounds)
        good = _undisturbed(self.rounds)
        most = wanted + settings.extra_rounds
        if done < most and len(good) < wanted and not self._narrow(good, quick):
            return False
        return done >= most + settings.shared_rounds or not any(map(self._hidden, quick))

    def _hidden(self, program: int) -> bool:
        """Whether the time that it takes when nobody shares its first core is not known yet."""
        return self._times(self.rounds, program).sharing is Sharing.SHARED

    def _slow_join(self, good: int) -> bool:
        """Whether slow programs take part: until enough good rounds, or a few attempts more."""
        least = self.settings.min_rounds
        return good < least and len(self.rounds) < least + SLOW_EXTRA

    def _affordable(
        self, session: WorkerSession, quick: tuple[int, ...], alive: tuple[int, ...]
    ) -> int:
        """How many rounds the budget allows, within the settings' limits."""
        settings = self.settings
        slow = session.cost(quick) > settings.slow_s * len(quick)  # a slow base
        most = settings.min_rounds if slow else settings.rounds
        if settings.budget_s is None:
            return most
        left = settings.budget_s - (time.monotonic() - self.started)
        left -= settings.min_rounds * (session.cost(alive) - session.cost(quick))
        return max(settings.min_rounds, min(most, int(left / session.cost(quick))))

    def _late(self, next_round_s: float) -> bool:
        if self.settings.budget_s is None:
            return False
        return time.monotonic() - self.started + next_round_s > self.settings.budget_s

    def _narrow(self, good: Sequence[Round], quick: tuple[int, ...]) -> bool:
        """The stopping rule fixed beforehand: it sees interval widths, never where they lie."""
        if len(good) < self.settings.early_rounds:
            return False
        ratios = (self._ratios(good, p) for p in quick if p != BASE)
        return all(r and median_interval(r).width <= self.settings.early_width for r in ratios)

    def _used(self) -> list[Round]:
        """Undisturbed rounds where there are enough, else all of them (and a notice says so)."""
        good = _undisturbed(self.rounds)
        return good if len(good) >= self.settings.min_rounds else list(self.rounds)

    def _result(self) -> Measurement:
        used = self._used()
        broken = self.failed.get(BASE)
        noise = () if broken else self._ratios(used, TWIN)
        variants = sorted(p for p in self.compiled if p >= FIRST_VARIANT)
        return Measurement(
            base=broken or self._timing(BASE, used),
            timings=tuple(
                because_of_base(broken) if broken else self._timing(p, used) for p in variants
            ),
            noise=noise,
            notices=self._notices(used, noise),
            rounds=tuple(self.rounds),
            elapsed_s=time.monotonic() - self.started,
            waited_s=sum(r.wall_s for r in self.rounds[self.wanted :]),
        )

    def _notices(self, used: Sequence[Round], noise: Sequence[float]) -> tuple[Notice, ...]:
        found = notices(self.rounds, used, noise, self.machine.threads, self.settings.min_rounds)
        if self.garbage:
            found += (Notice("garbage", self.garbage, 0),)
        if (share := self._shared_share()) > SHARED_SHARE:
            found += (Notice("shared-cores", share, SHARED_SHARE),)
        if self.unpinned:
            found += (Notice("unpinned", 1, 0),)
        if BASE in self.checks and (count := self.checks[BASE].not_finite):
            found += (Notice("not-finite", count, 0),)
        if self.allowed and (rough := roughness(self.arguments, self.allowed)) > ROUGH:
            found += (Notice("rough", min(rough, 1.0), ROUGH),)
        return found

    def _timing(self, program: int, used: Sequence[Round]) -> Timing:
        if program in self.failed:
            return self.failed[program]
        rounds = _with_program(used, program)
        if len(rounds) < self.settings.min_rounds:
            rounds = _with_program(self.rounds, program)
        if not rounds:
            return Timing(Outcome.TIMEOUT, detail="no round was completed")
        base, times = self._compared(rounds, program)
        logs = median_interval([math.log(s) for s in times.seconds.values()])
        seconds = logs.widened(times.another_time)
        ratios, less_sure = log_ratios(base, times), less_sure_of(base, times)
        label = median_interval(ratios).widened(less_sure.another_time)
        wall = sum(r.wall_s for r in rounds) * self.machine.threads
        check = self.checks[program]
        return Timing(
            outcome=Outcome.OK,
            log_speedup=label.median if program != BASE else 0.0,
            low=label.low if program != BASE else 0.0,
            high=label.high if program != BASE else 0.0,
            seconds=math.exp(seconds.median),
            seconds_low=math.exp(seconds.low),
            seconds_high=math.exp(seconds.high),
            base_seconds=base.typical,
            rounds=len(times.seconds),
            redone=len(_with_program(self.rounds, program)) - len(times.seconds),
            steal=sum(r.steal_s for r in rounds) / wall,
            involuntary_switches=sum(r.switches for r in rounds),
            checksum=check.checksum,
            max_error=check.max_error,
            sharing=less_sure.sharing,
            disturbed=self._disturbed(rounds, program),
            different=program != BASE and different_again(ratios, less_sure.another_time),
        )

    def _times(
        self, rounds: Sequence[Round], program: int, sharing: Sharing | None = None
    ) -> ProgramTimes:
        least = min(STATE_ROUNDS, len(_with_program(rounds, program)))
        return times_of(rounds, program, self.cores.lowest, least, sharing)

    def _compared(self, rounds: Sequence[Round], program: int) -> tuple[ProgramTimes, ProgramTimes]:
        """The base's times and the program's, in the state in which they are compared."""
        sharing = None
        while True:
            base, twin = (self._times(rounds, p, sharing) for p in (BASE, TWIN))
            times = self._times(rounds, program, sharing)
            states = {base.sharing, twin.sharing, times.sharing}
            if sharing or Sharing.SHARED not in states:
                return together(base, twin), times
            sharing = Sharing.SHARED

    def _ratios(self, rounds: Sequence[Round], program: int) -> tuple[float, ...]:
        """Log-ratios; the base's own are against its twin alone (A/A)."""
        if program in (BASE, TWIN):
            twins = [self._compared(rounds, p)[1] for p in (BASE, TWIN)]
            return paired_log_ratios(*twins)
        return log_ratios(*self._compared(rounds, program))

    def _shared_share(self) -> float:
        samples = [s for r in self.rounds for s in r.samples]
        return disturbed_share(samples, self.cores.lowest)

    def _disturbed(self, rounds: Sequence[Round], program: int) -> float:
        samples = [s for r in rounds if (s := r.sample(program)) is not None]
        return disturbed_share(samples, self.cores.lowest)


def _with_program(rounds: Sequence[Round], program: int) -> list[Round]:
    return [r for r in rounds if program in dict(r.seconds)]


def _undisturbed(rounds: Sequence[Round]) -> list[Round]:
    return [r for r in rounds if not r.reasons]


def because_of_base(broken: Timing) -> Timing:
    """The timing of any variant where the program as written failed."""
    return Timing(broken.outcome, detail=f"the program as written: {broken.detail}")


def _death(error: WorkerExitError) -> tuple[Outcome, str]:
    """What a worker's exit status says about the program that ran last."""
    if error.status >= 0:
        ended = f"ended the process with status {error.status}"
        return Outcome.CRASHED, f"{ended}: {error.words}" if error.words else ended
    name = signal.Signals(-error.status).name
    if name == "SIGXCPU":
        return Outcome.TIMEOUT, "used up its CPU time"
    if name == "SIGKILL":
        return Outcome.OUT_OF_MEMORY, "was killed, probably for want of memory"
    return Outcome.CRASHED, f"crashed with {name}" + (f": {error.words}" if error.words else "")
