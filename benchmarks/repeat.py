"""Does a timing come out the same next time? Fresh processes time the same versions again.

    python benchmarks/repeat.py [--times 6] [--minutes 30] [--kernels 12] [--json]

Every process times the first kernels of the fixed set with their versions; two of them are then
compared as two people would who ask the same machine twice. ``coverage``: how often the 80 %
interval of one holds the value of the other (63 % is right: both are noisy).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from agent.kernels.fixed_set import fixed_variants, kernels, load_kernel
from agent.loopnest.schedules.legality import transform
from agent.measure.compiler import working_compiler
from agent.measure.shots import SESSION_SD, Sharing
from agent.measure.stats import LEVEL, half_width, quantile
from agent.measure.worker_runner import WorkerRunner

RIGHT = 0.635  # of 80 % intervals hold another value that is as noisy: P(|N(0, 2)| < 1.28)
MOST_SD, SD_STEP = 2.0, 1e-4
Labels = dict[str, dict[str, dict[str, object]]]  # of a session: kernel, schedule, figures


def session(cache: Path, count: int) -> Labels:
    """Time the first ``count`` kernels of the fixed set, each with its versions."""
    runner = WorkerRunner(working_compiler(), cache)
    found: Labels = {}
    for kernel in kernels()[:count]:
        base = load_kernel(kernel)
        schedules = [v.schedule for v in fixed_variants() if v.kernel is kernel]
        measured = runner.measure(base, [transform(base, s) for s in schedules])
        found[kernel.name] = {
            str(s): {
                "log_speedup": t.log_speedup,
                "low": t.low,
                "high": t.high,
                "seconds": t.seconds,
                "sharing": str(t.sharing),
                "disturbed": t.disturbed,
            }
            for s, t in zip(schedules, measured.timings, strict=True)
            if t.ok
        }
    return found


def compared(first: Labels, second: Labels) -> list[dict[str, object]]:
    """Versions that both sessions have, one after the other."""
    return [
        {"kernel": kernel, "parallel": "parallelize" in schedule, "one": one, "other": other}
        for kernel, versions in first.items()
        for schedule, one in versions.items()
        if (other := second.get(kernel, {}).get(schedule))
    ]


def differences(pairs: list[dict]) -> dict[str, float]:
    """What two sessions differ by in log speed-ups, and how often an interval holds the other."""
    if not pairs:
        return {}
    change = [abs(p["one"]["log_speedup"] - p["other"]["log_speedup"]) for p in pairs]
    held = [
        a["low"] <= b["log_speedup"] <= a["high"]
        for p in pairs
        for a, b in ((p["one"], p["other"]), (p["other"], p["one"]))
    ]
    return {
        "pairs": len(pairs),
        "mean": statistics.fmean(change),
        "median": statistics.median(change),
        "p95": quantile(change, 0.95),
        "coverage": sum(held) / len(held),
        "half_width": statistics.median((p["one"]["high"] - p["one"]["low"]) / 2 for p in pairs),
    }


def session_sd(pairs: list[dict]) -> float | None:
    """What ``shots.SESSION_SD`` should be for these pairs, all of one state; None: there are none.

    The standard deviation with which the intervals, made of their rounds and of it, hold the other
    value as often as is right. Most labels decide, not the few that are far off.
    """
    low, high = 0.0, MOST_SD
    while pairs and high - low > SD_STEP:
        middle = (low + high) / 2
        low, high = (low, middle) if _held(pairs, middle) >= RIGHT else (middle, high)
    return round(high, 4) if pairs else None


def _held(pairs: list[dict], sd: float) -> float:
    """How often an interval holds the other value, were ``sd`` what sessions differ by."""
    held = [
        _rewidened(a, sd)[b["log_speedup"] > a["log_speedup"]]
        >= abs(b["log_speedup"] - a["log_speedup"])
        for p in pairs
        for a, b in ((p["one"], p["other"]), (p["other"], p["one"]))
    ]
    return sum(held) / len(held)


def _rewidened(label: dict, sd: float) -> tuple[float, float]:
    """Half widths below and above with ``sd`` in place of the one that is in them."""
    old, new = (half_width(LEVEL) * x for x in (SESSION_SD[Sharing(label["sharing"])], sd))
    halves = label["log_speedup"] - label["low"], label["high"] - label["log_speedup"]
    below, above = (math.sqrt(max(h**2 - old**2, 0.0) + new**2) for h in halves)
    return below, above


def rankings(first: Labels, second: Labels) -> list[tuple[float, float]]:
    """Of every kernel: rank correlation, and what the first's best reaches of the second's."""
    out = []
    for kernel in first:
        common = [s for s in first[kernel] if s in second.get(kernel, {})]
        a, b = ([float(x[kernel][s]["log_speedup"]) for s in common] for x in (first, second))
        if len(common) > 2:
            reached = float(np.exp(b[int(np.argmax(a))] - max(b)))
            out.append((float(spearmanr(a, b).statistic), reached))
    return out


def summary(sessions: list[Labels]) -> dict[str, object]:
    """All pairs of sessions together, by threads and by the state of the cores."""
    pairs = [p for a, b in combinations(sessions, 2) for p in compared(a, b)]
    ranks = [r for a, b in combinations(sessions, 2) for r in rankings(a, b)]
    every = [v for s in sessions for versions in s.values() for v in versions.values()]
    known = ("one thread", False), ("all threads", True)
    by_state = {
        s: [p for p in pairs if p["one"]["sharing"] == p["other"]["sharing"] == s] for s in Sharing
    }
    return {
        "sessions": len(sessions),
        "all": differences(pairs),
        **{
            name: differences([p for p in pairs if p["parallel"] is is_so]) for name, is_so in known
        },
        **{s: differences(alike) for s, alike in by_state.items()},
        "session_sd": {s: session_sd(alike) for s, alike in by_state.items()},
        "spearman": statistics.fmean(r for r, _ in ranks),
        "top_pick": statistics.fmean(t for _, t in ranks),
        "disturbed": statistics.fmean(v["disturbed"] for v in every),
        "states": {s: sum(v["sharing"] == s for v in every) / len(every) for s in Sharing},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kernels", type=int, default=12)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(session(given.once, given.kernels)))
        return
    sessions, started = [], time.monotonic()
    every_s = 60 * given.minutes / max(1, given.times - 1)
    with tempfile.TemporaryDirectory() as cache:
        again = (sys.executable, __file__, "--once", cache, "--kernels", str(given.kernels))
        for number in range(given.times):
            time.sleep(max(0.0, started + number * every_s - time.monotonic()))
            done = subprocess.run(again, check=True, stdout=subprocess.PIPE)
            sessions.append(json.loads(done.stdout))
            print(f"{number + 1} of {given.times}", file=sys.stderr, flush=True)
    print(json.dumps(summary(sessions), indent=2))


if __name__ == "__main__":
    main()
