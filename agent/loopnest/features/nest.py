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
from agent.loopnest.program import MAX_DEPTH, Loop, Node, Program, Statement, loops

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


def lower(programs: Sequence[Program]) -> NestTable:
    """The table of ``programs``, one entry each, in order.

    ``instances`` of a statement agree between all schedules of one program: exactly where bounds
    are numbers or tiles of them or few points matter, else within about 1e-3.
    """
    table = NestTable.empty(len(programs))
    filler = _Filler(table)
    memo: dict[int, tuple[Statement, Summary]] = {}
    for v, program in enumerate(programs):
        _lower(program, v, filler, memo)
    filler.flush()
    return table


def as_seen(program: Program) -> Program:
    """A program as tables see it: buffers are arrays, blocks of lanes are innermost tiles.

    Of two loops that are shared out together the inner one is, around the other.
    """
    program, buffers = packed(program, copies=False)
    arrays = (*program.arrays, *(b.array for b in buffers))
    return replace(program, arrays=arrays, body=_as_shared(as_tiles(program.body)))


def _as_shared(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    if not any(isinstance(n, Loop) and any(x.collapse for _, x in loops((n,))) for n in nodes):
        return nodes
    return tuple(_swapped(n) if isinstance(n, Loop) else n for n in nodes)


def _swapped(loop: Loop) -> Loop:
    inner = loop.body[0]
    if not loop.collapse or not isinstance(inner, Loop):
        return loop.with_body(_as_shared(loop.body))
    within = replace(loop, parallel=False, collapse=False, body=inner.body)
    return replace(inner, parallel=loop.parallel, body=(within,))


class _Filler:
    """Collects values as lists, those of fields with the same axes together, and writes them."""

    def __init__(self, table: NestTable) -> None:
        self.table = table
        self.places: dict[str, list[int]] = defaultdict(list)
        self.values: dict[str, list[tuple[float, ...]]] = defaultdict(list)

    def add(self, axes: str, place: int, *values: float) -> None:
        """One value for each field with these axes, in their order, at a place in the flat field.

        Several values of ``coef`` in one place add up: steps may move a subscript together.
        """
        self.places[axes].append(place)
        self.values[axes].append(values)

    def flush(self) -> None:
        """Write everything collected."""
        for axes, places in self.places.items():
            columns = np.asarray(self.values[axes], np.float64).T
            for name, column in zip(fields_along(axes), columns, strict=True):
                flat = getattr(self.table, name).reshape(-1)
                if axes == "SADL":
                    np.add.at(flat, places, column.astype(np.float32))
                else:
                    flat[places] = column


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


def _lower(
    program: Program, v: int, filler: _Filler, memo: dict[int, tuple[Statement, Summary]]
) -> None:
    placed = []
    program = as_seen(program)
    for levels, statement in _walk(program.body, (), [0]):
        known = memo.get(id(statement))
        if known is None or known[0] is not statement:
            known = memo[id(statement)] = (statement, summarise_statement(statement, program))
        placed.append(_Placed(statement, known[1], levels))
    table = filler.table
    table.total_instances[v] = sum(p.instances for p in placed)
    table.statements[v] = len(placed)
    carried = carried_loops([(p.statement, p.summary, p.levels) for p in placed])
    kept = sorted(range(len(placed)), key=lambda k: -placed[k].work)[:STATEMENTS]
    total = sum(placed[k].work for k in kept)
    for s, k in enumerate(sorted(kept)):
        share = placed[k].work / total if total else 1.0 / len(kept)
        _fill(placed[k], carried[k], share, v * STATEMENTS + s, filler)


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


def _fill(
    placed: _Placed, carried: frozenset[int], share: float, row: int, filler: _Filler
) -> None:
    levels, summary = placed.levels, placed.summary
    moves: dict[str, tuple[tuple[int, int], ...]] = {lv.loop.iterator: lv.moves for lv in levels}
    merged = max(len(levels) - LOOPS, 0)
    accumulates = _accumulates(placed, moves)
    trip = 1.0
    for level in levels:
        trip *= level.trip
        if level.depth < merged:
            continue
        loop, depth = level.loop, level.depth
        uneven = (
            counting.imbalance(levels, depth) if loop.parallel or not depth else level.imbalance
        )
        uneven = 1.0 if loop.cyclic else uneven  # every thread has some of all kinds
        filler.add(
            "SL", row * LOOPS + depth - merged,
            trip, level.number, loop.parallel, loop.vector, loop.unroll, loop.jam, uneven,
            depth in accumulates, depth in carried,
        )  # fmt: skip
        trip = 1.0
    for a, entry in enumerate(summary.entries):
        _fill_access(entry, moves, merged, row * ACCESSES + a, filler)
    filler.add(
        "S", row,
        summary.float_bytes, summary.lane_bytes, summary.float_target, placed.instances, share,
    )  # fmt: skip
    filler.table.ops.reshape(-1, len(OPS))[row] = summary.ops


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
    filler: _Filler,
) -> None:
    filler.add(
        "SA", at,
        entry.array, entry.element_bytes, entry.is_write, entry.is_reduction, entry.leader,
        entry.weight, entry.group, entry.array_bytes,
    )  # fmt: skip
    first = DIMS - len(entry.terms)
    for d, terms in enumerate(entry.terms):
        place = at * DIMS + first + d
        filler.add("SAD", place, entry.span[d], entry.row_bytes[d])
        for name, c in terms:
            for depth, distance in moves.get(name, ()):
                if depth >= merged:
                    filler.add("SADL", place * LOOPS + depth - merged, c * distance)
