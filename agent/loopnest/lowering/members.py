"""What a structure holds: ``im->w`` as a size, ``im->data`` as an array.

A member is followed where the structure is one (no element of many), and where the function and
those that it calls give that member no other value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    CastE,
    CStatement,
    CType,
    Expression,
    IndexE,
    MemberE,
    Name,
    PointerType,
    RecordType,
    ScalarType,
    UnaryE,
    Variable,
    walk,
)
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    STEPS,
    Environment,
    Known,
    Object,
    Pointer,
    refusal,
)
from agent.loopnest.program import Affine

STEADY = "what structures hold stays as it is while the loops run"


def is_member(name: str) -> bool:
    """Whether a size, or what an array is behind, is a member of a structure, as C spells it."""
    return "." in name or "->" in name


def member_type(variables: Iterable[Variable], name: str) -> CType | None:
    """The type of the member ``name``; None where it is none of the variables'."""
    root, *fields = re.split(r"->|\.", name)
    found: CType | None = next((v.type for v in variables if v.name == root), None)
    for wanted in fields:
        while isinstance(found, PointerType | ArrayType):
            found = found.to if isinstance(found, PointerType) else found.element
        inner = found.fields if isinstance(found, RecordType) else ()
        found = next((f.type for f in inner if f.name == wanted), None)
    return found


def changed_members(items: Iterable[CStatement]) -> frozenset[str]:
    """The names of members that something assigns, or takes the address of."""
    found = set()
    for item in items:
        for x in walk(item):
            match x:
                case AssignE(target=MemberE(field=field)):
                    found.add(field)
                case UnaryE(op=op, operand=MemberE(field=field)) if op in STEPS or op == "&":
                    found.add(field)
    return frozenset(found)


def member_text(env: Environment, node: Expression) -> str | None:
    """A member as C spells it where the region is; None where it is no one place."""
    while isinstance(node, CastE) and node.implicit:
        node = node.operand
    if not isinstance(node, MemberE) or node.field in env.region.changed_members:
        return None
    base = node.base
    while isinstance(base, CastE) and base.implicit:
        base = base.operand
    if isinstance(base, MemberE):
        outer = member_text(env, base)
        arrow = "->" if isinstance(base.type, PointerType) else "."
        single = isinstance(base.type, PointerType | RecordType)
        return f"{outer}{arrow}{node.field}" if outer is not None and single else None
    found = _structure(env, base)
    if found is None:
        return None
    root = found.text or found.name
    return f"{root[1:]}.{node.field}" if root.startswith("&") else f"{root}->{node.field}"


def _structure(env: Environment, node: Expression) -> Object | None:
    """The structure that a variable is, or leads to."""
    found = env.scope.get(node.ident) if isinstance(node, Name) else None
    if isinstance(found, Pointer) and all(s == Affine() for s in found.subscripts):
        found = found.object
    single = isinstance(found, Object) and isinstance(found.element, RecordType)
    return found if single and isinstance(found, Object) else None


def member_size(env: Environment, node: MemberE) -> Known | None:
    """A member whose value is given as a size."""
    kind, text = node.type, member_text(env, node)
    value = env.region.members.get(text or "")
    if value is None or not isinstance(kind, ScalarType) or kind.dtype is None:
        return None
    env.region.assumed[STEADY] = None
    return Known(Affine.constant(value), kind.dtype)


def member_array(env: Environment, node: MemberE) -> Object | None:
    """What a pointer in a structure leads to."""
    text = member_text(env, node)
    to = node.type.to if isinstance(node.type, PointerType) else None
    if text is None or not isinstance(to, ScalarType | RecordType):
        return None
    env.region.assumed[STEADY] = None
    name = text.replace("->", "_").replace(".", "_")
    ident = -int.from_bytes(text.encode())
    return Object(ident, name, to, (None,), to.const, text=text)


def is_in_structure(node: Expression) -> bool:
    """Whether ``node`` is a field, or an element of a field that is an array."""
    while isinstance(node, IndexE) or (isinstance(node, CastE) and node.implicit):
        node = node.base if isinstance(node, IndexE) else node.operand
        if isinstance(node, MemberE) and isinstance(node.type, PointerType):
            return False  # behind a pointer that it holds
    return isinstance(node, MemberE)


def no_pointer(node: Expression) -> SourceError:
    """That what a pointer in a structure leads to is not known."""
    return refusal(
        node.place,
        f"`{c_text(node)}`: which array that is, is known only when the loops run",
        "Put the loops over its elements into a function that gets the pointer.",
    )
