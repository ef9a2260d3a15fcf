"""What one process of ``repeat.py`` times anew: kernels, labels, gemm, a whole calibration."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.kernels.fixed_set import fixed_variants, kernels, load_kernel
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.compiler import working_compiler
from agent.measure.worker_runner import WorkerRunner
from bundles.labels.programs import corpus_program

AGENT = str(Path(sys.executable).parent / "agent")
GEMM = Path(__file__).parents[1] / "agent/kernels/gemm.c"
SIZES = [word for name in ("ni", "nj", "nk") for word in ("--size", f"{name}=256")]
GEMM_SCHEDULE = "interchange j k; vectorize j"
CORPUS_SEED = 20  # of programs that no label and no kernel is made of
PREDICTED, VERSIONS = 20, 100  # programs, and schedules of each
Labels = dict[str, dict[str, dict[str, object]]]  # of a session: program, schedule, figures


@dataclass(frozen=True)
class Parts:
    """How much a session does of each; 0: nothing.

    Attributes:
        kernels: of the fixed set, with their versions.
        labels: programs of the corpus, as ``bundles measure`` times them.
        gemm: runs of ``agent measure``, one after the other.
        calibrations: runs of ``agent calibrate``, each from an empty state.
    """

    kernels: int = 12
    labels: int = 6
    gemm: int = 3
    calibrations: int = 1


def session(cache: Path, parts: Parts) -> dict[str, Any]:
    """All parts, each with the seconds that it took."""
    made = {
        "kernels": lambda: timed_kernels(cache, parts.kernels),
        "labels": lambda: timed_labels(parts.labels),
        "gemm": lambda: [timed_gemm() for _ in range(parts.gemm)],
        "calibrations": lambda: [calibrated() for _ in range(parts.calibrations)],
    }
    found: dict[str, Any] = {"seconds": {}}
    for name, make in made.items():
        started = time.monotonic()
        found[name] = make()
        found["seconds"][name] = time.monotonic() - started
    return found


def timed_kernels(cache: Path, count: int) -> Labels:
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


def timed_labels(count: int) -> Labels:
    """Label ``count`` programs of the corpus with one thread."""
    from bundles.labels.measure import Campaign, measure_labels

    if not count:
        return {}
    campaign = Campaign("repeat", programs=count, kernel_schedules=0, seed=CORPUS_SEED)
    with tempfile.TemporaryDirectory() as place:
        (path,) = measure_labels(campaign, Path(place), None, None, lambda _: None)
        return labels_in(path)


def labels_in(path: Path) -> Labels:
    """The labels of a file; by an earlier protocol they do not say how cores were shared."""
    import pyarrow.parquet as pq

    found: Labels = {}
    for row in pq.read_table(path).to_pylist():
        if row["outcome"] == "ok" and row["schedule"] != ORIGINAL:
            told = {"sharing": "", "disturbed": 0.0, **row}
            found.setdefault(row["program"], {})[row["schedule"]] = told
    return found


def timed_gemm() -> dict[str, Any]:
    """What ``agent measure`` says of one schedule of gemm, 256 x 256 x 256."""
    answer = _asked("measure", str(GEMM), *SIZES, "--schedule", GEMM_SCHEDULE)
    (found,) = answer["measurements"]
    return {**found, **{n: math.log(found[n]) for n in ("speedup", "low", "high")}}


def calibrated() -> dict[str, Any]:
    """A calibration's figures, and what it predicts of programs that it has not seen."""
    with tempfile.TemporaryDirectory() as place:
        made = _asked("calibrate", "--state-dir", place)
        _asked("calibration", "use", str(made["calibration_id"]), "--state-dir", place, may=(0, 7))
        predicted = _predicted(Path(place))
    shown = made["accuracy"]["calibrated"]
    return {
        "elapsed_s": made["elapsed_s"],
        "noise": (made.get("repeat_noise") or {}).get("median"),
        "log_error": shown["log_error"],
        "spearman": shown["spearman"],
        "verdict": made["verdict"]["level"],
        "predicted": predicted,
    }


def _predicted(state_dir: Path) -> list[list[float]]:
    """Predicted log speed-ups, by program and schedule."""
    from agent.bundle.installed import bundle_for
    from agent.calibration.calibration import calibration_in_force
    from agent.calibration.predictor import load_predictor
    from agent.measure.machine import read_machine
    from agent.state.state import read_state

    with read_state(state_dir) as state:
        stored, found = calibration_in_force(state), bundle_for(None, state, state_dir)
    predictor = load_predictor(stored, found.bundle, read_machine())
    out = []
    for number in range(PREDICTED):
        program = corpus_program(CORPUS_SEED, 1000 + number)
        versions = [v for _, v in candidate_schedules(program, VERSIONS)]
        out.append([math.log(p.speedup) for p in predictor.predict(program, versions)])
    return out


def _asked(*words: str, may: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """The answer of a command in a new process."""
    done = subprocess.run(
        (AGENT, *words, "--json"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    if done.returncode not in may:
        raise RuntimeError(f"agent {' '.join(words)} ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
