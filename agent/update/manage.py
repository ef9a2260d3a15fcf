"""The bundles of this machine, for people: what there is, the way back, and holding on to one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

    from agent.bundle.bundle import Bundle
    from agent.bundle.installed import BundleInForce
    from agent.settings.config import Config
    from agent.state.state import BundleEvent, State


@dataclass(frozen=True)
class KnownBundle:
    """A bundle that is or was here: from its files if they are here, else from what was noted.

    Attributes:
        name, version, digest: as its manifest says; empty where nobody knows.
        created, licence: likewise, where it is on the disk.
        in_force, built_in, on_disk, damaged: how it stands.
        since, came_by: when and why it was last put in force.
        declined: why this machine turned it down or left it, where it did.
        verdict: of the comparison with the one before it, as it was noted.
    """

    name: str
    version: str
    digest: str
    created: str | None
    licence: str | None
    in_force: bool
    built_in: bool
    on_disk: bool
    damaged: bool
    since: str | None
    came_by: str | None
    declined: str | None
    verdict: JsonValue

    def to_json(self) -> dict[str, object]:
        """For ``--json``."""
        return dict(vars(self))


@dataclass(frozen=True)
class _Noted:
    """What the state has noted of bundles: events, those left, the one in force, the last visit."""

    found: BundleInForce
    pinned: bool
    events: tuple[BundleEvent, ...]
    refused: Mapping[str, BundleEvent]
    asked: float | None


def listing(state_dir: Path) -> dict[str, object]:
    """Every bundle that is or was here, the one in force first.

    Raises:
        BundleError: not even the built-in bundle can be used.
        StateError: the state cannot be read.
    """
    noted = _noted(state_dir)
    return {
        "bundles": [bundle.to_json() for bundle in _known(state_dir, noted)],
        "pinned": noted.pinned,
        "last_checked": stamp(noted.asked) if noted.asked is not None else None,
        "notes": [{"code": code, "message": words} for code, words in noted.found.notes],
    }


def _noted(state_dir: Path) -> _Noted:
    with read_state(state_dir) as state:
        at = (state.fact(CHECKED) or {}).get("at")
        return _Noted(
            found=bundle_in_force(state, state_dir),
            pinned=pin_of(state) is not None,
            events=state.events(ACTIVATED, DECLINED, WITHDRAWN),
            refused=left(state),
            asked=at if isinstance(at, int | float) else None,
        )


def _known(state_dir: Path, noted: _Noted) -> list[KnownBundle]:
    present = event_digest(noted.found.bundle)
    digests = dict.fromkeys((present, *(e.digest for e in noted.events), BUILT_IN))
    return [_known_bundle(state_dir, noted, digest, digest == present) for digest in digests]


def _known_bundle(state_dir: Path, noted: _Noted, digest: str, in_force: bool) -> KnownBundle:
    mine = [event for event in noted.events if event.digest == digest]
    try:
        bundle: Bundle | None = load_installed(state_dir, digest)
    except BundleError:
        bundle = None
    said = bundle_identity(bundle) if bundle else mine[0].body if mine else {}
    came = next((event for event in mine if event.kind == ACTIVATED), None)
    refused = noted.refused.get(digest)
    return KnownBundle(
        name=str(said.get("name", "")),
        version=str(said.get("version", "")),
        digest=str(said.get("digest", "")),
        created=bundle.created if bundle else None,
        licence=bundle.licence if bundle else None,
        in_force=in_force,
        built_in=digest == BUILT_IN,
        on_disk=bundle is not None,
        damaged=bundle is None and path_of(state_dir, digest).exists(),
        since=stamp(came.at) if came else None,
        came_by=str(came.body.get("why")) if came else None,
        declined=str(refused.body.get("why")) if refused else None,
        verdict=next((e.body["verdict"] for e in mine if e.body.get("verdict")), None),
    )


def describe_known(state_dir: Path, which: str | None) -> dict[str, JsonValue]:
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

    bundles = _known(state_dir, _noted(state_dir))
    meant = bundles[0] if which is None else _meant(bundles, which)
    bundle = load_installed(state_dir, BUILT_IN if meant.built_in else meant.digest)
    difference = golden_difference(bundle, Encoder(bundle))
    return describe(bundle, Prior.from_json(bundle.prior), difference)


def _meant(bundles: list[KnownBundle], which: str) -> KnownBundle:
    here = [bundle for bundle in bundles if bundle.on_disk]
    asked = which.strip().replace("@", " ")
    found = [
        bundle
        for bundle in here
        if asked in (bundle.name, f"{bundle.name} {bundle.version}")
        or (len(asked) >= 6 and bundle.digest.startswith(asked))
        or (asked == "built-in" and bundle.built_in)
    ]
    if len(found) != 1:
        names = "; ".join(f"{b.name} {b.version} ({b.digest[:12]})" for b in here)
        what = "no bundle here is called" if not found else "several bundles are called"
        raise InputError(f"{what} {asked[:80]!r}", f"Here are: {names}.")
    return found[0]


def rollback(config: Config, state: State) -> dict[str, object]:
    """Go back to the bundle before the one in force, refitted on this machine's timings.

    Raises:
        InputError: there is none before it, or this machine is pinned.
        BundleError, StateError: nothing was changed.
    """
    from agent.update.flow import digests_once_withdrawn
    from agent.update.switch import ROLLED_BACK, step_back

    if pin_of(state) is not None:
        hint = "`agent bundle unpin` first."
        raise InputError("this machine is pinned to its bundle", hint)
    before = bundle_in_force(state, config.state_dir).bundle
    gone = digests_once_withdrawn(state)
    after = step_back(config, state, gone, ROLLED_BACK)
    return {"before": bundle_identity(before), "after": bundle_identity(after)}


def pin_bundle(config: Config, state: State) -> dict[str, object]:
    """Hold this machine to the bundle in force: updates leave it alone."""
    bundle = bundle_in_force(state, config.state_dir).bundle
    if pin_of(state) is None:
        state.note([(PINNED, event_digest(bundle), bundle_identity(bundle))], time.time())
    return {"pinned": True, "bundle": bundle_identity(bundle)}


def unpin_bundle(config: Config, state: State) -> dict[str, object]:
    """Let updates change the bundle again."""
    bundle = bundle_in_force(state, config.state_dir).bundle
    if pin_of(state) is not None:
        state.note([(UNPINNED, event_digest(bundle), bundle_identity(bundle))], time.time())
    return {"pinned": False, "bundle": bundle_identity(bundle)}
