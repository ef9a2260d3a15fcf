"""Programs lowered to dense numeric tables: what features and simulated machines read.

Each program (a base or a scheduled variant) becomes up to ``STATEMENTS`` rows, one per statement,
with the loops around it outermost first. Everything here is counted from the tree: no
enumeration of the domain, no islpy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from agent.arrays import Array as Elements
from agent.arrays import Bools, Doubles, Indices, Shorts, Singles
from agent.loopnest.emitter.lanes import as_tiles
from agent.loopnest.emitter.packing import packed
from agent.loopnest.features import counting
from agent.loopnest.features.counting import CountedLoop
from agent.loopnest.features.inplace import carried_loops
from agent.loopnest.features.summary import (
    MAX_DIMS,
    MAX_ENTRIES,
    OPS,
    DistinctAccess,
    Summary,
    summarise_statement,
    target_subscripts,
)
from agent.loopnest.program import MAX_DEPTH, Array, Loop, Node, Program, Statement

STATEMENTS, LOOPS, ACCESSES, DIMS = 4, MAX_DEPTH, MAX_ENTRIES, MAX_DIMS
AXES = {"S": STATEMENTS, "L": LOOPS, "A": ACCESSES, "D": DIMS, "O": len(OPS)}


class TableField(NamedTuple):
    """One array of a NestTable: its axes after that of the programs, element type, padding."""

    axes: str
    dtype: type[np.generic]
    fill: float = 0


FIELDS: Mapping[str, TableField] = {  # in the order of NestTable, which says what they mean
    "trip": TableField("SL", np.float64, 1),
    "loop_id": TableField("SL", np.int16, -1),
    "parallel": TableField("SL", np.bool_),
    "vector": TableField("SL", np.bool_),
    "unroll": TableField("SL", np.float32, 1),
    "jam": TableField("SL", np.float32, 1),
    "imbalance": TableField("SL", np.float32, 1),
    "reduction": TableField("SL", np.bool_),
    "recurrence": TableField("SL", np.bool_),
    "array": TableField("SA", np.int16, -1),
    "element_bytes": TableField("SA", np.float32),
    "is_write": TableField("SA", np.bool_),
    "is_reduction": TableField("SA", np.bool_),
    "leader": TableField("SA", np.bool_),
    "weight": TableField("SA", np.float32),
    "group": TableField("SA", np.float32),
    "array_bytes": TableField("SA", np.float64),
    "span": TableField("SAD", np.float32),
    "coef": TableField("SADL", np.float32),
    "row_bytes": TableField("SAD", np.float64),
    "ops": TableField("SO", np.float32),
    "float_bytes": TableField("S", np.float32),
    "lane_bytes": TableField("S", np.float32, 4),
    "float_target": TableField("S", np.bool_),
    "instances": TableField("S", np.float64),
    "share": TableField("S", np.float64),
    "total_instances": TableField("", np.float64),
    "statements": TableField("", np.float32),
}


@cache
def fields_along(axes: str) -> tuple[str, ...]:
    """The names of the fields with exactly these axes."""
    return tuple(name for name, field in FIELDS.items() if field.axes == axes)


@dataclass(frozen=True)
class NestTable:
    """Lowered programs; n programs, S=4 statements, L=12 loops, A=10 accesses, D=4 dimensions.

    The statements are the heaviest of each program, in textual order. Loops are outermost first,
    padded at the end (trip 1, loop_id -1); accesses are padded with array -1. Dimensions are
    aligned to the last: ``d = D-1`` is the contiguous one, absent ones have row_bytes 0.

    Attributes:
        trip: [n,S,L] average trip count; their product is ``instances``.
        loop_id: [n,S,L] equal in two statements of a program where they share the loop.
        parallel, vector: [n,S,L] marks of the loop.
        unroll, jam: [n,S,L] factors, 1 where there is none.
        imbalance: [n,S,L] most over mean work of the loop's iterations, 1 = even (looked at for
            the outermost and the parallel loops, and for loops over tiles).
        reduction: [n,S,L] the loop's iterations accumulate into the same element.
        recurrence: [n,S,L] the loop carries an in-place value dependence.
        array: [n,S,A] index in ``Program.arrays``. One entry per distinct access; writes first.
        element_bytes, array_bytes: [n,S,A] of the array.
        is_write: [n,S,A] a store; a store that also reads its element has ``is_reduction`` too.
        is_reduction: [n,S,A] the target of a reduction.
        leader: [n,S,A] first of the accesses of one array with the same coefficients (a stencil's
            points): they share their footprint.
        weight: [n,S,A] distinct accesses the entry stands for (more than 1 on a leader whose
            group was cut at A).
        group: [n,S,A] on leaders, distinct accesses of the group (also those cut); else 0.
        span: [n,S,A,D] on leaders, distance in elements between the group's extreme offsets.
        coef: [n,S,A,D,L] change of subscript d, in elements, per step of loop l; where it is read
            from data, as far as a cache line in all loops that choose it.
        row_bytes: [n,S,A,D] bytes per unit of subscript d.
        ops: [n,S,O] operations per execution, by kind: ``summary.OPS``.
        float_bytes: [n,S] width of the floating-point arithmetic; 0 where there is none.
        lane_bytes: [n,S] widest type computed with or accessed, in bytes: decides SIMD lanes.
        float_target: [n,S] whether the statement's target is floating-point.
        instances: [n,S] executions of the statement in one run.
        share: [n,S] its part of the work of the kept statements (sums to 1; 0: no statement).
        total_instances: [n] executions of all statements, also those beyond S.
        statements: [n] number of statements, also those beyond S.
    """

    trip: Doubles
    loop_id: Shorts
    parallel: Bools
    vector: Bools
    unroll: Singles
    jam: Singles
    imbalance: Singles
    reduction: Bools
    recurrence: Bools
    array: Shorts
    element_bytes: Singles
    is_write: Bools
    is_reduction: Bools
    leader: Bools
    weight: Singles
    group: Singles
    array_bytes: Doubles
    span: Singles
    coef: Singles
    row_bytes: Doubles
    ops: Singles
    float_bytes: Singles
    lane_bytes: Singles
    float_target: Bools
    instances: Doubles
    share: Doubles
    total_instances: Doubles
    statements: Singles

    @staticmethod
    def empty(n: int) -> NestTable:
        """The table of ``n`` programs without statements."""
        return NestTable(
            **{
                name: np.full((n, *(AXES[axis] for axis in f.axes)), f.fill, f.dtype)
                for name, f in FIELDS.items()
            }
        )

    def __len__(self) -> int:
        return len(self.total_instances)

    def take(self, rows: slice | Indices) -> NestTable:
        """The programs ``rows`` alone."""
        return NestTable(*(getattr(self, name)[rows] for name in FIELDS))


def concat(tables: Sequence[NestTable]) -> NestTable:
    """One table of all programs, in order; ``tables`` must not be empty."""
    return NestTable(*(np.concatenate([getattr(t, name) for t in tables]) for name in FIELDS))


def lower(programs: Sequence[Program], geometry: Geometry | None = None) -> NestTable:
    """The table of ``programs``, one entry each, in order.

    ``instances`` of a statement agree between all schedules of one program: exactly where bounds
    are numbers or tiles of them or few points matter, else within about 1e-3.

    ``geometry``: what is known from lowering other schedules of the same programs.
    """
    geometry = geometry or Geometry()
    filler = _Filler(len(programs))
    for v, program in enumerate(programs):
        _lower(program, v, filler, geometry)
    return filler.table(geometry.rows.fields())


def as_seen(program: Program) -> Program:
    """A program as tables see it: buffers are arrays, blocks of lanes are innermost tiles.

    Of two loops that are shared out together the inner one is, around the other.
    """
    program, buffers = packed(program, copies=False)
    body = _as_shared(as_tiles(program.body))
    if not buffers:
        return program if body is program.body else program.with_body(body)
    return replace(program, arrays=(*program.arrays, *(b.array for b in buffers)), body=body)


def _as_shared(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    if not any(isinstance(n, Loop) and any(x.collapse for x in n.nest) for n in nodes):
        return nodes
    return tuple(_swapped(n) if isinstance(n, Loop) else n for n in nodes)


def _swapped(loop: Loop) -> Loop:
    inner = loop.body[0]
    if not loop.collapse or not isinstance(inner, Loop):
        return loop.with_body(_as_shared(loop.body))
    within = loop.but(parallel=False, collapse=False, body=inner.body)
    return inner.but(parallel=loop.parallel, body=(within,))


class _Rows:
    """What tables say of statements in nests without marks: a row each, the first that of none.

    Values are collected as lists, those of fields with the same axes together, and written late.
    """

    def __init__(self) -> None:
        self._length = 1
        self._places: dict[str, list[int]] = defaultdict(list)
        self._values: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        self._fields = {name: _filled(f, 1) for name, f in FIELDS.items() if f.axes[:1] == "S"}

    def new(self) -> int:
        """The number of one more row."""
        self._length += 1
        return self._length - 1

    def add(self, axes: str, place: int, *values: float) -> None:
        """One value for each field with these axes, in their order, at a place in the flat field.

        Several values of ``coef`` in one place add up: steps may move a subscript together.
        """
        self._places[axes].append(place)
        self._values[axes].append(values)

    def fields(self) -> Mapping[str, Elements]:
        """All rows, those collected since the last time written; some more may follow them."""
        for name, known in self._fields.items():
            if len(known) < self._length:
                self._fields[name] = _filled(FIELDS[name], 2 * self._length)
                self._fields[name][: len(known)] = known
        for axes, places in self._places.items():
            columns = np.asarray(self._values[axes], np.float64).T
            for name, column in zip(fields_along(axes), columns, strict=True):
                flat = self._fields[name].reshape(-1)
                if axes == "SADL":
                    np.add.at(flat, places, column.astype(np.float32))
                else:
                    flat[places] = column
        self._places.clear()
        self._values.clear()
        return self._fields


def _filled(field: TableField, rows: int) -> Elements:
    """A field with ``rows`` in place of its first axis, of padding."""
    return np.full((rows, *(AXES[axis] for axis in field.axes[1:])), field.fill, field.dtype)


@dataclass(slots=True)
class _Placed:
    """A statement among its loops."""

    statement: Statement
    summary: Summary
    levels: tuple[CountedLoop, ...]

    @property
    def instances(self) -> float:
        return self.levels[-1].count if self.levels else 1.0

    @property
    def work(self) -> float:
        return self.instances * self.summary.cost


class _Nest:
    """A nest without its marks: what is counted of it, whatever there is before it.

    Loops have numbers from 0. ``written``: temporaries that are written before the nest, which
    decides what its loops carry.
    """

    def __init__(self, node: Node, placed: Sequence[_Placed]) -> None:
        self.placed = placed
        self.size = len(node.nest) if isinstance(node, Loop) else 0
        self.sums = [(p.instances, p.work) for p in placed]
        self.targets = frozenset(p.statement.target.array for p in placed)
        self._carried: dict[frozenset[str], list[frozenset[int]]] = {}
        self._rows: dict[tuple[int, frozenset[int]], int] = {}
        self._uneven: dict[tuple[int, int], float] = {}

    def row(self, k: int, written: frozenset[str], rows: _Rows) -> int:
        """Where statement ``k`` is among ``rows``."""
        if written not in self._carried:
            parts = [(p.statement, p.summary, p.levels) for p in self.placed]
            self._carried[written] = carried_loops(parts, written)
        here = k, self._carried[written][k]
        if here not in self._rows:
            self._rows[here] = rows.new()
            _fill(self, *here, self._rows[here], rows)
        return self._rows[here]

    def uneven(self, k: int, depth: int) -> float:
        """Most over mean work of the iterations of a loop around statement ``k``."""
        if (k, depth) not in self._uneven:
            self._uneven[k, depth] = counting.imbalance(self.placed[k].levels, depth)
        return self._uneven[k, depth]


class _Family:
    """Nests of the schedules of one program: what is declared is the same in all of them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.temporaries = frozenset(t.name for t in program.temporaries)
        self._summaries: dict[int, tuple[Statement, Summary]] = {}
        self._nests: dict[tuple[Node, tuple[Array, ...]], _Nest] = {}

    def nest(self, node: Node, seen: Program) -> _Nest:
        """What is counted of ``node``, a nest of ``seen`` (which may declare buffers besides)."""
        plain = node.unmarked if isinstance(node, Loop) else node
        key = plain, seen.arrays[len(self.program.arrays) :]
        if key not in self._nests:
            placed = [
                _Placed(statement, self._summary(statement, seen), levels)
                for levels, statement in _walk((plain,), (), [0])
            ]
            self._nests[key] = _Nest(plain, placed)
        return self._nests[key]

    def _summary(self, statement: Statement, seen: Program) -> Summary:
        known = self._summaries.get(id(statement))
        if known is None:  # kept with the statement, so that no other gets its id
            known = self._summaries[id(statement)] = statement, summarise_statement(statement, seen)
        return known[1]


class Geometry:
    """What is known of nests from lowering them, whatever marks they have.

    All nests ever lowered with it are kept: it is to live as long as one search does.
    """

    def __init__(self) -> None:
        self.rows = _Rows()
        self._families: dict[tuple[int, int, int], _Family] = {}

    def family(self, program: Program) -> _Family:
        """That of programs which share what they declare."""
        key = id(program.arrays), id(program.scalars), id(program.temporaries)
        if key not in self._families:
            self._families[key] = _Family(program)
        return self._families[key]


class _Filler:
    """Collects the table of ``n`` programs."""

    def __init__(self, n: int) -> None:
        self.total_instances = np.zeros(n)
        self.statements = np.zeros(n, np.float32)
        self._n = n
        self._kept: list[tuple[int, int, int, float]] = []
        self._marked: list[tuple[int, bool, bool, int, int, float]] = []

    def keep(self, place: int, row: int, number: int, share: float) -> None:
        """A statement: its row, the number of its nest's first loop and its part of the work."""
        self._kept.append((place, row, number, share))

    def mark(self, place: int, loop: Loop, uneven: float) -> None:
        """The marks of a loop around a statement."""
        marks = loop.parallel, loop.vector, loop.unroll, loop.jam
        self._marked.append((place, *marks, uneven))

    def table(self, rows: Mapping[str, Elements]) -> NestTable:
        """All that was collected."""
        size = self._n * STATEMENTS
        row, number, share = np.zeros(size, np.intp), np.zeros(size, np.int16), np.zeros(size)
        if self._kept:
            columns = np.asarray(self._kept, np.float64).T
            places = columns[0].astype(np.intp)
            row[places], number[places], share[places] = columns[1:]
        found = {
            name: known[row].reshape(self._n, STATEMENTS, *known.shape[1:])
            for name, known in rows.items()
        }
        found["share"] = share.reshape(self._n, STATEMENTS)
        ids = found["loop_id"]
        ids += np.where(ids >= 0, number.reshape(self._n, STATEMENTS, 1), np.int16(0))
        if self._marked:
            columns = np.asarray(self._marked, np.float64).T
            places = columns[0].astype(np.intp)
            for name, column in zip(_MARKS, columns[1:], strict=True):
                found[name].reshape(-1)[places] = column
        return NestTable(**found, total_instances=self.total_instances, statements=self.statements)


_MARKS = ("parallel", "vector", "unroll", "jam", "imbalance")  # in the order of ``_Filler.mark``


def _lower(program: Program, v: int, filler: _Filler, geometry: Geometry) -> None:
    family = geometry.family(program)
    seen = as_seen(program)
    placed: list[tuple[_Nest, int, Node, int, frozenset[str]]] = []
    sums: list[tuple[float, float]] = []
    number, written = 0, frozenset[str]()
    for node in seen.body:
        nest = family.nest(node, seen)
        placed += [(nest, k, node, number, written) for k in range(len(nest.placed))]
        sums += nest.sums
        number += nest.size
        written |= nest.targets & family.temporaries
    filler.total_instances[v] = sum(instances for instances, _ in sums)
    filler.statements[v] = len(placed)
    kept = sorted(range(len(placed)), key=lambda n: -sums[n][1])[:STATEMENTS]
    total = sum(sums[n][1] for n in kept)
    for s, n in enumerate(sorted(kept)):
        share = sums[n][1] / total if total else 1.0 / len(kept)
        nest, k, node, number, written = placed[n]
        place = v * STATEMENTS + s
        filler.keep(place, nest.row(k, written, geometry.rows), number, share)
        if isinstance(node, Loop) and node is not node.unmarked:
            _mark(nest, k, (node, *node.inside[k][0]), place * LOOPS, filler)


def _mark(nest: _Nest, k: int, around: Sequence[Loop], first: int, filler: _Filler) -> None:
    merged = max(len(around) - LOOPS, 0)
    for depth, loop in enumerate(around):
        marked = loop.parallel or loop.vector or loop.unroll > 1 or loop.jam > 1
        if marked and depth >= merged:
            uneven = _imbalance(nest, k, depth, shared=loop.parallel)
            uneven = 1.0 if loop.cyclic else uneven  # every thread has some of all kinds
            filler.mark(first + depth - merged, loop, uneven)


def _imbalance(nest: _Nest, k: int, depth: int, *, shared: bool) -> float:
    looked_at = shared or not depth
    return nest.uneven(k, depth) if looked_at else nest.placed[k].levels[depth].imbalance


def _walk(
    nodes: tuple[Node, ...], around: tuple[CountedLoop, ...], numbers: list[int]
) -> Iterator[tuple[tuple[CountedLoop, ...], Statement]]:
    for node in nodes:
        if isinstance(node, Loop):
            level = counting.enter(node, around, numbers[0])
            numbers[0] += 1
            yield from _walk(node.body, (*around, level), numbers)
        else:
            yield around, node


def _fill(nest: _Nest, k: int, carried: frozenset[int], row: int, rows: _Rows) -> None:
    placed = nest.placed[k]
    levels, summary = placed.levels, placed.summary
    moves: dict[str, tuple[tuple[int, int], ...]] = {lv.loop.iterator: lv.moves for lv in levels}
    merged = max(len(levels) - LOOPS, 0)
    accumulates = _accumulates(placed, moves)
    trip = 1.0
    for level in levels:
        trip *= level.trip
        if level.depth < merged:
            continue
        depth = level.depth
        rows.add(
            "SL", row * LOOPS + depth - merged,
            trip, level.number, False, False, 1, 1, _imbalance(nest, k, depth, shared=False),
            depth in accumulates, depth in carried,
        )  # fmt: skip
        trip = 1.0
    for a, entry in enumerate(summary.entries):
        _fill_access(entry, moves, merged, row * ACCESSES + a, rows)
    rows.add(
        "S", row, summary.float_bytes, summary.lane_bytes, summary.float_target, placed.instances, 0
    )
    for operation, times in enumerate(summary.ops):
        rows.add("SO", row * len(OPS) + operation, times)


def _accumulates(placed: _Placed, moves: dict[str, tuple[tuple[int, int], ...]]) -> frozenset[int]:
    """Depths of the loops along which a reduction stays at its element."""
    if not placed.statement.op:
        return frozenset()
    moving: set[int] = set()
    if placed.summary.temporary_depth is None:
        places = target_subscripts(placed.statement)
    else:
        places = placed.statement.instance[: placed.summary.temporary_depth]
    for place in places:
        sums: dict[int, int] = {}
        for name, c in place.terms:
            for depth, distance in moves.get(name, ()):
                sums[depth] = sums.get(depth, 0) + c * distance
        moving.update(depth for depth, total in sums.items() if total)
    return frozenset(range(len(placed.levels))) - moving


def _fill_access(
    entry: DistinctAccess,
    moves: dict[str, tuple[tuple[int, int], ...]],
    merged: int,
    at: int,
    rows: _Rows,
) -> None:
    rows.add(
        "SA", at,
        entry.array, entry.element_bytes, entry.is_write, entry.is_reduction, entry.leader,
        entry.weight, entry.group, entry.array_bytes,
    )  # fmt: skip
    first = DIMS - len(entry.terms)
    for d, terms in enumerate(entry.terms):
        place = at * DIMS + first + d
        rows.add("SAD", place, entry.span[d], entry.row_bytes[d])
        for name, c in terms:
            for depth, distance in moves.get(name, ()):
                if depth >= merged:
                    rows.add("SADL", place * LOOPS + depth - merged, c * distance)
