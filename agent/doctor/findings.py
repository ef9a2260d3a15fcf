"""What a check found: one line a person can act on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from agent.errors import AgentError

Level = Literal["ok", "warning", "problem"]
_FIGURES = re.compile(r"\d[\d.,:]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``agent doctor`` or ``agent self-test``.

    Attributes:
        check: what was looked at, in a word or two.
        level: ``problem``: the agent cannot do its work; ``warning``: it can, but not as it should.
        message: what was found.
        advice: what to do; empty where nothing is to be done.
        person: somebody has to do it: it does not go away by itself (``agent notify`` tells of it).
    """

    check: str
    level: Level
    message: str
    advice: str = ""
    person: bool = False

    @property
    def key(self) -> str:
        """What it is known by from look to look: its figures change while it lasts."""
        words = f"{self.check}: {_FIGURES.sub('#', self.message)}"
        return hashlib.sha256(words.encode(errors="backslashreplace")).hexdigest()[:16]


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, advice: str) -> Finding:
    """It works, but not as it should."""
    return Finding(check, "warning", message, advice)


def needs_person(check: str, message: str, advice: str) -> Finding:
    """It works, but not as it should, and does not come right by itself."""
    return Finding(check, "warning", message, advice, person=True)


def problem(check: str, message: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, "problem", message, advice, person=True)


Check = Callable[[], Iterable[Finding]]
BROKEN = "Install the agent's package again; report it if it happens again."


def look(
    name: str, check: Check, unforeseen: Callable[[str, str, str], Finding] = warning
) -> Iterator[Finding]:
    """What a check finds; one that cannot be made is a finding too, and never the end.

    Args:
        name: what it looks at.
        check: gives what it finds.
        unforeseen: the level of an error that nobody thought of.
    """
    try:
        yield from check()
    except AgentError as error:
        yield problem(name, error.message, error.hint)
    except ImportError as error:
        yield problem(name, f"a part of the agent is missing: {error}", BROKEN)
    except Exception as error:  # noqa: BLE001  odd machines are what this is for
        words = f"could not be looked at: {type(error).__name__}: {error}"
        yield unforeseen(name, words, "Report this with the output of `agent doctor --json`.")


def answer_of(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings as the commands print them with ``--json``."""
    count = {level: sum(f.level == level for f in findings) for level in ("problem", "warning")}
    return {
        "checks": [asdict(f) for f in findings],
        "problems": count["problem"],
        "warnings": count["warning"],
    }
