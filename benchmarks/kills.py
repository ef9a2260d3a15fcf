"""Commands of a machine killed (SIGKILL) at random moments: is what they keep still whole?

    python benchmarks/kills.py [--kills 200] [--seed 1] [--only update ...] [--minutes 30]

- `agent calibrate` times real kernels: the calibration that was in force stays or a newer one is.
- `agent report` sends to a centre: its one report arrives, as often as it likes, under one key.
- `agent update` brings a bundle: the old one or the new one is in force, whole, each with a
  calibration of its own, and the same command once more ends with the new one.

Half of the kills come at any moment, half in what comes last (fitting and storing; after the first
byte was sent; after the bundle is on the disk). Only commands that were still at work count. What
a first run compiled is kept for the others. Goal: 0 lost. (tests/agent/report/test_kills.py tries
a few; `publish_kills.py` and `centre_kills.py` kill the centre's;
tests/agent/update/test_power_cuts.py kills updates at every write.)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.bundle.bundle import default_bundle
from agent.bundle.installed import bundle_in_force
from agent.calibration.calibration import calibration_in_force
from agent.errors import AgentError
from agent.state.state import read_state
from tests.agent.report.recorder import Recorder, recording
from tests.agent.update.published import made_bundle, new_centre
from tests.conftest import environment
from tests.fake_runner import calibrate_simulated

AGENT = str(Path(sys.executable).parent / "agent")
TRIES = 4  # for each kill, should commands end before it
TOLD_EVERY = 20  # tries
LIMIT_S = 300.0
NOTHING_TO_DO = 7


@dataclass(frozen=True)
class Victim:
    """A command of a machine, and what must hold after it was killed.

    Attributes:
        name: of the command.
        words: the command, without the state directory.
        machine: state directory to begin with, copied for each kill; ``state``: the copy.
        last: whether what comes last has begun.
        lost: what does not hold, in words; "" where all does.
        on: environment variables.
    """

    name: str
    words: tuple[str, ...]
    machine: Path
    state: Path
    last: Callable[[], bool]
    lost: Callable[[], str]
    on: dict[str, str]

    def begin(self) -> subprocess.Popen[bytes]:
        """The command at work on a fresh copy, in a process group of its own."""
        compiled, kept = self.state / "cache", self.state.with_suffix(".cache")
        if compiled.exists():
            compiled.replace(kept)
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(self.machine, self.state, ignore=shutil.ignore_patterns("cache"))
        if kept.exists():
            kept.replace(compiled)
        return self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """The command at work on what is there."""
        quiet, on = subprocess.DEVNULL, environment(**self.on)
        command = [AGENT, *self.words, "--state-dir", str(self.state)]
        return subprocess.Popen(command, env=on, stdout=quiet, stderr=quiet, process_group=0)

    def again(self) -> str:
        """The same command to its end; what went wrong."""
        code = self.start().wait(LIMIT_S)
        return "" if code in (0, NOTHING_TO_DO) else f"{self.name} once more: exit {code}"


@dataclass
class Kills:
    """How many were killed at work, how many had ended before, and what was lost."""

    hit: int = 0
    missed: int = 0
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.hit} killed, {self.missed} ended before, {len(self.lost)} lost"


def campaign(victim: Victim, kills: int, end: float, draws: random.Random) -> Kills:
    """Kill until ``end`` (monotonic) at most."""
    whole_s, last_s = timed(victim)
    done = Kills()
    for number in range(TRIES * kills):
        process = victim.begin()
        late = number % 2 == 1
        while late and process.poll() is None and not victim.last():
            time.sleep(0.001)
        time.sleep(draws.uniform(0.0, last_s if late else whole_s))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done.hit += 1
        else:
            done.missed += 1
        if words := victim.lost():
            done.lost.append(f"{victim.name}, try {number}: {words}")
        if number % TOLD_EVERY == 0:
            print(f"{victim.name}: so far {done}", file=sys.stderr, flush=True)
        if done.hit == kills or time.monotonic() > end:
            break
    return done


def timed(victim: Victim) -> tuple[float, float]:
    """Seconds of a whole run, and of what comes last in it."""
    begun = time.monotonic()
    process = victim.begin()
    while process.poll() is None and not victim.last():
        time.sleep(0.001)
    last = time.monotonic()
    code = process.wait(LIMIT_S)
    whole_s, last_s = time.monotonic() - begun, time.monotonic() - last
    words = victim.lost()
    if code != 0 or words:
        raise SystemExit(f"{victim.name} fails without being killed: exit {code} {words}")
    return whole_s, last_s


def looked_at(state: Path, bundles: frozenset[str]) -> str:
    """Why the state is not whole: a calibration and one of these bundles must be in force."""
    if aside := list(state.glob("state.corrupt-*")):
        return f"{aside[0].name} was set aside"
    try:
        with read_state(state) as opened:
            made = calibration_in_force(opened)
            bundle = bundle_in_force(opened, state).bundle
    except AgentError as error:
        return error.message
    if made is None or not made.body.points:
        return "no calibration is in force"
    return "" if bundle.digest in bundles else f"the bundle {bundle.digest} is in force"


def calibrating(work: Path, machine: Path, old: str) -> Victim:
    """Real kernels, for two seconds."""
    state = work / "calibrate"
    words = ("calibrate", "--budget", "2s")

    def fitting() -> bool:
        """All that the budget allows has been journalled, or nearly."""
        time.sleep(0.02)  # to look costs more than to wait
        with read_state(state) as opened:
            run = opened.open_run()
            return run is not None and len(opened.timings(run)) >= run.planned

    lost = lambda: looked_at(state, frozenset((old,)))  # noqa: E731
    return Victim("calibrate", words, machine, state, fitting, lost, {})


def reporting(work: Path, machine: Path, centre: Recorder, old: str) -> Victim:
    """To a centre that keeps what it is sent."""
    state, seen = work / "report", [0]
    on = {"AGENT_REPORT": "on", "AGENT_REPORT_TO": centre.url}
    words = ("report", "--now")

    def lost() -> str:
        wrong = looked_at(state, frozenset((old,))) or victim.again()
        came = set(keys(centre.bodies[seen[0] :]))
        seen[0] = len(centre.requests)
        return wrong or ("" if len(came) == 1 else f"{len(came)} reports came in place of 1")

    sent = lambda: len(centre.requests) > seen[0]  # noqa: E731
    victim = Victim("report", words, machine, state, sent, lost, on)
    return victim


def keys(bodies: list[bytes]) -> Iterator[str]:
    """What a centre counts reports by; one that was killed in the middle of it sent none."""
    for body in bodies:
        with suppress(ValueError):
            yield json.loads(body)["dedupe"]


def updating(work: Path, machine: Path, old: str) -> Victim:
    """To another bundle, a small one so that most of the time goes by in what is killed."""
    state, centre = work / "update", new_centre(work / "repository")
    new = centre.add(made_bundle(work / "bundle", "1"))
    words = ("update", "--force", "--from", str(centre.public), "--root", str(centre.root))

    def lost() -> str:
        found = looked_at(state, frozenset((old, new))) or victim.again()
        return found or looked_at(state, frozenset((new,)))

    on_disk = lambda: any((state / "bundles").glob(new[:32]))  # noqa: E731
    victim = Victim("update", words, machine, state, on_disk, lost, {})
    return victim


@contextmanager
def all_victims(work: Path, machine: Path) -> Iterator[dict[str, Victim]]:
    """Each on copies of a machine that was calibrated."""
    with read_state(machine) as state:
        old = bundle_in_force(state, machine).bundle.digest
    with recording() as centre:
        victims = (
            calibrating(work, machine, old),
            reporting(work, machine, centre, old),
            updating(work, machine, old),
        )
        yield {victim.name: victim for victim in victims}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=("calibrate", "report", "update"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="for each at most")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        work, machine = Path(name), Path(name, "machine")
        calibrate_simulated(machine, default_bundle())
        with all_victims(work, machine) as victims:
            for each in given.only or victims:
                end = time.monotonic() + 60 * given.minutes
                done = campaign(victims[each], given.kills, end, random.Random(given.seed))
                print(f"{each}: {done}", *done.lost, sep="\n", flush=True)
                wrong += len(done.lost)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
