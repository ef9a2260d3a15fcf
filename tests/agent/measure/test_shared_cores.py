"""Timings of programs whose cores others use too: what comes out on simulated cores is known."""

import math
import re
import statistics
import subprocess

import pytest

from agent.measure.compiler import HARNESS
from agent.measure.cores import quietest
from agent.measure.session import TimingSettings
from agent.measure.shots import Sharing, Shot, Shots, disturbed_share
from tests.agent.measure.simulated_cores import SimulatedCores, SimulatedProgram, measured_on

SEEDS = range(12)
BASE = SimulatedProgram(1.1e-4, factor=1.02)  # bound by latency: not hit
VECTOR = SimulatedProgram(3.0e-5, factor=2.0)  # many operations a cycle: hit hard
LONG = SimulatedProgram(4.0e-3, factor=2.0)
PARALLEL = SimulatedProgram(6.0e-5, factor=2.0, parallel=True)
TRUE = math.log(BASE.seconds / VECTOR.seconds)


def timed(cores, version, base=BASE):
    (timing,) = measured_on(cores, base, version).timings
    return timing


@pytest.mark.parametrize("seed", SEEDS)
def test_short_spells_do_not_reach_the_speed_up(seed):
    """As findings 12 has them: 0.8 ms each, half of the time."""
    timing = timed(SimulatedCores(0.8e-3, 0.8e-3, seed=seed), VECTOR)
    assert timing.sharing == Sharing.UNDISTURBED
    assert timing.log_speedup == pytest.approx(TRUE, abs=0.01)


def test_spells_longer_than_a_round_are_waited_out_or_the_timing_says_that_it_could_not():
    found = [
        measured_on(SimulatedCores(0.3, 0.1, seed=seed), BASE, VECTOR, lowest=1.1).timings[0]
        for seed in SEEDS
    ]
    alone = [t for t in found if t.sharing == Sharing.UNDISTURBED]
    assert len(alone) >= 9
    assert [t.log_speedup for t in alone] == pytest.approx([TRUE] * len(alone), abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_executions_longer_than_the_spells_are_looked_into(seed):
    long = SimulatedProgram(8.0e-3, factor=1.02)
    timing = timed(SimulatedCores(0.05, 0.05, seed=seed), LONG, long)
    assert timing.log_speedup == pytest.approx(math.log(2), abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_bursts_and_drift_do_not_reach_it_either(seed):
    cores = SimulatedCores(0.8e-3, 2e-3, bursts=0.05, drift=0.02, seed=seed)
    assert timed(cores, VECTOR).log_speedup == pytest.approx(TRUE, abs=0.01)


def test_a_machine_that_is_its_own_is_told_as_such_and_measured_in_the_rounds_wanted():
    measured = measured_on(SimulatedCores(0.0, 1.0), BASE, VECTOR)
    assert measured.timings[0].disturbed == 0
    assert len(measured.rounds) <= 9
    assert measured.waited_s == 0


def test_rounds_that_only_others_made_necessary_are_counted():
    measured = measured_on(SimulatedCores(1e9, 0.0), BASE, VECTOR, lowest=1.1)
    assert measured.waited_s == pytest.approx(sum(r.wall_s for r in measured.rounds[9:]))
    assert measured.waited_s > 0


def test_cores_that_are_always_shared_and_known_to_be_are_told_and_compared_as_they_are():
    cores = SimulatedCores(1e9, 0.0)
    (timing,) = measured_on(cores, BASE, VECTOR, lowest=1.1).timings
    assert timing.sharing == Sharing.SHARED
    assert timing.disturbed == 1.0
    assert timing.log_speedup == pytest.approx(TRUE + math.log(1.02 / 2), abs=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_parallel_version_that_never_had_all_cores_says_so(seed):
    timing = timed(SimulatedCores(0.8e-3, 2e-3, second_busy=1.0, seed=seed), PARALLEL)
    assert timing.sharing == Sharing.PARTLY
    slowed = 2 * PARALLEL.seconds
    assert timing.log_speedup == pytest.approx(math.log(BASE.seconds / slowed), abs=0.02)


@pytest.mark.parametrize("spells", [(3e-3, 1e-3), (1e-3, 1e-3), (20e-3, 5e-3)])
def test_executions_longer_than_the_spells_tell_what_they_take_undisturbed(spells):
    """As they were they would come out about 1.5 times slower."""
    slow, fast = SimulatedProgram(18e-3, factor=2.0), SimulatedProgram(9e-3, factor=1.1)
    timings = [timed(SimulatedCores(*spells, seed=seed), fast, slow) for seed in range(8)]
    found = [t for t in timings if t.sharing == Sharing.INFERRED]
    assert len(found) >= 6
    off = [t.log_speedup - math.log(2) for t in found]
    assert abs(statistics.fmean(off)) < 0.03
    assert max(map(abs, off)) < 0.15


def test_one_long_execution_that_was_disturbed_alike_all_the_time_tells_nothing_of_it():
    cores = SimulatedCores(1e9, 0.0)
    (timing,) = measured_on(cores, LONG, LONG, lowest=1.1).timings
    assert timing.sharing == Sharing.SHARED


def test_where_arrays_lie_in_one_worker_does_not_decide():
    """Each worker's pages make a program some percent faster or slower."""

    def found(placements: int) -> float:
        settings = TimingSettings(placements=placements)
        cores = (SimulatedCores(0.0, 1.0, placement=0.04, seed=seed) for seed in range(16))
        timings = (measured_on(c, BASE, VECTOR, settings=settings).timings[0] for c in cores)
        return statistics.pstdev(t.log_speedup - TRUE for t in timings)

    assert found(3) < 0.8 * found(1)


@pytest.mark.parametrize(
    ("seconds", "workers"), [(1e-4, 3), (4e-3, 3), (0.06, 1)], ids=["short", "long", "too-long"]
)
def test_rounds_are_shared_out_to_workers_where_that_costs_little(seconds, workers):
    cores = SimulatedCores(0.0, 1.0)
    program = SimulatedProgram(seconds)
    measured_on(cores, program, program)
    assert cores.workers == workers


@pytest.mark.parametrize(
    ("readings", "cpu"),
    [((1.10, 1.12), 7), ((1.70, 1.10), 3), ((1.20, 1.10), 7), ((1.70, 1.60), 7)],
)
def test_serial_programs_move_only_to_a_core_that_others_clearly_leave_alone(readings, cpu):
    assert quietest((7, 3), readings) == cpu


def test_time_without_a_cpu_is_not_taken_for_time_on_a_shared_core():
    lost = Shot(50e-3, 1.7, 1.7, 1.7, switches=2)
    assert Shots((Shot(9e-3, 1.7, 1.43, 1.7), lost)).inside(1.1) == pytest.approx((9e-3, 0.3))
    assert Shots((lost,)).inside(1.1) is None


def test_a_ratio_never_mixes_a_base_of_its_own_with_a_version_on_shared_cores():
    """One that is too slow for many rounds is compared with the base as that was too."""
    cores = SimulatedCores(3e-3, 1e-3, seed=1)
    timing = timed(cores, SimulatedProgram(0.3, factor=2.0), SimulatedProgram(1e-4, factor=2.0))
    assert timing.sharing == Sharing.SHARED
    assert timing.base_seconds > 1.4e-4


def test_the_noise_told_is_that_of_the_state_compared_in():
    measured = measured_on(SimulatedCores(5e-3, 5e-3), VECTOR, VECTOR)
    assert max(map(abs, measured.noise)) < 0.02


def test_a_shot_that_lost_its_cpu_is_not_one_of_an_undisturbed_core():
    left, stayed = Shot(1.0, 1.1, 0, 1.1, switches=1), Shot(1.0, 1.1, 0, 1.1)
    assert not left.fits(Sharing.UNDISTURBED, 1.1)
    assert disturbed_share([Shots((left, stayed))], 1.1) == 0.5


def test_the_chain_of_a_reading_is_made_of_multiplications(tmp_path):
    """A compiler turns ``w * 3`` into an addition, and a chain of those is slowed down by others:
    on a Zen 4 readings then fell where cores were shared, and the lowest was taken for undisturbed.
    """
    flags = ("-O3", "-march=native", "-fopenmp", "-fno-inline", "-DPREBUILT")
    made = tmp_path / "harness.s"
    subprocess.run(["cc", *flags, "-S", "-o", made, HARNESS], check=True)
    _, _, after = made.read_text().partition("\nreading:")
    reading, _, _ = after.partition(".size\treading")
    assert re.search(r"^\s(imul|mul|madd)", reading, re.MULTILINE)
