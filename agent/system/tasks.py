"""Where a limit of processes and threads is reached, all else would fail too, one by one."""

from __future__ import annotations

import errno

from agent.errors import TaskLimitError

REFUSED = "Resource temporarily unavailable"  # what programs say that may start nothing


_BY_PYTHON = "can't start new thread"
_BY_SHELL = "Cannot fork"  # the same in the words of dash


def check_error(error: OSError) -> None:
    """Raise TaskLimitError if ``error`` tells of such a limit."""
    if error.errno == errno.EAGAIN:
        raise _reached() from error


def check_words(words: str) -> None:
    """Raise TaskLimitError if ``words``, the last of a program, tell of such a limit."""
    if REFUSED in words or _BY_SHELL in words:
        raise _reached()


def limit_behind(error: Exception) -> TaskLimitError | None:
    """The limit that an error of Python's own speaks of; None: it is of something else."""
    refused = isinstance(error, OSError) and error.errno == errno.EAGAIN
    return _reached() if refused or _BY_PYTHON in str(error) else None


def _reached() -> TaskLimitError:
    return TaskLimitError(
        f"no more processes or threads may be started here ({REFUSED})",
        "Raise the limit: `ulimit -u`, TasksMax= of the unit, --pids-limit of the container. Or "
        "allow fewer CPUs, which need fewer threads: `taskset -c 0-3 agent ...`.",
    )
