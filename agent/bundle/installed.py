"""Which bundle this machine uses: those on its disk, the one in force, and the way back.

    STATE/bundles/<digest>/      whole bundles, written by ``agent update``
    events of the state database: activated, declined, withdrawn, in the order they happened

The newest ``activated`` event says which bundle is in force; ``BUILT_IN`` stands for the one that
came with the agent, whichever that is after the next upgrade. What is
named but cannot be used (a damaged disk, an agent that reads other features) is passed over for
the one before it, down to the built-in one: some bundle always works.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from agent.errors import BundleError
from agent.json_values import JsonValue
from agent.state import typed

if TYPE_CHECKING:
    from agent.bundle.bundle import Bundle
    from agent.state.state import BundleEvent, State

FOLDER = "bundles"
BUILT_IN = ""  # in place of a digest
ACTIVATED, PINNED, UNPINNED = "activated", "pinned", "unpinned"
DECLINED, WITHDRAWN = "declined", "withdrawn"  # left or not taken: by this machine, by the centre
CHECKED = "checked"  # the fact that says when a repository was last asked and believed
KEPT = 3  # bundles on the disk besides the one in force: the way back


@dataclass(frozen=True, slots=True)
class BundleReference:
    """A bundle as a calibration names it: with the SHA-256 of its manifest, and its directory."""

    name: str = ""
    version: str = ""
    digest: str = ""
    path: str = ""

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """What is noted of a bundle."""
        return cls(bundle.name, bundle.version, bundle.digest, str(bundle.path))


@dataclass(frozen=True)
class BundleInForce:
    """The bundle in force, and what a person should know about how it came to be that one."""

    bundle: Bundle
    notes: tuple[tuple[str, str], ...] = ()


def path_of(state_dir: Path, digest: str) -> Path:
    """Where the bundle of a digest lies, once it is installed."""
    return state_dir / FOLDER / digest[:32]


def bundle_in_force(state: State, state_dir: Path) -> BundleInForce:
    """The bundle to use here.

    Raises:
        BundleError: not even the built-in bundle can be used.
    """
    notes: list[tuple[str, str]] = []
    for digest in ways_back(state):
        try:
            bundle = load_installed(state_dir, digest)
        except BundleError as error:
            notes.append(("bundle-passed-over", error.message))
        else:
            return BundleInForce(bundle, tuple(notes))
    return BundleInForce(load_installed(state_dir, BUILT_IN), tuple(notes))


def load_installed(state_dir: Path, digest: str) -> Bundle:
    """The bundle of a digest (or ``BUILT_IN``), verified; BundleError if it is not whole."""
    from agent.bundle.bundle import default_bundle, load_bundle

    if digest == BUILT_IN:
        return load_bundle(default_bundle())
    path = path_of(state_dir, digest)
    bundle = load_bundle(path)
    if bundle.digest != digest:
        raise BundleError(f"the bundle in {path} is not the one that was put there")
    return bundle


def event_digest(bundle: Bundle) -> str:
    """How events name a bundle."""
    from agent.bundle.bundle import default_bundle

    return BUILT_IN if bundle.path == default_bundle() else bundle.digest


def bundle_identity(bundle: Bundle) -> dict[str, JsonValue]:
    """What answers and events say of a bundle."""
    return {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}


def bundle_for(asked: Path | None, state: State, state_dir: Path) -> BundleInForce:
    """The bundle to predict with: the one asked for, else that of the calibration, else in force.

    A calibration's head works on its own bundle only, so that one is used while it is whole, unless
    another was put in force since without being fitted, or this machine has left it.

    Raises:
        BundleError: the one asked for cannot be used.
    """
    from agent.bundle.bundle import load_bundle

    if asked is not None:
        return BundleInForce(load_bundle(asked))
    stored = state.calibration_in_force()
    notes: tuple[tuple[str, str], ...] = ()
    ours = typed.from_json(BundleReference, stored.body.get("bundle") or {}) if stored else None
    if stored and ours and not outdated(stored.id, ours.digest, state):
        path = Path(ours.path)
        try:
            bundle = load_bundle(path)
            if bundle.digest == ours.digest:
                return BundleInForce(bundle)
        except BundleError as error:
            if path.exists():
                notes = (("bundle-passed-over", error.message),)
    found = bundle_in_force(state, state_dir)
    return BundleInForce(found.bundle, tuple(dict.fromkeys((*notes, *found.notes))))


def outdated(calibration: int, digest: str, state: State) -> bool:
    """Is the bundle of this digest, which that calibration was fitted on, no longer the one to use?

    By number, not by time: clocks are wrong now and then.
    """
    newest = next(iter(state.events(ACTIVATED)), None)
    last = newest.body.get("outdates") if newest else None
    since = isinstance(last, int) and calibration <= last
    return since or digest in left(state)


def ways_back(state: State) -> tuple[str, ...]:
    """Digests that were in force and were not left, the present one first, each once."""
    refused = left(state)
    names = dict.fromkeys(event.digest for event in state.events(ACTIVATED))
    return tuple(digest for digest in names if digest not in refused)


def left(state: State) -> dict[str, BundleEvent]:
    """Bundles that this machine turned down or left and has not taken since, by digest."""
    newest: dict[str, BundleEvent] = {}
    for event in state.events(ACTIVATED, DECLINED, WITHDRAWN):
        newest.setdefault(event.digest, event)
    return {digest: event for digest, event in newest.items() if event.kind != ACTIVATED}


def pin_of(state: State) -> BundleEvent | None:
    """The pin that holds this machine to its bundle, if there is one."""
    newest = next(iter(state.events(PINNED, UNPINNED)), None)
    return newest if newest is not None and newest.kind == PINNED else None
