"""Unroll-and-jam written out as a tree of plain loops.

    for (i = 0; i < 7; i++)             for (i = 0; i < 6; i += 2)
      for (k = 0; k < n; k++)     ->      for (k = 0; k < n; k++)
        s[i] += a[i][k];                    { s[i] += a[i][k]; s[i + 1] += a[i + 1][k]; }
                                        for (i = 6; i < 7; i++)
                                          for (k = 0; k < n; k++)
                                            s[i] += a[i][k];

Every run of neighbouring statements is copied as a whole, copy after copy: that turns round
fewer dependences than copying statement by statement. Inner loops whose range moves with the
jammed one are split (``staggered``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import ScheduleError
from agent.loopnest.emitter import extent
from agent.loopnest.emitter.expanded import Expanded, Expansion, constant_trips, groups
from agent.loopnest.emitter.lanes import in_lanes, rows_apart
from agent.loopnest.emitter.packing import packed
from agent.loopnest.emitter.staggered import each_name, is_staggered, parts, refuse_staggered
from agent.loopnest.emitter.streaming import streamed
from agent.loopnest.program import (
    Access,
    Affine,
    Bound,
    Loop,
    Node,
    Program,
    Statement,
    map_accesses,
    map_all_accesses,
    statement_runs,
    statements,
    substitute_statement,
)

MAX_STATEMENTS = 1024  # that a program may have once its jams are written out


def expand(program: Program) -> Expanded:
    """Writes every loop with ``jam > 1`` as a main loop with copies, and a remainder.

    And blocks of lanes (``lanes``), and what fills the buffers of loops that pack (``packing``).

    Raises:
        ScheduleError: too many copies, the range of an inner loop moves with a jammed one in a way
            that cannot be split, or a temporary has no block to live in.
    """
    made = Expansion.of(program)
    program, buffers = packed(program, copies=True)
    for buffer in buffers:
        made.add_array(buffer.array.name, buffer.source.array, buffer.home, buffer.array.shape)
    body = rows_apart(_Jams(made).nodes(program.body))
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
        )
        if loop.jam > 1 and is_staggered(loop):
            return self._staggered(loop, around)
        loop = replace(loop, body=self.nodes(node.body, (*around, node)))
        if loop.lanes > 1:
            return in_lanes(loop, tuple(x.iterator for x in around), self.made)
        if loop.stream:
            return streamed(loop, tuple(x.iterator for x in around), self.made)
        return self._jam(loop) if loop.jam > 1 else (loop,)

    def _staggered(self, loop: Loop, around: tuple[Loop, ...]) -> tuple[Loop, ...]:
        """The jam first, then what is inside: its parts differ in their bounds."""
        out = []
        for made in self._jam(loop):
            known = loop if made.step == loop.step else made  # where a remainder begins is unknown
            out.append(replace(made, body=self.nodes(made.body, (*around, known))))
        return tuple(out)

    def _jam(self, loop: Loop) -> tuple[Loop, ...]:
        _check(loop, self.made.homes)
        main = replace(groups(loop, loop.jam), body=self._round(loop).of(loop.body))
        trips = constant_trips(loop)
        begin = self.made.left_over(loop, loop.jam)
        rest = replace(loop, lower=(Bound(begin),), parallel=False, jam=1)
        whole = (main,) if trips is None or trips >= loop.jam else ()
        return (*whole, rest) if trips is None or trips % loop.jam else whole

    def _round(self, loop: Loop) -> _Round:
        """What a round of ``loop`` consists of: its copies, of which each has temporaries."""
        made, copies = self.made, []
        private = [n for n, home in made.homes.items() if loop.iterator in home]
        for number in range(loop.jam):
            renamed = {n: made.copy_temporary(n, str(number)) for n in private}
            value = Affine.var(loop.iterator) + number * loop.step
            copies.append(_Copy(number, {loop.iterator: value}, renamed))
        return _Round(loop, tuple(copies), made)


def _check(loop: Loop, homes: Mapping[str, tuple[str, ...]]) -> None:
    if loop.jam * sum(1 for _ in statements(loop.body)) > MAX_STATEMENTS:
        raise ScheduleError(f"jam {loop.iterator} {loop.jam} writes out too many statements")
    refuse_staggered(f"jam {loop.iterator}", loop, homes)


@dataclass(frozen=True)
class _Copy:
    number: int
    values: Mapping[str, Affine]
    temporaries: Mapping[str, str]

    def statement(self, statement: Statement) -> Statement:
        """The copy: with temporaries and derived numbers of its own."""
        own = {d.name: f"{d.name}#{self.number}" for d in statement.derived}
        values = {**self.values, **{old: Affine.var(new) for old, new in own.items()}}
        moved = map_accesses(substitute_statement(statement, values), _renaming(self.temporaries))
        derived = tuple(replace(d, name=own[d.name]) for d in moved.derived)
        return replace(moved, derived=derived)


@dataclass(frozen=True)
class _Round:
    """The copies of a jammed loop that run together."""

    loop: Loop
    copies: tuple[_Copy, ...]
    made: Expansion

    def of(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """``nodes``, from the body of the loop, for all copies."""
        out: list[Node] = []
        for part in statement_runs(nodes):
            if isinstance(part, Loop):
                out += self._inner(part)
            else:
                out += [copy.statement(s) for copy in self.copies for s in part]
        return tuple(out)

    def _inner(self, inner: Loop) -> tuple[Node, ...]:
        before, common, after = parts(inner, self.loop)
        together = replace(common, body=self.of(common.body))
        own = _renaming(self._temporaries(inner) if before or after else {})
        return (*map_all_accesses(before, own), together, *map_all_accesses(after, own))

    def _temporaries(self, inner: Loop) -> dict[str, str]:
        """Temporaries of ``inner`` for what runs of it copy after copy."""
        found = {}
        for name in [n for n, h in self.made.homes.items() if inner.iterator in h]:
            if name in inner.uses:
                home = self.made.homes[name]
                at = home.index(inner.iterator)
                found[name] = self.made.copy_temporary(name, f"each#{inner.iterator}")
                self.made.homes[found[name]] = (*home[:at], each_name(self.loop), *home[at:])
        return found


def _renaming(names: Mapping[str, str]) -> Callable[[Access], Access]:
    return lambda access: Access(names.get(access.array, access.array), access.subscripts)
