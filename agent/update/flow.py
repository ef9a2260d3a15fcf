"""``agent update`` from top to bottom: refresh, verify, download, try, compare, put in force.

    signed metadata -> floors remembered -> an offer for this machine -> bytes that match it
        -> on the disk, tried in a child -> refitted and judged by stored timings -> in force

Everything before the last step can be killed or fail without consequence: which bundle is in force
changes in one transaction of the state database, together with the calibration refitted on it.
While bytes are awaited the state's lock is let go, and what to do is decided anew afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.bundle.installed import (
    BUILT_IN,
    CHECKED,
    DECLINED,
    bundle_identity,
    bundle_in_force,
    event_digest,
    left,
    path_of,
    pin_of,
)
from agent.calibration.verdict import RELIABLE_KERNELS
from agent.clock import stamp
from agent.errors import BundleError, InputError, NothingToDoError, StateError
from agent.loopnest.features.vector import FEATURES_VERSION
from agent.progress import Progress, Tell
from agent.state.file import FILE
from agent.state.lock import HeldLock, hold
from agent.update.switch import (
    BY_CENTRE,
    ROLLED_BACK,
    put_in_force,
    refitted_on,
    step_back,
    turn_down,
)

if TYPE_CHECKING:
    from agent.bundle.bundle import Bundle
    from agent.settings.config import Config
    from agent.state.state import BundleEvent, State
    from agent.update.offers import Offer
    from agent.update.source import RepositorySource
    from agent.update.trust import Trusted, VerifiedRepository
    from agent.update.verdict import BundleComparison

CACHE = "repository"  # python-tuf's cache of metadata, below the state directory
LOCK = "update-lock"  # that cache has one user at a time
FLOORS, SECRET, GONE = "update-floors", "roll-out-secret", "withdrawn"
MAX_ROOT = 256 << 10
_ON_TRUST = (
    "taken on the centre's word: this machine has no calibration in force that could judge it or "
    "be replaced by it; `agent calibrate` fits it to this machine and says how exact it is"
)
CHANGED = frozenset(("activated", "went-back", "available", "withdrawn"))
Note = tuple[str, str]  # code, words
Step = Literal["take", "leave", "up-to-date", "not-offered", "pinned", "declined"]


@dataclass(frozen=True)
class Decision:
    """What to do about an offer, and what a person should know of why."""

    step: Step
    notes: tuple[Note, ...] = ()


def digests_once_withdrawn(state: State) -> Sequence[str]:
    """Bundles that the centre had withdrawn when it was last asked."""
    told = (state.fact(GONE) or {}).get("digests")
    return [str(digest) for digest in told] if isinstance(told, list) else []


def update_bundle(
    config: Config,
    state: State,
    lock: HeldLock,
    tell: Tell,
    *,
    check: bool = False,
    force: bool = False,
) -> dict[str, object]:
    """Take the bundle that the centre offers this machine, if it is right and not worse.

    Args:
        config: repository, channel and trusted root.
        state: opened for writing, with the lock held.
        lock: of the state; let go while bytes are awaited.
        tell: shown the progress.
        check: only say what there is.
        force: take a bundle that was declined before, or is not shown to be as good here.

    Returns:
        The answer (docs/reference/schemas/update.json). Its ``outcome``: ``activated`` or
        ``went-back`` (from a withdrawn bundle); with ``check`` ``available`` or ``withdrawn``; or,
        where nothing is to be changed, ``up-to-date``, ``not-offered``, ``pinned``, ``declined``
        (worse here), ``waiting`` (too little evidence yet).

    Raises:
        UnreachableError, UntrustedError: nothing was changed.
        BundleError, StateError: it cannot be used or kept; the bundle in force stays.
        NothingToDoError: no repository is configured.
        InputError: no trusted root is configured.
        BusyError: another update is at work, or another command was when the bytes had come.
    """
    with hold(config.state_dir, "update", LOCK):
        return _update(_UpdateContext(config, state, lock, tell), check=check, force=force)


@dataclass(frozen=True)
class _UpdateContext:
    """What an update works with."""

    config: Config
    state: State
    lock: HeldLock
    tell: Tell

    @contextlib.contextmanager
    def unlocked(self) -> Iterator[None]:
        """For waiting: others may change the state meanwhile, and no more than change it."""
        file = self.config.state_dir / FILE
        before = file.stat().st_ino
        with self.lock.released():
            yield
        if not file.exists() or file.stat().st_ino != before:
            raise StateError(
                f"another file has taken the place of {file} while the update waited",
                "Nothing was changed. Run `agent update` again.",
            )


def _update(site: _UpdateContext, *, check: bool, force: bool) -> dict[str, object]:
    config, state, tell, now = site.config, site.state, site.tell, time.time()
    repository = _repository(config, state)
    from agent.update.source import open_source  # where there is one: it takes its time

    source = open_source(repository)
    tell(Progress("asking", 0, 1, f"asking {source.name} what there is"))
    verified = _refresh(source, site, now)
    trusted = verified.trusted
    machine, offer, decision = _look(site, trusted, force=force)
    fetched: dict[str, bytes] = {}
    while decision.step == "take" and offer is not None and not check:
        if offer.digest in fetched or _on_disk(config.state_dir, offer):
            break
        fetched[offer.digest] = _fetch(site, verified, offer)
        machine, offer, decision = _look(site, trusted, force=force)  # it may have been pinned
    if outcome := _unchanged(decision.step, machine.bundle, check=check):
        done = _Done(outcome, machine.bundle)
    elif decision.step == "take" and offer is not None:
        bundle = _installed(site, fetched, offer)
        tell(Progress("comparing", 0, 1, "refitting on this machine's timings, and comparing"))
        withdrawn = machine.bundle.digest in trusted.withdrawn
        done = _take(config, state, bundle, machine.bundle, withdrawn=withdrawn, force=force)
    else:
        done = _Done("went-back", step_back(config, state, trusted.withdrawn, BY_CENTRE))
    where = (
        _where_there_is(verified, offer, config.channel) if done.outcome == "not-offered" else ()
    )
    notes = (*machine.notes, *trusted.notes, *decision.notes, *done.notes, *where)
    return {
        "outcome": done.outcome,
        "repository": source.name,
        "channel": config.channel,
        "checked_at": stamp(now),
        "signatures_hold_until": stamp(min(trusted.expires.values())),
        "offered": _offered(offer),
        "before": bundle_identity(machine.bundle),
        "after": bundle_identity(done.bundle),
        "verdict": done.verdict.to_json() if done.verdict else None,
        "notes": [{"code": code, "message": words} for code, words in notes],
    }


@dataclass(frozen=True)
class _Machine:
    """This machine as it is now.

    Attributes:
        bundle: in force.
        notes: on how it came to be that one.
        pin: that holds the machine to it.
        refused: bundles that were turned down here and are not to be taken now, by digest.
    """

    bundle: Bundle
    notes: tuple[Note, ...]
    pin: BundleEvent | None
    refused: Mapping[str, BundleEvent]


@dataclass(frozen=True)
class _Done:
    """What came of it: the bundle in force now, how the two compare, what a person should know."""

    outcome: str
    bundle: Bundle
    verdict: BundleComparison | None = None
    notes: tuple[Note, ...] = ()


def _repository(config: Config, state: State) -> str:
    """Where bundles come from; an error where nothing may be asked."""
    if state.notices:
        raise StateError(
            "the state database was damaged and is new now: timings, pin and refusals are lost",
            "Pin the machine again if it was pinned, run `agent calibrate`, then `agent update`.",
        )
    if config.repository is None:
        raise NothingToDoError(
            "no bundle repository is configured",
            "Name one with --from URL-or-DIRECTORY, or set `repository` in the configuration.",
        )
    return config.repository


def _look(
    site: _UpdateContext, trusted: Trusted, *, force: bool
) -> tuple[_Machine, Offer | None, Decision]:
    """This machine as it is now, the offer meant for it, and what to do about that."""
    machine = _machine(site.config, site.state, force=force)
    offer = choose_offer(trusted, roll_out_secret(site.state), machine.refused)
    present = bundle_identity(machine.bundle)
    return machine, offer, decide(trusted, offer, present, machine.pin, machine.refused)


def _machine(config: Config, state: State, *, force: bool) -> _Machine:
    found = bundle_in_force(state, config.state_dir)
    refused = {d: e for d, e in left(state).items() if e.kind == DECLINED and not force}
    return _Machine(found.bundle, found.notes, pin_of(state), refused)


def _unchanged(step: Step, present: Bundle, *, check: bool) -> str:
    """The outcome where nothing is to be changed; "" where something is."""
    if step not in ("take", "leave"):
        return step
    if step == "leave" and event_digest(present) == BUILT_IN:
        return "not-offered"  # there is nothing before it
    if check:
        return "available" if step == "take" else "withdrawn"
    return ""


def choose_offer(trusted: Trusted, secret: bytes, refused: Collection[str] = ()) -> Offer | None:
    """The candidate on machines in its roll-out that can and will take it, else what is settled."""
    candidate = trusted.offers.get("candidate")
    settled = trusted.offers.get("settled")
    if candidate is None or bucket(secret, candidate.digest) >= candidate.rollout:
        return settled
    barred = candidate.digest in trusted.withdrawn or candidate.digest in refused
    return settled if settled and (barred or _made_for_another(candidate)) else candidate


def bucket(secret: bytes, digest: str) -> int:
    """0 to 99, even over machines, another one for every bundle; nobody outside can tell it."""
    drawn = hmac.digest(secret, digest.encode(), "sha256")
    return int.from_bytes(drawn[:8], "big") % 100


def roll_out_secret(state: State) -> bytes:
    """This machine's own random secret; it never leaves it."""
    known = state.fact(SECRET)
    if known is None:
        known = {"secret": secrets.token_hex(32)}
        state.remember(SECRET, known)
    return bytes.fromhex(str(known["secret"]))


def decide(
    trusted: Trusted,
    offer: Offer | None,
    present: Mapping[str, object],
    pin: BundleEvent | None,
    refused: Mapping[str, BundleEvent],
) -> Decision:
    """What to do about the offer.

    Args:
        trusted: what the centre signed.
        offer: the one meant for this machine.
        present: name, version and digest of the bundle in force.
        pin: that holds this machine to its bundle.
        refused: bundles that this machine turned down, by digest.
    """
    withdrawn = present["digest"] in trusted.withdrawn
    if pin is not None:
        return Decision("pinned", _of_the_pin(offer, str(present["digest"]), withdrawn=withdrawn))
    gone = f"the centre has withdrawn {present['name']} {present['version']}"
    notes: tuple[Note, ...] = (("withdrawn", gone),) if withdrawn else ()
    other = _made_for_another(offer)
    if offer is None or other or offer.digest in trusted.withdrawn:
        return Decision("leave" if withdrawn else "not-offered", (*notes, *other))
    if offer.digest == present["digest"]:
        return Decision("up-to-date")
    why = str(refused[offer.digest].body.get("why")) if offer.digest in refused else ""
    if why and (why == ROLLED_BACK or not withdrawn):  # a person's word outweighs the centre's
        words = f"{offer.name} {offer.version} was declined before: {why}; --force takes it"
        before = (("declined-before", words),)
        return Decision("leave" if withdrawn else "declined", (*notes, *before))
    return Decision("take", notes)


def _of_the_pin(offer: Offer | None, present: str, *, withdrawn: bool) -> tuple[Note, ...]:
    if withdrawn:
        words = "the centre has withdrawn the pinned bundle: `agent bundle unpin`, then update"
        return (("pinned-withdrawn", words),)
    if offer is not None and offer.digest != present:
        words = f"{offer.name} {offer.version} is offered; `agent bundle unpin` lets it in"
        return (("pinned-behind", words),)
    return ()


def _made_for_another(offer: Offer | None) -> tuple[Note, ...]:
    if offer is None or offer.features_version == FEATURES_VERSION:
        return ()
    newer = offer.features_version > FEATURES_VERSION
    agent = "a newer agent: update the agent itself first" if newer else "an older agent"
    return (("other-agent", f"{offer.name} {offer.version} is made for {agent}"),)


def _where_there_is(
    verified: VerifiedRepository, offer: Offer | None, channel: str
) -> tuple[Note, ...]:
    """Why this channel has nothing for this machine, and which other one has something."""
    notes: list[Note] = []
    drawn = verified.trusted.offers.get("candidate")
    if offer is None and drawn is not None:
        words = (
            f"{channel} offers {drawn.name} {drawn.version} to {drawn.rollout} % of its machines, "
            "chosen at random, and this is not one of them"
        )
        notes.append(("not-drawn", words))
    for other, offers in verified.elsewhere(channel).items():
        names = " and ".join(f"{offer.name} {offer.version}" for offer in offers)
        words = f'channel {other} offers {names} (`channel = "{other}"` in the configuration)'
        notes.append(("elsewhere", words))
    return tuple(notes)


def _offered(offer: Offer | None) -> dict[str, object] | None:
    if offer is None:
        return None
    names = ("slot", "name", "version", "digest", "rollout")
    return {name: getattr(offer, name) for name in names}


def _refresh(source: RepositorySource, site: _UpdateContext, now: float) -> VerifiedRepository:
    """Verified metadata; the floors it gives are remembered before anything of it is used."""
    from agent.update.floors import Floors
    from agent.update.trust import Trust, refresh

    config, state = site.config, site.state
    root = _root(config.trusted_root)
    # Of this root: a site that is given another centre's starts anew, on its own decision.
    remembered = f"{FLOORS} {hashlib.sha256(root).hexdigest()[:32]}"
    floors = Floors.from_json(state.fact(remembered))
    trust = Trust(root, config.channel, config.state_dir / CACHE, floors, now)
    with site.unlocked():  # the floors stay as they are: only an update raises them
        verified = refresh(source, trust)
    state.remember(remembered, verified.trusted.floors.to_json())
    state.remember(GONE, {"digests": sorted(verified.trusted.withdrawn)})
    state.remember(CHECKED, {"at": now})
    return verified


def _root(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_ROOT + 1)
    except OSError as error:
        raise InputError(
            f"the trusted root {path} cannot be read: {error.strerror}",
            "The centre gives out a root.json: put it there, or name it with --root FILE.",
        ) from error
    if len(content) > MAX_ROOT:
        raise InputError(f"the trusted root {path} is larger than {MAX_ROOT} bytes")
    return content


def _on_disk(state_dir: Path, offer: Offer) -> Bundle | None:
    """The bundle offered, where it is here and whole."""
    from agent.bundle.bundle import load_bundle

    with contextlib.suppress(BundleError):
        bundle = load_bundle(path_of(state_dir, offer.digest))
        return bundle if bundle.digest == offer.digest else None
    return None


def _fetch(site: _UpdateContext, verified: VerifiedRepository, offer: Offer) -> bytes:
    size = f"{offer.length / 2**20:.1f} MiB"
    site.tell(Progress("fetching", 0, 1, f"fetching {offer.name} {offer.version} ({size})"))
    with site.unlocked():
        return verified.download(offer)


def _installed(site: _UpdateContext, fetched: Mapping[str, bytes], offer: Offer) -> Bundle:
    """The bundle offered, on the disk and tried."""
    from agent.bundle.bundle import load_bundle
    from agent.update.install import install

    state_dir = site.config.state_dir
    if offer.digest not in fetched:
        return load_bundle(path_of(state_dir, offer.digest))
    site.tell(Progress("trying", 0, 1, "checking it, and trying it on its own examples"))
    return install(state_dir, fetched[offer.digest], offer.digest)


def _take(
    config: Config, state: State, bundle: Bundle, present: Bundle, *, withdrawn: bool, force: bool
) -> _Done:
    """Refit on the new bundle and put it in force, where this machine's timings speak for that.

    A machine without a calibration in force takes what the centre offers: no timings of it speak
    for the present bundle either, and no calibration is replaced.
    """
    refitted = refitted_on(state, bundle, present)
    verdict = refitted.verdict if refitted else None
    if refitted and not (force or withdrawn):
        decision = verdict.decision if verdict else "wait"
        if decision == "wait":
            return _Done("waiting", present, verdict, (_why_it_waits(verdict),))
        if verdict and decision == "decline":
            turn_down(config, state, bundle, verdict)
            return _Done("declined", present, verdict)
    leaving = (present, BY_CENTRE) if withdrawn else None
    put_in_force(config, state, bundle, "update", refitted, leaving)
    notes: tuple[Note, ...] = ()
    if refitted is None:
        notes = (("not-calibrated", _ON_TRUST),)
    elif verdict is None:
        notes = (("not-compared", "too few kernels are timed here to compare it"),)
    return _Done("activated", bundle, verdict, notes)


def _why_it_waits(verdict: BundleComparison | None) -> Note:
    kernels = verdict.kernels if verdict else 0
    if kernels < RELIABLE_KERNELS:
        words = f"{kernels} kernels are timed here, and {RELIABLE_KERNELS} are needed to compare it"
        return "too-few-kernels", f"{words}: `agent calibrate` with a larger --budget times more"
    words = "the kernels timed here do not show that it is no worse, nor that it is"
    return "not-shown", f"{words}: after the next calibration it is compared again"
