"""C programs with the entry point's ABI, and one toolchain and cache for all tests here."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.loopnest.program import DType
from agent.measure.compiler import working_compiler
from agent.measure.plan import Arguments, ArrayArgument, Job
from agent.measure.session import TimingSettings
from agent.measure.toolchain import Toolchain
from agent.measure.worker_runner import WorkerRunner

N = 4096
ADD = "for (int i = 0; i < 4096; i++) x[i] += y[i];"


def program(body: str, *, headers: str = "") -> str:
    """``x`` (read and written) and ``y`` (read) of 4096 floats, and ``body``."""
    return f"""{headers}
void loopnest_run(void *const args[]) {{
    float *restrict x = args[0]; const float *restrict y = args[1];
    {body}
}}"""


@pytest.fixture(scope="session")
def add() -> str:
    return program(ADD)


@pytest.fixture(scope="session")
def arguments() -> Arguments:
    return Arguments(
        (
            ArrayArgument("x", DType.F32, N, written=True, restored=True, tolerance=1e-4),
            ArrayArgument("y", DType.F32, N, written=False, restored=False, tolerance=0.0),
        )
    )


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return working_compiler()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def quick() -> TimingSettings:
    return TimingSettings(sample_s=0.0005, rounds=5, extra_rounds=1)


@pytest.fixture
def runner(toolchain: Toolchain, cache: Path, quick: TimingSettings) -> WorkerRunner:
    return WorkerRunner(toolchain, cache, quick)


@pytest.fixture
def hasty(toolchain: Toolchain, cache: Path, quick: TimingSettings) -> WorkerRunner:
    """For programs that never end: nobody waits for them for long."""
    return WorkerRunner(toolchain, cache, replace(quick, limit_s=3.0))


@pytest.fixture
def job(arguments: Arguments, add: str):
    """Makes a job of the base program and variants given by their bodies."""

    def make(*bodies: str, headers: str = "") -> Job:
        return Job(arguments, add, tuple(program(b, headers=headers) for b in bodies))

    return make
