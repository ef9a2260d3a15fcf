"""Expressions as formulas that isl reads, as far as they are quasi-affine (Presburger arithmetic).

Whole numbers made of iterators by ``+ - *`` (one factor a number), quotients, remainders, shifts
and masks by numbers, ternaries and conversions: all of them with C's meaning, wrap-around of
unsigned types included. Signed arithmetic is taken not to overflow.
"""

from __future__ import annotations

from collections.abc import Callable

import islpy as isl

from agent.loopnest.arithmetic import (
    Interval,
    Ranges,
    combined,
    common,
    number_ranges,
    promoted,
    type_of,
    whole,
    within,
)
from agent.loopnest.polyhedron import affine_map, isl_sum, loop_constraint, positional
from agent.loopnest.program import (
    PREDICATES,
    Affine,
    AffineValue,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Loop,
    Select,
    Statement,
    Unary,
)

_ZERO, _ONE = Literal("0"), Literal("1")


def access_map(
    around: tuple[Loop, ...],
    statement: Statement,
    element: tuple[Affine, ...],
    holds: tuple[Expr, ...],
    dtype_of: Callable[[str], DType],
    context: isl.Context,
) -> isl.Map:
    """From the iterations in which ``holds`` may hold to what ``element`` may be there.

    What is not quasi-affine bounds nothing: a condition on data is taken to hold, a number read
    from data to be anything in its range.
    """
    if not holds and not statement.derived:
        return affine_map(around, element, context)
    formula = Formula(around, statement, dtype_of)
    loops = [loop_constraint(loop, formula.names) for loop in around]
    outputs = [f"o{n}" for n in range(len(element))]
    equal = [f"{o} = {formula.sum(e)}" for o, e in zip(outputs, element, strict=True)]
    known = [text for c in holds if (text := formula.truth(c)) is not None]
    constraints = [*loops, *equal, *known, *formula.definitions()]
    body = " and ".join(f"({c})" for c in constraints) or "true"
    if formula.defined:
        body = f"exists ({', '.join(formula.defined)} : {body})"
    vector = ", ".join(positional(around).values())
    return isl.Map.read_from_str(context, f"{{ [{vector}] -> [{', '.join(outputs)}] : {body} }}")


class Formula:
    """Writes expressions of one statement in isl's notation.

    Attributes:
        names: iterator or derived number -> its name for isl.
        defined: names of quantified variables that the texts use.
    """

    def __init__(
        self, around: tuple[Loop, ...], statement: Statement, dtype_of: Callable[[str], DType]
    ) -> None:
        self.names: dict[str, str] = positional(around)
        self._ranges = Ranges(dtype_of, number_ranges(around, statement))
        self._numbers = {d.name: d for d in statement.derived}
        self.names |= {name: f"d{n}" for n, name in enumerate(self._numbers)}
        self.defined: dict[str, None] = {}
        self._choices: list[str] = []

    def sum(self, value: Affine) -> str:
        """An affine form."""
        self.defined |= {self.names[n]: None for n in value.names if n in self._numbers}
        return isl_sum(value, self.names)

    def definitions(self) -> list[str]:
        """What holds of the quantified variables; to be asked for after all else."""
        found = []
        for number in reversed(self._numbers.values()):  # one may be made of earlier ones
            name = self.names[number.name]
            if name in self.defined:
                found.append(f"{number.low} <= {name} <= {number.high}")
                value = self.number(number.value)
                found += [] if value is None else [f"{name} = {value}"]
        return found + self._choices

    def truth(self, expr: Expr) -> str | None:
        """A condition, or None where it is not quasi-affine."""
        match expr:
            case Unary("!", x):
                inner = self.truth(x)
                return None if inner is None else f"not ({inner})"
            case Binary("&&" | "||" as op, left, right):
                one, two = self.truth(left), self.truth(right)
                word = "and" if op == "&&" else "or"
                return None if one is None or two is None else f"(({one}) {word} ({two}))"
            case Binary(op, left, right) if op in PREDICATES:
                dtype = common(self._type(left), self._type(right))
                pair = self._operand(left, dtype), self._operand(right, dtype)
                if pair[0] is None or pair[1] is None:
                    return None
                return f"{pair[0]} {'=' if op == '==' else op} {pair[1]}"
            case _:
                value = self.number(expr)
                return None if value is None else f"{value} != 0"

    def number(self, expr: Expr) -> str | None:
        """A whole number, or None where it is not quasi-affine."""
        dtype = self._type(expr)
        if dtype.is_float:
            return None
        match expr:
            case Literal():
                return f"({whole(expr)})"
            case AffineValue(value) if value.names <= self.names.keys():
                return f"({self.sum(value)})"
            case Cast(_, AffineValue(value)) if value.names <= self.names.keys():
                ends = value.interval(self._ranges.ends)
                return _wrapped(f"({self.sum(value)})", ends, dtype)
            case Cast(_, x):
                return self._operand(x, dtype)
            case Unary("-", x):
                return self._arithmetic("-", _ZERO, x, dtype)
            case Unary("~", x) if dtype.is_signed:
                return self._arithmetic("-", Literal("-1"), x, dtype)
            case Unary("!", _):
                return self._choice(expr, _ONE, _ZERO, dtype)
            case Select(condition, yes, no):
                return self._choice(condition, yes, no, dtype)
            case Binary(op, left, right):
                if op in PREDICATES:
                    return self._choice(expr, _ONE, _ZERO, dtype)
                return self._arithmetic(op, left, right, dtype)
            case Call(_, (x,)):
                size = self._operand(x, dtype)
                return None if size is None else f"max({size}, -{size})"
            case _:
                return None

    def _type(self, expr: Expr) -> DType:
        return type_of(expr, self._ranges.dtype_of)

    def _operand(self, expr: Expr, dtype: DType) -> str | None:
        """``expr`` converted to ``dtype``."""
        text, values = self.number(expr), self._ranges.of(expr)
        if text is None or values is None or dtype.is_float:
            return None
        return _wrapped(text, values, dtype)

    def _choice(self, condition: Expr, yes: Expr, no: Expr, dtype: DType) -> str | None:
        texts = self.truth(condition), self._operand(yes, dtype), self._operand(no, dtype)
        if any(text is None for text in texts):
            return None
        name = f"e{len(self._choices)}"
        test, one, two = texts
        self.defined[name] = None
        self._choices.append(f"(({test}) and {name} = {one}) or (not ({test}) and {name} = {two})")
        return name

    def _arithmetic(self, op: str, left: Expr, right: Expr, dtype: DType) -> str | None:
        one = self._operand(left, dtype)
        two = self._operand(right, dtype if op not in ("<<", ">>") else promoted(dtype))
        first, second = self._ranges.operand(left, dtype), self._ranges.of(right)
        if one is None or two is None or second is None:
            return None
        text = _joined(op, (one, first), (two, second))
        values = combined(op, first, second)
        if text is None or values is None or dtype.is_signed:
            return text
        return _wrapped(text, values, dtype)


def _joined(op: str, left: tuple[str, Interval], right: tuple[str, Interval]) -> str | None:
    """``left op right``, each a text and its range; None where that is not quasi-affine."""
    (one, first), (two, second) = left, right
    if op in ("+", "-"):
        return f"({one} {op} {two})"
    if op == "*" and first[0] == first[1]:
        return f"({first[0]}*{two})"
    number = second[0]
    if number != second[1]:
        return None
    match op:
        case "*":
            return f"({number}*{one})"
        case "<<" if 0 <= number < 64:
            return f"({1 << number}*{one})"
        case ">>" if 0 <= number < 64:  # of negative numbers as gcc and clang do it
            return f"floor({one}/{1 << number})"
        case "&" if number >= 0 and number & (number + 1) == 0:
            return f"({one} mod {number + 1})"
        case "/" if number > 0:
            return _quotient(one, first, number)
        case "%" if number > 0 and first[0] >= 0:
            return f"({one} mod {number})"
        case "%" if number > 0:
            return f"({one} - {number}*{_quotient(one, first, number)})"
        case _:
            return None


def _quotient(text: str, values: Interval, divisor: int) -> str:
    """C's quotient: towards zero."""
    if values[0] >= 0:
        return f"floor({text}/{divisor})"
    return f"(floor(max({text}, 0)/{divisor}) - floor(max(-{text}, 0)/{divisor}))"


def _wrapped(text: str, values: Interval, dtype: DType) -> str:
    """A number converted to an integer type."""
    if within(values, dtype.range):
        return text
    low, count = dtype.range[0], 1 << dtype.bits
    return f"((({text} - {low}) mod {count}) + {low})"
