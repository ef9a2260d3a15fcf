"""Who may switch reporting on: a no stands, whoever said it."""

import pytest

from agent.errors import InputError
from agent.report.consent import Consent, consent_of, give_consent, weighed, withdraw_consent
from agent.settings.config import Config
from agent.settings.resolve import load_config
from agent.state.state import open_state


@pytest.mark.parametrize(
    ("site", "machine", "on", "by"),
    [
        (None, None, False, "nobody"),
        (None, True, True, "machine"),
        (None, False, False, "machine"),
        (True, None, True, "site"),
        (True, True, True, "machine"),
        (True, False, False, "machine"),
        (False, None, False, "site"),
        (False, True, False, "site"),
        (False, False, False, "site"),
    ],
)
def test_the_stricter_wins_and_silence_is_a_no(site, machine, on, by):
    assert weighed(site, None if machine is None else {"on": machine}) == Consent(on, by)


def test_a_site_that_says_no_cannot_be_overruled(tmp_path):
    config = Config(tmp_path, report=False)
    with open_state(tmp_path) as state:
        with pytest.raises(InputError, match="by the configuration of this site"):
            give_consent(config, state)
        give_consent(Config(tmp_path), state)  # the site says nothing yet
        assert not consent_of(config, state).on


def test_switching_off_drops_what_waits(tmp_path):
    with open_state(tmp_path) as state:
        give_consent(Config(tmp_path), state)
        state.spool([("a", b"1"), ("b", b"2")], 1.0)
        assert withdraw_consent(state) == 2
        assert state.spooled() == ()
        assert not consent_of(Config(tmp_path, report=True), state).on


@pytest.mark.parametrize("no", ["false", '"off"', '"no"'])
def test_a_no_in_an_earlier_file_is_not_undone_by_a_later_one_or_the_environment(tmp_path, no):
    home = tmp_path / "calibration-agent"
    (home / "conf.d").mkdir(parents=True)
    (home / "config.toml").write_text(f"report = {no}\n")
    (home / "conf.d" / "90-mine.toml").write_text("report = true\n")
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path), "AGENT_REPORT": "on"}
    assert load_config(environment, {}).report is False


@pytest.mark.parametrize(("written", "read"), [("on", True), ("no", False), ("", None)])
def test_the_setting_has_three_values_one_of_them_silence(written, read):
    assert load_config({"AGENT_CONFIG": "", "AGENT_REPORT": written}, {}).report is read
