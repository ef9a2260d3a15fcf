"""The process that reads a file of C which could be anything; ``parse`` starts it, within limits.

    python -m agent.loopnest.frontend.parse_child '{"user": ..., "flags": [...], "paths": [...]}'

user: whose rights it takes, by number; null: it keeps those it has. On stdout a line for each
path: its tree, or ``{"message": ..., "hint": ...}``.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.errors import SourceError
from agent.loopnest.frontend.unit import prepare, read_unit
from agent.loopnest.frontend.wire import encode


def main(given: str) -> None:
    """Read files and write what they hold."""
    asked = json.loads(given)
    prepare()
    if asked["user"] is not None:
        become(asked["user"])
    for path in asked["paths"]:
        sys.stdout.buffer.write(_answer(path, asked["flags"]) + b"\n")
        sys.stdout.buffer.flush()


def _answer(path: str, flags: Sequence[str]) -> bytes:
    """The line that tells what a file holds."""
    try:
        return encode(read_unit(Path(path).read_bytes(), path, flags))
    except SourceError as error:
        said = {"message": error.message, "hint": error.hint}
    except OSError as error:
        said = {"message": f"{path}: cannot be read: {error.strerror}", "hint": "Give a C file."}
    return json.dumps(said).encode()


def become(user: int) -> None:
    """Take the rights of another user for good; groups first, they need root."""
    try:
        known = pwd.getpwuid(user)
        group, groups = known.pw_gid, os.getgrouplist(known.pw_name, known.pw_gid)
    except KeyError:
        group, groups = user, []
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


if __name__ == "__main__":
    main(sys.argv[1])
