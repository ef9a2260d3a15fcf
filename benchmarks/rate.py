"""Variants a second on one core: features + encoder + head, and the lowering before them.

    python benchmarks/rate.py [--variants 20000]

Goal: features + encoder + head for ranking >= 20,000 variants a second on one core. Lowering (the
loop tree of one variant into arrays) is a Python loop by nature and is timed on its own.
"""

from __future__ import annotations

import argparse
import json
import os
import time

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def figures(count: int) -> dict[str, float]:
    """Rates in variants a second, best of five passes, pinned to one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    import numpy as np

    from agent.bundle.bundle import default_bundle, load_bundle
    from agent.bundle.encoder import Encoder
    from agent.calibration.predictor import prior_of, represent
    from agent.kernels.fixed_set import kernels, load_kernel
    from agent.loopnest.features.nest import lower
    from agent.loopnest.schedules.candidates import candidate_schedules
    from agent.model.linear import BundleHead

    bundle = load_bundle(default_bundle())
    encoder, head = Encoder(bundle), BundleHead.fit(prior_of(bundle))
    start = time.perf_counter()
    programs = [p for k in kernels() for _, p in candidate_schedules(load_kernel(k), 40)]
    enumerating = time.perf_counter() - start
    start = time.perf_counter()
    table = lower(programs)
    lowering = time.perf_counter() - start
    table = table.take(np.arange(count) % len(table))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        vectors = represent(encoder, table).vectors
        designs = np.append(vectors[:1] - vectors, np.zeros((count, 1)), axis=1)
        head.predict(designs, "speedup")
        best = min(best, time.perf_counter() - start)
    return {
        "features_encoder_head_per_s": count / best,
        "lowering_per_s": len(programs) / lowering,
        "legal_candidates_per_s": len(programs) / enumerating,
        "kernels": len(kernels()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=20_000)
    print(json.dumps(figures(parser.parse_args().variants), indent=2))
