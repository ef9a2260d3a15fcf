"""Pointers: the element of an array that they lead to."""

from __future__ import annotations

from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    ArrayType,
    BinaryE,
    CastE,
    CType,
    Expression,
    IndexE,
    MemberE,
    Name,
    PointerType,
    RecordType,
    ScalarType,
    UnaryE,
)
from agent.loopnest.lowering.forms import integer_type
from agent.loopnest.lowering.members import is_in_structure, member_array, no_pointer
from agent.loopnest.lowering.numbers import subscript
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    STEPS,
    Environment,
    Object,
    Pointer,
    Unknown,
    refusal,
)
from agent.loopnest.program import Affine


def pointer(env: Environment, node: Expression) -> Pointer:
    """What the pointer ``node`` points to.

    Raises:
        SourceError: it cannot be followed.
    """
    match node:
        case CastE(implicit=True):
            return pointer(env, node.operand)
        case CastE(type=PointerType(to=to), operand=operand):
            found = pointer(env, operand)
            if _same(to, found.type):
                return found
            raise refusal(
                node.place,
                f"`{c_text(node)}` gives memory another type",
                "Declare the parameter with the type with which it is used.",
            )
        case UnaryE(op="&", operand=operand):
            return element_of(env, operand)
        case UnaryE(op=op, operand=Name(ident=ident)) if op in STEPS:
            before = pointer(env, node.operand)
            env.region.rules.effect(env, node)
            after = env.scope[ident]
            return before if op[0] == "p" or not isinstance(after, Pointer) else after
        case BinaryE(op="+" | "-"):
            base, by = (node.left, node.right)
            if node.op == "+" and integer_type(base.type) is not None:
                base, by = by, base
            return moved(env, pointer(env, base), by, -1 if node.op == "-" else 1)
        case _:
            return element_of(env, node, as_pointer=True)


def moved(env: Environment, start: Pointer, by: Expression, sign: int) -> Pointer:
    """``start + sign * by``, in elements."""
    step = subscript(env, by) * sign * (_elements(start.type) if _is_flat(start) else 1)
    *outer, last = start.subscripts
    return replace(start, subscripts=(*outer, last + step))


def _is_flat(at: Pointer) -> bool:
    """Whether the array has one subscript for all its dimensions."""
    return len(at.object.shape) == 1


def _elements(kind: CType) -> int:
    total = 1
    while isinstance(kind, ArrayType) and isinstance(kind.length, int):
        total, kind = total * kind.length, kind.element
    return total


def _same(one: CType, two: CType) -> bool:
    if isinstance(one, ScalarType) and isinstance(two, ScalarType):
        return one.dtype is two.dtype
    return (
        replace(one, const=False) == replace(two, const=False)
        if (isinstance(one, RecordType) and isinstance(two, RecordType))
        else one == two
    )


def element_of(env: Environment, node: Expression, *, as_pointer: bool = False) -> Pointer:
    """The element that the lvalue ``node`` is, or to whose first the array ``node`` decays."""
    match node:
        case Name(ident=ident):
            match env.scope.get(ident):
                case Pointer() as found:
                    return found
                case Object() as found:
                    return first_of(found)
                case Unknown(why=why, hint=hint):
                    raise refusal(node.place, f"{node.name!r} cannot be followed: {why}", hint)
        case IndexE(base=base, index=index):
            row = pointer(env, base)
            return _inner(moved(env, row, index, 1))
        case UnaryE(op="*", operand=operand):
            return _inner(pointer(env, operand))
        case CastE(implicit=True, operand=operand):
            return element_of(env, operand, as_pointer=as_pointer)
        case MemberE(type=PointerType()):
            array = member_array(env, node)
            if array is None:
                raise no_pointer(node)
            return first_of(array)
    what = "a pointer" if as_pointer else "an element of an array"
    hint = "Use arrays, parameters, and pointers that are set from them by + and -."
    if is_in_structure(node):
        hint = "Write every access in full, from the array of structures to the number in it."
    raise refusal(node.place, f"`{c_text(node)}` is not {what} that can be followed", hint)


def first_of(found: Object) -> Pointer:
    """The first element of an array: of the outermost dimension."""
    inner: CType = found.element
    for extent in reversed(found.rows):
        inner = ArrayType(inner, extent)
    return Pointer(found, (Affine(),), inner)


def _inner(at: Pointer) -> Pointer:
    """The element pointed to; of a row, its own first element comes next."""
    if isinstance(at.type, ArrayType):
        if len(at.object.shape) == 1:
            return replace(at, type=at.type.element)
        return Pointer(at.object, (*at.subscripts, Affine()), at.type.element)
    return at
