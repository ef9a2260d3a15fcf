"""A sketch of a loop nest: loops and statements first; shapes, names and instances follow.

The families of the corpus write subscripts freely (``a[i - 1][2*j]``). ``finish`` derives from
the ranges of the iterators how far each array reaches, shifts subscripts that would be negative,
and gives every array the shape that just holds its accesses: a finished program is in bounds by
construction.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    Binary,
    Bound,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Loop,
    Node,
    Program,
    Read,
    Scalar,
    Select,
    Statement,
    Temporary,
    Unary,
    accesses,
    loops,
    map_reads,
    reads,
    statements,
)

Subscript = Affine | str | int
Interval = tuple[int, int]
ITERATORS = ("i", "j", "k", "l", "m", "n")


def affine(value: Subscript) -> Affine:
    """An iterator's name, a number or an affine value as an affine value."""
    if isinstance(value, str):
        return Affine.var(value)
    return Affine.constant(value) if isinstance(value, int) else value


def at(array: str, *subscripts: Subscript) -> Access:
    """``array[s0][s1]...``."""
    return Access(array, tuple(affine(s) for s in subscripts))


def get(array: str, *subscripts: Subscript) -> Read:
    """The value of ``array[s0][s1]...``."""
    return Read(at(array, *subscripts))


def assign(target: Access, value: Expr, op: str = "") -> Statement:
    """``target = value``, or the reduction ``target op= value``; named when finished."""
    return Statement("", target, op, value, ())


def loop(iterator: str, upper: Subscript, *body: Node, lower: Subscript = 0) -> Loop:
    """``for (iterator = lower; iterator < upper; iterator++) body``."""
    top = Bound(affine(upper) + -1)
    return Loop(iterator, (Bound(affine(lower)),), (top,), 1, body)


def nest(iterators: Sequence[tuple[str, int]], *body: Node) -> Loop:
    """Rectangular loops around ``body``, outermost first: ``((iterator, trip count), ...)``."""
    if not iterators:
        raise ValueError("a nest needs at least one loop")
    (name, trip), rest = iterators[0], iterators[1:]
    return loop(name, trip, nest(rest, *body)) if rest else loop(name, trip, *body)


def binary(op: str, *operands: Expr) -> Expr:
    """``a op b op c``, left to right."""
    out = operands[0]
    for operand in operands[1:]:
        out = Binary(op, out, operand)
    return out


def number(dtype: DType, value: float) -> Literal:
    """A literal of the element type (integers stay small and positive)."""
    if dtype is DType.F32:
        return Literal(f"{float(value)!r}f")
    return Literal(repr(float(value)) if dtype is DType.F64 else str(max(1, round(value))))


def call(name: str, dtype: DType, *arguments: Expr) -> Call:
    """The float or double form of a function of the C library."""
    return Call(name + ("f" if dtype is DType.F32 else ""), arguments)


def smaller(dtype: DType, a: Expr, b: Expr) -> Expr:
    """``min(a, b)`` in the spelling of the element type."""
    return call("fmin", dtype, a, b) if dtype.is_float else Select(Binary("<", a, b), a, b)


def larger(dtype: DType, a: Expr, b: Expr) -> Expr:
    """``max(a, b)`` in the spelling of the element type."""
    return call("fmax", dtype, a, b) if dtype.is_float else Select(Binary(">", a, b), a, b)


def magnitude(dtype: DType, a: Expr) -> Expr:
    """``|a|`` in the spelling of the element type."""
    return call("fabs", dtype, a) if dtype.is_float else Call("abs", (a,))


def negative(a: Expr) -> Expr:
    """``-a``."""
    return Unary("-", a)


def store(dtype: DType, value: Expr) -> Expr:
    """``value`` as people write it for a target of that type (bytes are cast)."""
    return Cast(dtype, value) if dtype is DType.U8 else value


@dataclass
class Sketch:
    """What a family of programs is drawn with: random choices and the names given out so far.

    Attributes:
        rng: the source of every choice.
        dtype: the main element type of the program.
        work: how many times the heaviest statement shall run, roughly.
    """

    rng: random.Random
    dtype: DType
    work: float
    types: dict[str, DType] = field(default_factory=dict)
    scalar_types: dict[str, DType] = field(default_factory=dict)
    temporary_types: dict[str, DType] = field(default_factory=dict)
    used: int = 0

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.rng.random() < probability

    def iterators(self, count: int) -> list[str]:
        """Fresh iterator names: i, j, k, ..., i2, j2, ..."""
        out = []
        for number_ in range(self.used, self.used + count):
            turn, place = divmod(number_, len(ITERATORS))
            out.append(ITERATORS[place] + (str(turn + 1) if turn else ""))
        self.used += count
        return out

    def array(self, dtype: DType | None = None) -> str:
        """A fresh array of the type given (the main type otherwise)."""
        name = "ABCDEFGHPQRSTUVW"[len(self.types) % 16] + (
            str(len(self.types) // 16) if len(self.types) >= 16 else ""
        )
        self.types[name] = dtype or self.dtype
        return name

    def scalar(self, dtype: DType | None = None) -> Read:
        """A fresh scalar argument."""
        name = ("alpha", "beta", "gamma", "delta")[len(self.scalar_types) % 4]
        self.scalar_types.setdefault(name, dtype or self.dtype)
        return Read(Access(name))

    def temporary(self, dtype: DType | None = None) -> Access:
        """A fresh scalar declared inside the region."""
        name = f"t{len(self.temporary_types)}"
        self.temporary_types[name] = dtype or self.dtype
        return Access(name)

    def sizes(self, count: int, work: float | None = None, low: int = 4) -> list[int]:
        """Trip counts whose product is about ``work``, shared out unevenly."""
        work = work or self.work
        shares = [self.rng.expovariate(1.0) + 0.25 for _ in range(count)]
        spare = max(work / low**count, 1.0)
        raw = [low * spare ** (s / sum(shares)) for s in shares]
        return [max(low, snap(self.rng, x)) for x in raw]


def snap(rng: random.Random, x: float) -> int:
    """A size near ``x`` as people choose them: powers of two, round numbers, or anything."""
    style = rng.random()
    if style < 0.4:
        return 1 << round_log2(x)
    if style < 0.65 and x >= 12:
        unit = int(10 ** max(0, len(str(int(x))) - 2)) * rng.choice((1, 2, 5))
        return max(1, round(x / unit)) * unit
    if style < 0.75:
        return (1 << round_log2(x)) + rng.choice((-2, -1, 1, 2))
    return max(1, round(x))


def round_log2(x: float) -> int:
    """The exponent of the power of two nearest to ``x`` (by ratio), at least 0."""
    return max(0, round(math.log2(x))) if x > 1 else 0


def ranges(around: Sequence[Loop]) -> dict[str, Interval]:
    """The box that holds the iterators of nested loops (exact for rectangular ones)."""
    out: dict[str, Interval] = {}
    for node in around:
        low = max(-(-b.expr.interval(out)[0] // b.divisor) for b in node.lower)
        high = min(b.expr.interval(out)[1] // b.divisor for b in node.upper)
        out[node.iterator] = (low, max(low, high))
    return out


def _reach(body: tuple[Node, ...], names: Mapping[str, DType]) -> dict[str, list[Interval]]:
    """For every array, the range of each subscript over all its accesses."""
    out: dict[str, list[Interval]] = {}
    for around, statement in statements(body):
        box = ranges(around)
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
        out.append(
            Statement(
                f"S{next(count)}",
                _shifted(node.target, shift),
                node.op,
                map_reads(node.value, lambda access: _shifted(access, shift)),
                tuple(Affine.var(name) for name in around),
            )
        )
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
    return Program(
        name,
        tuple(arrays),
        tuple(Scalar(n, t) for n, t in sketch.scalar_types.items() if n in used),
        tuple(
            Temporary(n, t, _depth(tree, n)) for n, t in sketch.temporary_types.items() if n in used
        ),
        _complete(tree, (), shift, iter(range(1_000))),
    )


def instances(program: Program) -> float:
    """How often its statements run, taken together; triangles count as half a box."""
    total = 0.0
    for around, _ in statements(program.body):
        box, product = ranges(around), 1.0
        for node in around:
            low, high = box[node.iterator]
            bounds = (*node.lower, *node.upper)
            inclined = not all(b.expr.is_constant for b in bounds)
            product *= (high - low + 1) / node.step * (0.5 if inclined else 1.0)
        total += product
    return total


def unused(program: Program) -> str:
    """Why the compiler could delete work, or an empty text: see findings.md 1.4.

    Every loop around a statement must be used by a subscript it reads or writes; a loop that no
    written subscript uses must be a reduction over values it selects, or carry values from one
    iteration to the next through memory (a loop over time).
    """
    written: dict[str, set[str]] = {node.iterator: set() for _, node in loops(program.body)}
    read: dict[str, set[str]] = {name: set() for name in written}
    depth = {t.name: t.depth for t in program.temporaries}
    for around, statement in statements(program.body):
        for node in around:
            written[node.iterator].add(statement.target.array)
            read[node.iterator] |= {a.array for a in reads(statement.value)}
    for around, statement in statements(program.body):
        selects = {n for a in reads(statement.value) for s in a.subscripts for n in s.names}
        keeps = {n for s in statement.target.subscripts for n in s.names}
        keeps |= {n.iterator for n in around[: depth.get(statement.target.array, 0)]}
        for name in (node.iterator for node in around):
            carried = (written[name] & read[name]) - depth.keys()
            if not (name in keeps or (name in selects and statement.op) or carried):
                return f"{statement.name}: loop {name} repeats the same work"
    return ""
