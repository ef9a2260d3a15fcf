"""One calibration from an empty state: wall time, phases, memory, and accuracy beside controls.

    python benchmarks/calibration.py [--state-dir DIR]

Goals: <= 60 s wall, compilation included; agent's peak memory <= 200 MB; <= 5 s that are neither
measuring nor compiling. Calibrated beats the bundle alone, and both beat "predict the median" and
"raw features + the same head" on kernels that were not used in the fit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

AGENT = str(Path(sys.executable).parent / "agent")
COLUMNS = ("log_error", "mape", "median_ape", "spearman", "top_share", "seconds_log_error")


def calibrate(state_dir: Path) -> dict[str, Any]:
    """Run the real command; its answer, with wall time and the agent's own peak memory."""
    start = time.perf_counter()
    command = [AGENT, "calibrate", "--json", "--state-dir", str(state_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _peak_mb(process.pid))
        time.sleep(0.02)
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.read())
    return {**answer, "wall_s": time.perf_counter() - start, "peak_mb": peak}


def _peak_mb(pid: int) -> float:
    """The high-water mark of a process's own resident memory (children not included)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else 0.0


def arms(state_dir: Path) -> dict[str, dict[str, Any]]:
    """Each way to predict, judged on the same stored timings, kernels held out by C file."""
    import numpy as np

    from agent.bundle.bundle import default_bundle, load_bundle
    from agent.calibration.calibration import newest_calibration
    from agent.calibration.facts import facts_vector
    from agent.calibration.fit import embed_samples, observe
    from agent.calibration.journal import newest
    from agent.calibration.labels import judge
    from agent.calibration.plan import variant_program
    from agent.calibration.predictor import prior_of
    from agent.kernels.fixed_set import kernels
    from agent.loopnest.features.nest import lower
    from agent.loopnest.features.vector import features, work
    from agent.loopnest.schedules.schedule import ORIGINAL
    from agent.model.prior import weak_prior
    from agent.model.score import accuracy, predict_the_median
    from agent.model.select import choose_head
    from agent.state.state import read_state

    with read_state(state_dir) as state:
        last = newest_calibration(state)
        assert last is not None
        run = state.run_of(last.id)
        assert run is not None
        stored = list(newest(state.timings(run)).values())
    samples, _ = judge(stored, {k.name: k for k in kernels()})
    bundle = load_bundle(default_bundle())
    observations, _ = embed_samples(samples, bundle)
    prior = prior_of(bundle).on(facts_vector(last.body.facts))
    chosen = choose_head(prior, observations, seed=0)

    names = sorted({(s.kernel.name, s.schedule) for s in samples})
    names += [(n, ORIGINAL) for n in {n for n, _ in names} if (n, ORIGINAL) not in names]
    by_name = {k.name: k for k in kernels()}
    table = lower([variant_program(by_name[n], s) for n, s in names])
    raw = features(table).astype(np.float64)
    raw = (raw - raw.mean(axis=0)) / (raw.std(axis=0) + 1e-6)
    raw_rows = observe(
        samples,
        {n: (v, float(w)) for n, v, w in zip(names, raw, work(table), strict=True)},
    )
    raw_head = choose_head(weak_prior(raw_rows.design), raw_rows, seed=0)
    ways = {
        "predict the median": (observations, predict_the_median(observations)),
        "raw features + the same head": (raw_rows, raw_head.calibrated),
        "bundle alone": (observations, chosen.bundle_alone),
        "calibrated": (observations, chosen.calibrated),
    }
    return {name: asdict(accuracy(rows, mean)) for name, (rows, mean) in ways.items()}


def table_lines(found: dict[str, dict[str, Any]], columns: Sequence[str] = COLUMNS) -> list[str]:
    """The accuracy table as text."""
    lines = [" " * 30 + "".join(f"{c:>19}" for c in columns)]
    for name, row in found.items():
        cells = ("-" if row[c] is None else f"{row[c]:.3f}" for c in columns)
        lines.append(f"{name:30}" + "".join(f"{c:>19}" for c in cells))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path)
    given = parser.parse_args().state_dir
    with tempfile.TemporaryDirectory() as fresh:
        directory = given or Path(fresh)
        found = calibrate(directory)
        timings = found["timings"]
        print(f"wall {found['wall_s']:.1f} s, of it {found['elapsed']}")
        print(f"peak memory of the agent {found['peak_mb']:.0f} MB")
        print(f"{timings['usable']} of {timings['planned']} timings usable")
        print(f"noise floor {found['noise_floor']}; head {found['head']['kind']}")
        print("\n".join(table_lines(arms(directory))))


if __name__ == "__main__":
    main()
