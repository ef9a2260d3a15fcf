"""C's arithmetic: the types of expressions (C11, 6.3.1) and the ranges of whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.loopnest.program import (
    INTEGER_FUNCTIONS,
    PREDICATES,
    AffineValue,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Loop,
    Program,
    Read,
    Select,
    Statement,
    Unary,
    statements,
    walk,
)
from agent.loopnest.program import (
    values as expressions,
)

Interval = tuple[int, int]  # least and greatest
_SHIFTS = ("<<", ">>")
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def promoted(dtype: DType) -> DType:
    """The type in which C computes with an operand of type ``dtype``."""
    return DType.I32 if not dtype.is_float and dtype.bits < 32 else dtype


def common(left: DType, right: DType) -> DType:
    """The type in which C computes with both: the usual arithmetic conversions."""
    if left.is_float or right.is_float:
        return DType.F64 if DType.F64 in (left, right) else DType.F32
    return max(promoted(left), promoted(right), key=lambda t: (t.bits, not t.is_signed))


def type_of(expr: Expr, dtype_of: Callable[[str], DType]) -> DType:
    """The C type of a value; ``dtype_of`` knows what is read."""
    match expr:
        case Literal():
            return expr.dtype
        case AffineValue():
            return DType.I32
        case Read(access):
            return dtype_of(access.array)
        case Cast(dtype, _):
            return dtype
        case Unary(op, x):
            return DType.I32 if op == "!" else promoted(type_of(x, dtype_of))
        case Binary(op, left, right):
            if op in PREDICATES:
                return DType.I32
            if op in _SHIFTS:
                return promoted(type_of(left, dtype_of))
            return common(type_of(left, dtype_of), type_of(right, dtype_of))
        case Select(_, yes, no):
            return common(type_of(yes, dtype_of), type_of(no, dtype_of))
        case Call(function, _):
            single = DType.F32 if function.endswith("f") else DType.F64
            return INTEGER_FUNCTIONS.get(function, single)


def coarsest_float(*programs: Program) -> DType | None:
    """The shortest floats that ``programs`` hold or compute; None: they have none.

    Other numbers may be made of them: sums in another order agree no better than these round.
    """
    found = {x.dtype for program in programs for x in program.declared}
    for program in programs:
        values = (v for _, s in statements(program.body) for v in expressions(s))
        parts = (x for value in values for x in walk(value) if isinstance(x, Cast | Call))
        found |= {type_of(x, program.dtype_of) for x in parts}
    return min((t for t in found if t.is_float), key=lambda t: t.size, default=None)


def whole(literal: Literal) -> int:
    """The value of an integer constant."""
    digits = literal.text.lower().rstrip("ul")
    octal = digits[0] == "0" and digits.isdigit()
    return int(digits, 8 if octal else 0)


def within(inner: Interval, outer: Interval) -> bool:
    """Whether an interval lies in another."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def converted(values: Interval, dtype: DType) -> Interval:
    """What ``values`` may be after conversion to an integer type."""
    return values if within(values, dtype.range) else dtype.range


def combined(op: str, left: Interval, right: Interval) -> Interval | None:
    """What ``left op right`` may be as a number (no type bounds it); None where unknown."""
    pairs = [(a, b) for a in left for b in right]
    match op:
        case "+":
            found = [a + b for a, b in pairs]
        case "-":
            found = [a - b for a, b in pairs]
        case "*":
            found = [a * b for a, b in pairs]
        case "/" if right[0] > 0:
            found = [abs(a) // b * (1 if a >= 0 else -1) for a, b in pairs]
        case "%" if right[0] > 0:
            most = right[1] - 1
            found = [max(left[0], -most) if left[0] < 0 else 0, max(0, min(left[1], most))]
        case "<<" if within(right, (0, 63)):
            found = [a << b for a, b in pairs]
        case ">>" if within(right, (0, 63)):
            found = [a >> b for a, b in pairs]
        case "&" if left[0] >= 0 or right[0] >= 0:
            found = [0, min(high for low, high in (left, right) if low >= 0)]
        case "|" | "^" if left[0] >= 0 and right[0] >= 0:
            found = [0, (1 << max(left[1], right[1]).bit_length()) - 1]
        case _:
            return None
    return min(found), max(found)


def iterator_ranges(around: Sequence[Loop]) -> dict[str, Interval]:
    """The box that holds the iterators of nested loops (exact for rectangular ones)."""
    found: dict[str, Interval] = {}
    for loop in around:
        low = max(-(-b.expr.interval(found)[0] // b.divisor) for b in loop.lower)
        high = min(b.expr.interval(found)[1] // b.divisor for b in loop.upper)
        found[loop.iterator] = (low, max(low, high))
    return found


def number_ranges(around: Sequence[Loop], statement: Statement) -> dict[str, Interval]:
    """The ranges of the iterators around a statement and of its derived numbers."""
    return {**iterator_ranges(around), **{d.name: (d.low, d.high) for d in statement.derived}}


@dataclass(frozen=True)
class Ranges:
    """What is known of the whole numbers in expressions.

    Attributes:
        dtype_of: the type of what is read.
        ends: ranges of iterators and derived numbers.
        elements: ranges of the elements of arrays and of scalars, where they are narrower than
            the type.
        facts: ranges of expressions, by what has been compared.
    """

    dtype_of: Callable[[str], DType]
    ends: Mapping[str, Interval] = field(default_factory=dict)
    elements: Mapping[str, Interval] = field(default_factory=dict)
    facts: Mapping[Expr, Interval] = field(default_factory=dict)

    def of(self, expr: Expr) -> Interval | None:
        """The range of a value, as far as C's rules and what is known tell; None for floats.

        Signed arithmetic is taken not to overflow, which C leaves undefined.
        """
        found = self._of(expr)
        if found is None or expr not in self.facts:
            return found
        low, high = self.facts[expr]
        return max(low, found[0]), min(high, found[1])

    def operand(self, expr: Expr, dtype: DType) -> Interval:
        """The range of a whole number once it is converted to ``dtype``."""
        return converted(self.of(expr) or dtype.range, dtype)

    def assuming(self, condition: Expr, *, holds: bool = True) -> Ranges:
        """What is known besides where ``condition`` holds, or does not."""
        match condition:
            case Unary("!", x):
                return self.assuming(x, holds=not holds)
            case Binary("&&" | "||" as op, left, right):
                if holds == (op == "&&"):
                    return self.assuming(left, holds=holds).assuming(right, holds=holds)
            case Binary(op, left, right) if op in _NEGATED:
                op = op if holds else _NEGATED[op]
                return self._compared(op, left, right)._compared(_MIRRORED[op], right, left)
        return self

    def _compared(self, op: str, expr: Expr, other: Expr) -> Ranges:
        """What ``expr op other`` tells of ``expr``."""
        mine, limit = self.of(expr), self.of(other)
        if mine is None or limit is None:
            return self
        dtype = common(type_of(expr, self.dtype_of), type_of(other, self.dtype_of))
        if not (within(mine, dtype.range) and within(limit, dtype.range)):
            return self  # what is compared is not what was there
        low, high = {
            "<": (mine[0], limit[1] - 1),
            "<=": (mine[0], limit[1]),
            ">": (limit[0] + 1, mine[1]),
            ">=": (limit[0], mine[1]),
            "==": limit,
        }.get(op, mine)
        fact = max(low, mine[0]), min(high, mine[1])
        facts = {**self.facts, expr: fact}
        while isinstance(expr, Cast) and self.of(expr.operand) == mine:
            expr = expr.operand
            facts[expr] = fact
        return replace(self, facts=facts) if fact[0] <= fact[1] else self

    def _of(self, expr: Expr) -> Interval | None:
        dtype = type_of(expr, self.dtype_of)
        if dtype.is_float:
            return None
        match expr:
            case Literal():
                return whole(expr), whole(expr)
            case AffineValue(value):
                known = value.names <= self.ends.keys()
                return value.interval(self.ends) if known else dtype.range
            case Read(access):
                return self.elements.get(access.array, dtype.range)
            case Cast(_, AffineValue(value)) if value.names <= self.ends.keys():
                return converted(value.interval(self.ends), dtype)
            case Cast(_, x):
                return self.operand(x, dtype)
            case Select(condition, yes, no):
                one = self.assuming(condition).operand(yes, dtype)
                two = self.assuming(condition, holds=False).operand(no, dtype)
                return min(one[0], two[0]), max(one[1], two[1])
            case Binary(op, left, right):
                return self._binary(op, left, right, dtype)
            case Unary("!", _):
                return 0, 1
            case Unary("-", x):
                low, high = self.operand(x, dtype)
                return self._bounded((-high, -low), dtype)
            case Unary("~", x) if dtype.is_signed:
                low, high = self.operand(x, dtype)
                return -1 - high, -1 - low
            case Call(_, (x,)):
                low, high = self.operand(x, dtype)
                least = 0 if low <= 0 <= high else min(abs(low), abs(high))
                return self._bounded((least, max(abs(low), abs(high))), dtype)
            case _:
                return dtype.range

    def _binary(self, op: str, left: Expr, right: Expr, dtype: DType) -> Interval:
        if op in PREDICATES:
            return 0, 1
        shift = self.of(right) or dtype.range
        second = shift if op in _SHIFTS else self.operand(right, dtype)
        found = combined(op, self.operand(left, dtype), second)
        return self._bounded(found, dtype) if found else dtype.range

    @staticmethod
    def _bounded(values: Interval, dtype: DType) -> Interval:
        if not dtype.is_signed:
            return converted(values, dtype)
        least, most = dtype.range
        return min(max(values[0], least), most), max(min(values[1], most), least)
