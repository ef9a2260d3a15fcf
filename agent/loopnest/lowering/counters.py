"""Variables that only go up: ``out[k++] = x`` under a condition on data.

What ``k`` is at a place is data, but it lies between its first value and that plus all that the
loops can ever add to it. How often they run is known once the region has been lowered: then it is
lowered again with that range.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agent.loopnest.arithmetic import whole, within
from agent.loopnest.lowering.state import Range, box
from agent.loopnest.program import (
    Binary,
    DType,
    Expr,
    Literal,
    Loop,
    Node,
    Read,
    Statement,
    Unary,
    statements,
)


def counted(body: Sequence[Node], names: Collection[str], dtype: DType) -> Range:
    """What the temporaries ``names`` lie within throughout ``body``.

    That is all of ``dtype`` unless they are given numbers, have numbers added, and nothing else.
    """
    first, down, up = list[int](), 0, 0
    for around, statement in statements(tuple(body)):
        if statement.target.array not in names:
            continue
        start, step = _number(statement.value), _step(statement)
        if start is not None and not statement.op:
            first.append(start)
        elif step is not None:
            many = _times(around)
            down, up = down + min(step, 0) * many, up + max(step, 0) * many
        else:
            return dtype.range
    found = min(first, default=0) + down, max(first, default=0) + up
    return found if first and within(found, dtype.range) else dtype.range


def _number(value: Expr) -> int | None:
    match value:
        case Literal() if not value.dtype.is_float:
            return whole(value)
        case Unary("-", Literal() as inner) if not inner.dtype.is_float:
            return -whole(inner)
    return None


def _step(statement: Statement) -> int | None:
    """What a statement adds to its target."""
    op, given = statement.op, statement.value
    match given:
        case Binary("+" | "-" as found, left, right) if not op and left == Read(statement.target):
            op, given = found, right
    number = _number(given)
    return None if number is None or op not in ("+", "-") else number if op == "+" else -number


def _times(around: Sequence[Loop]) -> int:
    """How often the loops around a statement run it, at most."""
    ranges = box(around)
    if ranges is None:
        return 0
    many = 1
    for loop in around:
        low, high = ranges[loop.iterator]
        many *= (high - low) // loop.step + 1
    return many
