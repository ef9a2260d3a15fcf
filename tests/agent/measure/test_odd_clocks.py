"""A clock that goes back or stands still: no figure is made of it.

The real command, a real compiler.
"""

from pathlib import Path

import pytest

from agent.errors import Exit
from tests.conftest import agent

KERNEL = Path(__file__).parents[3] / "agent" / "kernels" / "gemv.c"
CLOCK = """
#include <time.h>
static inline int odd(clockid_t which, struct timespec *t) {
    %s
    return 0;
}
#define clock_gettime(which, t) odd(which, t)
"""
JUMPS = """static long calls;
    clock_gettime(which, t);
    t->tv_sec -= calls++ / 2 % 9;  /* a second back at every other look */"""
STILL = "*t = (struct timespec){1000, 0};"


@pytest.mark.parametrize(("body", "word"), [(JUMPS, "jumps"), (STILL, "stands still")])
def test_no_speed_up_is_told_by_a_clock_that(body, word, tmp_path):
    (tmp_path / "odd.h").write_text(CLOCK % body)
    compiler = tmp_path / "gcc"
    compiler.write_text(f'#!/bin/sh\nexec gcc -D_GNU_SOURCE -include {tmp_path}/odd.h "$@"\n')
    compiler.chmod(0o755)
    ran = agent(
        "measure", KERNEL, "--size", "ni=64", "--size", "nj=64", "--schedule", "vectorize j",
        "--compiler", compiler, "--state-dir", tmp_path / "state", AGENT_BUDGET="5s",
    )  # fmt: skip
    assert (ran.code, ran.out) == (Exit.NOTHING_MEASURED, "")
    assert f"this machine's clock {word}" in ran.err
