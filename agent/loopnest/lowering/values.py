"""C expressions as values of the IR, with C's types and conversions."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    AssignE,
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
    OtherE,
    PointerType,
    ScalarType,
    UnaryE,
)
from agent.loopnest.frontend.ctree import walk as parts_of
from agent.loopnest.lowering.forms import COMPARISONS, form, integer_type, spelled, whole
from agent.loopnest.lowering.members import member_size
from agent.loopnest.lowering.places import place
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.scalars import scalar, wrong_type
from agent.loopnest.lowering.state import (
    MAX_DEEP,
    MAX_NODES,
    Environment,
    InPlace,
    Known,
    NotAffineError,
    refusal,
)
from agent.loopnest.program import (
    BINARY_OPS,
    FUNCTIONS,
    PREDICATES,
    Affine,
    AffineValue,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Read,
    Select,
    Unary,
    walk,
)

_FLOAT = re.compile(r"(([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)[fF]?")


NUMBERS = "Loops compute with numbers: leave what is none out of them."


def value(env: Environment, node: Expression, depth: int = 0) -> Expr:
    """``node`` as a value of the IR.

    Raises:
        SourceError: something in it is not read.
        RestartError: it uses a variable that has to be data.
    """
    if depth > MAX_DEEP:
        raise refusal(
            node.place,
            f"operators stand in operators more than {MAX_DEEP} deep",
            "Keep parts of it in variables.",
        )
    found = _value(env, node, depth)
    if depth == 0 and sum(1 for _ in walk(found)) > MAX_NODES:
        raise refusal(
            node.place,
            f"the expression has more than {MAX_NODES} operands and operators",
            "Keep parts of it in variables.",
        )
    return found


def _value(env: Environment, node: Expression, depth: int) -> Expr:
    match node:
        case Number():
            return _literal(node)
        case Name():
            return _name(env, node)
        case MemberE() if (size := member_size(env, node)) is not None:
            return number(size, size.dtype)
        case IndexE() | MemberE() | UnaryE(op="*"):
            return Read(place(env, node)[0])
        case CastE():
            return _cast(env, node, depth)
        case UnaryE():
            return _unary(env, node, depth)
        case BinaryE():
            return _binary(env, node, depth)
        case ConditionalE():
            return _select(env, node, depth)
        case CallE():
            return _call(env, node, depth)
        case AssignE():
            return env.region.rules.assign(env, node)
        case OtherE(what=what):
            raise refusal(node.place, f"{what} is not read here", NUMBERS)
        case _:
            raise refusal(node.place, f"`{c_text(node)}` is not read here", NUMBERS)


def dtype_of(node: Expression) -> DType:
    """The IR's type of a value; refused where there is none."""
    return scalar_type(node, node.type)


def scalar_type(node: Expression, kind: CType) -> DType:
    """The IR's type for the type ``kind`` of ``node``; refused where there is none."""
    if isinstance(kind, ScalarType) and kind.dtype is not None:
        return kind.dtype
    raise refusal(node.place, *wrong_type(f"`{c_text(node)}`", kind))


def _literal(node: Number) -> Expr:
    dtype = dtype_of(node)
    text = node.text
    if dtype.is_float:
        if _FLOAT.fullmatch(text) and math.isfinite(float(text.rstrip("fF"))):
            return Literal(text)
        raise refusal(
            node.place,
            f"the constant {text[:20]} is not read",
            "Decimal numbers with or without f, and whole numbers, are.",
        )
    found = Literal(text.lstrip("-"))
    if found.dtype is not dtype:  # what is shorter than an int has become one
        found = spelled(whole(text.lstrip("-")), dtype)
    return Unary("-", found) if text.startswith("-") else found


def number(found: Known | Affine, dtype: DType) -> Expr:
    """An affine form as a value of type ``dtype`` (of int where that is shorter)."""
    value = found.form if isinstance(found, Known) else found
    if value.is_constant:
        text = spelled(abs(value.const), dtype)
        return text if value.const >= 0 else Unary("-", text)
    wide = dtype in (DType.U32, DType.I64, DType.U64)
    return Cast(dtype, AffineValue(value)) if wide else AffineValue(value)


def _name(env: Environment, node: Name) -> Expr:
    match env.scope.get(node.ident):
        case Known() as known:
            return number(known, known.dtype)
        case InPlace(given):
            return given
        case _:
            found = scalar(env, node)
            if found is None:
                raise refusal(
                    node.place,
                    f"{node.name!r} is a pointer: only what it leads to is read",
                    "Use a subscript where its element is meant.",
                )
            return Read(found[0])


def _cast(env: Environment, node: CastE, depth: int) -> Expr:
    """Conversions that C makes by itself are made again by the C that is emitted."""
    inner = value(env, node.operand, depth + 1)
    if is_bool(node.type):
        return truth(inner)
    if node.implicit:
        return inner
    dtype = dtype_of(node)
    dtype_of(node.operand)
    return Cast(dtype, inner)


def converted(env: Environment, node: Expression) -> Expr:
    """``node`` with the conversion that C makes of it by itself written out."""
    if isinstance(node, CastE) and node.implicit and not is_bool(node.type):
        return Cast(dtype_of(node), value(env, node.operand, 1))
    return value(env, node)


def is_bool(kind: CType) -> bool:
    """Whether only truth values are of type ``kind``: what is converted to it is compared."""
    return isinstance(kind, ScalarType) and kind.is_bool


def truth(test: Expr) -> Expr:
    """``test`` as 0 or 1."""
    match test:
        case Binary(op, _, _) if op in PREDICATES:
            return test
        case Unary("!", _):
            return test
        case _:
            return Binary("!=", test, Literal("0"))


def _unary(env: Environment, node: UnaryE, depth: int) -> Expr:
    if node.op in ("++", "--", "p++", "p--"):
        return env.region.rules.assign(env, node)
    if node.op == "&":
        raise refusal(
            node.place,
            f"`{c_text(node)}`: an address is no value that is read",
            "Addresses may be passed to functions of the file, and set pointers.",
        )
    operand = value(env, node.operand, depth + 1)
    if node.op == "+":
        dtype_of(node)
        return Binary("+", Literal("0"), operand) if _is_short(node.operand) else operand
    return Unary(node.op, operand)


def _is_short(node: Expression) -> bool:
    inner = node.operand if isinstance(node, CastE) and node.implicit else node
    dtype = integer_type(inner.type)
    return dtype is not None and dtype.bits < 32


def _binary(env: Environment, node: BinaryE, depth: int) -> Expr:
    if node.op == ",":
        env.region.rules.effect(env, node.left)
        return value(env, node.right, depth + 1)
    if node.op not in BINARY_OPS:
        raise refusal(node.place, f"the operator {node.op!r} is not read", NUMBERS)
    if isinstance(node.left.type, PointerType) or isinstance(node.right.type, PointerType):
        raise refusal(
            node.place,
            f"`{c_text(node)}`: pointers are not compared or subtracted",
            "Count with an int, and use it as subscript.",
        )
    if node.op in COMPARISONS and (affine := _affine_sides(env, node)) is not None:
        return affine
    left = value(env, node.left, depth + 1)
    later = _where(env, left if node.op == "&&" else negated(left)) if _is_lazy(node) else env
    return Binary(node.op, left, value(later, node.right, depth + 1))


def _is_lazy(node: BinaryE) -> bool:
    return node.op in ("&&", "||")


def _where(env: Environment, test: Expr) -> Environment:
    """Where a part of an expression is evaluated only if ``test`` holds."""
    return replace(env, sure=False, conditions=(*env.conditions, test))


def _affine_sides(env: Environment, node: BinaryE) -> Expr | None:
    """A comparison of affine forms, which isl knows exactly; C's types change nothing in it."""
    try:
        left, right = form(env, node.left), form(env, node.right)
    except NotAffineError:
        return None
    if left.is_constant and right.is_constant:
        return None
    return Binary(node.op, _plain(left), _plain(right))


def _plain(value: Affine) -> Expr:
    if value.is_constant:
        wide = DType.I32 if abs(value.const) <= DType.I32.range[1] else DType.I64
        return number(value, wide)
    return AffineValue(value)


def _select(env: Environment, node: ConditionalE, depth: int) -> Expr:
    sized = any(isinstance(x, Name) for x in parts_of(node.condition))
    known = constant(env, node.condition) if sized else None
    if known is not None:  # what is left keeps the type that both had
        return converted(env, node.yes if known else node.no)
    test = value(env, node.condition, depth + 1)
    yes = value(_where(env, test), node.yes, depth + 1)
    return Select(test, yes, value(_where(env, negated(test)), node.no, depth + 1))


def constant(env: Environment, node: Expression) -> int | None:
    """The value of an integer expression that has one for all instances, else None."""
    try:
        found = form(env, node)
    except NotAffineError:
        return None
    return found.const if found.is_constant else None


def _call(env: Environment, node: CallE, depth: int) -> Expr:
    if not isinstance(node.callee, Name):
        raise refusal(
            node.place,
            "a call through a pointer is not read",
            "Call the function by its name; where it is not known, nothing helps.",
        )
    name = node.callee.name
    own = env.region.unit.functions.get(node.callee.ident)
    if own is not None:
        return env.region.rules.inline(env, node, own)
    name = name.removeprefix("__builtin_")
    if name not in FUNCTIONS:
        raise refusal(
            node.place,
            f"a call of {name!r} is not read",
            "Define it in this file or in a header that it includes; of the C library the "
            "mathematics is read.",
        )
    if len(node.arguments) != FUNCTIONS[name]:
        raise refusal(node.place, f"{name} takes {FUNCTIONS[name]} arguments", "Include <math.h>.")
    return Call(name, tuple(value(env, a, depth + 1) for a in node.arguments))


def condition(env: Environment, node: Expression) -> Expr:
    """``node`` as the condition of a statement: pure, and with its affine parts as such."""
    if isinstance(node, UnaryE) and node.op == "!":
        return negated(condition(env, node.operand))
    if isinstance(node, BinaryE) and _is_lazy(node):
        left = condition(env, node.left)
        later = _where(env, left if node.op == "&&" else negated(left))
        return Binary(node.op, left, condition(later, node.right))
    return value(env, node)


def negated(test: Expr) -> Expr:
    """What holds where ``test`` does not."""
    match test:
        case Binary("&&" | "||" as op, left, right):
            return Binary("||" if op == "&&" else "&&", negated(left), negated(right))
        case Binary(op, AffineValue() | Literal(), AffineValue() | Literal()) if op in COMPARISONS:
            other = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}[op]
            return Binary(other, test.left, test.right)
        case Unary("!", operand):
            return operand
        case _:
            return Unary("!", test)


def conjunction(tests: tuple[Expr, ...]) -> Expr | None:
    """All of ``tests``; None where there are none."""
    found: Expr | None = None
    for test in tests:
        found = test if found is None else Binary("&&", found, test)
    return found
