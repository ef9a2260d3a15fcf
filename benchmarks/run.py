"""All figures of the project on this machine, in one command: python benchmarks/run.py.

Run it on a quiet machine, in an environment with the package installed. It takes about five
minutes, most of it for the 200 A/A trials (`--trials` changes that).
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def section(title: str, script: str, *arguments: str) -> None:
    """Run one benchmark in a process of its own, under a title."""
    print(f"\n== {title}", flush=True)
    subprocess.run([sys.executable, str(HERE / script), *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as state:
        os.environ["AGENT_STATE_DIR"] = state
        section("agent calibrate, from an empty state", "calibration.py", "--state-dir", state)
        section("cold starts", "cold.py")
        section("variants a second on one core", "rate.py")
        section("A/A: the same program against itself", "aa.py", "--trials", str(trials))


if __name__ == "__main__":
    main()
