"""The bundles of this machine, for people: what there is, the way back, and holding on to one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent.bundle.installed import (
    ACTIVATED,
    BUILT_IN,
    CHECKED,
    DECLINED,
    PINNED,
    UNPINNED,
    WITHDRAWN,
    bundle_identity,
    bundle_in_force,
    event_digest,
    left,
    load_installed,
    path_of,
    pin_of,
)
from agent.clock import stamp
from agent.errors import BundleError, InputError
from agent.json_values import JsonValue
from agent.state.state import read_state

if TYPE_CHECKING:
    from pathlib import Path

    from agent.settings.config import Config
    from agent.state.state import BundleEvent, State


def listing(state_dir: Path) -> dict[str, Any]:
    """Every bundle that is or was here, the one in force first.

    Raises:
        BundleError: not even the built-in bundle can be used.
        StateError: the state cannot be read.
    """
    with read_state(state_dir) as state:
        found, pin = bundle_in_force(state, state_dir), pin_of(state)
        events, refused = state.events(ACTIVATED, DECLINED, WITHDRAWN), left(state)
        at = (state.fact(CHECKED) or {}).get("at")
    present = event_digest(found.bundle)
    digests = dict.fromkeys((present, *(e.digest for e in events), BUILT_IN))
    rows = [_row(state_dir, digest, events, refused, present) for digest in digests]
    return {
        "bundles": rows,
        "pinned": pin is not None,
        "last_checked": stamp(at) if isinstance(at, int | float) else None,
        "notes": [{"code": code, "message": words} for code, words in found.notes],
    }


def _row(
    state_dir: Path,
    digest: str,
    events: tuple[BundleEvent, ...],
    refused: dict[str, BundleEvent],
    present: str,
) -> dict[str, Any]:
    """What is known of one bundle: from its files if they are here, else from what was noted."""
    mine = [event for event in events if event.digest == digest]
    try:
        bundle = load_installed(state_dir, digest)
        about: dict[str, JsonValue] = {
            **bundle_identity(bundle),
            "created": bundle.created,
            "licence": bundle.licence,
        }
    except BundleError:
        bundle = None
        names = ("name", "version", "digest")
        told = {name: str(mine[0].body.get(name, "")) if mine else "" for name in names}
        about = {**told, "created": None, "licence": None}
    came = next((event for event in mine if event.kind == ACTIVATED), None)
    return {
        **about,
        "in_force": digest == present,
        "built_in": digest == BUILT_IN,
        "on_disk": bundle is not None,
        "damaged": bundle is None and path_of(state_dir, digest).exists(),
        "since": stamp(came.at) if came else None,
        "came_by": str(came.body.get("why")) if came else None,
        "declined": str(refused[digest].body.get("why")) if digest in refused else None,
        "verdict": next((e.body["verdict"] for e in mine if e.body.get("verdict")), None),
    }


def show(state_dir: Path, which: str | None) -> dict[str, Any]:
    """A bundle with its licence, provenance, evaluation and self-test; the one in force by default.

    Args:
        state_dir: of this machine.
        which: its name, ``NAME VERSION``, ``NAME@VERSION``, the beginning of its digest, or
            ``built-in``.

    Raises:
        BundleError, InputError: it is not here, or several answer to that name.
    """
    from agent.bundle.describe import describe
    from agent.bundle.encoder import Encoder, golden_difference
    from agent.model.prior import Prior

    rows = listing(state_dir)["bundles"]
    bundle = load_installed(state_dir, _digest_of(rows, which))
    difference = golden_difference(bundle, Encoder(bundle))
    return describe(bundle, Prior.from_json(bundle.prior), difference)


def _digest_of(rows: list[dict[str, Any]], which: str | None) -> str:
    if which is None:
        return BUILT_IN if rows[0]["built_in"] else str(rows[0]["digest"])
    here = [row for row in rows if row["on_disk"]]
    asked = which.strip().replace("@", " ")
    found = [
        row
        for row in here
        if asked in (row["name"], f"{row['name']} {row['version']}")
        or (len(asked) >= 6 and row["digest"].startswith(asked))
        or (asked == "built-in" and row["built_in"])
    ]
    if len(found) != 1:
        names = "; ".join(f"{r['name']} {r['version']} ({r['digest'][:12]})" for r in here)
        what = "no bundle here is called" if not found else "several bundles are called"
        raise InputError(f"{what} {asked[:80]!r}", f"Here are: {names}.")
    return BUILT_IN if found[0]["built_in"] else str(found[0]["digest"])


def rollback(config: Config, state: State) -> dict[str, Any]:
    """Go back to the bundle before the one in force, refitted on this machine's timings.

    Raises:
        InputError: there is none before it, or this machine is pinned.
        BundleError, StateError: nothing was changed.
    """
    from agent.update.flow import withdrawn_digests
    from agent.update.switch import ROLLED_BACK, step_back

    if pin_of(state) is not None:
        hint = "`agent bundle unpin` first."
        raise InputError("this machine is pinned to its bundle", hint)
    before = bundle_in_force(state, config.state_dir).bundle
    gone = withdrawn_digests(state)
    after = step_back(config, state, gone, ROLLED_BACK)
    return {"before": bundle_identity(before), "after": bundle_identity(after)}


def pin(config: Config, state: State) -> dict[str, Any]:
    """Hold this machine to the bundle in force: updates leave it alone."""
    bundle = bundle_in_force(state, config.state_dir).bundle
    if pin_of(state) is None:
        state.note([(PINNED, event_digest(bundle), bundle_identity(bundle))], time.time())
    return {"pinned": True, "bundle": bundle_identity(bundle)}


def unpin(config: Config, state: State) -> dict[str, Any]:
    """Let updates change the bundle again."""
    bundle = bundle_in_force(state, config.state_dir).bundle
    if pin_of(state) is not None:
        state.note([(UNPINNED, event_digest(bundle), bundle_identity(bundle))], time.time())
    return {"pinned": False, "bundle": bundle_identity(bundle)}
