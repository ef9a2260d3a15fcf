"""The typed tree as C again, for messages and for the text around a region."""

from __future__ import annotations

from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    CallE,
    CastE,
    ConditionalE,
    Expression,
    IndexE,
    ListE,
    MemberE,
    Name,
    Number,
    OtherE,
    UnaryE,
)

LONGEST = 60  # characters of an excerpt
_POSTFIX = 15
_LEVEL = {
    op: level
    for level, ops in enumerate(
        (",", "", "", "||", "&&", "|", "^", "&", "== !=", "< <= > >=", "<< >>", "+ -", "* / %")
    )
    for op in ops.split() or [""]
}
_UNARY = 13


def full_text(node: Expression) -> str:
    """``node`` as C, without the conversions that C makes by itself."""
    return _text(node, 0)


def c_text(node: Expression) -> str:
    """``node`` as C, short enough for a message."""
    text = full_text(node)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _text(node: Expression, level: int) -> str:
    match node:
        case Number(text=text):
            return text
        case Name(name=name):
            return name
        case CastE(implicit=True, operand=operand):
            return _text(operand, level)
        case OtherE(what=what):
            return f"/* {what} */"
        case ListE(items=items):
            return "{" + ", ".join(_text(x, 1) for x in items) + "}"
        case CallE(callee=callee, arguments=arguments):
            return f"{_text(callee, _POSTFIX)}({', '.join(_text(a, 1) for a in arguments)})"
        case IndexE(base=base, index=index):
            return f"{_text(base, _POSTFIX)}[{_text(index, 0)}]"
        case MemberE(base=base, field=field, arrow=arrow):
            return f"{_text(base, _POSTFIX)}{'->' if arrow else '.'}{field}"
        case _:
            return _operator(node, level)


def _operator(node: Expression, level: int) -> str:
    match node:
        case UnaryE(op=op, operand=operand):
            inner = _text(operand, _UNARY)
            text, mine = (inner + op[1:], _POSTFIX) if op[0] == "p" else (op + inner, _UNARY)
        case CastE(operand=operand):
            kind = getattr(node.type, "text", "...")
            text, mine = f"({kind}){_text(operand, _UNARY)}", _UNARY
        case BinaryE(op=op, left=left, right=right):
            mine = _LEVEL[op]
            text = f"{_text(left, mine)} {op} {_text(right, mine + 1)}"
        case AssignE(op=op, target=target, value=value):
            text, mine = f"{_text(target, _UNARY)} {op}= {_text(value, 1)}", 1
        case ConditionalE(condition=condition, yes=yes, no=no):
            text, mine = f"{_text(condition, 3)} ? {_text(yes, 2)} : {_text(no, 2)}", 2
        case _:
            text, mine = "...", _POSTFIX
    return f"({text})" if mine < level else text
