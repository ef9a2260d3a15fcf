"""Timings as the heads see them: designs, targets, errors, kinds and programs, row by row.

The model is ``log seconds(v) = work(v) + w . e(v) + b`` with ``e(v)`` the frozen embedding. A
speed-up row therefore has the design ``e(base) - e(v)`` and 0 for the intercept, a seconds row
``e(v)`` and 1: one weight vector ``(w, b)`` serves both.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from agent.arrays import Bools, Doubles, Ints, Texts
from agent.model.records import Kind

KINDS: tuple[Kind, ...] = ("speedup", "seconds")
SPEEDUP: Kind = "speedup"
SECONDS: Kind = "seconds"


@dataclass(frozen=True)
class PerKind:
    """One number for speed-up rows and one for seconds rows (log units)."""

    speedup: float
    seconds: float

    def rows(self, kind: Texts) -> Doubles:
        """The number that belongs to each row, [n]."""
        return np.where(kind == SECONDS, self.seconds, self.speedup).astype(np.float64)

    def of(self, kind: Kind) -> float:
        """The number of one kind."""
        return self.seconds if kind == SECONDS else self.speedup


def design_rows(gains: Doubles, levels: Doubles) -> Doubles:
    """[n+k, E+1] designs of speed-ups (``e(base) - e(v)``, [n, E]), then of seconds ([k, E])."""
    ones = np.concatenate([np.zeros(len(gains)), np.ones(len(levels))])
    return np.column_stack([np.concatenate([gains, levels]), ones])


def as_kinds(kind: Texts | str, rows: int) -> Texts:
    """Spread one kind over all rows, or check that there is one known kind a row; ValueError."""
    kinds = np.broadcast_to(np.asarray(kind, dtype=np.str_), (rows,))
    if not np.isin(kinds, KINDS).all():
        raise ValueError("a row's kind is 'speedup' or 'seconds'")
    return kinds


@dataclass(frozen=True, eq=False)
class Observations:
    """Labels of one machine.

    Attributes:
        design: [n, E+1]; speed-up row: ``e(base) - e(v)`` and 0; seconds row: ``e(v)`` and 1.
        target: [n] log speed-up, or log seconds less the program's log work.
        sd: [n] standard deviation of the measurement, log units.
        kind: [n] "speedup" or "seconds".
        group: [n] what a row may not be judged together with: rows of one group are held out
            at once (kernels from one C file are one group).
        program: [n] the program whose versions are ranked against each other; default: group.

    Raises:
        ValueError: shapes differ, a number is not finite, or a kind is unknown.
    """

    design: Doubles
    target: Doubles
    sd: Doubles
    kind: Texts
    group: Ints
    program: Ints | None = None

    def __post_init__(self) -> None:
        rows = self.design.shape[0] if self.design.ndim == 2 else -1
        each = (self.target, self.sd, self.kind, self.group, self.programs)
        if any(a.shape != (rows,) for a in each):
            raise ValueError("design is [n, E+1]; target, sd, kind, group and program are [n]")
        if not all(np.isfinite(a).all() for a in (self.design, self.target, self.sd)):
            raise ValueError("a design, target or sd is not finite")
        if (self.sd < 0).any():
            raise ValueError("a measurement's sd is negative")
        as_kinds(self.kind, rows)

    @property
    def programs(self) -> Ints:
        """[n] the program each row is a version of."""
        return self.group if self.program is None else self.program

    def __len__(self) -> int:
        return len(self.target)

    @classmethod
    def none(cls, width: int) -> Self:
        """No labels at all, for designs of ``width`` = E + 1 entries."""
        empty = np.zeros(0)
        kind = np.zeros(0, dtype="<U7")
        return cls(np.zeros((0, width)), empty, empty, kind, np.zeros(0, dtype=np.int64))

    def take(self, rows: Ints | Bools) -> Self:
        """The given rows, in that order."""
        picked = (self.design[rows], self.target[rows], self.sd[rows])
        return type(self)(*picked, self.kind[rows], self.group[rows], self.programs[rows])


def group_folds(group: Ints, most: int, seed: int) -> tuple[Bools, ...]:
    """Split rows into folds that never cut through a group; each mask marks the held-out rows.

    Args:
        group: [n] group of each row.
        most: number of folds wanted; fewer when there are fewer groups.
        seed: how groups are dealt to folds.

    Returns:
        min(most, groups) masks [n] which partition the rows.
    """
    names, which = np.unique(group, return_inverse=True)
    count = min(most, len(names))
    dealt = np.random.default_rng(seed).permutation(len(names)) % max(count, 1)
    return tuple(dealt[which] == fold for fold in range(count))
