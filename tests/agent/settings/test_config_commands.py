"""`agent config` through the real console script."""

import pytest

from agent.settings.answers import mistakes_found
from agent.settings.config import SETTINGS
from agent.settings.resolve import resolve_config
from tests.conftest import agent, valid
from tests.other_user import needs_root


@pytest.fixture
def config_file(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


def test_show_has_every_setting_with_its_origin_and_default(config_file, tmp_path):
    path = config_file('# ours\nbudget = "1m"\n')
    ran = agent(
        *("config", "show", "--json", "--state-dir", tmp_path),
        AGENT_CONFIG=str(path),
        AGENT_CHANNEL="pilot",
    )
    body = valid(ran.json, "config-show")
    assert ran.code == 0
    by_name = {s["name"]: s for s in body["settings"]}
    assert list(by_name) == list(SETTINGS)
    assert by_name["budget"]["value"] == "1m"
    assert by_name["budget"]["default"] == "45s"
    assert by_name["budget"]["origin"] == {"kind": "file", "name": str(path), "line": 2}
    assert by_name["channel"]["origin"]["name"] == "AGENT_CHANNEL"
    assert by_name["state_dir"]["origin"]["name"] == "--state-dir"
    assert by_name["max_age"]["origin"]["kind"] == "default"
    assert body["files"] == [str(path)]


def test_show_in_words_names_the_line(config_file):
    path = config_file('budget = "1m"\n')
    ran = agent("config", "show", AGENT_CONFIG=str(path), COLUMNS="250")
    assert f"{path}:1" in ran.out
    assert "45s" in ran.out


def test_show_works_where_the_configuration_is_broken(config_file):
    ran = agent("config", "show", AGENT_CONFIG=str(config_file("budgte = 1\nbudget = 'x'\n")))
    assert ran.code == 0
    assert "unknown setting 'budgte'" in ran.out
    assert "not a duration" in ran.out


def test_passwords_of_a_repository_are_not_shown(config_file):
    path = config_file('repository = "https://me:hunter2@example.org/bundles"\n')
    ran = agent("config", "show", "--json", AGENT_CONFIG=str(path))
    assert "hunter2" not in ran.out + ran.err
    assert "https://...@example.org/bundles" in ran.out


def test_check_finds_no_mistake_where_there_is_none(config_file):
    ran = agent("config", "check", AGENT_CONFIG=str(config_file('budget = "1m"\n')))
    assert ran.code == 0
    assert "No mistakes." in ran.out


def test_check_finds_all_mistakes_at_once(config_file):
    path = config_file('budgte = "1m"\nchannel = "pilto"\n')
    ran = agent("config", "check", "--json", AGENT_CONFIG=str(path), AGENT_MAX_BUSY="5")
    body = valid(ran.json, "config-check")
    assert ran.code == 9
    assert len(body["problems"]) == 3
    assert body["problems"][0]["message"].startswith(f"{path}:1: ")
    assert body["problems"][0]["hint"].startswith("Did you mean budget?")
    text = agent("config", "check", AGENT_CONFIG=str(path))
    assert text.code == 9
    assert text.out.count("problem:") == text.out.count("hint:") == 2


def test_check_looks_at_a_file_that_is_not_in_force_yet(config_file):
    path = config_file("budget = 'x'\n")
    assert agent("config", "check").code == 0
    ran = agent("config", "check", path)
    assert ran.code == 9
    assert f"{path}:1" in ran.out


@pytest.mark.parametrize("name", ["repository", "report_to"])
@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("http://bundles.example.org/r", 9),
        ("HTTP://192.0.2.1/", 9),
        ("https://bundles.example.org/r", 0),
        ("http://localhost:8080/", 0),
        ("http://[::1]/", 0),
    ],
)
def test_check_finds_addresses_that_would_be_refused_when_used(config_file, name, address, code):
    ran = agent("config", "check", config_file(f"{name} = '{address}'\n"))
    assert (ran.code, "http://, which" in ran.out) == (code, code == 9)


def test_check_finds_settings_that_contradict_each_other(config_file):
    ran = agent("config", "check", config_file("report_client_key = '/k.pem'\n"))
    assert ran.code == 9
    assert "without report_client_cert" in ran.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("report = true\n", "report_to says no address"),
        ("quiet_wait = '55m'\n", "TimeoutStartSec=2h"),
        ("quiet_wait = '3h'\nbudget = '30m'\n", "TimeoutStartSec=4h"),
        ("quiet_wait = '30m'\nbudget = '30m'\n", "quiet_wait (30m) and budget (30m)"),
    ],
)
def test_check_notes_what_may_be_meant_so(config_file, text, words):
    ran = agent("config", "check", "--json", config_file(text))
    assert ran.code == 0
    (note,) = valid(ran.json, "config-check")["notes"]
    assert words in note


def test_check_has_no_note_where_systemd_gives_the_job_time_enough(config_file):
    ran = agent("config", "check", "--json", config_file("quiet_wait = '54m'\nbudget = '1m'\n"))
    assert ran.json["notes"] == []


def test_a_variable_that_is_nearly_one_of_ours_is_noted_and_others_are_not():
    found = {"AGENT_BUDGTE": "1m", "AGENT_SMITH": "x", "AGENT_CONFIG": "", "HOME": "/h"}
    body = mistakes_found(resolve_config(found, {}), found)
    assert body["notes"] == ["the variable AGENT_BUDGTE is not used. Did you mean budget?"]
    assert body["problems"] == []


@needs_root
def test_a_file_that_this_user_may_not_read_is_named_with_the_way_out(open_place, nobody):
    path = open_place / "config.toml"
    path.write_text('budget = "1m"\n')
    path.chmod(0o600)
    ran = nobody("status", AGENT_CONFIG=str(path))
    assert ran.code == 2
    assert f"error: {path} cannot be read: Permission denied" in ran.err
    assert "chmod a+rX" in ran.err


@pytest.mark.parametrize("words", [("config",), ("config", "show"), ("config", "check")])
def test_help_of_config_has_an_example(words):
    ran = agent(*words, "--help")
    assert ran.code == 0
    assert len(words) == 1 or f"Example: agent {' '.join(words)}" in " ".join(ran.out.split())
