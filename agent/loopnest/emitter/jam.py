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
from dataclasses import dataclass, field, replace

from agent.errors import ScheduleError
from agent.loopnest.emitter import extent
from agent.loopnest.emitter.lifetimes import homes
from agent.loopnest.program import (
    Access,
    Affine,
    Bound,
    Loop,
    Node,
    Program,
    Statement,
    Temporary,
    loops,
    map_accesses,
    statements,
    substitute_statement,
)

MAX_STATEMENTS = 1024  # that a program may have once its jams are written out


@dataclass(frozen=True)
class Remainder:
    """Where the loop over the iterations left by a main loop begins (not affine).

    ``lower + (upper - lower + step) / step / factor * factor * step``.
    """

    of: Loop
    factor: int


@dataclass(frozen=True)
class Expanded:
    """A program without jams.

    Attributes:
        program: it may use the names in ``remainders`` in lower bounds.
        remainders: first values of remainder loops.
        homes: for each temporary, the iterators around its declaration.
    """

    program: Program
    remainders: Mapping[str, Remainder] = field(default_factory=dict)
    homes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def expand(program: Program) -> Expanded:
    """Writes every loop with ``jam > 1`` as a main loop with copies, and a remainder.

    Raises:
        ScheduleError: too many copies, bounds of an inner loop depend on a jammed one, or a
            temporary has no block to live in.
    """
    writer = _Jams(dict(homes(program)), {t.name: t for t in program.temporaries})
    body = writer.nodes(program.body)
    expanded = replace(program, body=body, temporaries=tuple(writer.temporaries.values()))
    return Expanded(expanded, writer.remainders, writer.homes)


class _Jams:
    def __init__(
        self, homes: dict[str, tuple[str, ...]], temporaries: dict[str, Temporary]
    ) -> None:
        self.homes = homes
        self.temporaries = temporaries
        self.remainders: dict[str, Remainder] = {}

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
        return self._jam(loop) if loop.jam > 1 else (loop,)

    def _jam(self, loop: Loop) -> tuple[Node, ...]:
        _check(loop)
        stride = loop.jam * loop.step
        missing = stride - loop.step  # of the last iteration, for a whole group of copies
        main = replace(
            loop,
            upper=tuple(Bound(b.expr - missing * b.divisor, b.divisor) for b in loop.upper),
            step=stride,
            jam=1,
            body=_copies(loop.body, self._copy_maps(loop)),
        )
        trips = _constant_trips(loop)
        if trips is None:
            begin = Affine.var(f"{loop.iterator}#rest")
            self.remainders[str(begin)] = Remainder(loop, loop.jam)
        else:
            begin = loop.lower[0].expr + trips // loop.jam * stride
        rest = replace(loop, lower=(Bound(begin),), parallel=False, jam=1)
        whole = (main,) if trips is None or trips >= loop.jam else ()
        return (*whole, rest) if trips is None or trips % loop.jam else whole

    def _copy_maps(self, loop: Loop) -> list[_Copy]:
        private = [n for n, home in self.homes.items() if loop.iterator in home]
        copies = []
        for number in range(loop.jam):
            renamed = {n: f"{n}#{number}" for n in private}
            for old, new in renamed.items():
                self.homes[new] = self.homes[old]
                self.temporaries[new] = replace(self.temporaries[old], name=new)
            value = Affine.var(loop.iterator) + number * loop.step
            copies.append(_Copy(number, {loop.iterator: value}, renamed))
        return copies


def _constant_trips(loop: Loop) -> int | None:
    """The number of iterations where it is the same number whenever the loop is reached."""
    bounds = (*loop.lower, *loop.upper)
    if len(bounds) > 2 or any(b.divisor != 1 for b in bounds):
        return None
    gap = loop.upper[0].expr - loop.lower[0].expr
    return max(0, gap.const // loop.step + 1) if gap.is_constant else None


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
