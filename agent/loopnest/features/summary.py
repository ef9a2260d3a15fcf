"""What one statement does, whatever loops surround it: its accesses and its operations."""

from __future__ import annotations

from dataclasses import dataclass

from agent.loopnest.program import (
    PREDICATES,
    Access,
    Affine,
    Array,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Index,
    Literal,
    Program,
    Read,
    Select,
    Statement,
    Unary,
    reads,
)

OPS = ("add", "mul", "div", "sqrt", "exp", "compare", "integer", "convert", "minmax")
MAX_ENTRIES = 10
MAX_DIMS = 4
_ADD, _MUL, _DIV, _SQRT, _EXP, _COMPARE, _INTEGER, _CONVERT, _MINMAX = range(9)
_FUNCTION_OPS = {
    "sqrt": _SQRT, "exp": _EXP, "log": _EXP, "fabs": _INTEGER, "fmin": _MINMAX, "fmax": _MINMAX,
}  # fmt: skip
_ARITHMETIC = {"+": _ADD, "-": _ADD, "*": _MUL, "/": _DIV, "min": _MINMAX, "max": _MINMAX}

Terms = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Entry:
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

    entries: tuple[Entry, ...]
    ops: tuple[float, ...]
    float_bytes: int
    lane_bytes: int
    float_target: bool
    temporary_depth: int | None
    cost: float


def summarise(statement: Statement, program: Program) -> Summary:
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


def _kind(op: str, dtype: DType) -> int:
    if op in PREDICATES:
        return _COMPARE
    kind = _ARITHMETIC.get(op, _INTEGER)
    if kind == _MINMAX and not dtype.is_float:
        return _COMPARE
    return kind if dtype.is_float or kind in (_COMPARE, _DIV) else _INTEGER


class _Operations:
    """Counts the operations of an expression and finds its C type."""

    def __init__(self, types: dict[str, DType]) -> None:
        self.types = types
        self.ops = [0.0] * len(OPS)
        self.seen: set[DType] = set()

    def convert(self, have: DType, want: DType) -> None:
        if have is not want and (have.is_float or want.is_float):
            self.ops[_CONVERT] += 1

    def visit(self, expr: Expr) -> DType:
        match expr:
            case Read(access):
                return self.types[access.array]
            case Literal():
                return expr.dtype
            case Index():
                return DType.I32
            case Binary(op, left, right):
                return self._binary(op, self._operand(left), self._operand(right))
            case Unary(op, x):
                dtype = _promote(self.visit(x), DType.I32)
                self.ops[_ADD if dtype.is_float else _INTEGER] += 1
                return dtype
            case Cast(dtype, x):
                self.convert(self.visit(x), dtype)
                return dtype
            case Select(condition, yes, no):
                self.visit(condition)
                self.ops[_COMPARE] += 1
                return _promote(self.visit(yes), self.visit(no))
            case Call(function, arguments):
                return self._call(function, arguments)

    def _operand(self, expr: Expr) -> tuple[DType, bool]:
        return self.visit(expr), isinstance(expr, Literal)

    def _binary(self, op: str, left: tuple[DType, bool], right: tuple[DType, bool]) -> DType:
        dtype = _promote(left[0], right[0])
        constant_divisor = op == "/" and right[1] and not dtype.is_float
        self.ops[_INTEGER if constant_divisor else _kind(op, dtype)] += 1
        self.seen.add(dtype)
        for have, literal in (left, right):
            if not literal:  # the compiler converts literals
                self.convert(have, dtype)
        return DType.I32 if op in PREDICATES else dtype

    def _call(self, function: str, arguments: tuple[Expr, ...]) -> DType:
        for x in arguments:
            self.visit(x)
        if function == "abs":
            self.ops[_INTEGER] += 1
            return DType.I32
        narrow = function.endswith("f")
        self.ops[_FUNCTION_OPS[function.removesuffix("f") if narrow else function]] += 1
        dtype = DType.F32 if narrow else DType.F64
        self.seen.add(dtype)
        return dtype


def _entries(statement: Statement, arrays: dict[str, tuple[int, Array]]) -> tuple[Entry, ...]:
    """Distinct accesses: the store, then one of every group, then the others; cut at 10."""
    store = [(statement.target, True)] if statement.target.array in arrays else []
    loads = [(x, False) for x in dict.fromkeys(reads(statement.value)) if x.array in arrays]
    if statement.op:  # the target is read by the store's own entry
        loads = [(x, w) for x, w in loads if x != statement.target]
    groups: dict[tuple[str, tuple[Terms, ...]], list[tuple[int, ...]]] = {}
    shaped = []
    for access, write in (*store, *loads):
        terms, consts, rows = _shape(access, arrays[access.array][1])
        group = groups.setdefault((access.array, terms), [])
        shaped.append((access, write, terms, consts, rows, not group))
        group.append(consts)
    ordered = [x for x in shaped if x[1]] + [x for x in shaped if not x[1] and x[5]]
    ordered += [x for x in shaped if not x[1] and not x[5]]
    cut = _groups_cut(ordered[MAX_ENTRIES:])
    return tuple(
        Entry(
            array=arrays[access.array][0],
            element_bytes=arrays[access.array][1].dtype.size,
            array_bytes=float(arrays[access.array][1].bytes),
            is_write=write,
            is_reduction=write and bool(statement.op),
            leader=leads,
            weight=1.0 + (cut.get((access.array, terms), 0) if leads else 0),
            group=len(groups[access.array, terms]) if leads else 0,
            terms=terms,
            consts=consts,
            span=_span(groups[access.array, terms]) if leads else (0.0,) * len(terms),
            row_bytes=rows,
        )
        for access, write, terms, consts, rows, leads in ordered[:MAX_ENTRIES]
    )


_Shaped = tuple[Access, bool, tuple[Terms, ...], tuple[int, ...], tuple[float, ...], bool]


def _groups_cut(rest: list[_Shaped]) -> dict[tuple[str, tuple[Terms, ...]], int]:
    out: dict[tuple[str, tuple[Terms, ...]], int] = {}
    for access, _, terms, *_ in rest:
        out[access.array, terms] = out.get((access.array, terms), 0) + 1
    return out


def _span(consts: list[tuple[int, ...]]) -> tuple[float, ...]:
    return tuple(float(max(c) - min(c)) for c in zip(*consts, strict=True))


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
