"""Changing the bundle in force: refitted, compared, switched in one transaction, swept.

To fit needs the encoder and the reader of C: an hourly update that changes nothing does without.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.bundle.installed import (
    ACTIVATED,
    BUILT_IN,
    DECLINED,
    KEPT,
    WITHDRAWN,
    bundle_identity,
    bundle_in_force,
    event_digest,
    left,
    load_installed,
    ways_back,
)
from agent.calibration.calibration import calibration_in_force
from agent.calibration.verdict import calibration_verdict, judge_calibration
from agent.errors import BundleError, InputError, MeasureError
from agent.measure.machine import read_machine
from agent.progress import Stopwatch
from agent.update.install import sweep
from agent.update.verdict import BundleComparison, compare_bundles

if TYPE_CHECKING:
    from agent.bundle.bundle import Bundle
    from agent.calibration.calibration import Calibration
    from agent.settings.config import Config
    from agent.state.state import Run, State

BY_CENTRE = "the centre has withdrawn it"
ROLLED_BACK = "a person went back from it"


@dataclass(frozen=True, eq=False)
class Refitted:
    """A calibration on another bundle from stored timings, and what it says of that bundle."""

    run: Run
    calibration: Calibration
    verdict: BundleComparison | None


def refitted_on(state: State, bundle: Bundle, present: Bundle | None = None) -> Refitted | None:
    """Fit this machine's timings on a bundle, and judge it against the present one.

    None where there are no timings to fit: the bundle then predicts alone.
    """
    from agent.calibration.calibrate import finished
    from agent.calibration.evidence import stored_evidence
    from agent.calibration.fit import fit

    watch, machine = Stopwatch(), read_machine()
    try:
        if calibration_in_force(state) is None:
            return None  # timings of one that is not to be used judge nothing
        evidence = stored_evidence(state, machine)
        new = fit(evidence, bundle)
    except MeasureError:
        return None
    verdict = None if present is None else compare_bundles(fit(evidence, present), new)
    made = finished(new, evidence.run, watch, refit=True)
    return Refitted(evidence.run, replace(made, verdict=judge_calibration(made)), verdict)


def put_in_force(
    config: Config,
    state: State,
    bundle: Bundle,
    why: str,
    refitted: Refitted | None,
    leaving: tuple[Bundle, str] | None = None,
) -> None:
    """Switch to a bundle together with its calibration: both are in force on return, or neither.

    Args:
        config: whose state directory holds the bundles.
        state: opened for writing, with the lock held.
        bundle: installed, or the built-in one.
        why: "update", "rollback"...
        refitted: its calibration, where there are timings.
        leaving: a bundle not to come back to, and why (``BY_CENTRE``, ``ROLLED_BACK``).
    """
    events = []
    if leaving is not None:
        kind = WITHDRAWN if leaving[1] == BY_CENTRE else DECLINED
        events.append((kind, *_event(leaving[0], leaving[1], None)))
    digest, about = _event(bundle, why, refitted.verdict if refitted else None)
    if refitted is None or not calibration_verdict(refitted.calibration).believed:
        last = next(iter(state.calibrations(1)), None)
        about["outdates"] = last.id if last else 0  # calibrations up to this one
    events.append((ACTIVATED, digest, about))
    if refitted is None:
        state.note(events, time.time())
    else:
        from agent.calibration.calibrate import keep

        keep(state, refitted.run, refitted.calibration, events)
    _sweep(config, state)


def turn_down(config: Config, state: State, bundle: Bundle, verdict: BundleComparison) -> None:
    """Do not take a bundle that is worse here; it is not tried again."""
    why = f"off by {verdict.new:.2f} here, where the one in force is off by {verdict.old:.2f}"
    if verdict.old_seconds is not None and verdict.new_seconds is not None:
        why += f" (times: {verdict.new_seconds:.2f} and {verdict.old_seconds:.2f})"
    if verdict.old_order is not None and verdict.new_order is not None:
        why += f"; versions in the right order: {verdict.new_order:.0%} and {verdict.old_order:.0%}"
    state.note([(DECLINED, *_event(bundle, why, verdict))], time.time())
    _sweep(config, state)


def step_back(config: Config, state: State, barred: Collection[str], why: str) -> Bundle:
    """Go back to the bundle that was in force before the present one, or the built-in one.

    Args:
        config: whose state directory holds the bundles.
        state: opened for writing, with the lock held.
        barred: digests not to go back to.
        why: the present one is left.

    Raises:
        InputError: the built-in bundle is in force: there is nothing before it.
    """
    present = bundle_in_force(state, config.state_dir).bundle
    if event_digest(present) == BUILT_IN:
        hint = "`agent update` brings another, once the centre offers one."
        raise InputError("the built-in bundle is in force; there is none before it", hint)
    for digest in (*ways_back(state), BUILT_IN):
        if digest == present.digest or digest in barred:
            continue
        try:
            bundle = load_installed(config.state_dir, digest)
        except BundleError:
            if digest == BUILT_IN:
                raise
            continue
        put_in_force(config, state, bundle, "rollback", refitted_on(state, bundle), (present, why))
        return bundle
    raise AssertionError  # the built-in bundle is always tried


def _event(
    bundle: Bundle, why: str, verdict: BundleComparison | None
) -> tuple[str, dict[str, object]]:
    judged = {} if verdict is None else {"verdict": verdict.to_json()}
    return event_digest(bundle), {**bundle_identity(bundle), "why": why, **judged}


def _sweep(config: Config, state: State) -> None:
    """Keep what is in force, the way back, and the last one that was left, should it be wanted."""
    wanted = [*ways_back(state)[: 1 + KEPT], *list(left(state))[:1]]
    sweep(config.state_dir, wanted)
