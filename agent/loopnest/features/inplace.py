"""Loops that carry a value from one iteration to a later one, seen from subscript distances.

A store ``a[i]`` and a load ``a[i-1]`` of the same array with the same coefficients are a
constant distance apart; the outermost loop that moves along it carries the value. Two accesses
with different coefficients are not compared: the answer serves prediction, not legality (which
``legality.py`` decides exactly).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from agent.loopnest.features.counting import CountedLoop
from agent.loopnest.features.summary import DistinctAccess, Summary
from agent.loopnest.program import Statement

Placed = tuple[Statement, Summary, tuple[CountedLoop, ...]]


def carried_loops(
    placed: Sequence[Placed], written: AbstractSet[str] = frozenset()
) -> list[frozenset[int]]:
    """For each statement, the depths of the loops that carry a value into or out of it.

    Args:
        placed: the statements of one nest.
        written: temporaries that are written before it.
    """
    out: list[set[int]] = [set() for _ in placed]
    stores: dict[int, list[tuple[int, DistinctAccess]]] = {}
    for k, (_, summary, _) in enumerate(placed):
        for entry in summary.entries:
            if entry.is_write:
                stores.setdefault(entry.array, []).append((k, entry))
    for k, (statement, summary, _) in enumerate(placed):
        for load in summary.entries:
            if load.is_write:
                continue
            for other, store in stores.get(load.array, ()):
                if store.terms == load.terms:
                    for depth in _array_depths(placed, k, other, store, load):
                        out[k].add(depth)
                        out[other].add(depth)
        if summary.temporary_depth is not None and not statement.op:
            _mark_temporary(placed, k, written, out)
    return [frozenset(x) for x in out]


def _shared(placed: Sequence[Placed], a: int, b: int) -> list[CountedLoop]:
    pairs = zip(placed[a][2], placed[b][2], strict=False)
    return [x for x, y in pairs if x.number == y.number]


def _array_depths(
    placed: Sequence[Placed], reader: int, writer: int, store: DistinctAccess, load: DistinctAccess
) -> Iterable[int]:
    """Depths of the loops that carry ``load`` from ``store``."""
    shared = _shared(placed, reader, writer)
    moving = {name for terms in store.terms for name, _ in terms}
    points = [lv for lv in shared if not any(x.tile is lv for x in shared)]
    # A loop that leaves the element where it is comes back to it in each of its iterations.
    still = [lv for lv in points if lv.loop.iterator not in moving]
    carriers = [] if placed[writer][0].op and reader == writer else still
    delta = [s - r for s, r in zip(store.consts, load.consts, strict=True)]
    if any(delta):
        steps = _solve(store, delta)
        along = [lv for lv in points if steps.get(lv.loop.iterator)]
        carriers = carriers + along[:1]
    elif reader == writer:
        carriers = still
    else:
        carriers = still if reader < writer else []
    return [x.depth for lv in carriers for x in _with_tiles(lv)]


def _with_tiles(level: CountedLoop) -> Iterable[CountedLoop]:
    while True:
        yield level
        if level.tile is None:
            return
        level = level.tile


def _solve(store: DistinctAccess, delta: Sequence[int]) -> dict[str, float]:
    """Iterations by which each iterator must advance to cover ``delta``; empty where it cannot."""
    names = sorted({name for terms in store.terms for name, _ in terms})
    out: dict[str, float] = {}
    if all(len(terms) <= 1 for terms in store.terms):
        for terms, d in zip(store.terms, delta, strict=True):
            if not terms:
                if d:
                    return {}
                continue
            name, c = terms[0]
            if d % c or out.setdefault(name, d // c) != d // c:
                return {}
        return out
    matrix = np.array([[dict(terms).get(n, 0) for n in names] for terms in store.terms], float)
    steps = np.linalg.lstsq(matrix, np.asarray(delta, float), rcond=None)[0]
    if np.abs(matrix @ steps - delta).max() > 1e-6:
        return {}
    return {name: round(float(steps[k]), 6) for k, name in enumerate(names)}


def _mark_temporary(
    placed: Sequence[Placed], writer: int, written: AbstractSet[str], out: list[set[int]]
) -> None:
    """A temporary read before it is written carries its value through the loops it outlives."""
    statement, summary, _ = placed[writer]
    name = statement.target.array
    fixed = {n for a in statement.instance[: summary.temporary_depth] for n in a.names}
    for reader in range(writer + 1):
        if name not in placed[reader][0].reads:
            continue
        if name in written or any(placed[k][0].target.array == name for k in range(reader)):
            continue  # written earlier in the same iteration
        for level in _shared(placed, reader, writer):
            inner_tile = any(x.tile is level for x in placed[writer][2])
            if level.loop.iterator not in fixed and not inner_tile:
                out[reader].add(level.depth)
                out[writer].add(level.depth)
