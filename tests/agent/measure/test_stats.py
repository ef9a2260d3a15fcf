import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.measure.stats import (
    called_different,
    interval_coverage,
    median_interval,
    noise_floor,
    order_rank,
    quantile,
    round_order,
)

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def test_coverage_of_the_whole_range_of_five_values_is_15_in_16() -> None:
    assert interval_coverage(5, 1) == 0.9375


@pytest.mark.parametrize("n", range(4, 40))
def test_the_rank_is_the_largest_that_covers_the_level(n: int) -> None:
    k = order_rank(n, 0.8)
    assert interval_coverage(n, k) >= 0.8
    assert 2 * (k + 1) > n or interval_coverage(n, k + 1) < 0.8


@pytest.mark.parametrize(("n", "level"), [(5, 0.8), (9, 0.8), (9, 0.95), (20, 0.8)])
@pytest.mark.parametrize("draw", ["lognormvariate", "betavariate"])
def test_simulated_intervals_hold_the_median_as_often_as_stated(
    n: int, level: float, draw: str
) -> None:
    rng = random.Random(20)
    true_median = {"lognormvariate": 1.0, "betavariate": 0.5}[draw]
    arguments = {"lognormvariate": (0.0, 1.5), "betavariate": (0.3, 0.3)}[draw]
    trials, held = 4000, 0
    for _ in range(trials):
        sample = [getattr(rng, draw)(*arguments) for _ in range(n)]
        interval = median_interval(sample, level)
        held += interval.low <= true_median <= interval.high
    assert abs(held / trials - interval_coverage(n, order_rank(n, level))) < 0.025


@given(values, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_interval_does_not_depend_on_the_order_of_the_values(
    sample: list[float], rng: random.Random
) -> None:
    shuffled = sample[:]
    rng.shuffle(shuffled)
    assert median_interval(shuffled) == median_interval(sample)


@given(values)
@settings(deadline=None)
def test_the_median_lies_in_its_interval(sample: list[float]) -> None:
    interval = median_interval(sample)
    assert interval.low <= interval.median <= interval.high


@given(values, st.floats(0, 1))
@settings(deadline=None)
def test_a_quantile_lies_within_the_sample(sample: list[float], share: float) -> None:
    assert min(sample) <= quantile(sample, share) + 1e-6
    assert quantile(sample, share) <= max(sample) + 1e-6


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_interval([])
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_few_rounds_never_call_programs_different() -> None:
    assert not called_different([1.0, 1.1, 1.2, 1.3, 1.4])


def test_ratios_all_on_one_side_are_called_different() -> None:
    assert called_different([0.1, 0.2, 0.15, 0.3, 0.12, 0.11, 0.2])


def test_a_program_against_itself_is_called_different_in_at_most_5_percent_of_simulations() -> None:
    rng = random.Random(7)
    called = sum(called_different([rng.gauss(0, 0.02) for _ in range(9)]) for _ in range(4000))
    assert called / 4000 <= 0.05


def test_the_noise_floor_of_nothing_is_unknown() -> None:
    assert noise_floor([]) is None
    assert noise_floor([()]) is None


def test_the_noise_floor_is_made_of_absolute_labels() -> None:
    floor = noise_floor([(-0.02, -0.02, -0.02), (0.04, 0.04, 0.04)])
    assert floor is not None
    assert floor.label_median == pytest.approx(0.03)
    assert floor.kernels == 2


@given(st.integers(1, 12))
@settings(deadline=None)
def test_every_slot_takes_every_place_equally_often(n: int) -> None:
    places = [[0] * n for _ in range(n)]
    for index in range(2 * n):
        for place, slot in enumerate(round_order(range(n), index)):
            places[slot][place] += 1
    assert all(count == 2 for row in places for count in row)


@given(st.integers(2, 12))
@settings(deadline=None)
def test_every_slot_follows_every_other_equally_often(n: int) -> None:
    follows: dict[tuple[int, int], int] = {}
    for index in range(2 * n):
        order = round_order(range(n), index)
        for pair in pairwise(order):
            follows[pair] = follows.get(pair, 0) + 1
    assert set(follows.values()) == {2}
    assert len(follows) == n * (n - 1)


def test_an_interval_for_another_occasion_holds_a_repeat_as_often_as_two_noisy_values_allow():
    """Each session has an offset of its own; 63 % is what normal values give."""
    draw = random.Random(1)

    def session():
        offset = draw.gauss(0, 0.05)
        return median_interval([draw.gauss(offset, 0.03) for _ in range(9)]).widened(0.05)

    pairs = [(session(), session()) for _ in range(4000)]
    held = sum(a.low <= b.median <= a.high for a, b in pairs) / len(pairs)
    assert 0.58 < held < 0.68
