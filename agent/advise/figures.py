"""The numbers of a program before and after a schedule that stand beside the causes.

All are counted from loops and accesses, none is the model's. Of several statements the heaviest
speaks, but for what is moved between caches: that is of all together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from agent.loopnest.features import cycles
from agent.loopnest.features.execution import access_counts
from agent.loopnest.features.groups import Cause
from agent.loopnest.features.locality import LINE, Footprints, footprints, moved_units
from agent.loopnest.features.nest import lower
from agent.loopnest.features.rows import StatementRows, flatten
from agent.loopnest.program import Loop, Program, statements

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
        loop: its iterator, empty where loops cannot be told apart.
        iterations: each time it is entered, on average.
        bytes: of the cache lines that one run of it touches.
        fits: the first cache that holds them, ``memory`` where none does.
    """

    loop: str
    iterations: float
    bytes: float
    fits: str


def figures(base: Program, variant: Program, machine: Machine) -> tuple[Figure, ...]:
    """What differs between a program as written and under a schedule, what most first."""
    one, two = _Seen(base, machine), _Seen(variant, machine)
    pairs = ((cause, what, subject, one, two) for cause, what, subject in _subjects(one, two))
    found = (Figure(c, w, s, a.value(w, s), b.value(w, s)) for c, w, s, a, b in pairs)
    return tuple(sorted((figure for figure in found if figure.differs), key=lambda f: -f.change))


def nest(program: Program, machine: Machine) -> tuple[LoopFigures, ...]:
    """The loops around the heaviest statement, outermost first."""
    return tuple(_Seen(program, machine).loops())


def _subjects(one: _Seen, two: _Seen) -> Iterator[tuple[Cause, str, str]]:
    for array in dict.fromkeys((*one.strides, *two.strides)):
        yield Cause.MEMORY, "stride", array
    for cache in one.moved:
        yield Cause.MEMORY, "bytes-moved", cache
    yield Cause.VECTORIZATION, "lanes", ""
    yield Cause.PARALLEL, "threads", ""
    yield Cause.PARALLEL, "forks", ""
    yield Cause.REGISTERS, "accesses", ""
    yield Cause.REGISTERS, "jammed", ""
    yield Cause.LOOPS, "unrolled", ""
    yield Cause.LOOPS, "iterations", ""
    yield Cause.LOOPS, "entries", ""
    yield Cause.REST, "statements", ""


@dataclass(frozen=True)
class _Seen:
    """A program on a machine, taken apart once."""

    program: Program
    machine: Machine

    def value(self, what: str, subject: str) -> float | str:
        """One number by name; 0 where there is none."""
        if what in ("stride", "bytes-moved"):
            return (self.strides if what == "stride" else self.moved).get(subject, 0.0)
        return self._plain[what]

    @cached_property
    def rows(self) -> StatementRows:
        return flatten(lower((self.program,)))

    @cached_property
    def heaviest(self) -> int:
        return int(np.argmax(self.rows.share))

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
            name = self.program.arrays[int(rows.array[entry])].name
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
        return {
            "lanes": self._lanes(),
            "threads": min(float(self.machine.threads), trip) if shared else 1.0,
            "forks": float(np.prod(rows.trip[shared[-1] + 1 :, h])) if shared else 0.0,
            "accesses": loads + stores - still_loads - still_stores,
            "jammed": float(rows.jam[:, h].prod()),
            "unrolled": float(rows.unroll[0, h]),
            "iterations": float(rows.trip[0, h]),
            "entries": float(rows.instances[h] / rows.trip[0, h]),
            "statements": float(sum(1 for _ in statements(self.program.body))),
        }

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
        rows, h = self.rows, self.heaviest
        depth = int(rows.depth[h])
        names = self._names(depth)
        for k in range(depth - 1, -1, -1):
            size = float(self.feet.bytes[k + 1, h])
            fits = next((c for c, room in self.caches.items() if size <= room), MEMORY)
            yield LoopFigures(names[depth - 1 - k], float(rows.trip[k, h]), size, fits)

    def _names(self, depth: int) -> list[str]:
        around: list[tuple[Loop, ...]] = [a for a, _ in statements(self.program.body)]
        sure = len(around) == len(self.rows.depth) and len(around[self.heaviest]) == depth
        return [x.iterator for x in around[self.heaviest]] if sure else [""] * depth
