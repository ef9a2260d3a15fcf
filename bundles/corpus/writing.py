"""Loop nests written in a few words: subscripts, expressions, statements and loops.

``a[i - 1][2*j] += b[j]`` is ``assign(at("a", Affine.var("i") - 1, ...), get("b", "j"), "+")``.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.loopnest.program import (
    Access,
    Affine,
    Binary,
    Bound,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Loop,
    Node,
    Read,
    Select,
    Statement,
    Unary,
)

Subscript = Affine | str | int


def as_affine(value: Subscript) -> Affine:
    """An iterator's name, a number or an affine value as an affine value."""
    if isinstance(value, str):
        return Affine.var(value)
    return Affine.constant(value) if isinstance(value, int) else value


def at(array: str, *subscripts: Subscript) -> Access:
    """``array[s0][s1]...``."""
    return Access(array, tuple(as_affine(s) for s in subscripts))


def get(array: str, *subscripts: Subscript) -> Read:
    """The value of ``array[s0][s1]...``."""
    return Read(at(array, *subscripts))


def assign(target: Access, value: Expr, op: str = "") -> Statement:
    """``target = value``, or the reduction ``target op= value``; named when finished."""
    return Statement("", target, op, value, ())


def loop(iterator: str, upper: Subscript, *body: Node, lower: Subscript = 0) -> Loop:
    """``for (iterator = lower; iterator < upper; iterator++) body``."""
    top = Bound(as_affine(upper) + -1)
    return Loop(iterator, (Bound(as_affine(lower)),), (top,), 1, body)


def nest(iterators: Sequence[tuple[str, int]], *body: Node) -> Loop:
    """Rectangular loops around ``body``, outermost first: ``((iterator, trip count), ...)``."""
    if not iterators:
        raise ValueError("a nest needs at least one loop")
    (name, trip), rest = iterators[0], iterators[1:]
    return loop(name, trip, nest(rest, *body)) if rest else loop(name, trip, *body)


def half(
    inner: str, outer: str, size: int, *body: Node, below: bool = True, strict: bool = False
) -> Loop:
    """A loop over one triangle: ``inner <= outer`` or ``inner >= outer``; strict: without ``=``."""
    if below:
        return loop(inner, Affine.var(outer) + (0 if strict else 1), *body)
    return loop(inner, size, *body, lower=Affine.var(outer) + (1 if strict else 0))


def binary(op: str, *operands: Expr) -> Expr:
    """``a op b op c``, left to right."""
    out = operands[0]
    for operand in operands[1:]:
        out = Binary(op, out, operand)
    return out


def literal(dtype: DType, value: float) -> Literal:
    """A literal of the element type (integers stay small and positive)."""
    if dtype is DType.F32:
        return Literal(f"{float(value)!r}f")
    return Literal(repr(float(value)) if dtype is DType.F64 else str(max(1, round(value))))


def call(name: str, dtype: DType, *arguments: Expr) -> Call:
    """The float or double form of a function of the C library."""
    return Call(name + ("f" if dtype is DType.F32 else ""), arguments)


def smaller(dtype: DType, a: Expr, b: Expr) -> Expr:
    """``min(a, b)`` in the spelling of the element type."""
    return call("fmin", dtype, a, b) if dtype.is_float else Select(Binary("<", a, b), a, b)


def larger(dtype: DType, a: Expr, b: Expr) -> Expr:
    """``max(a, b)`` in the spelling of the element type."""
    return call("fmax", dtype, a, b) if dtype.is_float else Select(Binary(">", a, b), a, b)


def absolute(dtype: DType, a: Expr) -> Expr:
    """``|a|`` in the spelling of the element type."""
    return call("fabs", dtype, a) if dtype.is_float else Call("abs", (a,))


def negative(a: Expr) -> Expr:
    """``-a``."""
    return Unary("-", a)


def stored_as(dtype: DType, value: Expr) -> Expr:
    """``value`` as people write it for a target of that type (bytes are cast)."""
    return Cast(dtype, value) if dtype is DType.U8 else value
