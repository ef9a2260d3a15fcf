"""Simulated times against real ones, by kind of program and schedule: ``bundles check-simulator``.

The simulated machine is the one that the facts of a target speak for (``machine_like``): nothing
was fitted to the labels. What is compared are speed-ups over the program as written and seconds,
both as logarithms. Programs kept for testing are reported apart from those used for tuning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from agent.arrays import Bools, Doubles, Texts
from agent.errors import AgentError
from agent.loopnest.features.nest import NestTable, concat, lower
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.model.score import spearman
from bundles.evaluation.kinds import kinds_of
from bundles.labels.labels import Labels, is_test, load_labels, sources_of
from bundles.labels.programs import program_of, scheduled
from bundles.simulator.machines import machine_like
from bundles.simulator.simulate import simulate

FEWEST = 12  # rows of a kind that is shown
WORST = 6  # kinds that are named


@dataclass(frozen=True)
class SimulatorErrors:
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

    def to_json(self) -> dict[str, float | None]:
        """Without numbers that JSON has not."""
        return {name: None if math.isnan(x) else x for name, x in asdict(self).items()}


@dataclass(frozen=True)
class SimulatorCheck:
    """A target's comparison: all tuning programs, each kind of them, and the test programs."""

    target: str
    tuning: SimulatorErrors
    test: SimulatorErrors
    kinds: dict[str, SimulatorErrors]

    @property
    def worst(self) -> list[str]:
        """The kinds with the largest errors of speed-ups, worst first."""
        return sorted(self.kinds, key=lambda k: -self.kinds[k].speedup)[:WORST]

    def to_json(self) -> dict[str, object]:
        """As plain values; also which kinds are worst."""
        return {
            "target": self.target,
            "tuning": self.tuning.to_json(),
            "test": self.test.to_json(),
            "kinds": {name: errors.to_json() for name, errors in self.kinds.items()},
            "worst": self.worst,
        }


def check_simulator_on(path: Path) -> SimulatorCheck:
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
    return compare_with_simulator(labels, _lowered_again(path, labels))


def compare_with_simulator(labels: Labels, table: NestTable) -> SimulatorCheck:
    """Compare labels with what the simulator says of the same rows."""
    times = simulate(table, (machine_like(labels.target),))[:, 0].astype(np.float64)
    base = labels.base
    rows = _Compared(
        labels.program, labels.log_speedup, times[base] - times, np.log(labels.seconds), times,
        labels.schedule == ORIGINAL,
    )  # fmt: skip
    test = is_test(labels.program)
    kinds = {k: m & ~test for k, m in kinds_of(labels, table).items()}
    found = {k: rows.errors(m) for k, m in kinds.items() if (m & ~rows.original).sum() >= FEWEST}
    return SimulatorCheck(labels.target.name, rows.errors(~test), rows.errors(test), found)


@dataclass(frozen=True)
class _Compared:
    """Per row: the program, real and simulated log speed-up and log seconds; whether as written."""

    program: Texts
    speedup: Doubles
    simulated_speedup: Doubles
    seconds: Doubles
    simulated_seconds: Doubles
    original: Bools

    def errors(self, mask: Bools) -> SimulatorErrors:
        rows = mask & ~self.original
        off = (self.simulated_speedup - self.speedup)[rows]
        late = (self.simulated_seconds - self.seconds)[mask]
        return SimulatorErrors(
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


def _mean(values: Doubles) -> float:
    return round(float(values.mean()), 4) if len(values) else math.nan


def _lowered_again(path: Path, labels: Labels) -> NestTable:
    """The labels' programs, lowered again."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    try:
        known = {source.digest: source for source in sources_of(table)}
    except AgentError as error:
        hint = "Compare the simulator with a file that `bundles measure` wrote."
        why = f"{path}: its programs cannot be made again: {error.message}"
        raise AgentError(why, hint) from error
    keys = zip(labels.program, labels.schedule, strict=True)
    programs = (
        (program_of(known[name]), [text for _, text in versions])
        for name, versions in groupby(keys, key=itemgetter(0))
    )
    return concat([lower([scheduled(p, text) for text in some]) for p, some in programs])


_HEAD = (
    f"{'':<28}{'rows':>6}{'spread':>8}{'speed-up':>9}{'bias':>7}{'rank':>6}"
    f"{'seconds':>8}{'bias':>7}"
)


def simulator_check_text(checks: Sequence[SimulatorCheck]) -> str:
    """The comparisons as text, one table a target."""
    return "\n\n".join(map(_table, checks))


def _table(found: SimulatorCheck) -> str:
    rows = {"tuning programs": found.tuning, "test programs": found.test, **found.kinds}
    lines = [f"{found.target}: mean absolute log errors, simulated against real", _HEAD]
    lines += [_line(name, errors) for name, errors in rows.items()]
    return "\n".join([*lines, f"worst: {', '.join(found.worst)}"])


def _line(name: str, errors: SimulatorErrors) -> str:
    return (
        f"{name:<28}{errors.rows:>6}{errors.spread:>8.2f}{errors.speedup:>9.2f}"
        f"{errors.bias:>+7.2f}{errors.rank:>6.2f}{errors.seconds:>8.2f}{errors.seconds_bias:>+7.2f}"
    )
