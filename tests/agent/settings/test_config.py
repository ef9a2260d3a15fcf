import contextlib
import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError, ConfigError, InputError
from agent.settings import files as config_files
from agent.settings import resolve as resolving
from agent.settings.config import SETTINGS, Config
from agent.settings.resolve import load_config, resolve_config
from agent.settings.values import (
    in_units,
    parse_duration,
    parse_number,
    parse_sizes,
    parse_switch,
)

NO_FILE = {"AGENT_CONFIG": "", "HOME": "/home/p"}


@pytest.fixture(autouse=True)
def _no_service_here(monkeypatch, tmp_path):
    """Whatever is installed on the machine that runs the tests."""
    monkeypatch.setattr(resolving, "SYSTEM_STATE", tmp_path / "no-service")


@pytest.fixture
def site(monkeypatch, tmp_path):
    """The system's folder of configuration, empty, and the environment that leads to it."""
    folder = tmp_path / "etc"
    (folder / "conf.d").mkdir(parents=True)
    monkeypatch.setattr(config_files, "SYSTEM_FOLDER", folder)
    return folder, {"HOME": str(tmp_path / "home")}


def one_file(tmp_path, text):
    """The environment of a single configuration file."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    return {**NO_FILE, "AGENT_CONFIG": str(path)}


def test_the_default_state_directory_is_xdgs():
    assert str(load_config(NO_FILE, {}).state_dir) == "/home/p/.local/state/calibration-agent"


def test_xdg_state_home_moves_it():
    found = load_config({**NO_FILE, "XDG_STATE_HOME": "/x"}, {})
    assert str(found.state_dir) == "/x/calibration-agent"


def test_a_relative_xdg_directory_is_ignored():
    found = load_config({**NO_FILE, "XDG_STATE_HOME": "x"}, {})
    assert str(found.state_dir) == "/home/p/.local/state/calibration-agent"


def test_systemds_directory_beats_xdg_and_only_its_first_is_used():
    found = load_config({**NO_FILE, "XDG_STATE_HOME": "/x", "STATE_DIRECTORY": "/a:/b"}, {})
    assert str(found.state_dir) == "/a"


def test_our_own_variable_beats_systemds():
    found = load_config({**NO_FILE, "AGENT_STATE_DIR": "/mine", "STATE_DIRECTORY": "/a"}, {})
    assert str(found.state_dir) == "/mine"


def test_a_flag_beats_everything():
    found = load_config({**NO_FILE, "AGENT_STATE_DIR": "/mine"}, {"state_dir": "/flag"})
    assert str(found.state_dir) == "/flag"


def test_a_flag_not_given_changes_nothing():
    found = load_config({**NO_FILE, "AGENT_BUDGET": "20s"}, {"budget": None})
    assert found.budget_s == 20.0


def test_without_any_setting_the_defaults_hold():
    found = load_config(NO_FILE, {})
    assert (found.bundle, found.compiler, found.budget_s) == (None, None, 45.0)


def test_a_persons_file_is_read(tmp_path):
    folder = tmp_path / "calibration-agent"
    folder.mkdir()
    (folder / "config.toml").write_text('compiler = "clang"\nbudget = "1m30s"\n')
    found = load_config({"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/home/p"}, {})
    assert (found.compiler, found.budget_s) == ("clang", 90.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budgte = '20s'", "budgte"),
        ("budget = true", "budget is not a duration from 2s to 1h"),
        ("max_age = true", "max_age is not a duration"),
        ("on_battery = 1", "on_battery is not yes or no"),
        ("max_busy = true", "max_busy is not a number from 0 to 1"),
        ("compiler = ['gcc']", "compiler is not a name, a path, or prebuilt"),
        ("channel = 3", "channel is not pilot or stable"),
        ("quiet_wait = -5", "'-5' is not between 1s and 1d"),
        ("quiet_wait = '-5m'", "'-5m' is not between 1s and 1d"),
        ("max_busy = 2", "not a number from 0 to 1"),
        ("max_busy = nan", "not a number from 0 to 1"),
        ("budget = inf", "not a duration"),
        ("on_battery = 'maybe'", "neither yes nor no"),
        ("state_dir = 'state'", "relative"),
        ('bundle = "/a\\u0000b"', "control character"),
        ("max_age = '5m'", "not between 1h and 3650d"),
        ("budget = ", "TOML"),
        ("[a]\nb = 1", "unknown setting"),
        ("x = '" + "y" * 70_000 + "'", "larger"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path, text, words):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config({"AGENT_CONFIG": str(path)}, {})


def test_a_wrong_duration_is_told_its_range(tmp_path):
    with pytest.raises(ConfigError, match="not a duration") as refused:
        load_config(one_file(tmp_path, "quiet_wait = 'soon'"), {})
    assert refused.value.hint == "Write it as 20s, 2m, 1m30s, 1h or 30d; between 1s and 1d."


def test_a_wrong_switch_is_told_how_to_write_it(tmp_path):
    with pytest.raises(ConfigError) as refused:
        load_config(one_file(tmp_path, "on_battery = 1"), {})
    assert refused.value.hint == "Write on_battery = true or false."


def test_a_file_that_begins_with_a_mark_of_utf_8_is_read(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b'\xef\xbb\xbfbudget = "20s"\n')
    found = resolve_config({**NO_FILE, "AGENT_CONFIG": str(path)}, {})
    assert found.problems == ()
    assert (found.config.budget_s, found.given["budget"].line) == (20.0, 1)


def test_a_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_config({"AGENT_CONFIG": str(tmp_path / "none.toml")}, {})


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
    assert "--size ni=512" in caught.value.hint


def test_a_size_given_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        parse_sizes(["n=1", "n=2"])


def test_defaults_of_the_table_are_those_of_the_class(tmp_path):
    assert load_config(NO_FILE, {"state_dir": "/s"}) == Config(Path("/s"))


def test_every_field_of_the_class_can_be_set():
    assert {s.field for s in SETTINGS.values()} == {f.name for f in dataclasses.fields(Config)}


def test_numbers_and_booleans_are_natural_where_they_are_meant(tmp_path):
    text = "budget = 20\nmax_busy = 0.5\non_battery = true\nmax_temperature = 70\nreport = false\n"
    found = load_config(one_file(tmp_path, text), {})
    assert (found.budget_s, found.max_busy, found.max_temperature) == (20.0, 0.5, 70.0)
    assert (found.on_battery, found.report) == (True, False)


def test_report_is_undecided_until_somebody_says(tmp_path):
    assert load_config(NO_FILE, {}).report is None
    assert load_config({**NO_FILE, "AGENT_REPORT": "on"}, {}).report is True


def test_an_empty_text_goes_back_to_the_default(site):
    folder, environment = site
    (folder / "config.toml").write_text('compiler = "clang"\nbudget = "20s"\n')
    (folder / "conf.d" / "a.toml").write_text('compiler = ""\nbudget = ""\n')
    found = load_config(environment, {})
    assert (found.compiler, found.budget_s) == (None, 45.0)


def test_drop_ins_follow_the_file_in_the_order_of_their_names(site):
    folder, environment = site
    (folder / "config.toml").write_text('budget = "10s"\ncompiler = "gcc"\nchannel = "pilot"\n')
    (folder / "conf.d" / "10-a.toml").write_text('budget = "20s"\ncompiler = "clang"\n')
    (folder / "conf.d" / "20-b.toml").write_text('budget = "30s"\n')
    found = load_config(environment, {})
    assert (found.budget_s, found.compiler, found.channel) == (30.0, "clang", "pilot")


def test_a_persons_files_come_after_the_systems(site):
    folder, environment = site
    (folder / "conf.d" / "z.toml").write_text('budget = "20s"\n')
    own = Path(environment["HOME"]) / ".config" / "calibration-agent" / "conf.d"
    own.mkdir(parents=True)
    (own / "a.toml").write_text('budget = "30s"\n')
    assert load_config(environment, {}).budget_s == 30.0


def test_what_editors_and_packages_leave_beside_drop_ins_is_not_read(site):
    folder, environment = site
    for name in ("a.toml~", ".a.toml", "a.toml.dpkg-old", "README"):
        (folder / "conf.d" / name).write_text("not TOML")
    assert load_config(environment, {}).budget_s == 45.0


def test_missing_directories_are_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(config_files, "SYSTEM_FOLDER", tmp_path / "none")
    assert load_config({"HOME": str(tmp_path / "nobody")}, {}).budget_s == 45.0


def test_a_file_where_the_folder_of_drop_ins_should_be(site):
    folder, environment = site
    (folder / "conf.d").rmdir()
    (folder / "conf.d").write_text("")
    with pytest.raises(ConfigError, match=r"conf\.d cannot be read: Not a directory"):
        load_config(environment, {})


def test_more_drop_ins_than_anybody_needs_are_refused(site):
    folder, environment = site
    for number in range(101):
        (folder / "conf.d" / f"{number}.toml").write_text("")
    with pytest.raises(ConfigError, match="more than 100 files"):
        load_config(environment, {})


@pytest.mark.parametrize("name", ["config.toml", "conf.d/10-a.toml"])
def test_an_unknown_key_is_an_error_that_names_file_line_and_what_was_meant(site, name):
    folder, environment = site
    (folder / name).write_text('# ours\n\nbudgte = "20s"\n')
    with pytest.raises(ConfigError, match="unknown setting 'budgte'") as caught:
        load_config(environment, {})
    assert caught.value.message.startswith(f"{folder / name}:3: ")
    assert caught.value.hint.startswith("Did you mean budget? ")


def test_a_wrong_value_names_its_line_its_key_and_what_can_be_written(tmp_path):
    environment = one_file(tmp_path, 'budget = "20s"\nchannel = "pilto"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(environment, {})
    where = f"{environment['AGENT_CONFIG']}:2"
    assert caught.value.message == f"{where}: channel 'pilto' is not pilot or stable"
    assert caught.value.hint == "Did you mean pilot? Set it to pilot or stable."


def test_a_wrong_variable_is_named(tmp_path):
    with pytest.raises(InputError, match="AGENT_BUDGET: budget 'soon' is not a duration"):
        load_config({**NO_FILE, "AGENT_BUDGET": "soon"}, {})


def test_a_wrong_option_is_named_as_it_is_typed():
    with pytest.raises(InputError, match="--budget 'soon'"):
        load_config(NO_FILE, {"budget": "soon"})
    with pytest.raises(InputError, match="--root is given without a value"):
        load_config(NO_FILE, {"trusted_root": ""})


def test_a_mistake_is_one_even_where_it_is_overridden(tmp_path):
    with pytest.raises(ConfigError, match="budget"):
        load_config(
            {**one_file(tmp_path, 'budget = "x"'), "AGENT_BUDGET": "20s"}, {"budget": "30s"}
        )


def test_all_mistakes_are_found_and_what_is_right_counts(site):
    folder, environment = site
    (folder / "config.toml").write_text('budget = "20s"\nmax_age = "x"\nfoo = 1\n')
    (folder / "conf.d" / "a.toml").write_text("broken")
    (folder / "conf.d" / "b.toml").write_text('budget = "y"\nchannel = "pilot"\n')
    found = resolve_config(environment, {})
    assert len(found.problems) == 4
    assert (found.config.budget_s, found.config.channel) == (20.0, "pilot")
    assert found.config.max_age_s == 30 * 86_400


def test_where_a_value_comes_from_is_known(site):
    folder, environment = site
    (folder / "config.toml").write_text('\nbudget = "20s"\nchannel = "pilot"\n')
    found = resolve_config({**environment, "AGENT_CHANNEL": "stable"}, {"repository": "/stick"})
    assert str(found.given["budget"]) == f"{folder / 'config.toml'}:2"
    assert str(found.given["channel"]) == "AGENT_CHANNEL"
    assert str(found.given["repository"]) == "--from"
    assert found.given["max_age"].kind == "default"


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "config.toml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a plain file"):
        load_config({**NO_FILE, "AGENT_CONFIG": str(path)}, {})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = 1\x00", b"[" * 10_000])
def test_bytes_that_are_no_toml_are_refused(tmp_path, content):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load_config({**NO_FILE, "AGENT_CONFIG": str(path)}, {})


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_an_error_of_ours(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("c") / "config.toml"
    path.write_bytes(content)
    with contextlib.suppress(AgentError):
        load_config({**NO_FILE, "AGENT_CONFIG": str(path)}, {})


@given(st.dictionaries(st.sampled_from(list(SETTINGS)), st.text(max_size=40), max_size=4))
def test_any_options_are_a_configuration_or_an_error_of_ours(flags):
    with contextlib.suppress(AgentError):
        load_config(NO_FILE, flags)


def test_roots_default_is_the_services_state_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setattr(resolving, "SYSTEM_STATE", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load_config(NO_FILE, {}).state_dir == tmp_path
    assert load_config({**NO_FILE, "XDG_STATE_HOME": "/x"}, {}).state_dir == Path(
        "/x/calibration-agent"
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert str(load_config(NO_FILE, {}).state_dir) == "/home/p/.local/state/calibration-agent"


@given(st.floats(1, 10**8))
def test_a_duration_in_units_is_read_back(seconds):
    whole = float(int(seconds))
    assert parse_duration(in_units(whole), 1, 10**9) == whole


@pytest.mark.parametrize("text", ["nan", "inf", "", "1,5", "-1", "101", "\u0661"])
def test_other_numbers_are_refused(text):
    with pytest.raises(InputError, match="max_busy"):
        parse_number(text, 0, 100, "max_busy")


def test_switches_are_read_in_every_usual_form():
    assert all(parse_switch(text, "x") for text in ("yes", "On", " true ", "1"))
    assert not any(parse_switch(text, "x") for text in ("no", "OFF", "false", "0"))


@pytest.mark.parametrize("no", ["false", '"off"', '"no"'])
def test_a_no_to_reporting_stands_whatever_comes_after_it(site, no):
    folder, environment = site
    (folder / "config.toml").write_text(f"report = {no}\n")
    (folder / "conf.d" / "a.toml").write_text("report = true\n")
    assert load_config({**environment, "AGENT_REPORT": "yes"}, {}).report is False


def test_what_went_back_to_the_default_says_who_sent_it_there(site):
    folder, environment = site
    (folder / "config.toml").write_text('budget = "20s"\n')
    (folder / "conf.d" / "a.toml").write_text('budget = ""\n')
    given = resolve_config(environment, {}).given["budget"]
    assert (given.value, given.origin) == ("45s", str(folder / "conf.d" / "a.toml"))
