"""What went wrong last, command by command, for ``agent doctor``; success forgets it.

Waiting, busy, stopped and nothing to do are no errors, and a slip on the command line is its
writer's, not the machine's. The same error again is not written again: an offline machine asks
every hour, and its disk should not pay for that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, Exit, InputError

if TYPE_CHECKING:
    from agent.state.state import State

FACT = "last-error"
NO_ERRORS = frozenset((Exit.BUSY, Exit.NOTHING_TO_DO, Exit.NOT_NOW, Exit.INTERRUPTED))
MAX_WORDS = 1_000
_SUPERSEDES = {"calibrate": ("check",)}  # a success of the one says all that the other could


@dataclass(frozen=True, slots=True)
class LastError:
    """An error of a command that has not succeeded since.

    Attributes:
        command: without ``agent``.
        since: when it was first met, in seconds since 1970.
        message: what happened; ``hint``: what to do.
        exit_code: of the process.
    """

    command: str
    since: float
    message: str
    hint: str
    exit_code: int


@contextlib.contextmanager
def remembering(state: State, command: str) -> Iterator[None]:
    """Remember how the work in this context ends."""
    try:
        yield
    except AgentError as error:
        if error.exit_code not in NO_ERRORS and not isinstance(error, InputError):
            _remember(state, command, error.message, error.hint, error.exit_code)
        raise
    forget(state, command, *_SUPERSEDES.get(command, ()))


def last_errors(state: State) -> tuple[LastError, ...]:
    """Errors of commands that have not succeeded since, oldest first."""
    found = (_from_json(name, body) for name, body in (state.fact(FACT) or {}).items())
    return tuple(sorted((e for e in found if e), key=lambda e: e.since))


def has_errors(state: State, *commands: str) -> bool:
    """Whether an error of any of these commands is remembered; one read, nothing written."""
    return not (state.fact(FACT) or {}).keys().isdisjoint(commands)


def forget(state: State, *commands: str) -> None:
    """These commands have succeeded; written only where an error of theirs was known."""
    known = state.fact(FACT) or {}
    left = {command: body for command, body in known.items() if command not in commands}
    if len(left) < len(known):
        state.remember(FACT, left)


def _remember(state: State, command: str, message: str, hint: str, exit_code: int) -> None:
    body = {"message": message[:MAX_WORDS], "hint": hint[:MAX_WORDS], "exit_code": exit_code}
    with contextlib.suppress(AgentError):  # a full disk: the error itself matters more
        known = dict(state.fact(FACT) or {})
        before = known.get(command)
        if isinstance(before, Mapping) and body.items() <= before.items():
            return
        state.remember(FACT, {**known, command: {**body, "since": time.time()}})


def _from_json(command: str, body: Any) -> LastError | None:
    """None for what another agent wrote in another form."""
    try:
        words = (str(body["message"]), str(body["hint"]))
        return LastError(command, float(body["since"]), *words, int(body["exit_code"]))
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
