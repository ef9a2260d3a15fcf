"""The fast figures are those of agent.model.score, to rounding."""

import numpy as np
import pytest

from agent.model import score as slow
from bundles.evaluation.scores import ArmPrediction, Scores, Truth, score
from bundles.evaluation.statistics import figures_of


def example(seed: int, ties: bool) -> tuple[Truth, ArmPrediction, np.ndarray]:
    rng = np.random.default_rng(seed)
    versions = rng.integers(1, 9, 12)
    program = rng.permutation(np.repeat(np.arange(12), versions))
    gain, guess = rng.standard_normal((2, len(program)))
    if ties:
        gain, guess = np.round(gain), np.round(guess)
    truth = Truth.of(gain, program, rng.standard_normal(12))
    sd = rng.uniform(0.2, 1.0, len(program))
    return truth, ArmPrediction(guess, sd, truth.seconds + 0.3, np.full(12, 0.2)), program


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_every_figure_equals_the_slow_one(seed: int, ties: bool) -> None:
    truth, guess, program = example(seed, ties)
    found = figures_of(score(truth, guess))
    both = (truth.gain, guess.gain)
    assert found["log_error"] == pytest.approx(slow.log_error(*both))
    assert found["mape"] == pytest.approx(slow.mape(*both))
    assert found["median_ape"] == pytest.approx(slow.median_ape(*both))
    assert found["spearman"] == pytest.approx(slow.spearman(*both, program))
    assert found["top_share"] == pytest.approx(slow.top_share(*both, program))
    assert found["pairwise"] == pytest.approx(slow.pairwise(*both, program))
    assert found["coverage"] == pytest.approx(slow.coverage(*both, guess.gain_sd))
    assert found["seconds_log_error"] == pytest.approx(0.3)
    assert found["seconds_coverage"] == 0.0


def test_a_prediction_that_tells_no_versions_apart_ranks_nothing() -> None:
    truth, guess, _ = example(0, False)
    found = figures_of(score(truth, ArmPrediction(np.zeros_like(guess.gain))))
    assert found["spearman"] == 0.0
    assert found["pairwise"] == 0.5


def test_the_truth_itself_has_no_error_and_the_best_pick() -> None:
    truth, _, _ = example(1, False)
    found = figures_of(score(truth, ArmPrediction(truth.gain)))
    assert found["log_error"] == 0.0
    assert found["spearman"] == pytest.approx(1.0)
    assert found["top_share"] == pytest.approx(1.0)
    assert found["pairwise"] == 1.0


def test_an_arm_without_intervals_or_times_has_no_such_figures() -> None:
    truth, guess, _ = example(2, False)
    found = figures_of(score(truth, ArmPrediction(guess.gain)))
    assert all(np.isnan(found[n]) for n in ("coverage", "seconds_log_error", "seconds_coverage"))


def test_a_program_of_one_version_does_not_count_in_rank_correlation() -> None:
    truth = Truth.of(np.array([0.3]), np.array([0]), np.zeros(1))
    found: Scores = score(truth, ArmPrediction(np.array([0.5])))
    assert np.isnan(found.spearman).all()
    assert found.top_share[0] == 1.0
