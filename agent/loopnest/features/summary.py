"""What one statement does, whatever loops surround it: its accesses and its operations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from agent.loopnest.arithmetic import common, promoted, whole
from agent.loopnest.program import (
    INTEGER_FUNCTIONS,
    PREDICATES,
    Access,
    Affine,
    AffineValue,
    Array,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Program,
    Read,
    Select,
    Statement,
    Unary,
    all_reads,
    names_in,
)


class Operation(IntEnum):
    """The kinds of operations told apart; the value is the position in ``Summary.ops``."""

    ADD = 0
    MUL = 1
    DIV = 2
    SQRT = 3
    EXP = 4
    COMPARE = 5
    INTEGER = 6
    CONVERT = 7
    MINMAX = 8


OPS = tuple(operation.name.lower() for operation in Operation)
MAX_ENTRIES = 10
MAX_DIMS = 4
# What a function counts as, and how often. Calls of the C library: their time in that of `exp`,
# as measured (glibc 2.36, gcc 12 -O2 -march=native, an x86-64 server, November 2026; arguments in
# 0.5..1.5, double, to the nearest half). Others become one instruction, or a few.
_FUNCTIONS: Mapping[str, tuple[Operation, float]] = {
    "sqrt": (Operation.SQRT, 1),
    "fabs": (Operation.INTEGER, 1),
    "copysign": (Operation.INTEGER, 1),
    "abs": (Operation.INTEGER, 1),
    "labs": (Operation.INTEGER, 1),
    "fmin": (Operation.MINMAX, 1),
    "fmax": (Operation.MINMAX, 1),
    "floor": (Operation.CONVERT, 1),
    "ceil": (Operation.CONVERT, 1),
    "trunc": (Operation.CONVERT, 1),
    "fma": (Operation.MUL, 1),
    **{
        name: (Operation.EXP, float(times))
        for times, names in {
            0.5: "round",
            1: "exp log sin cos exp2 log2 hypot fmod",
            1.5: "asin acos atan cosh",
            2: "tan log10",
            2.5: "pow sinh",
            3: "atan2 tanh cbrt",
        }.items()
        for name in names.split()
    },
}
_LINE = 64  # bytes: how far apart elements are taken to be where nothing is known
_ARITHMETIC = {
    "+": Operation.ADD,
    "-": Operation.ADD,
    "*": Operation.MUL,
    "/": Operation.DIV,
    "min": Operation.MINMAX,
    "max": Operation.MINMAX,
}

Terms = tuple[tuple[str, int], ...]
_Arrays = Mapping[str, tuple[int, Array]]  # by name: position in Program.arrays, and it


@dataclass(frozen=True, slots=True)
class DistinctAccess:
    """One distinct access, subscripts without their constants; see ``NestTable``."""

    array: int
    element_bytes: int
    array_bytes: float
    is_write: bool
    is_reduction: bool
    leader: bool
    weight: float
    group: int
    terms: tuple[Terms, ...]
    consts: tuple[int, ...]
    span: tuple[float, ...]
    row_bytes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A statement's accesses (writes first) and its operations per execution."""

    entries: tuple[DistinctAccess, ...]
    ops: tuple[float, ...]
    float_bytes: int
    lane_bytes: int
    float_target: bool
    temporary_depth: int | None
    cost: float


def summarise_statement(statement: Statement, program: Program) -> Summary:
    """Accesses and operations of ``statement``; KeyError where it names what is not declared."""
    types = {x.name: x.dtype for x in program.declared}
    depths = {t.name: t.depth for t in program.temporaries}
    arrays = {a.name: (number, a) for number, a in enumerate(program.arrays)}
    target = types[statement.target.array]
    counter = _Operations(types)
    value = counter.visit(statement.value)
    for number in statement.derived:
        counter.visit(number.value)
    if statement.condition is not None:  # as a ternary does
        counter.visit(statement.condition)
        counter.ops[Operation.COMPARE] += 1
    if statement.op:
        wide = common(value, target)
        counter.ops[_kind(statement.op, wide)] += 1
        counter.seen.add(wide)
        counter.convert(value, wide)
    else:
        counter.convert(value, target)
    entries = _entries(statement, arrays)
    floats = {t for t in (*counter.seen, target) if t.is_float}
    sizes = [e.element_bytes for e in entries] + [t.size for t in counter.seen]
    return Summary(
        entries=entries,
        ops=tuple(counter.ops),
        float_bytes=max((t.size for t in floats), default=0),
        lane_bytes=max(sizes, default=target.size),
        float_target=target.is_float,
        temporary_depth=depths.get(statement.target.array),
        cost=1.0 + sum(counter.ops) + sum(e.weight for e in entries),
    )


def _kind(op: str, dtype: DType) -> Operation:
    if op in PREDICATES:
        return Operation.COMPARE
    kind = _ARITHMETIC.get(op, Operation.INTEGER)
    if kind == Operation.MINMAX and not dtype.is_float:
        return Operation.COMPARE
    return (
        kind if dtype.is_float or kind in (Operation.COMPARE, Operation.DIV) else Operation.INTEGER
    )


class _Operations:
    """Counts the operations of an expression and finds its C type."""

    def __init__(self, types: dict[str, DType]) -> None:
        self.types = types
        self.ops = [0.0] * len(OPS)
        self.seen: set[DType] = set()

    def convert(self, have: DType, want: DType) -> None:
        if have is not want and (have.is_float or want.is_float):
            self.ops[Operation.CONVERT] += 1

    def visit(self, expr: Expr) -> DType:
        match expr:
            case Read(access):
                return self.types[access.array]
            case Literal():
                return expr.dtype
            case AffineValue():
                return DType.I32
            case Binary(op, left, right):
                return self._binary(op, self._operand(left), self._operand(right))
            case Unary(op, x):
                dtype = promoted(self.visit(x))
                self.ops[Operation.ADD if dtype.is_float else Operation.INTEGER] += 1
                return dtype
            case Cast(dtype, x):
                self.convert(self.visit(x), dtype)
                return dtype
            case Select(condition, yes, no):
                self.visit(condition)
                self.ops[Operation.COMPARE] += 1
                return common(self.visit(yes), self.visit(no))
            case Call(function, arguments):
                return self._call(function, arguments)

    def _operand(self, expr: Expr) -> tuple[DType, bool]:
        return self.visit(expr), isinstance(expr, Literal)

    def _binary(self, op: str, left: tuple[DType, bool], right: tuple[DType, bool]) -> DType:
        dtype = common(left[0], right[0])
        constant_divisor = op == "/" and right[1] and not dtype.is_float
        self.ops[Operation.INTEGER if constant_divisor else _kind(op, dtype)] += 1
        self.seen.add(dtype)
        for have, literal in (left, right):
            if not literal:  # the compiler converts literals
                self.convert(have, dtype)
        return DType.I32 if op in PREDICATES else dtype

    def _call(self, function: str, arguments: tuple[Expr, ...]) -> DType:
        for x in arguments:
            self.visit(x)
        kind, times = _FUNCTIONS.get(function) or _FUNCTIONS[function.removesuffix("f")]
        self.ops[kind] += times
        if function in INTEGER_FUNCTIONS:
            return INTEGER_FUNCTIONS[function]
        dtype = DType.F32 if function.endswith("f") else DType.F64
        self.seen.add(dtype)
        return dtype


_Group = tuple[str, tuple[Terms, ...]]  # array and coefficients: what its accesses share


@dataclass(frozen=True, slots=True)
class _Shaped:
    """An access with its subscripts taken apart; ``leads``: it is the first of its group."""

    access: Access
    is_write: bool
    leads: bool
    terms: tuple[Terms, ...]
    consts: tuple[int, ...]
    row_bytes: tuple[float, ...]

    @property
    def group(self) -> _Group:
        return self.access.array, self.terms


def _entries(statement: Statement, arrays: _Arrays) -> tuple[DistinctAccess, ...]:
    """Distinct accesses: the store, then one of every group, then the others; cut at 10."""
    groups: dict[_Group, list[tuple[int, ...]]] = {}
    shaped = []
    numbers = {d.name: d.value for d in statement.derived}
    for access, is_write in _distinct(statement, arrays):
        terms, consts, rows = _shape(access, arrays[access.array][1], numbers)
        group = groups.setdefault((access.array, terms), [])
        shaped.append(_Shaped(access, is_write, not group, terms, consts, rows))
        group.append(consts)
    shaped.sort(key=lambda x: 0 if x.is_write else 1 if x.leads else 2)
    cut = Counter(x.group for x in shaped[MAX_ENTRIES:])
    return tuple(
        _entry(x, arrays[x.access.array], groups[x.group], cut[x.group], bool(statement.op))
        for x in shaped[:MAX_ENTRIES]
    )


def _distinct(statement: Statement, arrays: _Arrays) -> Iterator[tuple[Access, bool]]:
    """Accesses to arrays, each once, and whether it is the store; that of a reduction reads too."""
    if statement.target.array in arrays:
        yield statement.target, True
    for access in dict.fromkeys(all_reads(statement)):
        if access.array in arrays and not (statement.op and access == statement.target):
            yield access, False


def _entry(
    shaped: _Shaped,
    array: tuple[int, Array],
    group: Sequence[tuple[int, ...]],
    cut: int,
    reduces: bool,
) -> DistinctAccess:
    """``group``: the constants of all accesses in its group, of which ``cut`` have no entry."""
    ends = [(min(c), max(c)) for c in zip(*group, strict=True)]
    return DistinctAccess(
        array=array[0],
        element_bytes=array[1].dtype.size,
        array_bytes=float(array[1].bytes),
        is_write=shaped.is_write,
        is_reduction=shaped.is_write and reduces,
        leader=shaped.leads,
        weight=1.0 + cut * shaped.leads,
        group=len(group) * shaped.leads,
        terms=shaped.terms,
        consts=shaped.consts,
        span=tuple(float(high - low) * shaped.leads for low, high in ends),
        row_bytes=shaped.row_bytes,
    )


def _shape(
    access: Access, array: Array, numbers: Mapping[str, Expr]
) -> tuple[tuple[Terms, ...], tuple[int, ...], tuple[float, ...]]:
    """Terms, constants and bytes per unit of each dimension; leading ones beyond 4 are joined."""
    subscripts, extents = list(access.subscripts), list(array.shape)
    while len(subscripts) > MAX_DIMS:
        joined: Affine = subscripts[0] * extents[1] + subscripts[1]
        subscripts[:2], extents[:2] = [joined], [extents[0] * extents[1]]
    rows, unit = [0.0] * len(extents), float(array.dtype.size)
    for d in range(len(extents) - 1, -1, -1):
        rows[d] = unit
        unit *= extents[d]
    if numbers:
        subscripts = [_apart(s, numbers, row) for s, row in zip(subscripts, rows, strict=True)]
    return (
        tuple(s.terms for s in subscripts),
        tuple(s.const for s in subscripts),
        tuple(rows),
    )


def target_subscripts(statement: Statement) -> tuple[Affine, ...]:
    """The subscripts of the target in iterators alone, about as they move with them."""
    numbers = {d.name: d.value for d in statement.derived}
    subscripts = statement.target.subscripts
    return tuple(_apart(s, numbers, _LINE) for s in subscripts) if numbers else subscripts


def _apart(subscript: Affine, numbers: Mapping[str, Expr], row_bytes: float) -> Affine:
    """``subscript`` about as it moves with the iterators that its derived numbers are made of.

    One that is read from data moves by a cache line: each of its elements is on a line of its own.
    """
    line = math.ceil(_LINE / row_bytes)
    while derived := subscript.names & numbers.keys():
        values = {}
        for name in derived:
            regular = _slope(numbers[name])
            anywhere = Affine.of(dict.fromkeys(names_in(numbers[name]), line))
            values[name] = anywhere if regular is None else regular
        subscript = subscript.substitute(values)
    return subscript


def _slope(expr: Expr) -> Affine | None:
    """About how a quasi-affine number moves with the iterators; None where it is not one."""
    match expr:
        case AffineValue(value):
            return value
        case Literal():
            return Affine.constant(whole(expr))
        case Cast(_, x) | Binary("%", x, Literal()):
            return _slope(x)
        case Binary("/", x, Literal() as divisor):
            return _divided(_slope(x), max(1, whole(divisor)))
        case Binary("+" | "-" as op, left, right):
            one, two = _slope(left), _slope(right)
            if one is None or two is None:
                return None
            return one + two if op == "+" else one - two
        case _:
            return None


def _divided(form: Affine | None, divisor: int) -> Affine | None:
    if form is None:
        return None
    terms = {n: c // divisor if c < 0 else -(-c // divisor) for n, c in form.terms}
    return Affine.of(terms, form.const // divisor)
