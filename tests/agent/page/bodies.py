"""Calibrations as the state keeps them, small and made by hand."""

import math

from agent.calibration.calibration import Calibration
from agent.page.record import Record
from agent.state import typed
from agent.state.state import StoredRecord
from agent.upkeep.checked import Check

NOW = 1_800_000_000.0
DAY = 86_400.0


def point(kernel="gemm", schedule="vectorize j", kind="speedup", measured=2.0, **numbers):
    known = {
        "low": measured * 0.98,
        "high": measured * 1.02,
        "calibrated": measured * 1.3,
        "calibrated_low": measured * 0.6,
        "calibrated_high": measured * 2.6,
        "alone": measured * 0.5,
    }
    return {"kernel": kernel, "schedule": schedule, "kind": kind, "measured": measured} | (
        known | numbers
    )


def accuracy(log_error, seconds):
    return {
        "versions": 2,
        "programs": 1,
        "log_error": log_error,
        "log_error_low": log_error * 0.8,
        "log_error_high": log_error * 1.2,
        "factor": math.exp(log_error),
        "mape": 0.4,
        "median_ape": 0.3,
        "spearman": 0.8,
        "top_share": 0.95,
        "seconds_log_error": seconds,
    }


def body(**changes):
    """A calibration; ``changes`` replace parts of it."""
    return {
        "agent": "0.1.0",
        "machine": {
            "fingerprint": "f",
            "model": "Some CPU",
            "level": "x86-64-v3",
            "simd_bytes": 32,
            "cpus": [0, 1],
            "cpus_online": 4,
            "quota": None,
            "threads": 2,
            "caches": {"L1": 32768, "L2": 1 << 20},
            "memory_bytes": 8 << 30,
            "virtual": True,
            "governor": None,
            "kernel": "6.1",
        },
        "toolchain": {
            "compiler": "/usr/bin/cc",
            "version": "cc 12.2",
            "flags": ["-O3", "-march=native"],
            "openmp": True,
        },
        "bundle": {"name": "default", "version": "3", "digest": "d" * 64, "path": "/b"},
        "timings": {"planned": 3, "usable": 2, "base_usable": 1, "reused": 0, "failed": []},
        "noise_floor": {
            "label_median": 0.004,
            "label_p90": 0.01,
            "round_median": 0.006,
            "round_p90": 0.02,
            "called_different": 0.03,
            "kernels": 2,
        },
        "repeat_noise": {"median": 0.03, "p90": 0.08, "held": 0.6, "versions": 13},
        "head": {
            "kind": "ridge",
            "kinds": {"speedup": "ridge", "seconds": "bundle"},
            "verdicts": [],
            "coverage": {"speedup": 0.8, "seconds": 0.8},
        },
        "accuracy": {"calibrated": accuracy(0.4, 0.3), "bundle_alone": accuracy(0.5, 0.6)},
        "warnings": [{"code": "steal", "kernels": 2, "worst": 0.11}],
        "points": [
            point(),
            point(schedule="tile i 32 j 32", measured=0.4, calibrated_high=0.3),
            point(schedule="original", kind="seconds", measured=1e-3),
        ],
        "elapsed_s": 22.0,
        "elapsed": {"compiling": 3.0, "measuring": 18.0, "rest": 1.0},
        "measured_at": "2027-01-15T07:50:00Z",
        "verdict": {"level": "good", "code": "exact", "reason": "it is exact"},
        **changes,
    }


def check(number, verdict="holds", worst=0.02, at=None, **changes):
    sentinel = {"kernel": "gemm", "schedule": "vectorize j", "log_ratio": -worst, "limit": 0.06}
    when = NOW - DAY + number if at is None else at
    found = {"verdict": verdict, "worst": worst, "sentinels": [sentinel]} | changes
    return StoredRecord(number, when, typed.from_json(Check, found))


def record(*bodies, checks=(), notes=()):
    """Calibrations, newest first, a day apart; the newest is an hour old."""
    count = len(bodies)
    entries = [
        StoredRecord(count - n, NOW - 3600 - n * 10 * DAY, Calibration.from_json(found))
        for n, found in enumerate(bodies)
    ]
    return Record(
        tuple(entries), count or None, tuple(checks), tuple(notes), "line-3", "0.1.0", NOW
    )
