"""The time of a program as written, taken once and kept: what its predictions are anchored to.

It stays in the state under a digest of everything that decides it (program, compiler and flags,
machine and its microcode): with another of them it is not found, and taken anew. It is never sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.advise.tuning_log import LogKey
from agent.clock import stamp
from agent.errors import (
    BusyError,
    CompilerError,
    MeasureError,
    ScheduleError,
    StateError,
    TaskLimitError,
)
from agent.json_values import MalformedError
from agent.measure.machine import Machine, fingerprint, read_machine
from agent.measure.resolve import runner_for_programs
from agent.measure.session import TimingSettings
from agent.measure.shots import Sharing
from agent.measure.worker import PROTOCOL
from agent.model.anchor import LogTime
from agent.state import typed
from agent.state.file import FILE, damage_of, make_directory
from agent.state.lock import hold
from agent.state.state import open_state, read_state

if TYPE_CHECKING:
    from agent.loopnest.program import Program
    from agent.measure.runner import OpenRunner, Runner
    from agent.settings.config import Config

_log = logging.getLogger(__name__)  # shown by `-v`
FACT = "times of programs as written"
KEPT = 1_000  # programs, those timed last
BUDGET_S = 0.3
SETTINGS = TimingSettings(rounds=5, min_rounds=2, extra_rounds=2, limit_s=0.5)
CANNOT = (BusyError, CompilerError, MeasureError, ScheduleError, StateError, TaskLimitError)


@dataclass(frozen=True)
class KeptTime:
    """Seconds of a program as written, with the ends of their 80 % interval, and when (epoch)."""

    seconds: float
    low: float
    high: float
    at: float


@dataclass(frozen=True)
class Anchored:
    """The time that a prediction rests on, or why there is none; ``kept``: it was taken before."""

    time: KeptTime | None
    why_not: str = ""
    kept: bool = False

    @property
    def anchor(self) -> LogTime | None:
        """As the model takes it."""
        t = self.time
        return None if t is None else LogTime.of(t.seconds, t.low, t.high)

    def to_json(self) -> dict[str, object] | None:
        """As answers hold it."""
        t = self.time
        if t is None:
            return None
        return {
            "seconds": t.seconds,
            "seconds_low": t.low,
            "seconds_high": t.high,
            "timed_at": stamp(t.at),
            "kept": self.kept,
        }


def anchored(config: Config, program: Program, open_runner: OpenRunner | None) -> Anchored:
    """The time of ``program`` as written on this machine, taken now unless it is known.

    Without ``open_runner`` nothing is run, and nothing looked up.
    """
    if open_runner is None:
        return Anchored(None)
    try:
        runner = open_runner(config)
        key = _key(program, runner, read_machine())
        if (known := _kept(config).get(key)) is not None:
            _log.debug("the program as written was timed at %s", stamp(known.at))
            return Anchored(known, kept=True)
        return _taken(config, program, runner, key)
    except CANNOT as error:
        return Anchored(None, error.message)


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


def _taken(config: Config, program: Program, runner: Runner, key: str) -> Anchored:
    """Time it with the lock held: two measurements at once would disturb each other."""
    make_directory(config.state_dir)
    _log.debug("timing the program as written")
    with hold(config.state_dir, "predict"):
        taken = time_as_written(runner, program)
        _keep(config, key, taken)
    return Anchored(taken)


def _key(program: Program, runner: Runner, machine: Machine) -> str:
    """Digest of everything that decides the time; no part can be read from it."""
    loops = LogKey.of(program, machine, runner.toolchain).program
    parts = (loops, runner.toolchain.identity, fingerprint(machine), machine.microcode, PROTOCOL)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _kept(config: Config) -> Mapping[str, KeptTime]:
    """What is kept; what cannot be read of it is not there."""
    with read_state(config.state_dir) as state:
        stored = state.fact(FACT) or {}
    found = {}
    for key, body in stored.items():
        with contextlib.suppress(MalformedError):
            read = typed.from_json(KeptTime, body)
            if 0 < read.low <= read.seconds <= read.high:
                found[key] = read
    return found


def _keep(config: Config, key: str, taken: KeptTime) -> None:
    """Keep it, and forget the oldest where there are too many.

    In a state that is whole only: to set a damaged one aside is not for a prediction to do.
    """
    path = config.state_dir / FILE
    if path.exists() and damage_of(path, every_record=True):
        return
    known = {**_kept(config), key: taken}
    newest = sorted(known, key=lambda k: -known[k].at)[:KEPT]
    with open_state(config.state_dir) as state:
        state.remember(FACT, {k: typed.to_json(known[k]) for k in newest})


def runner_for_anchors(config: Config, cflags: Sequence[str] = ()) -> Runner:
    """What times programs as written; see ``runner_for_programs``."""
    return runner_for_programs(config, cflags, SETTINGS)
