"""Labels of several machines side by side: what an encoder learns from beside simulated ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.arrays import Bools, Doubles, Indices, Singles, Texts
from agent.errors import AgentError
from agent.loopnest.schedules.schedule import ORIGINAL
from bundles.labels.labels import Labels
from bundles.labels.target import Target

MOST_VERSIONS = 24  # of one program; a hundred of its schedules teach little more


@dataclass(frozen=True, eq=False)
class References:
    """Programs with their versions and times on R machines; version 0 is the program as written.

    Attributes:
        targets: [R] the machines.
        program: [p] digests.
        features: [p, v, F]; versions that a program lacks repeat the program as written.
        target: [p, v, R] log seconds less log work, nan where there is no label.
    """

    targets: tuple[Target, ...]
    program: Texts
    features: Singles
    target: Singles

    def __len__(self) -> int:
        return len(self.program)

    def take(self, rows: Indices | Bools) -> References:
        """Some of the programs."""
        return References(self.targets, self.program[rows], self.features[rows], self.target[rows])


def side_by_side(labels: Sequence[Labels]) -> References:
    """The labels of all machines, joined by program and schedule; at most 24 versions of each.

    Raises:
        AgentError: there are no labels at all.
    """
    rows: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for machine, some in enumerate(labels):
        for i, (program, schedule) in enumerate(zip(some.program, some.schedule, strict=True)):
            rows.setdefault(program, {}).setdefault(schedule, []).append((machine, i))
    if not rows:
        raise AgentError("no labels are left to learn from", "Give more label files.")
    width = min(MOST_VERSIONS, max(map(len, rows.values())))
    x = np.zeros((len(rows), width, labels[0].features.shape[1]), np.float32)
    y = np.full((len(rows), width, len(labels)), np.nan, np.float32)
    times = [_relative(some) for some in labels]
    for p, versions in enumerate(rows.values()):
        ordered = _some(versions)
        for v in range(width):
            schedule = ordered[v] if v < len(ordered) else ORIGINAL
            first, row = versions[schedule][0]
            x[p, v] = labels[first].features[row]
            if v < len(ordered):
                for machine, i in versions[schedule]:
                    y[p, v, machine] = times[machine][i]
    targets = tuple(some.target for some in labels)
    return References(targets, np.array(list(rows)), x, y)


def _some(versions: Iterable[str]) -> list[str]:
    """The program as written, then others; of very many, every so manieth."""
    others = sorted(s for s in versions if s != ORIGINAL)
    step = max(1.0, len(others) / (MOST_VERSIONS - 1))
    return [ORIGINAL, *(others[int(k * step)] for k in range(int(len(others) / step + 1e-9)))]


def _relative(labels: Labels) -> Doubles:
    """[n] log seconds less work, a version's from its paired speed-up over the program as written.

    Paired ratios are more exact than the difference of two times.
    """
    base = np.log(labels.seconds[labels.base]) - labels.work
    return np.asarray(base - labels.log_speedup)
