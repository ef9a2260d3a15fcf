"""One bit of the state's file flips: what do the commands say, and does any answer change?

    python benchmarks/bit_flips.py [--flips 10000] [--seed 1] [--commands-every 20]

A calibration, a check and a report that waits are made first, in a directory of their own. After
each flip all records are read, as for reading and as for writing; after every twentieth the
commands are run. Goal: no flip is called a bug of the agent, and none changes a record or an answer
without being told. (tests/agent/state/test_bit_flips.py tries a few.)
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import cli
from agent.commands import root  # noqa: F401  imported once, so that every fork is quick
from agent.errors import AgentError, Exit
from agent.state.file import FILE
from agent.state.state import State, open_state, read_state

PROGRAM = """
void gemm(int n, float C[n][n], const float A[n][n], const float B[n][n]) {
#pragma scop
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++)
      for (int k = 0; k < n; k++)
        C[i][j] += A[i][k] * B[k][j];
#pragma endscop
}
"""
# The second where the machine is too busy for the first to be believed.
IN_FORCE = ("calibrate --budget 6s", "calibration use 1")
WRITING = "report --show --json"  # the last: it sets a damaged file aside
COMMANDS = (
    "status --json",
    "history --json",
    "bundle list --json",
    "predict PROGRAM --size n=64 --schedule original --no-run --json",
    WRITING,
)
FACTS = ("report-memory", "report-consent", "last-error")
TOLD = ("damaged", "newer agent", "cannot be opened", "cannot be read", "another form")


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


def forked(work: Callable[[], Sequence[Said]]) -> Sequence[Said]:
    """What ``work`` gives in a process of its own; one that a signal ended says so."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "wb") as file:
            pickle.dump(work(), file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        told = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        return (Said(status, "", "the process died"),)
    found: Sequence[Said] = pickle.loads(told)  # noqa: S301  of a child of ours
    return found


def say(words: str, state: Path, now: float) -> Said:
    """Run a command in this process, at a moment that does not pass."""
    out, err = io.StringIO(), io.StringIO()
    program = str(state.parent / "program.c")
    sys.argv = ["agent", *words.replace("PROGRAM", program).split(), "--state-dir", str(state)]
    time.time = lambda: now
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = int(cli.main())
    return Said(code, out.getvalue(), err.getvalue())


def answers(state: Path, commands: Sequence[str], now: float) -> Sequence[Said]:
    """What all commands answer on a state, in a process of their own."""
    return forked(lambda: [say(words, state, now) for words in commands])


def verdict(before: Said, after: Said) -> str:
    """What became of an answer: the same, told, a bug or silently another."""
    if after.code in (Exit.BUG, *range(-64, 0)):
        return "bug"
    if any(words in after.err for words in TOLD):
        return "told"
    return "same" if (after.code, after.out) == (before.code, before.out) else "silent"


def prepared(place: Path) -> Path:
    """A state with something of everything."""
    state = place / "state"
    (place / "program.c").write_text(PROGRAM)
    for words in (*IN_FORCE, "report enable --yes", "check", WRITING):
        said = answers(state, [words], time.time())[0]
        if said.code not in (Exit.OK, Exit.NOT_NOW, Exit.PROBLEM):
            raise SystemExit(f"agent {words}: {said.err}")
    return state


def records(state: State) -> object:
    """Everything that is kept, as the rest of the agent sees it."""
    made = [state.run_of(calibration.id) for calibration in state.calibrations()]
    runs = [run for run in (state.open_run(), *made) if run]
    kept = [state.calibrations(), state.events(), state.drifts(), state.spooled()]
    return [runs, [state.timings(run) for run in runs], kept, [state.fact(name) for name in FACTS]]


def read(directory: Path, opening: Callable[[Path], State], before: object) -> str:
    """What becomes of the records: the same, told, a bug or silently others."""
    try:
        with opening(directory) as state:
            if state.notices:
                return "told"
            return "same" if records(state) == before else "silent"
    except AgentError:
        return "told"
    except Exception:  # noqa: BLE001  whatever it is, it would be called a bug
        traceback.print_exc()
        return "bug"


@dataclass
class Campaign:
    """Flips on copies of one state: how often each verdict, and where it was the wrong one."""

    state: Path
    found: collections.Counter[str]
    wrong: list[str]

    def __post_init__(self) -> None:
        self.content = (self.state / FILE).read_bytes()
        with read_state(self.state) as opened:
            self.records = records(opened)
        self.now = time.time()
        whole = self._copy("whole")
        self.before = answers(whole, COMMANDS, self.now)

    def flip(self, bit: int, *, run_commands: bool) -> None:
        """Flip one bit of the file, look, and note the worst verdict."""
        changed = bytearray(self.content)
        changed[bit // 8] ^= 1 << bit % 8
        place = self._copy("flipped")
        (place / FILE).write_bytes(changed)
        verdicts = {f"read {bit}": read(place, read_state, self.records)}
        if run_commands:
            after = answers(place, COMMANDS, self.now)
            for words, one, other in zip(COMMANDS, self.before, after, strict=False):
                known = Said(one.code, one.out.replace("/whole", "/flipped"), one.err)
                verdicts[f"{words} {bit}: {other}"] = verdict(known, other)
        (place / FILE).write_bytes(changed)
        verdicts[f"write {bit}"] = read(place, open_state, self.records)
        worst = next(v for v in ("bug", "silent", "told", "same") if v in verdicts.values())
        self.found[worst] += 1
        self.wrong += [f"{v}: {at}" for at, v in verdicts.items() if v in ("bug", "silent")]

    def _copy(self, name: str) -> Path:
        place = self.state.with_name(name)
        shutil.rmtree(place, ignore_errors=True)
        left_out = shutil.ignore_patterns("cache", "state.corrupt*")
        return Path(shutil.copytree(self.state, place, ignore=left_out))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--flips", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--commands-every", type=int, default=20)
    given = arguments.parse_args()
    draws = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="bit-flips-") as name:
        made = Campaign(prepared(Path(name)), collections.Counter(), [])
        for number in range(given.flips):
            bit = draws.randrange(8 * len(made.content))
            made.flip(bit, run_commands=number % given.commands_every == 0)
            if number % 500 == 499:
                print(number + 1, dict(made.found), file=sys.stderr, flush=True)
    for line in made.wrong[:20]:
        print(line)
    print(f"{given.flips} flips of one bit in {len(made.content)} bytes: {dict(made.found)}")


if __name__ == "__main__":
    main()
