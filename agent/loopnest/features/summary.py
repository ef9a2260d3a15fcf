"""What one statement does, whatever loops surround it: its accesses and its operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from agent.loopnest.program import (
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
    reads,
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
_FUNCTION_OPS = {
    "sqrt": Operation.SQRT,
    "exp": Operation.EXP,
    "log": Operation.EXP,
    "fabs": Operation.INTEGER,
    "fmin": Operation.MINMAX,
    "fmax": Operation.MINMAX,
}
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
    if statement.op:
        wide = _promote(value, target)
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


def _promote(left: DType, right: DType) -> DType:
    if DType.F64 in (left, right):
        return DType.F64
    return DType.F32 if DType.F32 in (left, right) else DType.I32


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
                dtype = _promote(self.visit(x), DType.I32)
                self.ops[Operation.ADD if dtype.is_float else Operation.INTEGER] += 1
                return dtype
            case Cast(dtype, x):
                self.convert(self.visit(x), dtype)
                return dtype
            case Select(condition, yes, no):
                self.visit(condition)
                self.ops[Operation.COMPARE] += 1
                return _promote(self.visit(yes), self.visit(no))
            case Call(function, arguments):
                return self._call(function, arguments)

    def _operand(self, expr: Expr) -> tuple[DType, bool]:
        return self.visit(expr), isinstance(expr, Literal)

    def _binary(self, op: str, left: tuple[DType, bool], right: tuple[DType, bool]) -> DType:
        dtype = _promote(left[0], right[0])
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
        if function == "abs":
            self.ops[Operation.INTEGER] += 1
            return DType.I32
        narrow = function.endswith("f")
        self.ops[_FUNCTION_OPS[function.removesuffix("f") if narrow else function]] += 1
        dtype = DType.F32 if narrow else DType.F64
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
    for access, is_write in _distinct(statement, arrays):
        terms, consts, rows = _shape(access, arrays[access.array][1])
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
    for access in dict.fromkeys(reads(statement.value)):
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
    access: Access, array: Array
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
    return (
        tuple(s.terms for s in subscripts),
        tuple(s.const for s in subscripts),
        tuple(rows),
    )
