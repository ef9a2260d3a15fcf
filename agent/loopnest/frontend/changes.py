"""Which global variables something in a unit changes, or may change behind a pointer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BinaryE,
    CallE,
    CastE,
    CFunction,
    IndexE,
    ListE,
    MemberE,
    Name,
    PointerType,
    RecordType,
    ScalarType,
    Tree,
    UnaryE,
    Variable,
    parts,
)

Functions = Mapping[int, CFunction]
_STEPS = frozenset("++ -- p++ p-- &".split())


def changes(
    functions: Mapping[int, CFunction], variables: Mapping[int, Variable]
) -> frozenset[int]:
    """The variables, by ident, that are assigned, stepped, or whose address goes elsewhere."""
    found: set[int] = set()
    left: list[Tree] = [f.body for f in functions.values()]
    left += [v.init for v in variables.values() if v.init]
    while left:
        node = left.pop()
        left += parts(node)
        found.update(_changed(node, functions))
    return frozenset(found)


def _changed(node: Tree, functions: Functions) -> Iterator[int]:
    """What a node itself changes."""
    if isinstance(node, AssignE):
        yield from _roots(node.target)
    elif isinstance(node, UnaryE) and node.op in _STEPS:
        yield from _roots(node.operand)
    for part in _escaping(node, functions):
        if isinstance(getattr(part, "type", None), ArrayType) and not isinstance(part, ListE):
            yield from _roots(part)


def _escaping(node: Tree, functions: Functions) -> Iterator[Tree]:
    """The parts of a node from which an array's address would go elsewhere."""
    if isinstance(node, CallE):
        callee = functions.get(node.callee.ident) if isinstance(node.callee, Name) else None
        parameters = callee.parameters if callee else ()
        for number, argument in enumerate(node.arguments):
            if number >= len(parameters) or not _keeps(parameters[number].type):
                yield argument
    elif isinstance(node, IndexE):
        yield node.index
    elif not (isinstance(node, MemberE) or (isinstance(node, UnaryE) and node.op == "*")):
        yield from parts(node)


def _keeps(type_: object) -> bool:
    """Whether a parameter's type forbids to change what it points to."""
    while isinstance(type_, PointerType | ArrayType):
        type_ = type_.to if isinstance(type_, PointerType) else type_.element
    return isinstance(type_, ScalarType | RecordType) and type_.const


def _roots(node: Tree) -> Iterator[int]:
    """The variables that the object named by an expression is part of."""
    if isinstance(node, Name):
        yield node.ident
    elif isinstance(node, IndexE | MemberE):
        within = isinstance(node, MemberE) and not node.arrow
        if within or isinstance(node.base.type, ArrayType):
            yield from _roots(node.base)
    elif isinstance(node, CastE):
        yield from _roots(node.operand)
    elif isinstance(node, UnaryE | BinaryE):
        for part in parts(node):
            yield from _roots(part)
