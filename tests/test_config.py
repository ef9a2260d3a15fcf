import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import DEFAULT_BUDGET_S, load, parse_duration, parse_sizes
from agent.errors import AgentError, ConfigError, InputError

NO_FILE = {"AGENT_CONFIG": "", "HOME": "/home/p"}


def test_the_default_state_directory_is_xdgs():
    assert str(load(NO_FILE, {}).state_dir) == "/home/p/.local/state/calibration-agent"


def test_xdg_state_home_moves_it():
    found = load({**NO_FILE, "XDG_STATE_HOME": "/x"}, {})
    assert str(found.state_dir) == "/x/calibration-agent"


def test_a_relative_xdg_directory_is_ignored():
    found = load({**NO_FILE, "XDG_STATE_HOME": "x"}, {})
    assert str(found.state_dir) == "/home/p/.local/state/calibration-agent"


def test_systemds_directory_beats_xdg_and_only_its_first_is_used():
    found = load({**NO_FILE, "XDG_STATE_HOME": "/x", "STATE_DIRECTORY": "/a:/b"}, {})
    assert str(found.state_dir) == "/a"


def test_our_own_variable_beats_systemds():
    found = load({**NO_FILE, "AGENT_STATE_DIR": "/mine", "STATE_DIRECTORY": "/a"}, {})
    assert str(found.state_dir) == "/mine"


def test_a_flag_beats_everything():
    found = load({**NO_FILE, "AGENT_STATE_DIR": "/mine"}, {"state_dir": "/flag"})
    assert str(found.state_dir) == "/flag"


def test_a_flag_not_given_changes_nothing():
    found = load({**NO_FILE, "AGENT_BUDGET": "20s"}, {"budget": None})
    assert found.budget_s == 20.0


def test_without_any_setting_the_defaults_hold():
    found = load(NO_FILE, {})
    assert (found.bundle, found.compiler, found.budget_s) == (None, None, DEFAULT_BUDGET_S)


def test_a_persons_file_is_read(tmp_path):
    folder = tmp_path / "calibration-agent"
    folder.mkdir()
    (folder / "config.toml").write_text('compiler = "clang"\nbudget = "1m30s"\n')
    found = load({"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/home/p"}, {})
    assert (found.compiler, found.budget_s) == ("clang", 90.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budgte = '20s'", "budgte"),
        ("budget = 20", "not text"),
        ("budget = ", "TOML"),
        ("[a]\nb = 1", "unknown setting"),
        ("x = '" + "y" * 70_000 + "'", "larger"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path, text, words):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load({"AGENT_CONFIG": str(path)}, {})


def test_a_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load({"AGENT_CONFIG": str(tmp_path / "none.toml")}, {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20", 20), ("20s", 20), ("2m", 120), ("1m30s", 90), ("1h", 3600), ("2.5s", 2.5), (" 9s ", 9)],
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "-5s", "1s2", "1.2.3s", "1e3", "0", "2h", "²s"])
def test_other_durations_are_refused(text):
    with pytest.raises(InputError, match="--budget"):
        parse_duration(text)


@given(st.text(max_size=60))
def test_any_text_is_a_duration_or_an_error_of_ours(text):
    with contextlib.suppress(AgentError):
        assert parse_duration(text) > 0


def test_sizes_are_read():
    assert parse_sizes(["ni=512", "nj = 64"]) == {"ni": 512, "nj": 64}


@pytest.mark.parametrize("text", ["n", "n=", "=1", "n=x", "n=-1", "n=0", "n=1.5", "1=1", "n=³"])
def test_other_sizes_are_refused(text):
    with pytest.raises(InputError, match="--size") as caught:
        parse_sizes([text])
    assert caught.value.hint == "Write --size ni=512."


def test_a_size_given_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        parse_sizes(["n=1", "n=2"])
