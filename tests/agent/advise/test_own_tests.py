"""``--test``: the person's tests see the new file, and the old one is back whatever happens."""

import os
import signal
import subprocess
import sys
import time

import pytest

from agent.advise.own_tests import OwnTests, in_place_of
from agent.errors import InputError, MeasureError
from tests.conftest import agent

LIMIT_S = 60.0


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f.c"
    path.write_text("old\n")
    path.chmod(0o640)
    return path


def own(command) -> OwnTests:
    return OwnTests(command, LIMIT_S)


def beside(path):
    return sorted(p.name for p in path.parent.iterdir())


def test_the_tests_see_the_new_file_and_the_old_one_is_back_afterwards(file, tmp_path):
    before, seen = file.stat(), tmp_path / "seen"
    own(f"cp -p {file} {seen}").check(file, b"new\n")
    assert (seen.read_text(), file.read_text()) == ("new\n", "old\n")
    assert seen.stat().st_mode == before.st_mode == file.stat().st_mode
    assert file.stat().st_ino == before.st_ino
    assert beside(file) == ["f.c", "seen"]


def test_a_build_makes_anew_what_it_made_of_the_new_file(file, tmp_path):
    made = tmp_path / "made"
    own(f"cp {file} {made}").check(file, b"new\n")
    assert file.stat().st_mtime_ns > made.stat().st_mtime_ns


def test_tests_that_fail_are_shown(file):
    with pytest.raises(MeasureError, match=r"(?s)your tests fail with it.*3 of 4 wrong"):
        own(f"grep -q old {file} || {{ echo 3 of 4 wrong >&2; exit 1; }}").check(file, b"new\n")
    assert file.read_text() == "old\n"


def test_tests_that_fail_anyway_are_told_before_anything_is_made(file):
    with pytest.raises(InputError, match=r"(?s)as it is \(exit 3\).*exit status 3"):
        own("exit 3").try_out(file)
    own(f"grep -q old {file}").try_out(file)
    assert beside(file) == ["f.c"]


def test_tests_that_do_not_end_are_stopped(file):
    with pytest.raises(MeasureError, match="stopped after 1 s"):
        OwnTests(f"grep -q old {file} || sleep 600", 1.0).check(file, b"new\n")
    assert file.read_text() == "old\n"


def test_a_link_leads_to_the_file_that_is_replaced(file, tmp_path):
    link = tmp_path / "link.c"
    link.symlink_to(file)
    with in_place_of(link, b"new\n"):
        assert (file.read_text(), link.is_symlink()) == ("new\n", True)
    assert file.read_text() == "old\n"


def test_two_runs_do_not_test_in_one_place(file):
    with in_place_of(file, b"new\n"), pytest.raises(InputError, match="another run"):
        own("true").check(file, b"newer\n")
    assert file.read_text() == "old\n"
    own("true").check(file, b"newer\n")


def test_what_a_run_left_that_had_replaced_nothing_is_no_obstacle(file):
    os.link(file, file.with_name(".f.c.agent-kept"))
    own("true").check(file, b"new\n")
    assert beside(file) == ["f.c"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_old_file_is_put_back_when_the_agent_is_killed(file, how):
    words = (
        "import sys; from pathlib import Path; from agent.advise.own_tests import OwnTests;"
        "OwnTests('echo there; sleep 600', 600.0).check(Path(sys.argv[1]), b'new')"
    )
    with subprocess.Popen([sys.executable, "-c", words, file], stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: file.read_text() == "new")
        run.send_signal(how)
    wait_for(lambda: beside(file) == ["f.c"])
    assert file.read_text() == "old\n"


def wait_for(condition):
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# --- from the outside -----------------------------------------------------------------------------

SIZES = ("--size", "n=64")
SCALED = "void f(int n, float *a)\n{\n    for (int i = 0; i < n; i++)\n        a[i] *= 2;\n}\n"


@pytest.fixture
def project(tmp_path):
    """A file with a loop, and tests that compile it and run it."""
    (tmp_path / "f.c").write_text(SCALED)
    (tmp_path / "main.c").write_text(
        "void f(int n, float *a);\n"
        "int main(void) { float a[64] = {1}; f(64, a); return a[0] != 2; }"
    )
    return tmp_path


def test_a_file_is_written_once_the_tests_pass_with_it(project):
    command = f"cd {project} && cc f.c main.c -o test && ./test && cp f.c seen.c"
    where = ("--schedule", "vectorize i", "--out", project / "new.c", "--test", command)
    ran = agent("emit", project / "f.c", *SIZES, *where)
    assert ran.code == 0, ran.err
    assert "Your tests pass with it" in ran.out
    assert (project / "seen.c").read_text() == (project / "new.c").read_text()
    assert (project / "f.c").read_text() == SCALED


def test_a_file_with_which_the_tests_fail_is_not_written(project):
    where = ("--schedule", "vectorize i", "--out", project / "new.c")
    ran = agent("emit", project / "f.c", *SIZES, *where, "--test", f"! grep simd {project}/f.c")
    assert ran.code == 3
    assert "your tests fail with it" in ran.err
    assert "omp simd" in ran.err
    assert not (project / "new.c").exists()
