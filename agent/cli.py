"""Where the command begins, and the one place where errors end.

Next to nothing is imported before ``main`` runs: whoever stops the command in its first moments
is answered as at any other.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from agent.system.stop import Stop

if TYPE_CHECKING:
    from agent.errors import AgentError

_AFRESH = "`agent calibrate` makes a new one; `agent doctor` looks at the state."


def main() -> int:
    """Run the command line; the exit code."""
    stop = Stop()
    # Threads gain nothing with matrices as small as ours, and where none may be started OpenBLAS
    # sends SIGINT to the process, as if a person had stopped it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    as_json = "--json" in sys.argv[1:]
    try:
        stop.listen()
        return _run(as_json)
    except KeyboardInterrupt:
        return _fail(_interrupted(), as_json)
    except Exception as error:  # noqa: BLE001  the boundary: whatever is left is our bug
        return _fail(_explained(error, asked=stop.asked), as_json)


def _run(as_json: bool) -> int:
    from agent.commands.root import app
    from agent.errors import Exit
    from agent.terminal import console
    from agent.terminal.streams import steady_streams

    steady_streams()
    code = app(standalone_mode=False)
    sys.stdout.flush()
    console.detail(f"ended with exit code {code or 0:d}")
    if code == Exit.INTERRUPTED:  # typer's own translation of KeyboardInterrupt
        return _fail(_interrupted(), as_json)
    return code if isinstance(code, int) else Exit.OK


def _fail(error: AgentError, as_json: bool) -> int:
    from agent.terminal import console

    console.failure(error, as_json=as_json)
    return error.exit_code


def _interrupted() -> AgentError:
    from agent.errors import StoppedError

    return StoppedError("interrupted")


def _explained(error: Exception, *, asked: bool) -> AgentError:
    """Any error as one of ours; after a stop was asked for, it is what came of that."""
    from agent.errors import AgentError, DamagedError, StoppedError
    from agent.json_values import MalformedError

    if asked and not isinstance(error, StoppedError):
        return _interrupted()
    if isinstance(error, AgentError):
        return error
    if isinstance(error, MalformedError):  # a record of the state; files say their own name
        return DamagedError(f"a record of the state is of another form: {error}", _AFRESH)
    import typer

    from agent.system.tasks import limit_behind

    if limit := limit_behind(error):
        return limit
    if isinstance(error, typer.TyperException):
        from agent.terminal.usage import usage_error

        return usage_error(error, "agent")
    from agent.terminal.crash import bug

    return bug(error, "a bug in the agent:", sys.argv)
