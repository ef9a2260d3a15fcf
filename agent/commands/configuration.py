"""`agent config`: what is set, where it was set, and whether it is right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from agent.commands.common import Json, StateDir, print_answer
from agent.errors import Exit
from agent.terminal import console

COMMANDS: Final = typer.Typer()
config_app: Final = typer.Typer(
    help="The configuration: show it with where each value comes from, or check it.",
    rich_markup_mode=None,
)
COMMANDS.add_typer(config_app, name="config")


@config_app.callback(invoke_without_command=True)
def config_root(context: typer.Context) -> None:
    """The configuration: show it with where each value comes from, or check it."""
    if context.invoked_subcommand is None:
        console.answer({}, context.get_help().split("\n"))


@config_app.command("show", epilog="Example: agent config show --json")
def config_show(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Show every setting: its value, where it comes from, its default."""
    from agent.settings.answers import settings_shown
    from agent.settings.resolve import resolve_config
    from agent.terminal.settings_wording import settings_blocks

    print_answer(
        settings_shown(resolve_config(os.environ, {"state_dir": state_dir})),
        settings_blocks,
        as_json,
    )


@config_app.command("check", epilog="Example: agent config check new-config.toml")
def config_check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Check this file alone (default: those in force)."),
    ] = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Look for mistakes in the configuration files and variables; exit 9 if there are any."""
    from agent.settings.answers import mistakes_found
    from agent.settings.resolve import resolve_config
    from agent.terminal.settings_wording import checked_settings_blocks

    environment = {**os.environ, **({} if file is None else {"AGENT_CONFIG": str(file)})}
    found = mistakes_found(resolve_config(environment, {"state_dir": state_dir}), environment)
    print_answer(found, checked_settings_blocks, as_json)
    if found["problems"]:
        raise typer.Exit(Exit.PROBLEM)
