"""What predictions rest on: the bundle in force and the calibration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.bundle.installed import BUILT_IN, CHECKED, bundle_in_force, event_digest
from agent.calibration.calibration import calibration_in_force, newest_calibration
from agent.calibration.verdict import calibration_verdict
from agent.clock import age, duration, stamp
from agent.doctor.findings import Finding, needs_person, ok, problem, warning
from agent.doctor.scene import Scene
from agent.errors import AgentError
from agent.upkeep import due

if TYPE_CHECKING:
    from agent.calibration.calibration import CalibrationVerdict, StoredCalibration
    from agent.json_values import JsonObject

SILENT_S = 14 * 86_400.0  # without a word from the centre
QUIETLY = "Close what else runs and calibrate again: `agent calibrate --when-quiet`."
AGAIN = "Run `agent calibrate`."


def bundle(scene: Scene) -> Iterator[Finding]:
    """The bundle in force: every byte as its manifest says, and who vouches for it."""
    if scene.state is None:
        return
    found = bundle_in_force(scene.state, scene.directory)
    name = f"{found.bundle.name} {found.bundle.version}"
    built_in = event_digest(found.bundle) == BUILT_IN
    vouched = "came with the agent" if built_in else "signed by the centre"
    yield ok("bundle", f"{name} is whole, {vouched}, made {found.bundle.created[:10]}")
    for _, words in found.notes:
        advice = "Run `agent update`; check the disk if this happens again."
        yield needs_person("bundle", f"a newer one cannot be used: {words}", advice)
    if scene.config.repository is not None:
        yield from _word_of_the_centre(scene.state.fact(CHECKED), scene.now)


def _word_of_the_centre(asked: JsonObject | None, now: float) -> Iterator[Finding]:
    at = (asked or {}).get("at")
    if not isinstance(at, float):
        yield warning("bundle", "the centre was never asked for a newer one", "Run `agent update`.")
    elif now - at > SILENT_S:
        words = f"the centre was last asked and believed {duration(now - at)} ago"
        yield needs_person("bundle", words, "Run `agent update` and follow what it says.")
    else:
        yield ok("bundle", f"the centre was last asked and believed at {stamp(at)}")


def calibration(scene: Scene) -> Iterator[Finding]:
    """The calibration in force: of this machine and bundle, young enough, exact enough."""
    if scene.state is None:
        return
    stored, newest = calibration_in_force(scene.state), newest_calibration(scene.state)
    if newest and (stored is None or newest.id > stored.id):
        words = (
            f"number {newest.id} is kept, not in force: {calibration_verdict(newest.body).words}"
        )
        yield needs_person("calibration", words, QUIETLY)
    if stored is None:
        words = "none in force: predictions are the bundle's alone"
        yield warning("calibration", words, f"{AGAIN} It takes about a minute.")
        return
    present = due.look_around(scene.config, scene.now)
    reasons = due.what_is_due(scene.state, scene.config, present).reasons
    yield from (warning("calibration", r.message, AGAIN) for r in reasons)
    if not reasons:
        yield _verdict(stored, scene.now)


def verdict_in_force(scene: Scene) -> CalibrationVerdict | None:
    """The verdict on the calibration in force; None where there is none, or nobody can tell."""
    with contextlib.suppress(AgentError):
        stored = calibration_in_force(scene.state) if scene.state else None
        return calibration_verdict(stored.body) if stored else None
    return None


def _verdict(stored: StoredCalibration, now: float) -> Finding:
    verdict = calibration_verdict(stored.body)
    words = f"{verdict.words} (number {stored.id}, {age(stored.created_at, now)})"
    if verdict.level == "good":
        return ok("calibration", words)
    return warning("calibration", words, QUIETLY)


def nothing_left(scene: Scene) -> Iterator[Finding]:
    """Said where the state cannot be read: nothing is known of bundle and calibration."""
    if scene.state is None:
        words = "bundle and calibration could not be looked at: the state cannot be read"
        yield problem("calibration", words, "Do what the line `state` says.")
