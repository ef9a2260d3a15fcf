"""``-q`` and ``-v``: how much is said beside the answer, by every command of both tools."""

import re

import pytest
import typer

from agent.commands.root import app as agent_app
from agent.terminal.manner import QUIET, VERBOSE
from bundles.cli import app as bundles_app
from tests.conftest import SIZES, agent

SCHEDULE = ("--no-run", "--schedule", "interchange j k")


def commands(group):
    """A group and everything below it."""
    yield group
    for inner in getattr(group, "commands", {}).values():
        yield from commands(inner)


@pytest.mark.parametrize("app", [agent_app, bundles_app], ids=["agent", "bundles"])
def test_every_command_takes_both_and_says_the_same_of_them(app):
    found = list(commands(typer.main.get_command(app)))
    assert len(found) > 20
    for command in found:
        help_of = {name: p.help for p in command.params for name in p.opts}
        assert (help_of["-q"], help_of["--quiet"]) == (QUIET, QUIET), command.name
        assert (help_of["-v"], help_of["--verbose"]) == (VERBOSE, VERBOSE), command.name


def test_quiet_leaves_the_answer_alone(calibrated, tmp_path):
    page = tmp_path / "page.html"
    usual = agent("status", "--report", page, "--state-dir", calibrated)
    quiet = agent("status", "-q", "--report", page, "--state-dir", calibrated)
    assert "page written" in usual.err
    assert quiet.err == ""
    assert quiet.out.splitlines()[0] == usual.out.splitlines()[0]  # ages below it grow


def test_quiet_says_nothing_where_there_is_nothing_to_do(tmp_path):
    ran = agent("update", "--quiet", "--state-dir", tmp_path / "s")
    assert (ran.code, ran.out, ran.err) == (7, "", "")


def test_quiet_still_tells_errors_and_hints(tmp_path):
    ran = agent("-q", "rank", tmp_path / "none.c")
    assert ran.code == 2
    assert "error: " in ran.err
    assert "hint: " in ran.err


def test_verbose_says_what_is_done_and_when(calibrated, gemm):
    where = ("--state-dir", calibrated)
    ran = agent("predict", gemm, *SIZES, *SCHEDULE, "-v", *where)
    assert ran.out == agent("predict", gemm, *SIZES, *SCHEDULE, *where).out
    lines = ran.err.splitlines()
    assert all(re.match(r" *\d+\.\d\d s  \S", line) for line in lines)
    assert any(str(calibrated) in line for line in lines)
    assert "exit code 0" in lines[-1]
