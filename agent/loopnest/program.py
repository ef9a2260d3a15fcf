"""The IR of static control parts: the whole grammar, in one place.

    Program    = name, arrays, scalars, temporaries, body: Node*
    Node       = Loop(iterator, lower: Bound*, upper: Bound*, step, body: Node*, marks)
               | Statement(name, target: Access, op, value: Expr, instance: Affine*,
                           condition: Expr?, derived: Derived*)
    Bound      = expr: Affine / divisor
    Access     = array, subscripts: Affine*
    Expr       = Literal | AffineValue | Read | Unary | Binary | Select | Call | Cast

Sizes are numbers by the time a Program exists: the front end replaces every size parameter by
its value. A Program is a value: transformations make new ones. Every iterator name occurs in one
loop only. ``Statement.instance`` holds, in terms of the loops that surround the statement *now*,
the iteration vector the statement instance had in the program *as written*; transformations
substitute in it, so the relation "as written -> now" is always at hand for legality.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property

MAX_DEPTH = 12  # loops around a statement: schedules make no more, feature tables hold as many


class DType(Enum):
    """Element types; the value is the C spelling."""

    F32 = "float"
    F64 = "double"
    I32 = "int32_t"
    U8 = "uint8_t"
    I8 = "int8_t"
    I16 = "int16_t"
    U16 = "uint16_t"
    U32 = "uint32_t"
    I64 = "int64_t"
    U64 = "uint64_t"

    @property
    def size(self) -> int:
        """Size in bytes."""
        return {DType.F32: 4, DType.F64: 8}.get(self) or self.bits // 8

    @property
    def is_float(self) -> bool:
        """Whether arithmetic on it rounds (so that re-association changes the result)."""
        return self in (DType.F32, DType.F64)

    @property
    def is_signed(self) -> bool:
        """Whether it holds negative numbers."""
        return self.name[0] != "U"

    @property
    def bits(self) -> int:
        """Its width."""
        return int(self.name[1:])

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value of an integer type."""
        width = self.bits - self.is_signed
        return (-(1 << width) if self.is_signed else 0), (1 << width) - 1


@dataclass(frozen=True, slots=True)
class Affine:
    """``const + sum(coefficient * iterator)``; ``terms`` sorted by name, no zero coefficients."""

    terms: tuple[tuple[str, int], ...] = ()
    const: int = 0

    @staticmethod
    def of(terms: Mapping[str, int], const: int = 0) -> Affine:
        """The canonical form of ``const + terms``."""
        return Affine(tuple(sorted([(n, c) for n, c in terms.items() if c])), const)

    @staticmethod
    def var(name: str) -> Affine:
        """The iterator ``name`` itself."""
        return Affine(((name, 1),), 0)

    @staticmethod
    def constant(value: int) -> Affine:
        """A number."""
        return Affine((), value)

    @property
    def names(self) -> frozenset[str]:
        """The iterators it depends on."""
        return frozenset(n for n, _ in self.terms)

    @property
    def is_constant(self) -> bool:
        """Whether it depends on no iterator."""
        return not self.terms

    def coefficient(self, name: str) -> int:
        """The coefficient of ``name`` (0 where absent)."""
        return next((c for n, c in self.terms if n == name), 0)

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.const + other)
        if not self.terms or not other.terms:
            return Affine(self.terms or other.terms, self.const + other.const)
        sums = dict(self.terms)
        for name, c in other.terms:
            sums[name] = sums.get(name, 0) + c
        return Affine.of(sums, self.const + other.const)

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (-other)

    def __mul__(self, factor: int) -> Affine:
        if factor in (0, 1):
            return self if factor else Affine()
        return Affine(tuple([(n, c * factor) for n, c in self.terms]), self.const * factor)

    def substitute(self, values: Mapping[str, Affine]) -> Affine:
        """Every iterator in ``values`` replaced by its affine value, all at once."""
        if not any(n in values for n, _ in self.terms):
            return self
        sums: dict[str, int] = {}
        const = self.const
        for name, c in self.terms:
            value = values.get(name)
            const += value.const * c if value else 0
            for n, k in value.terms if value else ((name, 1),):
                sums[n] = sums.get(n, 0) + k * c
        return Affine.of(sums, const)

    def evaluate(self, point: Mapping[str, int]) -> int:
        """Its value where every iterator is known; KeyError where one is not."""
        return self.const + sum(c * point[n] for n, c in self.terms)

    def interval(self, ends: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
        """Its least and greatest value while every iterator keeps between its ``ends``."""
        low = high = self.const
        for name, c in self.terms:
            first, last = sorted((c * ends[name][0], c * ends[name][1]))
            low, high = low + first, high + last
        return low, high

    def __str__(self) -> str:
        out = ""
        for name, c in self.terms:
            sign = ("-" if c < 0 else "") if not out else (" - " if c < 0 else " + ")
            out += sign + (name if abs(c) == 1 else f"{abs(c)}*{name}")
        if not out:
            return str(self.const)
        if self.const:
            out += f" {'-' if self.const < 0 else '+'} {abs(self.const)}"
        return out


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound of a loop: ``ceil(expr / divisor)`` below, ``floor(expr / divisor)`` above.

    The upper bound is inclusive here because a floor of an exclusive bound is not exact.
    """

    expr: Affine
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class Array:
    """A dense row-major array argument; ``shape`` in elements (numbers).

    ``values``: the elements of a constant table, as C literals in row-major order; such an array
    is no argument, the emitted function holds it. ``sure``: C has all of its elements; else it was
    accesses that may not happen that told how many there may be.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    values: tuple[str, ...] = ()
    sure: bool = True

    @property
    def elements(self) -> int:
        """The number of elements."""
        total = 1
        for extent in self.shape:
            total *= extent
        return total

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.elements * self.dtype.size


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar argument passed by value and used as data (sizes are gone by now)."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Temporary:
    """A scalar declared inside the region.

    ``depth`` is the number of loops around its declaration as written: every instance of those
    loops has a temporary of its own, ``Statement.instance[:depth]`` says which.
    """

    name: str
    dtype: DType
    depth: int


@dataclass(frozen=True, slots=True)
class Access:
    """An element of an array (one subscript a dimension), or a scalar or temporary (none)."""

    array: str
    subscripts: tuple[Affine, ...] = ()

    def substitute(self, values: Mapping[str, Affine]) -> Access:
        """Every iterator in ``values`` replaced by its affine value, all at once."""
        return Access(self.array, tuple([s.substitute(values) for s in self.subscripts]))

    def __str__(self) -> str:
        subscripts = "".join(f"[{s}]" for s in self.subscripts)
        return self.array + subscripts.replace(" ", "")


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, spelled as in the source so that its C type and value stay."""

    text: str

    @property
    def dtype(self) -> DType:
        """Its C type (C11, 6.4.4, where ``long`` has 64 bits)."""
        lowered = self.text.lower()
        hexadecimal = lowered.startswith("0x")
        if not hexadecimal and any(c in lowered for c in ".ef"):
            return DType.F32 if lowered.endswith("f") else DType.F64
        digits = lowered.rstrip("ul")
        value = int(digits, 8 if digits[0] == "0" and digits.isdigit() else 0)
        decimal = digits[0] != "0"
        for dtype in (DType.I32, DType.U32, DType.I64, DType.U64):
            wide = "l" not in lowered or dtype.bits == 64
            sign = not dtype.is_signed or "u" not in lowered
            unsigned = dtype.is_signed or "u" in lowered or not decimal
            if wide and sign and unsigned and value <= dtype.range[1]:
                return dtype
        return DType.U64


@dataclass(frozen=True, slots=True)
class AffineValue:
    """An affine function of the iterators used as an ``int`` value."""

    value: Affine


@dataclass(frozen=True, slots=True)
class Read:
    """The value of an element, scalar or temporary."""

    access: Access


@dataclass(frozen=True, slots=True)
class Unary:
    """``op operand``; op is one of ``- ! ~``."""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """``left op right``; op is one of BINARY_OPS, with C's meaning and promotions."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Select:
    """``condition ? yes : no``."""

    condition: Expr
    yes: Expr
    no: Expr


@dataclass(frozen=True, slots=True)
class Call:
    """A pure function of the C library, one of FUNCTIONS, spelled as in the source."""

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Cast:
    """``(dtype) operand``."""

    dtype: DType
    operand: Expr


Leaf = Literal | AffineValue | Read
Expr = Leaf | Unary | Binary | Select | Call | Cast

PREDICATES = frozenset("< <= > >= == != && ||".split())  # whose value is an int
BINARY_OPS = PREDICATES | frozenset("+ - * / % << >> & | ^".split())
_UNARY = (
    "sqrt fabs exp log sin cos tan asin acos atan sinh cosh tanh exp2 log2 log10 cbrt "
    "floor ceil round trunc"
)
INTEGER_FUNCTIONS: Mapping[str, DType] = {"abs": DType.I32, "labs": DType.I64}
FUNCTIONS: Mapping[str, int] = {  # name -> number of arguments
    **{name: 1 for base in _UNARY.split() for name in (base, base + "f")},
    **{
        name: 2
        for base in "fmin fmax atan2 pow hypot fmod copysign".split()
        for name in (base, base + "f")
    },
    **dict.fromkeys(("fma", "fmaf"), 3),
    **dict.fromkeys(INTEGER_FUNCTIONS, 1),
}


@dataclass(frozen=True, slots=True)
class Derived:
    """A whole number that a statement computes from data or by a quasi-affine form.

    ``name`` stands for it in the subscripts of the statement, as an iterator does; no iterator has
    this name, nor has another statement's number. ``value`` is what C computes (its reads are
    accesses of the statement); it surely lies within ``low..high``. Where ``value`` is made of
    iterators and numbers only (``i / 2``, ``t % 2``), isl knows it exactly; otherwise a subscript
    that has it may be any element in its range.
    """

    name: str
    value: Expr
    low: int
    high: int


@dataclass(frozen=True)
class Statement:
    """``target = value`` where ``op`` is empty, else ``target = target op value``.

    A non-empty ``op`` (``+ - * min max``) says the update is a reduction: associative and
    commutative in the sense the legality analysis uses it (for ``-``, repeated subtraction).
    ``x = x + e`` and ``x = fmax(x, e)`` arrive here as reductions too.

    Where ``condition`` is there, an instance does something only if it is not 0: conjuncts that
    are affine bound the iteration domain, of the others nothing is known beforehand.
    """

    name: str
    target: Access
    op: str
    value: Expr
    instance: tuple[Affine, ...]
    condition: Expr | None = None
    derived: tuple[Derived, ...] = ()

    def but(self, **parts: object) -> Statement:
        """The same statement with other parts; ``replace`` takes several times as long."""
        known, made = self.__dict__, object.__new__(Statement)
        made.__dict__.update({name: known[name] for name in _STATEMENT}, **parts)
        return made

    @cached_property
    def uses(self) -> frozenset[str]:
        """The arrays, scalars and temporaries that it reads or writes."""
        return self.reads | {self.target.array}

    @cached_property
    def reads(self) -> frozenset[str]:
        """The arrays, scalars and temporaries that it reads, but for the target of an update."""
        return frozenset(access.array for access in all_reads(self))

    @cached_property
    def _hash(self) -> int:
        known = self.__dict__
        return hash(tuple([known[name] for name in _STATEMENT]))

    def __hash__(self) -> int:
        """Of all it is made of, worked out once: most trees share most of their statements."""
        return self._hash

    def __getstate__(self) -> dict[str, object]:
        """What it is made of: a hash means nothing in another process."""
        return {name: self.__dict__[name] for name in _STATEMENT}


@dataclass(frozen=True)
class Loop:
    """``for (iterator = max(lower); iterator <= min(upper); iterator += step) body``.

    ``step`` is positive. ``unroll`` is the unroll factor of an innermost loop, ``jam`` the
    unroll-and-jam factor of an outer one (1: none); ``parallel``: threads share the iterations;
    ``vector``: SIMD lanes do, ``lanes`` of them together, through the loops inside too (1: as many
    as the compiler sees fit, in an innermost loop). ``packs``: reads inside, what they need of
    their array every iteration first copies into a buffer; ``private``: arrays that every thread
    adds to a copy of its own of; ``cyclic``: so many iterations go to a thread at a time, in turn
    (0: each thread has one part of them); ``collapse``: they share those of the only loop inside
    with them; ``stream``: the array that it writes past the caches, if it does.
    """

    iterator: str
    lower: tuple[Bound, ...]
    upper: tuple[Bound, ...]
    step: int
    body: tuple[Node, ...]
    parallel: bool = False
    vector: bool = False
    unroll: int = 1
    jam: int = 1
    lanes: int = field(default=1, repr=False)  # logs know programs as written by their repr
    packs: tuple[Access, ...] = field(default=(), repr=False)
    private: tuple[str, ...] = field(default=(), repr=False)
    cyclic: int = field(default=0, repr=False)
    collapse: bool = field(default=False, repr=False)
    stream: str = field(default="", repr=False)

    @cached_property
    def uses(self) -> frozenset[str]:
        """The arrays, scalars and temporaries that its statements read or write."""
        return frozenset[str]().union(*(node.uses for node in self.body))

    @cached_property
    def inside(self) -> tuple[tuple[tuple[Loop, ...], Statement], ...]:
        """Every statement in textual order, with the loops around it inside of this one."""
        return tuple(statements(self.body))

    @cached_property
    def loops_inside(self) -> tuple[tuple[tuple[Loop, ...], Loop], ...]:
        """Every loop inside of this one, as ``inside`` has the statements."""
        return tuple(loops(self.body))

    @cached_property
    def nest(self) -> tuple[Loop, ...]:
        """This loop and every loop inside of it, in textual order."""
        inner = (node.nest for node in self.body if isinstance(node, Loop))
        return (self, *itertools.chain.from_iterable(inner))

    @cached_property
    def iterators(self) -> frozenset[str]:
        """The iterators of this loop and of every loop inside of it."""
        return frozenset([loop.iterator for loop in self.nest])

    @cached_property
    def jams(self) -> tuple[tuple[str, int], ...]:
        """The jammed loops of this loop and those inside, by iterator, with their factors."""
        return tuple([(loop.iterator, loop.jam) for loop in self.nest if loop.jam > 1])

    @property
    def is_jammed(self) -> bool:
        """Whether it is jammed, or one inside is."""
        return bool(self.jams)

    @cached_property
    def bands(self) -> tuple[tuple[Loop, ...], ...]:
        """The perfectly nested bands of this loop and those inside, each as long as it gets."""
        band = [self]
        while len(band[-1].body) == 1 and isinstance(inner := band[-1].body[0], Loop):
            band.append(inner)
        inside = (node.bands for node in band[-1].body if isinstance(node, Loop))
        return (tuple(band), *itertools.chain.from_iterable(inside))

    @cached_property
    def unmarked(self) -> Loop:
        """The same loops without the marks."""
        body = tuple([node.unmarked if isinstance(node, Loop) else node for node in self.body])
        same = all(x is y for x, y in zip(body, self.body, strict=True))
        known = self.__dict__
        if same and all(known[name] == plain for name, plain in _MARKS.items()):
            return self
        return self.but(**_MARKS, body=body)

    @cached_property
    def _range_hash(self) -> int:
        return hash((self.iterator, self.lower, self.upper, self.step))

    @cached_property
    def _hash(self) -> int:
        known = self.__dict__
        return hash((self._range_hash, self.body, *[known[name] for name in _MARKS]))

    def __hash__(self) -> int:
        """Of all it is made of, worked out once: most trees share most of their loops."""
        return self._hash

    def __getstate__(self) -> dict[str, object]:
        """What it is made of: a hash means nothing in another process."""
        return {name: self.__dict__[name] for name in _LOOP}

    def but(self, **parts: object) -> Loop:
        """The same loop with other parts; ``replace`` takes several times as long."""
        known, made = self.__dict__, object.__new__(Loop)
        made.__dict__.update({name: known[name] for name in _LOOP}, **parts)
        return made

    def with_body(self, body: tuple[Node, ...]) -> Loop:
        """The same loop around other nodes."""
        return self.but(body=body)

    def remarked(self, **parts: object) -> Loop:
        """The same loop with other marks, or around others in which nothing but marks differs."""
        made = self.but(**parts)
        made.__dict__.update(
            unmarked=self.unmarked, iterators=self.iterators, _range_hash=self._range_hash
        )
        return made


_STATEMENT = tuple(part.name for part in fields(Statement))
_LOOP = tuple(part.name for part in fields(Loop))
_RANGE = ("iterator", "lower", "upper", "step")
_MARKS = {part.name: part.default for part in fields(Loop) if part.name not in (*_RANGE, "body")}
Node = Loop | Statement


@dataclass(frozen=True, slots=True)
class Program:
    """A static control part with its arguments, every size a number."""

    name: str
    arrays: tuple[Array, ...]
    scalars: tuple[Scalar, ...]
    temporaries: tuple[Temporary, ...]
    body: tuple[Node, ...]

    def array(self, name: str) -> Array:
        """The array called ``name``; KeyError where there is none."""
        for array in self.arrays:
            if array.name == name:
                return array
        raise KeyError(name)

    def dtype_of(self, name: str) -> DType:
        """Element type of an array, scalar or temporary; KeyError where there is none."""
        return {item.name: item.dtype for item in self.declared}[name]

    @property
    def declared(self) -> tuple[Array | Scalar | Temporary, ...]:
        """Everything that has a name and a type."""
        return (*self.arrays, *self.scalars, *self.temporaries)

    @property
    def arguments(self) -> tuple[Array, ...]:
        """The arrays that are passed to the emitted function: all but constant tables."""
        return tuple(a for a in self.arrays if not a.values)

    @property
    def bytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(a.bytes for a in self.arrays)

    def with_body(self, body: tuple[Node, ...]) -> Program:
        """The same program around another tree."""
        return Program(self.name, self.arrays, self.scalars, self.temporaries, body)


def statements(nodes: tuple[Node, ...]) -> Iterator[tuple[tuple[Loop, ...], Statement]]:
    """Every statement in textual order, with the loops around it, outermost first."""
    for node in nodes:
        if isinstance(node, Statement):
            yield (), node
        else:
            yield from (((node, *around), statement) for around, statement in node.inside)


def loops(nodes: tuple[Node, ...]) -> Iterator[tuple[tuple[Loop, ...], Loop]]:
    """Every loop in textual order (outer before inner), with the loops around it."""
    for node in nodes:
        if isinstance(node, Loop):
            yield (), node
            yield from (((node, *around), loop) for around, loop in node.loops_inside)


def statement_runs(nodes: Sequence[Node]) -> Iterator[tuple[Statement, ...] | Loop]:
    """``nodes`` in their order: neighbouring statements together, each loop by itself."""
    run: list[Statement] = []
    for node in nodes:
        if isinstance(node, Statement):
            run.append(node)
            continue
        if run:
            yield tuple(run)
            run = []
        yield node
    if run:
        yield tuple(run)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The operands of an expression, left to right."""
    match expr:
        case Unary(_, x) | Cast(_, x):
            return (x,)
        case Binary(_, left, right):
            return left, right
        case Select(condition, yes, no):
            return condition, yes, no
        case Call(_, arguments):
            return arguments
        case Literal() | AffineValue() | Read():
            return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """``expr`` and everything in it, operators before operands, left to right."""
    pending = [expr]
    while pending:
        here = pending.pop()
        yield here
        pending.extend(reversed(children(here)))


def map_leaves(expr: Expr, change: Callable[[Leaf], Expr]) -> Expr:
    """``expr`` with every literal, index and read replaced by what ``change`` makes of it."""
    match expr:
        case Unary(op, x):
            return Unary(op, map_leaves(x, change))
        case Cast(dtype, x):
            return Cast(dtype, map_leaves(x, change))
        case Binary(op, left, right):
            return Binary(op, map_leaves(left, change), map_leaves(right, change))
        case Select(condition, yes, no):
            return Select(*(map_leaves(x, change) for x in (condition, yes, no)))
        case Call(function, arguments):
            return Call(function, tuple(map_leaves(x, change) for x in arguments))
        case Literal() | AffineValue() | Read():
            return change(expr)


def map_reads(expr: Expr, change: Callable[[Access], Access]) -> Expr:
    """``expr`` with every access that it reads replaced."""
    return map_leaves(expr, lambda x: Read(change(x.access)) if isinstance(x, Read) else x)


def reads(expr: Expr) -> Iterator[Access]:
    """Every access an expression reads, left to right, repeated where it repeats."""
    return (x.access for x in walk(expr) if isinstance(x, Read))


def values(statement: Statement) -> tuple[Expr, ...]:
    """Every expression that a statement computes, but for the update itself."""
    condition = () if statement.condition is None else (statement.condition,)
    return (*condition, *(d.value for d in statement.derived), statement.value)


def all_reads(statement: Statement) -> Iterator[Access]:
    """Every access that a statement reads, but for the target of an update."""
    return (access for value in values(statement) for access in reads(value))


def conjuncts(condition: Expr | None) -> tuple[Expr, ...]:
    """What a condition is the conjunction of, in the order in which C evaluates it."""
    if condition is None:
        return ()
    if isinstance(condition, Binary) and condition.op == "&&":
        return (*conjuncts(condition.left), *conjuncts(condition.right))
    return (condition,)


def guarded_reads(statement: Statement) -> Iterator[tuple[Access, tuple[Expr, ...]]]:
    """What a statement reads besides its target, each with what surely holds where it does."""
    everything = conjuncts(statement.condition)
    for before, conjunct in enumerate(everything):
        yield from ((access, everything[:before]) for access in reads(conjunct))
    early = frozenset[str]().union(*map(names_in, everything))
    for number in statement.derived:
        holds = () if number.name in early else everything
        yield from ((access, holds) for access in reads(number.value))
    yield from ((access, everything) for access in reads(statement.value))


def names_in(expr: Expr) -> frozenset[str]:
    """The iterators and derived numbers that an expression mentions."""
    forms = [x.value for x in walk(expr) if isinstance(x, AffineValue)]
    forms += [s for access in reads(expr) for s in access.subscripts]
    return frozenset(name for form in forms for name in form.names)


def map_accesses(statement: Statement, change: Callable[[Access], Access]) -> Statement:
    """``statement`` with every access replaced: what it reads, and what it writes."""
    mapped = map_values(statement, lambda x: map_reads(x, change))
    return mapped.but(target=change(statement.target))


def map_all_accesses(
    nodes: tuple[Node, ...], change: Callable[[Access], Access]
) -> tuple[Node, ...]:
    """``nodes`` with every access of their statements replaced."""
    return tuple(
        map_accesses(node, change)
        if isinstance(node, Statement)
        else node.with_body(map_all_accesses(node.body, change))
        for node in nodes
    )


def map_values(statement: Statement, change: Callable[[Expr], Expr]) -> Statement:
    """``statement`` with every expression that it computes replaced."""
    return statement.but(
        value=change(statement.value),
        condition=None if statement.condition is None else change(statement.condition),
        derived=tuple(replace(d, value=change(d.value)) for d in statement.derived),
    )


def accesses(statement: Statement) -> Iterator[Access]:
    """Every access of a statement: what it reads, then what it writes."""
    yield from all_reads(statement)
    yield statement.target


def is_float(expr: Expr, dtype_of: Callable[[str], DType]) -> bool:
    """Whether the value has a floating type in C; ``dtype_of`` knows what is read."""
    match expr:
        case Literal():
            return expr.dtype.is_float
        case AffineValue():
            return False
        case Read(access):
            return dtype_of(access.array).is_float
        case Cast(dtype, _):
            return dtype.is_float
        case Unary(op, x):
            return op != "!" and is_float(x, dtype_of)
        case Binary(op, left, right):
            return op not in PREDICATES and (is_float(left, dtype_of) or is_float(right, dtype_of))
        case Select(_, yes, no):
            return is_float(yes, dtype_of) or is_float(no, dtype_of)
        case Call(function, _):
            return function not in INTEGER_FUNCTIONS


def substitute(node: Node, values: Mapping[str, Affine]) -> Node:
    """``node`` with iterators replaced throughout: bounds, subscripts, values, instances."""
    if isinstance(node, Statement):
        return substitute_statement(node, values)
    return substitute_loop(node, values)


def substitute_loop(loop: Loop, values: Mapping[str, Affine]) -> Loop:
    """``loop`` with iterators from around it replaced throughout."""
    return loop.but(
        lower=tuple(Bound(b.expr.substitute(values), b.divisor) for b in loop.lower),
        upper=tuple(Bound(b.expr.substitute(values), b.divisor) for b in loop.upper),
        body=tuple(substitute(n, values) for n in loop.body),
        packs=tuple(read.substitute(values) for read in loop.packs),
    )


def substitute_statement(statement: Statement, values: Mapping[str, Affine]) -> Statement:
    """``statement`` with every iterator in ``values`` replaced by its affine value."""

    def in_leaf(leaf: Leaf) -> Expr:
        match leaf:
            case Read(access):
                return Read(access.substitute(values))
            case AffineValue(value):
                return AffineValue(value.substitute(values))
            case Literal():
                return leaf

    return map_values(statement, lambda x: map_leaves(x, in_leaf)).but(
        target=statement.target.substitute(values),
        instance=tuple(a.substitute(values) for a in statement.instance),
    )
