"""In which block of the transformed tree a temporary can be declared.

A temporary is declared as far inside as holds all its accesses, so that threads, SIMD lanes and
jammed copies each have their own. That is right where every execution of the block writes it
before reading it; else it stays just inside the loops whose instances have one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.errors import ScheduleError
from agent.loopnest.emitter import extent
from agent.loopnest.program import (
    Expr,
    Loop,
    Node,
    Program,
    Statement,
    Temporary,
    Unary,
    conjuncts,
    guarded_reads,
    reads,
    statements,
)


def uses(node: Node, name: str) -> bool:
    """Whether ``node`` reads or writes the array, scalar or temporary ``name``."""
    return name in node.uses


def _assigned(
    nodes: Sequence[Node], name: str, around: tuple[Loop, ...], under: frozenset[Expr] = frozenset()
) -> bool | None:
    """True: written before any read. False: perhaps read first. None: perhaps not used.

    Where one of the conditions ``under`` holds it has been written: a read is fine there.
    """
    for node in nodes:
        if isinstance(node, Statement):
            if _read_first(node, name, under):
                return False
            if node.target.array == name:
                if node.condition is None or _negated(node.condition) in under:
                    return True
                under |= {node.condition}
            under = _unchanged(under, (node,))
        else:
            under = _unchanged(under, node.body)
            inner = _assigned(node.body, name, (*around, node), under)
            if inner is False or (inner and extent.runs(node, around)):
                return inner
    return None


def _read_first(statement: Statement, name: str, under: frozenset[Expr]) -> bool:
    """Whether ``statement`` may read ``name`` where none of the conditions ``under`` holds."""
    holding = [holds for access, holds in guarded_reads(statement) if access.array == name]
    if statement.op and statement.target.array == name:
        holding.append(conjuncts(statement.condition))
    written = [set(conjuncts(condition)) for condition in under]
    return not all(any(known.issubset(holds) for known in written) for holds in holding)


def _negated(condition: Expr) -> Expr:
    match condition:
        case Unary("!", x):
            return x
        case _:
            return Unary("!", condition)


def _unchanged(conditions: frozenset[Expr], nodes: Sequence[Node]) -> frozenset[Expr]:
    """Those of the conditions that read nothing that ``nodes`` write."""
    changed = {s.target.array for _, s in statements(tuple(nodes))}
    return frozenset(c for c in conditions if not any(a.array in changed for a in reads(c)))


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


def sink_temporaries(program: Program) -> Program:
    """``program`` where every temporary belongs to the innermost loops it can belong to.

    A temporary declared outside of a loop in which each iteration writes it before reading it
    does not tie the iterations together.
    """
    if not program.temporaries:
        return program
    depth = {name: len(home) for name, home in homes(program).items()}
    sunk = tuple(replace(t, depth=max(t.depth, depth[t.name])) for t in program.temporaries)
    return replace(program, temporaries=sunk)


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
