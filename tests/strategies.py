"""Hypothesis strategies: small random Programs that C gives a meaning, and schedules for them.

Imperfect and triangular nests, strided, shifted and transposed subscripts, all element types,
temporaries, reductions, ternaries and functions, conditions on data and on iterators, subscripts
that are quasi-affine or read from data, tables. Every access is in bounds because arrays are
made to fit the accesses. Numbers stay bounded: products have a factor from an input array (inputs
are never written), integers are reduced modulo 101 before they are multiplied, and conditions
look at inputs and iterators only, so that rounding never decides between two branches.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

from hypothesis import strategies as st

from agent.loopnest.program import (
    Access,
    Affine,
    AffineValue,
    Array,
    Binary,
    Bound,
    Call,
    Cast,
    Derived,
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
    map_accesses,
    statements,
)
from agent.loopnest.schedules.schedule import (
    Collapse,
    Cyclic,
    Diamond,
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Pack,
    Parallelize,
    Reverse,
    Shift,
    Skew,
    Step,
    Stream,
    Tile,
    Unroll,
    Vectorize,
    Wrap,
)
from tests.interpret import points

MAX_STATEMENTS = 4
NAMES = ("i", "j", "k", "m", "n", "p", "q", "r")


@dataclass
class _Draft:
    """A program being drawn; arrays get their extents at the end."""

    draw: st.DrawFn
    dtype: DType
    tidy: bool  # statements write an array each, every element once or as a reduction
    arrays: dict[str, tuple[DType, int]] = field(default_factory=dict)  # type, dimensions
    outputs: list[str] = field(default_factory=list)
    temporaries: list[Temporary] = field(default_factory=list)
    derived: list[Derived] = field(default_factory=list)  # of the statement being drawn
    used: int = 0
    count: int = 0
    numbers: int = 0

    def one(self, *choices: object) -> object:
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    # Loops

    def loop(self, around: tuple[Loop, ...]) -> Loop:
        name = NAMES[self.used]
        self.used += 1
        low: Affine = Affine.constant(self.number(-2, 2))
        high = low + self.number(0, 7 if not around else 5)
        shape = self.number(0, 7) if around else 0
        if shape in (1, 2):
            outer = Affine.var(self.one(*around).iterator)  # type: ignore[attr-defined]
            low, high = (low, outer) if shape == 1 else (outer, high + 2)
        lower, upper = [Bound(low)], [Bound(high)]
        if shape == 3:
            outer = Affine.var(self.one(*around).iterator)  # type: ignore[attr-defined]
            upper.append(Bound(outer * self.number(-1, 3) + self.number(0, 5), self.number(1, 3)))
        step = self.one(1, 1, 1, 1, 2, 3)
        return Loop(name, tuple(lower), tuple(upper), step, ())  # type: ignore[arg-type]

    def body(self, around: tuple[Loop, ...], temporaries: tuple[str, ...]) -> tuple[Node, ...]:
        nodes: list[Node] = []
        own: tuple[str, ...] = ()
        if len(around) in (1, 2) and self.number(0, 1):
            return (self.nest(around, temporaries),)
        for _ in range(self.number(1, 3 if around else 2)):
            deeper = len(around) < 3 and self.used < len(NAMES)
            if self.count >= MAX_STATEMENTS:
                break
            if deeper and (not around or self.number(0, 2) == 0):
                nodes.append(self.nest(around, (*temporaries, *own)))
            elif around and not own and not nodes and self.number(0, 3) == 0:
                own = (self.temporary(len(around)),)
                first = self.statement(around, Access(own[0]), "", temporaries)
                nodes.append(replace(first, condition=None))
            else:
                nodes.append(self.update(around, (*temporaries, *own)))
        return tuple(nodes) or (self.update(around, temporaries),)

    def nest(self, around: tuple[Loop, ...], temporaries: tuple[str, ...]) -> Loop:
        header = self.loop(around)
        return replace(header, body=self.body((*around, header), temporaries))

    # Statements

    def temporary(self, depth: int) -> str:
        name = f"t{len(self.temporaries)}"
        self.temporaries.append(Temporary(name, self.dtype, depth))
        return name

    def update(self, around: tuple[Loop, ...], temporaries: tuple[str, ...]) -> Statement:
        ops = ["", "", "+", "+", "-"] + (["min", "max", "*"] if self.dtype.is_float else [])
        unsigned = not self.dtype.is_float and not self.dtype.is_signed
        ops += ["*"] if unsigned or self.dtype.size < 4 else []
        op = str(self.one(*ops))
        if temporaries and self.number(0, 2) == 0:
            return self.statement(around, Access(str(self.one(*temporaries))), op, temporaries)
        if self.tidy:
            return self.statement(around, self.own_target(around, op), op, temporaries)
        name = str(self.one(*self.outputs))
        free = around[: self.number(1, len(around))] if op else around
        return self.statement(around, self.access(name, free), op, temporaries)

    def own_target(self, around: tuple[Loop, ...], op: str) -> Access:
        order = self.draw(st.permutations(around))
        order = order[: self.number(0, len(order))] if op else order
        name = f"out{len(self.outputs)}"
        self.outputs.append(name)
        self.arrays[name] = (self.dtype, max(1, len(order)))
        if not order:
            return Access(name, (Affine.constant(0),))
        factor = self.one(1, 1, 1, -1, 2)
        first = Affine.var(order[0].iterator) * factor  # type: ignore[operator]
        return Access(name, (first, *(Affine.var(x.iterator) for x in order[1:])))

    def statement(
        self, around: tuple[Loop, ...], target: Access, op: str, temporaries: tuple[str, ...]
    ) -> Statement:
        known = tuple(t for t in temporaries if t != target.array)
        value = self.factor(around) if op == "*" else self.sum(around, known)
        condition = self.guard(around) if around and self.number(0, 3) == 0 else None
        self.count += 1
        instance = tuple(Affine.var(loop.iterator) for loop in around)
        derived, self.derived = tuple(self.derived), []
        return Statement(f"S{self.count}", target, op, value, instance, condition, derived)

    def iterator(self, around: tuple[Loop, ...]) -> Affine:
        return Affine.var(self.one(*around).iterator)  # type: ignore[attr-defined]

    def guard(self, around: tuple[Loop, ...]) -> Expr:
        """A condition of a statement: on iterators, on data, or both."""
        index = AffineValue(self.iterator(around))
        form = self.number(0, 4)
        if form == 0:
            return Binary("==", Binary("%", index, Literal("2")), Literal("0"))
        if form == 1:
            limit = AffineValue(self.iterator(around) + 1)
            return Binary(str(self.one("<", "!=", ">=")), index, limit)
        if form == 2:
            return self.condition(around, plain=True)
        other: Expr = Unary("!", self.condition(around, plain=True))
        if form == 4:
            other = Binary("<=", Binary("/", index, Literal("3")), Literal("1"))
        return Binary("&&", Binary("<", Literal("0"), index), other)

    def derive(self, around: tuple[Loop, ...]) -> Affine:
        """A number that is quasi-affine, or read from data."""
        index = AffineValue(self.iterator(around))
        form = self.number(0, 3)
        number: tuple[Expr, int, int] = (Binary("/", index, Literal("2")), -8, 20)
        if form == 1:
            number = Binary("%", index, Literal("3")), -2, 2
        elif form == 2:
            number = Cast(DType.U8, index), 0, 255
        elif form == 3:
            place = Read(Access("idx", (self.subscript(around, plain=True),)))
            number = Binary("&", place, Literal("3")), 0, 3
        name = f"d{self.numbers}"
        self.numbers += 1
        self.derived.append(Derived(name, *number))
        return Affine.var(name)

    def access(self, name: str, around: tuple[Loop, ...], *, plain: bool = False) -> Access:
        rank = self.arrays[name][1]
        return Access(name, tuple(self.subscript(around, plain=plain) for _ in range(rank)))

    def subscript(self, around: tuple[Loop, ...], *, plain: bool = False) -> Affine:
        form = self.number(0, 9 if plain else 10)
        if form == 10:
            return self.derive(around) + self.number(0, 1)
        one = Affine.var(self.one(*around).iterator)  # type: ignore[attr-defined]
        if form == 0:
            return Affine.constant(self.number(0, 2))
        if form == 1:
            return one * 2 + self.number(0, 2)
        if form == 2:
            return -one
        if form == 3:
            return one + Affine.var(self.one(*around).iterator)  # type: ignore[attr-defined]
        return one + (self.number(-1, 1) if form < 7 else 0)

    # Expressions

    def input(self, around: tuple[Loop, ...], *, plain: bool = False) -> Expr:
        names = [n for n in self.arrays if n not in self.outputs]
        return Read(self.access(str(self.one(*names)), around, plain=plain))

    def leaf(self, around: tuple[Loop, ...], temporaries: tuple[str, ...]) -> Expr:
        choice = self.number(0, 7)
        if choice == 0 and self.outputs and (not self.tidy or self.number(0, 3) == 0):
            return Read(self.access(str(self.one(*self.outputs)), around))
        if choice == 1 and temporaries:
            return Read(Access(str(self.one(*temporaries))))
        if choice == 2:
            return AffineValue(self.subscript(around, plain=True))
        if choice == 3:
            return Read(Access("alpha"))
        return self.input(around)

    def small(self, around: tuple[Loop, ...], temporaries: tuple[str, ...]) -> Expr:
        """A value that does not grow when it is fed back."""
        leaf = self.leaf(around, temporaries)
        if not self.dtype.is_float:
            return Binary("%", leaf, Literal("101"))
        quarter = Literal("0.25f" if self.dtype is DType.F32 else "0.25")
        choice = self.number(0, 5)
        if choice == 0:
            return Call(self.function("sqrt"), (Binary("+", self.magnitude(leaf), Literal("1")),))
        if choice == 1:
            return Call(self.function("exp"), (self.negative(self.magnitude(leaf)),))
        if choice == 2:
            over = Binary("+", self.magnitude(self.input(around)), Literal("1.5f"))
            return Binary("/", Binary("*", leaf, quarter), over)
        if choice == 3:
            extreme = self.function(str(self.one("fmin", "fmax")))
            return Binary("*", Call(extreme, (leaf, self.input(around))), quarter)
        return Binary("*", leaf, quarter)

    def function(self, name: str) -> str:
        return name + ("f" if self.dtype is DType.F32 else "")

    def magnitude(self, x: Expr) -> Expr:
        return Call(self.function("fabs"), (x,))

    def negative(self, x: Expr) -> Expr:
        return Binary("-", Literal("0"), x)

    def factor(self, around: tuple[Loop, ...]) -> Expr:
        """A value near 1 from inputs alone (floats), or any small integer."""
        if not self.dtype.is_float:
            return Binary("%", self.input(around), Literal("101"))
        near = Binary("*", Read(self.access("a", around)), Literal("0.25f"))
        return Binary("+", Literal("1"), near)

    def sum(self, around: tuple[Loop, ...], temporaries: tuple[str, ...]) -> Expr:
        left = self.small(around, temporaries)
        form = self.number(0, 6)
        if form == 0:
            return left
        right = self.small(around, temporaries)
        if form == 1:
            return Binary("*", left, self.factor(around))
        if form == 2:
            return Select(self.condition(around), left, right)
        if form == 3 and not self.dtype.is_float:
            return Cast(self.dtype, Binary(str(self.one("&", "|", "^")), left, right))
        return Binary(str(self.one("+", "-")), left, right)

    def condition(self, around: tuple[Loop, ...], *, plain: bool = False) -> Expr:
        data = self.input(around, plain=plain)
        one: Expr = Binary(str(self.one("<", ">=", "==")), data, Literal("0"))
        if self.number(0, 2):
            return one
        index = Binary(">", AffineValue(self.subscript(around, plain=True)), Literal("2"))
        return Binary(str(self.one("&&", "||")), one, index)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A Program of one to four statements, at most three loops deep, in bounds and without UB."""
    dtype = draw(st.sampled_from(DType))
    draft = _Draft(draw, dtype, draw(st.booleans()))
    for name in () if draft.tidy else ("x", "y")[: draft.number(1, 2)]:
        draft.arrays[name] = (dtype, draft.number(1, 2))
        draft.outputs.append(name)
    draft.arrays["a"] = (dtype, draft.number(1, 3))
    mixed = draft.one(*(t for t in DType if dtype.is_float or not t.is_float))
    draft.arrays["b"] = (mixed, draft.number(1, 2))  # type: ignore[assignment]
    whole = draft.one(*(t for t in DType if not t.is_float))
    draft.arrays["idx"] = (whole, 1)  # type: ignore[assignment]
    draft.arrays["tab"] = (dtype, 1)
    body = draft.body((), ())
    program = Program(
        "random",
        tuple(Array(n, t, (1,) * d) for n, (t, d) in draft.arrays.items()),
        (Scalar("alpha", dtype),),
        tuple(draft.temporaries),
        body,
    )
    program = fitted(program)
    return replace(program, arrays=tuple(map(_filled, program.arrays)))


def _filled(array: Array) -> Array:
    """``array``, with its elements where it is the table."""
    if array.name != "tab":
        return array
    return replace(array, values=tuple(str(n * 5 % 13) for n in range(array.elements)))


def fitted(program: Program) -> Program:
    """``program`` with subscripts shifted and extents chosen so that all accesses fit."""
    ranges: dict[tuple[str, int], tuple[int, int]] = {}
    for around, statement in statements(program.body):
        ends = {d.name: (d.low, d.high) for d in statement.derived}
        visited = list(points(around))
        for access in accesses(statement):
            for d, s in enumerate(access.subscripts):
                used = s.names & ends.keys()
                corners = [dict(zip(used, c, strict=True)) for c in product(*map(ends.get, used))]
                for value in (s.evaluate({**p, **c}) for p in visited for c in corners):
                    low, high = ranges.get((access.array, d), (value, value))
                    ranges[access.array, d] = min(low, value), max(high, value)
    arrays = tuple(
        replace(a, shape=tuple(_extent(ranges.get((a.name, d))) for d in range(len(a.shape))))
        for a in program.arrays
    )
    body = tuple(_shifted(node, ranges) for node in program.body)
    return replace(program, arrays=arrays, body=body)


def _extent(span: tuple[int, int] | None) -> int:
    return 1 if span is None else span[1] - span[0] + 1


def _shifted(node: Node, ranges: dict[tuple[str, int], tuple[int, int]]) -> Node:
    if isinstance(node, Loop):
        return replace(node, body=tuple(_shifted(n, ranges) for n in node.body))
    return map_accesses(node, lambda access: _moved(access, ranges))


def _moved(access: Access, ranges: dict[tuple[str, int], tuple[int, int]]) -> Access:
    shifts = [ranges.get((access.array, d), (0, 0))[0] for d in range(len(access.subscripts))]
    moved = (s - shift for s, shift in zip(access.subscripts, shifts, strict=True))
    return Access(access.array, tuple(moved))


@st.composite
def steps(draw: st.DrawFn, program: Program, *, marks: bool) -> Step:
    """A step on loops of ``program``; it may fit neither the structure nor the dependences.

    Args:
        draw: given by Hypothesis.
        program: after the steps before this one.
        marks: whether the step marks a loop, which is for the end of a schedule.
    """
    names = [loop.iterator for _, loop in loops(program.body)]
    inner = [x.iterator for _, x in loops(program.body) if isinstance(x.body[0], Statement)]
    name, other = draw(st.sampled_from(names)), draw(st.sampled_from(names))
    last = draw(st.sampled_from(inner or names))
    size = draw(st.integers(2, 5))
    if marks:
        lanes = Vectorize(name, draw(st.sampled_from((2, 4, 8))))
        array = draw(st.sampled_from([a.name for a in program.arrays]))
        found = (Parallelize(name), Parallelize(name, (array,)), Vectorize(last), lanes)
        found = (*found, Cyclic(name, size), Stream(array, last), Collapse(name, other))
        return draw(
            st.sampled_from((*found, Pack(array, name), Unroll(last, size), Jam(name, size)))
        )
    below = names[names.index(name) : names.index(name) + draw(st.integers(1, 3))]
    return draw(
        st.sampled_from(
            (
                Interchange(name, other),
                Interchange(name, below[-1]),
                Tile(tuple((n, size) for n in below)),
                Diamond(name, draw(st.integers(1, 2)), ((below[-1], size),)),
                Skew(other, name, draw(st.sampled_from((-1, 1, 2)))),
                Shift(name, draw(st.sampled_from((-1, 1, 2)))),
                Wrap(name),
                Reverse(name),
                Fuse(name, other),
                Distribute(name),
            )
        )
    )
