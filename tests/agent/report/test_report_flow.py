"""From the calibration to the centre: retries, lost answers, and what is never sent."""

import itertools
import json
import resource
import stat
from pathlib import Path

import pytest

from agent.errors import InputError, UnreachableError
from agent.report import flow
from agent.report.carried import open_export
from agent.report.consent import give_consent, withdraw_consent
from agent.report.flow import FIRST_WAIT_S, LONGEST_WAIT_S, Retry
from agent.report.sender import CentreAnswer
from agent.settings.config import Config
from agent.state.state import State, open_state
from tests.agent.report.recorder import LOST, answers, recording
from tests.conftest import valid

NOW = 1_795_500_000.0
HOUR = 3600.0


class Machine:
    """A machine with reporting on, a clock of its own, and three reports to send."""

    def __init__(self, directory, state, reports=3):
        self.state, self.config = state, Config(directory, report_to="http://127.0.0.1:1")
        self.now, self.sent = NOW, []
        self.replies = [CentreAnswer("accepted")]
        give_consent(self.config, state)
        state.spool([(str(n), b'{"agent":"%d"}' % n) for n in range(1, reports)], NOW)

    def report(self, **more):
        """What `agent report` answers at this time."""
        found = flow.send_due_reports(
            self.config, self.state, lambda _: None, send=self._send, now=self.now, **more
        )
        return valid({"schema": 1, **found}, "report")

    def _send(self, _, body):
        self.sent.append(body)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


@pytest.fixture
def plant(machine):
    with open_state(machine) as state:
        yield Machine(machine, state)


def test_all_that_waits_is_sent_oldest_first(plant):
    found = plant.report()
    assert (found["outcome"], found["handed_over"], found["waiting"]) == ("sent", 3, 0)
    assert plant.sent[:2] == [b'{"agent":"1"}', b'{"agent":"2"}']
    assert json.loads(plant.sent[2])["schema"] == 2
    assert found["last"]["report"].encode() == plant.sent[2]
    assert plant.report()["outcome"] == "nothing"


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (UnreachableError("gone", "later"), "unreachable"),
        (CentreAnswer("later", "busy"), "later"),
        (CentreAnswer("denied", "no"), "denied"),
    ],
)
def test_a_failure_keeps_everything_and_ends_the_run(plant, reply, outcome):
    plant.replies = [CentreAnswer("accepted"), reply]
    found = plant.report()
    assert (found["outcome"], found["handed_over"], found["waiting"]) == (outcome, 1, 2)
    assert len(plant.sent) == 2
    assert found["notes"][0]["code"] == outcome
    assert found["not_before"]


def test_nothing_is_tried_before_the_next_try_but_at_a_persons_word(plant):
    plant.replies = [CentreAnswer("later", "busy", HOUR)]
    plant.report()
    for minutes in (0, 30, 59):
        plant.now = NOW + 60 * minutes
        assert plant.report()["outcome"] == "waiting"
    assert len(plant.sent) == 1
    plant.replies = [CentreAnswer("accepted")]
    assert plant.report(at_once=True)["outcome"] == "sent"


def test_it_works_again_after_the_wait_and_failures_are_forgotten(plant):
    plant.replies = [UnreachableError("gone")]
    plant.report()
    plant.now = NOW + FIRST_WAIT_S
    plant.replies = [CentreAnswer("accepted")]
    found = plant.report()
    assert (found["outcome"], found["not_before"]) == ("sent", None)
    plant.state.spool([("new", b'{"agent":"new"}')], NOW)
    assert plant.report()["outcome"] == "sent"


def test_an_hourly_timer_against_a_dead_centre_gives_it_longer_and_longer(plant):
    plant.replies = [UnreachableError("gone")]
    tries = []
    for hour in range(24 * 14):
        plant.now = NOW + hour * HOUR
        before = len(plant.sent)
        plant.report()
        if len(plant.sent) > before:
            tries.append(hour)
    assert tries[0] == 0
    assert 14 * 24 / 25 <= len(tries) <= 60  # a day at most between tries; half a day on average
    gaps = [b - a for a, b in itertools.pairwise(tries)]
    assert max(gaps) <= 24
    assert len(plant.state.spooled()) == 3


def test_waits_double_and_are_spread_over_their_whole_length():
    retry, longest = Retry(), []
    for _ in range(8):
        longest.append(retry.after_failure(0.0, 0.0, 1.0).not_before)
        assert retry.after_failure(0.0, 0.0, 0.0).not_before == 0.0
        retry = retry.after_failure(0.0, 0.0, 0.5)
    assert longest[:5] == [FIRST_WAIT_S * 2**n for n in range(5)]
    assert longest[-1] == LONGEST_WAIT_S
    assert Retry(10**6).after_failure(0.0, 0.0, 1.0).not_before == LONGEST_WAIT_S


def test_what_the_centre_asks_is_waited_for_but_not_for_ever():
    assert Retry().after_failure(NOW, 120.0, 0.0).not_before == NOW + 120
    assert Retry().after_failure(NOW, 1e12, 0.0).not_before == NOW + LONGEST_WAIT_S


def test_a_clock_that_went_back_does_not_silence_a_machine(plant):
    plant.now = NOW + 12 * 365 * 24 * HOUR
    plant.replies = [UnreachableError("gone")]
    plant.report()
    plant.now, plant.replies = NOW, [CentreAnswer("accepted")]
    assert plant.report()["outcome"] == "sent"


def test_a_report_that_the_centre_will_never_take_is_dropped_and_the_others_go_on(plant):
    plant.replies = [CentreAnswer("refused", "HTTP 422"), CentreAnswer("accepted")]
    found = plant.report()
    assert (found["outcome"], found["handed_over"], found["refused"]) == ("sent", 2, 1)
    assert found["waiting"] == 0
    assert found["notes"] == [{"code": "refused", "message": "HTTP 422"}]


def test_off_sends_nothing_and_makes_nothing(plant):
    withdraw_consent(plant.state)
    assert plant.report()["outcome"] == "off"
    assert (plant.sent, plant.state.spooled()) == ([], ())


def test_a_site_that_says_no_silences_what_already_waits(plant):
    plant.config = Config(plant.config.state_dir, report_to="http://127.0.0.1:1", report=False)
    assert plant.report()["outcome"] == "off"
    assert plant.sent == []


def test_without_an_address_reports_wait(plant):
    plant.config = Config(plant.config.state_dir)
    found = plant.report()
    assert (found["outcome"], found["waiting"]) == ("nowhere", 3)


# Against a real socket.


def over_the_wire(machine, centre, **more):
    config = Config(machine, report_to=centre.url)
    with open_state(machine) as state:
        give_consent(config, state)
        return flow.send_due_reports(config, state, lambda _: None, **more)


def test_a_report_whose_answer_is_lost_is_sent_again_with_the_same_bytes(machine):
    with recording((LOST, answers(202, b'{"accepted":true}'))) as centre:
        lost = over_the_wire(machine, centre)
        again = over_the_wire(machine, centre, at_once=True)
    assert (lost["outcome"], lost["waiting"]) == ("unreachable", 1)
    assert (again["outcome"], again["waiting"]) == ("sent", 0)
    assert centre.bodies[0] == centre.bodies[1]


def test_a_report_accepted_before_a_power_cut_is_sent_again_under_the_same_key(
    machine, monkeypatch
):
    def power_cut(self, keys):
        raise KeyboardInterrupt

    with recording() as centre:
        with monkeypatch.context() as patch:
            patch.setattr(State, "unspool", power_cut)
            with pytest.raises(KeyboardInterrupt):
                over_the_wire(machine, centre)
        assert over_the_wire(machine, centre)["outcome"] == "sent"
        assert over_the_wire(machine, centre)["outcome"] == "nothing"
    keys = [json.loads(body)["dedupe"] for body in centre.bodies]
    assert len(keys) == 2
    assert len(set(keys)) == 1


# Carried by hand.


def carry(plant, path):
    with open_export(path) as file:
        return flow.export_reports(plant.config, plant.state, file, NOW)


def test_an_export_holds_the_bytes_one_report_a_line_and_they_wait_no_more(plant, tmp_path):
    plant.config = Config(plant.config.state_dir)
    waiting = flow.queue(plant.config, plant.state, NOW)
    found = carry(plant, tmp_path / "reports")
    assert (found["outcome"], found["handed_over"], found["waiting"]) == ("exported", 3, 0)
    assert (tmp_path / "reports").read_bytes().splitlines() == [body for _, body in waiting]
    assert carry(plant, tmp_path / "x")["outcome"] == "nothing"
    assert not (tmp_path / "x").exists()


def test_several_machines_share_one_file_also_after_a_line_was_cut_off(plant, tmp_path):
    path = tmp_path / "reports"
    path.write_bytes(b'{"agent":"other"}\n{"agent":"cut o')
    carry(plant, path)
    lines = path.read_bytes().splitlines()
    assert lines[:2] == [b'{"agent":"other"}', b'{"agent":"cut o']
    assert lines[2:4] == [b'{"agent":"1"}', b'{"agent":"2"}']


@pytest.mark.parametrize("kind", ["text", "directory", "no folder", "device"])
def test_what_is_no_file_of_reports_is_left_alone(plant, tmp_path, kind):
    path = tmp_path / "there"
    if kind == "text":
        path.write_text("my own file\n")
    elif kind == "directory":
        path.mkdir()
    else:
        path = tmp_path / "none" / "reports"
    if kind == "device":
        path = Path("/dev/null")
        assert stat.S_ISCHR(path.stat().st_mode)
    with pytest.raises(InputError):
        carry(plant, path)
    assert len(plant.state.spooled()) == 2
    assert kind != "text" or path.read_text() == "my own file\n"


def test_a_file_that_cannot_take_all_is_left_as_it_was(tmp_path):
    path = tmp_path / "reports"
    path.write_bytes(b'{"agent":"other"}\n')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_export(path) as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
        try:
            with pytest.raises(InputError, match="File too large"):
                file.add([b'{"agent":"%d"}' % n for n in range(9)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b'{"agent":"other"}\n'


def test_nothing_is_exported_while_reporting_is_off(plant, tmp_path):
    withdraw_consent(plant.state)
    found = carry(plant, tmp_path / "reports")
    assert found["outcome"] == "off"
    assert not (tmp_path / "reports").exists()
