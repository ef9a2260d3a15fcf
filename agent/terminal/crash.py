"""What is left of an unexpected exception: a log file with its traceback."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent import __version__
from agent.errors import AgentError, Exit
from agent.state.owner import act_as_owner
from agent.system.refused import as_refusal

KEPT = 10
_OURS = re.compile(r"crash-\d{8}-\d{6}-\d+\.log")


class BugError(AgentError):
    """An unexpected exception: our fault, never the person's."""

    exit_code = Exit.BUG


def bug(error: Exception, what: str, arguments: Sequence[str]) -> AgentError:
    """An unexpected exception as short words after ``what``, and where its traceback is kept.

    Where the system refused something that nobody foresaw, the words are about that.
    """
    where = write_log(error, os.environ, arguments)
    return as_refusal(error, where) or BugError(f"{what} {type(error).__name__}: {error}", where)


def write_log(error: Exception, environment: Mapping[str, str], arguments: Sequence[str]) -> str:
    """Write the traceback to the state directory, else to the temporary one; a hint naming it."""
    text = "".join(
        (
            f"agent {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
            f"command: {list(arguments)}\n\n",
            *traceback.format_exception(error),
        )
    )
    with contextlib.suppress(OSError, AgentError):
        folder = _state_dir(environment, arguments)
        path = _write(folder, text)
        _forget_old(folder)
        return f"Please report it with the file {path}."
    with contextlib.suppress(OSError, AgentError):  # there is nothing there that we may delete
        return f"Please report it with the file {_write(Path(tempfile.gettempdir()), text)}."
    return "Please report it with the output of `AGENT_STATE_DIR=/writable/dir` set."


def _write(folder: Path, text: str) -> Path:
    act_as_owner(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = folder / f"crash-{stamp}-{os.getpid()}.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path


def _forget_old(folder: Path) -> None:
    """Keep the newest of our own logs in our own directory."""
    ours = sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))
    for old in ours[:-KEPT]:
        old.unlink(missing_ok=True)


def _state_dir(environment: Mapping[str, str], arguments: Sequence[str]) -> Path:
    """Best effort: the error may have been in the configuration itself."""
    from agent.settings.resolve import load_config

    given = None
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == "--state-dir":
            given = following
        elif word.startswith("--state-dir="):
            given = word.partition("=")[2]
    return load_config(environment, {"state_dir": given}).state_dir
