"""What is on record: the calibration in force, earlier ones, and the fixed set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agent.bundle.installed import outdated
from agent.clock import CLOCK_SET, age, stamp
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.state.state import State, Stored, read_state
from agent.upkeep.due import Reason, drift

_SHOWN = (
    "agent",
    "bundle",
    "timings",
    "noise_floor",
    "head",
    "accuracy",
    "warnings",
    "elapsed_s",
    "measured_at",
)


def status(directory: Path) -> dict[str, Any]:
    """The calibration in force and what is unfinished; StateError if the state is unreadable."""
    with read_state(directory) as state:
        found = state.latest()
        unfinished = _unfinished(state)
        stale = found is not None and outdated(found, state)
        drifts = [*drift(found, state)] if found else []
    return {
        "calibration": _summary(found, machine=True) if found else None,
        "unfinished": unfinished,
        "notes": [*_notes(found, stale=stale), *(_drifted(d) for d in drifts)] if found else [],
        "state_dir": str(directory),
    }


def history(directory: Path, limit: int) -> dict[str, Any]:
    """Calibrations, newest first; StateError if the state is unreadable."""
    with read_state(directory) as state:
        return {"calibrations": [_summary(c, machine=False) for c in state.calibrations(limit)]}


def fixed_set() -> dict[str, Any]:
    """The kernels of the fixed set with the schedules timed of each."""
    from agent.kernels.fixed_set import fixed_variants, kernels

    schedules: dict[str, list[str]] = {k.name: [] for k in kernels()}
    for variant in fixed_variants():
        schedules[variant.kernel.name].append(str(variant.schedule))
    entries = [
        {
            "name": k.name,
            "file": k.path.name,
            "function": k.function,
            "purpose": k.purpose,
            "stands_for": k.stands_for,
            "sizes": dict(k.sizes),
            "schedules": schedules[k.name],
        }
        for k in kernels()
    ]
    return {"kernels": entries, "variants": len(fixed_variants())}


def _summary(stored: Stored, *, machine: bool) -> dict[str, Any]:
    now = time.time()
    sane = CLOCK_SET <= stored.created_at <= now + 60
    names = (*_SHOWN, "machine", "toolchain") if machine else _SHOWN
    return {
        "calibration_id": stored.id,
        "created_at": stamp(stored.created_at),
        "age_s": max(0.0, now - stored.created_at) if sane else None,
        "age": age(stored.created_at, now),
        **{name: stored.body.get(name) for name in names},
    }


def _unfinished(state: State) -> dict[str, Any] | None:
    run = state.open_run()
    if run is None:
        return None
    timed = sum(t.key.schedule != ORIGINAL for t in state.timings(run))
    return {"started_at": stamp(run.started_at), "timed": timed, "planned": run.planned}


def _drifted(reason: Reason) -> dict[str, str]:
    return {"code": reason.code, "message": f"{reason.message}: run `agent calibrate`"}


def _notes(stored: Stored, *, stale: bool) -> list[dict[str, str]]:
    from agent.measure.machine import fingerprint, read_machine

    notes = []
    if stored.body["machine"]["fingerprint"] != fingerprint(read_machine()):
        words = "it was made on another machine: run `agent calibrate`"
        notes.append({"code": "other-machine", "message": words})
    if stale:
        words = "another bundle is in force, not fitted to this machine: run `agent calibrate`"
        notes.append({"code": "other-bundle", "message": words})
    return notes
