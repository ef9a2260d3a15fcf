"""What ``agent measure`` says and does when a program or the compiler is unusual."""

import os

from agent.advise.advise import MAX_SCHEDULES
from agent.measure.compiler import working_compiler
from tests.conftest import agent
from tests.other_user import NOBODY, needs_root

SCALE = """
void scale(int n, float a[n]) {
#pragma scop
  for (int i = 0; i < n; i++)
    a[i] = a[i] * 1.25f;
#pragma endscop
}
"""
# Compiles something else than what is written, but not without optimisation and not in tiles.
BUGGY = """#!/bin/sh
case "$*" in *-O0*) ;; *) grep -qs '+= 100' kernel.c || sed -i s/1.25f/1.5f/ kernel.c 2>&- ;; esac
exec cc "$@"
"""


def measure(tmp_path, text, *more, schedule="original", **env):
    path = tmp_path / "mine.c"
    path.write_text(text)
    where = ("--schedule", schedule, "--state-dir", tmp_path / "state")
    return agent("measure", path, *more, *where, **env)


def test_a_compiler_that_computes_wrong_is_named_and_not_the_schedule(tmp_path):
    compiler = tmp_path / "buggy-cc"
    compiler.write_text(BUGGY)
    compiler.chmod(0o755)
    where = ("--size", "n=1000", "--compiler", compiler)
    ran = measure(tmp_path, SCALE, *where, schedule="tile i 100")
    assert ran.code == 3, ran.err
    assert "the compiler computes a wrong result for the program as written" in ran.err
    assert str(compiler) in ran.err
    assert working_compiler(str(compiler)).version in ran.err
    assert "--compiler" in ran.err.split("hint: ")[1]


def test_too_many_schedules_are_refused_before_anything_is_compiled(tmp_path):
    many = [word for _ in range(MAX_SCHEDULES) for word in ("--schedule", "original")]
    ran = measure(tmp_path, SCALE, "--size", "n=10", *many)
    assert ran.code == 2
    assert f"{MAX_SCHEDULES + 1} schedules are too many" in ran.err
    assert "hint: " in ran.err


@needs_root  # to become somebody whose threads are counted
def test_parallel_programs_run_although_nothing_may_be_started_any_more(open_place, nobody):
    path = open_place / "mine.c"
    path.write_text(SCALE)
    own = open_place / "nobodys"
    own.mkdir()
    os.chown(own, NOBODY.pw_uid, -1)
    where = ("--schedule", "parallelize i", "--state-dir", own / "state")
    ran = nobody("measure", path, "--size", "n=100000", "--json", *where)
    assert ran.code == 0, ran.err
    (found,) = ran.json["measurements"]
    assert found["outcome"] == "ok", found["detail"]
