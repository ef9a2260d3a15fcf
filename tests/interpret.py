"""What a Program means, executed statement by statement: C's arithmetic on every type.

It is the reference that emitted C is compared with, so it shares nothing with emission: no
pragmas, no locals, no bounds analysis; undefined behaviour raises.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator, Mapping

import numpy as np

from agent.loopnest.program import (
    Access,
    Affine,
    AffineValue,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Loop,
    Node,
    Program,
    Read,
    Select,
    Statement,
    Unary,
)
from agent.measure.plan import index_values

NUMPY = {d: np.dtype(d.value.removesuffix("_t").replace("float", "float32")).type for d in DType}
RANKS = (np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)  # C computes in these
Value = np.generic  # of one of RANKS
Arrays = dict[str, np.ndarray]
_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))


class UndefinedBehaviourError(Exception):
    """The program does what C leaves undefined."""


def interpret(program: Program, arrays: Mapping[str, np.ndarray], scalars: Mapping[str, Value]):
    """The arrays after running ``program``; the arguments stay as they are."""
    mine = {n: a.copy() for n, a in arrays.items()}
    machine = Machine(program, mine | tables(program), scalars)
    with np.errstate(all="ignore"):
        for node in program.body:
            machine.run(node, {})
    return {name: machine.arrays[name] for name in arrays}


def tables(program: Program) -> Arrays:
    """The constant tables of ``program``."""
    return {
        a.name: np.array([convert(literal(t), a.dtype) for t in a.values], NUMPY[a.dtype]).reshape(
            a.shape
        )
        for a in program.arrays
        if a.values
    }


def iterations(loop: Loop, point: Mapping[str, int]) -> range:
    """The values a loop's iterator takes where those of the loops around it are known."""
    low = max(-(-b.expr.evaluate(point) // b.divisor) for b in loop.lower)
    high = min(b.expr.evaluate(point) // b.divisor for b in loop.upper)
    return range(low, high + 1, loop.step)


def points(around: tuple[Loop, ...]) -> Iterator[dict[str, int]]:
    """Every iteration of a nest."""
    found: list[dict[str, int]] = [{}]
    for loop in around:
        found = [{**p, loop.iterator: v} for p in found for v in iterations(loop, p)]
    yield from found


def random_arguments(program: Program, seed: int) -> tuple[Arrays, dict[str, Value]]:
    """Inputs of moderate size: floats in [-1, 1], integers in [-50, 50] or [0, 255].

    What subscripts are made of keeps them within the arrays.
    """
    rng = np.random.default_rng(seed)
    needed = index_values(program)

    def values(name: str, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        if dtype.is_float:
            return rng.uniform(-1, 1, shape).astype(NUMPY[dtype])
        low, high = needed.get(name, (-50, 50) if dtype.is_signed else (0, 255))
        return rng.integers(low, high + 1, shape).astype(NUMPY[dtype])

    arrays = {a.name: values(a.name, a.dtype, a.shape) for a in program.arguments}
    scalars = {s.name: promoted(values(s.name, s.dtype, (1,))[0]) for s in program.scalars}
    return arrays, scalars


def promoted(element: np.generic) -> Value:
    """What C computes with: an int where the type is narrower."""
    return element if type(element) in RANKS else np.int32(element)  # type: ignore[call-overload]


def fitted(value: int, kind: type) -> Value:
    """The result of arithmetic in a type: unsigned ones wrap, others must hold it."""
    if issubclass(kind, np.unsignedinteger):
        return kind(value % (1 << np.iinfo(kind).bits))
    if not np.iinfo(kind).min <= value <= np.iinfo(kind).max:
        raise UndefinedBehaviourError(f"{value} does not fit {kind.__name__}")
    return kind(value)


def is_float(value: Value) -> bool:
    return isinstance(value, np.floating)


def convert(value: Value | int, dtype: DType) -> Value:
    """``value`` converted as by assignment to a variable of type ``dtype``, then promoted."""
    if dtype.is_float:
        return NUMPY[dtype](value)
    limits = np.iinfo(NUMPY[dtype])
    if isinstance(value, np.floating) and (
        not np.isfinite(value) or not limits.min <= int(value) <= limits.max
    ):
        raise UndefinedBehaviourError(f"{value} converted to {dtype.value}")
    number = (int(value) - limits.min) % (1 << limits.bits) + limits.min
    return promoted(NUMPY[dtype](number))


def cast(value: Value, kind: type) -> Value:
    """``value`` converted to one of RANKS."""
    if issubclass(kind, np.floating) or is_float(value):
        return kind(value)
    limits = np.iinfo(kind)
    return kind((int(value) - limits.min) % (1 << limits.bits) + limits.min)


def _common(left: Value, right: Value) -> tuple[Value, Value]:
    kind = wider(type(left), type(right))
    return cast(left, kind), cast(right, kind)


def _arithmetic(op: str, a: Value, b: Value) -> Value:
    if is_float(a):
        return {"+": a + b, "-": a - b, "*": a * b}[op] if op != "/" else a / b
    kind, x, y = type(a), int(a), int(b)
    if op in "/%":
        if y == 0:
            raise UndefinedBehaviourError("division by zero")
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        return fitted(quotient if op == "/" else x - quotient * y, kind)
    return fitted({"+": x + y, "-": x - y, "*": x * y}[op], kind)


def _bits(op: str, a: Value, b: Value) -> Value:
    if op in ("<<", ">>"):
        x, y = int(a), int(b)
        if not 0 <= y < np.iinfo(type(a)).bits or (op == "<<" and x < 0):
            raise UndefinedBehaviourError(f"{a} {op} {b}")
        return fitted(x << y if op == "<<" else x >> y, type(a))
    a, b = _common(a, b)
    return {"&": a & b, "|": a | b, "^": a ^ b}[op]


def _compare(op: str, a: Value, b: Value) -> Value:
    a, b = _common(a, b)
    outcomes = {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}
    return np.int32(outcomes[op])


def literal(text: str) -> Value:
    """The value of a C number, in its type."""
    lowered = text.lower()
    if not lowered.startswith("0x") and any(c in lowered for c in ".ef"):
        return np.float32(text[:-1]) if lowered.endswith("f") else np.float64(text)
    return NUMPY[Literal(text).dtype](int(lowered.rstrip("ul"), 0))


def call(function: str, arguments: list[Value]) -> Value:
    """A function of the C library, by the C library itself."""
    if function in ("abs", "labs"):
        return fitted(abs(int(arguments[0])), np.int32 if function == "abs" else np.int64)
    single = function.endswith("f")
    ctype = ctypes.c_float if single else ctypes.c_double
    entry = getattr(_LIBM, function)
    entry.argtypes, entry.restype = [ctype] * len(arguments), ctype
    kind = np.float32 if single else np.float64
    return kind(entry(*(float(kind(x)) for x in arguments)))


class _Point(dict):  # type: ignore[type-arg]
    """Iterators by name, and the numbers that a statement derives, each computed where used."""

    def __init__(self, machine: Machine, statement: Statement, point: Mapping[str, int]) -> None:
        super().__init__(point)
        self.machine, self.numbers = machine, {d.name: d for d in statement.derived}

    def __missing__(self, name: str) -> int:
        number = self.numbers[name]
        value = int(self.machine.value(number.value, self))  # type: ignore[call-overload]
        if not number.low <= value <= number.high:
            raise UndefinedBehaviourError(f"{name} is {value}")
        return value


class Machine:
    def __init__(self, program: Program, arrays: Arrays, scalars: Mapping[str, Value]) -> None:
        self.program = program
        self.arrays = arrays
        self.scalars = scalars
        self.depths = {t.name: t.depth for t in program.temporaries}
        self.temporaries: dict[tuple[str, tuple[int, ...]], Value] = {}

    def run(self, node: Node, point: dict[str, int]) -> None:
        if isinstance(node, Statement):
            self.assign(node, point)
            return
        for value in iterations(node, point):
            for inner in node.body:
                self.run(inner, {**point, node.iterator: value})

    def assign(self, statement: Statement, point: dict[str, int]) -> None:
        self.instance = tuple(a.evaluate(point) for a in statement.instance)
        point = _Point(self, statement, point)
        if statement.condition is not None and not self.value(statement.condition, point):
            return
        value = self.value(statement.value, point)
        if statement.op:
            value = self.update(statement, self.read(statement.target, point), value)
        name = statement.target.array
        value = convert(value, self.program.dtype_of(name))
        if name in self.arrays:
            self.arrays[name][self.element(statement.target, point)] = value
        else:
            self.temporaries[self.slot(name)] = value

    def update(self, statement: Statement, old: Value, value: Value) -> Value:
        if statement.op not in ("min", "max"):
            return _arithmetic(statement.op, *_common(old, value))
        if not is_float(old):
            sign = "<" if statement.op == "min" else ">"
            return value if _compare(sign, value, old) else old
        return call(f"f{statement.op}", [old, value])

    def slot(self, name: str) -> tuple[str, tuple[int, ...]]:
        return name, self.instance[: self.depths[name]]

    def element(self, access: Access, point: dict[str, int]) -> tuple[int, ...]:
        index = tuple(s.evaluate(point) for s in access.subscripts)
        shape = self.program.array(access.array).shape
        if any(not 0 <= i < n for i, n in zip(index, shape, strict=True)):
            raise UndefinedBehaviourError(f"{access.array}{index} is out of bounds")
        return index

    def read(self, access: Access, point: dict[str, int]) -> Value:
        if access.array in self.arrays:
            return promoted(self.arrays[access.array][self.element(access, point)])
        if access.array in self.scalars:
            return self.scalars[access.array]
        try:
            return self.temporaries[self.slot(access.array)]
        except KeyError:
            raise UndefinedBehaviourError(f"{access.array} is read before it is written") from None

    def value(self, expr: Expr, point: dict[str, int]) -> Value:
        match expr:
            case Literal(text):
                return literal(text)
            case AffineValue(affine):
                return fitted(affine.evaluate(point), np.int32)
            case Cast(dtype, AffineValue(affine)):
                return convert(affine.evaluate(point), dtype)
            case Read(access):
                return self.read(access, point)
            case Unary(op, x):
                return self.unary(op, self.value(x, point))
            case Cast(dtype, x):
                return convert(self.value(x, point), dtype)
            case Select(condition, yes, no):
                return self.select(condition, yes, no, point)
            case Call(function, arguments):
                return call(function, [self.value(x, point) for x in arguments])
            case Binary(op, left, right):
                return self.binary(op, left, right, point)

    def unary(self, op: str, x: Value) -> Value:
        if op == "!":
            return np.int32(x == 0)
        return ~x if op == "~" else -x if is_float(x) else fitted(-int(x), type(x))

    def select(self, condition: Expr, yes: Expr, no: Expr, point: dict[str, int]) -> Value:
        chosen = self.value(yes if self.value(condition, point) != 0 else no, point)
        return cast(chosen, wider(kind(self.program, yes), kind(self.program, no)))

    def binary(self, op: str, left: Expr, right: Expr, point: dict[str, int]) -> Value:
        a = self.value(left, point)
        if op in ("&&", "||"):
            if (a != 0) == (op == "||"):
                return np.int32(op == "||")
            return np.int32(self.value(right, point) != 0)
        b = self.value(right, point)
        if op in PREDICATES:
            return _compare(op, a, b)
        if op in ("<<", ">>", "&", "|", "^"):
            return _bits(op, a, b)
        return _arithmetic(op, *_common(a, b))


PREDICATES = frozenset("< <= > >= == !=".split())


def kind(program: Program, expr: Expr) -> type:
    """The C type of an expression: one of RANKS."""
    match expr:
        case Literal(text):
            return type(literal(text))
        case AffineValue():
            return np.int32
        case Read(access):
            return type(promoted(NUMPY[program.dtype_of(access.array)]()))
        case Cast(dtype, _):
            return type(promoted(NUMPY[dtype]()))
        case Unary(op, x):
            return np.int32 if op == "!" else kind(program, x)
        case Call("abs", _):
            return np.int32
        case Call("labs", _):
            return np.int64
        case Call(function, _):
            return np.float32 if function[-1] == "f" else np.float64
        case Binary(op, left, right):
            if op in PREDICATES or op in ("&&", "||"):
                return np.int32
            if op in ("<<", ">>"):
                return kind(program, left)
            return wider(kind(program, left), kind(program, right))
        case Select(_, yes, no):
            return wider(kind(program, yes), kind(program, no))


def wider(one: type, other: type) -> type:
    """The type of an operation on both."""
    return max(one, other, key=RANKS.index)


def subscript_range(value: Affine, around: tuple[Loop, ...]) -> tuple[int, int] | None:
    """Least and greatest value over a nest, by enumeration; None where it never runs."""
    values = [value.evaluate(p) for p in points(around)]
    return (min(values), max(values)) if values else None
