import contextlib
import dataclasses
import json
import math
import random

import numpy as np
import pytest

from agent.errors import BundleError
from agent.model.facts import FACTS, unknown
from agent.model.posterior import posterior
from agent.model.prior import Prior, weak_prior
from tests.agent.model.synthetic_machines import draw_machine, make_prior


def test_a_prior_survives_json_bit_for_bit():
    prior = make_prior()
    again = Prior.from_json(json.loads(json.dumps(prior.to_json())))
    assert np.array_equal(again.mean, prior.mean)
    assert np.array_equal(again.directions, prior.directions)
    assert again.to_json() == prior.to_json()


def test_numbers_left_out_of_the_json_take_their_defaults():
    data = make_prior().to_json()
    del data["machine_dof"]
    assert Prior.from_json(data).machine_dof == 4.0


def with_facts() -> Prior:
    prior = make_prior()
    table = np.zeros((len(prior.mean), len(FACTS)))
    table[3, 0] = 0.5
    sizes = {"facts_centre": np.full(len(FACTS), 5.0), "facts_scale": np.full(len(FACTS), 2.0)}
    return dataclasses.replace(prior, **sizes, facts_shift=table)


FACTUAL = with_facts().to_json()
WRONG = {
    "not an object": lambda d: [d],
    "no schema": lambda d: {k: v for k, v in d.items() if k != "schema"},
    "another schema": lambda d: d | {"schema": 2},
    "no mean": lambda d: {k: v for k, v in d.items() if k != "mean"},
    "empty mean": lambda d: d | {"mean": [], "directions": []},
    "mean of words": lambda d: d | {"mean": ["1.0"] * 65},
    "mean of booleans": lambda d: d | {"mean": [True] * 65},
    "nan in mean": lambda d: d | {"mean": [math.nan, *d["mean"][1:]]},
    "infinite mean": lambda d: d | {"mean": [math.inf, *d["mean"][1:]]},
    "enormous whole number": lambda d: d | {"mean": [10**400, *d["mean"][1:]]},
    "mean too short": lambda d: d | {"mean": d["mean"][1:]},
    "mean too long": lambda d: d | {"mean": [0.0] * 100_000},
    "nested mean": lambda d: d | {"mean": [[0.0]] * 65},
    "ragged directions": lambda d: d | {"directions": [[1.0], *d["directions"][1:]]},
    "too many directions": lambda d: d | {"directions": [[0.0] * 65] * 65},
    "no noise": lambda d: {k: v for k, v in d.items() if k != "noise_speedup"},
    "zero noise": lambda d: d | {"noise_speedup": 0},
    "negative noise": lambda d: d | {"noise_seconds": -0.1},
    "noise in words": lambda d: d | {"noise_seconds": "much"},
    "no degrees of freedom": lambda d: d | {"noise_dof": 0.0},
    "null": lambda d: d | {"rest_sd": None},
    "other facts": lambda d: d | {"facts": ["simd"]},
    "facts without numbers": lambda d: d | {"facts": list(FACTS)},
    "too few shifts": lambda d: d | FACTUAL | {"facts_shift": [[0.0] * len(FACTS)]},
    "infinite shift": lambda d: d | FACTUAL | {"facts_shift": [[math.inf] * len(FACTS)] * 65},
    "weights beyond any machine": lambda d: d | {"mean": [1e5, *d["mean"][1:]]},
    "directions beyond any machine": lambda d: d | {"directions": [[1e8] * 8] * 65},
    "programs that differ by everything": lambda d: d | {"program_speedup": 1e6},
    "noise of nothing": lambda d: d | {"noise_speedup": 1e-6},
    "tails without end": lambda d: d | {"machine_dof": 1e-6},
    "far shifts": lambda d: d | FACTUAL | {"facts_shift": [[1e5] * len(FACTS)] * 65},
    "facts of no scale": lambda d: d | FACTUAL | {"facts_scale": [0.0] * len(FACTS)},
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG.keys())
def test_a_malformed_prior_is_refused_as_the_bundles_fault(spoil):
    with pytest.raises(BundleError, match="prior is not usable") as caught:
        Prior.from_json(spoil(make_prior().to_json()))
    assert caught.value.hint


EXTREME = [1e-6, 1e-3, 0.5, 1.0, 1e3, 1e4, 1e9]


def test_a_prior_that_is_accepted_can_be_fitted_however_odd_it_is():
    observations = draw_machine(make_prior(), 1).observe(12, 3)
    rng = random.Random(5)
    fitted = 0
    for _ in range(12):
        data = make_prior().to_json()
        for _ in range(rng.randrange(1, 4)):
            name = rng.choice([k for k, v in data.items() if isinstance(v, float)])
            data[name] = rng.choice([0.0, *EXTREME])
        data["mean"][rng.randrange(65)] = rng.choice(EXTREME)
        if rng.random() < 0.3:
            factor = rng.choice(EXTREME)
            data["directions"] = [[x * factor for x in row] for row in data["directions"]]
        with contextlib.suppress(BundleError):
            found = posterior(Prior.from_json(data), observations)
            assert np.isfinite(found.weights).all()
            assert np.isfinite(found.covariance).all()
            fitted += 1
    assert fitted > 2


def test_the_shrinkage_strength_scales_the_covariance_along_directions():
    data = make_prior().to_json() | {"rest_sd": 0.0, "intercept_sd": 0.0}
    near = Prior.from_json(data | {"direction_scale": 0.5}).covariance()
    assert near == pytest.approx(0.25 * Prior.from_json(data).covariance())


def test_the_weak_prior_knows_nothing_and_expects_speedups_of_size_one():
    designs = np.random.default_rng(0).normal(size=(200, 31)) * 7
    prior = weak_prior(designs)
    variance = np.sum((designs @ prior.covariance()) * designs, axis=1)
    assert not prior.mean.any()
    designs[:, -1] = 0
    variance = np.sum((designs @ prior.covariance()) * designs, axis=1)
    assert variance.mean() == pytest.approx(1.0, rel=0.1)


def test_a_prior_with_facts_survives_json_bit_for_bit():
    prior = with_facts()
    again = Prior.from_json(json.loads(json.dumps(prior.to_json())))
    assert again.to_json() == prior.to_json()
    assert np.array_equal(again.facts_shift, prior.facts_shift)


def test_a_known_fact_moves_the_mean_by_its_distance_from_the_centre():
    prior, facts = with_facts(), unknown()
    facts[0] = 6.0
    moved = prior.on(facts)
    assert moved.mean[3] == prior.mean[3] + 0.5 * (6 - 5) / 2
    assert np.array_equal(np.delete(moved.mean, 3), np.delete(prior.mean, 3))
    assert not len(moved.facts_centre)


def test_a_fact_that_is_not_known_moves_nothing():
    prior = with_facts()
    assert np.array_equal(prior.on(unknown()).mean, prior.mean)


def test_a_machine_far_outside_what_was_seen_is_not_extrapolated_without_end():
    prior, far, farther = with_facts(), unknown(), unknown()
    far[0], farther[0] = 100.0, 10_000.0
    assert np.array_equal(prior.on(far).mean, prior.on(farther).mean)


def test_a_prior_that_knows_no_facts_is_the_same_on_every_machine():
    prior = make_prior()
    assert prior.on(unknown()) is prior
