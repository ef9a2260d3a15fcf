"""`agent doctor`, `self-test`, `notify`: is this machine, and this agent on it, all right?"""

from __future__ import annotations

import os
from typing import Annotated, Final

import typer

from agent.commands.common import Compiler, Json, StateDir, become_owner, print_answer
from agent.errors import Exit
from agent.terminal import console

COMMANDS: Final = typer.Typer()


@COMMANDS.command(epilog="Example: agent doctor --json")
def doctor(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Look for what is wrong with this machine or the agent on it, and say what to do."""
    from agent.doctor.examine import examine
    from agent.terminal.settings_wording import finding_blocks

    found = examine(os.environ, {"state_dir": state_dir})
    print_answer(found, finding_blocks, as_json)
    if found["problems"]:
        raise typer.Exit(Exit.PROBLEM)


@COMMANDS.command(epilog="Example: agent notify --test")
def notify(
    trial: Annotated[
        bool, typer.Option("--test", help="Run on_problem now, with something made up.")
    ] = False,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Have the command on_problem tell what somebody has to do something about, once."""
    from agent.doctor.notify import notify as run
    from agent.settings.resolve import resolve_config
    from agent.terminal.settings_wording import notice_blocks

    config = become_owner(resolve_config(os.environ, {"state_dir": state_dir}).config)
    found = run(os.environ, {"state_dir": str(config.state_dir)}, trial=trial)
    print_answer(found, notice_blocks, as_json)
    if found["outcome"] == "nothing":
        raise typer.Exit(Exit.NOTHING_TO_DO)


@COMMANDS.command("self-test", epilog="Example: agent self-test")
def self_test(compiler: Compiler = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Try every part once, after an installation; a few seconds."""
    from agent.commands.common import settings
    from agent.doctor.self_test import self_test as run
    from agent.terminal.settings_wording import finding_blocks

    config = settings(state_dir=state_dir, compiler=compiler)
    with console.progress() as tell:
        found = run(config, tell)
    print_answer(found, finding_blocks, as_json)
    if found["problems"]:
        raise typer.Exit(Exit.PROBLEM)
