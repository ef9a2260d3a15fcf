"""The command that a site names to be told of problems (`on_problem`): may it be run?"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.doctor.findings import Finding, ok, problem
from agent.doctor.scene import Scene
from agent.errors import ConfigError, StateError
from agent.system.private import inspect_path, open_code, refuse_if_replaceable

SET_IT = "Set it to a command, its path from / on; then `agent notify --test` tries it."


def site_command(scene: Scene) -> Iterator[Finding]:
    """Whether the command that a site has named could be run."""
    command = scene.config.on_problem
    if command is None:
        yield ok("telling", "on_problem is not set: nobody is told of problems")
        return
    try:
        refuse_command(command)
    except ConfigError as error:
        yield problem("telling", error.message, error.hint)
    else:
        yield ok("telling", f"{shlex.join(command)} is told of problems")


def refuse_command(command: Sequence[str]) -> None:
    """Refuse one that is not there, or that another user could replace (ConfigError)."""
    program = Path(command[0])
    try:
        refuse_if_replaceable(inspect_path(program), os.geteuid())
        os.close(open_code(program))
    except StateError as error:
        hint = "Put it where only root may write, such as /usr/local/bin."
        raise ConfigError(f"on_problem: {error.message}", hint) from error
    except OSError as error:
        words = f"on_problem: {program} cannot be run: {error.strerror}"
        raise ConfigError(words, SET_IT) from error
    if not os.access(program, os.X_OK):
        words = f"on_problem: {program} cannot be run: it is not executable"
        raise ConfigError(words, f"chmod a+x {shlex.quote(str(program))}")
