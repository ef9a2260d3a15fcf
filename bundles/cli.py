"""The ``bundles`` command: each room brings its own commands, and errors end here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent import __version__
from agent.errors import AgentError, Exit
from agent.system.stop import Stop
from agent.terminal import console
from agent.terminal.crash import bug
from agent.terminal.manner import MannerGroup, in_one_manner
from agent.terminal.streams import steady_streams
from agent.terminal.usage import usage_error
from bundles.evaluation import commands as evaluation
from bundles.finetuning import commands as finetuning
from bundles.fixed_set import commands as fixed_set
from bundles.fleet.cli import fleet
from bundles.labels import commands as labels
from bundles.repository import commands as repository
from bundles.terminal import say
from bundles.training import commands as training

app = typer.Typer(
    name="bundles",
    cls=MannerGroup,
    help="Make, show and publish encoder bundles: what the agent knows before it sees a machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for room in (training, fixed_set, labels, finetuning, evaluation, repository):  # as help shows them
    room.attach(app)
app.add_typer(fleet)
in_one_manner(app)


def _told_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bundles {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_told_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Keeps the name of a subcommand mandatory."""


def main() -> int:
    """Run the command line; the exit code. Expected failures are a message and a hint."""
    steady_streams()
    Stop().listen()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        console.detail(f"ended with exit code {code or 0:d}")
        return code if isinstance(code, int) else Exit.OK
    except KeyboardInterrupt:
        say("interrupted")
        return Exit.INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:  # noqa: BLE001  the boundary: whatever is left is our bug
        return _failed(error)


def _failed(error: Exception) -> int:
    if isinstance(error, typer.TyperException):
        if type(error).__name__ == "NoArgsIsHelpError":  # typer has no public name for it
            typer.echo(error.format_message())  # the help
            return error.exit_code
        error = usage_error(error, "bundles")
    known = error if isinstance(error, AgentError) else bug(error, "unexpected", sys.argv)
    console.failure(known, as_json=False)
    return known.exit_code
