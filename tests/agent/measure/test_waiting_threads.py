"""A thread that finds its CPU taken when it wakes up makes all others of a parallel loop wait."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from agent.measure.machine import read_machine

HEADERS = "#include <omp.h>\n#include <time.h>"
SLEEPS = """
    #pragma omp parallel num_threads(2)
    if (omp_get_thread_num()) {
        struct timespec t = {0, 200000};
        nanosleep(&t, 0);
    }
    for (int i = 0; i < 4096; i++) x[i] += y[i];
"""


HOG = """
import os, time
os.sched_setaffinity(0, {cpu})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print("ready", flush=True)
while True:
    end = time.monotonic() + 0.005
    while time.monotonic() < end: pass
    time.sleep(0.002)
"""


@contextlib.contextmanager
def busy(cpu: int):
    """A CPU that a process has to itself for 5 of 7 milliseconds, whoever else wants it."""
    source = HOG.replace("{cpu}", f"{{{cpu}}}")
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", source], **quiet) as hog:
        try:
            if hog.stdout.readline() != b"ready\n":
                pytest.skip("no real-time priority for this user")
            yield
        finally:
            hog.kill()


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
