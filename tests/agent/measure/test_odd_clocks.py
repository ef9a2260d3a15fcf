"""A clock that goes back: no figure is made of it. The real command, a real compiler."""

from pathlib import Path

from agent.errors import Exit
from tests.conftest import agent

KERNEL = Path(__file__).parents[3] / "agent" / "kernels" / "gemv.c"
JUMPS = """
#include <time.h>
static inline int jumping(clockid_t which, struct timespec *t) {
    static long calls;
    clock_gettime(which, t);
    t->tv_sec -= calls++ / 2 % 9;  /* a second back at every other look */
    return 0;
}
#define clock_gettime(which, t) jumping(which, t)
"""


def test_no_speed_up_is_told_by_a_clock_that_jumps_back(tmp_path):
    (tmp_path / "jumps.h").write_text(JUMPS)
    compiler = tmp_path / "gcc"
    compiler.write_text(f'#!/bin/sh\nexec gcc -D_GNU_SOURCE -include {tmp_path}/jumps.h "$@"\n')
    compiler.chmod(0o755)
    ran = agent(
        "measure", KERNEL, "--size", "ni=64", "--size", "nj=64", "--schedule", "vectorize j",
        "--compiler", compiler, "--state-dir", tmp_path / "state", AGENT_BUDGET="5s",
    )  # fmt: skip
    assert (ran.code, ran.out) == (Exit.NOTHING_MEASURED, "")
    assert "this machine's clock jumps" in ran.err
