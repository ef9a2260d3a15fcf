"""The posterior against the textbook formulas, written out with n x n matrices."""

import dataclasses

import numpy as np
import pytest

from agent.model.observations import Observations
from agent.model.posterior import posterior
from tests.agent.model.synthetic_machines import make_prior

# Errors so nearly Gaussian, of scales so well known, that nothing is left to iterate.
EXACT = dataclasses.replace(make_prior(), noise_dof=1e8, noise_weight=1e8, machine_dof=1e8)


def rows(count: int, programs: int, seed: int = 0) -> Observations:
    rng = np.random.default_rng(seed)
    kind = np.where(rng.random(count) < 0.3, "seconds", "speedup")
    design = rng.normal(size=(count, len(EXACT.mean)))
    design[:, -1] = kind == "seconds"
    target = design @ EXACT.mean + rng.normal(size=count)
    group = rng.integers(programs, size=count)
    return Observations(design, target, rng.uniform(0, 0.2, count), kind, group)


def written_out(seen: Observations, at: Observations) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance, without own and shared errors, of designs given labels."""
    same = (seen.group[:, None] == seen.group) & (seen.kind[:, None] == seen.kind)
    shared = EXACT.program.rows(seen.kind) ** 2
    errors = np.diag(EXACT.noise.rows(seen.kind) ** 2 + seen.sd**2) + same * shared
    cross = at.design @ EXACT.covariance() @ seen.design.T
    labels = seen.design @ EXACT.covariance() @ seen.design.T + errors
    mean = at.design @ EXACT.mean
    mean = mean + cross @ np.linalg.solve(labels, seen.target - seen.design @ EXACT.mean)
    before = at.design @ EXACT.covariance() @ at.design.T
    return mean, before - cross @ np.linalg.solve(labels, cross.T)


def test_with_gaussian_errors_it_is_the_textbook_posterior():
    labels, new = rows(60, 12), rows(10, 3, seed=1)
    found = posterior(EXACT, labels)
    mean, covariance = written_out(labels, new)
    assert new.design @ found.weights == pytest.approx(mean, abs=1e-6)
    assert new.design @ found.covariance @ new.design.T == pytest.approx(covariance, abs=1e-6)


def test_left_out_predictions_are_those_of_fits_without_the_program():
    labels = rows(60, 12)
    found = posterior(EXACT, labels)
    for group in range(12):
        out = labels.group == group
        mean, _ = written_out(labels.take(~out), labels.take(out))
        assert found.left_out[out] == pytest.approx(mean, abs=1e-5)


def test_a_prior_without_freedom_learns_nothing_from_labels():
    still = dataclasses.replace(EXACT, direction_scale=1e-6, rest_sd=0.0, intercept_sd=0.0)
    assert posterior(still, rows(60, 12)).weights == pytest.approx(still.mean, abs=1e-6)


def test_thousands_of_labels_are_fitted():
    found = posterior(make_prior(), rows(6000, 400))
    assert np.isfinite(found.left_out_sd).all()
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-9


def shifted(by: float) -> float:
    """How far 20 programs' seconds, all off by so much, pull an intercept that seldom is off."""
    prior = dataclasses.replace(make_prior(), intercept_sd=0.1, direction_scale=1e-6, rest_sd=0.0)
    labels = rows(200, 20)
    labels = labels.take(labels.kind == "seconds")
    target = labels.design @ prior.mean + by
    moved = Observations(labels.design, target, labels.sd, labels.kind, labels.group)
    return float((posterior(prior, moved).weights - prior.mean)[-1])


def test_a_machine_much_slower_than_any_known_is_believed():
    assert shifted(4.0) == pytest.approx(4.0, abs=0.2)


def test_a_machine_a_little_slower_is_held_back():
    assert 0.0 < shifted(0.1) < 0.09


def test_scales_of_errors_are_found_again_where_the_prior_leaves_it_to_the_labels():
    prior = dataclasses.replace(EXACT, noise_weight=1.0)
    rng, labels = np.random.default_rng(3), rows(3000, 300)
    block = rng.normal(size=(300, 2))[labels.group, (labels.kind == "seconds").astype(int)]
    error = 0.5 * block + np.hypot(0.4, labels.sd) * rng.normal(size=len(labels))
    target = labels.design @ prior.mean + error
    found = posterior(
        prior, Observations(labels.design, target, labels.sd, labels.kind, labels.group)
    )
    assert found.own.speedup == pytest.approx(0.4, rel=0.1)
    assert found.shared.speedup == pytest.approx(0.5, rel=0.15)
