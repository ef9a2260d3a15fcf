"""What parts of the tree use and change: variables, and functions of the file."""

from __future__ import annotations

from collections.abc import Sequence

from agent.loopnest.frontend.ctree import (
    AssignE,
    CallE,
    CFunction,
    CStatement,
    Name,
    Tree,
    UnaryE,
    Unit,
    walk,
)
from agent.loopnest.lowering.state import (
    STEPS,
)


def assigned(item: Tree) -> list[Name]:
    """Variables that ``item`` assigns, steps, or takes the address of."""
    found = []
    for x in walk(item):
        match x:
            case AssignE(target=Name() as name):
                found.append(name)
            case UnaryE(op=op, operand=Name() as name) if op in STEPS or op == "&":
                found.append(name)
    return found


def called(unit: Unit, items: Sequence[CStatement]) -> list[CStatement]:
    """The bodies of the functions of the file that ``items`` call, and those call."""
    found: dict[int, CStatement] = {}
    pending = list(items)
    while pending:
        for x in walk(pending.pop()):
            own = callee(unit, x)
            if own is not None and own.ident not in found:
                found[own.ident] = own.body
                pending.append(own.body)
    return list(found.values())


def callee(unit: Unit, node: Tree) -> CFunction | None:
    """The function of the file that a call names."""
    if isinstance(node, CallE) and isinstance(node.callee, Name):
        return unit.functions.get(node.callee.ident)
    return None


def used(items: Sequence[Tree]) -> dict[int, Name]:
    """Variables that occur in ``items``, by ident."""
    return {x.ident: x for item in items for x in walk(item) if isinstance(x, Name)}
