"""What a Program means, executed statement by statement: C's arithmetic on int, float and double.

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

NUMPY = {DType.F32: np.float32, DType.F64: np.float64, DType.I32: np.int32, DType.U8: np.uint8}
Value = int | np.float32 | np.float64  # a C int, float or double
Arrays = dict[str, np.ndarray]
_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))


class UndefinedBehaviourError(Exception):
    """The program does what C leaves undefined."""


def interpret(program: Program, arrays: Mapping[str, np.ndarray], scalars: Mapping[str, Value]):
    """The arrays after running ``program``; the arguments stay as they are."""
    machine = _Machine(program, {n: a.copy() for n, a in arrays.items()}, scalars)
    with np.errstate(all="ignore"):
        for node in program.body:
            machine.run(node, {})
    return machine.arrays


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
    """Inputs of moderate size: floats in [-1, 1], int32 in [-50, 50], uint8 in [0, 255]."""
    rng = np.random.default_rng(seed)

    def values(dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        if dtype.is_float:
            return rng.uniform(-1, 1, shape).astype(NUMPY[dtype])
        low, high = (0, 256) if dtype is DType.U8 else (-50, 51)
        return rng.integers(low, high, shape).astype(NUMPY[dtype])

    arrays = {a.name: values(a.dtype, a.shape) for a in program.arrays}
    return arrays, {s.name: _value(values(s.dtype, (1,))[0]) for s in program.scalars}


def _value(element: np.generic) -> Value:
    return int(element) if isinstance(element, np.integer) else element  # type: ignore[return-value]


def _int(value: int) -> int:
    if not -(2**31) <= value < 2**31:
        raise UndefinedBehaviourError(f"{value} does not fit an int")
    return value


def convert(value: Value, dtype: DType) -> Value:
    """``value`` converted as by assignment to a variable of type ``dtype``."""
    if dtype.is_float:
        return NUMPY[dtype](value)
    if not isinstance(value, int):
        if not np.isfinite(value):
            raise UndefinedBehaviourError("NaN or infinity converted to an integer")
        value = int(value)
        if dtype is DType.U8 and not 0 <= value <= 255:
            raise UndefinedBehaviourError(f"{value} converted from floating point to uint8_t")
    return value & 255 if dtype is DType.U8 else _int(value)


def _common(left: Value, right: Value) -> tuple[Value, Value]:
    for kind in (np.float64, np.float32):
        if isinstance(left, kind) or isinstance(right, kind):
            return kind(left), kind(right)
    return left, right


def _arithmetic(op: str, a: Value, b: Value) -> Value:
    if not isinstance(a, int):
        return {"+": a + b, "-": a - b, "*": a * b}[op] if op != "/" else a / b
    if op in "/%":
        if b == 0:
            raise UndefinedBehaviourError("division by zero")
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return _int(quotient if op == "/" else a - quotient * b)
    return _int({"+": a + b, "-": a - b, "*": a * b}[op])


def _bits(op: str, a: int, b: int) -> int:
    if op in ("<<", ">>"):
        if not 0 <= b < 32 or (op == "<<" and a < 0):
            raise UndefinedBehaviourError(f"{a} {op} {b}")
        return _int(a << b) if op == "<<" else a >> b
    return {"&": a & b, "|": a | b, "^": a ^ b}[op]


def _compare(op: str, a: Value, b: Value) -> int:
    a, b = _common(a, b)
    outcomes = {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}
    return int(outcomes[op])


def literal(text: str) -> Value:
    """The value and type of a C number without suffix, or with ``f``."""
    if "." not in text and "e" not in text.lower() and not text.lower().endswith("f"):
        return _int(int(text, 0))
    return np.float32(text[:-1]) if text.lower().endswith("f") else np.float64(text)


def call(function: str, arguments: list[Value]) -> Value:
    """A function of the C library, by the C library itself."""
    if function == "abs":
        return _int(abs(int(arguments[0])))
    single = function.endswith("f")
    ctype = ctypes.c_float if single else ctypes.c_double
    entry = getattr(_LIBM, function)
    entry.argtypes, entry.restype = [ctype] * len(arguments), ctype
    return (np.float32 if single else np.float64)(entry(*(float(x) for x in arguments)))


class _Machine:
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
        if isinstance(old, int):
            return (min if statement.op == "min" else max)(old, value)
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
            return _value(self.arrays[access.array][self.element(access, point)])
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
                return _int(affine.evaluate(point))
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
            return int(x == 0)
        return ~x if op == "~" else _int(-x) if isinstance(x, int) else -x

    def select(self, condition: Expr, yes: Expr, no: Expr, point: dict[str, int]) -> Value:
        chosen = self.value(yes if self.value(condition, point) != 0 else no, point)
        return _common(chosen, _zero(self.program, yes, no))[0]

    def binary(self, op: str, left: Expr, right: Expr, point: dict[str, int]) -> Value:
        a = self.value(left, point)
        if op in ("&&", "||"):
            if (a != 0) == (op == "||"):
                return int(op == "||")
            return int(self.value(right, point) != 0)
        b = self.value(right, point)
        if op in PREDICATES:
            return _compare(op, a, b)
        if op in ("<<", ">>", "&", "|", "^"):
            return _bits(op, int(a), int(b))
        return _arithmetic(op, *_common(a, b))


PREDICATES = frozenset("< <= > >= == !=".split())


def kind(program: Program, expr: Expr) -> type:
    """The C type of an expression: int, np.float32 or np.float64."""
    match expr:
        case Literal(text):
            return type(literal(text))
        case AffineValue():
            return int
        case Read(access):
            dtype = program.dtype_of(access.array)
            return NUMPY[dtype] if dtype.is_float else int
        case Cast(dtype, _):
            return NUMPY[dtype] if dtype.is_float else int
        case Unary(op, x):
            return int if op == "!" else kind(program, x)
        case Call(function, _):
            return int if function == "abs" else np.float32 if function[-1] == "f" else np.float64
        case Binary(op, left, right):
            if op in PREDICATES or op in ("&&", "||"):
                return int
            return wider(kind(program, left), kind(program, right))
        case Select(_, yes, no):
            return wider(kind(program, yes), kind(program, no))


def wider(one: type, other: type) -> type:
    """The type of an operation on both."""
    order = (int, np.float32, np.float64)
    return max(one, other, key=order.index)


def _zero(program: Program, yes: Expr, no: Expr) -> Value:
    return wider(kind(program, yes), kind(program, no))(0)


def subscript_range(value: Affine, around: tuple[Loop, ...]) -> tuple[int, int] | None:
    """Least and greatest value over a nest, by enumeration; None where it never runs."""
    values = [value.evaluate(p) for p in points(around)]
    return (min(values), max(values)) if values else None
