"""One contract for all heads, then what each does by itself."""

import json
import subprocess
import sys

import numpy as np
import pytest

from agent.errors import StateError
from agent.model.heads import BoostedHead, PairHead, head_from_json
from agent.model.linear import BundleHead, RidgeHead
from agent.model.observations import Observations, PerKind, as_kinds, group_folds
from agent.model.posterior import Z80, posterior, quantile_scale, tail_factor
from agent.model.prior import weak_prior
from agent.model.score import accuracy
from tests.agent.model.synthetic_machines import draw_machine, first_speedups, make_prior

PRIOR = make_prior()
WIDTH = len(PRIOR.mean)


def fit_pair(prior, observations):
    return PairHead(BoostedHead.fit(prior, observations), RidgeHead.fit(prior, observations))


FITS = {"bundle": BundleHead.fit, "ridge": RidgeHead.fit, "boosting": BoostedHead.fit}
FITS["pair"] = fit_pair
LEARNING = {name: fit for name, fit in FITS.items() if name != "bundle"}
every_head = pytest.mark.parametrize("fit", FITS.values(), ids=FITS.keys())
every_learning_head = pytest.mark.parametrize("fit", LEARNING.values(), ids=LEARNING.keys())


def labels(programs=16, seed=0, away=1.0, **how):
    return draw_machine(PRIOR, seed, away).observe(programs, seed, **how)


def judge(head, machine_seed, away=1.0):
    test = draw_machine(PRIOR, machine_seed, away).observe(150, 500 + machine_seed)
    return accuracy(test, *head.predict(test.design, test.kind))


@every_head
def test_a_head_gives_one_mean_and_one_positive_sd_a_row(fit):
    head, unseen = fit(PRIOR, labels()), labels(7, seed=3)
    mean, sd = head.predict(unseen.design, unseen.kind)
    assert mean.shape == sd.shape == (len(unseen),)
    assert np.isfinite(mean).all()
    assert (sd > 0).all()


@every_head
def test_a_kind_for_all_rows_is_the_same_as_one_a_row(fit):
    head, unseen = fit(PRIOR, labels()), labels(7, seed=3)
    fast = unseen.take(unseen.kind == "speedup")
    for one, many in zip(
        head.predict(fast.design, "speedup"), head.predict(fast.design, fast.kind), strict=True
    ):
        assert np.array_equal(one, many)


@every_head
def test_no_rows_are_predicted_as_no_rows(fit):
    mean, sd = fit(PRIOR, labels()).predict(np.zeros((0, WIDTH)), "speedup")
    assert mean.shape == sd.shape == (0,)


@every_head
def test_an_unknown_kind_is_refused(fit):
    with pytest.raises(ValueError, match="kind"):
        fit(PRIOR, labels()).predict(np.zeros((2, WIDTH)), "slowdown")


@every_head
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_head_can_be_fitted_to_almost_nothing(fit, rows):
    few = labels(1, wild=1.0).take(np.arange(rows))
    mean, sd = fit(PRIOR, few).predict(labels().design, labels().kind)
    assert np.isfinite(mean).all()
    assert np.isfinite(sd).all()


@every_head
def test_a_head_survives_json_its_means_exactly(fit):
    head, unseen = fit(PRIOR, labels()), labels(20, seed=5)
    text = json.dumps(head.to_json(), allow_nan=False)
    again = head_from_json(json.loads(text))
    before, after = (h.predict(unseen.design, unseen.kind) for h in (head, again))
    assert again.kind == head.kind
    assert np.array_equal(before[0], after[0])
    assert before[1] == pytest.approx(after[1], abs=1e-3)
    assert len(text) < 45_000


def test_a_linear_head_takes_little_room():
    assert len(json.dumps(RidgeHead.fit(PRIOR, labels()).to_json())) < 17_000


def test_one_head_that_serves_both_kinds_is_stored_once():
    ridge = RidgeHead.fit(PRIOR, labels())
    text = json.dumps(PairHead(ridge, ridge).to_json())
    assert len(text) < 17_000
    again, unseen = head_from_json(json.loads(text)), labels(7, seed=3)
    assert np.array_equal(
        again.predict(unseen.design, unseen.kind)[0], ridge.predict(unseen.design, unseen.kind)[0]
    )


def test_a_head_stored_by_an_earlier_version_is_still_read():
    ridge, unseen = RidgeHead.fit(PRIOR, labels()), labels(7, seed=3)
    data = ridge.to_json()
    del data["sd"], data["correlation"]
    data["covariance"] = ridge.covariance[np.tril_indices(WIDTH)].tolist()
    again = head_from_json(data)
    for before, after in zip(
        ridge.predict(unseen.design, unseen.kind),
        again.predict(unseen.design, unseen.kind),
        strict=True,
    ):
        assert before == pytest.approx(after, abs=1e-9)


@every_head
def test_the_same_labels_and_seed_give_the_same_head(fit):
    assert fit(PRIOR, labels()).to_json() == fit(PRIOR, labels()).to_json()


@every_head
def test_the_order_of_labels_does_not_change_predicted_seconds(fit):
    train, unseen = labels(24), labels(30, seed=5)
    shuffled = train.take(np.random.default_rng(0).permutation(len(train)))
    a, b = (fit(PRIOR, t).predict(unseen.design, "seconds")[0] for t in (train, shuffled))
    assert a == pytest.approx(b, abs=1e-6)


@every_learning_head
def test_a_fit_on_48_labels_of_an_unlike_machine_beats_the_bundle_alone(fit):
    for seed in range(3):
        calibrated = judge(fit(PRIOR, labels(16, seed)), seed)
        alone = judge(BundleHead.fit(PRIOR), seed)
        assert calibrated.log_error < 0.75 * alone.log_error
        assert calibrated.seconds_log_error < 0.75 * alone.seconds_log_error
        assert calibrated.spearman > alone.spearman


@every_learning_head
def test_wild_labels_cost_little_even_where_there_is_nothing_to_learn(fit):
    for seed in range(3):
        train = labels(16, seed, away=0.0, wild=0.1)
        calibrated, alone = (
            judge(fit(PRIOR, train), seed, 0.0),
            judge(BundleHead.fit(PRIOR), seed, 0.0),
        )
        assert calibrated.log_error < alone.log_error + 0.06


@every_head
def test_intervals_hold_four_times_in_five_on_unseen_programs(fit):
    hits = {"speedup": [], "seconds": []}
    for seed in range(6):
        head = fit(PRIOR, labels(70, seed))
        test = draw_machine(PRIOR, seed).observe(150, 500 + seed)
        mean, sd = head.predict(test.design, test.kind)
        for kind, held in hits.items():
            rows = test.kind == kind
            held.extend(np.abs(test.target - mean)[rows] <= Z80 * sd[rows])
    for kind, held in hits.items():
        assert 0.75 <= np.mean(held) <= 0.85, kind


def test_without_labels_ridge_is_the_bundle():
    none = Observations.none(WIDTH)
    ridge, bundle = RidgeHead.fit(PRIOR, none), BundleHead.fit(PRIOR)
    assert ridge.weights == pytest.approx(bundle.weights)
    assert ridge.covariance == pytest.approx(bundle.covariance)


def test_left_out_predictions_are_those_of_a_fit_without_the_program():
    train = labels(20, wild=0.05)
    found, differences = posterior(PRIOR, train), []
    for group in range(5):
        out = train.group == group
        weights = posterior(PRIOR, train.take(~out)).weights
        differences.extend(train.design[out] @ weights - found.left_out[out])
    assert np.abs(differences).mean() < 0.05  # robust weights were found with the program there


def test_more_labels_give_smaller_predicted_sd_of_the_weights():
    sizes = [np.trace(posterior(PRIOR, labels(n)).covariance) for n in (2, 8, 32)]
    assert sizes == sorted(sizes, reverse=True)


def test_many_schedules_of_one_program_count_less_than_as_many_programs():
    spread = first_speedups(labels(48, versions=1), 48)
    alike = Observations(
        spread.design, spread.target, spread.sd, spread.kind, np.zeros(len(spread), dtype=np.int64)
    )
    assert np.trace(posterior(PRIOR, alike).covariance) > np.trace(
        posterior(PRIOR, spread).covariance
    )


def test_labels_measured_badly_count_less():
    train = labels(16)
    vague = Observations(train.design, train.target, train.sd + 3.0, train.kind, train.group)
    assert np.trace(posterior(PRIOR, vague).covariance) > np.trace(
        posterior(PRIOR, train).covariance
    )


def test_boosting_learns_what_no_linear_head_can_say():
    train = draw_machine(PRIOR, 1, bend=1.5).observe(70, 1)
    test = draw_machine(PRIOR, 1, bend=1.5).observe(200, 2)
    ridge, boosted = RidgeHead.fit(PRIOR, train), BoostedHead.fit(PRIOR, train)
    errors = [
        accuracy(test, h.predict(test.design, test.kind)[0]).log_error for h in (ridge, boosted)
    ]
    assert errors[1] < 0.9 * errors[0]


def test_raw_features_take_the_same_head_under_a_weak_prior():
    train = labels(24)
    prior = weak_prior(train.design[train.kind == "speedup"])
    for fit in FITS.values():
        mean, sd = fit(prior, train).predict(train.design, train.kind)
        assert np.isfinite(mean).all()
        assert np.isfinite(sd).all()


def test_predicting_does_not_import_sklearn():
    code = (
        "import sys, agent.model.select, agent.model.score;"
        "assert not {'sklearn', 'scipy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def spoil(path, value):
    def change(data):
        *way, last = path
        part = data
        for step in way:
            part = part[step]
        part[last] = value
        return data

    return change


SPOILED = {
    "unknown kind": spoil(["kind"], "pickle"),
    "kind that is no word": spoil(["kind"], ["ridge"]),
    "missing weights": spoil(["speedup", "base", "weights"], None),
    "nan weight": spoil(["speedup", "base", "weights", 0], float("nan")),
    "enormous weight": spoil(["seconds", "weights", 0], 1e300),
    "weight in words": spoil(["seconds", "weights", 0], "1"),
    "one weight more": spoil(["seconds", "weights"], [0.0] * (WIDTH + 1)),
    "covariance too short": spoil(["seconds", "covariance"], [0.0]),
    "negative variance": spoil(["seconds", "covariance"], [-1.0] * (WIDTH * (WIDTH + 1) // 2)),
    "negative sd": spoil(["seconds", "sd", 0], -1.0),
    "too few sds": spoil(["seconds", "sd"], [1.0]),
    "correlation too short": spoil(["seconds", "correlation"], [0]),
    "correlation beyond one": spoil(["seconds", "correlation", 0], 10_001),
    "broken correlation": spoil(["seconds", "correlation", 0], 0.5),
    "zero noise": spoil(["seconds", "noise"], [0.0, 1.0]),
    "three noises": spoil(["seconds", "noise"], [1.0, 1.0, 1.0]),
    "negative interval scale": spoil(["seconds", "interval_scale"], [1.0, -1.0]),
    "projection too narrow": spoil(["speedup", "projection", 0], [0.0]),
    "cycle in a tree": spoil(["speedup", "forest", "left", 0], 0),
    "pair in a pair": spoil(["speedup"], {"kind": "pair"}),
    "no head for seconds": spoil(["seconds"], "ridge"),
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_head_is_refused_with_a_hint(change):
    data = json.loads(json.dumps(fit_pair(PRIOR, labels()).to_json()))
    with pytest.raises(StateError, match="stored head is not usable") as caught:
        head_from_json(change(data))
    assert "refit" in caught.value.hint


@pytest.mark.parametrize("data", [None, 3, "x", [], {}, {"kind": "ridge"}, {"kind": "pair"}])
def test_what_is_no_head_at_all_is_refused(data):
    with pytest.raises(StateError):
        head_from_json(data)


def test_observations_of_different_lengths_are_refused():
    train = labels(3)
    with pytest.raises(ValueError, match="are \\[n\\]"):
        Observations(train.design, train.target[1:], train.sd, train.kind, train.group)


def test_an_observation_that_is_not_finite_is_refused():
    train = labels(3)
    target = train.target.copy()
    target[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        Observations(train.design, target, train.sd, train.kind, train.group)


def test_designs_of_another_width_than_the_prior_are_refused():
    with pytest.raises(ValueError, match="designs"):
        RidgeHead.fit(PRIOR, Observations.none(WIDTH - 1))


def test_folds_hold_every_row_once_and_never_cut_a_group():
    group = np.repeat(np.arange(10), 3)
    folds = group_folds(group, 4, seed=0)
    assert (sum(f.astype(int) for f in folds) == 1).all()
    assert all(len(np.unique(f[group == g])) == 1 for f in folds for g in range(10))


def test_there_are_no_more_folds_than_groups():
    assert len(group_folds(np.array([5, 5, 9]), 8, seed=0)) == 2
    assert group_folds(np.zeros(0, dtype=np.int64), 8, seed=0) == ()


def test_quantities_by_kind_are_spread_over_rows():
    kinds = np.array(["speedup", "seconds"])
    assert PerKind(1.0, 2.0).rows(kinds).tolist() == [1.0, 2.0]
    assert as_kinds("seconds", 2).tolist() == ["seconds", "seconds"]


@pytest.mark.parametrize(("dof", "quantile"), [(3, 1.638), (4, 1.533), (10, 1.372), (1e6, Z80)])
def test_heavy_tails_widen_the_noise_as_student_t_says(dof, quantile):
    assert tail_factor(dof) * Z80 == pytest.approx(quantile, rel=0.01)


def test_the_interval_scale_grows_where_errors_exceed_their_sd():
    exact = np.abs(np.random.default_rng(0).normal(size=4000))
    assert quantile_scale(exact, 1000, 8.0) == pytest.approx(1.0, abs=0.05)
    assert quantile_scale(3 * exact, 1000, 8.0) == pytest.approx(3.0, rel=0.05)
    assert quantile_scale(np.zeros(0), 0, 8.0) == 1.0


def test_a_prior_sure_of_its_scales_lets_few_programs_widen_intervals_less():
    few = np.full(12, 3.0)
    assert 1 < quantile_scale(few, 4, 100.0) < quantile_scale(few, 4, 4.0) < 3.0
