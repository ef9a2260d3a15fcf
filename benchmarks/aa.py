"""A/A trial: how often is a program called different from itself, and do labels repeat?

    python benchmarks/aa.py [--trials 200]

Every trial starts a new worker and measures a program, the same program again, and a changed
one. Goals: called different in <= 5 % of the trials (95 % interval); labels of the changed
program from two trials differ by <= 3 % (median) on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from agent.loopnest.program import DType
from agent.measure.compiler import working_compiler
from agent.measure.evidence import Round
from agent.measure.plan import Arguments, ArrayArgument, Job
from agent.measure.session import BASE, FIRST_VARIANT
from agent.measure.stats import called_different, quantile
from agent.measure.timing import Measurement
from agent.measure.worker_runner import WorkerRunner

ENTRY = "void loopnest_run(void *const args[])"


def array(
    name: str, elements: int, *, written: bool = False, restored: bool = False
) -> ArrayArgument:
    return ArrayArgument(name, DType.F32, elements, written, restored, 2e-3)


def matmul(order: str) -> str:
    loops = " ".join(f"for (int {x} = 0; {x} < 192; {x}++)" for x in order)
    return f"""{ENTRY} {{
        float (*restrict c)[192] = args[0];
        const float (*restrict a)[192] = args[1], (*restrict b)[192] = args[2];
        {loops} c[i][j] += a[i][k] * b[k][j]; }}"""


def triad(pragma: str) -> str:
    return f"""{ENTRY} {{
        float *restrict x = args[0]; const float *restrict y = args[1], *restrict z = args[2];
        {pragma}
        for (int i = 0; i < 2000000; i++) x[i] = y[i] + 1.5f * z[i]; }}"""


def stencil(tile: int) -> str:
    return f"""{ENTRY} {{
        float (*restrict b)[600] = args[0]; const float (*restrict a)[600] = args[1];
        for (int t = 1; t < 599; t += {tile}) for (int i = 1; i < 599; i++)
        for (int j = t; j < 599 && j < t + {tile}; j++)
        b[i][j] = 0.2f * (a[i][j] + a[i-1][j] + a[i+1][j] + a[i][j-1] + a[i][j+1]); }}"""


def jobs() -> dict[str, Job]:
    """Cache-bound serial, memory-bound serial against parallel, and short programs."""
    square = (
        array("c", 36_864, written=True, restored=True),
        array("a", 36_864),
        array("b", 36_864),
    )
    stream = (array("x", 2_000_000, written=True), array("y", 2_000_000), array("z", 2_000_000))
    grid = (array("b", 360_000, written=True), array("a", 360_000))
    parallel = "#pragma omp parallel for"
    return {
        "matmul": Job(Arguments(square), matmul("ikj"), (matmul("ikj"), matmul("kij"))),
        "triad": Job(Arguments(stream), triad(""), (triad(""), triad(parallel))),
        "parallel triad": Job(Arguments(stream), triad(parallel), (triad(parallel), triad(""))),
        "stencil": Job(Arguments(grid), stencil(598), (stencil(598), stencil(32))),
    }


def ratios(rounds: list[Round], program: int) -> tuple[float, ...]:
    timed = [dict(r.seconds) for r in rounds]
    return tuple(math.log(t[BASE] / t[program]) for t in timed)


def same_ratios(measured: Measurement) -> tuple[float, ...]:
    """Log-ratios of the base and the same program given as a variant, undisturbed rounds."""
    good = [r for r in measured.rounds if not r.reasons]
    return ratios(good if len(good) >= 5 else list(measured.rounds), FIRST_VARIANT)


def summary(measured: list[Measurement]) -> dict[str, float]:
    same = [same_ratios(m) for m in measured]
    labels = [m.timings[1].log_speedup for m in measured]
    change = [abs(math.expm1(b - a)) for a, b in pairwise(labels)]
    own = [abs(m.timings[0].log_speedup) for m in measured]
    return {
        "trials": len(measured),
        "called_different": sum(map(called_different, same)) / len(same),
        "same_label_median": statistics.median(own),
        "same_label_p90": quantile(own, 0.9),
        "repeat_median": statistics.median(change),
        "repeat_p90": quantile(change, 0.9),
        "speedup": math.exp(statistics.median(labels)),
        "seconds": statistics.median(m.base.seconds for m in measured),
        "redone": sum(m.base.redone for m in measured) / len(measured),
        "disturbed_used": sum(bool(m.notices) for m in measured) / len(measured),
        "elapsed_s": sum(m.elapsed_s for m in measured) / len(measured),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    measured: dict[str, list[Measurement]] = {name: [] for name in jobs()}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        runner = WorkerRunner(working_compiler(), Path(cache))
        for trial in range(trials):
            name = list(measured)[trial % len(measured)]
            measured[name].append(runner.measure_job(jobs()[name]))
    out: dict[str, object] = {name: summary(ms) for name, ms in measured.items()}
    everything = [m for ms in measured.values() for m in ms]
    same = [called_different(same_ratios(m)) for m in everything]
    out["all"] = {
        "trials": len(same),
        "called_different": sum(same) / len(same),
        "repeat_median": statistics.median(
            s["repeat_median"] for s in map(summary, measured.values())
        ),
        "elapsed_s": time.monotonic() - started,
    }
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
