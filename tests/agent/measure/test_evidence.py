import pytest

from agent.measure.evidence import Round, disturbances, notices

QUIET = Round(((0, 0.01), (1, 0.01)), 0.1, 0.1, 0.0, 0.1, 0, 0)


def observed(**changes: float) -> Round:
    fields = {"wall_s": 0.1, "cpu_s": 0.1, "steal_s": 0.0, "busy_s": 0.1, "switches": 0}
    merged = {"others": 0, **fields, **changes}
    return Round(QUIET.seconds, **merged)  # type: ignore[arg-type]


def test_a_quiet_round_is_left_alone() -> None:
    assert disturbances(QUIET, 2, alone=True) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steal_s": 0.01}, "steal"),
        ({"busy_s": 0.15}, "foreign-load"),
        ({"switches": 20}, "switches"),
        ({"others": 1}, "runnable"),
    ],
)
def test_each_kind_of_evidence_is_named(changes: dict[str, float], reason: str) -> None:
    assert disturbances(observed(**changes), 2, alone=True) == (reason,)


def test_threads_of_a_bigger_machine_are_no_evidence() -> None:
    assert disturbances(observed(others=7), 2, alone=False) == ()


def test_the_times_themselves_are_never_evidence() -> None:
    slow = Round(((0, 5.0), (1, 0.01)), 0.1, 0.1, 0.0, 0.1, 0, 0)
    assert disturbances(slow, 2, alone=True) == ()


def test_a_quiet_measurement_has_no_notices() -> None:
    assert notices([QUIET] * 9, [QUIET] * 9, [0.001] * 9, 2, 5) == ()


def test_steal_and_noise_are_noticed_with_their_numbers() -> None:
    rounds = [observed(steal_s=0.02)] * 9
    found = {n.kind: n.value for n in notices(rounds, rounds, [0.2] * 9, 2, 5)}
    assert found["steal"] == pytest.approx(0.1)
    assert found["noise"] == pytest.approx(0.2)


def test_too_few_rounds_are_noticed() -> None:
    assert [n.kind for n in notices([QUIET] * 3, [QUIET] * 3, [], 2, 5)] == ["few-rounds"]
