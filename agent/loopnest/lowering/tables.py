"""Arrays as they are declared: their extents, and the values of constant ones."""

from __future__ import annotations

from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    ArrayType,
    CastE,
    Expression,
    ListE,
    Number,
    RecordType,
    ScalarType,
    UnaryE,
    Variable,
)
from agent.loopnest.lowering.state import (
    MAX_TABLE,
    Environment,
    Object,
    refusal,
)
from agent.loopnest.lowering.values import (
    constant,
)


def array_object(env: Environment, variable: Variable) -> Object:
    """An array that is declared with its extents; a constant one with its values.

    Raises:
        SourceError: an extent is no number here, or the table is too long.
    """
    shape: list[int] = []
    kind = variable.type
    while isinstance(kind, ArrayType):
        shape.append(_extent(env, variable, kind.length))
        kind = kind.element
    extents: tuple[int | None, ...] = tuple(shape)
    rows = tuple(shape[1:])
    if variable.ident in env.region.decisions.flat:
        total = 1
        for extent in shape:
            total *= extent
        extents = (total,)
    const = isinstance(kind, ScalarType | RecordType) and kind.const
    found = Object(variable.ident, variable.name, kind, extents, const, rows)
    if const and isinstance(kind, ScalarType) and variable.init is not None:
        values = flattened(variable.init, tuple(shape))
        texts = [_table_text(x) for x in values] if values is not None else [None]
        if kind.is_bool:
            texts = [str(int(int(t) != 0)) if t and t.isdecimal() else None for t in texts]
        if None not in texts:
            return replace(found, values=tuple(t for t in texts if t is not None))
    return found


def _extent(env: Environment, variable: Variable, length: int | Expression | None) -> int:
    if length is None and isinstance(variable.init, ListE):
        return len(variable.init.items)
    extent = length if length is None or isinstance(length, int) else constant(env, length)
    if extent is None or not 1 <= extent < 1 << 31:
        raise refusal(
            variable.place,
            f"how many elements {variable.name!r} has is not known here",
            "Give its length as a number, or the sizes of which it is made with --size.",
        )
    return extent


def flattened(init: Expression, shape: tuple[int | None, ...]) -> list[Expression | None] | None:
    """The elements of an initialiser in row-major order; None: those that C makes 0."""
    if not shape:
        return [init]
    if not isinstance(init, ListE):
        return None
    total = 1
    for extent in shape:
        total *= extent or 1
    if total > MAX_TABLE:
        return None
    if any(isinstance(x, ListE) for x in init.items):
        rows: list[Expression | None] = []
        for item in init.items:
            row = flattened(item, shape[1:])
            if row is None:
                return None
            rows += row
        return rows + [None] * (total - len(rows))
    return [*init.items, *[None] * (total - len(init.items))]


def _table_text(item: Expression | None) -> str | None:
    """One element of a constant table as C spells it."""
    if item is None:
        return "0"
    inner = item
    while isinstance(inner, CastE) and inner.implicit:
        inner = inner.operand
    if isinstance(inner, UnaryE) and inner.op == "-" and isinstance(inner.operand, Number):
        return f"-{inner.operand.text}"
    return inner.text if isinstance(inner, Number) else None
