"""Elements that a loop nest reads, copied into a small buffer in the order in which it walks them.

    for (j_t = 0; j_t < 64; j_t += 16)       for (j_t = 0; j_t < 64; j_t += 16) {
      for (i = 0; i < n; i++)                  float b_pack[100][16];
        for (j = j_t; j < j_t + 16; j++)       for (k = 0; k < 100; k++)
          for (k = 0; k < 100; k++)       ->     for (j = j_t; j < j_t + 16; j++)
            s += a[i][k] * b[j][k];                b_pack[k][j - j_t] = b[j][k];
                                               ... s += a[i][k] * b_pack[k][j - j_t];

The buffer has a dimension for every loop inside that moves the access: in the order in which they
nest, but for a loop in SIMD lanes, which comes last. It is as long as a loop may get whatever those
around it do: of a triangle the whole tile is copied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.errors import ScheduleError
from agent.loopnest.emitter import extent
from agent.loopnest.emitter.transposing import columns_of
from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    Loop,
    Node,
    Program,
    Read,
    Statement,
    all_reads,
    loops,
    map_all_accesses,
    statements,
    substitute_statement,
)

MAX_BYTES = 1 << 18  # of a buffer: it lives on the stack of a thread

_TERM = re.compile(r"[+-]?[^+-]+")
_COPY, _PACK = "#copy", "#pack#"  # in names of iterators that fill buffers, and of buffers


def is_copy(iterator: str) -> bool:
    """Whether a loop fills a buffer."""
    return iterator.endswith(_COPY)


def is_buffer(name: str) -> bool:
    """Whether something declared is a buffer."""
    return _PACK in name


@dataclass(frozen=True)
class Buffer:
    """What a loop packs.

    Attributes:
        array: the buffer; ``home``: the iterators around its declaration.
        source: the access that it stands for; ``moves``: the loops inside that move it, as in the
            buffer.
        place: its subscripts in the buffer.
    """

    array: Array
    home: tuple[str, ...]
    source: Access
    moves: tuple[Loop, ...]
    place: Access

    def copy(self) -> Node:
        """The loops that fill it; what is turned round on the way (``transposing``) innermost."""
        names = {x.iterator: Affine.var(f"{x.iterator}{_COPY}") for x in self.moves}
        body = Statement("", self.place, "", Read(self.source), ())
        nest: Node = substitute_statement(body, names)
        along = columns_of(self.source, [x.iterator for x in self.moves])
        inwards = sorted(self.moves[:-1], key=lambda x: x.iterator == along)
        for loop in reversed((*inwards, self.moves[-1])):
            nest = Loop(f"{loop.iterator}{_COPY}", loop.lower, loop.upper, 1, (nest,))
        return nest

    def instead(self, access: Access) -> Access:
        """What is accessed in place of ``access``."""
        return self.place if access == self.source else access


def packed_read(what: str, loop: Loop, wanted: str) -> Access:
    """The read that the step ``what`` is to pack in ``loop``.

    Args:
        what: the step, for messages.
        loop: the loop.
        wanted: the name of an array of which there is one read inside, or a read of several.

    Raises:
        ScheduleError: there is no such read, or it is not said which, or the array is written.
    """
    name = wanted.partition("[")[0]
    uses = [s for _, s in statements(loop.body) if name in s.uses]
    if any(s.target.array == name for s in uses):
        raise ScheduleError(f"{what}: loop {loop.iterator} writes {name}")
    found = list(dict.fromkeys(a for s in uses for a in all_reads(s) if a.array == name))
    chosen = [a for a in found if wanted == name or _sums(wanted) == _sums(str(a))]
    if len(chosen) == 1:
        return chosen[0]
    why = f"reads {name} in {len(found) or 'no'} different places"
    why = why if wanted == name else f"does not read {wanted}"
    ways = " or ".join(f"pack {a} {loop.iterator}" for a in found)
    raise ScheduleError(
        f"{what}: loop {loop.iterator} {why}",
        hint=f"Say which of them: {ways}." if found else "",
    )


def _sums(read: str) -> list[list[str]]:
    """The terms of the subscripts of an access, each sum in one order."""
    parts = read.replace("]", "").split("[")
    return [sorted(t.removeprefix("+") for t in _TERM.findall(part)) for part in parts]


def buffer_of(program: Program, around: tuple[Loop, ...], loop: Loop, source: Access) -> Buffer:
    """How ``loop`` packs a read of an array.

    Raises:
        ScheduleError: it cannot.
    """
    what = f"pack {source} {loop.iterator}"
    array = program.array(source.array)
    if not array.sure:
        raise ScheduleError(
            f"{what}: nothing says that {array.name} has all the elements that would be copied",
            hint=f"Declare the parameter with its extent: {array.name}[n].",
        )
    inner = next(inner for inner, s in statements(loop.body) if source in all_reads(s))
    nest, names = (*around, loop), frozenset[str]().union(*(s.names for s in source.subscripts))
    boxes = [_box(x, inner[:at], nest) for at, x in enumerate(inner)]
    moves = tuple(x for x in boxes if x.iterator in names)
    _refuse(what, program, source, nest, moves)
    order = [*(x for x in moves if not x.vector), *(x for x in moves if x.vector)]
    place = tuple(Affine.var(x.iterator) - x.lower[0].expr for x in order)
    title = _title(loop, source)
    packed = Buffer(
        Array(title, array.dtype, tuple(_trips(what, x) for x in order)),
        tuple(x.iterator for x in nest),
        source,
        tuple(order),
        Access(title, place),
    )
    if packed.array.bytes > MAX_BYTES:
        raise ScheduleError(
            f"{what}: that would take {packed.array.bytes} bytes, more than {MAX_BYTES}",
            hint="Tile the loops inside, and pack in the loop over the tiles.",
        )
    return packed


def _title(loop: Loop, source: Access) -> str:
    """What the buffer is called; loops are told apart, and reads of one array in a loop."""
    title = f"{source.array}{_PACK}{loop.iterator}"
    before = [x.array for x in loop.packs[: loop.packs.index(source)]]
    return title + "'" * before.count(source.array)


def _box(loop: Loop, between: Sequence[Loop], nest: Sequence[Loop]) -> Loop:
    """``loop`` with bounds that hold in all iterations of the loops ``between`` it and ``nest``."""
    lower, upper = loop.lower, loop.upper
    for outer in reversed(between):
        whole = replace(outer, upper=tuple(extent.uppers(outer)))
        lower = extent.extremes(lower, whole, smallest=True)
        upper = extent.extremes(upper, whole, smallest=False)
    if not (lower and upper):  # those of a loop between are quotients
        return loop
    return replace(loop, lower=extent.tightest(lower, nest, lower=True), upper=upper)


def _refuse(
    what: str, program: Program, source: Access, nest: Sequence[Loop], moves: Sequence[Loop]
) -> None:
    outside = {x.iterator for x in nest}
    moving = {x.iterator for x in moves}
    unknown = [n for s in source.subscripts for n in s.names if n not in outside | moving]
    if unknown or not moves:
        why = "depends on data" if unknown else "is not moved by any loop inside"
        raise ScheduleError(f"{what}: the subscript {why}")
    for loop in moves:
        if loop.step != 1 or len(loop.lower) > 1 or loop.lower[0].divisor > 1:
            raise ScheduleError(f"{what}: loop {loop.iterator} has a step, or several lower bounds")
        for bound in (*loop.lower, *loop.upper):
            if not bound.expr.names <= outside:
                raise ScheduleError(f"{what}: the bounds of loop {loop.iterator} depend on others")
    if not in_bounds(program, source, (*nest, *moves)):
        raise ScheduleError(f"{what}: it might copy what is outside of the array")


def in_bounds(program: Program, access: Access, around: Sequence[Loop]) -> bool:
    """Whether ``access`` provably stays inside its array, whatever the inner loops do."""
    shape = program.array(access.array).shape
    return all(
        extent.least(s, around) >= 0 and extent.greatest(s, around) < n
        for s, n in zip(access.subscripts, shape, strict=True)
    )


def _trips(what: str, loop: Loop) -> int:
    gaps = [b.expr - loop.lower[0].expr for b in loop.upper if b.divisor == 1]
    known = [gap.const for gap in gaps if gap.is_constant]
    if not known:
        raise ScheduleError(
            f"{what}: the length of loop {loop.iterator} varies",
            hint=f"Tile loop {loop.iterator} first.",
        )
    return max(1, min(known) + 1)


def packed(program: Program, *, copies: bool) -> tuple[Program, tuple[Buffer, ...]]:
    """``program`` with what its loops pack read from buffers; ``copies``: which loops fill.

    Raises:
        ScheduleError: a loop cannot pack what it should.
    """
    if not any(loop.packs for _, loop in loops(program.body)):
        return program, ()
    buffers: list[Buffer] = []

    def rebuilt(nodes: Sequence[Node], around: tuple[Loop, ...]) -> tuple[Node, ...]:
        return tuple(one(node, around) if isinstance(node, Loop) else node for node in nodes)

    def one(loop: Loop, around: tuple[Loop, ...]) -> Loop:
        own = [buffer_of(program, around, loop, source) for source in loop.packs]
        buffers.extend(own)
        body = rebuilt(loop.body, (*around, loop))
        for buffer in own:
            body = map_all_accesses(body, buffer.instead)
        fills = tuple(buffer.copy() for buffer in own) if copies else ()
        return replace(loop, body=(*fills, *body), packs=())

    return program.with_body(rebuilt(program.body, ())), tuple(buffers)
