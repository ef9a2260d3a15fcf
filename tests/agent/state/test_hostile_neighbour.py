"""Another user of this machine tries to have code run by root: real users, real attacks."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import other_user
from tests.conftest import SIZES, environment
from tests.other_user import NOBODY, needs_root

pytestmark = needs_root
MEASURE = ("--schedule", "original", *SIZES)
EVIL = "#!/bin/sh\nid -u >> {mark}\nexit 1\n"


def given_to_nobody(path):
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    return path


def made_by_nobody(place, script):
    """Have the other user run a line of the shell."""
    subprocess.run([*other_user.become(), "sh", "-c", script], cwd=place, check=True)


@pytest.fixture
def measure(as_root, gemm, open_place):
    file = shutil.copy(gemm, open_place)
    words = ("measure", file, *MEASURE, "--state-dir")
    return lambda state: as_root(*words, state, AGENT_BUDGET="2s")


def test_root_does_not_use_a_state_directory_that_others_may_write(open_place, measure):
    state = open_place / "state"
    state.mkdir()
    state.chmod(0o777)
    made_by_nobody(state, "mkdir -m 777 cache")
    ran = measure(state)
    assert ran.code == 2, ran.err
    assert "other users may write" in ran.err
    assert f"hint: Look at what is in it, then run `chmod go-w {state}`" in ran.err
    assert list((state / "cache").iterdir()) == []


def test_what_another_user_planted_while_it_was_open_is_refused_afterwards(open_place, measure):
    state = open_place / "state"
    state.mkdir()
    state.chmod(0o777)
    made_by_nobody(state, "mkdir -m 777 cache")
    state.chmod(0o700)
    ran = measure(state)
    assert ran.code == 2, ran.err
    assert f"{state / 'cache'} belongs to the user nobody" in ran.err
    assert list((state / "cache").iterdir()) == []


def test_compiled_code_that_another_user_could_have_written_is_made_again(open_place, measure):
    state, mark = open_place / "state", open_place / "mark"
    assert measure(state).code == 0
    for number, path in enumerate(p for p in (state / "cache").rglob("*") if p.is_file()):
        path.write_text(EVIL.format(mark=mark))
        path.chmod(0o777)
        if number % 2:
            given_to_nobody(path)
    ran = measure(state)
    assert ran.code == 0, ran.err
    assert not mark.exists()


def test_a_cache_that_others_may_write_is_not_used(open_place, measure):
    state = open_place / "state"
    state.mkdir(mode=0o700)
    (state / "cache").mkdir()
    (state / "cache").chmod(0o777)
    ran = measure(state)
    assert ran.code == 2, ran.err
    assert f"other users may write in {state / 'cache'}" in ran.err


FLIP = """
import os, sys
while True:
    for target in sys.argv[1:]:
        os.symlink(target, "next")
        os.rename("next", "link")
"""
TRY = """
import os, sys
from pathlib import Path
from agent.errors import AgentError
from agent.measure.cache import Cache
from agent.state.file import make_directory, refuse_anothers
from agent.state.owner import act_as_owner
def got_in(path):
    try:
        act_as_owner(path)
        make_directory(path)
    except AgentError:
        pass
    for door in (make_directory, refuse_anothers, lambda path: Cache(path).get("ab" * 32)):
        try:
            door(path)
        except AgentError:
            continue
        if os.geteuid() == 0:
            return 3
    return 0
for turn in range(400):
    child = os.fork()
    if not child:
        os._exit(got_in(Path(sys.argv[1])))
    if os.waitpid(child, 0)[1]:
        sys.exit(f"root was let in at turn {turn}")
"""


def test_a_link_that_flips_while_root_looks_is_refused_every_time(open_place):
    attacker = open_place / "attackers"
    for folder in (attacker, open_place / "roots", attacker / "planted"):
        folder.mkdir(mode=0o755)
    given_to_nobody(attacker)
    given_to_nobody(attacker / "planted")
    (open_place / "roots").chmod(0o700)
    opened = other_user.readable(open_place)
    words = [sys.executable, "-c", FLIP, "planted", str(open_place / "roots")]
    flips = subprocess.Popen([*opened, *other_user.become(), *words], cwd=attacker)
    try:
        ran = subprocess.run(
            [*opened, sys.executable, "-c", TRY, attacker / "link"],
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        assert flips.poll() is None
    finally:
        flips.kill()
        flips.wait()
    assert ran.returncode == 0, ran.stderr
    assert list((attacker / "planted").iterdir()) == []


def test_root_makes_no_state_directory_within_another_users(open_place, measure):
    theirs = open_place / "theirs"
    theirs.mkdir(mode=0o755)
    given_to_nobody(theirs)
    ran = measure(theirs / "new")
    assert ran.code == 2, ran.err
    assert f"the user nobody may replace what is in {theirs}" in ran.err
    assert list(theirs.iterdir()) == []


@pytest.mark.parametrize("words", ["status", "history", "bundle list", "report --show"])
def test_root_believes_no_state_that_others_could_have_written(
    calibrated, open_place, as_root, words
):
    state = shutil.copytree(calibrated, open_place / "state")
    state.chmod(0o777)
    ran = as_root(*words.split(), "--state-dir", state)
    assert ran.code == 2, ran.err
    assert "other users may write" in ran.err


@pytest.mark.parametrize("words", ["status", "history", "bundle list"])
def test_root_reads_the_services_state_as_the_service(calibrated, open_place, as_root, words):
    state = shutil.copytree(calibrated, open_place / "lib" / "calibration-agent")
    for path in (state, *state.rglob("*")):
        given_to_nobody(path)
    ran = as_root(*words.split(), "--state-dir", state)
    assert ran.code == 0, ran.err
    assert "acting as the user nobody" in ran.err
