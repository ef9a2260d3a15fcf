"""What the hourly look costs while nothing is due: CPU time, memory, and what is written.

    python benchmarks/not_due.py [--repeats 15]

A calibration is made first, in a directory of its own. Goal: <= 0.3 s of CPU, nothing written.
(tests/agent/upkeep/test_not_due.py counts the calls that could write anywhere at all.)
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

AGENT = str(Path(sys.executable).parent / "agent")
LOOK = ("calibrate", "--if-due", "--when-quiet")  # as systemd's unit has it
NOT_DUE = 7


@dataclass(frozen=True)
class Cost:
    """Of one look."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def look(command: Sequence[str]) -> Cost:
    """Run ``command``, which must find that nothing is due; what it and its children cost."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode != NOT_DUE:
        raise SystemExit(f"{command} exited with {process.returncode}, not {NOT_DUE}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def marks(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """What would differ if anything in ``folder`` had been written: of every file and folder."""
    stats = {str(path): path.lstat() for path in (folder, *folder.rglob("*"))}
    return {p: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p, s in stats.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--repeats", type=int, default=15)
    repeats = arguments.parse_args().repeats
    with tempfile.TemporaryDirectory(prefix="not-due-") as name:
        state = ("--state-dir", name)
        subprocess.run([AGENT, "calibrate", "--budget", "5s", *state], check=True)
        look([AGENT, *LOOK, *state])  # Python's own cache of byte code is warm from here on
        before = marks(Path(name))
        costs = [look([AGENT, *LOOK, *state]) for _ in range(repeats)]
        written = marks(Path(name)) != before
    for label, values, unit in (
        ("CPU", [c.cpu_s for c in costs], "s"),
        ("wall", [c.wall_s for c in costs], "s"),
        ("peak memory", [c.memory_mb for c in costs], "MB"),
    ):
        print(f"{label}: median {statistics.median(values):.3g}, most {max(values):.3g} {unit}")
    print(f"written in the state directory: {'something' if written else 'nothing'}")


if __name__ == "__main__":
    main()
