"""Structures: a field is a subscript among the numbers of its type."""

from __future__ import annotations

from agent.loopnest.frontend.ctree import (
    ArrayType,
    CastE,
    CType,
    Expression,
    Field,
    IndexE,
    MemberE,
    PointerType,
    RecordType,
    ScalarType,
)
from agent.loopnest.lowering.extents import INSIDE, exact_range, narrowed
from agent.loopnest.lowering.members import is_in_structure, no_pointer
from agent.loopnest.lowering.numbers import subscript
from agent.loopnest.lowering.pointers import element_of, pointer
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    Environment,
    Pointer,
    refusal,
)
from agent.loopnest.program import Affine


def located(env: Environment, node: Expression) -> tuple[Pointer, tuple[tuple[Affine, int], ...]]:
    """The element that holds ``node``, and the subscripts of fields within it, with extents.

    A structure is a row of numbers of the type that is read: the array has one subscript more.
    """
    if not is_in_structure(node):
        return element_of(env, node), ()
    at, offset, kind = _within(env, node)
    record = at.type
    if isinstance(kind, PointerType):
        raise no_pointer(node)
    if not isinstance(record, RecordType) or not isinstance(kind, ScalarType) or kind.dtype is None:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is no number that is read",
            "Only numbers, arrays and structures of them are read as fields; copy others into "
            "variables before the loops.",
        )
    size = kind.dtype.size
    if record.size % size or any(n % size for n in (offset.const, *(c for _, c in offset.terms))):
        raise refusal(
            node.place,
            f"`{c_text(node)}` does not lie at a multiple of its size in {record.name!r}",
            "Do not pack the structure.",
        )
    terms = {name: c // size for name, c in offset.terms}
    return at, ((Affine.of(terms, offset.const // size), record.size // size),)


def _within(env: Environment, node: Expression) -> tuple[Pointer, Affine, CType]:
    """The structure that holds ``node``, the bytes before ``node`` in it, and the type there."""
    match node:
        case CastE(implicit=True, operand=operand):
            return _within(env, operand)
        case MemberE(base=base, field=name, arrow=arrow):
            behind = isinstance(base.type, PointerType)
            if is_in_structure(base) and not behind:
                at, offset, kind = _within(env, base)
            else:
                at, offset = pointer(env, base) if arrow else element_of(env, base), Affine()
                kind = at.type
            if arrow and isinstance(kind, ArrayType):  # s.row->x: its first element
                kind = kind.element
            found = _field(node, kind, name)
            return at, offset + (found.offset or 0), found.type
        case IndexE(base=base, index=index) if is_in_structure(base):
            at, offset, kind = _within(env, base)
            if isinstance(kind, PointerType):
                raise no_pointer(node)
            if isinstance(kind, ArrayType) and isinstance(kind.length, int):
                number = subscript(env, index)
                _inside(env, node, number, kind.length, f"`{c_text(base)}`")
                return at, offset + number * _bytes(kind.element), kind.element
        case _:
            at = element_of(env, node)
            return at, Affine(), at.type
    raise refusal(
        node.place,
        f"`{c_text(node)}` is no element of an array with a length",
        "Give the field its length.",
    )


def _field(node: MemberE, kind: CType, name: str) -> Field:
    if isinstance(kind, PointerType):
        raise no_pointer(node)
    fields = kind.fields if isinstance(kind, RecordType) else ()
    field = next((f for f in fields if f.name == name), None)
    if field is None or field.offset is None:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is no field of a structure that is read",
            "Unions and fields of some bits are not: use structures of whole fields.",
        )
    return field


def _bytes(kind: CType) -> int:
    """The size of what stands in a structure; 0 where it is nothing that is read."""
    match kind:
        case ScalarType(dtype=dtype):
            return dtype.size if dtype else 0
        case RecordType(size=size):
            return size
        case ArrayType(element=element, length=int(length)):
            return length * _bytes(element)
        case _:
            return 0


def _inside(env: Environment, node: Expression, value: Affine, extent: int, what: str) -> None:
    low, high = exact_range(env, node.place, value)
    if (low < 0 or high >= extent) and narrowed(env, value, extent):
        env.region.assumed[INSIDE] = None
    elif low < 0 or high >= extent:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is out of bounds: the subscript runs from {low} to {high}, and "
            f"{what} has 0 to {extent - 1} there",
            "Check the loop's bounds and the sizes given with --size.",
        )
