"""Worker processes: the results of many jobs in order, and no deadlock when a worker is killed.

loky, not ``concurrent.futures``: in Python 3.11 the pool of the standard library waits for ever
if a worker dies while the next one is being started (CPython issues 94777, 105829 and 109917).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
AHEAD = 4  # jobs under way for each worker: bounds the memory
NICE = 10
LOOK_S = 0.5  # how often a worker looks whether its parent lives


class WorkerDiedError(Exception):
    """A worker process was killed, by a person or for want of memory."""


def results_in_order(
    function: Callable[[*Arguments], T], jobs: Iterable[tuple[*Arguments]], processes: int
) -> Iterator[T]:
    """``function(*job)`` of every job, in the order of the jobs; here, if there is one process.

    Raises:
        WorkerDiedError: results of the jobs before it were given.
    """
    if processes <= 1:
        yield from (function(*job) for job in jobs)
        return
    from loky import BrokenProcessPool, ProcessPoolExecutor

    left = iter(jobs)
    pool = ProcessPoolExecutor(processes, initializer=_enter, initargs=(os.getpid(),))
    try:
        coming = deque(pool.submit(function, *job) for job in islice(left, AHEAD * processes))
        while coming:
            made = coming.popleft().result()
            coming.extend(pool.submit(function, *job) for job in islice(left, 1))
            yield made
    except BrokenProcessPool as error:
        raise WorkerDiedError(str(error)) from error
    finally:
        pool.shutdown(kill_workers=True)


def _enter(parent: int) -> None:
    """Give way to others, and do not outlive a parent that was killed."""
    os.nice(NICE)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)
