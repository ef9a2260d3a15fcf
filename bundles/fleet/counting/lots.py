"""How reports that wait become numbers that may be shown. Pure.

A lot is pending reports that are alike, in tens; of each attribute it tells means of ten machines,
or labels in tens (docs/explanation/fleet.md). A machine whose site gave it a label is shown by
itself anyway: it counts at once, is never in a lot with others, and tells nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

MIXED = "mixed"  # architectures that are too few by themselves
MOST_PARTS = 24  # of one attribute in one lot: finer than that nobody looks

Bins = Mapping[int | None, int]  # machines in each bin; None: not known of them


class CellKey(NamedTuple):
    """What the machines of a pending group have in common: ``schema.KEY``, and whether labelled."""

    week: int
    bundle: str
    version: str
    channel: str
    architecture: str
    outcome: str
    labelled: bool = False

    def least(self, threshold: int) -> int:
        """Machines that a group, and each of its numbers, must have to be shown."""
        return 1 if self.labelled else threshold


class Part(NamedTuple):
    """So many machines with a label, or whose bins have this mean (rounded to a bin)."""

    value: int
    machines: int


class Lot(NamedTuple):
    """What is released as one: the groups it takes, and under which it is shown."""

    shown: CellKey
    groups: tuple[CellKey, ...]


def lots(pending: Mapping[CellKey, int], closed: int, threshold: int) -> list[Lot]:
    """Which groups are released now.

    Rare outcomes are pooled over architectures at every release, so that never as many as
    ``threshold`` of them stay unseen; kept ones wait for others of their architecture until their
    week is over. What is too few even then is never shown.
    """
    large = [Lot(group, (group,)) for group, n in pending.items() if n >= group.least(threshold)]
    pools: dict[CellKey, list[CellKey]] = {}
    for group, machines in pending.items():
        if machines < group.least(threshold) and (group.week <= closed or group.outcome != "kept"):
            pools.setdefault(group._replace(architecture=MIXED), []).append(group)
    pooled = [
        Lot(shown, tuple(groups))
        for shown, groups in pools.items()
        if sum(pending[g] for g in groups) >= threshold
    ]
    return sorted(large + pooled)


def tens(bins: Bins, threshold: int) -> list[Part]:
    """A distribution as its machines in order, ten by ten: of each group only the mean is told.

    Nothing at all where so few have a value, or so few lack one, that saying so would tell on them.
    Where some lack one, the others may be no whole tens: all groups have a share of the rest, which
    is not counted.
    """
    lacking = bins.get(None, 0)
    known = sum(bins.values()) - lacking
    if known < threshold or 0 < lacking < threshold:
        return []
    values = sorted((v, n) for v, n in bins.items() if v is not None)
    machines = [value for value, count in values for _ in range(count)]
    all_tens = known // threshold
    groups = min(all_tens, MOST_PARTS)
    cuts = [all_tens * group // groups for group in range(groups + 1)]
    return _summed(
        Part(
            round(fmean(machines[a * known // all_tens : b * known // all_tens])),
            (b - a) * threshold,
        )
        for a, b in pairwise(cuts)
    )


def labels(bins: Bins, threshold: int) -> list[Part]:
    """Labels that enough machines have, in tens: the rest of a lot is tens then, or none."""
    return sorted(
        Part(v, n - n % threshold) for v, n in bins.items() if v is not None and n >= threshold
    )


def _summed(groups: Iterable[Part]) -> list[Part]:
    sums: dict[int, int] = {}
    for value, machines in groups:
        sums[value] = sums.get(value, 0) + machines
    return [Part(value, machines) for value, machines in sorted(sums.items())]
