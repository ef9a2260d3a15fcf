"""The command line as a whole: every command, in the order that the help shows them."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from agent import __version__
from agent.commands import advice, bundles, calibration, configuration, machine, reporting
from agent.terminal import console
from agent.terminal.manner import MannerGroup, in_one_manner

app: Final = typer.Typer(
    name="agent",
    cls=MannerGroup,
    help="Learns in a minute which version of a loop runs fastest on this machine.",
    epilog="First `agent calibrate`, then `agent rank FILE.c --size n=1000`.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Learns in a minute which version of a loop runs fastest on this machine."""
    if version:
        console.answer({}, [f"agent {__version__}"])
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.answer({}, context.get_help().split("\n"))


for group in (calibration, advice, bundles, reporting, configuration, machine):
    in_one_manner(group.COMMANDS)
    app.add_typer(group.COMMANDS)
