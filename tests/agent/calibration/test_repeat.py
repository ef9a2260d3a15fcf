"""The noise of a calibration is what its timings differ by from the same made again."""

import math

import pytest

from agent.calibration.labels import Sample
from agent.calibration.repeat import KERNELS, drift, repeat_noise
from agent.kernels.fixed_set import kernels
from agent.page.facts import compared_figures
from agent.report.payload import noise_bucket
from agent.state.state import open_state
from agent.terminal.calibration_wording import calibration_blocks
from tests.fake_runner import FakeRunner, as_the_bundle_says, calibrate_simulated

GEMM = next(k for k in kernels() if k.name == "gemm")


def sample(label, half=0.05, schedule="vectorize j"):
    return Sample(GEMM, schedule, schedule == "original", label, label - half, label + half)


@pytest.fixture(scope="module")
def simulated(tiny_bundle):
    def machine(**differs):
        return FakeRunner(as_the_bundle_says(tiny_bundle, times=3.0), **differs)

    return machine


@pytest.fixture(scope="module")
def restless(simulated, tiny_bundle, tmp_path_factory):
    """A machine whose rounds agree in a process and whose processes do not."""
    machine = simulated(noise=1e-4, session=0.1)
    return calibrate_simulated(
        tmp_path_factory.mktemp("restless"), tiny_bundle, machine=machine
    ).body


def test_what_changes_from_one_process_to_the_next_is_in_the_noise_shown(restless):
    """A speed-up is made of two times, so two of it differ by 0.1 * 2 in standard deviation."""
    assert restless.noise_floor.label_median < 0.001
    assert 0.03 < restless.noise == restless.repeat_noise.median < 0.4
    assert restless.repeat_noise.held < 0.1


def test_figures_page_and_report_all_show_that_noise(restless):
    assert noise_bucket(restless.noise) in ("3-10%", "over-10%")
    shown = compared_figures(restless)["Two timings of the same thing differ by"]
    assert shown == f"{math.expm1(restless.noise):.1%}"


def test_the_summary_says_it_beside_the_error(simulated, tiny_bundle, tmp_path):
    stored = calibrate_simulated(tmp_path, tiny_bundle, machine=simulated(noise=0.02))
    shown = f"the same thing timed again differs by {math.expm1(stored.body.noise):.1%}"
    assert any(shown in str(block) for block in calibration_blocks(stored))


def test_only_some_kernels_are_timed_again_each_in_a_measurement_of_its_own(
    simulated, tiny_bundle, tmp_path
):
    machine = simulated()
    machine.asked = asked = []
    calibrate_simulated(tmp_path, tiny_bundle, machine=machine)
    bases = [base for base, _ in asked]
    assert len({b.name for b in bases}) == len(bases) - KERNELS


def test_a_machine_that_gets_slower_is_told_apart_from_one_that_is_noisy(
    simulated, tiny_bundle, tmp_path
):
    slowing = simulated(noise=0.01, slower=0.02)
    made = calibrate_simulated(tmp_path / "slowing", tiny_bundle, machine=slowing)
    assert [w.kernels for w in made.body.warnings if w.code == "drift"] == [KERNELS]
    assert made.body.noise < 0.03
    noisy = calibrate_simulated(tmp_path / "noisy", tiny_bundle, machine=simulated(noise=0.05))
    assert "drift" not in {w.code for w in noisy.body.warnings}


def test_the_noise_of_what_is_the_same_is_nothing_and_every_interval_holds_it():
    found = repeat_noise([(sample(0.5), sample(0.5)), (sample(0.2), sample(0.2))])
    assert (found.median, found.p90, found.held, found.versions) == (0.0, 0.0, 1.0, 2)


def test_times_as_written_count_for_drift_and_not_for_the_noise_of_speed_ups():
    then, now = sample(-7.0, 0.01, "original"), sample(-6.5, 0.01, "original")
    assert repeat_noise([(then, now)]) is None
    (warning,) = drift([(then, now)])
    assert warning.worst == pytest.approx(0.5)


def test_a_change_that_the_intervals_explain_is_no_drift():
    assert drift([(sample(-7.0, 0.3, "original"), sample(-6.5, 0.3, "original"))]) == ()


def test_a_refit_keeps_the_noise_of_its_timings(tiny_bundle, tmp_path):
    from agent.calibration.calibrate import calibrate
    from agent.settings.config import Config

    made = calibrate_simulated(tmp_path, tiny_bundle).body
    with open_state(tmp_path) as state:
        again = calibrate(Config(tmp_path, bundle=tiny_bundle), state, lambda _: None, refit=True)
    assert again.body.repeat_noise == made.repeat_noise


def test_why_it_took_longer_is_said_where_others_used_the_cores(simulated, tiny_bundle, tmp_path):
    waiting = calibrate_simulated(
        tmp_path / "waiting", tiny_bundle, machine=simulated(waited_s=2.0)
    )
    (warning,) = (w for w in waiting.body.warnings if w.code == "waited")
    assert warning.worst > 10
    assert any("longer than on a machine" in str(block) for block in calibration_blocks(waiting))
    alone = calibrate_simulated(tmp_path / "alone", tiny_bundle, machine=simulated())
    assert "waited" not in {w.code for w in alone.body.warnings}
