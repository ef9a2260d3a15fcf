"""``agent report`` from top to bottom: allowed? something to tell? due? then send, oldest first.

    consent -> outcomes not told yet -> the spool -> not before the next try -> the centre

A report leaves the spool when the centre has accepted it or will never take it. If an answer is
lost it is sent again; the centre counts it once by its ``dedupe``.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.errors import UnreachableError
from agent.progress import Progress, Tell
from agent.report.consent import consent_of
from agent.report.outbox import Waiting, drafts, queue, spooled
from agent.report.payload import of_schema_1
from agent.state import typed
from agent.state.state import read_state

if TYPE_CHECKING:
    from agent.report.carried import Carried
    from agent.report.sender import CentreAnswer, Destination
    from agent.settings.config import Config
    from agent.state.state import State

RETRY, LAST = "report-retry", "report-last"  # facts: when to try again, what was handed over last
_PASSWORD = re.compile(r"(?<=://)[^/]*@")  # it does not belong there, and is not shown
FIRST_WAIT_S, LONGEST_WAIT_S = 3_600.0, 86_400.0
OLDER = "the centre is older than this agent, and took the report without `first` and `label`"
KEPT = frozenset(("unreachable", "denied", "later"))  # outcomes after which it is tried again
Send = Callable[["Destination", bytes], "CentreAnswer"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often sending failed since it last worked, and when to try again (since 1970).

    ``why``: what the centre made of the last report (``CentreAnswer``); empty: it took it.
    """

    failures: int = 0
    not_before: float = 0.0
    why: str = ""

    def holds(self, now: float) -> bool:
        """Is it too early? Not by more than ever was agreed: then a clock has jumped."""
        return now < self.not_before <= now + 2 * LONGEST_WAIT_S

    def after_failure(self, now: float, asked_s: float, draw: float) -> Retry:
        """Wait what the centre asks, and at random up to twice as long each time (full jitter).

        Args:
            now: seconds since 1970.
            asked_s: by the centre's Retry-After.
            draw: from [0, 1).
        """
        longest = min(FIRST_WAIT_S * 2.0 ** min(self.failures, 16), LONGEST_WAIT_S)
        return Retry(self.failures + 1, now + min(asked_s, LONGEST_WAIT_S) + draw * longest)


def send_due_reports(
    config: Config,
    state: State,
    tell: Tell,
    *,
    at_once: bool = False,
    send: Send | None = None,
    now: float | None = None,
) -> dict[str, object]:
    """Make the reports that are due and send what waits.

    Args:
        config: where to, and how the centre knows this machine.
        state: opened for writing, with the lock held.
        tell: shown the progress.
        at_once: do not wait for the next try.
        send: how (tests); None: over the network.
        now: seconds since 1970; None: the clock's.

    Returns:
        The answer (docs/reference/schemas/report.json). Its ``outcome``: ``off``, ``nothing`` to
        send, ``nowhere`` to send it, ``waiting`` for the next try, ``sent``, ``refused`` by the
        centre for good; ``unreachable``, ``denied`` or ``later``: kept.

    Raises:
        InputError: the configuration cannot be used; nothing was sent.
    """
    now = time.time() if now is None else now
    if not consent_of(config, state).on:
        return report_answer(config, state, "off")
    waiting = queue(config, state, now)
    if not waiting:
        return report_answer(config, state, "nothing")
    if config.report_to is None:
        return report_answer(config, state, "nowhere")
    retry = retry_of(state)
    if retry.holds(now) and not at_once:
        return report_answer(config, state, "waiting")
    from agent.report import sender

    handed = _hand_over(
        state, sender.destination_of(config), waiting, tell, send or sender.send, now
    )
    before = Retry() if handed.accepted else retry
    failed = handed.outcome in KEPT
    after = before.after_failure(now, handed.asked_s, random.random()) if failed else Retry()
    after = replace(after, why="" if handed.outcome == "sent" else handed.outcome)
    if after != retry:
        state.remember(RETRY, asdict(after))
    return report_answer(config, state, handed.outcome, handed=handed)


@dataclass(frozen=True)
class Handed:
    """What became of the reports that waited; counts, and the centre's wish to wait (seconds)."""

    outcome: str
    accepted: int = 0
    refused: int = 0
    asked_s: float = 0.0
    notes: tuple[tuple[str, str], ...] = ()


def _hand_over(
    state: State, centre: Destination, waiting: Waiting, tell: Tell, send: Send, now: float
) -> Handed:
    """Send one after the other, up to the first that the centre does not take now."""
    accepted = refused = 0
    notes: list[tuple[str, str]] = []
    for done, (key, body) in enumerate(waiting):
        tell(Progress("sending", done, len(waiting), f"sending a report to {centre.name}"))
        got, body = _sent(send, centre, body)
        if got.words:
            code = "older-centre" if got.verdict == "accepted" else got.verdict
            notes.append((code, got.words))
        if got.verdict in KEPT:
            return Handed(got.verdict, accepted, refused, got.wait_s, tuple(notes))
        state.unspool([key])
        if got.verdict == "accepted":
            accepted += 1
            _remember_last(state, body, now, centre.name)
        else:
            refused += 1
    return Handed("sent" if accepted else "refused", accepted, refused, 0.0, tuple(notes))


def _sent(send: Send, centre: Destination, body: bytes) -> tuple[CentreAnswer, bytes]:
    """The centre's answer, and to which bytes: one that is older than schema 2 gets schema 1."""
    got = _answer(send, centre, body)
    if got.verdict == "refused" and (older := of_schema_1(body)) is not None:
        again = _answer(send, centre, older)
        return (replace(again, words=OLDER) if again.verdict == "accepted" else again), older
    return got, body


def _answer(send: Send, centre: Destination, body: bytes) -> CentreAnswer:
    """That there is none is one too."""
    from agent.report.sender import CentreAnswer

    try:
        return send(centre, body)
    except UnreachableError as error:
        return CentreAnswer("unreachable", f"{error.message}. {error.hint}".strip())


def answer_if_off(config: Config) -> dict[str, object] | None:
    """The answer while reporting is off, None while it is on; nothing is written to find out."""
    with read_state(config.state_dir) as state:
        return None if consent_of(config, state).on else report_answer(config, state, "off")


def waiting_reports(config: Config, state: State, now: float | None = None) -> dict[str, object]:
    """The bytes that wait or would be sent now, also while reporting is off; nothing is sent."""
    fresh = drafts(config, state, time.time() if now is None else now)
    reports = dict(spooled(config, state)) | dict(fresh)
    texts = [body.decode("ascii") for body in reports.values()]
    return report_answer(config, state, "shown", reports=texts)


def export_reports(
    config: Config, state: State, file: Carried, now: float | None = None
) -> dict[str, object]:
    """Hand over what waits in a file, one report a line, to be carried to the centre.

    Raises:
        InputError: the file cannot be written.
    """
    now = time.time() if now is None else now
    if not consent_of(config, state).on:
        return report_answer(config, state, "off")
    waiting = queue(config, state, now)
    if not waiting:
        return report_answer(config, state, "nothing")
    file.add([body for _, body in waiting])
    state.unspool([key for key, _ in waiting])
    _remember_last(state, waiting[-1][1], now, str(file.path))
    return report_answer(config, state, "exported", handed=Handed("exported", len(waiting)))


def report_answer(
    config: Config,
    state: State,
    outcome: str,
    *,
    handed: Handed | None = None,
    reports: list[str] | None = None,
    dropped: int = 0,
) -> dict[str, object]:
    """What every form of the command answers."""
    found, handed, waiting = consent_of(config, state), handed or Handed(outcome), state.spooled()
    retry = retry_of(state)
    return {
        "outcome": outcome,
        "reporting": found.on,
        "decided_by": found.by,
        "to": _PASSWORD.sub("", config.report_to) if config.report_to else None,
        "handed_over": handed.accepted,
        "refused": handed.refused,
        "label": config.report_label,
        "dropped": dropped,
        "waiting": len(waiting),
        "not_before": stamp(retry.not_before) if retry.failures and waiting else None,
        "reports": reports or [],
        "last": state.fact(LAST),
        "notes": [{"code": code, "message": words} for code, words in handed.notes],
    }


def retry_of(state: State) -> Retry:
    """What is remembered of failures."""
    return typed.from_json(Retry, state.fact(RETRY) or {})


def _remember_last(state: State, body: bytes, now: float, to: str) -> None:
    state.remember(LAST, {"at": stamp(now), "to": to, "report": body.decode("ascii")})
