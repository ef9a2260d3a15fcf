"""Whether this machine has to be calibrated again, or its calibration looked at: facts, no timing.

Nothing is written to find out, and nothing is compiled. Times are of a clock that may be wrong:

- a calibration was really made after every other one with a smaller number, so it is no older than
  the youngest of them all that the present clock allows. A clock that jumps ahead and comes back
  costs one calibration at the most each time;
- while the clock is not set (before 2020), age means nothing and is not asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.bundle.installed import BUILT_IN, outdated, ways_back
from agent.calibration.calibration import calibration_in_force, newest_calibration
from agent.clock import CLOCK_SET, age
from agent.upkeep.checked import Reason, StoredCheck, stored_checks

if TYPE_CHECKING:
    from agent.calibration.calibration import StoredCalibration
    from agent.measure.machine import Machine
    from agent.settings.config import Config
    from agent.state.state import State, StoredRecord


@dataclass(frozen=True, slots=True)
class Present:
    """What a calibration is compared with.

    Attributes:
        machine: its facts.
        mark: of the toolchain (``agent.measure.resolve.mark_for_set``).
        now: seconds since 1970 by this machine's clock.
    """

    machine: Machine
    mark: str
    now: float


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now.

    Attributes:
        reasons: to calibrate; empty: none is known.
        check: whether it is time to see if the calibration still holds.
        number: of the calibration in force, or of the last attempt; None: there is none.
    """

    reasons: tuple[Reason, ...]
    check: bool
    number: int | None = None


def look_around(config: Config, now: float) -> Present:
    """The machine, the toolchain that the configuration means, and the time."""
    from agent.measure.machine import read_machine
    from agent.measure.resolve import mark_for_set

    machine = read_machine()
    return Present(machine, mark_for_set(config.compiler, machine), now)


def what_is_due(state: State, config: Config, present: Present) -> Due:
    """What the state and the facts of this moment ask for."""
    newest, in_force = newest_calibration(state), calibration_in_force(state)
    if newest is None:
        return Due((Reason("never", "this machine was never calibrated"),), check=False)
    if in_force is None or _was_refused(newest, in_force):
        facts = changed_facts(newest, state, config, present)
        return Due((*facts, *_again(state, config, present.now)), check=False, number=newest.id)
    reasons = (
        *changed_facts(in_force, state, config, present),
        *drift_since(in_force.id, stored_checks(state)),
        *_age(state, config, present.now),
    )
    return Due(reasons, not reasons and _check_is_due(state, config, present.now), in_force.id)


def _was_refused(newest: StoredCalibration, in_force: StoredCalibration) -> bool:
    """Whether the last attempt did not come into force, so that what asked for it still would."""
    verdict = newest.body.verdict
    return newest.id != in_force.id and verdict is not None and not verdict.believed


def _again(state: State, config: Config, now: float) -> Iterator[Reason]:
    """Another attempt after one whose calibration was not to be used, but not at once."""
    if now >= CLOCK_SET and not _any_since(state.calibrations(), now - config.check_every_s, now):
        yield Reason("refused", "the last calibration was not good enough to come into force")


def changed_facts(
    stored: StoredCalibration, state: State, config: Config, present: Present
) -> Iterator[Reason]:
    """What is no longer as it was when a calibration was made.

    What a calibration by an older agent does not tell, or cannot be read now, is taken to be
    unchanged.
    """
    machine, toolchain = stored.body.machine, stored.body.toolchain
    if not machine.is_of(present.machine):
        yield Reason("machine", "it was made on another machine, or this one was changed")
    if _differs(machine.microcode or None, present.machine.microcode):
        yield Reason("microcode", "the CPU has other microcode now")
    if _differs(machine.kernel or None, present.machine.kernel):
        yield Reason("kernel", f"the system's kernel is {present.machine.kernel} now")
    prebuilt_for_another = toolchain.kind == "prebuilt" and "level" in present.machine.unknown
    if toolchain.mark is not None and toolchain.mark != present.mark and not prebuilt_for_another:
        yield Reason("compiler", "the C compiler (or the prebuilt set) is another one now")
    if _other_bundle(stored, state, config):
        yield Reason("bundle", "it was made with a bundle that is no longer in force")


def _differs(then: object, now: str) -> bool:
    return then is not None and now != "" and then != now


def _other_bundle(stored: StoredCalibration, state: State, config: Config) -> bool:
    if config.bundle is None and outdated(stored.id, stored.body.bundle.digest, state):
        return True
    in_force = _bundle_meant(stored, state, config)
    digest = _digest_of(in_force) if in_force else None
    return digest is not None and digest != stored.body.bundle.digest


def _bundle_meant(stored: StoredCalibration, state: State, config: Config) -> Path | None:
    """The directory that the bundle has to be from; None where events decide (``outdated``).

    Somebody's own ``--bundle`` is left alone, as predictions leave it.
    """
    from agent.bundle.bundle import default_bundle

    if config.bundle is not None:
        return config.bundle
    newest = next(iter(ways_back(state)), BUILT_IN)
    came_with_an_agent = stored.body.bundle.path == str(default_bundle())
    # An upgrade of the agent may have brought another one, and no event tells of that.
    return default_bundle() if newest == BUILT_IN and came_with_an_agent else None


def _digest_of(bundle: Path) -> str | None:
    from agent.bundle.bundle import MANIFEST, MAX_BYTES

    try:
        with (bundle / MANIFEST).open("rb") as file:
            return hashlib.sha256(file.read(MAX_BYTES[MANIFEST])).hexdigest()
    except OSError:
        return None


def drift_since(calibration: int, checks: Iterable[StoredCheck]) -> Iterator[Reason]:
    """What the newest check of this calibration found, if that it no longer holds."""
    newest = next((c.body for c in checks if c.body.calibration == calibration), None)
    # Facts are asked for anew each time; a check by hand may have met others (taskset, $CC).
    if newest and newest.sentinels and newest.verdict == "changed":
        yield Reason("drift", "the last check found that this machine is no longer as it was then")


def _age(state: State, config: Config, now: float) -> Iterator[Reason]:
    calibrations = state.calibrations()
    if now >= CLOCK_SET and not _any_since(calibrations, now - config.max_age_s, now):
        yield Reason("age", f"it is {age(calibrations[0].created_at, now)}")


def _check_is_due(state: State, config: Config, now: float) -> bool:
    looked = (*state.drifts(), *state.calibrations())
    return now >= CLOCK_SET and not _any_since(looked, now - config.check_every_s, now)


def _any_since(stored: Iterable[StoredRecord[object]], begin: float, now: float) -> bool:
    return any(begin < s.created_at <= now for s in stored)
