"""Loops whose trip count is known beforehand, and what the variables are behind them.

Everything that an iteration adds a constant to is affine in the number of the iteration: the
iterator of the header is only the one that the condition bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    DoS,
    ForS,
)
from agent.loopnest.lowering.headers import body_of, without_continues, without_steps
from agent.loopnest.lowering.increments import changes_by, header_of
from agent.loopnest.lowering.iteration import (
    Counter,
    LoopCounter,
    is_normalised,
    outer_loop,
    plus,
    times,
)
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    MAX_LOOPS,
    Environment,
    Known,
    Pointer,
    Unknown,
    refusal,
)
from agent.loopnest.lowering.trips import surely_runs, upper_bounds, verify
from agent.loopnest.lowering.values import constant
from agent.loopnest.program import Affine, Loop, reads, statements


def loop(env: Environment, node: ForS) -> None:
    """Lowers a for loop into ``env.out``.

    Raises:
        SourceError: how often it runs is not known beforehand, or something in it is not read.
        RestartError: a variable has to be data.
    """
    if len(env.around) == MAX_LOOPS:
        raise refusal(
            node.place,
            f"loops are nested more than {MAX_LOOPS} deep",
            "Put #pragma scop around the inner loops, or the inner loops into a function.",
        )
    node = without_continues(node)
    outside = dict(env.scope)
    here = replace(env, scope=dict(env.scope))
    head = header_of(here, node)
    body = body_of(head, node)
    changes = changes_by(here, body, head)
    name = env.region.names.fresh(head.name)
    counted = LoopCounter(name, head, changes, normalised=is_normalised(head, changes))
    inner = replace(here, scope={**here.scope, **counted.entry(here.scope)})
    upper = (upper_bounds(inner, counted, test) for test in head.tests)
    around = replace(outer_loop(counted), upper=tuple(b for found in upper for b in found))
    verify(inner, counted, around)
    inside = replace(
        inner,
        around=(*env.around, around),
        out=[],
        facts=[],
        given=set(env.given),
        scope=dict(inner.scope),
    )
    env.region.rules.items(inside, body)
    _close(env, inside, around)
    for ident in outside:
        env.scope[ident] = here.scope[ident]
    _leave(env, outside, inside, counted, around)


def _close(env: Environment, inside: Environment, around: Loop) -> None:
    """Appends the loop, and keeps what is known behind it."""
    if inside.out:
        env.out.append(replace(around, body=tuple(inside.out)))
    changed = {s.target.array for _, s in statements(tuple(inside.out))}
    env.facts[:] = [f for f in env.facts if not changed & {r.array for r in reads(f)}]
    if surely_runs(inside):
        env.given.update(inside.given)


def do_loop(env: Environment, node: DoS) -> None:
    """Lowers ``do ... while``: a loop whose condition holds when it is first reached.

    Raises:
        SourceError: it is not known to hold then, or as ``loop``.
    """
    test, steps = without_steps(node.condition, after=True)
    if any(step.op[0] == "p" for step in steps) or constant(env, test) in (0, None):
        raise refusal(
            node.place,
            f"a do loop runs once at least, and it is not known whether `{c_text(test)}` at first",
            "Write it as a for loop, or give the sizes of its condition with --size.",
        )
    loop(env, ForS(node.place, None, test, steps[0] if steps else None, node.body))


def _leave(
    env: Environment,
    before: Mapping[int, object],
    inside: Environment,
    counted: LoopCounter,
    around: Loop,
) -> None:
    """What variables are after the loop."""
    trips = _trip_form(inside, around)
    entry = counted.entry(env.scope)
    for ident, change in counted.changes.items():
        start = env.scope.get(ident) if ident != counted.head.ident else None
        if ident == counted.head.ident:
            start = Known(counted.head.starts[0], counted.head.dtype)
        if ident not in before:
            continue
        symbolic = isinstance(entry[ident], Known) or getattr(entry[ident], "symbolic", False)
        after: Counter | Unknown = Unknown("its value after the loop is not known", symbolic)
        single = len(counted.head.starts) == 1
        if trips is not None and isinstance(change, Affine) and isinstance(start, Known | Pointer):
            moved = times(trips, change, 1) if change.is_constant or trips.is_constant else None
            if moved is not None and (single or ident != counted.head.ident):
                after = plus(start, moved)
        env.scope[ident] = after
    if counted.head.first:
        env.scope[counted.head.ident] = Unknown("the condition counts", symbolic=True)


def _trip_form(inside: Environment, around: Loop) -> Affine | None:
    """How often the loop runs, as a form of what is around it."""
    if len(around.upper) != 1 or len(around.lower) != 1:
        numbers = [b.expr for b in (*around.lower, *around.upper)]
        if not all(n.is_constant for n in numbers):
            return None
        low = max(b.expr.const for b in around.lower)
        high = min(b.expr.const // b.divisor for b in around.upper)
        return Affine.constant(max(0, (high - low) // around.step + 1))
    low_expr, bound = around.lower[0].expr, around.upper[0]
    span = bound.expr - low_expr * bound.divisor
    if span.is_constant:
        return Affine.constant(max(0, span.const // bound.divisor // around.step + 1))
    if bound.divisor == around.step == 1 and surely_runs(inside):
        return span + 1
    return None
