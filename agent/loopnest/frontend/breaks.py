"""``break`` under a condition on numbers alone, which is part of the loop's own condition.

    for (i = 0; a; i++) { if (b) break; x; }    ->    for (i = 0; a && !b; i++) { x; }
    for (;;) { x; if (b) break; }               ->    do { x; } while (!b);

What is read from memory stays where it is: then how often the loop runs is not known beforehand.
"""

from __future__ import annotations

from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    BinaryE,
    BlockS,
    CastE,
    CStatement,
    DoS,
    Expression,
    ForS,
    IfS,
    MemberE,
    Name,
    Number,
    OtherS,
    ScalarType,
    UnaryE,
    parts,
    walk,
)
from agent.loopnest.program import DType

_INT = ScalarType(DType.I32, "int")
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def without_break(loop: ForS) -> ForS | DoS:
    """``loop`` with its first breaks, or its last one, in the condition."""
    condition, items = loop.condition, _items(loop.body)
    if isinstance(condition, Number) and condition.text != "0":
        condition = None  # while (1)
    kept = list[Expression]()
    while items and (goes_on := _goes_on(items[0])) is not None:
        kept, items = [*kept, goes_on], items[1:]
    if kept:
        for test in kept:
            condition = test if condition is None else _and(condition, test)
        return replace(loop, condition=condition, body=BlockS(loop.body.place, items))
    bare = condition is None and loop.init is None and loop.step is None
    if bare and items and (goes_on := _goes_on(items[-1])) is not None:
        body = BlockS(loop.body.place, items[:-1])
        if not any(map(_leaves, items[:-1])):
            return DoS(loop.place, body, goes_on)
    return loop


def _items(body: CStatement) -> tuple[CStatement, ...]:
    return body.items if isinstance(body, BlockS) else (body,)


def _and(left: Expression, right: Expression) -> BinaryE:
    return BinaryE(left.place, _INT, "&&", left, right)


def _goes_on(item: CStatement) -> Expression | None:
    """What holds where ``if (...) break;`` does not break."""
    if not isinstance(item, IfS) or item.no is not None:
        return None
    held = _items(item.yes)
    if len(held) != 1 or not isinstance(held[0], OtherS) or held[0].what != "break":
        return None
    return _negated(item.condition)


def _negated(test: Expression) -> Expression | None:
    """Comparisons of numbers that hold where ``test`` does not."""
    match test:
        case BinaryE(op="||", left=left, right=right):
            one, two = _negated(left), _negated(right)
            return None if one is None or two is None else _and(one, two)
        case BinaryE(op=op) if op in _NEGATED and _is_plain(test):
            return replace(test, op=_NEGATED[op])
        case UnaryE(op="!", operand=BinaryE() as inner) if _is_comparison(inner):
            return inner
    return None


def _is_comparison(test: Expression) -> bool:
    if isinstance(test, BinaryE) and test.op == "&&":
        return _is_comparison(test.left) and _is_comparison(test.right)
    return isinstance(test, BinaryE) and test.op in _NEGATED and _is_plain(test)


def _is_plain(test: Expression) -> bool:
    """Whether whole numbers, variables and members are all that it is made of."""
    return all(
        isinstance(x, Name | Number | MemberE | BinaryE | CastE)
        or (isinstance(x, UnaryE) and x.op not in ("*", "&", "!"))
        for x in walk(test)
    ) and all(_is_whole(x) for x in walk(test) if isinstance(x, Name | MemberE | Number))


def _is_whole(node: Expression) -> bool:
    kind = node.type
    return isinstance(kind, ScalarType) and kind.dtype is not None and not kind.dtype.is_float


def _leaves(item: CStatement) -> bool:
    """Whether a ``continue`` or ``break`` of the loop stands in ``item``."""
    if isinstance(item, OtherS):
        return item.what in ("continue", "break", "switch", "goto")
    if isinstance(item, ForS | DoS):
        return False
    return any(_leaves(part) for part in parts(item) if isinstance(part, CStatement))
