"""In which block of the transformed tree a temporary can be declared.

A temporary is declared as far inside as holds all its accesses, so that threads, SIMD lanes and
jammed copies each have their own. That is right where every execution of the block writes it
before reading it; else it stays just inside the loops whose instances have one each.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import ScheduleError
from agent.loopnest.emitter import extent
from agent.loopnest.program import Loop, Node, Program, Statement, Temporary, reads, statements


def uses(node: Node, name: str) -> bool:
    """Whether ``node`` reads or writes the array, scalar or temporary ``name``."""
    inside = (node,) if isinstance(node, Statement) else (s for _, s in statements(node.body))
    return any(
        s.target.array == name or any(r.array == name for r in reads(s.value)) for s in inside
    )


def _assigned(nodes: Sequence[Node], name: str, around: tuple[Loop, ...]) -> bool | None:
    """True: written before any read. False: perhaps read first. None: perhaps not used."""
    for node in nodes:
        if isinstance(node, Statement):
            if node.op and node.target.array == name:
                return False
            if any(r.array == name for r in reads(node.value)):
                return False
            if node.target.array == name:
                return True
        else:
            inner = _assigned(node.body, name, (*around, node))
            if inner is False or (inner and extent.runs(node, around)):
                return inner
    return None


def _fits_inside(nodes: Sequence[Node], name: str, around: tuple[Loop, ...]) -> bool:
    users = [n for n in nodes if uses(n, name)]
    if len(users) == 1 and isinstance(users[0], Loop):
        loop = users[0]
        if _fits_inside(loop.body, name, (*around, loop)):
            return True
    return _assigned(nodes, name, around) is not False


def own_loops(program: Program, temporary: Temporary) -> frozenset[str]:
    """The loops of which every iteration has an instance of ``temporary`` of its own."""
    found: frozenset[str] = frozenset()
    for _, statement in statements(program.body):
        if uses(statement, temporary.name):
            for value in statement.instance[: temporary.depth]:
                found |= value.names
    return found


def homes(program: Program) -> dict[str, tuple[str, ...]]:
    """For each temporary the iterators around the block that declares it, outermost first.

    Raises:
        ScheduleError: a temporary carries a value out of the loop that it belongs to.
    """
    return {t.name: _home(program, t) for t in program.temporaries}


def _home(program: Program, temporary: Temporary) -> tuple[str, ...]:
    own, name = own_loops(program, temporary), temporary.name
    around: tuple[Loop, ...] = ()
    nodes: Sequence[Node] = program.body
    while True:
        missing = own - {loop.iterator for loop in around}
        users = [n for n in nodes if uses(n, name)]
        inner = users[0] if len(users) == 1 else None
        if not isinstance(inner, Loop):
            if missing:
                raise ScheduleError(
                    f"the temporary {name} is used outside of loop {min(missing)}, which has one "
                    "an iteration",
                    hint="Leave the loops that hold its accesses together.",
                )
            return tuple(loop.iterator for loop in around)
        if not missing and not _fits_inside(inner.body, name, (*around, inner)):
            return tuple(loop.iterator for loop in around)
        around, nodes = (*around, inner), inner.body
