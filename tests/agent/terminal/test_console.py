"""Lines on stderr: plain to people, with a level to the journal."""

import os
import subprocess
import sys

import pytest

from agent import errors
from agent.progress import Progress
from agent.terminal import console
from agent.terminal.blocks import Table

SAYS = (
    "from agent import errors; from agent.terminal import console;"
    "console.note('working'); console.warn('look\\nhere');"
    "console.failure(errors.StateError('broken', 'mend it'), as_json=False);"
    "console.failure(errors.UnreachableError('offline'), as_json=False)"
)
PLAIN = "working\nnote: look\nhere\nerror: broken\nhint: mend it\nerror: offline\n"
LEVELS = (
    "<6>working\n<4>note: look\n<4>here\n<3>error: broken\n<3>hint: mend it\n<5>error: offline\n"
)


def said(tmp_path, told):
    """What is written to a stderr that systemd named as ``told`` says."""
    path = tmp_path / "stderr"
    with path.open("w") as stderr:
        found = os.fstat(stderr.fileno())
        stream = told.format(device=found.st_dev, inode=found.st_ino)
        environment = {**os.environ, "JOURNAL_STREAM": stream}
        subprocess.run([sys.executable, "-c", SAYS], stderr=stderr, check=True, env=environment)
    return path.read_text()


def test_the_journal_is_told_how_bad_every_line_is(tmp_path):
    assert said(tmp_path, "{device}:{inode}") == LEVELS


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (errors.UnreachableError, 5),
        (errors.BusyError, 5),
        (errors.NotNowError, 5),
        (errors.StoppedError, 5),
        (errors.NothingToDoError, 6),
        (errors.UntrustedError, 3),
        (errors.StateError, 3),
    ],
)
def test_a_warning_in_the_journal_is_for_somebody_to_act_on(error, level, monkeypatch):
    said = []
    monkeypatch.setattr(console, "_say", lambda _, level: said.append(level))
    console.failure(error("x"), as_json=False)
    assert said == [level]


@pytest.mark.parametrize("told", ["", "{device}:1", "1:{inode}", "x"])
def test_any_other_stderr_gets_plain_lines(tmp_path, told):
    assert said(tmp_path, told) == PLAIN


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_a_name_that_is_no_text_is_shown_escaped(tmp_path, command):
    from tests.conftest import SCRIPT, environment

    strict = environment(PYTHONIOENCODING="utf-8:strict")
    arguments = [os.fsencode(SCRIPT), command, "--state-dir", os.fsencode(tmp_path) + b"/\xff"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=strict)
    assert done.returncode == 0, done.stderr
    assert "\\udcff" in "".join(done.stdout.split())


def test_waiting_on_and_on_is_one_line_in_the_journal(capsys):
    with console.progress() as tell:
        for left_s in (1200.0, 1190.0, 1180.0):
            tell(Progress("waiting", 0, 1, "for a quiet machine", left_s))
        tell(Progress("waiting", 0, 1, "for a cool machine", 1170.0))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("waiting: for a quiet machine, 20")
    assert second.startswith("waiting: for a cool machine, ")


def test_words_of_others_do_not_steer_the_terminal(capsys):
    odd = "a\x1b[31mb\x9b2J\rc"
    console.answer({}, [odd, Table(("reason",), ((odd,),))])
    console.warn(odd)
    shown = capsys.readouterr()
    assert not set("\x1b\x9b\r") & set(shown.out + shown.err)
    assert shown.out.count("a\\x1b[31mb\\x9b2J\\x0dc") == 2
