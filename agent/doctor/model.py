"""What predictions rest on: the bundle in force and the calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.bundle.installed import BUILT_IN, CHECKED, bundle_in_force, event_digest
from agent.calibration.calibration import latest_calibration
from agent.clock import age, duration, stamp
from agent.doctor.findings import Finding, ok, problem, warning
from agent.doctor.scene import Scene
from agent.terminal.numbers import difference, factor
from agent.upkeep import due

if TYPE_CHECKING:
    from agent.json_values import JsonObject
    from agent.measure.stats import NoiseFloor

SILENT_S = 14 * 86_400.0  # without a word from the centre
NOISY = 0.10  # log ratio of two timings of the same thing
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
        yield warning("bundle", f"a newer one cannot be used: {words}", advice)
    if scene.config.repository is not None:
        yield from _word_of_the_centre(scene.state.fact(CHECKED), scene.now)


def _word_of_the_centre(asked: JsonObject | None, now: float) -> Iterator[Finding]:
    at = (asked or {}).get("at")
    if not isinstance(at, float):
        yield warning("bundle", "the centre was never asked for a newer one", "Run `agent update`.")
    elif now - at > SILENT_S:
        words = f"the centre was last asked and believed {duration(now - at)} ago"
        yield warning("bundle", words, "Run `agent update` and follow what it says.")
    else:
        yield ok("bundle", f"the centre was last asked and believed at {stamp(at)}")


def calibration(scene: Scene) -> Iterator[Finding]:
    """The calibration in force: of this machine and bundle, young enough, exact enough."""
    if scene.state is None:
        return
    stored = latest_calibration(scene.state)
    if stored is None:
        words = "none yet: predictions are the bundle's alone"
        yield warning("calibration", words, f"{AGAIN} It takes about a minute.")
        return
    present = due.look_around(scene.config, scene.now)
    reasons = due.what_is_due(scene.state, scene.config, present).reasons
    yield from (warning("calibration", r.message, AGAIN) for r in reasons)
    if not reasons:
        words = f"number {stored.id}, {age(stored.created_at, scene.now)}, off by a factor of "
        yield ok("calibration", words + factor(stored.body.accuracy.calibrated.log_error))
    yield from _noise(stored.body.noise_floor)


def _noise(floor: NoiseFloor | None) -> Iterator[Finding]:
    if floor and floor.label_median > NOISY:
        words = f"two timings of the same thing differed by {difference(floor.label_median)}"
        advice = "Close what else runs and calibrate again: `agent calibrate --when-quiet`."
        yield warning("calibration", words, advice)


def nothing_left(scene: Scene) -> Iterator[Finding]:
    """Said where the state cannot be read: nothing is known of bundle and calibration."""
    if scene.state is None:
        words = "bundle and calibration could not be looked at: the state cannot be read"
        yield problem("calibration", words, "Do what the line `state` says.")
