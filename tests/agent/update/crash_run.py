"""Kills an update at its n-th change of the disk, for every n, and looks at what is left.

Run with crash_points.c preloaded: imports once, then forks for each point. Prints a line a point.
"""

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from agent import cli
from agent.bundle import probe as probing
from agent.bundle.bundle import load_bundle
from agent.bundle.installed import bundle_in_force

# Imported here, once, so that every fork is quick.
from agent.calibration import calibrate, fit  # noqa: F401
from agent.commands import root as command_line  # noqa: F401
from agent.state.state import read_state
from agent.update import flow, install, switch, trust  # noqa: F401
from agent.update.source import open_source  # noqa: F401
from tests.agent.update.in_process import tried_once

STEP_LIMIT = 2_000


def forked(work: Callable[[], int]) -> int:
    """Exit status of ``work`` in a fork: negative if a signal ended it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        code = 70
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(arguments: list[str]) -> int:
    sys.argv = ["agent", *arguments]
    return int(cli.main())


def present(state_dir: Path) -> str:
    with read_state(state_dir) as state:
        return bundle_in_force(state, state_dir).bundle.digest


def look(state_dir: Path, allowed: list[str]) -> Callable[[], int]:
    """0 if a whole bundle that may be in force is in force; 1 if another; 70 if it fails."""
    return lambda: 0 if present(state_dir) in allowed else 1


def main() -> int:
    before, place, public, root, old, offered, stride = sys.argv[1:]
    bundle = load_bundle(Path(offered))
    new = bundle.digest
    tried_once(bundle)  # the child writes nothing: it is started here, and not at every point
    probing.probe = tried_once
    crash = ctypes.CDLL(None)
    arguments = ["update", "--force", "--from", public, "--root", root, "--state-dir"]
    for point in range(1, STEP_LIMIT, int(stride)):
        state_dir = Path(place) / "state"
        shutil.rmtree(state_dir, ignore_errors=True)
        shutil.copytree(before, state_dir)

        def cut(point: int = point, state_dir: Path = state_dir) -> int:
            crash.crash_arm(str(state_dir).encode(), ctypes.c_long(point))
            return command([*arguments, str(state_dir)])

        ended = forked(cut)
        found = {
            "point": point,
            "ended": ended,
            "left": forked(look(state_dir, [old, new])),
            "again": forked(lambda state_dir=state_dir: command([*arguments, str(state_dir)])),
            "then": forked(look(state_dir, [new])),
            "rest": sorted(p.name for p in (state_dir / "bundles").glob(".new-*")),
        }
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        if ended != -9:  # it came to its end: there are no more points
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
