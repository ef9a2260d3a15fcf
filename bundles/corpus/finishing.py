"""From a sketch to a program: shapes, names and instances, and whether a compiler could delete it.

The families of the corpus write subscripts freely (``a[i - 1][2*j]``). ``finish`` derives from
the ranges of the iterators how far each array reaches, shifts subscripts that would be negative,
and gives every array the shape that just holds its accesses: a finished program is in bounds by
construction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from agent.loopnest.arithmetic import Interval, iterator_ranges, number_ranges
from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    DType,
    Loop,
    Node,
    Program,
    Scalar,
    Temporary,
    accesses,
    all_reads,
    loops,
    map_accesses,
    names_in,
    statements,
)
from bundles.corpus.sketch import Sketch

FLAT = 0.6  # of programs have all of their arrays as pointers, whose rows they find themselves


def _reach(body: tuple[Node, ...], names: Mapping[str, DType]) -> dict[str, list[Interval]]:
    """For every array, the range of each subscript over all its accesses."""
    out: dict[str, list[Interval]] = {}
    for around, statement in statements(body):
        box = number_ranges(around, statement)
        for access in accesses(statement):
            if access.array not in names:
                continue
            here = [s.interval(box) for s in access.subscripts]
            old = out.get(access.array, here)
            out[access.array] = [
                (min(a, c), max(b, d)) for (a, b), (c, d) in zip(old, here, strict=True)
            ]
    return out


def _shifted(access: Access, shift: Mapping[str, tuple[int, ...]]) -> Access:
    by = shift.get(access.array)
    if by is None or not any(by):
        return access
    moved = tuple(s + d for s, d in zip(access.subscripts, by, strict=True))
    return Access(access.array, moved)


def _complete(
    nodes: tuple[Node, ...],
    around: tuple[str, ...],
    shift: Mapping[str, tuple[int, ...]],
    count: Iterator[int],
) -> tuple[Node, ...]:
    """Statements named in textual order, with instances; subscripts shifted."""
    out: list[Node] = []
    for node in nodes:
        if isinstance(node, Loop):
            body = _complete(node.body, (*around, node.iterator), shift, count)
            out.append(replace(node, body=body))
            continue
        moved = map_accesses(node, lambda access: _shifted(access, shift))
        instance = tuple(Affine.var(name) for name in around)
        out.append(replace(moved, name=f"S{next(count)}", instance=instance))
    return tuple(out)


def _depth(body: tuple[Node, ...], name: str) -> int:
    """How many loops all statements that use a temporary have in common."""
    chains = [
        [node.iterator for node in around]
        for around, statement in statements(body)
        if any(access.array == name for access in accesses(statement))
    ]
    common = 0
    for level in zip(*chains, strict=False):
        if len(set(level)) > 1:
            break
        common += 1
    return common


def finish(sketch: Sketch, name: str, body: Sequence[Node]) -> Program:
    """The program: shapes that hold every access, names, instances, depths of temporaries."""
    tree = tuple(body)
    reach = _reach(tree, sketch.types)
    shift = {a: tuple(-min(lo, 0) for lo, _ in r) for a, r in reach.items()}
    pad = sketch.rng.choice((1, 2, 8)) if sketch.chance(0.08) else 0
    arrays = []
    for array, dims in reach.items():
        shape = [hi + 1 - min(lo, 0) for lo, hi in dims]
        shape[-1] += pad if len(shape) > 1 else 0
        arrays.append(Array(array, sketch.types[array], tuple(shape)))
    used = {a.array for _, s in statements(tree) for a in accesses(s)}
    body = _complete(tree, (), shift, iter(range(1_000)))
    if sketch.chance(FLAT):
        arrays, body = _flat(arrays, body)
    return Program(
        name,
        tuple(arrays),
        tuple(Scalar(n, t) for n, t in sketch.scalar_types.items() if n in used),
        tuple(
            Temporary(n, t, _depth(tree, n)) for n, t in sketch.temporary_types.items() if n in used
        ),
        body,
    )


def _flat(arrays: list[Array], body: tuple[Node, ...]) -> tuple[list[Array], tuple[Node, ...]]:
    """Every array as a pointer to its first element: ``a[i][j]`` becomes ``a[40 * i + j]``."""
    shapes = {a.name: a.shape for a in arrays}

    def flat(access: Access) -> Access:
        place, shape = Affine(), shapes.get(access.array, ())
        if len(shape) < 2:
            return access
        for subscript, extent in zip(access.subscripts, shape, strict=True):
            place = place * extent + subscript
        return Access(access.array, (place,))

    def walk(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(
            replace(n, body=walk(n.body)) if isinstance(n, Loop) else map_accesses(n, flat)
            for n in nodes
        )

    return [replace(a, shape=(a.elements,)) for a in arrays], walk(body)


def statement_runs(program: Program) -> float:
    """How often its statements run, taken together; triangles count as half a box."""
    total = 0.0
    for around, _ in statements(program.body):
        box, product = iterator_ranges(around), 1.0
        for node in around:
            low, high = box[node.iterator]
            bounds = (*node.lower, *node.upper)
            inclined = not all(b.expr.is_constant for b in bounds)
            product *= (high - low + 1) / node.step * (0.5 if inclined else 1.0)
        total += product
    return total


def deletable_work(program: Program) -> str:
    """Why the compiler could delete work, or an empty text: see findings.md 1.4.

    Every loop around a statement must be used by a subscript it reads or writes; a loop that no
    written subscript uses must be a reduction over values it selects, or carry values from one
    iteration to the next (a loop over time, a filter's state).
    """
    written: dict[str, set[str]] = {node.iterator: set() for _, node in loops(program.body)}
    read: dict[str, set[str]] = {name: set() for name in written}
    depth = {t.name: t.depth for t in program.temporaries}
    for around, statement in statements(program.body):
        for node in around:
            written[node.iterator].add(statement.target.array)
            read[node.iterator] |= {a.array for a in all_reads(statement)}
    for around, statement in statements(program.body):
        made_of = {d.name: names_in(d.value) for d in statement.derived}
        selects = {n for a in all_reads(statement) for s in a.subscripts for n in s.names}
        selects = selects.union(*(made_of.get(n, ()) for n in selects))
        keeps = {n for s in statement.target.subscripts for n in s.names}
        keeps = keeps.union(*(made_of.get(n, ()) for n in keeps))
        keeps |= {n.iterator for n in around[: depth.get(statement.target.array, 0)]}
        for level, name in enumerate(node.iterator for node in around):
            own = {temporary for temporary, outside in depth.items() if outside > level}
            carried = (written[name] & read[name]) - own
            if not (name in keeps or (name in selects and statement.op) or carried):
                return f"{statement.name}: loop {name} repeats the same work"
    return ""
