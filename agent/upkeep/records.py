"""What is on record: the calibration in force, earlier ones, and the fixed set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.bundle.installed import outdated
from agent.calibration.calibration import (
    StoredCalibration,
    calibration_in_force,
    newest_calibration,
    stored_calibrations,
)
from agent.calibration.verdict import calibration_verdict
from agent.clock import CLOCK_SET, age, stamp
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.state import typed
from agent.state.state import State, read_state
from agent.upkeep.checked import Reason, stored_checks
from agent.upkeep.due import drift_since

if TYPE_CHECKING:
    from agent.kernels.fixed_set import Kernel

_SHOWN = (
    "agent",
    "bundle",
    "timings",
    "noise_floor",
    "repeat_noise",
    "head",
    "accuracy",
    "warnings",
    "elapsed_s",
    "measured_at",
    "refit",
)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that was interrupted: when it began, versions timed and planned."""

    started_at: str
    timed: int
    planned: int


@dataclass(frozen=True)
class Status:
    """The calibration in force (None: none), why it cannot be relied on, and what is unfinished.

    ``kept``: a newer calibration that did not come into force, if the last one did not.
    """

    calibration: StoredCalibration | None
    kept: StoredCalibration | None
    unfinished: Unfinished | None
    notes: tuple[Reason, ...]
    state_dir: Path

    def to_json(self) -> dict[str, object]:
        """The answer of ``agent status``."""
        found, kept = self.calibration, self.kept
        more = ("machine", "toolchain")
        return {
            "calibration": summary_json(found, *more, in_force=True) if found else None,
            "kept": summary_json(kept, *more, in_force=False) if kept else None,
            "unfinished": typed.to_json(self.unfinished) if self.unfinished else None,
            "notes": [typed.to_json(n) for n in self.notes],
            "state_dir": str(self.state_dir),
        }


@dataclass(frozen=True)
class KernelEntry:
    """A kernel of the fixed set with the schedules that are timed of it."""

    kernel: Kernel
    schedules: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """An entry of the answer of ``agent kernels``."""
        k = self.kernel
        return {
            "name": k.name,
            "file": k.path.name,
            "function": k.function,
            "purpose": k.purpose,
            "stands_for": k.stands_for,
            "sizes": dict(k.sizes),
            "schedules": list(self.schedules),
        }


def read_status(directory: Path) -> Status:
    """The calibration in force and what is unfinished; StateError if the state is unreadable."""
    with read_state(directory) as state:
        found, newest = calibration_in_force(state), newest_calibration(state)
        unfinished = _unfinished(state)
        notes = tuple(_notes(found, state)) if found else ()
    kept = newest if newest and (found is None or newest.id > found.id) else None
    return Status(found, kept, unfinished, notes, directory)


@dataclass(frozen=True)
class History:
    """Calibrations, newest first, and the number of the one in force (None: none is)."""

    calibrations: tuple[StoredCalibration, ...]
    in_force: int | None

    def to_json(self) -> dict[str, object]:
        """The answer of ``agent history``."""
        made = self.calibrations
        return {"calibrations": [summary_json(c, in_force=c.id == self.in_force) for c in made]}


def read_history(directory: Path, limit: int) -> History:
    """Calibrations that are kept; StateError if the state is unreadable."""
    with read_state(directory) as state:
        found = calibration_in_force(state)
        return History(stored_calibrations(state, limit), found.id if found else None)


def fixed_set_entries() -> tuple[KernelEntry, ...]:
    """The kernels of the fixed set with the schedules timed of each."""
    from agent.kernels.fixed_set import fixed_variants, kernels

    schedules: dict[str, list[str]] = {k.name: [] for k in kernels()}
    for variant in fixed_variants():
        schedules[variant.kernel.name].append(str(variant.schedule))
    return tuple(KernelEntry(k, tuple(schedules[k.name])) for k in kernels())


def fixed_set_json(entries: Sequence[KernelEntry]) -> dict[str, object]:
    """The answer of ``agent kernels``."""
    variants = sum(len(e.schedules) for e in entries)
    return {"kernels": [e.to_json() for e in entries], "variants": variants}


def summary_json(stored: StoredCalibration, *more: str, in_force: bool) -> dict[str, object]:
    """A calibration as ``agent status`` and ``agent history`` tell it, with ``more`` of it."""
    now, body = time.time(), stored.body.to_json()
    sane = CLOCK_SET <= stored.created_at <= now + 60
    return {
        "calibration_id": stored.id,
        "created_at": stamp(stored.created_at),
        "age_s": max(0.0, now - stored.created_at) if sane else None,
        "age": age(stored.created_at, now),
        **{name: body.get(name) for name in (*_SHOWN, *more)},
        "verdict": typed.to_json(calibration_verdict(stored.body)),
        "in_force": in_force,
    }


def _unfinished(state: State) -> Unfinished | None:
    run = state.open_run()
    if run is None:
        return None
    timed = sum(t.key.schedule != ORIGINAL for t in state.timings(run))
    return Unfinished(stamp(run.started_at), timed, run.planned)


def _notes(stored: StoredCalibration, state: State) -> Iterator[Reason]:
    """Why a calibration cannot be relied on here."""
    from agent.measure.machine import read_machine

    if not stored.body.machine.is_of(read_machine()):
        yield Reason("other-machine", "it was made on another machine: run `agent calibrate`")
    if outdated(stored.id, stored.body.bundle.digest, state):
        words = "another bundle is in force, not fitted to this machine: run `agent calibrate`"
        yield Reason("other-bundle", words)
    for reason in drift_since(stored.id, stored_checks(state)):
        yield Reason(reason.code, f"{reason.message}: run `agent calibrate`")
