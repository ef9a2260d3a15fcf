"""Colour on a terminal, and nowhere else."""

import subprocess
import sys

import pytest

from tests.terminal import sent_to_a_terminal

SAYS = (
    "from agent import errors; from agent.terminal import console;"
    "console.answer({}, ['Verdict: not to be used: noise.', 'Done.']);"
    "console.failure(errors.StateError('broken'), as_json=False)"
)
PLAIN = "Verdict: not to be used: noise.\nDone.\nerror: broken\n"


def shown_on_a_terminal(**wishes: str) -> str:
    return sent_to_a_terminal(SAYS, **wishes)


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
