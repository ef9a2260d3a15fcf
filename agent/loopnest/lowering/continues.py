"""``continue``: the rest of the loop's body becomes the other branch of its ``if``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.loopnest.frontend.ctree import BlockS, CStatement, EmptyS, IfS, LabelS, OtherS
from agent.loopnest.lowering.state import refusal

CONTINUE = "continue is read at the end of an if in a loop's body only"
SKIP = "Put what it leaves out into the else of its if."


def skipping(item: CStatement) -> IfS | None:
    """``if (c) { ...; continue; }`` without its ``continue``."""
    if not isinstance(item, IfS) or item.no is not None:
        return None
    body = item.yes.items if isinstance(item.yes, BlockS) else (item.yes,)
    if not body or not isinstance(body[-1], OtherS) or body[-1].what != "continue":
        return None
    return replace(item, yes=BlockS(item.place, body[:-1]))


def without_last(item: CStatement) -> CStatement:
    """The body of a loop without each ``continue`` behind which it ends anyhow."""
    match item:
        case OtherS(what="continue"):
            return EmptyS(item.place)
        case BlockS(items=(*before, last)):
            return replace(item, items=(*before, without_last(last)))
        case IfS(yes=yes, no=no):
            return replace(item, yes=without_last(yes), no=None if no is None else without_last(no))
        case LabelS(statement=inner):
            return replace(item, statement=without_last(inner))
        case _:
            return item


def check_continues(statements: Sequence[CStatement], *, last: bool = True) -> None:
    """Refuses a ``continue`` behind which more of the loop's body than its own block would run.

    Args:
        statements: those of a block.
        last: whether nothing of the loop's body follows the block.

    Raises:
        SourceError: there is one.
    """
    for index, item in enumerate(statements):
        ends = last and index == len(statements) - 1
        skipped = skipping(item)
        if skipped is not None and not last:
            raise refusal(item.place, CONTINUE, SKIP)
        match skipped or item:
            case IfS(yes=yes, no=no):
                for branch in (yes, no):
                    if branch is not None:
                        check_continues((branch,), last=ends or skipped is not None)
            case BlockS(items=inner):
                check_continues(inner, last=ends)
            case LabelS(statement=inner_statement):
                check_continues((inner_statement,), last=ends)
