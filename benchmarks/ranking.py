"""CPU seconds to read a kernel and to rank schedules of it, for five shapes of kernels.

    python benchmarks/ranking.py [--schedules 200] [--drawn 2000] [--json FILE]

Goals, on one core: reading and ranking 200 schedules in under 1 s; enumeration, legality and
prediction together at 5,000 schedules a second (the last column: as ``agent tune`` draws them,
where what is drawn twice counts twice, and what cannot be written as C is left out later).
``benchmarks/suites.py --polybench DIR --rank`` measures the ranking on PolyBench. CPU seconds leave
out what others do on the machine. Every kernel is ranked in a process of its own, so that nothing
is known of it before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import tempfile
from pathlib import Path

PART = 250  # schedules drawn together
KERNELS = {  # name -> sizes, C
    "gemm": (
        {"n": 220},
        """
        void gemm(int n, double a[n][n], double b[n][n], double c[n][n], double beta) {
          for (int i = 0; i < n; i++) {
            for (int j = 0; j < n; j++) c[i][j] *= beta;
            for (int k = 0; k < n; k++)
              for (int j = 0; j < n; j++) c[i][j] += a[i][k] * b[k][j];
          }
        }""",
    ),
    "two_products": (
        {"n": 200},
        """
        void two_products(int n, double t[n][n], double a[n][n], double b[n][n], double c[n][n],
                          double d[n][n]) {
          for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
              t[i][j] = 0.0;
              for (int k = 0; k < n; k++) t[i][j] += a[i][k] * b[k][j];
            }
          for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
              for (int k = 0; k < n; k++) d[i][j] += t[i][k] * c[k][j];
        }""",
    ),
    "lu": (
        {"n": 400},
        """
        void lu(int n, double a[n][n]) {
          for (int i = 0; i < n; i++) {
            for (int j = 0; j < i; j++) {
              for (int k = 0; k < j; k++) a[i][j] -= a[i][k] * a[k][j];
              a[i][j] /= a[j][j];
            }
            for (int j = i; j < n; j++)
              for (int k = 0; k < i; k++) a[i][j] -= a[i][k] * a[k][j];
          }
        }""",
    ),
    "in_place_stencil": (
        {"steps": 100, "n": 400},
        """
        void in_place_stencil(int steps, int n, double a[n][n]) {
          for (int t = 0; t < steps; t++)
            for (int i = 1; i < n - 1; i++)
              for (int j = 1; j < n - 1; j++)
                a[i][j] = (a[i-1][j-1] + a[i-1][j] + a[i-1][j+1] + a[i][j-1] + a[i][j]
                           + a[i][j+1] + a[i+1][j-1] + a[i+1][j] + a[i+1][j+1]) / 9.0;
        }""",
    ),
    "alternating_directions": (
        {"steps": 100, "n": 200},
        """
        void alternating_directions(int steps, int n, double u[n][n], double v[n][n],
                                    double p[n][n], double q[n][n]) {
          double a = -0.3, b = 1.6, c = a, d = -0.4, e = 1.8, f = d;
          for (int t = 1; t <= steps; t++) {
            for (int i = 1; i < n - 1; i++) {
              v[0][i] = 1.0;
              p[i][0] = 0.0;
              q[i][0] = v[0][i];
              for (int j = 1; j < n - 1; j++) {
                p[i][j] = -c / (a * p[i][j-1] + b);
                q[i][j] = (-d * u[j][i-1] + (1.0 + 2.0 * d) * u[j][i] - f * u[j][i+1]
                           - a * q[i][j-1]) / (a * p[i][j-1] + b);
              }
              v[n-1][i] = 1.0;
              for (int j = n - 2; j >= 1; j--) v[j][i] = p[i][j] * v[j+1][i] + q[i][j];
            }
            for (int i = 1; i < n - 1; i++) {
              u[i][0] = 1.0;
              p[i][0] = 0.0;
              q[i][0] = u[i][0];
              for (int j = 1; j < n - 1; j++) {
                p[i][j] = -f / (d * p[i][j-1] + e);
                q[i][j] = (-a * v[i-1][j] + (1.0 + 2.0 * a) * v[i][j] - c * v[i+1][j]
                           - d * q[i][j-1]) / (d * p[i][j-1] + e);
              }
              u[i][n-1] = 1.0;
              for (int j = n - 2; j >= 1; j--) u[i][j] = p[i][j] * u[i][j+1] + q[i][j];
            }
          }
        }""",
    ),
}


def figures(name: str, count: int, drawn_too: int) -> dict[str, float]:
    """CPU seconds of the three stages, schedules a second over the last two, and while tuning."""
    from agent.advise.guided import Pool
    from agent.bundle.bundle import default_bundle, load_bundle
    from agent.calibration.predictor import load_predictor
    from agent.loopnest.frontend.parse import parse
    from agent.loopnest.lowering.reader import read_region
    from agent.loopnest.schedules.candidates import candidate_schedules, proposals
    from agent.loopnest.schedules.dependence import Dependences
    from agent.loopnest.schedules.schedule import Schedule
    from agent.measure.machine import read_machine

    predictor = load_predictor(None, load_bundle(default_bundle()), read_machine())
    sizes, text = KERNELS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.c")
        path.write_text(text)
        start = _spent()
        program = read_region(parse(path, ()), name, sizes, None, 8 << 30).program
    read = _spent()
    drawn = candidate_schedules(program, count)
    enumerated = _spent()
    predictor.predict(program, [variant for _, variant in drawn])
    end = _spent()
    pool = Pool(program, predictor)
    drafts = proposals(Dependences.of(program), random.Random(0), in_c=False)
    for _ in range(0, drawn_too, PART):
        pool.add((Schedule(tuple(d.steps)), d.program) for d in itertools.islice(drafts, PART))
    tuned = _spent()
    return {
        "read_s": round(read - start, 3),
        "enumerate_s": round(enumerated - read, 3),
        "predict_s": round(end - enumerated, 3),
        "schedules": len(drawn),
        "per_s": round(len(drawn) / (end - read)),
        "drawn_per_s": round(-(-drawn_too // PART) * PART / (tuned - end)),
    }


def _spent() -> float:
    """CPU seconds of this process and its children."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=200, metavar="N")
    parser.add_argument("--drawn", type=int, default=2000, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    found = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in KERNELS:
            found[name] = pool.apply(figures, (name, args.schedules, args.drawn))
    print(
        "| kernel | read, s | enumerate, s | predict, s | schedules | a second | drawn a second |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, row in found.items():
        print(f"| {name} | {' | '.join(map(str, row.values()))} |")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
