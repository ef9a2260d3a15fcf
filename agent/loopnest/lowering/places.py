"""Where data lies: the access that an lvalue is."""

from __future__ import annotations

from agent.loopnest.frontend.ctree import (
    Expression,
    Name,
    Place,
    ScalarType,
)
from agent.loopnest.lowering.extents import checked, exact_range, note_extent, use_of
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.scalars import scalar, wrong_type
from agent.loopnest.lowering.state import (
    Environment,
    Object,
    Pointer,
    refusal,
)
from agent.loopnest.lowering.structures import located
from agent.loopnest.program import Access, Affine, DType

STRAIGHT = "no two pointers of the function lead to the same memory"


def place(env: Environment, node: Expression) -> tuple[Access, bool]:
    """The access that the lvalue ``node`` is, and whether it may be assigned.

    Raises:
        SourceError: it is none of an array, or leaves it.
    """
    if isinstance(node, Name) and (found := scalar(env, node)) is not None:
        return found
    at, fields = located(env, node)
    if not isinstance(node.type, ScalarType) or node.type.dtype is None:
        raise refusal(node.place, *wrong_type(f"`{c_text(node)}`", node.type))
    if node.type.volatile:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is volatile: every access must stay as it is",
            "Nothing helps where others change it; else leave volatile out.",
        )
    if len(at.subscripts) < len(at.object.shape):
        raise refusal(
            node.place,
            f"`{c_text(node)}` has too few subscripts: {at.object.name!r} has "
            f"{len(at.object.shape)} dimensions",
            "Write all subscripts.",
        )
    use = use_of(env, node.place, at.object, node.type.dtype, fields)
    subscripts = checked(env, node.place, use, (*at.subscripts, *(f for f, _ in fields)))
    const = at.object.const or node.type.const
    return Access(use.name, subscripts), not const


def access_of(env: Environment, at: Place, found: Object, subscripts: tuple[Affine, ...]) -> Access:
    """The access to an element of an array of numbers."""
    kind = found.element
    if not isinstance(kind, ScalarType) or kind.dtype is None:
        raise refusal(at, *wrong_type(f"an element of {found.name!r}", kind))
    use = use_of(env, at, found, kind.dtype, ())
    if len(found.shape) == 1 and len(subscripts) > 1:
        flat = subscripts[0]
        for value, extent in zip(subscripts[1:], found.rows, strict=True):
            flat = flat * extent + value
        subscripts = (flat,)
    if found.shape[0] is None:
        note_extent(env, use, subscripts[0], exact_range(env, at, subscripts[0]))
    return Access(use.name, subscripts)


def access_at(env: Environment, at: Place, found: Pointer, dtype: DType) -> Access:
    """The access to what a pointer points to, a number of type ``dtype``."""
    use = use_of(env, at, found.object, dtype, ())
    return Access(use.name, checked(env, at, use, found.subscripts))
