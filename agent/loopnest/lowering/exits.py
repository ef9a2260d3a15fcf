"""Statements that end an iteration or a function early: what follows them is the other branch.

if (a) { x; if (b) continue; y; }        if (a) { x; if (b) ; else { y; z; } }
z;                                  ->   else z;
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.loopnest.frontend.ctree import BlockS, CStatement, IfS, LabelS, OtherS, parts
from agent.loopnest.lowering.state import refusal

MOST_COPIES = 32  # of a statement that several branches come to

Ended = Callable[[CStatement], Sequence[CStatement] | None]


def without_exits(
    items: Sequence[CStatement], ended: Ended, copies: int = MOST_COPIES
) -> tuple[CStatement, ...]:
    """``items`` without the statements that end them early.

    Args:
        items: statements that run one after the other.
        ended: what stands in the place of such a statement; None for all others.
        copies: how often what follows may be written down.

    Raises:
        SourceError: it would have to be written down more often.
    """
    for index, item in enumerate(items):
        if not _may_end(item, ended):
            continue
        before, rest = tuple(items[:index]), tuple(items[index + 1 :])
        match item:
            case BlockS(items=inner):
                return (*before, *without_exits((*inner, *rest), ended, copies))
            case LabelS(statement=held):
                return (*before, *without_exits((held, *rest), ended, copies))
            case IfS():
                return (*before, _both(item, rest, ended, copies))
            case _:
                return (*before, *(ended(item) or ()))
    return tuple(items)


def _both(item: IfS, rest: tuple[CStatement, ...], ended: Ended, copies: int) -> IfS:
    """A choice whose branches go on with ``rest`` where they do not end."""
    yes, no = (item.yes,), () if item.no is None else (item.no,)
    if rest and not any(_ends(branch, ended) for branch in (yes, no)):
        copies //= 2
    if copies == 0:
        raise refusal(
            item.place,
            "more than 5 conditions in a row may end it early",
            "Put what is left out into the else of its if.",
        )
    first, second = (
        BlockS(item.place, without_exits((*branch, *rest), ended, copies)) for branch in (yes, no)
    )
    return IfS(item.place, item.condition, first, second if second.items else None)


def _may_end(item: CStatement, ended: Ended) -> bool:
    """Whether something in ``item`` ends what it stands in; loops end for themselves."""
    if ended(item) is not None:
        return True
    return isinstance(item, BlockS | IfS | LabelS) and any(
        _may_end(part, ended) for part in parts(item) if isinstance(part, CStatement)
    )


def _ends(items: Sequence[CStatement], ended: Ended) -> bool:
    """Whether what follows ``items`` is never reached."""
    for item in items:
        match item:
            case BlockS(items=inner) if _ends(inner, ended):
                return True
            case IfS(yes=yes, no=no) if no and _ends((yes,), ended) and _ends((no,), ended):
                return True
            case LabelS(statement=held) if _ends((held,), ended):
                return True
            case _ if ended(item) is not None:
                return True
    return False


def at_continue(item: CStatement) -> Sequence[CStatement] | None:
    """``continue`` leaves out nothing but the rest of the iteration."""
    return () if isinstance(item, OtherS) and item.what == "continue" else None
