"""Elements that a loop nest reads, copied into a small buffer in the order in which it walks them.

    for (j_t = 0; j_t < 64; j_t += 16)       for (j_t = 0; j_t < 64; j_t += 16) {
      for (i = 0; i < n; i++)                  float b_pack[100][16];
        for (j = j_t; j < j_t + 16; j++)       for (k = 0; k < 100; k++)
          for (k = 0; k < 100; k++)       ->     for (j = j_t; j < j_t + 16; j++)
            s += a[i][k] * b[j][k];                b_pack[k][j - j_t] = b[j][k];
                                               ... s += a[i][k] * b_pack[k][j - j_t];

The buffer has a dimension for every loop inside that moves the access: in the order in which they
nest, but for a loop in SIMD lanes, which comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.errors import ScheduleError
from agent.loopnest.emitter import extent
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
        """The loops that fill it."""
        names = {x.iterator: Affine.var(f"{x.iterator}{_COPY}") for x in self.moves}
        body = Statement("", self.place, "", Read(self.source), ())
        nest: Node = substitute_statement(body, names)
        for loop in reversed(self.moves):
            nest = Loop(f"{loop.iterator}{_COPY}", loop.lower, loop.upper, 1, (nest,))
        return nest

    def instead(self, access: Access) -> Access:
        """What is accessed in place of ``access``."""
        return self.place if access == self.source else access


def buffer_of(program: Program, around: tuple[Loop, ...], loop: Loop, name: str) -> Buffer:
    """How ``loop`` packs the array ``name``.

    Raises:
        ScheduleError: it cannot.
    """
    what = f"pack {name} {loop.iterator}"
    if not program.array(name).sure:
        raise ScheduleError(
            f"{what}: nothing says that {name} has all the elements that would be copied",
            hint=f"Declare the parameter with its extent: {name}[n].",
        )
    uses = [(inner, s) for inner, s in statements(loop.body) if name in s.uses]
    if any(s.target.array == name for _, s in uses):
        raise ScheduleError(f"{what}: loop {loop.iterator} writes {name}")
    found = {a: inner for inner, s in uses for a in all_reads(s) if a.array == name}
    if len(found) != 1:
        raise ScheduleError(
            f"{what}: loop {loop.iterator} reads {name} in {len(found) or 'no'} different places",
            hint="What is packed is read by one subscript each.",
        )
    (source, inner), nest = found.popitem(), (*around, loop)
    names = frozenset[str]().union(*(s.names for s in source.subscripts))
    moves = tuple(x for x in inner if x.iterator in names)
    _refuse(what, program, source, nest, moves)
    order = [*(x for x in moves if not x.vector), *(x for x in moves if x.vector)]
    place = tuple(Affine.var(x.iterator) - x.lower[0].expr for x in order)
    array = program.array(name)
    shape = tuple(_trips(what, x) for x in order)
    title = f"{name}{_PACK}{loop.iterator}"
    packed = Buffer(
        Array(title, array.dtype, shape),
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
        lower = loop.lower[0]
        if loop.step != 1 or len(loop.lower) > 1 or lower.divisor > 1:
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
        own = [buffer_of(program, around, loop, name) for name in loop.packs]
        buffers.extend(own)
        body = rebuilt(loop.body, (*around, loop))
        for buffer in own:
            body = map_all_accesses(body, buffer.instead)
        fills = tuple(buffer.copy() for buffer in own) if copies else ()
        return replace(loop, body=(*fills, *body), packs=())

    return program.with_body(rebuilt(program.body, ())), tuple(buffers)
