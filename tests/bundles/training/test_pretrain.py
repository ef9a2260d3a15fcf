import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agent.bundle.bundle import MAX_BYTES, Bundle, load_bundle  # noqa: E402
from agent.bundle.encoder import Encoder, golden_difference  # noqa: E402
from agent.errors import BundleError  # noqa: E402
from agent.loopnest.features.vector import FEATURES  # noqa: E402
from agent.model.prior import Prior  # noqa: E402
from bundles.training import export as exporting  # noqa: E402
from bundles.training.export import Export, build, export  # noqa: E402
from bundles.training.network import (  # noqa: E402
    EncoderNetwork,
    Pretrainer,
    Shape,
    Weights,
    loss,
)
from bundles.training.pretrain import PretrainingRun, pretrain  # noqa: E402
from bundles.training.prior import (  # noqa: E402
    Joining,
    MachineHeads,
    heads,
    joining,
    make_prior,
    mean_heads,
    whitening,
)
from bundles.training.settings import TrainingSettings, quick_settings  # noqa: E402
from bundles.training.stages import Part, embed, join  # noqa: E402

QUICK = quick_settings(TrainingSettings(seed=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[str]]:
    out, lines = tmp_path_factory.mktemp("bundles") / "tiny", []
    return out, pretrain(PretrainingRun(out, QUICK, quick=True), lines.append), lines


@pytest.fixture(scope="module")
def bundle(made) -> Bundle:
    return load_bundle(made[0])


def small_encoder(seed: int = 0) -> EncoderNetwork:
    torch.manual_seed(seed)
    return EncoderNetwork(Shape(len(FEATURES), 3, hidden=16, blocks=1, embedding=4))


def small_export() -> Export:
    encoder, rng = small_encoder(), np.random.default_rng(0)
    white = whitening(rng.standard_normal((20, 5, 4)))
    prior = make_prior(MachineHeads(rng.standard_normal((10, 5)), rng.standard_normal((10, 8))))
    golden = rng.standard_normal((4, len(FEATURES))).astype(np.float32)
    together = join([Part(encoder, white)], Joining(np.eye(4), np.eye(4)))
    return Export(together, prior, golden, {"seeds": {"all": 0}})


def test_a_quick_run_makes_a_bundle_that_loads_and_says_so(made, bundle: Bundle) -> None:
    assert bundle.provenance["quick"] is True
    assert bundle.embedding == QUICK.embedding
    assert {p.name for p in made[0].iterdir()} == {"manifest.json", "encoder.onnx", "prior.json"}
    assert all((made[0] / n).stat().st_size <= most for n, most in MAX_BYTES.items())


def test_its_prior_fits_its_encoder(bundle: Bundle) -> None:
    prior = Prior.from_json(bundle.prior)
    assert len(prior.mean) == bundle.embedding + 1
    assert 1 <= prior.directions.shape[1] <= 12
    assert prior.noise_speedup > 0


def test_its_golden_rows_pass_the_self_test(bundle: Bundle) -> None:
    assert len(bundle.golden[0]) == 16
    assert golden_difference(bundle, Encoder(bundle)) <= 1e-4


def test_its_manifest_tells_where_it_came_from(bundle: Bundle) -> None:
    provenance = bundle.provenance
    assert provenance["seeds"] == {"all": 1}
    assert provenance["recipe"]["programs"] == QUICK.programs
    assert len(provenance["training_log"]) == QUICK.members * QUICK.epochs
    assert provenance["code_version"]
    assert {"labels_0", "labels_48", "median_baseline"} <= provenance["evaluation"].keys()


def test_training_learns_and_progress_is_told(made) -> None:
    _, manifest, lines = made
    log = manifest["provenance"]["training_log"]
    assert all(log[n + 3]["loss"] < 0.8 * log[n]["loss"] for n in (0, QUICK.epochs))
    assert any("epoch 4" in line for line in lines)
    assert any("parity" in line for line in lines)


def test_even_a_quick_bundle_beats_the_median_without_labels(made) -> None:
    evaluation = made[1]["provenance"]["evaluation"]
    assert evaluation["labels_0"]["log_error"] < evaluation["median_baseline"]["log_error"]
    assert evaluation["labels_0"]["spearman"] > 0.2


def test_training_again_gives_the_same_bundle(made, tmp_path: Path) -> None:
    pretrain(PretrainingRun(tmp_path / "again", QUICK, quick=True), lambda _: None)
    for name in ("encoder.onnx", "prior.json"):
        assert (tmp_path / "again" / name).read_bytes() == (made[0] / name).read_bytes()


def test_the_graph_agrees_with_torch_on_wild_features(tmp_path: Path) -> None:
    content = small_export()
    export(content, tmp_path / "b", lambda _: None)
    bundle = load_bundle(tmp_path / "b")
    wild = np.random.default_rng(1).standard_normal((300, len(FEATURES))) * 30
    wild = wild.astype(np.float32)
    with torch.no_grad():
        expected = content.encoder(torch.from_numpy(wild)).numpy()
    np.testing.assert_allclose(Encoder(bundle).embed(wild), expected, atol=1e-4)


def test_joined_encoders_predict_the_mean_of_what_each_predicts() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20, 5, len(FEATURES))).astype(np.float32)
    parts = [Part.of(small_encoder(seed), features) for seed in range(3)]
    rows = [part.embed(features) for part in parts]
    theirs = [rng.standard_normal((2, 5)) for _ in parts]
    each = [some @ h[:, :-1].T + h[:, -1] for some, h in zip(rows, theirs, strict=True)]
    both = mean_heads(theirs)
    joint = joining(np.concatenate(rows, -1), both, len(parts))
    joined, head = join(parts, joint), joint.heads(both)
    found = embed(joined, features) @ head[:, :-1].T + head[:, -1]
    assert head.shape == (2, 5)
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-3)


def test_the_same_content_exports_to_the_same_bytes() -> None:
    content = small_export()
    graphs = [build(content.encoder) for _ in range(2)]
    assert graphs[0] == graphs[1]


def test_a_bundle_that_cannot_be_written_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BundleError, match="cannot write"):
        export(small_export(), tmp_path / "file", lambda _: None)
    assert (tmp_path / "file").read_text() == "in the way"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_encoder_unlike_torch_replaces_nothing(tmp_path: Path, monkeypatch) -> None:
    export(small_export(), tmp_path / "b", lambda _: None)
    before = (tmp_path / "b" / "manifest.json").read_bytes()
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="differs from torch"):
        export(small_export(), tmp_path / "b", lambda _: None)
    assert (tmp_path / "b" / "manifest.json").read_bytes() == before


def test_the_date_of_a_bundle_can_be_fixed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in "ab":
        export(small_export(), tmp_path / name, lambda _: None)
    a, b = ((tmp_path / n / "manifest.json").read_bytes() for n in "ab")
    assert a == b
    assert json.loads(a)["created"] == "2023-11-14T22:13:20Z"


def test_whitened_differences_have_unit_scale() -> None:
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((200, 8, 6)) @ np.diag([9, 5, 3, 2, 1, 0.5]) + 5
    white = whitening(raw)(raw)
    gains = (white[:, :1] - white[:, 1:]).reshape(-1, 6)
    base = white[:, 0] - white[:, 0].mean(0)
    covariance = gains.T @ gains / len(gains) + 0.3 * np.cov(base.T)
    np.testing.assert_allclose(covariance, np.eye(6), atol=1e-6)


def test_heads_find_linear_machines_exactly() -> None:
    rng = np.random.default_rng(0)
    embedding, weights = rng.standard_normal((300, 6, 5)), rng.standard_normal((7, 6))
    target = embedding @ weights[:, :-1].T + weights[:, -1]
    np.testing.assert_allclose(heads(embedding, target, ridge=1e-9), weights, atol=1e-5)


def test_the_loss_counts_differences_within_a_program() -> None:
    torch.manual_seed(0)
    model = Pretrainer(Shape(12, 4, hidden=8, blocks=1, embedding=3))
    x, y = torch.randn(5, 6, 12), torch.randn(5, 6, 4)
    only_speedups = Weights(speedup=1.0, seconds=0.0, decoder=0.0)
    shifted = y + torch.randn(5, 1, 4)
    assert torch.allclose(loss(model, x, y, only_speedups), loss(model, x, shifted, only_speedups))
    with_seconds = Weights(speedup=0.0, seconds=1.0, decoder=0.0)
    assert not torch.allclose(
        loss(model, x, y, with_seconds), loss(model, x, shifted, with_seconds)
    )
