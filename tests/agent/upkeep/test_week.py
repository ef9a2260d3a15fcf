"""A week in a minute: the hourly timer on machines with bad clocks, no power and no quiet.

The decisions are the real ones, on a real state; what is simulated is the clock, what a look at the
machine finds, and that timing takes no time. The machine is switched off and on every hour: nothing
but the state is carried from one hour to the next.
"""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import NothingToDoError, NotNowError
from agent.measure import machine, resolve
from agent.measure.quiet import Conditions, wait
from agent.settings.config import Config
from agent.settings.values import DAY, HOUR
from agent.state import typed
from agent.state.state import open_state
from agent.upkeep import upkeep
from agent.upkeep.checked import Check, Checked, SentinelChange
from tests.agent.upkeep.bodies import body_of_now, put_in_force

MONDAY = 1_795_392_000.0  # 2026-11-23
YEAR_2038 = 2_147_483_648.0
WEEK = 7 * 24
QUIET = Conditions(busy=0.01, steal=0.0)


@pytest.fixture(autouse=True, scope="module")
def looked_at_once():
    """The machine and its compiler, which are the same all week."""
    found = machine.read_machine()
    mark = resolve.mark_for_set("", found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "read_machine", lambda: found)
        patch.setattr(resolve, "mark_for_set", lambda *_: mark)
        yield


@dataclass
class Plant:
    """A machine in a plant.

    Attributes:
        clock: wall clock at the true hour (0 to WEEK - 1); None: switched off.
        conditions: what looks find at the true hour.
        drifts: true hours in which a check finds that the machine has changed.
    """

    config: Config
    clock: object = lambda hour: MONDAY + hour * HOUR
    conditions: object = lambda _: QUIET
    drifts: frozenset = frozenset()
    calibrated: list = field(default_factory=list)
    checked: list = field(default_factory=list)
    gave_up: list = field(default_factory=list)
    waited: float = 0.0
    body: dict = field(default_factory=dict)

    def live(self, hours=WEEK):
        self.body = self.body or body_of_now(self.config)
        for hour in range(hours):
            try:
                self._hour(hour)
            except NothingToDoError:
                pass
            except NotNowError:
                self.gave_up.append(hour)
        return self

    def _hour(self, hour):
        now = self.clock(hour)
        if now is None:
            return
        upkeep.ask_whether_due(self.config, now)
        began = self.waited
        wait(
            self.config,
            self._silent,
            look=lambda: self._look(hour),
            clock=lambda: self.waited,
            sleep=self._sleep,
        )
        assert self.waited - began <= self.config.quiet_wait_s + 20
        with open_state(self.config.state_dir) as state:
            upkeep.confirm(self.config, state, self._silent, self._check(hour, now), now)
            put_in_force(state, self.body, now)
            self.calibrated.append(hour)

    def _check(self, hour, now):
        def check(_, state, __):
            verdict = "changed" if hour in self.drifts else "holds"
            sentinels = (SentinelChange("gemm", "original", 0.4, 0.25),)
            found = Check(state.calibration_in_force().id, verdict, 0.4, sentinels)
            state.note_drift(typed.to_json(found), now)
            self.checked.append(hour)
            return Checked(found, now, now)

        return check

    def _look(self, hour):
        self.waited += 1
        return self.conditions(hour)

    def _sleep(self, seconds):
        self.waited += seconds

    @staticmethod
    def _silent(_):
        pass


def plant(tmp_path, **kwargs):
    return Plant(Config(state_dir=tmp_path / "state"), **kwargs)


def test_a_week_of_hourly_reboots_is_one_calibration_and_a_check_a_day(tmp_path):
    lived = plant(tmp_path).live()
    assert lived.calibrated == [0]
    assert lived.checked == [24 * day for day in range(1, 7)]


def test_a_machine_that_is_on_for_an_hour_a_day_is_looked_after_all_the_same(tmp_path):
    lived = plant(tmp_path, clock=lambda h: MONDAY + h * HOUR if h % 24 == 9 else None).live()
    assert lived.calibrated == [9]
    assert lived.checked == [9 + 24 * day for day in range(1, 7)]


def test_a_clock_that_is_always_1970_at_first_costs_nothing(tmp_path):
    lived = plant(tmp_path, clock=lambda h: 120.0 if h % 2 else MONDAY + h * HOUR).live()
    assert lived.calibrated == [0]


def test_a_clock_that_is_never_set_is_one_calibration(tmp_path):
    lived = plant(tmp_path, clock=lambda _: 300.0).live()
    assert lived.calibrated == [0]
    assert lived.checked == []


def test_a_clock_that_is_set_after_the_first_calibration_costs_one_more(tmp_path):
    lived = plant(tmp_path, clock=lambda h: 300.0 if h < 5 else MONDAY + h * HOUR).live()
    assert lived.calibrated == [0, 5]


def test_a_day_in_2038_costs_one_calibration_and_checks_go_on_afterwards(tmp_path):
    lived = plant(
        tmp_path, clock=lambda h: (YEAR_2038 if 48 <= h < 72 else MONDAY) + h * HOUR
    ).live()
    assert lived.calibrated == [0, 48]
    assert [h for h in lived.checked if h >= 72] == [72, 96, 120, 144]


def test_a_clock_that_goes_to_2038_and_back_every_hour_costs_one_calibration(tmp_path):
    lived = plant(tmp_path, clock=lambda h: (YEAR_2038 if h % 2 else MONDAY) + h * HOUR).live()
    assert lived.calibrated == [0, 1]


def test_a_machine_on_battery_waits_for_power(tmp_path):
    battery = replace(QUIET, on_battery=True)
    lived = plant(tmp_path, conditions=lambda h: QUIET if h == 100 else battery).live(101)
    assert lived.calibrated == [100]
    assert lived.gave_up == list(range(100))


def test_a_machine_that_is_never_quiet_is_never_measured_and_never_waited_for_too_long(tmp_path):
    lived = plant(tmp_path, conditions=lambda _: replace(QUIET, busy=0.9)).live()
    assert lived.calibrated == lived.checked == []
    assert lived.gave_up == list(range(WEEK))


def test_a_machine_that_changes_is_calibrated_again_within_a_day(tmp_path):
    lived = plant(tmp_path, drifts=frozenset(range(60, 80))).live()
    assert lived.calibrated == [0, 72]


def test_a_month_later_it_is_calibrated_again(tmp_path):
    lived = plant(tmp_path, clock=lambda h: MONDAY + h * DAY).live(65)  # an "hour" is a day here
    assert lived.calibrated == [0, 30, 60]


CLOCKS = st.sampled_from((0.0, 1.0e9, MONDAY, YEAR_2038, 4.0e9))


@settings(max_examples=25, deadline=None)
@given(jumps=st.lists(CLOCKS, min_size=1, max_size=12))
def test_whatever_the_clock_does_each_new_time_costs_one_calibration_at_the_most(
    tmp_path_factory, jumps
):
    lived = plant(tmp_path_factory.mktemp("plant"), clock=lambda h: jumps[h // 3] + h * HOUR).live(
        3 * len(jumps)
    )
    assert lived.calibrated[0] == 0
    assert len(lived.calibrated) <= len(set(jumps)) + 1
