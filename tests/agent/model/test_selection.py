import dataclasses
import json
from dataclasses import asdict

import numpy as np
import pytest

from agent.model.heads import head_from_json
from agent.model.linear import BundleHead
from agent.model.observations import Observations
from agent.model.score import accuracy
from agent.model.select import choose_head
from tests.agent.model.synthetic_machines import draw_machine, first_speedups, make_prior

PRIOR = make_prior()
WIDTH = len(PRIOR.mean)


def labels(programs=16, seed=0, away=1.0, bend=0.0, **how):
    return draw_machine(PRIOR, seed, away, bend).observe(programs, seed, **how)


@pytest.fixture(scope="module")
def unlike():
    train = labels()
    return train, choose_head(PRIOR, train, seed=1)


def test_a_learned_head_is_chosen_on_an_unlike_machine(unlike):
    _, chosen = unlike
    assert chosen.kind in ("ridge", "boosting")
    assert chosen.kinds["seconds"] == "ridge"
    assert chosen.head.kind == chosen.kind


def test_where_there_is_nothing_to_learn_nearly_nothing_is_lost():
    head = choose_head(PRIOR, labels(away=0.0), seed=1).head
    test = draw_machine(PRIOR, 0, 0.0).observe(150, 100)
    mean, _ = head.predict(test.design, test.kind)
    alone = accuracy(test, test.design @ PRIOR.mean).log_error
    assert accuracy(test, mean).log_error < alone + 0.02


@pytest.fixture(scope="module")
def believing():
    """A choice under a prior that takes errors for signal: its posterior learns noise by heart."""
    trusting = {"noise_speedup": 0.01, "noise_seconds": 0.01, "noise_weight": 1e6}
    wide = {"program_speedup": 0.01, "program_seconds": 0.01, "rest_sd": 1.0}
    return choose_head(dataclasses.replace(PRIOR, **trusting, **wide), labels(away=0.0), seed=1)


def test_the_bundle_stays_where_a_learned_head_is_clearly_worse(believing):
    chosen = believing
    test = draw_machine(PRIOR, 0, 0.0).observe(50, 9)
    assert chosen.kind == "bundle"
    assert np.array_equal(
        chosen.head.predict(test.design, "speedup")[0],
        BundleHead.fit(PRIOR).predict(test.design, "speedup")[0],
    )


def test_a_head_that_is_worse_says_so_with_its_figures(believing):
    verdicts = believing.verdicts
    ridge = next(v for v in verdicts if (v.target, v.candidate) == ("speedup", "ridge"))
    assert ridge.status == "not-better"
    assert ridge.log_error > ridge.bundle_log_error + ridge.margin


def test_at_most_one_candidate_is_chosen_for_a_kind(unlike):
    _, chosen = unlike
    for kind in ("speedup", "seconds"):
        winners = [v for v in chosen.verdicts if v.target == kind and v.status == "chosen"]
        assert [v.candidate for v in winners] == [chosen.kinds[kind]]


def test_verdicts_are_plain_data(unlike):
    json.dumps([asdict(v) for v in unlike[1].verdicts], allow_nan=False)


def test_out_of_fold_predictions_are_aligned_with_the_labels(unlike):
    train, chosen = unlike
    assert chosen.calibrated.shape == chosen.calibrated_sd.shape == train.target.shape
    assert np.array_equal(chosen.bundle_alone, train.design @ PRIOR.mean)
    assert (
        accuracy(train, chosen.calibrated).log_error
        < 0.75 * accuracy(train, chosen.bundle_alone).log_error
    )


def test_the_reported_accuracy_is_that_on_new_programs():
    reported, real = [], []
    for seed in range(2):
        train = labels(20, seed)
        chosen = choose_head(PRIOR, train, seed=0)
        test = draw_machine(PRIOR, seed).observe(150, 100 + seed)
        mean, _ = chosen.head.predict(test.design, test.kind)
        reported.append(accuracy(train, chosen.calibrated).log_error)
        real.append(accuracy(test, mean).log_error)
    assert np.mean(reported) == pytest.approx(np.mean(real), rel=0.2)


def test_an_out_of_fold_prediction_does_not_see_its_own_programs_labels(unlike):
    train, chosen = unlike
    own = train.group == 4
    target = np.where(own, train.target + 50.0, train.target)
    changed = Observations(train.design, target, train.sd, train.kind, train.group)
    again = choose_head(PRIOR, changed, seed=1)
    assert np.array_equal(again.calibrated[own], chosen.calibrated[own])


def test_the_choice_repeats_for_a_seed(unlike):
    train, chosen = unlike
    again = choose_head(PRIOR, train, seed=1)
    assert again.head.to_json() == chosen.head.to_json()
    assert np.array_equal(again.calibrated, chosen.calibrated)


def test_the_chosen_head_survives_json(unlike):
    train, chosen = unlike
    again = head_from_json(json.loads(json.dumps(chosen.head.to_json())))
    assert np.array_equal(
        again.predict(train.design, train.kind)[0], chosen.head.predict(train.design, train.kind)[0]
    )


def test_coverage_is_given_for_each_kind(unlike):
    assert 0.6 <= unlike[1].coverage["speedup"] <= 0.95
    assert unlike[1].coverage["seconds"] is not None


@pytest.mark.parametrize("rows", [0, 1, 2, 4])
def test_almost_no_labels_leave_the_bundle_alone(rows):
    few = labels(1).take(np.arange(rows))
    chosen = choose_head(PRIOR, few, seed=0)
    assert set(chosen.kinds.values()) == {"bundle"}
    assert {v.status for v in chosen.verdicts} == {"too-few-labels"}
    assert np.array_equal(chosen.calibrated, few.design @ PRIOR.mean)


def test_speedups_without_seconds_and_seconds_without_speedups_are_enough():
    train = labels(16)
    for kind, other in (("speedup", "seconds"), ("seconds", "speedup")):
        chosen = choose_head(PRIOR, train.take(train.kind == kind), seed=0)
        assert chosen.kinds[kind] != "bundle"
        assert chosen.coverage[other] is None


def test_wild_labels_do_not_lead_the_choice_far_astray():
    chosen = choose_head(PRIOR, labels(away=0.0, wild=0.15), seed=0)
    test = draw_machine(PRIOR, 0, 0.0).observe(150, 100)
    mean, _ = chosen.head.predict(test.design, test.kind)
    alone = accuracy(test, test.design @ PRIOR.mean).log_error
    assert accuracy(test, mean).log_error < alone + 0.06


def test_boosting_is_chosen_where_no_linear_head_fits():
    chosen = choose_head(PRIOR, labels(70, 1, bend=2.0), seed=0)
    assert chosen.kind == "boosting"
    assert chosen.kinds["seconds"] == "ridge"


def test_few_labels_do_not_even_try_boosting():
    few = first_speedups(labels(), 12)
    chosen = choose_head(PRIOR, few, seed=0)
    boosting = next(v for v in chosen.verdicts if v.candidate == "boosting")
    assert boosting.status == "too-few-labels"
