"""Kinds of labelled rows, by program and schedule: a simulation may be wrong about each."""

from __future__ import annotations

import numpy as np

from agent.arrays import Bools
from agent.loopnest.features.nest import NestTable
from agent.loopnest.features.summary import OPS
from bundles.labels.labels import Labels
from bundles.simulator.traffic import simulated_rows, touched_bytes

STEPS = (
    "tile", "interchange", "parallelize", "vectorize", "unroll", "jam", "skew", "fuse",
    "distribute", "reverse", "pack", "cyclic", "collapse", "stream", "shift", "wrap", "diamond",
)  # fmt: skip
SHORT_S, SMALL_S = 20e-6, 200e-6


def kinds_of(labels: Labels, table: NestTable) -> dict[str, Bools]:
    """Which rows are of which kind; kinds overlap."""
    steps = [{step.split()[0] for step in text.split("; ")} for text in labels.schedule]
    kinds = {f"family {f}": labels.family == f for f in sorted(set(labels.family))}
    kinds |= {f"step {name}": np.array([name in s for s in steps]) for name in STEPS}
    kinds |= {f"only {name}": np.array([s == {name} for s in steps]) for name in STEPS}
    return kinds | _loop_traits(table) | _data_and_duration(labels, table)


def _loop_traits(table: NestTable) -> dict[str, Bools]:
    """What the heaviest statement's loops look like, and the program as a whole."""
    rows = simulated_rows(table)
    share = table.share[rows.program, rows.place]
    order = np.lexsort((-share, rows.program))
    first = order[np.flatnonzero(np.diff(rows.program[order], prepend=-1))]  # [n] heaviest rows
    inner = np.maximum(rows.depth[first] - 1, 0)
    stride = np.take_along_axis(rows.stride[first], inner[:, None, None], axis=2)[..., 0]
    element = table.element_bytes[rows.program[first], rows.place[first]]
    heavy = (rows.program[first], rows.place[first], inner)
    power = (stride >= 1024) & (np.mod(stride, 1024) == 0)
    uneven = (table.imbalance > 1.05).any((1, 2)) & (table.share[:, 0] > 0)
    return {
        "innermost reduction": table.reduction[heavy],
        "innermost recurrence": table.recurrence[heavy],
        "strided innermost": (stride > 4.01 * element).any(1),
        "power-of-two strides": power.any(1),
        "uneven domain": uneven,
        "several statements": table.statements > 1,
        "tiny innermost trip": table.trip[heavy] < 8,
        "divides, roots, exp": (table.ops[heavy[:2]][:, 2:5] > 0).any(1),
        "selects": table.ops[heavy[:2]][:, OPS.index("minmax")] > 0,
        "8-byte lanes": table.lane_bytes[heavy[:2]] == 8,
        "1- and 2-byte lanes": table.lane_bytes[heavy[:2]] < 4,
    }


def _data_and_duration(labels: Labels, table: NestTable) -> dict[str, Bools]:
    """Where the data is, and how long a run takes."""
    target, original = labels.target, labels.seconds[labels.base]
    size = touched_bytes(table)[labels.base]
    ends = [float(x) for x in (target.l1, target.l2, target.l3) if x]
    names = ["L1", "L2", "L3"][: len(ends)]
    place = np.searchsorted(ends, size)
    kinds = {f"data in {n}": place == i for i, n in enumerate([*names, "memory"])}
    kinds["shorter than 20 us"] = original < SHORT_S
    parallel = table.parallel.any((1, 2))
    kinds["parallel, small"] = parallel & (original < SMALL_S)
    kinds["parallel, large"] = parallel & (original >= SMALL_S)
    return kinds
