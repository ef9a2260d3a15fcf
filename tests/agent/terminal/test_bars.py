"""Intervals drawn beside a table's rows, where a terminal has room for them."""

import os
import subprocess
import sys

import pytest

from agent.terminal.bars import ASCII, UNICODE, Scale
from agent.terminal.blocks import Interval
from tests.terminal import sent_to_a_terminal

SHOW = (
    "from agent.terminal import console; from agent.terminal.blocks import Interval, Table;"
    "shown = (Interval(0.5, 1.0, 2.0), None, Interval(2.0, 4.0, 8.0));"
    "rows = (('1.00', 'original'), ('-', 'jam i 4'), ('4.00', 'vectorize j'));"
    "console.answer({}, [Table(('speed-up', 'schedule'), rows, shown)])"
)


def shown_on_a_terminal(**wishes: str) -> str:
    return sent_to_a_terminal(SHOW, **wishes)


def test_a_terminal_shows_where_each_interval_lies():
    shown = shown_on_a_terminal(PYTHONIOENCODING="utf-8", NO_COLOR="1")
    (one,) = (line for line in shown.splitlines() if "original" in line)
    (four,) = (line for line in shown.splitlines() if "vectorize j" in line)
    assert UNICODE.value in one
    assert one.index(UNICODE.value) < four.index(UNICODE.reach) < four.index(UNICODE.value)


@pytest.mark.parametrize("wish", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_a_terminal_without_such_letters_gets_others(wish):
    shown = shown_on_a_terminal(NO_COLOR="1", **wish)
    assert "--o--" in shown
    assert shown.isascii()


def test_a_narrow_terminal_gets_the_table_alone():
    assert UNICODE.value not in shown_on_a_terminal(PYTHONIOENCODING="utf-8", COLUMNS="40")


def test_a_pipe_gets_the_table_alone():
    env = {**os.environ, "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, env=env
    )
    assert UNICODE.value not in done.stdout
    assert "vectorize j" in done.stdout


@pytest.mark.parametrize("value", [1e-40, 1.0, 1e40])
def test_whatever_the_numbers_a_line_is_as_long_as_its_scale(value):
    shown = [Interval(value / 9, value, value * 9), Interval(1.0, 1.0, 1.0)]
    scale = Scale.of(shown, 20)
    assert {len(scale.line(i, ASCII)) for i in shown} == {len(scale.header())} == {20}
