"""Simulated times against real ones, by kind of program and schedule: ``bundles check-simulator``.

The simulated machine is the one that the facts of a target speak for (``machine_like``): nothing
was fitted to the labels. What is compared are speed-ups over the program as written and seconds,
both as logarithms. Programs kept for testing are reported apart from those used for tuning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Doubles, Texts
from agent.errors import AgentError
from agent.loopnest.features.nest import NestTable, concat, lower
from agent.loopnest.features.summary import OPS
from agent.loopnest.schedules.schedule import ORIGINAL, parse_schedule
from agent.loopnest.schedules.transform import apply
from agent.model.score import spearman
from bundles.labels.labels import Labels, is_test, load_labels
from bundles.labels.programs import corpus_program
from bundles.simulator.machines import machine_like
from bundles.simulator.simulate import simulate
from bundles.simulator.traffic import simulated_rows, touched_bytes

STEPS = (
    "tile", "interchange", "parallelize", "vectorize", "unroll", "jam", "skew", "fuse",
    "distribute", "reverse",
)  # fmt: skip
FEWEST = 12  # rows of a kind that is shown
WORST = 6  # kinds that are named
SHORT_S, SMALL_S = 20e-6, 200e-6


@dataclass(frozen=True)
class Figures:
    """How far simulated times are from real ones.

    Attributes:
        programs, rows: how many there are (without the programs as written).
        spread: mean absolute log speed-up: the error of predicting that nothing changes.
        speedup, bias: mean absolute and mean signed error of log speed-ups (simulated - real).
        rank: Spearman's correlation within a program, mean over programs.
        seconds, seconds_bias: the same errors of log seconds.
    """

    programs: int
    rows: int
    spread: float
    speedup: float
    bias: float
    rank: float
    seconds: float
    seconds_bias: float


@dataclass(frozen=True)
class Check:
    """A target's comparison: all tuning programs, each kind of them, and the test programs."""

    target: str
    tuning: Figures
    test: Figures
    kinds: dict[str, Figures]

    @property
    def worst(self) -> list[str]:
        """The kinds with the largest errors of speed-ups, worst first."""
        return sorted(self.kinds, key=lambda k: -self.kinds[k].speedup)[:WORST]

    def to_json(self) -> dict[str, Any]:
        """As plain values; also which kinds are worst."""
        figures = {"tuning": self.tuning, "test": self.test}
        plain = {name: _plain(f) for name, f in figures.items()}
        kinds = {name: _plain(f) for name, f in self.kinds.items()}
        return {"target": self.target, **plain, "kinds": kinds, "worst": self.worst}


def _plain(figures: Figures) -> dict[str, float | None]:
    """Without numbers that JSON has not."""
    return {name: None if math.isnan(x) else x for name, x in asdict(figures).items()}


def check(path: Path) -> Check:
    """Compare one file of labels.

    Raises:
        AgentError: it is not a usable file of labels, or its programs cannot be made again.
    """
    labels = load_labels(path)
    labels = labels.take(~labels.fixed)
    if not len(labels):
        raise AgentError(
            f"{path} has no program of the random corpus",
            "Measure some: bundles measure --programs 100.",
        )
    table = _tables(path, labels)
    return compare(labels, table)


def compare(labels: Labels, table: NestTable) -> Check:
    """Compare labels with what the simulator says of the same rows."""
    times = simulate(table, (machine_like(labels.target),))[:, 0].astype(np.float64)
    base = labels.base
    errors = _Errors(
        labels.program, labels.log_speedup, times[base] - times, np.log(labels.seconds), times,
        labels.schedule == ORIGINAL,
    )  # fmt: skip
    test = is_test(labels.program)
    kinds = {k: m & ~test for k, m in kinds_of(labels, table).items()}
    found = {k: errors.of(m) for k, m in kinds.items() if (m & ~errors.original).sum() >= FEWEST}
    return Check(labels.target.name, errors.of(~test), errors.of(test), found)


@dataclass(frozen=True)
class _Errors:
    """Per row: the program, real and simulated log speed-up and log seconds; whether as written."""

    program: Texts
    speedup: Doubles
    simulated_speedup: Doubles
    seconds: Doubles
    simulated_seconds: Doubles
    original: Bools

    def of(self, mask: Bools) -> Figures:
        rows = mask & ~self.original
        off = (self.simulated_speedup - self.speedup)[rows]
        late = (self.simulated_seconds - self.seconds)[mask]
        return Figures(
            programs=len(set(self.program[mask])),
            rows=int(rows.sum()),
            spread=_mean(np.abs(self.speedup[rows])),
            speedup=_mean(np.abs(off)),
            bias=_mean(off),
            rank=self._rank(mask),
            seconds=_mean(np.abs(late)),
            seconds_bias=_mean(late),
        )

    def _rank(self, mask: Bools) -> float:
        group = np.unique(self.program[mask], return_inverse=True)[1]
        found = spearman(self.speedup[mask], self.simulated_speedup[mask].round(6), group)
        return math.nan if found is None else round(found, 4)


def _mean(values: npt.NDArray[Any]) -> float:
    return round(float(values.mean()), 4) if len(values) else math.nan


def kinds_of(labels: Labels, table: NestTable) -> dict[str, Bools]:
    """Which rows are of which kind; kinds overlap."""
    steps = [{step.split()[0] for step in text.split("; ")} for text in labels.schedule]
    kinds = {f"family {f}": labels.family == f for f in sorted(set(labels.family))}
    kinds |= {f"step {name}": np.array([name in s for s in steps]) for name in STEPS}
    kinds |= {f"only {name}": np.array([s == {name} for s in steps]) for name in STEPS}
    return kinds | _traits(table) | _places(labels, table)


def _traits(table: NestTable) -> dict[str, Bools]:
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


def _places(labels: Labels, table: NestTable) -> dict[str, Bools]:
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


def _tables(path: Path, labels: Labels) -> NestTable:
    """The labels' programs, lowered again."""
    import pyarrow.parquet as pq

    columns = pq.read_table(path)
    if missing := [n for n in ("seed", "number") if n not in columns.column_names]:
        raise AgentError(
            f"{path} has no column {missing[0]}: its programs cannot be made again",
            "Compare the simulator with a file that `bundles measure` wrote.",
        )
    names = ("program", "seed", "number")
    sources = {
        row[0]: row[1:] for row in zip(*(columns[n].to_pylist() for n in names), strict=True)
    }
    keys = zip(labels.program, labels.schedule, strict=True)
    jobs = [
        (*sources[name], tuple(r[1] for r in group))
        for name, group in groupby(keys, key=lambda r: r[0])
    ]
    return concat([_lowered(job) for job in jobs])


def _lowered(job: tuple[int, int, tuple[str, ...]]) -> NestTable:
    seed, number, schedules = job
    program = corpus_program(seed, number)
    versions = []
    for text in schedules:
        version = program
        for step in parse_schedule(text).steps:
            version = apply(version, step)
        versions.append(version)
    return lower(versions)


def shown(checks: Sequence[Check]) -> str:
    """The comparison as text."""
    return "\n\n".join(_shown(c) for c in checks)


_HEAD = (
    f"{'':<28}{'rows':>6}{'spread':>8}{'speed-up':>9}{'bias':>7}{'rank':>6}"
    f"{'seconds':>8}{'bias':>7}"
)


def _shown(found: Check) -> str:
    rows: Mapping[str, Figures] = {
        "tuning programs": found.tuning, "test programs": found.test, **found.kinds
    }  # fmt: skip
    lines = [f"{found.target}: mean absolute log errors, simulated against real", _HEAD]
    lines += [_line(name, figures) for name, figures in rows.items()]
    return "\n".join([*lines, f"worst: {', '.join(found.worst)}"])


def _line(name: str, f: Figures) -> str:
    return (
        f"{name:<28}{f.rows:>6}{f.spread:>8.2f}{f.speedup:>9.2f}{f.bias:>+7.2f}{f.rank:>6.2f}"
        f"{f.seconds:>8.2f}{f.seconds_bias:>+7.2f}"
    )
