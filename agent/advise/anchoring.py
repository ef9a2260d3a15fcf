"""What is timed for a prediction: the loops as written, and the person's function against them.

The first anchors the prediction, the second says what "1.0 x" is. Both are taken once, and stay in
the state under a digest of everything that decides them (program or file, compiler and flags,
machine and its microcode): with another of them they are not found, and taken anew. (A header that
changes without the loops is not noticed.) They are never sent.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.advise.call_memory import UncheckedError
from agent.advise.kept_times import KeptTimes, TakenTime
from agent.advise.own_function import (
    Effort,
    OwnBuild,
    OwnTimes,
    does_more,
    over_emission,
    own_base,
)
from agent.advise.tuning_log import LogKey
from agent.clock import stamp
from agent.errors import (
    BusyError,
    CompilerError,
    MeasureError,
    ScheduleError,
    SourceError,
    StateError,
    TaskLimitError,
)
from agent.measure.compiler import Compiler
from agent.measure.machine import Machine, fingerprint, read_machine
from agent.measure.resolve import runner_for_programs
from agent.measure.session import TimingSettings
from agent.measure.shots import Sharing
from agent.measure.worker import PROTOCOL
from agent.model.anchor import LogTime
from agent.state.file import make_directory
from agent.state.lock import hold

if TYPE_CHECKING:
    from agent.advise.advise import Request
    from agent.advise.splice import SourceRegion
    from agent.loopnest.program import Program
    from agent.measure.runner import OpenRunner, Runner
    from agent.settings.config import Config

_log = logging.getLogger(__name__)  # shown by `-v`
BUDGET_S = 0.3
SETTINGS = TimingSettings(rounds=5, min_rounds=2, extra_rounds=2, limit_s=0.5)
BRIEF = Effort(budget_s=0.25, least=2, call_s=1.0)  # of the function
UNSURE = 0.5  # log units of an 80 % interval: such a time is used, and taken anew the next time
NOT_RUN = "nothing was to be run"
CANNOT = (
    BusyError,
    CompilerError,
    MeasureError,
    ScheduleError,
    SourceError,
    StateError,
    TaskLimitError,
)


@dataclass(frozen=True)
class KeptTime:
    """Seconds of a program as written, with the ends of their 80 % interval, and when (epoch)."""

    seconds: float
    low: float
    high: float
    at: float

    @property
    def can_be(self) -> bool:
        """Whether its numbers fit each other."""
        return 0 < self.low <= self.seconds <= self.high

    @property
    def is_sure(self) -> bool:
        """Whether it is worth keeping."""
        return math.log(self.high / self.low) < UNSURE


@dataclass(frozen=True)
class KeptOwn:
    """A function against the same with its loops as the agent writes them, and when (epoch)."""

    times: OwnTimes
    at: float

    @property
    def can_be(self) -> bool:
        """Whether its numbers fit each other."""
        t = self.times
        return min(t.seconds_before, t.seconds_after) > 0 and t.low <= t.log_speedup <= t.high

    @property
    def is_sure(self) -> bool:
        """Whether it is worth keeping."""
        return self.times.high - self.times.low < UNSURE


WRITTEN = KeptTimes("times of programs as written", KeptTime)
OWN = KeptTimes("times of functions as written", KeptOwn)
T = TypeVar("T", bound=TakenTime)


@dataclass(frozen=True)
class Taken(Generic[T]):
    """A time, or why there is none; ``kept``: it was taken before."""

    value: T | None
    why_not: str = ""
    kept: bool = False


@dataclass(frozen=True)
class Anchored:
    """What a prediction rests on.

    Attributes:
        written: the time of the loops as written.
        function: the person's function against them.
        more: that the function does more than the loops; else empty.
    """

    written: Taken[KeptTime]
    function: Taken[KeptOwn]
    more: str = ""

    @property
    def anchor(self) -> LogTime | None:
        """As the model takes it."""
        t = self.written.value
        return None if t is None else LogTime.of(t.seconds, t.low, t.high)

    @property
    def own(self) -> OwnTimes | None:
        """What "1.0 x" is; None: the loops as the agent writes them."""
        return None if self.function.value is None else self.function.value.times

    @property
    def note(self) -> str:
        """What to bear in mind of "1.0 x"; empty: nothing."""
        return self.more if self.own else over_emission(self.function.why_not)

    def to_json(self) -> dict[str, object]:
        """As answers hold it."""
        t, own = self.written.value, self.function.value
        written = t and {"seconds": t.seconds, "seconds_low": t.low, "seconds_high": t.high}
        return {
            "as_written": t and {**(written or {}), **_when(self.written)},
            "own": own and {**own.times.to_json(), **_when(self.function)},
        }


def _when(taken: Taken[T]) -> dict[str, object]:
    at = taken.value.at if taken.value else 0.0
    return {"timed_at": stamp(at), "kept": taken.kept}


def anchored(
    config: Config, source: SourceRegion, request: Request, open_runner: OpenRunner | None
) -> Anchored:
    """The times of a program and its function on this machine, taken now unless they are known.

    Without ``open_runner`` nothing is run, and nothing looked up.
    """
    if open_runner is None:
        return Anchored(Taken(None), Taken(None, NOT_RUN))
    try:
        runner = open_runner(config)
        key = _key(source.reading.program, runner, read_machine())
    except CANNOT as error:
        return Anchored(Taken(None, error.message), Taken(None, error.message))
    written = _known_or_taken(
        config, WRITTEN, key, lambda: time_as_written(runner, source.reading.program)
    )
    function = _known_or_taken(
        config, OWN, _own_key(key, source, request), lambda: _own(source, request, runner)
    )
    return Anchored(written, function, does_more(source))


def _known_or_taken(
    config: Config, times: KeptTimes[T], key: str, take: Callable[[], T]
) -> Taken[T]:
    """What is kept; else taken with the lock held: two measurements would disturb each other."""
    try:
        if (known := times.known(config).get(key)) is not None:
            _log.debug("%s: known since %s", times.fact, stamp(known.at))
            return Taken(known, kept=True)
        make_directory(config.state_dir)
        _log.debug("%s: timing one", times.fact)
        with hold(config.state_dir, "predict"):
            taken = take()
            if taken.is_sure:
                times.keep(config, key, taken)
    except CANNOT as error:
        return Taken(None, error.message)
    return Taken(taken)


def time_as_written(runner: Runner, program: Program) -> KeptTime:
    """Time ``program`` alone, in a fraction of a second.

    Raises:
        MeasureError: it cannot be timed, or others worked on its CPU all the while.
        ScheduleError, CompilerError: it cannot be written as C, or compiled.
    """
    found = runner.measure(program, (), budget_s=BUDGET_S)
    timing = found.base
    if not timing.ok:
        raise MeasureError(f"{timing.outcome}: {timing.detail}".rstrip(": "))
    disturbed = any(notice.kind == "disturbed-rounds" for notice in found.notices)
    if disturbed and timing.sharing == Sharing.SHARED:  # not by the other thread of its core alone
        raise MeasureError("others worked on its CPU all the while")
    return KeptTime(timing.seconds, timing.seconds_low, timing.seconds_high, time.time())


def _own(source: SourceRegion, request: Request, runner: Runner) -> KeptOwn:
    """Time the function as a person calls it, in a fraction of a second, and compiling."""
    toolchain = runner.toolchain
    if not isinstance(toolchain, Compiler):
        raise CompilerError("there is no compiler")
    build = OwnBuild(toolchain, request.cflags or ())
    try:
        return KeptOwn(own_base(source, request.path, build, BRIEF), time.time())
    except UncheckedError as error:
        raise MeasureError(str(error)) from error


def _key(program: Program, runner: Runner, machine: Machine) -> str:
    """Digest of everything that decides the time; no part can be read from it."""
    loops = LogKey.of(program, machine, runner.toolchain).program
    return _digest(
        loops, runner.toolchain.identity, fingerprint(machine), machine.microcode, PROTOCOL
    )


def _own_key(key: str, source: SourceRegion, request: Request) -> str:
    """The same of the function: what else is in the file, and how it is built, decides too."""
    text = hashlib.sha256(source.text).hexdigest()
    reading, sizes = source.reading, sorted(source.sizes.items())
    place = (reading.function, reading.part.first_line, reading.part.last_line)
    return _digest(key, text, repr((place, sizes, request.cflags or ())))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def runner_for_anchors(config: Config, cflags: Sequence[str] = ()) -> Runner:
    """What times programs as written; see ``runner_for_programs``."""
    return runner_for_programs(config, cflags, SETTINGS)
