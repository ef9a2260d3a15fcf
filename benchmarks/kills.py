"""Commands killed (SIGKILL) at random moments: is what they keep still whole?

    python benchmarks/kills.py [--kills 200] [--seed 1]

Killed are `agent calibrate`, `agent report --show` (which makes the report) and `bundles
timestamp` (which publishes). After each kill the state must be read, the last calibration must be
there, and the repository must pass its check once its next command has run. Goal: 0 lost.
(tests/agent/update/test_power_cuts.py kills updates at every write.)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "AGENT_CONFIG": "", "BUNDLES_PASSPHRASE": "correct horse battery"}


@dataclass(frozen=True)
class Victim:
    """A command, and what must hold after it was killed: the words of what does not, or none."""

    name: str
    command: tuple[str, ...]
    lost: Callable[[], str]


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    command = [str(BIN / words[0]), *words[1:]]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def started(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """A command in a process group of its own."""
    words = [str(BIN / command[0]), *command[1:]]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, env=ENVIRONMENT, stdout=quiet, stderr=quiet, process_group=0)


def whole_state(state: str, least: int) -> str:
    """The calibration in force is there, and none is older than the one before."""
    said = ran("agent", "status", "--state-dir", state, "--json")
    found = json.loads(said.stdout).get("calibration") or {} if said.returncode == 0 else {}
    aside = list(Path(state).glob("state.corrupt-*"))
    return (
        "" if found.get("calibration_id", 0) >= least and not aside else said.stdout + said.stderr
    )


def whole_repository(repository: str) -> str:
    """The next command finishes what was begun, and the check finds nothing."""
    again = ran("bundles", "timestamp", "--repo", repository)
    check = ran("bundles", "repo", "check", repository)
    return "" if again.returncode == check.returncode == 0 else again.stderr + check.stderr


def killed(victim: Victim, kills: int, draws: random.Random) -> tuple[int, list[str]]:
    """How many were killed before they ended, and what was lost."""
    begun = time.monotonic()
    started(victim.command).wait()
    lasts, hit, lost = time.monotonic() - begun, 0, []
    for _ in range(kills):
        process = started(victim.command)
        time.sleep(draws.uniform(0.0, lasts))
        hit += process.poll() is None
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if words := victim.lost():
            lost.append(words)
    return hit, lost


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    draws = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        state, repository = f"{name}/state", f"{name}/repository"
        at = ("--state-dir", state)
        first = ran("agent", "calibrate", "--budget", "5s", *at)
        made = ran("bundles", "repo", "init", repository, "--keys", f"{name}/keys")
        if first.returncode or made.returncode:
            raise SystemExit(first.stderr + made.stderr)
        ENVIRONMENT["BUNDLES_KEYS"] = f"{name}/keys"
        whole = lambda: whole_state(state, 1)  # noqa: E731
        victims = (
            Victim("calibrate", ("agent", "calibrate", "--budget", "5s", *at), whole),
            Victim("report", ("agent", "report", "--show", *at), whole),
            Victim(
                "publish",
                ("bundles", "timestamp", "--repo", repository),
                lambda: whole_repository(repository),
            ),
        )
        for victim in victims:
            hit, lost = killed(victim, given.kills, draws)
            print(f"{victim.name}: {hit} of {given.kills} killed, {len(lost)} lost", flush=True)
            print(*lost[:3], sep="\n", end="", file=sys.stderr)


if __name__ == "__main__":
    main()
