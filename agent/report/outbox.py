"""Which outcomes are to be told: new calibrations and refusals, one a bundle and week."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.bundle.installed import DECLINED, BundleReference, path_of
from agent.calibration.calibration import newest_calibration
from agent.clock import CLOCK_SET
from agent.report.payload import (
    ONCE_IN_WEEKS,
    Occasion,
    Payload,
    RefusedErrors,
    iso_week,
    of_calibration,
    of_refusal,
    relabelled,
    weeks_after,
)
from agent.state import typed

if TYPE_CHECKING:
    from agent.settings.config import Config
    from agent.state.state import State

MEMORY = "report-memory"  # the fact
WEEK_S = 7 * 86_400.0
CLOCK_WRONG = 4_070_908_800.0  # 2099: no clock of ours is right there
Waiting = tuple[tuple[str, bytes], ...]  # key and bytes of reports, oldest first


@dataclass(frozen=True)
class Memory:
    """What was told, so that nothing is told twice. It never leaves the machine.

    Attributes:
        week: ISO week that ``secret`` and ``told`` are of.
        secret: drawn anew each week: who takes the machine later cannot tell which reports of
            earlier weeks were its own.
        told: keys (``dedupe``) of the reports made in this week.
        calibration: number of the newest calibration that was looked at; ``event``: of the newest
            event.
        firsts: by digest, the week in which a bundle was told of as the first time in
            ``ONCE_IN_WEEKS`` weeks; older ones are forgotten.
    """

    week: str
    secret: bytes
    told: tuple[str, ...] = ()
    calibration: int = 0
    event: int = 0
    firsts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, fact: Mapping[str, Any] | None, week: str) -> Memory:
        """What is remembered, with a new secret where the week is another."""
        body = fact or {}
        firsts = {d: w for d, w in body.get("firsts", {}).items() if _lately(w, week)}
        seen = int(body.get("calibration", 0)), int(body.get("event", 0)), firsts
        if body.get("week") != week:
            return cls(week, secrets.token_bytes(32), (), *seen)
        return cls(week, bytes.fromhex(str(body["secret"])), tuple(body["told"]), *seen)

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "week": self.week,
            "secret": self.secret.hex(),
            "told": list(self.told),
            "calibration": self.calibration,
            "event": self.event,
            "firsts": dict(self.firsts),
        }


def drafts(config: Config, state: State, now: float) -> Waiting:
    """The reports that are to be made now; what is not queued is drafted again, byte for byte.

    Nothing while the clock is plainly wrong.
    """
    return _drafts(config, state, now)[0]


def queue(config: Config, state: State, now: float) -> Waiting:
    """Queue what is to be told now; all that waits to be sent."""
    fresh, memory = _drafts(config, state, now)
    if memory is not None:
        if fresh:
            state.spool(fresh, now)
        # After the spool: killed between the two, the same reports are drafted again.
        if memory.to_json() != state.fact(MEMORY):
            state.remember(MEMORY, memory.to_json())
    return spooled(config, state)


def spooled(config: Config, state: State) -> Waiting:
    """What waits to be sent, as it would be now."""
    return tuple((key, relabelled(body, config.report_label)) for key, body in state.spooled())


def _drafts(config: Config, state: State, now: float) -> tuple[Waiting, Memory | None]:
    """Reports, and what is to be remembered once they are queued."""
    if not CLOCK_SET <= now < CLOCK_WRONG:
        return (), None
    fact = state.fact(MEMORY)
    memory = Memory.of(fact, iso_week(now))
    if fact is None or fact.get("week") != memory.week:  # the bytes shown are those sent later
        state.remember(MEMORY, memory.to_json())
    channel = config.channel if config.repository else "none"
    told = frozenset(memory.firsts)
    when = Occasion(channel, memory.week, memory.secret, told, config.report_label)
    made: dict[str, bytes] = {}
    firsts = dict(memory.firsts)
    for digest, report in _reports(config.state_dir, state, memory, when, now):
        if report.dedupe not in memory.told:
            made.setdefault(report.dedupe, report.to_bytes())
            firsts.setdefault(digest, memory.week)
    newest, event = newest_calibration(state), next(iter(state.events()), None)
    after = replace(
        memory,
        told=(*memory.told, *made),
        calibration=newest.id if newest else 0,
        event=event.id if event else 0,
        firsts=firsts,
    )
    return tuple(made.items()), after


def _reports(
    state_dir: Path, state: State, memory: Memory, when: Occasion, now: float
) -> Iterator[tuple[str, Payload]]:
    """Each with the digest of its bundle."""
    newest = newest_calibration(state)
    if newest is None:
        return
    verdict = newest.body.verdict
    replaced = verdict is not None and verdict.stays is not None  # what is in use was told of
    fresh = newest.id > memory.calibration and not replaced
    if fresh and _given_out(newest.body.bundle, state_dir):
        yield newest.body.bundle.digest, of_calibration(newest.body, when)
    for event in state.events(DECLINED):
        comparison = event.body.get("verdict")  # a person's going back has none
        if event.id > memory.event and comparison and abs(now - event.at) <= WEEK_S:
            bundle = typed.from_json(BundleReference, event.body)
            errors = typed.from_json(RefusedErrors, comparison)
            yield bundle.digest, of_refusal(bundle, errors, newest.body, when)


def _lately(week: str, now: str) -> bool:
    """Not so long ago that a machine counts once more; a clock may have gone back since."""
    return abs(weeks_after(week, now)) < ONCE_IN_WEEKS


def _given_out(bundle: BundleReference, state_dir: Path) -> bool:
    """Did the bundle come with the agent or by `agent update`?

    One of a person's own (``--bundle DIR``) is theirs, and so is its name.
    """
    from agent.bundle.bundle import default_bundle

    path = Path(bundle.path).resolve()
    installed = path_of(state_dir, bundle.digest).resolve()
    return path in (installed, default_bundle().resolve())
