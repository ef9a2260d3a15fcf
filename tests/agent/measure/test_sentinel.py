import math

from agent.measure.sentinel import Sentinel, sentinel_drift


def test_a_steady_machine_has_no_drift() -> None:
    assert sentinel_drift([Sentinel(1.0, 2.0), Sentinel(1.02, 2.05), Sentinel(0.99, 2.0)]) == ()


def test_a_part_that_slows_down_is_named_with_the_change() -> None:
    (notice,) = sentinel_drift([Sentinel(1.0, 2.0), Sentinel(1.5, 2.0)])
    assert notice.kind == "drift-arithmetic"
    assert abs(notice.value - math.log(1.5)) < 1e-12


def test_a_part_that_could_not_be_timed_is_left_out() -> None:
    assert sentinel_drift([Sentinel(math.nan, 2.0), Sentinel(1.0, 2.0)]) == ()
