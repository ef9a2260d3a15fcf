"""The command line: parse, one call, show; the one place where errors end."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Final

import typer

from agent import __version__, console
from agent.commands import advice, bundles, calibration, configuration, machine, reporting
from agent.errors import AgentError, Exit, StoppedError

app: Final = typer.Typer(
    name="agent",
    help="Learns in a minute which version of a loop runs fastest on this machine.",
    epilog="First `agent calibrate`, then `agent rank FILE.c --size n=1000`.",
    add_completion=False,
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
    app.add_typer(group.COMMANDS)


def main() -> int:
    """Run the command line; the exit code. The one place where errors end."""
    as_json = "--json" in sys.argv[1:]
    console.write_any_name()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop is a stop
    try:
        code = app(standalone_mode=False)
        if code == Exit.INTERRUPTED:  # typer's own translation of KeyboardInterrupt
            return _fail(StoppedError("interrupted"), as_json)
        return code if isinstance(code, int) else Exit.OK
    except AgentError as error:
        return _fail(error, as_json)
    except KeyboardInterrupt:
        return _fail(StoppedError("interrupted"), as_json)
    except typer.TyperException as error:
        return _fail(_usage(error), as_json)
    except Exception as error:  # noqa: BLE001  the boundary: whatever is left is our bug
        return _fail(_bug(error), as_json)


def _fail(error: AgentError, as_json: bool) -> int:
    console.failure(error, as_json=as_json)
    return error.exit_code


def _usage(error: typer.TyperException) -> AgentError:
    """A mistake in the command line, in our form."""
    from agent.errors import InputError

    hint = "See `agent --help`, or `agent COMMAND --help`."
    unknown, where = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if unknown and where is not None and where.parent is None:
        hint = f"Options follow the command, as in `agent status {unknown}`. {hint}"
    return InputError(error.format_message(), hint)


def _bug(error: Exception) -> AgentError:
    """An unexpected exception: short words, and where the traceback is."""
    from agent.crash import BugError, write_log

    where = write_log(error, os.environ, sys.argv)
    return BugError(f"a bug in the agent: {type(error).__name__}: {error}", where)
