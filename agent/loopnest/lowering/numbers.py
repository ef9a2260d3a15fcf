"""Subscripts: affine forms, and numbers derived from data or by divisions where they are none."""

from __future__ import annotations

from agent.loopnest.arithmetic import Interval, Ranges, converted, within
from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    CastE,
    Expression,
    Name,
    UnaryE,
    walk,
)
from agent.loopnest.lowering.forms import form, integer_of, integer_type
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import STEPS, Environment, Known, NotAffineError, refusal
from agent.loopnest.program import Affine, Derived, Expr


def subscript(env: Environment, node: Expression) -> Affine:
    """``node`` as a form of the iterators and of numbers that the statement derives.

    Raises:
        SourceError: it is no whole number, or something in it is not read.
    """
    if (stepped := _stepped(env, node)) is not None:
        return stepped
    try:
        return form(env, node)
    except NotAffineError:
        pass
    match node:
        case CastE(operand=operand) if _keeps(env, node):
            return subscript(env, operand)
        case BinaryE(op="+" | "-" as op, left=left, right=right) if _exact(env, node):
            sign = 1 if op == "+" else -1
            return subscript(env, left) + subscript(env, right) * sign
        case BinaryE(op="*", left=left, right=right) if _exact(env, node):
            for one, two in ((left, right), (right, left)):
                factor = _number(env, two)
                if factor is not None:
                    return subscript(env, one) * factor
    return Affine.var(_derived(env, node).name)


def _stepped(env: Environment, node: Expression) -> Affine | None:
    """``k++`` of a symbolic variable, which happens here."""
    inner = node.operand if isinstance(node, CastE) and node.implicit else node
    match inner:
        case UnaryE(op=op, operand=Name(ident=ident)) if op in STEPS:
            before = env.scope.get(ident)
            if isinstance(before, Known):
                env.region.rules.effect(env, inner)
                after = env.scope[ident]
                return after.form if op[0] != "p" and isinstance(after, Known) else before.form
    if any(isinstance(x, AssignE) or (isinstance(x, UnaryE) and x.op in STEPS) for x in walk(node)):
        raise refusal(
            node.place,
            f"`{c_text(node)}` assigns inside of a subscript",
            "Assign in a statement of its own before.",
        )
    return None


def _number(env: Environment, node: Expression) -> int | None:
    try:
        value = form(env, node)
    except NotAffineError:
        return None
    return value.const if value.is_constant else None


def _keeps(env: Environment, node: CastE) -> bool:
    """Whether a conversion changes none of the values."""
    dtype = integer_type(node.type)
    if dtype is None or integer_type(node.operand.type) is None:
        return False
    return within(value_range(env, node.operand), dtype.range)


def _exact(env: Environment, node: BinaryE) -> bool:
    """Whether arithmetic on the operands' values cannot leave its type (signed: must not)."""
    from agent.loopnest.arithmetic import combined

    dtype = integer_type(node.type)
    if dtype is None or dtype.is_signed:
        return dtype is not None
    found = combined(node.op, value_range(env, node.left), value_range(env, node.right))
    return found is not None and within(found, dtype.range)


def _derived(env: Environment, node: Expression) -> Derived:
    """The number that the statement derives for ``node``, one for each value."""
    integer_of(node)
    value = env.region.rules.value(env, node)
    low, high = _range(env, node, value)
    for known in env.derived:
        if (known.value, known.low, known.high) == (value, low, high):
            return known
    env.region.numbers += 1
    name = env.region.names.fresh(f"q{env.region.numbers}")
    found = Derived(name, value, low, high)
    env.derived.append(found)
    return found


def value_range(env: Environment, node: Expression) -> Interval:
    """What an integer expression surely lies within."""
    integer_of(node)
    return _range(env, node, env.region.rules.value(env, node))


def _range(env: Environment, node: Expression, value: Expr) -> Interval:
    dtype = integer_of(node)
    ranges = Ranges(env.region.dtype_of, env.ranges() or {})
    for condition in (*env.conditions, *env.facts):
        ranges = ranges.assuming(condition)
    found = ranges.of(value)
    return dtype.range if found is None else converted(found, dtype)
