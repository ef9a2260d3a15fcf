"""Subscripts: affine forms, and numbers derived from data or by divisions where they are none."""

from __future__ import annotations

from dataclasses import replace

from agent.loopnest.arithmetic import Interval, Ranges, converted, within
from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    CastE,
    Expression,
    Name,
    ScalarType,
    UnaryE,
    walk,
)
from agent.loopnest.lowering.forms import form, integer_of, integer_type
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    STEPS,
    Data,
    Environment,
    Known,
    NotAffineError,
    RestartError,
    Unknown,
    refusal,
)
from agent.loopnest.program import Affine, Derived, DType, Expr


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
    """``k++``, which happens here, before the statement whose subscript it is."""
    inner = node.operand if isinstance(node, CastE) and node.implicit else node
    match inner:
        case UnaryE(op=op, operand=Name(ident=ident) as name) if op in STEPS:
            match env.scope.get(ident):
                case Known() as before:
                    env.region.rules.effect(env, inner)
                    after = env.scope[ident]
                    return after.form if op[0] != "p" and isinstance(after, Known) else before.form
                case Data(dtype=dtype) if dtype.bits >= 32 and not dtype.is_float:
                    env.region.rules.effect(env, inner)
                    return _stepped_data(env, name, op)
                case Unknown(symbolic=True):
                    raise RestartError(data=ident)
    if any(isinstance(x, AssignE) or (isinstance(x, UnaryE) and x.op in STEPS) for x in walk(node)):
        raise refusal(
            node.place,
            f"`{c_text(node)}` assigns inside of a subscript",
            "Assign in a statement of its own before.",
        )
    return None


def _stepped_data(env: Environment, name: Name, op: str) -> Affine:
    """What a variable in memory is behind its step, or (``p``) was before it."""
    found, step = _derived(env, name), 1 if "+" in op else -1
    ends = found.low + max(step, 0), found.high + min(step, 0)  # it has taken the step
    env.derived[env.derived.index(found)] = replace(found, low=ends[0], high=ends[1])
    return Affine.var(found.name) - (step if op[0] == "p" else 0)


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
    _whole(node)
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


def _whole(node: Expression) -> DType:
    """The type of a whole number or a truth value; raises NotAffineError where it is neither."""
    kind = node.type
    if isinstance(kind, ScalarType) and kind.is_bool and kind.dtype is not None:
        return kind.dtype
    return integer_of(node)


def value_range(env: Environment, node: Expression) -> Interval:
    """What an integer expression surely lies within."""
    _whole(node)
    return _range(env, node, env.region.rules.value(env, node))


def _range(env: Environment, node: Expression, value: Expr) -> Interval:
    dtype = _whole(node)
    ranges = Ranges(env.region.dtype_of, env.ranges() or {}, env.region.counted)
    for condition in (*env.conditions, *env.facts):
        ranges = ranges.assuming(condition)
    found = ranges.of(value)
    return dtype.range if found is None else converted(found, dtype)
