"""``if`` and ``else``: what is run under a condition, and what is known behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    BlockS,
    CallE,
    CastE,
    ConditionalE,
    CStatement,
    EmptyS,
    Expression,
    ExpressionS,
    IfS,
    Name,
    UnaryE,
    walk,
)
from agent.loopnest.lowering.assignments import assign, temporary, write
from agent.loopnest.lowering.forms import integer_type
from agent.loopnest.lowering.printing import full_text
from agent.loopnest.lowering.state import (
    STEPS,
    Environment,
    Known,
    Scope,
    Unknown,
)
from agent.loopnest.lowering.values import (
    condition,
    constant,
    negated,
    truth,
)
from agent.loopnest.program import (
    FUNCTIONS,
    DType,
    Expr,
    Read,
)
from agent.loopnest.program import (
    walk as walk_expr,
)


def choose(env: Environment, node: IfS) -> None:
    """Lowers ``if`` and ``else``; a branch that sizes decide against is left out."""
    known = constant(env, node.condition)
    if known is not None:
        chosen = node.yes if known else node.no
        if chosen is not None:
            env.region.rules.items(env, (chosen,))
        return
    if (update := _extreme_update(env, node)) is not None:
        assign(env, update)
        return
    told = test = condition(env, node.condition)
    derives = len(env.derived) > len(env.kept)
    if is_data(test) and (derives or _effects(env, node.yes) + _effects(env, node.no) > 1):
        test = _kept(env, node, test)
    branches = [_branch(env, node.yes, test, told)]
    if node.no is not None:
        branches.append(_branch(env, node.no, negated(test), negated(told)))
        env.given.update(branches[0].given & branches[1].given)
    env.facts[:] = [f for f in env.facts if all(f in branch.facts for branch in branches)]
    _merge(env, [branch.scope for branch in branches])


def _extreme_update(env: Environment, node: IfS) -> AssignE | None:
    """``if (x > m) m = x;`` of whole numbers as ``m = x > m ? x : m``: the greatest in any order.

    ``m`` is a variable of its own: where it is not assigned, assigning it again changes nothing.
    """
    inner = node.yes
    if isinstance(inner, BlockS) and len(inner.items) == 1:
        (inner,) = inner.items
    match inner, node.condition:
        case (
            ExpressionS(expression=AssignE(op="", target=Name() as name, value=value) as update),
            BinaryE(op="<" | "<=" | ">" | ">=", left=left, right=right),
        ) if node.no is None and name.ident in env.region.decisions.data:
            kinds = {integer_type(_bare(x).type) for x in (name, value, left, right)}
            texts = {full_text(name), full_text(value)}
            pure = not any(isinstance(x, AssignE | CallE | UnaryE) for x in walk(value))
            if pure and len(kinds) == 1 and {full_text(left), full_text(right)} == texts:
                choice = ConditionalE(node.place, name.type, node.condition, value, name)
                return replace(update, value=choice)
    return None


def _bare(node: Expression) -> Expression:
    return _bare(node.operand) if isinstance(node, CastE) and node.implicit else node


def _branch(env: Environment, body: CStatement, test: Expr, told: Expr) -> Environment:
    """Lowers one branch of a condition; what is known at its end."""
    inner = replace(
        env,
        scope=dict(env.scope),
        given=set(env.given),
        conditions=(*env.conditions, test),
        facts=[*env.facts, told],
    )
    env.region.rules.items(inner, (body,))
    return inner


def _merge(env: Environment, scopes: Sequence[Scope]) -> None:
    """A symbolic variable that a branch changed has no one form afterwards."""
    for ident, before in list(env.scope.items()):
        after = [scope.get(ident) for scope in scopes]
        if all(x == before for x in after):
            continue
        number = isinstance(before, Known) or (isinstance(before, Unknown) and before.symbolic)
        env.scope[ident] = Unknown("a condition decides what it is", symbolic=number)


def is_data(test: Expr) -> bool:
    """Whether something in ``test`` is read from memory."""
    return any(isinstance(x, Read) for x in walk_expr(test))


def _effects(env: Environment, body: CStatement | None) -> int:
    """How often a branch changes something, at least; 2 where it is not a single statement."""
    if body is None or isinstance(body, EmptyS):
        return 0
    if isinstance(body, BlockS):
        return sum(_effects(env, item) for item in body.items)
    if not isinstance(body, ExpressionS):
        return 2
    changes = sum(
        isinstance(x, AssignE) or (isinstance(x, UnaryE) and x.op in STEPS) for x in walk(body)
    )
    return changes + 2 * sum(_is_more(env, x) for x in walk(body) if isinstance(x, CallE))


def _is_more(env: Environment, node: CallE) -> bool:
    """Whether a call may change something, often: of a function of the file, or of memset."""
    if not isinstance(node.callee, Name) or node.callee.ident in env.region.unit.functions:
        return True
    return node.callee.name.removeprefix("__builtin_") not in FUNCTIONS


def _kept(env: Environment, node: IfS, test: Expr) -> Expr:
    """A condition on data is evaluated once: what runs under it may change the data."""
    flag = temporary(env, "is", DType.I32)
    write(env, node.place, flag, True, "", truth(test))
    return Read(flag)
