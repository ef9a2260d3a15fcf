"""A terminal of 100 columns, and what a program sends to it."""

import os
import pty
import subprocess
import sys

SET_HERE = ("NO_COLOR", "TERM", "COLUMNS", "LC_ALL", "JOURNAL_STREAM")


def sent_to_a_terminal(code: str, **wishes: str) -> str:
    """What Python code prints, on stdout and stderr, where both are a terminal."""
    leader, follower = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in SET_HERE}
    env = {**kept, "TERM": "xterm", "COLUMNS": "100", **wishes}
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        subprocess.run(
            [sys.executable, "-c", code], stdout=follower, stderr=follower, check=True, env=env
        )
        os.close(follower)
        written = b""
        try:
            while part := terminal.read(4096):
                written += part
        except OSError:  # the terminal has no other side any more
            pass
    return written.decode().replace("\r\n", "\n")
