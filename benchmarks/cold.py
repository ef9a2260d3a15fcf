"""What a command costs from a cold start: wall time and peak memory.

    python benchmarks/cold.py [--repeats 15]

Goals: `agent --help` <= 0.2 s; `agent predict` <= 0.5 s and <= 90 MB (calibrated state).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

AGENT = str(Path(sys.executable).parent / "agent")
GEMM = str(Path(__file__).parents[1] / "agent" / "kernels" / "gemm.c")
SIZES = [word for n in ("ni", "nj", "nk") for word in ("--size", f"{n}=512")]
COMMANDS = {
    "agent --help": [AGENT, "--help"],
    "agent status": [AGENT, "status"],
    "agent predict": [AGENT, "predict", GEMM, *SIZES, "--schedule", "interchange j k; vectorize j"],
    "agent rank": [AGENT, "rank", GEMM, *SIZES],
}


def run_once(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of one run."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    elapsed = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{command} exited with {process.returncode}")
    return elapsed, usage.ru_maxrss / 1024


def figures(repeats: int) -> dict[str, dict[str, float]]:
    """Each command's median and slowest wall time, and its peak memory; one warm-up each."""
    out = {}
    for name, command in COMMANDS.items():
        run_once(command)
        found = [run_once(command) for _ in range(repeats)]
        seconds = [s for s, _ in found]
        out[name] = {
            "median_s": statistics.median(seconds),
            "slowest_s": max(seconds),
            "peak_mb": max(mb for _, mb in found),
        }
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    print(json.dumps(figures(parser.parse_args().repeats), indent=2))
