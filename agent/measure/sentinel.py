"""A small program timed at the start, in the middle and at the end: did the machine change?

Two parts, since they change for different reasons: arithmetic in registers follows the clock
frequency (throttling), streaming through memory follows what neighbours do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.loopnest.program import DType
from agent.measure.evidence import Notice
from agent.measure.plan import Arguments, ArrayArgument, Job

ELEMENTS = 8 << 20  # 32 MiB: beyond most private caches
MAX_DRIFT = 0.05  # log units

_HEAD = "void loopnest_run(void *const args[]) {\n    float *restrict x = args[0];\n"
ARITHMETIC = f"""{_HEAD}
    double s = x[0];
    for (int i = 0; i < 200000; i++) s = s * 0.999999 + 0.5;
    x[0] = 0.5f + (float)(s * 1e-9);
}}
"""
STREAM = f"""{_HEAD}
    for (int i = 0; i < {ELEMENTS}; i++) x[i] = x[i] * 0.5f + 0.5f;
}}
"""


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Seconds of both parts at one moment (NaN where one could not be timed)."""

    arithmetic_s: float
    stream_s: float


def sentinel_jobs() -> tuple[Job, Job]:
    """The two parts, each a job of its own without variants."""
    small = ArrayArgument("x", DType.F32, 16, written=True, restored=False, tolerance=0.0)
    large = ArrayArgument("x", DType.F32, ELEMENTS, written=True, restored=False, tolerance=0.0)
    return Job(Arguments((small,)), ARITHMETIC, ()), Job(Arguments((large,)), STREAM, ())


def sentinel_drift(sentinels: Sequence[Sentinel]) -> tuple[Notice, ...]:
    """A ``drift`` notice for each part that changed by more than 5 %, in log units."""
    parts = (
        ("drift-arithmetic", [s.arithmetic_s for s in sentinels]),
        ("drift-stream", [s.stream_s for s in sentinels]),
    )
    out = []
    for kind, seconds in parts:
        logs = [math.log(s) for s in seconds if s > 0]
        change = max(logs, default=0.0) - min(logs, default=0.0)
        if change > MAX_DRIFT:
            out.append(Notice(kind, change, MAX_DRIFT))
    return tuple(out)
