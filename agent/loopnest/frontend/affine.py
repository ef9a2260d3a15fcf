"""C expressions that must be affine functions of the iterators: subscripts, bounds, shapes."""

from __future__ import annotations

import re

from pycparser import c_ast, c_generator

from agent.errors import SourceError
from agent.loopnest.frontend.source import (
    MAX_INT,
    MAX_OPERATORS_DEEP,
    Environment,
    Iterator,
    KnownSize,
    Parameter,
    Refused,
)
from agent.loopnest.program import Affine

INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([uU]?[lL]{0,2}|[lL]{1,2}[uU])")
MAX_LITERAL = 60  # characters


def affine_form(env: Environment, node: c_ast.Node, what: str, depth: int = 0) -> Affine:
    """``node`` as an affine function of the iterators, sizes replaced by their values.

    Raises:
        SourceError: it is not affine, uses data, or a size is missing; ``what`` says where.
    """
    if depth > MAX_OPERATORS_DEEP:
        raise env.error(node, f"{what} is nested too deeply")
    match node:
        case c_ast.Constant():
            value = Affine.constant(whole(env, node, what))
        case c_ast.ID():
            value = _affine_name(env, node, what)
        case c_ast.UnaryOp(op="+" | "-"):
            inner = affine_form(env, node.expr, what, depth + 1)
            value = -inner if node.op == "-" else inner
        case c_ast.BinaryOp():
            left = affine_form(env, node.left, what, depth + 1)
            right = affine_form(env, node.right, what, depth + 1)
            value = _affine_operation(env, node, left, right, what)
        case _:
            raise _not_affine(env, node, what)
    if any(abs(n) > MAX_INT for n in (value.const, *(c for _, c in value.terms))):
        raise env.error(node, f"{what} does not fit into an int")
    return value


def _not_affine(env: Environment, node: c_ast.Node, what: str) -> SourceError:
    kinds = {
        c_ast.ArrayRef: "it reads an array (indirect)",
        c_ast.FuncCall: "it calls a function",
        c_ast.Cast: "it has a cast",
        c_ast.TernaryOp: "it depends on a condition",
        c_ast.Assignment: "it assigns",
    }
    why = kinds.get(type(node), "only + - * of iterators, sizes and whole numbers are")
    return env.error(node, f"{what} `{c_excerpt(node)}` is not affine: {why}")


def whole(env: Environment, node: c_ast.Constant, what: str) -> int:
    """The value of a whole number.

    Raises:
        SourceError: it is none, or has too many digits.
    """
    text = node.value
    match = INTEGER.fullmatch(text) if len(text) <= MAX_LITERAL else None
    if not match:
        raise env.error(node, f"{what} must be made of whole numbers, not {text[:20]!r}")
    digits = match[1]
    return int(digits, 8 if digits.isdigit() and digits[0] == "0" else 0)


def _affine_name(env: Environment, node: c_ast.ID, what: str) -> Affine:
    entity = env.scope.get(node.name)
    match entity:
        case KnownSize(value):
            return Affine.constant(value)
        case Iterator(value=value):
            return value
        case Parameter(type=kind) if kind.integer:
            raise missing_size(env, node, node.name)
        case None | Refused():
            raise undeclared(env, node)
        case _:
            raise env.error(
                node,
                f"{what} depends on the data in {node.name!r}, so it is not affine",
                hint="Only iterators, sizes and whole numbers may stand here.",
            )


def missing_size(env: Environment, node: c_ast.Node, name: str) -> SourceError:
    """The error for a size parameter without a value."""
    needed = dict.fromkeys((name, *env.region.missing))
    return env.error(
        node,
        f"the size {name!r} has no value",
        hint="Add " + " ".join(f"--size {n}=NUMBER" for n in needed) + ".",
    )


def undeclared(env: Environment, node: c_ast.ID) -> SourceError:
    """The error for a name that stands for nothing usable."""
    entity = env.scope.get(node.name)
    if isinstance(entity, Refused):
        return env.error(node, f"{node.name!r} cannot be used in the region: {entity.why}")
    return env.error(
        node,
        f"{node.name!r} is not declared",
        hint="Everything the region uses is a parameter of the function, an iterator or declared "
        "in the region. If it is a macro from a header, add --cflags.",
    )


def _affine_operation(
    env: Environment, node: c_ast.BinaryOp, left: Affine, right: Affine, what: str
) -> Affine:
    if node.op == "+":
        return left + right
    if node.op == "-":
        return left - right
    if node.op == "*" and (left.is_constant or right.is_constant):
        return left * right.const if right.is_constant else right * left.const
    if left.is_constant and right.is_constant and node.op in ("/", "%", "<<", ">>"):
        return Affine.constant(_fold(env, node, left.const, right.const, what))
    why = "a product of iterators" if node.op == "*" else f"{node.op!r} of an iterator"
    raise env.error(node, f"{what} `{c_excerpt(node)}` is not affine: {why}")


def _fold(env: Environment, node: c_ast.BinaryOp, left: int, right: int, what: str) -> int:
    if node.op in ("<<", ">>"):
        if left < 0 or not 0 <= right < 31:
            raise env.error(node, f"{what} shifts by {right}")
        return left << right if node.op == "<<" else left >> right
    if right == 0:
        raise env.error(node, f"{what} divides by zero")
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if node.op == "/" else left - quotient * right


def constant(env: Environment, node: c_ast.Node, what: str) -> int:
    """``node`` as a number.

    Raises:
        SourceError: it depends on an iterator, or is not affine.
    """
    value = affine_form(env, node, what)
    if not value.is_constant:
        raise env.error(node, f"{what} `{c_excerpt(node)}` must not depend on an iterator")
    return value.const


_GENERATOR = c_generator.CGenerator()


def c_excerpt(node: c_ast.Node) -> str:
    """``node`` as C, short enough for a message."""
    try:
        text = " ".join(_GENERATOR.visit(node).split())
    except RecursionError:
        return "..."
    return text if len(text) <= 60 else text[:57] + "..."
