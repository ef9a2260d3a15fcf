"""Quotients that are added up in SIMD lanes, of numbers that are known: products where FMAs are.

    s[j] += a[j] / 9.0    ->    s[j] += divided_double(a[j], 9.0, 1.0 / 9.0)

A divider takes as long for a vector of quotients as multipliers for 16 of products or more: where
sums are of quotients, nothing else counts. The product with the inverse is corrected by what it
leaves over, which gives the quotient as a division rounds it (Brisebarre, Muller and Raina,
Accelerating correctly rounded floating-point division when the divisor is known in advance, IEEE
Transactions on Computers 53, 2004). Not so next to the smallest normal numbers, where the last bit
may differ, and -0 may become 0, which no sum tells from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from agent.loopnest.arithmetic import type_of, whole
from agent.loopnest.program import (
    AffineValue,
    Binary,
    Cast,
    DType,
    Expr,
    Literal,
)

_FARTHEST = 64  # the binary exponent of a divisor whose inverse surely is a normal number
_SUFFIX = {DType.F32: "f", DType.F64: ""}


def _helper(dtype: DType) -> str:
    t, suffix = dtype.value, _SUFFIX[dtype]
    return f"""{t} {name(dtype)}({t} number, {t} by, {t} inverse)
{{
#if defined(__FMA__) || defined(__aarch64__)
    const {t} near = number * inverse;
    const {t} over = __builtin_fma{suffix}(near, by, -number);
    const {t} quotient = __builtin_fma{suffix}(-over, inverse, near);
    return quotient == quotient ? quotient : near;
#else
    (void)inverse;
    return number / by;
#endif
}}"""


def name(dtype: DType) -> str:
    """The helper that divides."""
    return f"divided_{dtype.value}"


HELPERS = {name(dtype): _helper(dtype) for dtype in _SUFFIX}


def divided(expr: Expr, dtype_of: Callable[[str], DType]) -> DType | None:
    """The type in which an operation is a division by a number whose inverse does; else None."""
    if not isinstance(expr, Binary) or expr.op != "/":
        return None
    dtype, by = type_of(expr, dtype_of), _number(expr.right)
    if dtype not in _SUFFIX or by is None or by <= 0:
        return None
    exact = isinstance(by, float) or by < 1 << (24 if dtype is DType.F32 else 53)
    fraction, exponent = math.frexp(by)  # compilers invert powers of two themselves
    return dtype if exact and fraction != 0.5 and abs(exponent) < _FARTHEST else None


def _number(expr: Expr) -> int | float | None:
    """The value of an expression of numbers as written."""
    match expr:
        case Literal(text) if expr.dtype.is_float:
            return None if "x" in text.lower() else float(text.lower().rstrip("fl"))
        case Literal():
            return whole(expr)
        case AffineValue(value):
            return value.const if value.is_constant else None
        case Cast(DType.F32 | DType.F64, operand):
            number = _number(operand)
            return number if isinstance(number, int) else None
        case Binary("+" | "-" | "*" as op, left, right):
            one, two = _number(left), _number(right)
            if not isinstance(one, int) or not isinstance(two, int):
                return None
            return one + two if op == "+" else one - two if op == "-" else one * two
        case _:
            return None


def call(dtype: DType, number: str, by: str) -> str:
    """The call that divides; ``number`` and ``by`` as C, the latter as an operand."""
    return f"{name(dtype)}({number}, {by}, 1.0{_SUFFIX[dtype]} / {by})"
