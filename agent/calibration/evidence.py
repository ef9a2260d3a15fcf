"""All that was timed for one calibration: what is fitted, now or again later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.calibration.calibration import (
    CalibrationWarning,
    MachineFacts,
    RepeatNoise,
    ToolchainFacts,
    calibration_in_force,
    mark_of,
    newest_calibration,
)
from agent.calibration.facts import KnownFacts, facts_known
from agent.calibration.journal import newest
from agent.calibration.plan import source_digest
from agent.errors import MeasureError
from agent.kernels.fixed_set import kernels
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.machine import Machine

if TYPE_CHECKING:
    from agent.state.state import Run, State, StoredTiming


@dataclass(frozen=True)
class Evidence:
    """All that was timed for one calibration, and where it came from.

    Attributes:
        run: that the timings were made in.
        stored: the timings.
        planned: how many versions were to be timed; ``reused``: of them from an earlier attempt.
        machine, toolchain: that they were timed on and with.
        facts: of both, for the bundle's prior.
        warnings: what went wrong.
        repeat_noise: of what was timed twice; None where nothing was.
    """

    run: Run
    stored: tuple[StoredTiming, ...]
    planned: int
    reused: int
    machine: MachineFacts
    toolchain: ToolchainFacts
    facts: KnownFacts
    warnings: tuple[CalibrationWarning, ...] = ()
    repeat_noise: RepeatNoise | None = None


def stored_evidence(state: State, machine: Machine) -> Evidence:
    """Timings of the calibration in force, else of the newest; MeasureError if there are none."""
    last = calibration_in_force(state) or newest_calibration(state)
    run = state.run_of(last.id) if last else None
    if run is None or last is None:
        hint = "Run `agent calibrate` without --refit first."
        raise MeasureError("there are no stored timings to refit from", hint)
    digests = {source_digest(k) for k in kernels()}
    mark = mark_of(machine, last.body.machine)
    timings = newest(state.timings(run)).values()
    fitting = tuple(t for t in timings if t.key.source in digests and t.key.machine == mark)
    if not fitting:
        hint = "The machine or the fixed set has changed: run `agent calibrate`."
        raise MeasureError("the stored timings are of another machine or fixed set", hint)
    toolchain = last.body.toolchain
    return Evidence(
        run=run,
        stored=fitting,
        planned=last.body.timings.planned,
        reused=sum(t.key.schedule != ORIGINAL for t in fitting),
        machine=MachineFacts.of(machine, mark),
        toolchain=toolchain,
        repeat_noise=last.body.repeat_noise,
        # A calibration by a version that did not note facts tells these all the same.
        facts=last.body.facts or facts_known(machine, 0, toolchain.version, toolchain.flags),
    )
