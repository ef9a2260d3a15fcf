"""One measurement: what is known so far of every program, across restarts of the worker."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from agent.errors import CompilerError, MeasureError
from agent.measure.evidence import Notice, Round, notices
from agent.measure.machine import Machine
from agent.measure.plan import ROUGH, Arguments, roughness, tolerances
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
from agent.measure.stats import (
    geometric_means,
    median_interval,
    paired_log_ratios,
    round_order,
)
from agent.measure.timing import MeasureEvent, Measurement, Outcome, Timing
from agent.measure.toolchain import Built
from agent.measure.worker import WorkerExitError, WorkerTimeoutError

CPU_LIMIT_S = 3600.0
MAX_DETAIL = 600
FLIPS = (1, 2)  # seeds: two ways to change the last bits of the inputs
SLOW_EXTRA = 2  # attempts at rounds of slow programs beyond the least number
OnEvent = Callable[[MeasureEvent], None]


class Trial:
    """A base program and its variants on the way to a ``Measurement``.

    Args:
        start: makes a session with a new worker.
        arguments: of all programs.
        compiled: base, twin, variants, as the worker loads them, or why it cannot.
        machine: facts of this machine; ``settings``: how to measure.
        tell: told of progress.
    """

    def __init__(
        self,
        start: Callable[[], WorkerSession],
        arguments: Arguments,
        compiled: Mapping[int, Built],
        machine: Machine,
        settings: TimingSettings,
        tell: OnEvent,
    ) -> None:
        self.start, self.arguments, self.compiled = start, arguments, compiled
        self.machine, self.settings = machine, settings
        self.tell = tell
        self.libraries = {p: c for p, c in compiled.items() if not isinstance(c, CompilerError)}
        self.failed = {
            p: Timing(Outcome.COMPILE_FAILED, detail=c.message)
            for p, c in compiled.items()
            if isinstance(c, CompilerError)
        }
        self.checks: dict[int, CheckedRun] = {}
        self.dominant = False  # the inputs
        self.allowed: tuple[float, ...] | None = None  # differences, for each array
        self.rounds: list[Round] = []
        self.garbage = 0
        self.unpinned = False
        self.started = time.monotonic()

    def measurement(self) -> Measurement:
        """Run to the end; a failing base fails everything."""
        need, have = self.arguments.bytes, self.machine.available_bytes
        if have and need > self.settings.memory_share * have:
            detail = f"the arrays need {need >> 20} MiB and {have >> 20} MiB are available"
            self.failed[BASE] = Timing(Outcome.OUT_OF_MEMORY, detail=detail)
        while BASE not in self.failed and not self._attempt():
            self.tell(MeasureEvent("restarted", len(self.failed), len(self.libraries)))
        return self._result()

    def _attempt(self) -> bool:
        """One worker's life; False where a program must be left out and another is needed."""
        alive = {p: lib for p, lib in self.libraries.items() if p not in self.failed}
        session = self.start()
        try:
            session.set_up(alive, CPU_LIMIT_S)
            if self.dominant:
                session.make_dominant()
            self._check_all(session, tuple(alive))
            self._time_all(session, tuple(p for p in alive if p not in self.failed))
        except OutOfMemoryError as error:
            self.failed[BASE] = Timing(Outcome.OUT_OF_MEMORY, detail=str(error))
        except LoadError as error:
            self._fail(error.program, Outcome.COMPILE_FAILED, str(error))
        except WorkerTimeoutError as error:
            detail = f"did not end within {error.limit_s:.0f} s"
            self._fail(session.program_of(error.slot), Outcome.TIMEOUT, detail)
        except WorkerExitError as error:
            self._fail(session.program_of(error.slot), *_death(error))
        else:
            return True
        finally:
            self.garbage += session.close()
            self.unpinned |= session.unpinned
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

    def _time_all(self, session: WorkerSession, alive: tuple[int, ...]) -> None:
        """Paired rounds until enough are undisturbed, the intervals are narrow, or time is up."""
        if BASE in self.failed or not self.settings.rounds:
            return
        for program in alive:
            session.tune(program)
        quick = tuple(p for p in alive if p <= TWIN or session.seconds[p] <= self.settings.slow_s)
        wanted = self._affordable(session, quick, alive)
        while (good := _undisturbed(self.rounds)) is not None and len(good) < wanted:
            if len(self.rounds) >= wanted + self.settings.extra_rounds or self._narrow(good, quick):
                break
            now = alive if self._slow_join(len(good)) else quick
            self.rounds.append(session.round(round_order(now, len(self.rounds))))
            self.tell(MeasureEvent("round", len(good) + 1, wanted))
            if self._late(session.cost(quick)) and len(self.rounds) >= self.settings.min_rounds:
                break

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
        widths = (median_interval(_ratios(good, p)).width for p in quick if p != BASE)
        return all(w <= self.settings.early_width for w in widths)

    def _used(self) -> list[Round]:
        """Undisturbed rounds where there are enough, else all of them (and a notice says so)."""
        good = _undisturbed(self.rounds)
        return good if len(good) >= self.settings.min_rounds else list(self.rounds)

    def _result(self) -> Measurement:
        used = self._used()
        broken = self.failed.get(BASE)
        noise = () if broken else _ratios(used, TWIN)
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
        )

    def _notices(self, used: Sequence[Round], noise: Sequence[float]) -> tuple[Notice, ...]:
        found = notices(self.rounds, used, noise, self.machine.threads, self.settings.min_rounds)
        if self.garbage:
            found += (Notice("garbage", self.garbage, 0),)
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
        seconds = median_interval([dict(r.seconds)[program] for r in rounds])
        label = median_interval(_ratios(rounds, program))
        wall = sum(r.wall_s for r in rounds) * self.machine.threads
        check = self.checks[program]
        return Timing(
            outcome=Outcome.OK,
            log_speedup=label.median if program != BASE else 0.0,
            low=label.low if program != BASE else 0.0,
            high=label.high if program != BASE else 0.0,
            seconds=seconds.median,
            seconds_low=seconds.low,
            seconds_high=seconds.high,
            base_seconds=statistics.median(_base_seconds(rounds)),
            rounds=len(rounds),
            redone=len(_with_program(self.rounds, program)) - len(rounds),
            steal=sum(r.steal_s for r in rounds) / wall,
            involuntary_switches=sum(r.switches for r in rounds),
            checksum=check.checksum,
            max_error=check.max_error,
        )


def _with_program(rounds: Sequence[Round], program: int) -> list[Round]:
    return [r for r in rounds if program in dict(r.seconds)]


def _undisturbed(rounds: Sequence[Round]) -> list[Round]:
    return [r for r in rounds if not r.reasons]


def _base_seconds(rounds: Sequence[Round]) -> tuple[float, ...]:
    """Of the base, per round: the geometric mean of its two timings."""
    timed = [dict(r.seconds) for r in rounds]
    return geometric_means([t[BASE] for t in timed], [t[TWIN] for t in timed])


def _ratios(rounds: Sequence[Round], program: int) -> tuple[float, ...]:
    """Paired log-ratios; the base's own are against its twin alone (A/A)."""
    timed = [dict(r.seconds) for r in rounds]
    if program in (BASE, TWIN):
        return paired_log_ratios([t[BASE] for t in timed], [t[TWIN] for t in timed])
    return paired_log_ratios(_base_seconds(rounds), [t[program] for t in timed])


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
