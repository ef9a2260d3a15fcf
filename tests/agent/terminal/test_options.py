"""Options that belong together are one record for the command, and single options for people."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from agent.terminal.options import with_records


@dataclass(frozen=True)
class Size:
    """A record."""

    width: Annotated[int, typer.Option(min=1, help="In metres.")]
    height: int = 2


def run(*words):
    """What a command was called with, and what it printed."""
    app, calls = typer.Typer(), []

    @app.command()
    @with_records
    def paint(name: str, size: Size, twice: bool = False) -> None:
        """Paint a wall."""
        calls.append((name, size, twice))

    done = CliRunner().invoke(app, words, env={"COLUMNS": "100", "TERM": "dumb"})
    return calls, done


def test_a_command_is_called_with_the_record_that_its_options_make():
    assert run("red", "--width", "3", "--twice")[0] == [("red", Size(3, 2), True)]
    assert run("red", "--width", "3", "--height", "5")[0] == [("red", Size(3, 5), False)]


def test_the_help_shows_the_fields_where_the_record_stands():
    _, done = run("--help")
    places = [done.stdout.index(name) for name in ("{name}", "--width", "--height", "--twice")]
    assert places == sorted(places)
    assert "In metres. [required]" in done.stdout
    assert "--size" not in done.stdout


def test_what_a_field_asks_is_asked_of_people():
    for words in (("red",), ("red", "--width", "0"), ("red", "--width", "wide")):
        calls, done = run(*words)
        assert not calls
        assert done.exit_code == 2
        assert "--width" in done.output
