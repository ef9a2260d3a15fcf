from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from agent.model.observations import Observations
from agent.model.score import (
    accuracy,
    coverage,
    log_error,
    log_error_interval,
    mape,
    median_ape,
    pairwise,
    predict_the_median,
    spearman,
    top_share,
)
from tests.agent.model.synthetic_machines import draw_machine, make_prior

ONE = np.zeros(3, dtype=np.int64)
values = arrays(np.float64, 12, elements=st.floats(-3, 3).map(lambda x: round(x, 1)))


def test_log_error_is_the_mean_absolute_difference_of_logs():
    assert log_error(np.log([2.0, 1.0]), np.log([1.0, 1.0])) == pytest.approx(np.log(2) / 2)


def test_mape_is_relative_to_the_true_speedup():
    assert mape(np.log([2.0, 4.0]), np.log([1.0, 6.0])) == pytest.approx(0.5)


def test_median_ape_ignores_one_wild_prediction():
    assert median_ape(np.log([1.0, 1.0, 1.0]), np.log([1.1, 1.1, 900.0])) == pytest.approx(0.1)


def test_a_wild_prediction_gives_a_finite_mape():
    assert np.isfinite(mape(np.array([0.0]), np.array([1e6])))


@given(truth=values, predicted=values)
@settings(deadline=None)
def test_spearman_agrees_with_scipy_where_the_program_as_written_takes_part(truth, predicted):
    a, b = np.append(0.0, truth), np.append(0.0, predicted)
    got = spearman(truth, predicted, np.zeros(12, dtype=np.int64))
    if np.ptp(a) == 0:
        assert got is None
    elif np.ptp(b) == 0:
        assert got == 0.0
    else:
        assert got == pytest.approx(spearmanr(a, b).statistic)


def test_spearman_leaves_out_programs_with_two_versions():
    truth, group = np.array([1.0, 2.0, 5.0]), np.array([0, 0, 1])
    assert spearman(truth, np.array([1.0, 2.0, -1.0]), group) == pytest.approx(1.0)
    assert spearman(truth[2:], truth[2:], group[2:]) is None


def test_top_share_compares_the_pick_with_the_best():
    truth, predicted = np.log([2.0, 4.0, 1.0]), np.array([5.0, 1.0, 0.0])
    assert top_share(truth, predicted, ONE) == pytest.approx(0.5)


def test_the_program_as_written_is_a_pick_of_its_own():
    truth, predicted = np.log([0.5, 0.25, 0.1]), np.array([-1.0, -2.0, -3.0])
    assert top_share(truth, predicted, ONE) == pytest.approx(1.0)


def test_equal_picks_count_with_their_mean_speed():
    truth, predicted = np.log([2.0, 4.0, 1.0]), np.array([1.0, 1.0, 0.0])
    assert top_share(truth, predicted, ONE) == pytest.approx(0.75)


def test_pairwise_counts_pairs_in_the_right_order_and_halves_ties():
    truth = np.array([1.0, 2.0, 3.0])
    assert pairwise(truth, truth, ONE) == 1.0
    assert pairwise(truth, -truth, ONE) == 0.0
    assert pairwise(truth, np.zeros(3), ONE) == 0.5


@given(truth=values, predicted=values)
@settings(deadline=None)
def test_ranking_metrics_stay_in_their_ranges(truth, predicted):
    group = np.repeat([0, 1, 2], 4)
    for metric, low in ((spearman, -1.0), (top_share, 0.0), (pairwise, 0.0)):
        value = metric(truth, predicted, group)
        assert value is None or low - 1e-12 <= value <= 1 + 1e-12


def test_coverage_counts_intervals_that_hold_the_truth():
    truth, mean = np.array([0.0, 1.0, 2.0, 3.0]), np.zeros(4)
    assert coverage(truth, mean, np.full(4, 1.0)) == 0.5


def test_the_bootstrap_interval_holds_the_error_and_repeats():
    rng = np.random.default_rng(0)
    truth, group = rng.normal(size=60), np.repeat(np.arange(20), 3)
    low, high = log_error_interval(truth, np.zeros(60), group, seed=1)
    assert low < log_error(truth, np.zeros(60)) < high
    assert (low, high) == log_error_interval(truth, np.zeros(60), group, seed=1)


def test_accuracy_of_perfect_predictions_is_perfect():
    labels = draw_machine(make_prior(), 0).observe(10, 0)
    found = accuracy(labels, labels.target, np.ones(len(labels)))
    assert (found.log_error, found.factor, found.mape, found.spearman) == (0, 1, 0, 1)
    assert (found.top_share, found.pairwise, found.coverage, found.seconds_log_error) == (
        1,
        1,
        1,
        0,
    )


def test_accuracy_of_nothing_is_none_and_plain():
    found = asdict(accuracy(Observations.none(65), np.zeros(0)))
    assert found["versions"] == 0
    assert found["log_error"] is None
    assert found["seconds_log_error"] is None


def test_the_median_control_does_not_see_the_rows_own_program():
    labels = draw_machine(make_prior(), 0).observe(5, 0)
    changed = Observations(
        labels.design,
        np.where(labels.group == 2, 99.0, labels.target),
        labels.sd,
        labels.kind,
        labels.group,
    )
    own = labels.group == 2
    assert np.array_equal(predict_the_median(labels)[own], predict_the_median(changed)[own])


def test_the_median_control_knows_speedups_from_seconds():
    labels = draw_machine(make_prior(), 0).observe(20, 0)
    predicted = predict_the_median(labels)
    assert np.abs(predicted[labels.kind == "speedup"]).max() < 3
    assert predicted[labels.kind == "seconds"].max() < -10
