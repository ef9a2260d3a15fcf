"""The decisions of a calibration, and its pipeline where a subprocess would show too little."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.calibration.calibrate import calibrate
from agent.calibration.calibration import CalibrationWarning, Point
from agent.calibration.fit import observe, points_of, reach_of
from agent.calibration.journal import disturbances_of, entries_of, key_of
from agent.calibration.labels import SMALLEST_SD, Sample, judge
from agent.calibration.plan import FEWEST_VARIANTS, Group, prefix_for, source_digest, time_left
from agent.calibration.predictor import is_far
from agent.errors import BundleError
from agent.kernels.fixed_set import fixed_variants, kernels
from agent.measure.machine import fingerprint, read_machine
from agent.measure.timing import Measurement, Timing
from agent.progress import Stopwatch
from agent.settings.config import Config
from agent.state import typed
from agent.state.state import StoredTiming, open_state

KERNELS = {k.name: k for k in kernels()}
GEMM = KERNELS["gemm"]


def stored(schedule="vectorize k", kernel="gemm", **numbers):
    timing = Timing("ok", 0.5, 0.4, 0.6, 1e-3, 2e-3, 0.9e-3, 1.1e-3).to_json() | numbers
    key = key_of(KERNELS[kernel], "digest", schedule, "m", "t")
    return StoredTiming(key, 0.0, {"kernel": kernel, "timing": timing})


@given(st.floats(0, 1e4), st.integers(1, 64))
def test_what_is_timed_is_always_a_prefix_of_the_fixed_set(budget, threads):
    chosen = prefix_for(fixed_variants(), budget, threads)
    assert chosen == fixed_variants()[: len(chosen)]
    assert len(chosen) >= FEWEST_VARIANTS


@given(st.floats(1, 100), st.floats(1, 100))
def test_a_larger_budget_never_times_less(one, other):
    small, large = sorted((one, other))
    variants = fixed_variants()
    assert len(prefix_for(variants, small, 2)) <= len(prefix_for(variants, large, 2))


def test_the_default_budget_times_everything_on_two_cores():
    assert prefix_for(fixed_variants(), 45.0, 2) == fixed_variants()


def test_the_time_left_follows_what_the_groups_behind_took():
    assert time_left(10.0, 2.0, 4.0) == 20.0
    assert time_left(0.0, 0.0, 4.0) == 4.0


def test_the_fingerprint_does_not_hang_on_what_changes_by_itself():
    machine = read_machine()
    busy = replace(machine, load=9.0, available_bytes=1, kernel="other")
    assert fingerprint(busy) == fingerprint(machine)
    other = replace(machine, caches={1: 1})
    assert fingerprint(other) != fingerprint(machine)


def test_a_good_timing_is_a_label_with_its_error():
    samples, failures = judge([stored()], KERNELS)
    assert failures == []
    assert samples[0].label == 0.5
    assert samples[0].sd == pytest.approx(0.1 / 1.2816, rel=1e-3)


def test_the_program_as_written_is_a_label_in_log_seconds():
    (sample,), _ = judge([stored("original")], KERNELS)
    assert sample.base
    assert sample.label == pytest.approx(math.log(1e-3))


def test_a_lucky_agreement_of_rounds_is_not_taken_for_exactness():
    (sample,), _ = judge([stored(low=0.5, high=0.5)], KERNELS)
    assert sample.sd == SMALLEST_SD


@pytest.mark.parametrize("outcome", ["crashed", "timeout", "wrong-result", "compile-failed"])
def test_a_failed_timing_is_no_label_but_a_failure_that_is_told(outcome):
    samples, failures = judge([stored(outcome=outcome, detail="why")], KERNELS)
    assert samples == []
    assert (failures[0].outcome, failures[0].detail) == (outcome, "why")


@pytest.mark.parametrize("spoilt", [{"log_speedup": None}, {"low": None}, {"low": "x"}])
def test_a_timing_with_odd_numbers_is_no_label(spoilt):
    samples, failures = judge([stored(**spoilt)], KERNELS)
    assert samples == []
    assert len(failures) == 1


def test_timings_of_kernels_that_left_the_set_are_ignored():
    row = stored()
    assert judge([row], {}) == ([], [])
    assert judge([replace(row, body={"kernel": "gemm"})], KERNELS) == ([], [])


def test_a_speedup_row_is_the_difference_to_the_program_as_written():
    base = Sample(GEMM, "original", True, math.log(1e-3), -7.0, -6.8)
    fast = Sample(GEMM, "vectorize k", False, 0.5, 0.4, 0.6)
    embedded = {
        ("gemm", "original"): (np.array([3.0, 1.0]), 12.0),
        ("gemm", "vectorize k"): (np.array([2.0, 1.5]), 12.0),
    }
    found = observe([base, fast], embedded)
    assert found.design.tolist() == [[3.0, 1.0, 1.0], [1.0, -0.5, 0.0]]
    assert found.target.tolist() == pytest.approx([math.log(1e-3) - 12.0, 0.5])
    assert found.kind.tolist() == ["seconds", "speedup"]


def test_kernels_made_from_one_file_are_judged_together():
    names = ("gemm", "gemm_large", "dot")
    samples = [Sample(KERNELS[n], "original", True, -7.0, -7.1, -6.9) for n in names]
    embedded = {(n, "original"): (np.zeros(1), 0.0) for n in names}
    group = observe(samples, embedded).group.tolist()
    assert group[0] == group[1] != group[2]


def test_notices_are_counted_by_kind():
    rows = [stored("original"), stored("original", "dot")]
    for row, worst in zip(rows, (0.1, 0.3), strict=True):
        row.body["notices"] = [["steal", worst, 0.01]]
    assert disturbances_of(rows) == [CalibrationWarning("steal", kernels=2, worst=0.3)]


def test_a_group_is_journalled_with_its_base_and_noise():
    schedules = tuple(v.schedule for v in fixed_variants() if v.kernel.name == "gemm")[:1]
    group = Group(GEMM, None, schedules, (None,), source_digest(GEMM))
    found = Measurement(Timing("ok"), (Timing("crashed"),), noise=(0.01, -0.02))
    rows = [(name, typed.to_json(entry)) for name, entry in entries_of(group, found)]
    assert [schedule for schedule, _ in rows] == ["original", str(schedules[0])]
    assert rows[0][1]["noise"] == [0.01, -0.02]
    assert rows[1][1]["timing"]["outcome"] == "crashed"


def test_a_program_far_from_all_that_was_timed_is_told():
    vectors = np.random.default_rng(0).normal(size=(48, 8))
    reach = reach_of(vectors)
    assert not is_far(reach, vectors).any()
    assert is_far(reach, vectors[:1] + 100.0).all()


def test_points_are_in_seconds_and_speedups_with_80_percent_intervals():
    from types import SimpleNamespace

    samples = [
        Sample(GEMM, "original", True, math.log(1e-3), math.log(0.9e-3), math.log(1.1e-3)),
        Sample(GEMM, "vectorize k", False, math.log(2.0), math.log(1.9), math.log(2.1)),
    ]
    work = 12.0  # what heads do not predict of seconds
    seen = SimpleNamespace(target=np.array([math.log(1e-3) - work, math.log(2.0)]))
    chosen = SimpleNamespace(
        calibrated=np.array([math.log(2e-3) - work, math.log(3.0)]),
        calibrated_sd=np.array([0.0, 1.0]),
        bundle_alone=np.array([math.log(4e-3) - work, 1e6]),
    )
    base, fast = points_of(samples, seen, chosen)
    assert base == Point(
        kernel="gemm",
        schedule="original",
        kind="seconds",
        measured=1e-3,
        low=0.9e-3,
        high=1.1e-3,
        calibrated=2e-3,
        calibrated_low=2e-3,
        calibrated_high=2e-3,
        alone=4e-3,
    )
    assert (fast.kind, fast.calibrated) == ("speedup", 3.0)
    assert fast.calibrated_high == pytest.approx(3.0 * math.exp(1.28155), rel=1e-4)
    assert math.isfinite(fast.alone)


def test_the_stopwatch_parts_add_up():
    watch = Stopwatch()
    with watch.phase("compiling"):
        pass
    assert sum(watch.summary().values()) == pytest.approx(watch.elapsed_s, abs=0.1)


def test_a_bundle_whose_prior_does_not_fit_is_refused_before_measuring(tmp_path, tiny_bundle):
    import json

    from tests.agent.bundle.bundles_made import write_bundle

    encoder = (tiny_bundle / "encoder.onnx").read_bytes()
    prior = json.loads((tiny_bundle / "prior.json").read_text())
    prior |= {"mean": prior["mean"][:-1], "directions": prior["directions"][:-1]}
    known = json.loads((tiny_bundle / "manifest.json").read_text())["golden"]
    bundle = write_bundle(tmp_path / "b", encoder, json.dumps(prior).encode(), golden=known)
    seen = []
    with open_state(tmp_path / "s") as state, pytest.raises(BundleError, match="weights"):
        calibrate(Config(tmp_path / "s", bundle), state, seen.append)
    assert seen == []
