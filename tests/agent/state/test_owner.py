"""Root acts as the owner of the state directory; run as root, on real users and files."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from agent.state.owner import act_as_owner
from agent.system.private import name_of
from tests import other_user
from tests.conftest import agent, environment
from tests.other_user import NOBODY, needs_root

pytestmark = needs_root
SAYS = """
import json, os, sys
from pathlib import Path
from agent.errors import AgentError
from agent.state.owner import act_as_owner
try:
    name = act_as_owner(Path(sys.argv[1]))
except AgentError as error:
    name = error.message
try:
    os.setresuid(0, 0, 0)
    back = os.geteuid() == 0
except OSError:
    back = False
print(json.dumps({
    "name": name, "ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(),
    "home": os.environ.get("HOME"), "temporary": os.environ.get("TMPDIR"), "back": back,
}))
"""


@pytest.fixture
def theirs(open_place):
    """A state directory of another user's."""
    path = open_place / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    return path


def not_theirs(path):
    """Everything below ``path`` that another user owns."""
    return [p for p in path.rglob("*") if p.lstat().st_uid != NOBODY.pw_uid]


def acting(place, directory, **env):
    prefix = other_user.readable(place)
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SAYS, directory],
        capture_output=True,
        text=True,
        check=True,
        env=environment(**env),
    )
    return json.loads(done.stdout)


def test_root_becomes_the_owner_for_good(open_place, theirs):
    found = acting(open_place, theirs)
    assert found["name"] == "nobody"
    assert found["ids"] == [NOBODY.pw_uid] * 3 + [NOBODY.pw_gid] * 3
    assert 0 not in found["groups"]
    assert found["home"] == NOBODY.pw_dir
    assert found["back"] is False


def test_an_owner_without_a_name_is_become_too(open_place, theirs):
    os.chown(theirs, 54_321, 54_322)
    found = acting(open_place, theirs)
    assert found["name"] == "#54321" == name_of(54_321)
    assert found["ids"] == [54_321] * 3 + [54_322] * 3
    assert found["groups"] == [54_322]


def test_a_temporary_directory_of_roots_own_is_not_handed_on(open_place, theirs):
    (open_place / "roots").mkdir(mode=0o700)
    assert acting(open_place, theirs, TMPDIR=str(open_place / "roots"))["temporary"] is None
    assert acting(open_place, theirs, TMPDIR="/tmp")["temporary"] == "/tmp"


def test_root_stays_root_where_the_state_is_its_own_or_not_there(open_place):
    assert act_as_owner(open_place) is None
    assert act_as_owner(open_place / "none") is None
    assert os.geteuid() == 0


def test_an_agent_that_the_owner_cannot_read_is_refused_before_anything_is_done(theirs):
    if other_user._hidden_from_others() is None:
        pytest.skip("the interpreter of these tests can be read by everybody")
    ran = agent("calibrate", "--state-dir", theirs)
    assert ran.code == 2
    assert "belongs to the user nobody, who may not read" in ran.err
    assert "hint: Install the agent where every user can read it" in ran.err
    assert list(theirs.iterdir()) == []


def test_a_calibration_by_root_is_the_owners_to_the_last_file(
    theirs, as_root, nobody, tiny_bundle, open_place
):
    bundle = shutil.copytree(tiny_bundle, open_place / "bundle")
    where = ("--bundle", bundle, "--state-dir", theirs)
    ran = as_root("calibrate", "--budget", "2s", *where)
    assert ran.code == 0, ran.err
    assert f"acting as the user nobody, whose state {theirs} is" in ran.err
    assert (theirs / "state.sqlite").exists()
    assert not_theirs(theirs) == []
    again = nobody("calibrate", "--refit", *where)
    assert again.code == 0, again.err


def test_measuring_by_root_leaves_nothing_of_roots(theirs, as_root, gemm, open_place):
    file = shutil.copy(gemm, open_place)
    sizes = [f"--size={n}=64" for n in ("ni", "nj", "nk")]
    more = ("--schedule", "interchange j k", "--state-dir", theirs)
    ran = as_root("measure", file, *sizes, *more, AGENT_BUDGET="2s")
    assert ran.code == 0, ran.err
    assert not_theirs(theirs) == []
    assert any(theirs.rglob("*"))


@pytest.mark.parametrize("command", ["status", "doctor", "self-test"])
def test_looking_by_root_leaves_nothing_of_roots(theirs, as_root, command):
    ran = as_root(command, "--state-dir", theirs)
    assert ran.code in (0, 9), ran.err
    assert not_theirs(theirs) == []


JOBS = ("calibrate --if-due --when-quiet", "check", "report", "report --show", "status", "history")


@pytest.mark.parametrize(
    ("words", "mode"), [*((words, 0o700) for words in JOBS), (JOBS[0], 0o755), ("status", 0o755)]
)
def test_a_job_run_by_hand_as_another_user_says_whose_state_it_is_and_harms_nothing(
    calibrated, open_place, nobody, words, mode
):
    state = shutil.copytree(calibrated, open_place / "state")
    state.chmod(mode)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_uid) for p in (state, *state.rglob("*"))}
    ran = nobody(*words.split(), "--state-dir", state)
    assert "Traceback" not in ran.err
    assert ran.code == 2, ran.err
    assert "sudo" in ran.err
    assert {
        p: (p.stat().st_mtime_ns, p.stat().st_uid) for p in (state, *state.rglob("*"))
    } == before


def test_the_trace_of_a_bug_is_the_owners_too(open_place, theirs):
    code = (
        "import sys; from agent.terminal.crash import write_log;"
        "environment = {'AGENT_CONFIG': '', 'AGENT_STATE_DIR': sys.argv[1]};"
        "print(write_log(ValueError('x'), environment, ['agent']))"
    )
    command = [*other_user.readable(open_place), sys.executable, "-c", code, theirs]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(theirs) in done.stdout
    assert len(list(theirs.glob("crash-*.log"))) == 1
    assert not_theirs(theirs) == []
