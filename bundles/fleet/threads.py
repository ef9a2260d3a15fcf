"""Threads that are there before they are needed: what a limit refuses, it refuses at the start."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from agent.errors import InputError


def started_threads(number: int, name: str) -> ThreadPoolExecutor:
    """A pool that will never have to start a thread.

    Raises:
        InputError: so many may not be started here.
    """
    pool, together = ThreadPoolExecutor(number, name), threading.Barrier(number + 1)
    try:
        for _ in range(number):
            pool.submit(together.wait)
    except RuntimeError as error:
        together.abort()
        pool.shutdown()
        raise InputError(
            f"no more threads may be started here ({error}), and the centre needs {number} more",
            "Raise the limit: `ulimit -u`, TasksMax= of its systemd unit, --pids-limit of its "
            "container.",
        ) from error
    together.wait()
    return pool
