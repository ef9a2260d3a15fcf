"""The numbers of a program before and after a schedule that stand beside the causes.

All are counted from loops and accesses (what gcc does, by its rules), none is the model's. Of
several statements that with most work as written speaks, but for what is moved between caches: that
is of the four with most work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from agent.loopnest.features import cycles
from agent.loopnest.features.compilers import compiler_columns
from agent.loopnest.features.execution import access_counts
from agent.loopnest.features.groups import Cause
from agent.loopnest.features.locality import LINE, TLB_ENTRIES, Footprints, footprints, moved_units
from agent.loopnest.features.nest import STATEMENTS, NestTable, as_seen, lower
from agent.loopnest.features.rows import StatementRows, flatten
from agent.loopnest.features.vector import work
from agent.loopnest.program import Loop, Node, Program, statements

if TYPE_CHECKING:
    from agent.measure.machine import Machine

DIFFERENT = 0.05  # log units: a number that changes by less is not told
MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the program, as written and under the schedule.

    Attributes:
        cause: what it belongs to.
        what: which number; ``subject``: of which array, loop or cache, empty where of all.
        before, after: the number, or a word where it is none.
    """

    cause: Cause
    what: str
    subject: str
    before: float | str
    after: float | str

    @property
    def change(self) -> float:
        """By how much it differs: a log ratio of numbers, infinite of words."""
        if isinstance(self.before, str) or isinstance(self.after, str):
            return 0.0 if self.before == self.after else math.inf
        least, most = sorted((self.before, self.after))
        return math.log((most + 1.0) / (least + 1.0))

    @property
    def differs(self) -> bool:
        """Whether it is worth telling."""
        return self.change > DIFFERENT

    def to_json(self) -> dict[str, str | float]:
        """Plain values, but for the cause."""
        names = ("what", "subject", "before", "after")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class LoopFigures:
    """A loop around the heaviest statement.

    Attributes:
        loop: its iterator.
        iterations: each time it is entered, on average.
        bytes: of the cache lines that one run of it touches.
        fits: the first cache that holds them, ``memory`` where none does.
    """

    loop: str
    iterations: float
    bytes: float
    fits: str


def figures(base: Program, variant: Program, machine: Machine) -> tuple[Figure, ...]:
    """What differs between a program as written and under a schedule; in memory what most first."""
    one, two = _both(base, variant, machine)
    names = _subjects(one, two)
    found = (Figure(c, w, s, one.value(w, s), two.value(w, s)) for c, w, s in names)
    told = (figure for figure in found if figure.differs)
    return tuple(sorted(told, key=lambda f: -f.change if f.cause == Cause.MEMORY else 0.0))


def nests(
    base: Program, variant: Program, machine: Machine
) -> tuple[tuple[LoopFigures, ...], tuple[LoopFigures, ...]]:
    """The loops around the heaviest statement, outermost first, as written and under a schedule."""
    one, two = _both(base, variant, machine)
    return tuple(one.loops()), tuple(two.loops())


def _both(base: Program, variant: Program, machine: Machine) -> tuple[_Seen, _Seen]:
    names = _by_work(base)[:STATEMENTS]
    trees = (as_seen(p) for p in (base, variant))
    one, two = (p.with_body(_only(p.body, frozenset(names))) for p in trees)
    return _Seen(one, machine, names[0]), _Seen(two, machine, names[0])


def _written(name: str) -> str:
    """The array that a buffer stands for, the loop that blocks of lanes are of."""
    return name.partition("#")[0]


def _by_work(program: Program) -> list[str]:
    """The names of all statements, that with most work first."""
    names = [s.name for _, s in statements(program.body)]
    alone = [program.with_body(_only(program.body, frozenset({name}))) for name in names]
    todo = dict(zip(names, work(lower(alone)).tolist(), strict=True))
    return sorted(names, key=lambda name: -todo[name])


def _only(nodes: tuple[Node, ...], names: frozenset[str]) -> tuple[Node, ...]:
    """The tree without other statements, and without loops that are empty then."""
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Loop):
            if body := _only(node.body, names):
                kept.append(replace(node, body=body))
        elif node.name in names:
            kept.append(node)
    return tuple(kept)


def _subjects(one: _Seen, two: _Seen) -> Iterator[tuple[Cause, str, str]]:
    for array in dict.fromkeys((*one.strides, *two.strides)):
        yield Cause.MEMORY, "stride", array
    for cache in one.moved:
        yield Cause.MEMORY, "bytes-moved", cache
    yield Cause.MEMORY, "page-walks", ""
    yield Cause.VECTORIZATION, "lanes", ""
    yield Cause.PARALLEL, "threads", ""
    yield Cause.PARALLEL, "forks", ""
    yield Cause.REGISTERS, "accesses", ""
    yield Cause.REGISTERS, "jammed", ""
    yield Cause.LOOPS, "unrolled", ""
    yield Cause.LOOPS, "iterations", ""
    yield Cause.LOOPS, "entries", ""
    yield Cause.COMPILER, "gcc-interchanges", ""
    yield Cause.COMPILER, "gcc-unrolls", ""


@dataclass(frozen=True)
class _Seen:
    """A program of few statements on a machine, taken apart once; ``statement`` speaks."""

    program: Program
    machine: Machine
    statement: str

    def value(self, what: str, subject: str) -> float | str:
        """One number by name; 0 where there is none."""
        if what in ("stride", "bytes-moved"):
            return (self.strides if what == "stride" else self.moved).get(subject, 0.0)
        return self._plain[what]

    @cached_property
    def table(self) -> NestTable:
        return lower((self.program,))

    @cached_property
    def rows(self) -> StatementRows:
        return flatten(self.table)

    @cached_property
    def heaviest(self) -> int:
        names = [s.name for _, s in statements(self.program.body)]
        before = self.table.share[0, : names.index(self.statement)]
        return int(np.count_nonzero(before))  # what never runs has no row

    @cached_property
    def feet(self) -> Footprints:
        return footprints(self.rows)

    @cached_property
    def caches(self) -> Mapping[str, int]:
        known = "caches" not in self.machine.unknown
        return {f"L{n}": size for n, size in sorted(self.machine.caches.items()) if known}

    @cached_property
    def strides(self) -> Mapping[str, float]:
        """The longest bytes from one step of the innermost loop to the next, by array."""
        rows = self.rows
        found: dict[str, float] = {}
        for entry in np.flatnonzero(rows.row == self.heaviest):
            name = _written(self.program.arrays[int(rows.array[entry])].name)
            found[name] = max(found.get(name, 0.0), float(abs(rows.stride[0, entry])))
        return found

    @cached_property
    def moved(self) -> Mapping[str, float]:
        """Bytes brought into each cache in one run, by the level they come from."""
        if not self.caches:
            return {}
        names = (*list(self.caches)[1:], MEMORY)
        sizes = np.array(list(self.caches.values()), np.float32)
        units = moved_units(self.rows, self.feet.lines, self.feet.bytes, sizes)
        return dict(zip(names, (units.sum(axis=1) * LINE).astype(float).tolist(), strict=True))

    @cached_property
    def _plain(self) -> Mapping[str, float | str]:
        rows, h = self.rows, self.heaviest
        shared = [k for k in range(rows.levels) if rows.parallel[k, h]]
        trip = float(rows.trip[shared[-1], h]) if shared else 1.0
        loads, stores, still_loads, still_stores = (float(x[h]) for x in access_counts(rows))
        gcc = {name: float(column[h]) for name, column in compiler_columns(rows).items()}
        return {
            "page-walks": self._page_walks(),
            "lanes": self._lanes(),
            "threads": min(float(self.machine.threads), trip) if shared else 1.0,
            "forks": float(np.prod(rows.trip[shared[-1] + 1 :, h])) if shared else 0.0,
            "accesses": loads + stores - still_loads - still_stores,
            "jammed": float(rows.jam[:, h].prod()),
            "unrolled": float(rows.unroll[0, h]),
            "iterations": float(rows.trip[0, h]),
            "entries": float(rows.instances[h] / rows.trip[0, h]),
            "gcc-interchanges": "yes" if gcc["gcc_interchange"] else "no",
            "gcc-unrolls": gcc["gcc_peels"],
        }

    def _page_walks(self) -> float:
        """How often a page is touched in one run that is not among those touched last."""
        recent = np.array(TLB_ENTRIES[:1], np.float32)
        return float(moved_units(self.rows, self.feet.pages, self.feet.page_total, recent).sum())

    def _lanes(self) -> str:
        """Whether the innermost loop runs in SIMD lanes, or what is against it."""
        rows, h = self.rows, self.heaviest
        strided = (np.abs(rows.stride[0]) > rows.element) & (rows.row == h)
        if rows.vector[0, h]:
            return "marked-strided" if strided.any() else "marked"
        if cycles.is_sum(rows)[h]:
            return "sum"
        if rows.recurrence[0, h]:
            return "carried"
        if cycles.calls(rows)[h]:
            return "call"
        return "strided" if strided.any() else "by-compiler"

    def loops(self) -> Iterator[LoopFigures]:
        """The loops around the statement, outermost first."""
        rows, h = self.rows, self.heaviest
        around = next(a for a, s in statements(self.program.body) if s.name == self.statement)
        for k in range(int(rows.depth[h]) - 1, -1, -1):
            size = float(self.feet.bytes[k + 1, h])
            fits = next((c for c, room in self.caches.items() if size <= room), MEMORY)
            yield LoopFigures(_written(around[-1 - k].iterator), float(rows.trip[k, h]), size, fits)
