import pytest

from agent.errors import (
    AgentError,
    BusyError,
    CompilerError,
    InputError,
    StateError,
    StoppedError,
    UnreachableError,
)
from agent.state.last_error import FACT, forget, has_errors, last_errors, remembering
from agent.state.state import open_state, read_state


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "s") as opened:
        yield opened


def fail(state, command, error):
    with pytest.raises(type(error)), remembering(state, command):
        raise error


def test_an_error_is_remembered_with_what_to_do(state):
    fail(state, "update", UnreachableError("no network", "Try later."))
    (found,) = last_errors(state)
    assert (found.command, found.message, found.hint) == ("update", "no network", "Try later.")
    assert found.exit_code == 4


def test_success_of_the_same_command_forgets_it_and_of_another_does_not(state):
    fail(state, "update", UnreachableError("no network"))
    fail(state, "calibrate", StateError("full"))
    with remembering(state, "calibrate"):
        pass
    assert [e.command for e in last_errors(state)] == ["update"]
    with remembering(state, "update"):
        pass
    assert last_errors(state) == ()


def test_a_calibration_supersedes_a_check_and_a_check_no_calibration(state):
    fail(state, "check", CompilerError("none"))
    fail(state, "calibrate", CompilerError("none"))
    with remembering(state, "check"):
        pass
    assert [e.command for e in last_errors(state)] == ["calibrate"]
    fail(state, "check", CompilerError("none"))
    with remembering(state, "calibrate"):
        pass
    assert last_errors(state) == ()


def test_several_are_forgotten_at_once_and_others_are_kept(state):
    for command in ("calibrate", "check", "update"):
        fail(state, command, StateError("full"))
    assert has_errors(state, "calibrate", "check")
    forget(state, "calibrate", "check", "never-heard-of")
    assert [e.command for e in last_errors(state)] == ["update"]
    assert not has_errors(state, "calibrate", "check")
    assert has_errors(state, "check", "update")


def test_to_forget_what_is_not_known_writes_nothing(state, tmp_path):
    fail(state, "update", UnreachableError("no network"))
    written = (tmp_path / "s" / "state.sqlite").stat().st_mtime_ns
    forget(state, "calibrate", "check")
    assert (tmp_path / "s" / "state.sqlite").stat().st_mtime_ns == written


def test_a_machine_without_errors_has_none(state):
    assert not has_errors(state, "calibrate", "check")


@pytest.mark.parametrize(
    "error", [BusyError("busy"), StoppedError("stopped"), InputError("--report x")]
)
def test_being_busy_or_stopped_or_a_slip_is_no_error_and_no_success(state, error):
    fail(state, "update", UnreachableError("no network"))
    fail(state, "update", error)
    assert [e.message for e in last_errors(state)] == ["no network"]


def test_the_same_error_again_is_not_written_again(state, tmp_path):
    fail(state, "update", UnreachableError("no network"))
    before = state.fact(FACT)
    written = (tmp_path / "s" / "state.sqlite").stat().st_mtime_ns
    fail(state, "update", UnreachableError("no network"))
    assert state.fact(FACT) == before
    assert (tmp_path / "s" / "state.sqlite").stat().st_mtime_ns == written
    fail(state, "update", UnreachableError("another server"))
    assert [e.message for e in last_errors(state)] == ["another server"]


def test_success_without_an_error_before_it_writes_nothing(state, tmp_path):
    written = (tmp_path / "s" / "state.sqlite").stat().st_mtime_ns
    with remembering(state, "update"):
        pass
    assert (tmp_path / "s" / "state.sqlite").stat().st_mtime_ns == written


def test_the_error_itself_is_raised_where_it_cannot_be_remembered(tmp_path):
    with (
        open_state(tmp_path / "s"),
        read_state(tmp_path / "s") as read_only,
        pytest.raises(AgentError, match="no network"),
        remembering(read_only, "update"),
    ):
        raise UnreachableError("no network")


@pytest.mark.parametrize(
    "body", [{"update": 3}, {"update": {"message": "x"}}, {"update": {"since": "soon"}}]
)
def test_what_another_agent_wrote_in_another_form_is_passed_over(state, body):
    state.remember(FACT, body)
    assert last_errors(state) == ()
