"""Does a timing come out the same next time? Fresh processes time the same versions again.

    python -m benchmarks.repeat [--times 6] [--minutes 30] [--out FILE]
        [--kernels 12] [--labels 6] [--gemm 3] [--calibrations 1]
    python -m benchmarks.repeat --files LABELS.parquet AGAIN.parquet ...

Every process times kernels of the fixed set, labels programs, measures gemm and calibrates
(``sessions.py``; 0 leaves a part out). Two of them are then compared as two people would who ask
the same machine twice. ``coverage``: how often the 80 % interval of one holds the value of the
other (63 % is right: both are noisy). ``session_sd``: what ``agent.measure.shots.SESSION_SD``
should be by these sessions; take it over from a machine with nothing else running.
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
from dataclasses import fields
from itertools import combinations
from pathlib import Path

import numpy as np

from agent.measure.shots import SESSION_SD, Sharing
from agent.measure.stats import LEVEL, half_width, quantile
from benchmarks.sessions import Labels, Parts, labels_in, session

RIGHT = 0.635  # of 80 % intervals hold another value that is as noisy: P(|N(0, 2)| < 1.28)
MOST_SD, SD_STEP = 2.0, 1e-4
ROOT = Path(__file__).parents[1]
NEAR = 0.05  # log units


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
    held = [a["low"] <= b["log_speedup"] <= a["high"] for a, b in both_ways(pairs)]
    return {
        "pairs": len(pairs),
        "mean": statistics.fmean(change),
        "median": statistics.median(change),
        "p95": quantile(change, 0.95),
        "coverage": sum(held) / len(held),
        "half_width": statistics.median((p["one"]["high"] - p["one"]["low"]) / 2 for p in pairs),
    }


def session_sd(pairs: list[tuple[dict, dict]]) -> float | None:
    """What ``shots.SESSION_SD`` should be for labels of one state; None: there are none.

    Args:
        pairs: a label, and what another session found, in any state.

    The standard deviation with which the intervals, made of their rounds and of it, hold the other
    value as often as is right. Most labels decide, not the few that are far off.
    """
    low, high = 0.0, MOST_SD
    while pairs and high - low > SD_STEP:
        middle = (low + high) / 2
        low, high = (low, middle) if _held(pairs, middle) >= RIGHT else (middle, high)
    return round(high, 4) if pairs else None


def _held(pairs: list[tuple[dict, dict]], sd: float) -> float:
    """How often an interval holds the other value, were ``sd`` what sessions differ by."""
    held = [
        _rewidened(a, sd)[b["log_speedup"] > a["log_speedup"]]
        >= abs(b["log_speedup"] - a["log_speedup"])
        for a, b in pairs
    ]
    return sum(held) / len(held)


def both_ways(pairs: list[dict]) -> list[tuple[dict, dict]]:
    """Every label with what the other session found."""
    return [x for p in pairs for x in ((p["one"], p["other"]), (p["other"], p["one"]))]


def _rewidened(label: dict, sd: float) -> tuple[float, float]:
    """Half widths below and above with ``sd`` in place of the one that is in them."""
    old, new = (half_width(LEVEL) * x for x in (SESSION_SD.get(label["sharing"], 0.0), sd))
    halves = label["log_speedup"] - label["low"], label["high"] - label["log_speedup"]
    below, above = (math.sqrt(max(h**2 - old**2, 0.0) + new**2) for h in halves)
    return below, above


def rankings(first: Labels, second: Labels) -> list[tuple[float, float]]:
    """Of every kernel: rank correlation, and what the first's best reaches of the second's."""
    from scipy.stats import spearmanr  # takes as long as the rest of this file

    out = []
    for kernel in first:
        common = [s for s in first[kernel] if s in second.get(kernel, {})]
        a, b = ([float(x[kernel][s]["log_speedup"]) for s in common] for x in (first, second))
        if len(common) > 2:
            reached = float(np.exp(b[int(np.argmax(a))] - max(b)))
            out.append((float(spearmanr(a, b).statistic), reached))
    return out


def _mean(values: list[float]) -> float | None:
    """Of programs with three versions or more; None where there are none."""
    return statistics.fmean(values) if values else None


def summary(sessions: list[Labels]) -> dict[str, object]:
    """All pairs of sessions together, by threads and by the state of the cores."""
    pairs = [p for a, b in combinations(sessions, 2) for p in compared(a, b)]
    ranks = [r for a, b in combinations(sessions, 2) for r in rankings(a, b)]
    every = [v for s in sessions for versions in s.values() for v in versions.values()]
    known = ("one thread", False), ("all threads", True)
    states = (*Sharing, "")
    by_state = {
        s: [p for p in pairs if p["one"]["sharing"] == p["other"]["sharing"] == s] for s in states
    }
    return {
        "sessions": len(sessions),
        "all": differences(pairs),
        **{
            name: differences([p for p in pairs if p["parallel"] is is_so]) for name, is_so in known
        },
        **{s or "untold": differences(alike) for s, alike in by_state.items()},
        "session_sd": {
            s: session_sd([x for x in both_ways(pairs) if x[0]["sharing"] == s]) for s in states
        },
        "spearman": _mean([r for r, _ in ranks if not math.isnan(r)]),
        "top_pick": _mean([t for _, t in ranks]),
        "disturbed": statistics.fmean(v["disturbed"] for v in every),
        "states": {s: sum(v["sharing"] == s for v in every) / len(every) for s in states},
    }


def gemm_figures(runs: list[dict]) -> dict[str, object]:
    """One program by the command, many times: how far from their median, and what they say."""
    if not runs:
        return {}
    logs = [
        {**r, "log_speedup": math.log(r["speedup"]), **{k: math.log(r[k]) for k in ("low", "high")}}
        for r in runs
    ]
    typical = statistics.median(r["log_speedup"] for r in logs)
    off = [abs(r["log_speedup"] - typical) for r in logs]
    alone = [r["sharing"] == Sharing.UNDISTURBED and not r["inferred"] for r in logs]
    pairs = [{"one": a, "other": b} for a, b in combinations(logs, 2)]
    return {
        "runs": len(runs),
        "speedup": math.exp(typical),
        "within_5_percent": sum(x <= NEAR for x in off) / len(off),
        "within_or_said": sum(x <= NEAR or not own for x, own in zip(off, alone, strict=True))
        / len(off),
        "undisturbed": sum(alone) / len(alone),
        **differences(pairs),
    }


def calibration_figures(made: list[dict]) -> dict[str, object]:
    """How much the predictions, the first picks and the figures shown differ."""
    if len(made) < 2:
        return {}
    programs = [np.array(same) for same in zip(*(m["predicted"] for m in made), strict=True)]
    picks = [len(set(same.argmax(axis=1).tolist())) == 1 for same in programs]
    errors = np.array([m["log_error"] for m in made])
    ranks = np.array([m["spearman"] for m in made], float)
    return {
        "calibrations": len(made),
        "predicted_sd": float(np.mean([same.std(axis=0, ddof=1).mean() for same in programs])),
        "same_first_pick": sum(picks) / len(picks),
        "log_error": [float(errors.min()), float(errors.max())],
        "log_error_spread": float(np.ptp(errors) / errors.mean()),
        "spearman": [float(ranks.min()), float(ranks.max())],
        "noise": [m["noise"] for m in made],
        "seconds": [round(m["elapsed_s"], 1) for m in made],
        "verdicts": [m["verdict"] for m in made],
    }


def report(sessions: list[dict]) -> dict[str, object]:
    """All that can be said of the sessions so far."""
    every = {name: [s[name] for s in sessions if s[name]] for name in ("kernels", "labels")}
    several = {n: [x for s in sessions for x in s[n]] for n in ("gemm", "calibrations")}
    return {
        **{name: summary(found) for name, found in every.items() if len(found) > 1},
        "gemm": gemm_figures(several["gemm"]),
        "calibrations": calibration_figures(several["calibrations"]),
        "seconds": [s["seconds"] for s in sessions],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=30.0)
    for part in fields(Parts):
        parser.add_argument(f"--{part.name}", type=int, default=part.default)
    parser.add_argument("--out", type=Path, help="sessions are added here as they are made")
    parser.add_argument("--files", type=Path, nargs="+", help="label files to compare, no more")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.files:
        print(json.dumps(summary([labels_in(path) for path in given.files]), indent=2))
        return
    parts = {part.name: getattr(given, part.name) for part in fields(Parts)}
    if given.once:
        print(json.dumps(session(given.once, Parts(**parts)), default=str))
        return
    sessions, started = _kept(given.out), time.monotonic()
    every_s = 60 * given.minutes / max(1, given.times - 1)
    sizes = [word for name, count in parts.items() for word in (f"--{name}", str(count))]
    with tempfile.TemporaryDirectory() as cache:
        for number in range(given.times):
            time.sleep(max(0.0, started + number * every_s - time.monotonic()))
            again = (sys.executable, "-m", "benchmarks.repeat", "--once", cache, *sizes)
            done = subprocess.run(again, check=True, stdout=subprocess.PIPE, cwd=ROOT)
            sessions.append(json.loads(done.stdout))
            if given.out:
                given.out.write_text(json.dumps(sessions))
            print(f"{number + 1} of {given.times}", file=sys.stderr, flush=True)
    print(json.dumps(report(sessions), indent=2))


def _kept(out: Path | None) -> list[dict]:
    """Sessions of an earlier run, to go on from; none where there was none."""
    return json.loads(out.read_text()) if out and out.exists() else []


if __name__ == "__main__":
    main()
