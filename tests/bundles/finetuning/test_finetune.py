"""Fine-tuning on real programs with timings of a simulated machine, from a small random encoder."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from agent.bundle.bundle import Bundle, load_bundle  # noqa: E402
from agent.errors import AgentError, BundleError, Exit  # noqa: E402
from agent.loopnest.features.nest import lower  # noqa: E402
from agent.loopnest.features.vector import FEATURES, features, work  # noqa: E402
from agent.loopnest.schedules.candidates import random_schedule  # noqa: E402
from agent.loopnest.schedules.schedule import ORIGINAL  # noqa: E402
from agent.model.facts import FACTS  # noqa: E402
from agent.model.prior import Prior  # noqa: E402
from bundles import cli  # noqa: E402
from bundles.finetuning.compare import compare_modes, comparison_table  # noqa: E402
from bundles.finetuning.finetune import fine_tune  # noqa: E402
from bundles.finetuning.refit import EmbeddedRows, prior_rows, refit_prior  # noqa: E402
from bundles.finetuning.site import Site, join_labels, program_errors, site_figures  # noqa: E402
from bundles.finetuning.start import (  # noqa: E402
    predicted_times,
    site_embedding,
    split_off_test,
    starting_heads,
    starting_point,
)
from bundles.finetuning.thaw import thaw  # noqa: E402
from bundles.finetuning.tuning import (  # noqa: E402
    Mode,
    Tuned,
    Tuning,
    split_off_validation,
    tune_in_stages,
)
from bundles.labels.labels import Labels, is_test, write_labels  # noqa: E402
from bundles.labels.programs import corpus_program, program_digest  # noqa: E402
from bundles.labels.target import Target  # noqa: E402
from bundles.simulator.machines import sample_machines  # noqa: E402
from bundles.simulator.simulate import simulate  # noqa: E402
from bundles.training.export import Export, build, export  # noqa: E402
from bundles.training.network import EncoderNetwork, Encoders, Shape  # noqa: E402
from bundles.training.prior import Joining, Whitening  # noqa: E402
from bundles.training.stages import Part, join  # noqa: E402

PROGRAMS, SCHEDULES, WIDTH = 70, 5, 6
MACHINES = sample_machines(np.random.default_rng(0), 2)
QUICK = Tuning(rate=5e-3, batch=8, steps=5, patience=3, rounds=12)


def target(number: int) -> Target:
    about = ("x86_64", "x86-64-v3", 32, number + 1, 32768, 1 << 20, 0, False, "gcc", "12.2.0")
    return Target(f"box-t{number + 1}", "box", *about, ("-O3", "-march=native"))


def rows_of(number: int) -> tuple[list[dict], np.ndarray]:
    """Rows without times of a corpus program's versions, and their log seconds [v, 2]."""
    program, rng = corpus_program(0, number), random.Random(number)
    versions = {ORIGINAL: program}
    for _ in range(4 * SCHEDULES):
        schedule, scheduled = random_schedule(program, rng)
        if len(versions) < SCHEDULES:
            versions.setdefault(str(schedule) if schedule.steps else ORIGINAL, scheduled)
    lowered = lower(list(versions.values()))
    made, spent = features(lowered), float(work(lower([program]))[0])
    about = {
        "program": program_digest(program),
        "family": program.name,
        "corpus": "random",
        "seed": 0,
    }
    rows = [
        {**about, "number": number, "schedule": text, "features": row.tolist(), "work": spent}
        for text, row in zip(versions, made, strict=True)
    ]
    return rows, simulate(lowered, MACHINES)


@pytest.fixture(scope="module")
def timed() -> list[list[dict]]:
    """Rows of two label files: the same programs on two simulated machines."""
    found: list[list[dict]] = [[], []]
    for number in range(PROGRAMS):
        rows, logs = rows_of(number)
        for machine, out in enumerate(found):
            gains = logs[0, machine] - logs[:, machine]
            out += [
                {**r, "outcome": "ok", "seconds": float(np.exp(s)), "log_speedup": float(g)}
                | {"low": float(g) - 0.05, "high": float(g) + 0.05}
                for r, s, g in zip(rows, logs[:, machine], gains, strict=True)
            ]
    return found


@pytest.fixture(scope="module")
def labels(timed) -> list[Labels]:
    return [in_memory(rows, number) for number, rows in enumerate(timed)]


def in_memory(rows: list[dict], number: int) -> Labels:
    def column(name: str, kind: type = np.float64) -> np.ndarray:
        return np.array([r[name] for r in rows], kind)

    return Labels(
        target=target(number),
        program=column("program", np.str_),
        family=column("family", np.str_),
        schedule=column("schedule", np.str_),
        fixed=np.zeros(len(rows), np.bool_),
        seconds=column("seconds"),
        log_speedup=column("log_speedup"),
        sd=np.full(len(rows), 0.04),
        work=column("work"),
        features=column("features", np.float32),
    )


def random_encoder(x) -> EncoderNetwork:
    encoder = EncoderNetwork(Shape(len(FEATURES), 1, hidden=16, blocks=2, embedding=WIDTH))
    encoder.normalise_by(torch.from_numpy(x))
    raw = encoder.embed(torch.from_numpy(x)).numpy()
    white = Whitening(raw.mean(0), np.diag(1 / raw.std(0)))
    (found,) = join([Part(encoder, white)], Joining(np.eye(WIDTH), np.eye(WIDTH))).networks
    return found


@pytest.fixture(scope="module")
def bundle(labels, tmp_path_factory) -> Bundle:
    """Random encoders of real features, with a prior that knows how long programs take."""
    torch.manual_seed(0)
    x = labels[0].features
    encoder = Encoders([random_encoder(x), random_encoder(x)])
    rng = np.random.default_rng(0)
    prior = Prior(
        mean=np.append(np.zeros(WIDTH), -21.0),
        directions=rng.standard_normal((WIDTH + 1, 3)) / 5,
        noise_speedup=0.3,
        noise_seconds=0.3,
    )
    path = tmp_path_factory.mktemp("bundles") / "small"
    export(Export(encoder, prior, x[:8], {"seeds": {"all": 0}}), path, lambda _: None)
    return load_bundle(path)


@pytest.fixture(scope="module")
def site(labels) -> Site:
    return join_labels(labels)


@pytest.fixture(scope="module")
def tuned(bundle, labels, tmp_path_factory) -> tuple[Bundle, dict]:
    out = tmp_path_factory.mktemp("tuned") / "site"
    manifest = fine_tune(bundle, labels[:1], out, QUICK, lambda _: None)
    return load_bundle(out), manifest


def tune_as(bundle: Bundle, site: Site, **changes) -> Tuned:
    settings = replace(QUICK, **changes)
    pool, _ = split_off_test(site)
    train, held = split_off_validation(pool, settings)
    start = starting_point(thaw(bundle), Prior.from_json(bundle.prior), pool)
    return tune_in_stages(start, train, held, settings, lambda _: None)


def weights_of(encoder: Encoders) -> bytes:
    return b"".join(v.numpy().tobytes() for v in encoder.state_dict().values())


def test_a_thawed_encoder_is_written_as_the_same_graph_again(bundle) -> None:
    assert build(thaw(bundle)) == bundle.encoder


def test_a_graph_that_is_not_our_network_cannot_be_thawed(tiny_bundle) -> None:
    with pytest.raises(BundleError, match="cannot be trained further: its steps are MatMul"):
        thaw(load_bundle(tiny_bundle))


def test_a_graph_wired_another_way_cannot_be_thawed(bundle) -> None:
    model = onnx.load_model_from_string(bundle.encoder)
    skips = [node for node in model.graph.node if node.op_type == "Add"]
    skips[1].input[1] = skips[0].input[1]  # past the first block
    with pytest.raises(BundleError, match="it differs by"):
        thaw(replace(bundle, encoder=model.SerializeToString()))


def test_a_graph_that_clips_otherwise_cannot_be_thawed(bundle) -> None:
    model = onnx.load_model_from_string(bundle.encoder)
    low = next(node for node in model.graph.node if node.op_type == "Clip").input[1]
    constant = next(t for t in model.graph.initializer if t.name == low)
    constant.CopyFrom(onnx.numpy_helper.from_array(np.array(-3, np.float32), low))
    with pytest.raises(BundleError, match="clips features"):
        thaw(replace(bundle, encoder=model.SerializeToString()))


def test_label_files_of_the_same_programs_share_their_rows(labels, site: Site) -> None:
    assert len(site.features) == len(labels[0])
    assert np.isfinite(site.seconds).all()
    assert site.labels == 2 * (len(labels[0]) - PROGRAMS)


def test_a_version_that_a_target_has_not_timed_is_nan_in_its_column(labels) -> None:
    missing = int(np.flatnonzero(labels[1].schedule != ORIGINAL)[0])
    kept = np.delete(np.arange(len(labels[1])), missing)
    site = join_labels([labels[0], labels[1].take(kept)])
    assert np.isnan(site.seconds).sum(0).tolist() == [0, 1]
    assert np.isnan(site.speedup).sum(0).tolist() == [PROGRAMS, PROGRAMS + 1]


def test_a_programs_first_row_is_the_program_as_written(site: Site) -> None:
    assert np.isnan(site.speedup[site.first]).all()
    others = np.setdiff1d(np.arange(len(site.features)), site.first)
    assert np.isfinite(site.speedup[others]).all()


def test_test_programs_are_kept_apart_and_never_are_of_the_fixed_set(site: Site) -> None:
    pool, test = split_off_test(site)
    assert is_test(test.program).all()
    assert not is_test(pool.program).any()
    all_fixed = replace(site, fixed=np.ones(len(site), np.bool_))
    assert not all_fixed.test.any()


def test_validation_takes_whole_programs_and_none_that_trains(site: Site) -> None:
    train, held = split_off_validation(site, QUICK)
    assert not set(train.program) & set(held.program)
    assert sorted([*train.program, *held.program]) == sorted(site.program)
    assert len(held.features) == held.count.sum()


def test_perfect_predictions_have_no_error(site: Site) -> None:
    found = site_figures(site, site.seconds)
    assert found.log_error == found.seconds_log_error == 0
    assert found.spearman == pytest.approx(1)
    assert found.top_share == pytest.approx(1)


def test_a_frozen_encoder_stays_as_it_is_and_its_heads_learn(bundle, site: Site) -> None:
    tuned = tune_as(bundle, site, mode=Mode.FROZEN)
    assert weights_of(tuned.encoder) == weights_of(thaw(bundle))
    assert tuned.log[-1]["validation_loss"] < tuned.log[0]["validation_loss"]


def test_staged_tuning_begins_as_frozen_and_ends_with_no_more_loss(bundle, site: Site) -> None:
    frozen, staged = (tune_as(bundle, site, mode=m) for m in (Mode.FROZEN, Mode.STAGED))
    assert staged.log[: len(frozen.log)] == frozen.log
    assert {r["encoder"] for r in staged.log[len(frozen.log) :]} == {QUICK.slower}
    assert weights_of(staged.encoder) != weights_of(thaw(bundle))
    least = [min(r["validation_loss"] for r in t.log) for t in (frozen, staged)]
    assert least[1] < least[0]


def test_free_tuning_moves_the_encoder_from_the_start(bundle, site: Site) -> None:
    tuned = tune_as(bundle, site, mode=Mode.FREE)
    assert {r["encoder"] for r in tuned.log} == {1.0}
    assert weights_of(tuned.encoder) != weights_of(thaw(bundle))


def test_a_stage_ends_when_the_validation_loss_stops_falling(bundle, site: Site) -> None:
    log = tune_as(bundle, site, mode=Mode.FREE, rate=0.05, rounds=60).log
    losses = [r["validation_loss"] for r in log]
    assert len(log) < 60
    assert len(log) - 1 - int(np.argmin(losses)) == QUICK.patience


def test_what_had_the_lowest_validation_loss_is_kept(bundle, site: Site) -> None:
    tuned = tune_as(bundle, site, mode=Mode.FREE, rate=0.05, rounds=60)
    heads = starting_heads(Prior.from_json(bundle.prior), site)
    _, held = split_off_validation(split_off_test(site)[0], QUICK)
    before, after = (
        site_figures(held, predicted_times(e, h, held)).log_error
        for e, h in ((thaw(bundle), heads), (tuned.encoder, tuned.heads))
    )
    assert after < before


def test_the_same_seed_tunes_to_the_same_bytes_and_another_does_not(bundle, site: Site) -> None:
    one, two, other = (tune_as(bundle, site, seed=s) for s in (3, 3, 4))
    assert weights_of(one.encoder) == weights_of(two.encoder)
    assert one.heads.tobytes() == two.heads.tobytes()
    assert weights_of(other.encoder) != weights_of(one.encoder)


def test_directions_predict_the_same_in_a_turned_embedding(bundle, site: Site) -> None:
    old = site_embedding(thaw(bundle), site)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((WIDTH, WIDTH)))[0]
    rows = EmbeddedRows(prior_rows(site, old, old[:0]), prior_rows(site, old @ turn, old[:0]))
    prior = Prior.from_json(bundle.prior)
    heads = np.tile(prior.mean, (2, 1))
    fitted = refit_prior(prior, rows, heads, site, site.seconds)
    was, now = rows.old @ prior.directions, rows.new @ fitted.directions
    assert np.abs(now - was).mean() < 0.03 * np.abs(was).mean()


def test_an_encoder_that_stayed_keeps_its_directions(bundle, site: Site) -> None:
    old = prior_rows(site, site_embedding(thaw(bundle), site), np.zeros((0, WIDTH)))
    prior = Prior.from_json(bundle.prior)
    heads = np.tile(prior.mean, (2, 1))
    fitted = refit_prior(prior, EmbeddedRows(old, old), heads, site, site.seconds)
    np.testing.assert_allclose(fitted.directions, prior.directions, atol=1e-12)


def test_the_mean_is_the_mean_of_the_sites_heads(bundle, site: Site) -> None:
    old = prior_rows(site, site_embedding(thaw(bundle), site), np.zeros((0, WIDTH)))
    heads = np.random.default_rng(2).standard_normal((2, WIDTH + 1))
    prior = Prior.from_json(bundle.prior)
    fitted = refit_prior(prior, EmbeddedRows(old, old), heads, site, site.seconds)
    np.testing.assert_allclose(fitted.mean, heads.mean(0))


def test_on_its_own_facts_the_prior_of_one_target_is_its_head(bundle, site: Site) -> None:
    shift = np.random.default_rng(3).standard_normal((WIDTH + 1, len(FACTS)))
    known = {"facts_centre": np.zeros(len(FACTS)), "facts_scale": np.full(len(FACTS), 9.0)}
    prior = replace(Prior.from_json(bundle.prior), facts_shift=shift, **known)
    old = prior_rows(site, site_embedding(thaw(bundle), site), np.zeros((0, WIDTH)))
    head = np.arange(WIDTH + 1.0)[None]
    alone = replace(site, targets=site.targets[:1])
    fitted = refit_prior(prior, EmbeddedRows(old, old), head, alone, site.seconds)
    np.testing.assert_allclose(fitted.on(site.targets[0].facts).mean, head[0])
    assert np.abs(fitted.mean - head[0]).max() > 0.1


@pytest.mark.parametrize("size", [0.02, 1.5])
def test_noise_scales_follow_the_errors_on_validation_programs(bundle, site: Site, size) -> None:
    old = prior_rows(site, site_embedding(thaw(bundle), site), np.zeros((0, WIDTH)))
    prior = Prior.from_json(bundle.prior)
    heads = np.tile(prior.mean, (2, 1))
    wrong = site.seconds + size * np.random.default_rng(4).standard_t(4, site.seconds.shape)
    fitted = refit_prior(prior, EmbeddedRows(old, old), heads, site, wrong)
    for name in ("noise_speedup", "noise_seconds"):
        moved = getattr(fitted, name) - getattr(prior, name)
        assert np.sign(moved) == np.sign(size - getattr(prior, name))


def test_few_validation_programs_hardly_move_the_noise_scales(bundle, site: Site) -> None:
    old = prior_rows(site, site_embedding(thaw(bundle), site), np.zeros((0, WIDTH)))
    prior = replace(Prior.from_json(bundle.prior), noise_weight=1e6)
    heads = np.tile(prior.mean, (2, 1))
    fitted = refit_prior(prior, EmbeddedRows(old, old), heads, site, site.seconds + 3)
    assert fitted.noise_speedup == pytest.approx(prior.noise_speedup, rel=0.01)
    assert fitted.noise_seconds == pytest.approx(prior.noise_seconds, rel=0.1)


def test_the_tuned_bundle_is_better_than_the_one_it_came_from(tuned) -> None:
    evaluation = tuned[1]["provenance"]["evaluation"]
    assert evaluation["after"]["log_error"] < evaluation["before"]["log_error"]
    assert evaluation["after"]["seconds_log_error"] < evaluation["before"]["seconds_log_error"]


def test_the_tuned_bundle_says_what_it_came_from_and_never_a_path(tuned, bundle) -> None:
    provenance = tuned[0].provenance
    assert provenance["tuned_from"]["digest"] == bundle.digest
    assert [t["name"] for t in provenance["targets"]] == ["box-t1"]
    assert provenance["targets"][0]["labels"] > 100
    assert provenance["recipe"]["mode"] == "staged"
    assert provenance["seeds"] == {"all": 0}
    assert len(provenance["training_log"]) > 1
    assert str(tuned[0].path.parent) not in json.dumps(provenance)


def test_two_label_files_make_one_bundle_with_the_mean_of_their_heads(
    bundle, labels, tmp_path: Path
) -> None:
    manifest = fine_tune(bundle, labels, tmp_path / "two", QUICK, lambda _: None)
    assert [t["name"] for t in manifest["provenance"]["targets"]] == ["box-t1", "box-t2"]
    evaluation = manifest["provenance"]["evaluation"]
    assert evaluation["own_heads"]["log_error"] < evaluation["before"]["log_error"]
    Prior.from_json(load_bundle(tmp_path / "two").prior)


def test_tuning_again_makes_the_same_bundle(tuned, bundle, labels, tmp_path: Path) -> None:
    fine_tune(bundle, labels[:1], tmp_path / "again", QUICK, lambda _: None)
    for name in ("encoder.onnx", "prior.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tuned[0].path / name).read_bytes()


def test_an_interrupted_run_leaves_the_old_bundle_untouched(
    tuned, bundle, labels, tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if line.startswith("stage 2"):
            raise KeyboardInterrupt

    out = tmp_path / "old"
    fine_tune(bundle, labels[:1], out, QUICK, lambda _: None)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        fine_tune(bundle, labels[1:], out, QUICK, stop)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_too_few_programs_are_refused_by_the_targets_name(bundle, labels, tmp_path: Path) -> None:
    few = labels[1].take(np.isin(labels[1].program, np.unique(labels[1].program)[:8]))
    with pytest.raises(AgentError, match=r"labels of box-t2 have \d programs") as caught:
        fine_tune(bundle, [labels[0], few], tmp_path / "none", QUICK, lambda _: None)
    assert "bundles measure" in caught.value.hint
    assert not (tmp_path / "none").exists()


def test_the_comparison_has_every_arm_at_every_budget_there_is(bundle, labels) -> None:
    found = compare_modes(bundle, labels[:1], QUICK, (100, 10**6), 2, lambda _: None)
    budgets = sorted({row.labels for row in found.rows})
    assert len(budgets) == 2
    assert budgets[0] == 100
    assert budgets[1] < 10**6
    arms = [row.arm for row in found.rows if row.labels == 100]
    assert arms == ["bundle", "calibrated", "staged", "frozen", "free", "free-slow"]
    staged = [row for row in found.rows if row.arm == "staged"]
    assert all(row.staged_saves == (0, 0, 0) for row in staged)
    assert comparison_table(found).count("staged") == 4


def test_a_budget_of_too_few_programs_is_refused(bundle, labels) -> None:
    with pytest.raises(AgentError, match="12 labels are"):
        compare_modes(bundle, labels[:1], QUICK, (12,), 1, lambda _: None)


def test_a_programs_error_is_the_mean_over_its_speedups(site: Site) -> None:
    wrong = site.seconds.copy()
    wrong[site.first[3]] += 0.5
    errors = program_errors(site, wrong)
    assert errors[3] == pytest.approx(0.5)
    assert np.delete(errors, 3) == pytest.approx(0, abs=1e-6)


def run(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["bundles", "finetune", *map(str, arguments)])
    code = cli.main()
    return code, *capsys.readouterr()


def test_the_command_writes_a_bundle_from_a_label_file(
    capsys, monkeypatch, bundle, timed, tmp_path: Path
) -> None:
    path, out = tmp_path / "mine.parquet", tmp_path / "site"
    write_labels(path, target(0), timed[0])
    code, shown, said = run(
        capsys, monkeypatch, "--bundle", bundle.path, "--labels", path, "--out", out,
        "--mode", "frozen", "--json",
    )  # fmt: skip
    assert code == Exit.OK, said
    assert json.loads(shown)["evaluation"]["after"]["log_error"] > 0
    assert load_bundle(out).provenance["recipe"]["mode"] == "frozen"


def test_the_command_refuses_labels_of_another_version_of_the_features(
    capsys, monkeypatch, bundle, timed, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "old.parquet"
    write_labels(path, target(0), timed[0])
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"calibration-agent"]) | {"features_version": 0}
    meta = {b"calibration-agent": json.dumps(about).encode()}
    pq.write_table(table.replace_schema_metadata(meta), path)
    code, _, said = run(
        capsys, monkeypatch, "--bundle", bundle.path, "--labels", path, "--out", tmp_path / "no"
    )
    assert code == Exit.USAGE
    assert "features are of version 0" in said
    assert "Traceback" not in said


def test_the_command_needs_a_place_to_write_to(capsys, monkeypatch, tmp_path: Path) -> None:
    code, _, said = run(capsys, monkeypatch, "--labels", tmp_path / "x.parquet")
    assert code == Exit.USAGE
    assert "--out" in said
