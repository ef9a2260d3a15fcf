import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from bundles.workers import WorkerDiedError, results_in_order


def slow_double(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    return 2 * number


def die(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    raise ValueError(f"job {number}")


def test_results_come_in_the_order_of_the_jobs() -> None:
    jobs = [(n,) for n in range(30)]
    assert list(results_in_order(slow_double, jobs, 2)) == [2 * n for n in range(30)]
    assert list(results_in_order(slow_double, jobs, 1)) == [2 * n for n in range(30)]


def test_results_before_a_killed_worker_are_given_and_then_it_is_said() -> None:
    given = results_in_order(die, [(n,) for n in range(40)], 2)
    seen: list[int] = []
    with pytest.raises(WorkerDiedError):
        seen.extend(iter(lambda: next(given), None))
    assert seen == list(range(len(seen)))
    assert len(seen) <= 7


def test_an_error_of_a_job_is_raised_here() -> None:
    with pytest.raises(ValueError, match="job 3"):
        list(results_in_order(fail, [(3,)], 2))


def test_workers_end_with_a_parent_that_was_killed() -> None:
    code = (
        "import time, sys; from bundles.workers import results_in_order\n"
        "jobs = [(0.01,)] * 2 + [(600,)] * 8\n"
        "for _ in results_in_order(time.sleep, jobs, 2): print('.', flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b".\n"
    workers = [
        c for c in psutil.Process(parent.pid).children() if "LokyProcess" in str(c.cmdline())
    ]
    assert len(workers) == 2
    parent.kill()
    parent.communicate(timeout=30)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
