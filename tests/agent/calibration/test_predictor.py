"""What a prediction rests on where there is no calibration, and where it is of another bundle."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from agent.bundle.bundle import default_bundle, load_bundle
from agent.calibration.calibration import Calibration, Reach
from agent.calibration.facts import facts_known, facts_vector
from agent.calibration.predictor import (
    CORPUS_RADIUS,
    FAR,
    LEAST_WORK,
    Represented,
    distance,
    load_predictor,
)
from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from agent.measure.machine import fingerprint, read_machine
from agent.model.anchor import ErrorModel, LogTime
from agent.model.facts import FACTS
from agent.state.state import StoredRecord
from tests.agent.bundle.bundles_made import write_bundle

HERE = read_machine()


@pytest.fixture(scope="module")
def knowing(tmp_path_factory, tiny_bundle):
    """A bundle on whose average machine one more thread, or clang, moves the intercept."""
    prior = json.loads((tiny_bundle / "prior.json").read_text())
    shift = np.zeros((len(prior["mean"]), len(FACTS)))
    shift[-1, [FACTS.index("threads"), FACTS.index("clang")]] = 0.25, 0.5
    flat = {"facts_centre": [0.0] * len(FACTS), "facts_scale": [1.0] * len(FACTS)}
    prior |= {"facts": list(FACTS), "facts_shift": shift.tolist(), **flat}
    known = json.loads((tiny_bundle / "manifest.json").read_text())["golden"]
    encoder = (tiny_bundle / "encoder.onnx").read_bytes()
    path = tmp_path_factory.mktemp("knowing") / "b"
    return write_bundle(path, encoder, json.dumps(prior).encode(), golden=known)


def intercept(bundle, stored=None, **machine):
    head = load_predictor(stored, load_bundle(bundle), replace(HERE, **machine)).head
    mean, _ = head.predict(np.array([[0.0, 0.0, 0.0, 0.0, 1.0]]), "seconds")
    return mean[0]


def calibrated_elsewhere(machine, **facts):
    """A calibration on another bundle."""
    known = facts_known(machine) | facts
    about = {"fingerprint": fingerprint(machine)}
    found = {"bundle": {"digest": "another"}, "machine": about, "facts": known}
    return StoredRecord(1, 0.0, Calibration.from_json(found))


def test_a_bundle_alone_predicts_for_the_threads_that_are_here(knowing):
    assert intercept(knowing, threads=1) == pytest.approx(-21.0)
    assert intercept(knowing, threads=4) == pytest.approx(-21.0 + 2 * 0.25)


def test_without_a_calibration_the_compiler_is_not_guessed(knowing):
    assert facts_known(HERE)["clang"] is None
    assert intercept(knowing, threads=1) == pytest.approx(-21.0)


def test_another_bundle_uses_what_the_calibration_found_out(knowing):
    stored = calibrated_elsewhere(HERE, clang=1.0, threads=0.0)
    assert intercept(knowing, stored) == pytest.approx(-21.0 + 0.5)


def test_what_was_found_out_on_another_machine_is_not_used(knowing):
    stored = calibrated_elsewhere(replace(HERE, model="another"), clang=1.0)
    assert intercept(knowing, stored, threads=1) == pytest.approx(-21.0)


def test_facts_in_a_record_come_back_as_they_were():
    known = facts_known(HERE, 32, "Debian clang version 19", ("-O3",))
    assert json.loads(json.dumps(known)) == known
    vector = facts_vector(known)
    assert vector[FACTS.index("simd")] == 5.0
    assert vector[-3:].tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("record", [None, {}, {"simd": "wide"}, {"simd": None}])
def test_a_record_without_facts_leaves_all_unknown(record):
    found = Calibration.from_json({"facts": record})
    assert np.isnan(facts_vector(found.facts)).all()


@pytest.mark.parametrize(("away", "wider"), [(0.3, 1.0), (0.8, 2.0**0.3), (4.0, 10.0**0.3)])
def test_the_farther_out_a_program_the_wider_its_intervals(away, wider):
    alone = load_predictor(None, load_bundle(default_bundle()), HERE)
    program = load_kernel(kernels()[0])
    variant = transform(program, parse_schedule("vectorize k"))
    vectors = alone.log_speedups(program, [variant])[0].vectors[1:]
    zeros, ones = (0.0,) * vectors.shape[1], (1.0,) * vectors.shape[1]
    out = float(distance(Reach(zeros, ones, 1.0), vectors)[0])
    inside, reaching = (replace(alone, reach=Reach(zeros, ones, out / x)) for x in (0.3, away))
    near, far = (x.predict(program, [variant])[0] for x in (inside, reaching))
    widths = [math.log(found.high / found.low) for found in (near, far)]
    assert widths[1] == pytest.approx(widths[0] * wider)
    assert far.far == (away > FAR)


@pytest.mark.parametrize(("away", "wider"), [(0.3, 1.0), (0.8, 2.0**0.3), (4.0, 10.0**0.3)])
def test_without_a_calibration_distance_is_that_from_what_the_bundle_learned(away, wider):
    alone = load_predictor(None, load_bundle(default_bundle()), HERE)
    vectors = np.zeros((2, alone.bundle.embedding))
    vectors[1] = away * CORPUS_RADIUS
    seen = Represented(vectors, np.full(2, 20.0))
    surest = alone.errors.of_heads(*alone.gain(vectors), LogTime(0.0, 1.0)).gain_sd
    found = alone.logs(seen, np.zeros(1, np.bool_)).gain_sd
    assert found / surest == pytest.approx(wider)


@pytest.mark.parametrize(("times_less", "wider"), [(0.1, 1.0), (1.0, 1.0), (100.0, 100.0**0.15)])
def test_the_less_a_program_does_than_bundles_learn_from_the_wider_its_intervals(times_less, wider):
    alone = load_predictor(None, load_bundle(default_bundle()), HERE)
    vectors = np.zeros((2, alone.bundle.embedding))
    vectors[1, :3] = 1.0
    written = math.log(LEAST_WORK / times_less)
    usual, small = (
        alone.logs(Represented(vectors, np.full(2, log_work)), np.zeros(1, np.bool_)).gain_sd
        for log_work in (math.log(LEAST_WORK), written)
    )
    assert small / usual == pytest.approx(wider)


def test_a_bundle_may_say_how_the_errors_of_a_program_hang_together(tiny_bundle, tmp_path):
    prior = json.loads((tiny_bundle / "prior.json").read_text())
    known = json.loads((tiny_bundle / "manifest.json").read_text())["golden"]
    encoder = (tiny_bundle / "encoder.onnx").read_bytes()
    told = json.dumps(prior | {"own_sd": 0.2, "alike": 1.5}).encode()
    write_bundle(tmp_path / "b", encoder, told, golden=known)
    said = load_predictor(None, load_bundle(tmp_path / "b"), HERE).errors
    assert said == ErrorModel(0.2, 1.5)
    assert load_predictor(None, load_bundle(tiny_bundle), HERE).errors == ErrorModel(0.55, 0.75)
