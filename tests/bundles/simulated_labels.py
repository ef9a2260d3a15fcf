"""Label files for tests: real programs and schedules with made-up times that features explain."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.kernels.fixed_set import kernels
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import features, work
from bundles.labels.labels import write_labels
from bundles.labels.measure import Campaign, ProgramToTime, programs_to_time
from bundles.labels.programs import FIXED, program_digest
from bundles.labels.target import Target

ROW_ERROR = 0.05
TARGET = Target(
    name="simulated-0",
    machine="simulated-0",
    architecture="x86_64",
    level="x86-64-v3",
    simd_bytes=32,
    threads=2,
    l1=1 << 15,
    l2=1 << 20,
    l3=1 << 24,
    virtual=False,
    compiler="gcc",
    version="12",
    flags=("-O3",),
)


def timed_items(programs: int, schedules: int, *, fixed: bool) -> list[ProgramToTime]:
    plan = Campaign("simulated", programs, schedules, kernel_schedules=3)
    numbers = [(FIXED, n) for n in range(len(kernels()))] if fixed else []
    return programs_to_time(plan, numbers + [("random", n) for n in range(programs)])


def write_simulated(found: list[ProgramToTime], out: Path, machines: int = 1) -> list[Path]:
    """One file a machine; a function of the items and of the machine's number."""
    out.mkdir(parents=True, exist_ok=True)
    table = lower([version for item in found for version in item.versions])
    seen = features(table).astype(float)
    seen = (seen - seen.mean(0)) / (seen.std(0) + 1e-6)
    common = np.random.default_rng(0).standard_normal(seen.shape[1])
    paths = []
    for machine in range(machines):
        own = np.random.default_rng([1, machine]).standard_normal(seen.shape[1])
        times = seen @ (common + 0.5 * own) / 20
        paths.append(_write(found, work(table) - 20 + times, machine, out))
    return paths


def _write(found: list[ProgramToTime], log_seconds: np.ndarray, machine: int, out: Path) -> Path:
    rng = np.random.default_rng(machine)
    rows, start = [], 0
    for item in found:
        times = log_seconds[start : start + len(item.versions)].copy()
        times[1:] += ROW_ERROR * rng.standard_normal(len(times) - 1)
        start += len(times)
        for schedule, gain, time in zip(item.schedules, times[0] - times, times, strict=True):
            rows.append(
                {
                    "program": program_digest(item.program),
                    "family": item.family,
                    "corpus": item.corpus,
                    "number": item.number,
                    "seed": 0,
                    "schedule": schedule,
                    "outcome": "ok",
                    "seconds": float(np.clip(np.exp(time), 1e-8, 1e3)),
                    "log_speedup": float(gain),
                    "low": float(gain) - 0.05,
                    "high": float(gain) + 0.05,
                }
            )
    name = f"simulated-{machine}"
    path = out / f"{name}.parquet"
    write_labels(path, replace(TARGET, name=name, machine=name), rows)
    return path
