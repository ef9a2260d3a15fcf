"""What was changed in a repository, by whom and why: a local log, a JSON object a line.

It lies beside the repository's public part and is never served. Signatures say what holds now; this
says how it came about, to the people who publish.
"""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path

from agent.errors import InputError
from bundles.repository.answers import Answer
from bundles.repository.guard import require_repository
from bundles.repository.publisher import Publisher
from bundles.repository.repository import TIME

CHANGES = "changes.jsonl"
MOST_READ = 16 << 20  # bytes
LONGEST_REASON = 500


def note_change(where: Publisher, answer: Answer, reason: str) -> None:
    """Add what was done to the log.

    Raises:
        OSError: it cannot be written.
    """
    line = {
        "at": where.now.strftime(TIME),
        "by": _who(),
        "action": answer["action"],
        "bundle": f"{answer['bundle']['name']}@{answer['bundle']['version']}",
        "digest": answer["bundle"]["digest"],
        "channels": [
            {"channel": x["channel"], "rollout": x["candidate"]["rollout"] if x["candidate"] else 0}
            for x in answer["channels"]
        ],
        "reason": reason,
    }
    with (where.directory / CHANGES).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_changes(where: Publisher) -> Answer:
    """All of them, newest first; lines that are none (a disk was full) are counted."""
    require_repository(where.directory)
    lines = _lines(where.directory / CHANGES)
    read = [found for line in lines if (found := _change(line)) is not None]
    return {
        "action": "log",
        "repository": str(where.directory),
        "changes": read[::-1],
        "unreadable": len(lines) - len(read),
    }


def checked_reason(text: str | None) -> str:
    """A reason as it is kept.

    Raises:
        InputError: it is too long.
    """
    words = " ".join((text or "").split())
    if len(words) > LONGEST_REASON:
        raise InputError(f"--reason is longer than {LONGEST_REASON} characters", "Be brief.")
    return words


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(MOST_READ).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def _change(line: str) -> Answer | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.keys() >= {"at", "by", "action"} else None


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in some containers
        return str(os.getuid())
