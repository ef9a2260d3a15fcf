"""Neighbours in long rows that a SIMD loop walks across: gcc must not take a row for a record."""

from pathlib import Path

import pytest

from agent.errors import CompilerError
from agent.loopnest.emitter.emit import emit
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from agent.measure.cache import Cache
from agent.measure.session import TimingSettings
from agent.measure.toolchain import Toolchain
from agent.measure.worker_runner import WorkerRunner

TALL = """
void tall(int n, int m, const float A[m][2048], float B[n][m], float C[n][m])
{
#pragma scop
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < m; j++)
            B[i][j] = A[j][i + 2] - A[j][i + 1];
        for (int j = 0; j < m; j++)
            C[i][j] = 2.0f * A[j][i];
    }
#pragma endscop
}
"""
SCHEDULES = ("vectorize j; vectorize j2", "jam i 4; vectorize j; vectorize j2")
MANY_BYTES = 60_000  # of a shared object: gcc 12 made 140,000 and took a minute


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_neighbours_in_long_rows_are_loaded_one_by_one(
    toolchain: Toolchain, cache: Path, schedule: str
) -> None:
    program = parse_program(TALL, "tall.c", function=None, sizes={"n": 2046, "m": 32})
    variant = transform(program, parse_schedule(schedule))
    (built,) = toolchain.build([emit(variant)], Cache(cache))
    assert not isinstance(built, CompilerError)
    assert Path(built).stat().st_size < MANY_BYTES
    settings = TimingSettings(sample_s=1e-6, rounds=1, min_rounds=1)
    (timing,) = WorkerRunner(toolchain, cache, settings).measure(program, [variant]).timings
    assert timing.ok
