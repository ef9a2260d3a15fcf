"""What an iteration adds to each variable, and so which one the loop counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    BlockS,
    CastE,
    CStatement,
    Expression,
    ForS,
    IfS,
    Name,
    Tree,
    UnaryE,
    parts,
    walk,
)
from agent.loopnest.lowering.forms import form
from agent.loopnest.lowering.headers import (
    LoopHeader,
    as_statements,
    body_of,
    commas,
    direct,
    first_values,
    tests_of,
    without_continues,
)
from agent.loopnest.lowering.iteration import IRREGULAR, RESET, Change, LoopCounter
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    MAX_SIZE,
    STEPS,
    Environment,
    Known,
    NotAffineError,
    Pointer,
    RestartError,
    Unknown,
    refusal,
)
from agent.loopnest.lowering.trips import upper_bounds
from agent.loopnest.program import Affine


def header_of(env: Environment, node: ForS) -> LoopHeader:
    """The header of ``node``, whose first values are in ``env.scope`` afterwards."""
    if node.condition is None:
        raise refusal(
            node.place,
            "a loop without a condition is not read",
            "Write its condition into the header: for (int i = 0; i < n; i++).",
        )
    several = _begun(env, node, node.condition)
    tests, first = tests_of(node.condition)
    last = tuple(commas(node.step)) if node.step is not None else ()
    body = as_statements((*first, *last, *direct(node.body)))
    names = [x for test in tests for x in walk(test) if isinstance(x, Name)]
    for name in names:
        known, step = env.scope.get(name.ident), _steady_step(env, body, name)
        if step and isinstance(known, Known):
            starts = several.get(name.ident, (known.form,))
            return LoopHeader(name.name, name.ident, known.dtype, starts, step, tests, first, last)
    raise refusal(
        node.place,
        f"how often the loop runs is not known beforehand: no variable in "
        f"`{c_text(node.condition)}` goes up or down by the same whole number each time",
        "Write for (int i = first; i < last; i++), and change i nowhere else.",
    )


def _begun(env: Environment, node: ForS, condition: Expression) -> dict[int, tuple[Affine, ...]]:
    """Runs the first part of the header; what the condition counts cannot become data."""
    try:
        return first_values(env, node)
    except RestartError as restart:
        counting = [x.ident for x in walk(condition) if isinstance(x, Name)]
        if restart.more.get("data") in counting and isinstance(restart.__cause__, NotAffineError):
            raise restart.__cause__ from restart
        raise


def _steady_step(env: Environment, body: Sequence[CStatement], name: Name) -> int:
    """The number that each iteration adds to a variable; 0 where that is no such number."""
    known = env.scope.get(name.ident)
    if not isinstance(known, Known | Unknown):
        return 0
    step = _change(env, body, name.ident)
    if not isinstance(step, Affine) or not step.is_constant:
        return 0
    if step.const and isinstance(known, Unknown) and name.ident in env.region.decisions.data:
        raise refusal(
            name.place,
            f"{name.name!r} counts this loop and is computed otherwise elsewhere",
            "Declare the iterator in its loop: for (int i = ...).",
        )
    if abs(step.const) > MAX_SIZE:
        raise refusal(
            name.place,
            f"the step of {name.name!r} is larger than {MAX_SIZE}",
            "Count in smaller steps.",
        )
    return step.const


def changes_by(env: Environment, body: Sequence[CStatement], head: LoopHeader) -> dict[int, Change]:
    """What an iteration adds to each variable from outside that it changes."""
    found = _changes_of(env, body, head.ident)
    found[head.ident] = Affine.constant(head.step)
    return found


def _changes_of(env: Environment, body: Sequence[CStatement], *more: int) -> dict[int, Change]:
    """What an iteration of ``body`` adds to each variable from outside that it changes.

    ``more``: variables that change between iterations too.
    """
    steady = _steady(env, body, *more)
    return {
        ident: _change(steady, body, ident)
        for ident in _moved(env, body)
        if isinstance(env.scope.get(ident), Known | Pointer | Unknown)
    }


def _steady(env: Environment, body: Sequence[CStatement], *more: int) -> Environment:
    """Where only what no iteration changes has a value: a step may use nothing else."""
    moved = Unknown("the loop changes it", symbolic=True)
    return replace(env, scope={**env.scope, **dict.fromkeys((*_moved(env, body), *more), moved)})


def _moved(env: Environment, nodes: Sequence[Tree]) -> dict[int, None]:
    """Variables that something in ``nodes`` assigns, in order."""
    known, found = env.region.moved, dict[int, None]()
    for node in nodes:
        if id(node) not in known:
            known[id(node)] = node, tuple(dict.fromkeys(_assigned_in(node)))
        found.update(dict.fromkeys(known[id(node)][1]))
    return found


def _assigned_in(node: Tree) -> Iterator[int]:
    for x in walk(node):
        if isinstance(x, AssignE) and isinstance(x.target, Name):
            yield x.target.ident
        if isinstance(x, UnaryE) and x.op in STEPS and isinstance(x.operand, Name):
            yield x.operand.ident


def _change(env: Environment, body: Sequence[CStatement], ident: int) -> Change:
    total: Change = Affine()
    for item in body:
        if ident not in _moved(env, [item]):
            continue
        added = _change_by(env, item, ident)
        if added == RESET or (isinstance(added, Affine) and isinstance(total, Affine)):
            total = added if isinstance(added, str) else total + added  # type: ignore[operator]
        elif isinstance(added, str):
            return IRREGULAR
        elif added != Affine():
            total = RESET if total == RESET else IRREGULAR
    return total


def _change_by(env: Environment, item: Tree, ident: int) -> Change:
    """What one statement or expression adds to the variable ``ident``."""
    match item:
        case AssignE(target=Name(ident=mine)) if mine == ident:
            return _assigned(env, item, ident)
        case UnaryE(op=op, operand=Name(ident=mine)) if mine == ident and op in STEPS:
            return Affine.constant(1 if "+" in op else -1)
        case ForS():
            return _change_in_loop(env, item, ident)
        case IfS():
            touched = ident in _moved(env, [item])
            return IRREGULAR if touched else Affine()
        case BlockS(items=items):
            return _change(env, items, ident)
        case _:
            total: Change = Affine()
            for part in parts(item):
                added = _change_by(env, part, ident)
                if isinstance(added, Affine) and isinstance(total, Affine):
                    total = total + added
                elif added != Affine():
                    total = added if total == Affine() else IRREGULAR
            return total


def _assigned(env: Environment, node: AssignE, ident: int) -> Change:
    if node.op in ("+", "-"):
        return _signed(_invariant(env, node.value), node.op)
    if node.op:
        return IRREGULAR
    match _plain(node.value):
        case BinaryE(op="+" | "-" as op, left=left, right=right) if _is(left, ident):
            return _signed(_invariant(env, right), op)
        case BinaryE(op="+", left=left, right=right) if _is(right, ident):
            return _invariant(env, left) or IRREGULAR
    inside = any(isinstance(x, Name) and x.ident == ident for x in walk(node.value))
    return IRREGULAR if inside else RESET


def _plain(node: Expression) -> Expression:
    return node.operand if isinstance(node, CastE) and node.implicit else node


def _is(node: Expression, ident: int) -> bool:
    inner = _plain(node)
    return isinstance(inner, Name) and inner.ident == ident


def _signed(value: Affine | None, op: str) -> Change:
    if value is None:
        return IRREGULAR
    return -value if op == "-" else value


def _invariant(env: Environment, node: Expression) -> Affine | None:
    """``node`` as a form of what is around the loop; None where it may change inside."""
    try:
        return form(env, node)
    except (SourceError, RestartError):
        return None


def _change_in_loop(env: Environment, node: ForS, ident: int) -> Change:
    """What a whole inner loop adds: a constant, as often as it surely runs."""
    if ident in _moved(env, [node.init] if node.init is not None else []):
        return RESET
    if ident not in _moved(env, [node]):
        return Affine()
    try:
        node = without_continues(node)
        trial = replace(env, scope=dict(env.scope))
        head = header_of(trial, node)
        body = body_of(head, node)
        inner = _change(_steady(trial, body, head.ident), body, ident)
        trips = _trips(trial, head)
    except (SourceError, RestartError):
        return IRREGULAR
    if not isinstance(inner, Affine) or trips is None:
        return RESET if inner == RESET else IRREGULAR
    return inner * trips


def _trips(env: Environment, head: LoopHeader) -> int | None:
    """How often a loop runs, where that is a number."""
    counted = LoopCounter("$", head, {head.ident: Affine.constant(head.step)}, normalised=True)
    inner = replace(env, scope={**env.scope, **counted.entry(env.scope)})
    bounds = [b for test in head.tests for b in upper_bounds(inner, counted, test)]
    if not all(b.expr.is_constant for b in bounds):
        return None
    return max(0, min(b.expr.const // b.divisor for b in bounds) + 1)
