"""Unroll-and-jam written out as a tree of plain loops.

    for (i = 0; i < 7; i++)             for (i = 0; i < 6; i += 2)
      for (k = 0; k < n; k++)     ->      for (k = 0; k < n; k++)
        s[i] += a[i][k];                    { s[i] += a[i][k]; s[i + 1] += a[i + 1][k]; }
                                        for (i = 6; i < 7; i++)
                                          for (k = 0; k < n; k++)
                                            s[i] += a[i][k];

Every run of neighbouring statements is copied as a whole, copy after copy: that turns round
fewer dependences than copying statement by statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import ScheduleError
from agent.loopnest.emitter import extent
from agent.loopnest.emitter.expanded import Expanded, Expansion, constant_trips, groups
from agent.loopnest.emitter.lanes import in_lanes
from agent.loopnest.emitter.packing import packed
from agent.loopnest.program import (
    Access,
    Affine,
    Bound,
    Loop,
    Node,
    Program,
    Statement,
    loops,
    map_accesses,
    statements,
    substitute_statement,
)

MAX_STATEMENTS = 1024  # that a program may have once its jams are written out


def expand(program: Program) -> Expanded:
    """Writes every loop with ``jam > 1`` as a main loop with copies, and a remainder.

    And blocks of lanes (``lanes``), and what fills the buffers of loops that pack (``packing``).

    Raises:
        ScheduleError: too many copies, bounds of an inner loop depend on a jammed one, or a
            temporary has no block to live in.
    """
    made = Expansion.of(program)
    program, buffers = packed(program, copies=True)
    for buffer in buffers:
        made.add_array(buffer.array.name, buffer.source.array, buffer.home, buffer.array.shape)
    body = _Jams(made).nodes(program.body)
    expanded = replace(program, body=body, temporaries=tuple(made.temporaries.values()))
    return Expanded(expanded, made.remainders, made.homes, made.shapes)


class _Jams:
    def __init__(self, made: Expansion) -> None:
        self.made = made

    def nodes(self, nodes: Sequence[Node], around: tuple[Loop, ...] = ()) -> tuple[Node, ...]:
        return tuple(new for node in nodes for new in self._node(node, around))

    def _node(self, node: Node, around: tuple[Loop, ...]) -> tuple[Node, ...]:
        if isinstance(node, Statement):
            return (node,)
        loop = replace(
            node,
            lower=extent.tightest(node.lower, around, lower=True),
            upper=extent.tightest(node.upper, around, lower=False),
            body=self.nodes(node.body, (*around, node)),
        )
        if loop.lanes > 1:
            return in_lanes(loop, tuple(x.iterator for x in around), self.made)
        return self._jam(loop) if loop.jam > 1 else (loop,)

    def _jam(self, loop: Loop) -> tuple[Node, ...]:
        _check(loop)
        main = replace(groups(loop, loop.jam), body=_copies(loop.body, self._copy_maps(loop)))
        trips = constant_trips(loop)
        begin = self.made.left_over(loop, loop.jam)
        rest = replace(loop, lower=(Bound(begin),), parallel=False, jam=1)
        whole = (main,) if trips is None or trips >= loop.jam else ()
        return (*whole, rest) if trips is None or trips % loop.jam else whole

    def _copy_maps(self, loop: Loop) -> list[_Copy]:
        private = [n for n, home in self.made.homes.items() if loop.iterator in home]
        copies = []
        for number in range(loop.jam):
            renamed = {n: self.made.copy_temporary(n, str(number)) for n in private}
            value = Affine.var(loop.iterator) + number * loop.step
            copies.append(_Copy(number, {loop.iterator: value}, renamed))
        return copies


def _check(loop: Loop) -> None:
    if loop.jam * sum(1 for _ in statements(loop.body)) > MAX_STATEMENTS:
        raise ScheduleError(f"jam {loop.iterator} {loop.jam} writes out too many statements")
    for _, inner in loops(loop.body):
        if any(loop.iterator in b.expr.names for b in (*inner.lower, *inner.upper)):
            raise ScheduleError(
                f"jam {loop.iterator}: the bounds of loop {inner.iterator} depend on it"
            )


@dataclass(frozen=True)
class _Copy:
    number: int
    values: Mapping[str, Affine]
    temporaries: Mapping[str, str]

    def statement(self, statement: Statement) -> Statement:
        """The copy: with temporaries and derived numbers of its own."""
        own = {d.name: f"{d.name}#{self.number}" for d in statement.derived}
        values = {**self.values, **{old: Affine.var(new) for old, new in own.items()}}
        moved = map_accesses(substitute_statement(statement, values), self._renamed)
        derived = tuple(replace(d, name=own[d.name]) for d in moved.derived)
        return replace(moved, derived=derived)

    def _renamed(self, access: Access) -> Access:
        return replace(access, array=self.temporaries.get(access.array, access.array))


def _copies(nodes: Sequence[Node], copies: Sequence[_Copy]) -> tuple[Node, ...]:
    out: list[Node] = []
    run: list[Statement] = []
    for node in (*nodes, None):
        if isinstance(node, Statement):
            run.append(node)
            continue
        out += [copy.statement(s) for copy in copies for s in run]
        run = []
        if node is not None:
            out.append(replace(node, body=_copies(node.body, copies)))
    return tuple(out)
