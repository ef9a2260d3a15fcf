"""Places that refuse to bind threads, or to start more of them: real filters, real programs."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.measure.toolchain import Toolchain
from tests.seccomp import NUMBERS

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120  # against hanging only
SCRIPT = """
import errno, sys
from pathlib import Path
from agent.errors import AgentError
from agent.measure.compiler import working_compiler
from agent.measure.plan import Arguments, ArrayArgument, Job
from agent.measure.session import TimingSettings
from agent.measure.worker_runner import WorkerRunner
from agent.loopnest.program import DType
from tests.seccomp import refuse

loop = "for (int i = 0; i < 4096; i++) x[i] = i;"
base, *parallel = (
    f"void loopnest_run(void *const args[]) {{ float *restrict x = args[0];\\n{pragma}\\n{loop} }}"
    for pragma in ("", "#pragma omp parallel for", "#pragma omp parallel for schedule(static, 64)")
)
x = ArrayArgument("x", DType.F32, 4096, True, False, 0.0)
settings = TimingSettings(sample_s=1e-6, rounds=1, min_rounds=1)
runner = WorkerRunner(working_compiler(), Path(sys.argv[1]), settings)
runner.prepare_sources([base, *parallel])
refuse(**{name: getattr(errno, code) for name, code in (a.split("=") for a in sys.argv[2:])})
try:
    measured = runner.measure_job(Job(Arguments((x,)), base, tuple(parallel)))
    print(*(t.outcome for t in measured.timings), *(n.kind for n in measured.notices))
except AgentError as error:
    print(type(error).__name__, error.message, error.hint)
"""


@pytest.fixture(autouse=True)
def two_threads(toolchain: Toolchain) -> None:
    import os
    import platform

    if platform.machine() not in NUMBERS or not toolchain.openmp:
        pytest.skip("no numbers of system calls, or no OpenMP here")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU needs no threads")


def measured_where(cache: Path, *refused: str) -> str:
    command = [sys.executable, "-c", SCRIPT, str(cache), *refused]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", ["EPERM", "EINVAL", "ENOSYS"])
def test_parallel_programs_run_unbound_where_binding_is_refused(cache: Path, code: str) -> None:
    said = measured_where(cache, f"sched_setaffinity={code}").split()
    assert said[:2] == ["ok", "ok"]
    assert "unpinned" in said


def test_where_the_cpus_may_not_be_asked_for_all_are_used(cache: Path) -> None:
    said = measured_where(cache, "sched_setaffinity=EPERM", "sched_getaffinity=EPERM").split()
    assert said[:2] == ["ok", "ok"]


def test_a_limit_of_threads_stops_at_the_first_with_words(cache: Path) -> None:
    said = measured_where(cache, "thread=EAGAIN")
    assert said.startswith("TaskLimitError no more processes or threads may be started here")
    assert "ulimit -u" in said


def test_so_does_a_limit_of_processes(cache: Path) -> None:
    said = measured_where(cache, "clone=EAGAIN", "clone3=EAGAIN")
    assert said.startswith("TaskLimitError")
