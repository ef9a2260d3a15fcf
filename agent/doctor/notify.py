"""Tell a person what needs one: what the doctor finds is given to the site's own command.

    a look at what waits for nobody -> what was not told yet -> `on_problem` -> noted as told

The jobs' sandboxes would let them tell nobody anything: systemd starts this after each of them, in
a unit of its own (``calibration-agent-notify.service``).
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from agent import __version__
from agent.doctor.examine import needing_person
from agent.doctor.findings import Finding, problem
from agent.doctor.scene import scene_of
from agent.doctor.site_command import SET_IT, refuse_command
from agent.doctor.told import ToldProblems
from agent.errors import AgentError, Exit, InputError, NothingToDoError
from agent.system.child import end_group

LIMIT_S = 60.0
LONGEST = 8_000  # characters of the text for people
TRIAL = problem("trial", "on_problem is only tried: nothing is wrong", "Nothing is to be done.")
AGAIN = "What was to be told is told another time. `agent notify --test` tries the command."


class NotToldError(AgentError):
    """The site's command failed; what it should have told is told another time."""

    exit_code = Exit.PROBLEM


def notify(
    environment: Mapping[str, str], flags: Mapping[str, str | None], *, trial: bool = False
) -> dict[str, object]:
    """Have the site's command tell what somebody has to do something about, once each.

    Args:
        environment: of this process, which acts as the owner of the state.
        flags: options that are settings.
        trial: tell something made up, and remember nothing.

    Returns:
        The answer (docs/reference/schemas/notify.json).

    Raises:
        NothingToDoError: no command is set; InputError: for a trial there must be one.
        ConfigError: the command is not safe to run, or is not there.
        NotToldError: it failed, or took too long.
    """
    with scene_of(environment, flags) as scene:
        command = scene.config.on_problem
        if command is None:
            for wrong in scene.resolved.problems if trial else ():  # may be why there is none
                raise wrong
            kind = InputError if trial else NothingToDoError
            raise kind("on_problem is not set: nobody is told of problems", SET_IT)
        refuse_command(command)  # whether or not there is something to tell
        found = [TRIAL] if trial else needing_person(scene)
        told = ToldProblems.read(scene.directory, environment)
    new = [f for f in found if trial or f.key not in told.at]
    if new:
        _tell(command, new, environment, trial=trial)
    if not trial:
        told.after([f.key for f in found], [f.key for f in new], time.time()).write()
    return {
        "outcome": "tried" if trial else "told" if new else "nothing",
        "command": list(command),
        "problems": [{**_plain(f), "new": f in new} for f in found],
    }


def _plain(found: Finding) -> dict[str, object]:
    return {name: asdict(found)[name] for name in ("check", "level", "message", "advice")}


def _tell(
    command: Sequence[str], new: Sequence[Finding], environment: Mapping[str, str], *, trial: bool
) -> None:
    """Run the command: JSON on its stdin, the same as text in its environment."""
    about = {"schema": 1, "machine": platform.node(), "agent": __version__, "trial": trial}
    body = json.dumps({**about, "problems": [_plain(f) for f in new]})
    told = {**environment, "AGENT_PROBLEM": _text(new), "AGENT_MACHINE": platform.node()}
    try:
        status = _run(command, body.encode(), told)
    except OSError as error:
        raise NotToldError(
            f"{shlex.join(command)} cannot be run: {error.strerror}", SET_IT
        ) from error
    if status:
        ended = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise NotToldError(f"{shlex.join(command)} {ended}", AGAIN)


def _run(command: Sequence[str], body: bytes, environment: Mapping[str, str]) -> int:
    """Its exit status; what it prints goes to stderr, that of this command is an answer."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=2, stderr=2, env=environment, start_new_session=True
    )
    with process:
        try:
            process.communicate(body, timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            words = f"{shlex.join(command)} did not end within {LIMIT_S:.0f} s, and was ended"
            raise NotToldError(words, AGAIN) from error
        finally:
            end_group(process)
    return process.returncode


def _text(new: Sequence[Finding]) -> str:
    """For people: a line a problem, what to do below it."""
    lines = (f"{f.check}: {f.message}\n{f.advice}".rstrip() for f in new)
    shown = "\n".join(lines)[:LONGEST]
    return "".join(c if c.isprintable() or c == "\n" else " " for c in shown)
