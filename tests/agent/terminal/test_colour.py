"""Colour on a terminal, and nowhere else."""

import os
import pty
import subprocess
import sys

import pytest

SAYS = (
    "from agent import errors; from agent.terminal import console;"
    "console.answer({}, ['Verdict: not to be used: noise.', 'Done.']);"
    "console.failure(errors.StateError('broken'), as_json=False)"
)
PLAIN = "Verdict: not to be used: noise.\nDone.\nerror: broken\n"


def shown_on_a_terminal(**more: str) -> str:
    leader, follower = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "JOURNAL_STREAM")}
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        subprocess.run(
            [sys.executable, "-c", SAYS], stdout=follower, stderr=follower, check=True,
            env={**kept, "TERM": "xterm", "COLUMNS": "100", **more},
        )  # fmt: skip
        os.close(follower)
        written = b""
        try:
            while part := terminal.read(4096):
                written += part
        except OSError:  # the terminal has no other side any more
            pass
    return written.decode().replace("\r\n", "\n")


def test_verdicts_and_errors_are_in_colour_on_a_terminal():
    shown = shown_on_a_terminal()
    assert "\x1b[1;31mVerdict: not to be used\x1b[0m: noise.\nDone.\n" in shown
    assert "\x1b[1;31merror:\x1b[0m broken" in shown


@pytest.mark.parametrize("wish", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colour_gets_none(wish):
    assert shown_on_a_terminal(**wish) == PLAIN


def test_a_pipe_gets_no_colour():
    done = subprocess.run(
        [sys.executable, "-c", SAYS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == PLAIN
