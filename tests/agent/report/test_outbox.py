"""What is told, and what is not told a second time."""

import json

import pytest

from agent.bundle.installed import DECLINED, path_of
from agent.report import outbox
from agent.report.outbox import MEMORY, WEEK_S, drafts, queue
from agent.settings.config import Config
from agent.state.file import FILE
from agent.state.state import KEPT_REPORTS, open_state
from agent.update.switch import ROLLED_BACK

NOW = 1_795_500_000.0  # a Tuesday of week 48 of 2026
VERDICT = {"kernels": 9, "old": 0.2, "new": 0.31, "old_seconds": 0.5, "new_seconds": 0.62}
OFFERED = {"name": "default", "version": "9", "digest": "d" * 64}


@pytest.fixture
def state(machine):
    with open_state(machine) as opened:
        yield opened


@pytest.fixture
def config(machine):
    return Config(machine)


def calibrated_again(state, **changes):
    """Another calibration, of the same machine and timings."""
    body = dict(state.calibration_in_force().body) | changes
    return state.finish(state.begin_run("again", 1), body, NOW)


def declined(state, at=NOW, **changes):
    body = {**OFFERED, "why": "off by more", "verdict": VERDICT, **changes}
    state.note([(DECLINED, body["digest"], body)], at)


def told(reports):
    """Version and outcome of each."""
    found = [json.loads(body) for _, body in reports]
    return [(one["bundle_version"], one["outcome"]) for one in found]


def deliver(state):
    state.unspool([key for key, _ in state.spooled()])


def test_a_calibration_is_told_once(state, config):
    assert len(queue(config, state, NOW)) == 1
    assert len(queue(config, state, NOW)) == 1
    deliver(state)
    for later in (0, WEEK_S, 5 * WEEK_S):
        assert queue(config, state, NOW + later) == ()


def test_a_bundle_is_told_of_once_a_week_however_often_the_machine_calibrates(state, config):
    first = queue(config, state, NOW)
    deliver(state)
    calibrated_again(state)
    assert queue(config, state, NOW + 86_400) == ()
    calibrated_again(state)
    (again,) = queue(config, state, NOW + WEEK_S)
    assert again[0] != first[0][0]
    assert json.loads(again[1])["week"] == "2026-W49"


def test_of_a_bundle_a_machine_is_first_once_in_twelve_weeks(state, config):
    """Every three weeks a calibration: the fifth is first again, and then the ninth."""
    firsts = []
    for number in range(9):
        calibrated_again(state)
        (only,) = queue(config, state, NOW + 3 * number * WEEK_S)
        firsts.append(json.loads(only[1])["first"])
        deliver(state)
    assert firsts == [number % 4 == 0 for number in range(9)]


def test_a_memory_of_an_agent_before_schema_2_is_read(state, config):
    deliver(state) if queue(config, state, NOW) else None
    before = {k: v for k, v in state.fact(MEMORY).items() if k != "firsts"}
    state.remember(MEMORY, before)
    calibrated_again(state)
    (again,) = queue(config, state, NOW + WEEK_S)
    assert json.loads(again[1])["first"] is True


def test_another_bundle_in_the_same_week_is_told_of(state, config):
    deliver(state) if queue(config, state, NOW) else None
    digest = "e" * 64
    path = str(path_of(config.state_dir, digest))
    bundle = {"name": "default", "version": "4", "digest": digest, "path": path}
    calibrated_again(state, bundle=bundle)
    assert [version for version, _ in told(queue(config, state, NOW))] == ["4"]


def test_a_bundle_of_the_persons_own_is_not_told_of(state, config, tmp_path):
    given = state.calibration_in_force().body["bundle"]
    own = {**given, "name": "secret-plant-7", "path": str(tmp_path / "own")}
    calibrated_again(state, bundle=own)
    assert queue(config, state, NOW) == ()


def test_a_bundle_that_was_worse_here_is_told_of_as_refused(state, config):
    queue(config, state, NOW)
    deliver(state)
    declined(state)
    ((_, content),) = queue(config, state, NOW)
    body = json.loads(content)
    assert (body["outcome"], body["bundle_version"]) == ("refused", "9")
    assert body["calibrated"] == {
        "speedup_error": 0.32,
        "seconds_error": 0.62,
        "rank": None,
        "top_pick": None,
    }
    assert body["bundle_alone"] is None
    deliver(state)
    assert queue(config, state, NOW) == ()


def test_a_persons_way_back_is_not_told_as_a_refusal(state, config):
    queue(config, state, NOW)
    deliver(state)
    declined(state, why=ROLLED_BACK, verdict=None)
    assert queue(config, state, NOW) == ()


def test_refusals_of_long_ago_are_not_told_when_reporting_is_switched_on(state, config):
    declined(state, at=NOW - 2 * WEEK_S)
    assert "refused" not in [outcome for _, outcome in told(queue(config, state, NOW))]
    assert len(state.spooled()) == 1


def test_nothing_is_told_without_a_calibration(tmp_path):
    with open_state(tmp_path / "new") as state:
        assert queue(Config(tmp_path / "new"), state, NOW) == ()


@pytest.mark.parametrize("now", [0.0, 86_400.0, 4_102_444_800.0])
def test_nothing_is_told_by_a_clock_that_is_plainly_wrong_and_all_of_it_later(state, config, now):
    assert queue(config, state, now) == ()
    assert state.fact(MEMORY) is None
    assert len(queue(config, state, NOW)) == 1


def test_what_is_shown_first_is_what_is_queued_later_byte_for_byte(state, config):
    shown = drafts(config, state, NOW)
    assert state.spooled() == ()
    assert drafts(config, state, NOW + 3600) == shown
    assert queue(config, state, NOW + 7200) == shown


def test_the_secret_of_a_week_is_gone_in_the_next(state, config):
    queue(config, state, NOW)
    first = state.fact(MEMORY)["secret"]
    queue(config, state, NOW + WEEK_S)
    everything = (config.state_dir / FILE).read_bytes()
    assert first.encode() not in everything
    assert state.fact(MEMORY)["secret"].encode() in everything


def test_a_stop_between_the_spool_and_the_memory_tells_nothing_twice(state, config, monkeypatch):
    real = state.remember

    def killed(name, body):
        if name == MEMORY and body["told"]:
            raise KeyboardInterrupt
        real(name, body)

    monkeypatch.setattr(state, "remember", killed)
    with pytest.raises(KeyboardInterrupt):
        queue(config, state, NOW)
    monkeypatch.setattr(state, "remember", real)
    assert len(state.spooled()) == 1
    assert queue(config, state, NOW) == state.spooled()
    assert len(state.spooled()) == 1


def test_the_spool_keeps_the_newest(state, config):
    for week in range(KEPT_REPORTS + 5):
        calibrated_again(state)
        queue(config, state, NOW + week * WEEK_S)
    weeks = [json.loads(body)["week"] for _, body in state.spooled()]
    assert len(weeks) == KEPT_REPORTS
    assert weeks == sorted(weeks)
    assert weeks[-1] == outbox.iso_week(NOW + (KEPT_REPORTS + 4) * WEEK_S)


def test_the_channel_is_none_where_no_repository_is_configured(state, machine):
    places = {None: "none", "https://bundles.example.org": "pilot"}
    for place, channel in places.items():
        config = Config(machine, repository=place, channel="pilot")
        assert json.loads(drafts(config, state, NOW)[0][1])["channel"] == channel
