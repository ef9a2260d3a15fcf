"""`agent doctor` and `agent self-test`: is this machine, and this agent on it, all right?"""

from __future__ import annotations

import os
from typing import Final

import typer

from agent.commands.common import Compiler, Json, StateDir, print_answer
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
