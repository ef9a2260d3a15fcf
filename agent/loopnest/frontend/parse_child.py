"""The process that reads a file of C which could be anything; ``parse`` starts it, within limits.

    python -m agent.loopnest.frontend.parse_child USER PATH FLAG...

USER: whose rights it takes, by number; empty: it keeps those it has. On stdout the tree, or
``{"message": ..., "hint": ...}``.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

from agent.errors import SourceError
from agent.loopnest.frontend.unit import prepare, read_unit
from agent.loopnest.frontend.wire import encode


def main(user: str, path: str, *flags: str) -> None:
    """Read ``path`` and write what it holds."""
    prepare()
    if user:
        become(int(user))
    try:
        answer = encode(read_unit(Path(path).read_bytes(), path, flags))
    except SourceError as error:
        answer = json.dumps({"message": error.message, "hint": error.hint}).encode()
    except OSError as error:
        said = {"message": f"{path}: cannot be read: {error.strerror}", "hint": "Give a C file."}
        answer = json.dumps(said).encode()
    sys.stdout.buffer.write(answer)


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
    main(*sys.argv[1:])
