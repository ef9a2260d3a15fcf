"""When a machine is quiet, how long it is waited for, and when measuring gives way."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.calibration.calibrate import calibrate
from agent.errors import NotNowError
from agent.measure.evidence import Round
from agent.measure.quiet import (
    LOOKS,
    Conditions,
    conditions_now,
    disturbance,
    gives_way,
    never,
    wait,
)
from agent.measure.sensors import Heat, cpu_heat, runs_on_battery
from agent.measure.timing import Measurement, Timing
from agent.measure.worker_runner import WorkerRunner
from agent.settings.config import Config
from agent.state.state import open_state

CONFIG = Config(state_dir=Path("/nowhere"), quiet_wait_s=600.0)
QUIET = Conditions(busy=0.02, steal=0.0, heat=Heat(50.0, "sensor coretemp"))
BUSY = replace(QUIET, busy=0.5)


class Clock:
    """A clock that only sleeping and looking move; ``script`` says what each look finds."""

    def __init__(self, *script, after=QUIET):
        self.now, self.looks, self._script, self._after = 0.0, 0, list(script), after

    def look(self):
        self.now += 1.0
        self.looks += 1
        return self._script.pop(0) if self._script else self._after

    def sleep(self, seconds):
        self.now += seconds

    def wait(self, config=CONFIG):
        told = []
        wait(config, told.append, look=self.look, clock=lambda: self.now, sleep=self.sleep)
        return told


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"busy": 0.16}, "busy"),
        ({"steal": 0.04}, "steal"),
        ({"heat": Heat(86.0, "sensor coretemp")}, "heat"),
        ({"heat": None}, None),
        ({"busy": None}, None),
        ({"on_battery": True}, "battery"),
    ],
)
def test_each_limit_by_itself_makes_a_machine_unquiet(change, code):
    found = disturbance(replace(QUIET, **change), CONFIG)
    assert (found.code if found else None) == code


def test_a_site_may_measure_on_battery():
    assert disturbance(replace(QUIET, on_battery=True), replace(CONFIG, on_battery=True)) is None


def test_a_quiet_machine_is_looked_at_a_few_times_and_nothing_is_said():
    clock = Clock()
    assert clock.wait() == []
    assert clock.looks == LOOKS


def test_one_quiet_look_between_busy_ones_is_not_quiet():
    clock = Clock(BUSY, QUIET, BUSY, QUIET, QUIET, BUSY)
    clock.wait()
    assert clock.looks == 6 + LOOKS


def test_a_machine_that_is_never_quiet_is_given_up_in_time():
    clock = Clock(after=BUSY)
    with pytest.raises(NotNowError, match="not quiet within 10m: other programs use more"):
        clock.wait()
    assert 600 <= clock.now < 615


def test_while_waiting_it_says_why_in_words_that_stay_the_same():
    told = Clock(BUSY, replace(BUSY, busy=0.7)).wait()
    assert len({p.what for p in told}) == 1
    assert "other programs use more than 15% of its CPUs" in told[0].what


def measured(foreign=0.0, steal=0.0):
    one = Round(((0, 1.0),), wall_s=1.0, cpu_s=1.0, steal_s=steal, busy_s=1.0 + foreign,
                switches=0, others=0)  # fmt: skip
    return Measurement(Timing("ok"), (), rounds=(one, one))


def test_measuring_gives_way_to_work_that_begins_meanwhile():
    with pytest.raises(NotNowError, match="gave way while measuring"):
        gives_way(CONFIG, cpus=2)(measured(foreign=0.5))


def test_measuring_gives_way_to_other_guests_of_its_host():
    with pytest.raises(NotNowError, match="host"):
        gives_way(CONFIG, cpus=2)(measured(steal=0.2))


def test_one_tick_of_a_short_kernel_is_no_reason_to_give_way():
    short = Round(
        ((0, 1.0),), wall_s=0.1, cpu_s=0.1, steal_s=0.02, busy_s=0.1, switches=0, others=0
    )
    ask = gives_way(CONFIG, cpus=2)
    for rounds in ((short,), *[measured().rounds] * 4):
        ask(Measurement(Timing("ok"), (), rounds=rounds))


def test_a_site_may_accept_more_steal():
    gives_way(replace(CONFIG, max_steal=0.5), cpus=2)(measured(steal=0.2))


@pytest.mark.parametrize(
    "found", [measured(), measured(foreign=0.25), Measurement(Timing("ok"), ())]
)
def test_measuring_goes_on_where_little_else_runs(found):
    gives_way(CONFIG, cpus=2)(found)
    never(found)


def supply(folder, name, **lines):
    (folder / name).mkdir()
    for key, value in lines.items():
        (folder / name / key).write_text(f"{value}\n")


BATTERY = {"type": "Battery", "status": "Discharging"}
MOUSE = {**BATTERY, "scope": "Device"}


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, False),
        ({"BAT0": BATTERY}, True),
        ({"BAT0": {**BATTERY, "status": "Full"}}, False),
        ({"BAT0": BATTERY, "AC": {"type": "Mains", "online": 0}}, True),
        ({"BAT0": BATTERY, "AC": {"type": "Mains", "online": 1}}, False),
        ({"BAT0": BATTERY, "ucsi": {"type": "USB", "online": 1}}, False),
        ({"ucsi": {"type": "USB", "online": 0}}, False),
        ({"BAT0": {**BATTERY, "status": "Unknown"}, "AC": {"type": "Mains", "online": 0}}, True),
        ({"BAT0": {**BATTERY, "status": "Full"}, "ucsi": {"type": "USB", "online": 0}}, False),
        ({"BAT1": {"type": "Battery", "present": 0}, "AC": {"type": "Mains", "online": 0}}, False),
        ({"BAT0": BATTERY, "ucsi": {"type": "USB_C", "online": 1}}, False),
        ({"hidpp_battery_0": MOUSE}, False),
        ({"hidpp_battery_0": MOUSE, "ucsi": {"type": "USB", "online": 0}}, False),
    ],
)
def test_only_a_battery_of_its_own_counts(tmp_path, supplies, expected):
    for name, lines in supplies.items():
        supply(tmp_path, name, **lines)
    assert runs_on_battery(tmp_path) == expected


def test_a_machine_without_power_supplies_runs_on_no_battery(tmp_path):
    assert not runs_on_battery(tmp_path / "none")


def test_only_sensors_of_the_cpu_tell_its_heat_and_are_named(monkeypatch):
    def sensor(celsius, label=""):
        return SimpleNamespace(label=label, current=celsius)

    found = {"mlx5": [sensor(99.0)], "nvme": [sensor(90.0)], "acpitz": [sensor(70.0)]}
    monkeypatch.setattr("psutil.sensors_temperatures", lambda: found)
    assert cpu_heat() == Heat(70.0, "sensor acpitz")
    found["coretemp"] = [sensor(50.0, "Core 0"), sensor(55.0, "Package id 0"), sensor(127.5)]
    assert cpu_heat() == Heat(55.0, "sensor coretemp Package id 0")
    del found["coretemp"], found["acpitz"]
    assert cpu_heat() is None


def test_a_look_at_this_machine_finds_shares():
    found = conditions_now(0.2)
    assert 0 <= found.busy <= 1
    assert 0 <= found.steal <= 1


@pytest.fixture
def production(monkeypatch):
    """Others use a whole CPU while programs are timed, as the rounds tell it."""
    measured = WorkerRunner.measure

    def disturbed(*arguments, **options):
        found = measured(*arguments, **options)
        others = tuple(replace(r, busy_s=r.cpu_s + r.wall_s) for r in found.rounds)
        return replace(found, rounds=others)

    monkeypatch.setattr(WorkerRunner, "measure", disturbed)


def test_a_polite_calibration_gives_way_and_keeps_what_it_has(tmp_path, tiny_bundle, production):
    config = Config(state_dir=tmp_path, bundle=tiny_bundle, budget_s=30.0, max_busy=0.1)
    with open_state(tmp_path) as state:
        with pytest.raises(NotNowError, match="gave way"):
            calibrate(config, state, lambda _: None, polite=True)
        run = state.open_run()
        assert state.calibration_in_force() is None
        assert 0 < len(state.timings(run)) < run.planned
