"""What is legal can be written as C: predictions are of schedules that can be measured."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import ScheduleError
from agent.loopnest.emitter.emit import emit
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import Program
from agent.loopnest.schedules import legality
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.dependence import Dependences
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import Schedule, parse_schedule
from tests.strategies import programs, steps


def region(body: str) -> Program:
    text = f"void f(int n, float A[n], float B[n + 8][n + 8]) {{\n#pragma scop\n{body}\n"
    return parse_program(text + "#pragma endscop\n}", "f.c", function=None, sizes={"n": 100})


def nest(statements: str) -> Program:
    inner = f"for (int j = 0; j < n; j++) {{ {statements} }}"
    return region(f"for (int i = 0; i < n; i++) {inner}")


READS_ITS_ARRAY = nest("B[i][i + 1] += B[j + 2][j + 4];")


def test_a_reduction_that_openmp_cannot_share_out_is_refused() -> None:
    with pytest.raises(ScheduleError, match=r"loop j: .* which OpenMP cannot share out") as caught:
        transform(READS_ITS_ARRAY, parse_schedule("vectorize j"))
    assert caught.value.hint


def test_no_candidate_shares_out_what_openmp_cannot() -> None:
    found = candidate_schedules(READS_ITS_ARRAY, 60)
    assert len(found) == 60
    assert all(emit(version) for _, version in found)
    assert not any("vectorize j" in str(schedule) for schedule, _ in found)


def test_two_kinds_of_update_cannot_be_shared_out() -> None:
    with pytest.raises(ScheduleError):
        transform(nest("A[i] += B[i][j]; A[i] *= B[i][j];"), parse_schedule("vectorize j"))


@pytest.mark.parametrize(
    "schedule",
    ["vectorize j", "jam i 4; vectorize j", "tile i 8 j 8; vectorize j", "parallelize j"],
)
def test_a_sum_into_an_array_that_is_not_read_can_be_shared_out(schedule: str) -> None:
    assert "reduction(+:" in emit(transform(nest("A[i] += B[i][j];"), parse_schedule(schedule)))


REGISTER_TILES = (
    (nest("for (int k = 0; k < n; k++) B[i][j] += A[k];"), "vectorize j 16; jam i 4"),
    (
        nest("float s = 0; for (int k = 0; k < n; k++) s += A[k]; B[i][j] = s;"),
        "vectorize j 16; jam i 4",
    ),
)


@pytest.mark.parametrize(("program", "tile"), REGISTER_TILES)
def test_register_tiles_need_not_be_written_to_know_that_they_can(
    program: Program, tile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legality, "check_in_c", lambda *_: pytest.fail("it was written"))
    assert emit(transform(program, parse_schedule(f"{tile}; parallelize i")))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_programs_can_be_written_under_every_legal_schedule(data: st.DataObject) -> None:
    program = data.draw(programs())
    try:
        dependences = Dependences.of(program)
    except ScheduleError:
        return
    marked = Schedule(tuple(data.draw(steps(program, marks=True)) for _ in range(2)))
    try:
        emit(transform(program, marked, dependences))
    except ScheduleError:
        with pytest.raises(ScheduleError):
            transform(program, marked, dependences)
    assert all(emit(version) for _, version in candidate_schedules(program, 25, 0, dependences))
