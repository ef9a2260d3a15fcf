"""C statements as nodes of the IR, in order: which rule reads which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    BlockS,
    CallE,
    CastE,
    CStatement,
    DeclareS,
    DoS,
    EmptyS,
    Expression,
    ExpressionS,
    ForS,
    IfS,
    LabelS,
    Name,
    OtherS,
    ReturnS,
    UnaryE,
    walk,
)
from agent.loopnest.lowering.assignments import assign
from agent.loopnest.lowering.conditions import choose
from agent.loopnest.lowering.declarations import declare
from agent.loopnest.lowering.loops import do_loop, loop
from agent.loopnest.lowering.memory import copied
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    Environment,
    refusal,
)

_WHY = {
    "break": "break is not read here: "
    "how often the loop runs depends on data, or on what `&&` joins",
}


_INSTEAD = {
    "break": "Put `i < last` into the header where the last one is known; where data decides, "
    "nothing helps.",
    "continue": "Put what it leaves out into the else of its if.",
    "goto": "Use if and else for what is jumped over.",
    "switch": "Use if and else.",
}


def items(env: Environment, statements: Sequence[CStatement]) -> None:
    """Lowers statements in order into ``env.out``."""
    for item in statements:
        statement(env, item)


def statement(env: Environment, item: CStatement) -> None:
    """Lowers one statement into ``env.out``."""
    env = replace(env, derived=list(env.kept))
    match item:
        case DeclareS(variables=variables):
            for variable in variables:
                declare(env, variable)
        case ExpressionS(expression=expression):
            effect(env, expression)
        case BlockS(items=inner):
            items(env, inner)
        case IfS():
            choose(env, item)
        case ForS():
            loop(env, item)
        case LabelS(statement=inner, used=False):
            statement(env, inner)
        case EmptyS():
            return
        case DoS():
            do_loop(env, item)
        case ReturnS():
            raise refusal(
                item.place,
                "return is not read inside a loop nest",
                "Keep the result in a variable and return it behind the loops; where data decides "
                "when the loops end, nothing helps.",
            )
        case LabelS():
            raise refusal(item.place, "a label that is jumped to is not read", _INSTEAD["goto"])
        case OtherS(what=what):
            hint = _INSTEAD.get(what, "Leave it out of the loops.")
            raise refusal(item.place, _WHY.get(what, f"{what} is not read"), hint)


def effect(env: Environment, node: Expression) -> None:
    """Lowers an expression for what it does; its value is not used."""
    match node:
        case AssignE():
            assign(env, node)
        case UnaryE(op="++" | "--" | "p++" | "p--"):
            assign(env, replace(node, op=node.op[-2:]))
        case BinaryE(op=",", left=left, right=right):
            effect(env, left)
            effect(env, right)
        case CastE(operand=operand):
            effect(env, operand)
        case CallE(callee=Name() as callee):
            own = env.region.unit.functions.get(callee.ident)
            name = callee.name.removeprefix("__builtin_")
            if own is not None:
                env.region.rules.inline(env, node, own)
            elif name in ("memset", "memcpy", "memmove"):
                copied(env, node, name)
            else:
                raise refusal(
                    node.place,
                    f"a call of {name!r} is not read: it may do anything",
                    "Call it before or behind the loops, or define it in this file or a header.",
                )
        case _ if any(isinstance(x, AssignE | CallE | UnaryE) for x in walk(node)):
            raise refusal(
                node.place,
                f"`{c_text(node)}` is not read as a statement",
                "Write assignments as statements of their own.",
            )
