"""Reference machines: their labels side by side, and what an encoder learns from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agent.errors import AgentError  # noqa: E402
from bundles.labels.labels import Labels, is_test, load_labels  # noqa: E402
from bundles.labels.references import MOST_VERSIONS, side_by_side  # noqa: E402
from bundles.training import stages  # noqa: E402
from bundles.training.adapt import (  # noqa: E402
    Adaptation,
    ReferenceHeads,
    labelled_head,
    reference_loss,
)
from bundles.training.settings import HERE, TrainingSettings, quick_settings  # noqa: E402
from bundles.training.stages import Simulated, encoder_without, learn  # noqa: E402
from bundles.training.stages import simulate_stage as first_stage  # noqa: E402
from bundles.training.validation import is_validation  # noqa: E402
from tests.bundles.simulated_labels import timed_items, write_simulated  # noqa: E402

QUICK = quick_settings(TrainingSettings(seed=2))
SHORT = Adaptation(epochs=6)


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> list[Labels]:
    found = timed_items(60, 8, fixed=False)
    out = tmp_path_factory.mktemp("labels")
    return [load_labels(path, 1) for path in write_simulated(found, out, machines=3)]


@pytest.fixture(scope="module")
def stage() -> Simulated:
    return first_stage(QUICK, silent, HERE)


def test_a_version_has_a_time_on_every_machine_that_ran_it(labels: list[Labels]) -> None:
    found = side_by_side(labels)
    assert found.target.shape == (*found.features.shape[:2], 3)
    assert np.isfinite(found.target[:, 0]).all()
    program = found.program[7]
    rows = labels[1].program == program
    truth = np.log(labels[1].seconds[labels[1].base]) - labels[1].work - labels[1].log_speedup
    expected = np.sort(truth[rows])
    here = found.target[7, :, 1]
    np.testing.assert_allclose(np.sort(here[np.isfinite(here)]), expected, atol=1e-4)


def test_versions_that_change_places_cost_more_than_their_speed_ups(stage: Simulated) -> None:
    model, how = stage.models[0], Adaptation(noise=0.0, own=0.0, seconds=0.0)
    x = torch.from_numpy(stage.data.train.features[:4].copy())
    heads = ReferenceHeads(np.ones((1, model.shape.embedding + 1)))
    with torch.no_grad():
        y = heads(model.encoder(x.flatten(0, 1))).reshape(4, -1, 1)
        assert reference_loss(model, heads, x, y, how) == 0
        y[:, [1, 2]] = y[:, [2, 1]]
        whole, gains = (
            reference_loss(model, heads, x, y, replace(how, pairs=w)) for w in (1.0, 0.0)
        )
    assert whole > 1.5 * gains > 0


def test_what_a_machine_did_not_run_is_not_a_number(labels: list[Labels]) -> None:
    few = labels[0].take(labels[0].program != labels[0].program[0])
    found = side_by_side([few, labels[1]])
    there = found.program == labels[0].program[0]
    assert np.isnan(found.target[there, :, 0]).all()
    assert np.isfinite(found.target[there, 0, 1]).all()


def test_of_very_many_versions_a_part_is_taken(labels: list[Labels]) -> None:
    one = labels[0].take(labels[0].program == labels[0].program[0])
    rows = np.concatenate([np.zeros(100, np.intp), np.arange(len(one))])
    many = one.take(rows)
    names = np.array([f"tile i {k}" for k in range(100)] + list(one.schedule))
    found = side_by_side([replace(many, schedule=names)])
    assert found.features.shape[1] == MOST_VERSIONS


def test_no_labels_at_all_are_refused() -> None:
    with pytest.raises(AgentError, match="no labels"):
        side_by_side([])


def test_a_robust_head_is_not_moved_by_an_outlier() -> None:
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((200, 6, 4))
    weights = np.array([0.5, -1.0, 0.3, 0.0, 2.0])
    target = embedding @ weights[:-1] + weights[-1]
    target[3, 2] += 50.0
    np.testing.assert_allclose(labelled_head(embedding, target, 1e-9), weights, atol=0.02)


def test_reference_machines_improve_the_prediction_of_one_that_was_never_seen(
    labels: list[Labels], stage: Simulated
) -> None:
    unseen = labels[2].take(is_test(labels[2].program))
    gains = unseen.log_speedup

    def error(known: list[Labels]) -> float:
        trained = learn(stage, known, SHORT, 0, silent).trained()
        embedded = trained.embed(unseen.features)
        head = trained.prior.on(unseen.target.facts).mean
        return float(np.abs((embedded[unseen.base] - embedded) @ head[:-1] - gains).mean())

    assert error(labels[:2]) < 0.8 * error([])


def test_learning_again_gives_the_same_prior(labels: list[Labels], stage: Simulated) -> None:
    one, two = (learn(stage, labels[:2], SHORT, 0, silent).prior for _ in range(2))
    np.testing.assert_array_equal(one.mean, two.mean)
    assert one.noise_speedup == two.noise_speedup


def test_labels_of_a_machine_that_is_left_out_change_nothing(
    labels: list[Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "Adaptation", lambda: SHORT)
    spoilt = replace(labels[2], log_speedup=-labels[2].log_speedup)
    found = [
        encoder_without(
            [labels[0], labels[1], last],
            lambda target: target.name == labels[2].target.name,
            0,
            tmp_path,
            silent,
            replace(QUICK, programs=60, epochs=1),
        )
        for last in (labels[2], spoilt)
    ]
    np.testing.assert_array_equal(found[0].prior.mean, found[1].prior.mean)
    features = labels[0].features[:5]
    np.testing.assert_array_equal(found[0].embed(features), found[1].embed(features))


def test_labels_of_test_programs_change_nothing(labels: list[Labels], stage: Simulated) -> None:
    hidden = is_test(labels[0].program)
    spoilt = replace(labels[0], log_speedup=np.where(hidden, -3.0, labels[0].log_speedup))
    one, two = (learn(stage, [x, labels[1]], SHORT, 0, silent).prior for x in (labels[0], spoilt))
    np.testing.assert_array_equal(one.mean, two.mean)


def test_about_a_tenth_of_the_reference_programs_is_kept_for_validation() -> None:
    names = np.array([f"{0:08x}{n * 2654435761 % 2**32:08x}" for n in range(5_000)])
    assert 0.08 < is_validation(names).mean() < 0.12
