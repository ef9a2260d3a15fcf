"""``memset`` and ``memcpy`` of known extent: the loops that they are."""

from __future__ import annotations

from dataclasses import replace

from agent.loopnest.frontend.ctree import ArrayType, CallE, CastE, CType, Expression, ScalarType
from agent.loopnest.lowering.assignments import write
from agent.loopnest.lowering.places import access_at
from agent.loopnest.lowering.pointers import pointer
from agent.loopnest.lowering.state import Environment, Pointer, RestartError, refusal
from agent.loopnest.lowering.values import constant
from agent.loopnest.program import Affine, Bound, DType, Expr, Literal, Loop, Read


def copied(env: Environment, node: CallE, name: str) -> None:
    """Lowers a call into a loop over elements.

    Raises:
        SourceError: how much is copied is not known, or no whole elements.
    """
    if len(node.arguments) != 3:
        raise refusal(node.place, f"{name} takes 3 arguments", "Include <string.h>.")
    to, source, length = node.arguments
    target = pointer(env, _untyped(to))
    dtype = _dtype(node, target)
    extent = constant(env, length)
    if extent is None or extent % dtype.size or not 0 <= extent < 1 << 40:
        raise refusal(
            node.place,
            f"how much {name} copies is not known, or no whole elements",
            f"Write `{name}(a, b, n * sizeof *a)` with a size n, or a loop.",
        )
    if extent == 0:
        return
    counter = env.region.names.fresh("e")
    loop = Loop(
        counter,
        (Bound(Affine()),),
        (Bound(Affine.constant(extent // dtype.size - 1)),),
        1,
        (),
    )
    inner = replace(env, around=(*env.around, loop), out=[])
    moving = Affine.var(counter)
    if name == "memset":
        if constant(env, source) != 0:
            raise refusal(
                node.place,
                "memset of anything but 0 is not read",
                "Write a loop that assigns the elements.",
            )
        given: Expr = Literal("0")
    else:
        origin = pointer(env, _untyped(source))
        if _dtype(node, origin) is not dtype:
            raise refusal(
                node.place,
                f"{name} gives memory another type",
                "Write a loop that assigns the elements.",
            )
        given = Read(access_at(inner, node.place, _shifted(origin, moving), dtype))
    access = access_at(inner, node.place, _shifted(target, moving), dtype)
    writable = not target.object.const
    write(inner, node.place, access, writable, "", given)
    env.out.append(replace(loop, body=tuple(inner.out)))


def _untyped(node: Expression) -> Expression:
    """Without the conversion to ``void *``."""
    while isinstance(node, CastE):
        node = node.operand
    return node


def _dtype(node: CallE, at: Pointer) -> DType:
    kind: CType = at.type
    if isinstance(kind, ArrayType) and len(at.object.shape) > 1:
        raise RestartError(flat=at.object.ident)
    while isinstance(kind, ArrayType):
        kind = kind.element
    if not isinstance(kind, ScalarType) or kind.dtype is None:
        raise refusal(
            node.place,
            "only arrays of numbers are copied or cleared at once",
            "Write a loop that assigns the fields.",
        )
    return kind.dtype


def _shifted(at: Pointer, by: Affine) -> Pointer:
    *outer, last = at.subscripts
    return replace(at, subscripts=(*outer, last + by))
