"""`agent notify`: a site's own command is told of what somebody has to do something about, once."""

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from agent.errors import UntrustedError
from agent.report.flow import RETRY
from agent.state.last_error import remembering
from agent.state.state import open_state
from tests.conftest import agent, environment, valid
from tests.other_user import NOBODY, needs_root
from tests.own_mounts import run_with_mounts

TELLS = """#!/bin/sh
cat >> {told}
printf '%s\\n' "$AGENT_PROBLEM" >> {told}.text
{then}
"""


@pytest.fixture
def told(tmp_path):
    return tmp_path / "told.json"


@pytest.fixture
def site(tmp_path, told):
    """A function that has a command told of problems; gives the settings that name it."""

    def make(then=""):
        command = tmp_path / "tell me"
        command.write_text(TELLS.format(told=told, then=then))
        command.chmod(0o755)
        return {"AGENT_ON_PROBLEM": f"'{command}' operations"}

    return make


@pytest.fixture
def state(tmp_path):
    """A state whose last update was refused."""
    refuse(tmp_path / "state", "the root is another centre's")
    return tmp_path / "state"


def refuse(directory, words):
    with (
        open_state(directory) as state,
        pytest.raises(UntrustedError),
        remembering(state, "update"),
    ):
        raise UntrustedError(words, "Tell the centre.")


def notify(state, settings, *more):
    ran = agent("notify", "--json", *more, "--state-dir", state, **settings)
    assert "Traceback" not in ran.err
    return ran


def problems_told(told):
    return json.loads(told.read_text())["problems"] if told.exists() else []


def test_a_new_problem_is_given_to_the_sites_command_with_what_to_do(state, site, told):
    ran = notify(state, site())
    assert ran.code == 0, ran.err
    body = valid(ran.json, "notify")
    assert body["outcome"] == "told"
    [found] = [p for p in problems_told(told) if p["check"] == "last error"]
    assert "the root is another centre's" in found["message"]
    assert found["advice"] == "Tell the centre."
    assert "the root is another centre's" in Path(f"{told}.text").read_text()


def test_what_was_told_is_not_told_again_while_it_lasts(state, site, told):
    assert notify(state, site()).code == 0
    told.unlink()
    ran = notify(state, site())
    assert (ran.code, valid(ran.json, "notify")["outcome"]) == (7, "nothing")
    assert not told.exists()


def test_a_second_problem_is_told_alone(state, site, told):
    notify(state, site())
    told.unlink()
    (state / "lock").unlink(missing_ok=True)
    (state / "lock").mkdir()
    notify(state, site())
    assert [p["check"] for p in problems_told(told)] == ["permissions"]


def test_what_could_not_be_told_is_told_the_next_time(state, site, told):
    ran = notify(state, site("exit 3"))
    assert ran.code == 9
    assert "ended with status 3" in ran.json["error"]["message"]
    told.unlink()
    assert notify(state, site()).code == 0
    assert problems_told(told)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(state, site, told, tmp_path):
    left = tmp_path / "left"
    settings = site(f"sleep 600 & echo $! > {left}; wait")
    first = "from agent.doctor import notify; notify.LIMIT_S = 0.5"
    ran = agent("notify", "--json", "--state-dir", state, first=first, **settings)
    assert ran.code == 9, ran.err
    assert "did not end within" in ran.json["error"]["message"]
    with pytest.raises(ProcessLookupError):
        gone(int(left.read_text()))


def gone(process):
    """Raises once there is no such process any more."""
    for _ in range(1000):
        os.kill(process, 0)
        time.sleep(0.01)


def test_a_trial_tells_something_made_up_and_remembers_nothing(tmp_path, site, told):
    ran = notify(tmp_path / "none", site(), "--test")
    assert (ran.code, valid(ran.json, "notify")["outcome"]) == (0, "tried")
    assert json.loads(told.read_text())["trial"] is True
    assert not (tmp_path / "none").exists()


def test_without_a_command_nobody_is_told_and_a_trial_says_how_to_set_one(state):
    assert notify(state, {}).code == 7
    ran = notify(state, {}, "--test")
    assert ran.code == 2
    assert "on_problem" in ran.json["error"]["message"]


@pytest.mark.parametrize("wrong", ["tell", "~/tell", "'/bin/tell", " "])
def test_a_command_is_named_by_its_whole_path(state, wrong):
    ran = notify(state, {"AGENT_ON_PROBLEM": wrong}, "--test")
    assert ran.code == 2
    assert "AGENT_ON_PROBLEM" in ran.json["error"]["message"]


def test_no_shell_reads_the_command(state, site, told, tmp_path):
    settings = {"AGENT_ON_PROBLEM": f"{site()['AGENT_ON_PROBLEM']} '; touch {tmp_path}/owned'"}
    assert notify(state, settings).code == 0
    assert not (tmp_path / "owned").exists()


def test_words_from_outside_are_text_in_the_environment(tmp_path, site, told):
    refuse(tmp_path / "s", "evil\x00\x1b[31m$(touch owned)\ud800")
    ran = notify(tmp_path / "s", site())
    assert ran.code == 0, ran.err
    text = Path(f"{told}.text").read_text()
    assert "$(touch owned)" in text
    assert "\x1b" not in text


FULL = """
import os, pathlib, sys
from agent.doctor.told import ToldProblems

place = pathlib.Path(sys.argv[1])
ToldProblems.read(place, {}).after([], ["before"], 1.0).write()
with open(place / "ballast", "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
ToldProblems.read(place, {}).after(["before"], ["since"], 2.0).write()
assert dict(ToldProblems.read(place, {}).at) == {"before": 1.0, "since": 2.0}
"""
READ_ONLY = """
import os, pathlib, sys
from agent.doctor.told import ToldProblems

runtime = {"RUNTIME_DIRECTORY": sys.argv[2]}
ToldProblems.read(pathlib.Path(sys.argv[1]), runtime).after([], ["since"], 2.0).write()
assert dict(ToldProblems.read(pathlib.Path(sys.argv[1]), runtime).at) == {"since": 2.0}
"""


@pytest.mark.parametrize(
    ("options", "script"), [("size=64k", FULL), ("ro", READ_ONLY)], ids=["full", "read-only"]
)
def test_what_was_told_is_known_on_a_disk_that_takes_nothing_more(tmp_path, options, script):
    places = (tmp_path / "state", tmp_path / "runtime")
    for place in places:
        place.mkdir()
    mounts = f"mount -t tmpfs -o {options} tmpfs {places[0]}"
    asked = shlex.join([sys.executable, "-c", script, *map(str, places)])
    ran = run_with_mounts(mounts, asked, environment(), Path(__file__).parents[3])
    assert ran.returncode == 0, ran.stderr


def test_a_report_that_the_centre_does_not_take_needs_a_person(state, site, told):
    settings = {**site(), "AGENT_REPORT": "yes", "AGENT_REPORT_TO": "https://centre.example"}
    with open_state(state) as opened:
        opened.remember(RETRY, {"failures": 1, "not_before": 0.0, "why": "denied"})
    notify(state, settings)
    [found] = [p for p in problems_told(told) if p["check"] == "reporting"]
    assert "does not let this machine report" in found["message"]


@needs_root
def test_root_runs_the_command_with_the_rights_of_the_states_owner(open_place, as_root):
    own = open_place / "nobodys"
    refuse(own, "refused")
    for path in (own, *own.iterdir()):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    command = open_place / "tell"
    command.write_text(f"#!/bin/sh\nid -u > {own}/who\n")
    command.chmod(0o755)
    ran = as_root("notify", "--state-dir", own, AGENT_ON_PROBLEM=str(command))
    assert ran.code == 0, ran.err
    assert int((own / "who").read_text()) == NOBODY.pw_uid


def test_a_program_that_others_may_change_is_not_run(state, site, told, tmp_path):
    settings = site()
    (tmp_path / "tell me").chmod(0o777)
    ran = notify(state, settings)
    assert ran.code == 2, ran.err
    assert "on_problem" in ran.json["error"]["message"]
    assert not told.exists()


def test_a_command_that_cannot_be_run_is_found_before_there_is_something_to_tell(tmp_path, site):
    settings = site()
    (tmp_path / "tell me").chmod(0o644)
    for wrong, word in ((settings["AGENT_ON_PROBLEM"], "chmod a+x"), ("/no/such", "No such file")):
        ran = agent("notify", "--state-dir", tmp_path / "new", AGENT_ON_PROBLEM=wrong)
        assert ran.code == 2, ran.err
        assert word in ran.err
        looked = agent("doctor", "--state-dir", tmp_path / "new", "--json", AGENT_ON_PROBLEM=wrong)
        (telling,) = [c for c in looked.json["checks"] if c["check"] == "telling"]
        assert telling["level"] == "problem"
