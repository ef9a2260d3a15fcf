"""The header of a loop, taken apart: first values, comparisons, what it does each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    BlockS,
    CastE,
    CStatement,
    DeclareS,
    Expression,
    ExpressionS,
    ForS,
    Name,
    Number,
    ScalarType,
    UnaryE,
    Variable,
)
from agent.loopnest.lowering.exits import at_continue, without_exits
from agent.loopnest.lowering.forms import extreme, form, integer_type
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    Environment,
    Known,
    refusal,
)
from agent.loopnest.program import Affine, DType

INT = ScalarType(DType.I32, "int")


_COMPARED = ("<", "<=", ">", ">=", "!=")


@dataclass(frozen=True)
class LoopHeader:
    """A loop's header, taken apart.

    Attributes:
        name, ident, dtype: of the variable that the condition bounds.
        starts: its first value, or several whose largest it is.
        step: what an iteration adds to it, never 0.
        tests: the comparisons that all have to hold.
        first: what the condition does before the body (``i-- > 0``).
        last: what the header does after the body.
    """

    name: str
    ident: int
    dtype: DType
    starts: tuple[Affine, ...]
    step: int
    tests: tuple[BinaryE, ...]
    first: tuple[UnaryE, ...]
    last: tuple[Expression, ...]


def without_continues(node: ForS) -> ForS:
    """The loop with what each ``continue`` leaves out in the other branch of its ``if``."""
    body = without_exits(direct(node.body), at_continue)
    return replace(node, body=BlockS(node.body.place, body))


def first_values(env: Environment, node: ForS) -> dict[int, tuple[Affine, ...]]:
    """Runs the first part of a header; what begins at the largest of several values."""
    several: dict[int, tuple[Affine, ...]] = {}
    match node.init:
        case DeclareS(variables=variables):
            for variable in variables:
                given = _several(env, variable.init)
                if given is None:
                    env.region.rules.declare(env, variable)
                else:
                    several[variable.ident] = given
                    env.scope[variable.ident] = Known(given[0], _counting(variable))
        case ExpressionS(expression=expression):
            for part in commas(expression):
                target = part.target if isinstance(part, AssignE) and not part.op else None
                given = _several(env, part.value) if isinstance(part, AssignE) else None
                if isinstance(target, Name) and given is not None:
                    several[target.ident] = given
                    env.scope[target.ident] = Known(given[0], _counting(target))
                else:
                    env.region.rules.effect(env, part)
    return several


def _several(env: Environment, node: Expression | None) -> tuple[Affine, ...] | None:
    """The values whose largest ``node`` is, where it is such a choice."""
    if node is None:
        return None
    halves = extreme(node, "max")
    if halves is None or len(halves) < 2:
        return None
    return tuple(form(env, half) for half in halves)


def _counting(variable: Variable | Name) -> DType:
    dtype = integer_type(variable.type)
    if dtype is None:
        raise refusal(
            variable.place,
            f"the iterator {variable.name!r} is no whole number",
            "Count with an int.",
        )
    return dtype


def commas(node: Expression) -> list[Expression]:
    """``a, b, c`` one by one."""
    if isinstance(node, BinaryE) and node.op == ",":
        return [*commas(node.left), *commas(node.right)]
    return [node]


def tests_of(node: Expression) -> tuple[tuple[BinaryE, ...], tuple[UnaryE, ...]]:
    """The comparisons of a condition, and what it changes before the body runs.

    ``i-- > 0`` compares ``i`` and counts down; ``i--`` alone compares with 0.
    """
    pending, tests, first = [node], list[BinaryE](), list[UnaryE]()
    while pending:
        part = pending.pop()
        if isinstance(part, BinaryE) and part.op == "&&":
            pending += [part.right, part.left]
            continue
        part, effects = without_steps(part)
        first += effects
        if isinstance(part, BinaryE) and part.op in _COMPARED:
            tests.append(part)
        else:
            zero = Number(part.place, INT, "0")
            if integer_type(part.type) is None or (
                isinstance(part, BinaryE) and part.op not in ("+", "-")
            ):
                raise refusal(
                    part.place,
                    f"the condition `{c_text(part)}` is not read",
                    "Compare the iterator with a bound by <, <=, >, >= or !=; && may join them.",
                )
            tests.append(BinaryE(part.place, INT, "!=", part, zero))
    if first and len(tests) > 1:
        raise refusal(
            node.place,
            f"the condition `{c_text(node)}` counts and tests something else",
            "Count in the last part of the header.",
        )
    return tuple(tests), tuple(first)


def without_steps(node: Expression, *, after: bool = False) -> tuple[Expression, list[UnaryE]]:
    """A comparison without the step in it, of variables before the step, or ``after`` it."""
    match node:
        case BinaryE(left=CastE(implicit=True, operand=UnaryE() as step) as cast):
            inner, steps = _without_step(step, after)
            return replace(node, left=replace(cast, operand=inner)), steps
        case BinaryE(left=UnaryE() as step):
            inner, steps = _without_step(step, after)
            return replace(node, left=inner), steps
        case UnaryE():
            return _without_step(node, after)
        case _:
            return node, []


def _without_step(node: UnaryE, after: bool) -> tuple[Expression, list[UnaryE]]:
    """``i--`` compares ``i``, ``--i`` what that is then: ``i - 1``."""
    match node.op:
        case "p++" | "p--":
            return node.operand, [node]
        case "++" | "--" if after:
            return node.operand, [node]
        case "++" | "--":
            kind = integer_type(node.type)
            wide = node.type if kind is None or kind.bits >= 32 else INT
            one = Number(node.place, INT, "1")
            return BinaryE(node.place, wide, node.op[0], node.operand, one), [node]
        case _:
            return node, []


def body_of(head: LoopHeader, node: ForS) -> list[CStatement]:
    """What an iteration does: a ``continue`` in it goes on with the header's last part."""
    return [
        *as_statements(head.first),
        node.body,
        *as_statements(head.last),
    ]


def as_statements(items: Sequence[Expression | CStatement]) -> list[CStatement]:
    """Expressions as statements; statements stay what they are."""
    return [x if isinstance(x, CStatement) else ExpressionS(x.place, x) for x in items]


def direct(body: CStatement) -> Sequence[CStatement]:
    """The statements of a body, in braces or not."""
    return body.items if isinstance(body, BlockS) else (body,)
