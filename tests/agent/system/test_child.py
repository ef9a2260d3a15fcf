"""Programs of others: real processes that do not want to end, or want too much."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.system.child import ChildLimits, other_owner, run_child
from tests.other_user import NOBODY, needs_root
from tests.processes import all_end

MIB = 1 << 20
LIMITS = ChildLimits(seconds=100, memory=512 * MIB, file=MIB, output=1000)


def shell(script, limits=LIMITS, **how):
    return run_child(["/bin/sh", "-c", script], limits, **how)


def test_output_first_words_and_status_are_told():
    run = shell("echo out; echo err >&2; exit 7")
    assert (run.output, run.words, run.status) == (b"out\n", "err", 7)


def test_arguments_reach_the_child_as_they_are():
    odd = ["", "a b", "$HOME", "-v", "\n", "*"]
    run = run_child(["/usr/bin/printf", "%s\\0", *odd], LIMITS)
    assert run.output.decode().split("\0")[:-1] == odd


def test_there_is_no_input():
    assert shell("cat").output == b""


def test_a_child_whose_time_is_up_ends_with_its_children(tmp_path):
    limits = ChildLimits(seconds=0.3, memory=512 * MIB, file=MIB, output=1000)
    script = "sleep 250 >/dev/null 2>&1 & (exec >/dev/null 2>&1; sleep 250) & sleep 250"
    run = shell(script, limits, environment={"PATH": "/usr/bin:/bin", "MARK": str(tmp_path)})
    assert run.status is None
    assert all_end(f"MARK={tmp_path}")


def test_what_a_child_left_behind_ends_with_it(tmp_path):
    script = "sleep 250 >/dev/null 2>&1 & exit 3"
    run = shell(script, environment={"PATH": "/usr/bin:/bin", "MARK": str(tmp_path)})
    assert run.status == 3
    assert all_end(f"MARK={tmp_path}")


def test_children_and_what_they_started_end_where_the_agent_is_killed(tmp_path):
    for name in ("begun", "pipe"):
        os.mkfifo(tmp_path / name)
    script = f"echo > {tmp_path}/begun; sleep 250 & cat {tmp_path}/pipe"
    code = (
        "from agent.system.child import *\n"
        f"run_child(['/bin/sh', '-c', {script!r}], ChildLimits(100, 1 << 29, 1 << 20, 1000), "
        f"environment={{'PATH': '/usr/bin:/bin', 'MARK': {str(tmp_path)!r}}})"
    )
    agent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    (tmp_path / "begun").read_bytes()  # waits for the script
    agent.kill()
    agent.wait()
    assert all_end(f"MARK={tmp_path}")


def test_endless_output_ends_a_child():
    run = shell("cat /dev/zero")
    assert run.status is None
    assert len(run.output) == LIMITS.output + 1


def test_endless_words_cost_no_memory():
    run = shell("head -c 20000000 /dev/zero | tr '\\\\0' x >&2")
    assert run.status == 0
    assert len(run.words) == LIMITS.words


def test_somebody_may_end_a_child_early():
    stopped = threading.Event()
    stopped.set()
    assert shell("sleep 250", stopped=stopped).status is None


def test_memory_files_and_cores_are_limited(tmp_path):
    run = shell("ulimit -v; ulimit -f; ulimit -c; ulimit -t; ulimit -Hv")
    wanted = [512 * 1024, 2048, 0, 101, 512 * 1024]
    assert [int(line) for line in run.output.split()] == wanted
    run = shell(f"head -c 2000000 /dev/zero > {tmp_path}/file")
    assert run.status != 0
    assert (tmp_path / "file").stat().st_size == MIB


def test_a_lower_limit_of_the_parent_stays():
    own = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 100, own[1]))
    try:
        assert shell("ulimit -f").output == b"100\n"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, own)


def test_a_command_that_is_not_there_fails_in_words():
    run = run_child(["/no/such/thing"], LIMITS)
    assert run.status == 127
    assert "/no/such/thing" in run.words


def test_a_place_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        shell("true", place=tmp_path / "nowhere")


@needs_root
def test_a_child_of_root_has_the_rights_of_the_user_named_and_no_more():
    run = shell("id -u; id -g; id -G; cat /etc/shadow", user=NOBODY.pw_uid)
    assert run.output.decode().split() == [str(NOBODY.pw_uid)] + 2 * [str(NOBODY.pw_gid)]
    assert "Permission denied" in run.words


@needs_root
def test_root_is_told_who_else_may_have_written_a_file(open_place):
    mine, theirs = open_place / "mine.c", open_place / "theirs.c"
    mine.touch()
    assert other_owner(mine) is None
    theirs.symlink_to(mine)
    os.lchown(theirs, NOBODY.pw_uid, -1)
    assert other_owner(theirs) == NOBODY.pw_uid
    os.chown(open_place, NOBODY.pw_uid, -1)
    assert other_owner(mine) == NOBODY.pw_uid
    assert other_owner(open_place / "nothing" / "there.c") == NOBODY.pw_uid
