"""Quotients in the bounds of loops: ``i < (n + j) / 2`` is ``2 * i <= n + j - 2``."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.loopnest.frontend.ctree import BinaryE, CastE, Expression
from agent.loopnest.lowering.extents import exact_range
from agent.loopnest.lowering.forms import form, integer_type, not_affine
from agent.loopnest.lowering.state import Environment, NotAffineError
from agent.loopnest.program import Affine


@dataclass(frozen=True)
class Compared:
    """``form + sign * floor(dividend / divisor)``; ``sign`` is 0 where nothing is divided."""

    form: Affine
    sign: int = 0
    dividend: Affine = field(default_factory=Affine)
    divisor: int = 1


def side(env: Environment, node: Expression) -> Compared:
    """One side of a comparison.

    Raises:
        NotAffineError: it is no affine form with one quotient, or what is divided may be negative
            (C rounds towards 0).
    """
    try:
        return Compared(form(env, node))
    except NotAffineError:
        match node:
            case CastE(implicit=True, operand=operand) if _widens(node):
                return side(env, operand)
            case BinaryE(op="+" | "-" as op, left=left, right=right) if _is_signed(node):
                return _sum(node, side(env, left), side(env, right), 1 if op == "+" else -1)
            case BinaryE(op="/" | ">>"):
                return _quotient(env, node)
        raise


def slack(left: Compared, right: Compared) -> Affine | None:
    """What is at least 0 just where ``left <= right``; None where both divide."""
    apart = right.form - left.form
    if left.sign and right.sign:
        return None
    divided = left if left.sign else right
    d, sign = divided.divisor, right.sign - left.sign
    if sign > 0:
        return apart * d + divided.dividend
    return apart * d - divided.dividend + (d - 1) if sign else apart


def _sum(node: Expression, left: Compared, right: Compared, sign: int) -> Compared:
    if left.sign and right.sign:
        raise not_affine(node, "it divides twice")
    divided = left if left.sign else right
    return Compared(
        left.form + right.form * sign,
        left.sign + sign * right.sign,
        divided.dividend,
        divided.divisor,
    )


def _quotient(env: Environment, node: BinaryE) -> Compared:
    dividend, by = form(env, node.left), form(env, node.right)
    if not by.is_constant or not 0 < by.const < (31 if node.op == ">>" else 1 << 31):
        raise not_affine(node, "only a positive number may divide here")
    if not env.unchecked and exact_range(env, node.place, dividend)[0] < 0:
        raise not_affine(node, "what is divided may be negative, and C rounds towards 0")
    return Compared(Affine(), 1, dividend, by.const if node.op == "/" else 1 << by.const)


def _widens(node: CastE) -> bool:
    to, before = integer_type(node.type), integer_type(node.operand.type)
    if to is None or before is None:
        return False
    return to.range[0] <= before.range[0] and before.range[1] <= to.range[1]


def _is_signed(node: Expression) -> bool:
    dtype = integer_type(node.type)
    return dtype is not None and dtype.is_signed
