"""What a prior makes of simulated machines, reference machines and their facts."""

import numpy as np

from bundles.training.prior import MachineHeads, make_prior


def machines(count: int, ways: np.ndarray, rng: np.random.Generator) -> MachineHeads:
    """Heads that differ along ``ways`` [k, E+1], and facts that say nothing about them."""
    weights = rng.standard_normal((count, len(ways))) @ ways + 1.0
    return MachineHeads(weights, rng.standard_normal((count, 8)))


def test_a_prior_of_machines_that_differ_in_two_ways_has_two_directions() -> None:
    rng = np.random.default_rng(0)
    family = MachineHeads(machines(400, rng.standard_normal((2, 9)), rng).heads, np.zeros((400, 8)))
    prior = make_prior(family)
    assert prior.directions.shape == (9, 2)
    assert prior.rest_sd <= 1e-3


def test_a_fact_that_moves_heads_moves_the_mean() -> None:
    rng = np.random.default_rng(0)
    facts = rng.standard_normal((300, 8))
    moved = np.outer(facts[:, 0], [1.0, -2.0, 0.0, 3.0])
    prior = make_prior(MachineHeads(moved + 0.01 * rng.standard_normal((300, 4)), facts))
    here = prior.on(np.eye(8)[0]).mean
    np.testing.assert_allclose(here, [1.0, -2.0, 0.0, 3.0], atol=0.25)


def test_an_unknown_fact_moves_nothing() -> None:
    rng = np.random.default_rng(0)
    prior = make_prior(machines(100, rng.standard_normal((2, 5)), rng))
    np.testing.assert_array_equal(prior.on(np.full(8, np.nan)).mean, prior.mean)


def test_what_real_machines_have_in_common_is_part_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    simulated = machines(100, rng.standard_normal((2, 5)), rng)
    offset = np.array([0.0, 5.0, 0.0, 0.0, -3.0])
    real = MachineHeads(simulated.heads[:6] + offset, simulated.facts[:6])
    shift = make_prior(simulated, real).mean - make_prior(simulated).mean
    np.testing.assert_allclose(shift, offset, atol=1.5)


def test_how_real_machines_differ_is_a_direction() -> None:
    rng = np.random.default_rng(0)
    simulated = machines(100, rng.standard_normal((1, 6)), rng)
    way = np.zeros(6)
    way[2] = 4.0
    real = MachineHeads(simulated.heads[:2] + np.outer([1, -1], way), simulated.facts[:2])
    covariance = make_prior(simulated, real).covariance()
    assert covariance[2, 2] > 10 * make_prior(simulated).covariance()[2, 2]
