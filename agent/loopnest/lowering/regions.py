"""Which statements of a function are a region: between pragmas, or runs of loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    BlockS,
    CallE,
    CastE,
    CFunction,
    CStatement,
    DeclareS,
    DoS,
    EmptyS,
    ExpressionS,
    ForS,
    IfS,
    LabelS,
    MemberE,
    Name,
    Number,
    Tree,
    UnaryE,
    walk,
)
from agent.loopnest.lowering.state import (
    STEPS,
)
from agent.loopnest.lowering.uses import used
from agent.loopnest.program import FUNCTIONS

PRAGMAS = "Put #pragma scop before and #pragma endscop after the loops, in one block."


_IN_RUN = ForS | DoS | DeclareS | ExpressionS | EmptyS


@dataclass(frozen=True)
class LoopNest:
    """A run of statements in one block of a function.

    Attributes:
        items: the statements.
        before: those that run before them, outermost block first, in order.
        around: statements that hold the block and may run it again, or not at all.
    """

    items: tuple[CStatement, ...]
    before: tuple[CStatement, ...] = ()
    around: tuple[CStatement, ...] = ()

    @property
    def first_line(self) -> int:
        """The line where it begins."""
        return self.items[0].place.line

    @property
    def last_line(self) -> int:
        """The line where it ends."""
        return self.items[-1].place.last_line


def marked(function: CFunction, marks: Sequence[tuple[int, bool]]) -> list[LoopNest]:
    """The regions between pragmas, in order.

    Raises:
        SourceError: a pragma is missing, or both stand in no one block.
    """
    place = function.place
    mine = [m for m in marks if place.line <= m[0] <= place.last_line]
    found = []
    for index in range(0, len(mine), 2):
        line, opens = mine[index]
        if not opens:
            raise SourceError(
                f"{place.file}:{line}:1: #pragma endscop without #pragma scop", PRAGMAS
            )
        if index + 1 == len(mine) or mine[index + 1][1]:
            raise SourceError(f"{place.file}:{line}:1: #pragma endscop is missing", PRAGMAS)
        part = _between(function.body.items, line, mine[index + 1][0], (), ())
        if part is None:
            raise SourceError(
                f"{place.file}:{line}:1: the region has no statements",
                PRAGMAS,
            )
        found.append(part)
    return found


def _between(
    items: Sequence[CStatement],
    first: int,
    last: int,
    before: tuple[CStatement, ...],
    around: tuple[CStatement, ...],
) -> LoopNest | None:
    """The statements between two lines, in the innermost block that holds them."""
    inside = [n for n, x in enumerate(items) if first < x.place.line and x.place.last_line < last]
    if inside:
        chosen = tuple(items[inside[0] : inside[-1] + 1])
        return LoopNest(chosen, (*before, *items[: inside[0]]), around)
    for index, item in enumerate(items):
        if item.place.line <= first and last <= item.place.last_line:
            for inner in _blocks(item):
                outer = (*before, *items[:index])
                found = _between(inner, first, last, outer, (*around, item))
                if found is not None:
                    return found
    return None


def _blocks(item: CStatement) -> Iterator[Sequence[CStatement]]:
    """The blocks that a statement holds."""
    match item:
        case BlockS(items=items):
            yield items
        case ForS(body=body) | DoS(body=body):
            yield body.items if isinstance(body, BlockS) else (body,)
        case IfS(yes=yes, no=no):
            for branch in (yes, no):
                if branch is not None:
                    yield branch.items if isinstance(branch, BlockS) else (branch,)
        case LabelS(statement=inner):
            yield (inner,)


def nests(function: CFunction) -> list[LoopNest]:
    """Runs of loops, with simple statements between them, in order."""
    return list(_runs(function.body.items, (), ()))


def inner_nests(part: LoopNest) -> list[LoopNest]:
    """The runs within the loops of ``part``."""
    found: list[LoopNest] = []
    for index, item in enumerate(part.items):
        if isinstance(item, ForS | DoS | IfS):
            before = (*part.before, *part.items[:index])
            for block in _blocks(item):
                found += _runs(block, before, (*part.around, item))
    return found


def _runs(
    items: Sequence[CStatement], before: tuple[CStatement, ...], around: tuple[CStatement, ...]
) -> Iterator[LoopNest]:
    loops: list[int] = []  # of the run so far
    for index, item in enumerate(items):
        if counts(item):
            loops.append(index)
            continue
        if not _is_simple(item):
            yield from _run(items, loops, before, around)
            loops = []
        for block in _blocks(item):
            yield from _runs(block, (*before, *items[:index]), (*around, item))
    yield from _run(items, loops, before, around)


def _run(
    items: Sequence[CStatement],
    loops: Sequence[int],
    before: tuple[CStatement, ...],
    around: tuple[CStatement, ...],
) -> Iterator[LoopNest]:
    """The statements from the first of ``loops`` to the last.

    What one declares that is used behind the last loop would be gone there: it parts the run.
    """
    if not loops:
        return
    start, end = loops[0], loops[-1] + 1
    later = used(items[end:]).keys()
    for index in range(start, end):
        item = items[index]
        if isinstance(item, DeclareS) and later & {v.ident for v in item.variables}:
            yield from _run(items, [n for n in loops if n < index], before, around)
            yield from _run(items, [n for n in loops if n > index], before, around)
            return
    yield LoopNest(tuple(items[start:end]), (*before, *items[:start]), around)


def counts(item: CStatement) -> bool:
    """Whether a statement is a loop that seems to count.

    That is a ``for`` with a first or a last part; without them, as in ``while (i < n)``, something
    in the condition goes up or down, and nothing in it is computed otherwise or read from memory.
    """
    if not isinstance(item, ForS | DoS):
        return False
    if isinstance(item, ForS) and (item.init is not None or item.step is not None):
        return True
    if item.condition is None:
        return isinstance(item, ForS)  # told why it is not read
    named = used([item.condition])
    moved = [x for x in walk(item) if (name := _changed(x)) is not None and name.ident in named]
    return all(map(_is_number, walk(item.condition))) and bool(moved) and all(map(_is_step, moved))


def _is_number(node: Tree) -> bool:
    """Whether a part of a condition is made of variables and numbers alone."""
    if isinstance(node, UnaryE):
        return node.op not in ("*", "&")
    return isinstance(node, Name | Number | BinaryE | CastE | MemberE)


def _changed(node: Tree) -> Name | None:
    """The variable that an assignment or a step changes."""
    match node:
        case AssignE(target=Name() as name):
            return name
        case UnaryE(op=op, operand=Name() as name) if op in STEPS:
            return name
    return None


def _is_step(node: Tree) -> bool:
    """Whether something goes up or down: ``i++``, ``i += 2``, ``i = i + 2``."""
    match node:
        case AssignE(op="", target=Name(ident=ident), value=value):
            while isinstance(value, CastE) and value.implicit:
                value = value.operand
            return isinstance(value, BinaryE) and value.op in "+-" and ident in used([value])
        case AssignE(op=op):
            return op in ("+", "-")
    return isinstance(node, UnaryE)


def _is_simple(item: CStatement) -> bool:
    """Whether a statement may stand between two loops of a region."""
    if not isinstance(item, _IN_RUN):
        return False
    calls = [x.callee for x in walk(item) if isinstance(x, CallE)]
    return all(isinstance(c, Name) and c.name in FUNCTIONS for c in calls)
