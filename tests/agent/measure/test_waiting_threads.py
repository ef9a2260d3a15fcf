"""A thread that finds its CPU taken when it wakes up makes all others of a parallel loop wait."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.measure.machine import read_machine

HOGS = 6
HEADERS = "#include <omp.h>\n#include <time.h>"
SLEEPS = """
    #pragma omp parallel num_threads(2)
    if (omp_get_thread_num()) {
        struct timespec t = {0, 200000};
        nanosleep(&t, 0);
    }
    for (int i = 0; i < 4096; i++) x[i] += y[i];
"""


@contextlib.contextmanager
def busy(cpu: int):
    """A CPU that other processes of this machine work on all the time."""
    spin = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(HOGS)]
    try:
        while any(os.sched_getaffinity(h.pid) != {cpu} for h in hogs):
            time.sleep(0.01)
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_shots_in_which_a_thread_had_to_wait_for_its_cpu_are_set_aside(runner, job):
    cpus = read_machine().pinning_order()
    if len(cpus) < 2 or not Path("/proc/self/schedstat").exists():
        pytest.skip("one CPU, or a kernel that does not tell how long threads wait")
    with busy(cpus[1]):
        measured = runner.measure_job(job(SLEEPS, headers=HEADERS))
    shots = [s for r in measured.rounds for s in r.sample(2).shots]
    waited = [s for s in shots if s.seconds > 1e-3]
    assert waited
    assert all(s.switches for s in waited)
