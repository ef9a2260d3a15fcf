"""C expressions as affine forms of the iterators, with the meaning that C's types give them.

A form is a mathematical integer. An operation is followed only where it is the same in C: signed
arithmetic does not overflow (C leaves it undefined), unsigned arithmetic and conversions are shown
to stay within their type for every instance.
"""

from __future__ import annotations

import re

from agent.loopnest.frontend.ctree import (
    BinaryE,
    CallE,
    CastE,
    ConditionalE,
    CType,
    Expression,
    IndexE,
    MemberE,
    Name,
    Number,
    ScalarType,
    UnaryE,
)
from agent.loopnest.lowering.members import member_size, member_text
from agent.loopnest.lowering.printing import c_text, full_text
from agent.loopnest.lowering.state import (
    Argument,
    Environment,
    Known,
    NotAffineError,
    RestartError,
    Unknown,
)
from agent.loopnest.program import Affine, DType, Literal

MAX_COEFFICIENT = 1 << 62
FOLLOWED = (
    "Use a sum of iterators, sizes and whole numbers, each times a whole number; what is computed "
    "otherwise has to be passed to the function as a size."
)
BRANCHES = "Write the loop twice, in the branches of an if."
COMPARISONS = frozenset("< <= > >= == !=".split())


def integer_type(kind: CType) -> DType | None:
    """The integer type that ``kind`` is; None where it is none that the IR has.

    ``_Bool`` is none: it neither counts nor wraps around. Its truth values are data.
    """
    if not isinstance(kind, ScalarType) or kind.dtype is None or kind.is_bool:
        return None
    return None if kind.dtype.is_float else kind.dtype


def integer_of(node: Expression) -> DType:
    """The integer type of ``node``.

    Raises:
        NotAffineError: it has none.
    """
    dtype = integer_type(node.type)
    if dtype is None:
        raise not_affine(node, "it is no whole number")
    return dtype


def form(env: Environment, node: Expression) -> Affine:
    """``node`` as an affine form of the iterators.

    Raises:
        NotAffineError: it is none, or its types may wrap around.
        SourceError: it uses a name that cannot be used.
        RestartError: it uses a variable that has to be data.
    """
    match node:
        case Number():
            value = _number(node)
        case Name():
            value = _name(env, node)
        case CastE():
            return _converted(env, node, form(env, node.operand))
        case UnaryE(op="+"):
            return form(env, node.operand)
        case UnaryE(op="-"):
            value = _fitting(env, node, -form(env, node.operand))
        case BinaryE(op="+" | "-" | "*" | "/" | "%" | "<<" | ">>" | "&" | "|" | "^"):
            value = _operation(env, node, form(env, node.left), form(env, node.right))
        case BinaryE(op=op) if op in COMPARISONS:
            value = Affine.constant(_compared(env, node))
        case BinaryE(op="&&" | "||"):
            value = Affine.constant(_decided(env, node))
        case UnaryE(op="!"):
            inner = form(env, node.operand)
            if not inner.is_constant:
                raise not_affine(node, "it depends on a condition")
            value = Affine.constant(int(inner.const == 0))
        case ConditionalE():
            chosen = form(env, node.condition)
            if not chosen.is_constant:
                raise not_affine(node, "it depends on a condition", BRANCHES)
            value = form(env, node.yes if chosen.const else node.no)
        case CallE():
            return env.region.rules.call_form(env, node)
        case MemberE() if (size := member_size(env, node)) is not None:
            return size.form
        case MemberE() if (text := _size_text(env, node)) is not None:
            raise not_affine(
                node, f"the size {text!r} has no value", f"Add --size '{text}=NUMBER'."
            )
        case IndexE() | MemberE() | UnaryE(op="*"):
            raise not_affine(node, "it is read from memory, and is known only when the loops run")
        case _:
            raise not_affine(node, "it is more than sums, products and quotients of numbers")
    if any(abs(n) > MAX_COEFFICIENT for n in (value.const, *(c for _, c in value.terms))):
        raise not_affine(node, "its numbers are too large", "Use numbers below 2^62.")
    return value


def _size_text(env: Environment, node: MemberE) -> str | None:
    """The name of the size that a member is: of a parameter, or of a global structure."""
    text = member_text(env, node) if integer_type(node.type) is not None else None
    root = re.match(r"\w*", text or "")[0]  # type: ignore[index]  # matches always
    known = env.region.parameters | {v.name for v in env.region.unit.variables.values()}
    return text if root in known else None


def not_affine(node: Expression, why: str, hint: str = FOLLOWED) -> NotAffineError:
    """That ``node`` is no affine form."""
    return NotAffineError(f"{node.place}: `{c_text(node)}` cannot be followed: {why}", hint=hint)


def _number(node: Number) -> Affine:
    if integer_type(node.type) is None:
        raise not_affine(node, "it is no whole number")
    return Affine.constant(whole(node.text))


def whole(text: str) -> int:
    """The value of a whole number as C spells it, with a sign or none."""
    digits = text.lower().rstrip("ul")
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits)
    return sign * int(digits, 8 if digits.isdigit() and digits[0] == "0" else 0)


def spelled(value: int, dtype: DType) -> Literal:
    """A number of a type as C spells it; of one shorter than int as the int it becomes."""
    suffix = {DType.U32: "u", DType.I64: "L", DType.U64: "uL"}.get(dtype, "")
    return Literal(f"{value}{suffix}")


def _name(env: Environment, node: Name) -> Affine:
    match env.scope.get(node.ident):
        case Known(value):
            return value
        case Argument(name) if name in env.region.sizes or node.ident in env.region.unit.variables:
            raise not_affine(node, f"the size {name!r} has no value", f"Add --size {name}=NUMBER.")
        case Argument(name):
            raise not_affine(
                node,
                f"what {name!r} is before the loops is not known",
                "Give it a value that follows from sizes, or pass it to the function as a size.",
            )
        case Unknown(symbolic=True):
            raise RestartError(data=node.ident)
        case Unknown(why):
            raise not_affine(node, why)
        case None:
            raise not_affine(node, f"nothing tells what {node.name!r} is")
        case _:
            raise not_affine(node, f"{node.name!r} is computed while the loops run")


def _operation(env: Environment, node: BinaryE, left: Affine, right: Affine) -> Affine:
    if left.is_constant and right.is_constant:
        return _folded(node, left.const, right.const)
    match node.op:
        case "+":
            return _fitting(env, node, left + right)
        case "-":
            return _fitting(env, node, left - right)
        case "*" if left.is_constant or right.is_constant:
            product = left * right.const if right.is_constant else right * left.const
            return _fitting(env, node, product)
        case "<<" if right.is_constant and 0 <= right.const < 31:
            return _fitting(env, node, left * (1 << right.const))
        case "*":
            raise not_affine(
                node,
                "both factors change while the loops run",
                "One factor must be a size or a whole number: give it a value with --size.",
            )
        case _:
            return _divided(node, left, right)


def _divided(node: BinaryE, left: Affine, right: Affine) -> Affine:
    """A quotient that is no affine form, unless it is a whole number throughout."""
    if node.op == "/" and right.is_constant and right.const > 0:
        factors = (left.const, *(c for _, c in left.terms))
        if all(c % right.const == 0 for c in factors):
            terms = {n: c // right.const for n, c in left.terms}
            return Affine.of(terms, left.const // right.const)
    raise not_affine(
        node,
        f"{node.op!r} of what changes while the loops run",
        "In a condition `i < n / 2` is read; elsewhere start or count in other steps.",
    )


def _folded(node: BinaryE, left: int, right: int) -> Affine:
    """An operation on two numbers, as C computes it in the type of ``node``."""
    dtype = integer_of(node)
    if node.op in ("/", "%"):
        if right == 0:
            raise not_affine(node, "it divides by zero", "Check the sizes.")
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        value = quotient if node.op == "/" else left - quotient * right
    elif node.op in ("<<", ">>"):
        if left < 0 or not 0 <= right < dtype.bits:
            raise not_affine(
                node, f"C leaves a shift of {left} by {right} open", "Check the sizes."
            )
        value = left << right if node.op == "<<" else left >> right
    else:
        value = {
            "+": left + right,
            "-": left - right,
            "*": left * right,
            "&": left & right,
            "|": left | right,
            "^": left ^ right,
        }[node.op]
    return Affine.constant(_in_type(node, value, dtype))


def _in_type(node: Expression, value: int, dtype: DType) -> int:
    """A number as a result of arithmetic in ``dtype``."""
    low, high = dtype.range
    if low <= value <= high:
        return value
    if dtype.is_signed:
        raise not_affine(node, f"it overflows {dtype.value}", "Give smaller sizes or a wider type.")
    return value % (high + 1)


def _fitting(env: Environment, node: Expression, value: Affine) -> Affine:
    """``value``, the result of arithmetic in the type of ``node``."""
    dtype = integer_of(node)
    if not dtype.is_signed:
        _within(env, node, value, dtype, "unsigned arithmetic may wrap around here")
    return value


def _converted(env: Environment, node: CastE, value: Affine) -> Affine:
    dtype, before = integer_type(node.type), integer_type(node.operand.type)
    if dtype is None or before is None:
        raise not_affine(node, "it is no whole number")
    if value.is_constant:
        return Affine.constant(_wrapped(value.const, dtype))
    low, high = before.range
    if not (dtype.range[0] <= low and high <= dtype.range[1]):
        what = "C converts" if node.implicit else "it converts"
        _within(env, node, value, dtype, f"{what} it to {dtype.value} here, which may change it")
    return value


def _wrapped(value: int, dtype: DType) -> int:
    """A number converted to an integer type."""
    low, _ = dtype.range
    return (value - low) % (1 << dtype.bits) + low


def _within(env: Environment, node: Expression, value: Affine, dtype: DType, why: str) -> None:
    ranges = env.ranges()
    if ranges is None or env.unchecked:
        return
    least, greatest = value.interval(ranges)
    low, high = dtype.range
    if not (low <= least and greatest <= high):
        raise not_affine(
            node,
            f"{why} (it runs from {least} to {greatest})",
            "Use one signed type that is wide enough, such as int, for all that is compared and "
            "counted.",
        )


def _decided(env: Environment, node: BinaryE) -> int:
    """``&&`` or ``||`` where the sides that count have one result for all instances."""
    enough = int(node.op == "||")  # what decides alone
    left = form(env, node.left)
    if not left.is_constant:
        raise not_affine(node, "it depends on a condition")
    if int(left.const != 0) == enough:
        return enough
    right = form(env, node.right)
    if not right.is_constant:
        raise not_affine(node, "it depends on a condition")
    return int(right.const != 0)


def _compared(env: Environment, node: BinaryE) -> int:
    """A comparison that has one result for all instances."""
    left, right = form(env, node.left), form(env, node.right)
    apart = left - right
    ranges = env.ranges()
    if ranges is not None and not apart.names <= ranges.keys():  # what the loop counts
        raise not_affine(node, "it depends on a condition", BRANCHES)
    low, high = (apart.const, apart.const) if ranges is None else apart.interval(ranges)
    always = {
        "<": (high < 0, low >= 0),
        "<=": (high <= 0, low > 0),
        ">": (low > 0, high <= 0),
        ">=": (low >= 0, high < 0),
        "==": (low == high == 0, low > 0 or high < 0),
        "!=": (low > 0 or high < 0, low == high == 0),
    }[node.op]
    if not any(always):
        raise not_affine(node, "it depends on a condition", BRANCHES)
    return int(always[0])


def extreme(node: Expression, which: str) -> list[Expression] | None:
    """The operands whose ``which`` ("min" or "max") ``node`` is, itself where it is none.

    None where it is the other extreme.
    """
    inner = node
    while isinstance(inner, CastE) and inner.implicit:
        inner = inner.operand
    if not isinstance(inner, ConditionalE) or not isinstance(inner.condition, BinaryE):
        return [node]
    cond = inner.condition
    smaller = {"<": True, "<=": True, ">": False, ">=": False}.get(cond.op)
    order = [full_text(cond.left), full_text(cond.right)]
    picked = [full_text(inner.yes), full_text(inner.no)]
    if smaller is None or order not in (picked, picked[::-1]):
        return [node]
    if ("min" if smaller == (order == picked) else "max") != which:
        return None
    halves = [extreme(half, which) for half in (inner.yes, inner.no)]
    return None if None in halves else [x for half in halves for x in half or ()]
