"""Where the statements of a transformed program run, in terms of the program as written.

For every loop around a statement: which affine function of the iterators as written it runs
over, or whether it runs over tiles of a loop further inside. With the ranges of a dependence's
distances that tells, without isl, how far the target is ahead of the source in that loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.loopnest.emitter.extent import extremes
from agent.loopnest.program import (
    Affine,
    Bound,
    Loop,
    Node,
    Program,
    Statement,
    statement_runs,
    statements,
)

UNKNOWN = (-(2**62), 2**62)
Spread = Callable[[Affine, Affine], tuple[int, int]]


@dataclass(frozen=True)
class Position:
    """A statement's position: the loops around it now, and what they are as written.

    Attributes:
        key: a number; the same statement has it wherever its loops and instances are the same.
        around: the loops around it, outermost first; jams are written as loops.
        instance: its iteration vector as written, in terms of ``around``.
        written: for each loop around it, the value as written, where it is a function of that:
            an affine function of the iterators as written.
        points: for each loop, the position of the loop inside its tiles, or -1.
    """

    key: int
    around: tuple[Loop, ...]
    instance: tuple[Affine, ...]
    written: tuple[Affine | None, ...]
    points: tuple[int, ...]

    def at(self, as_written: Mapping[str, int], names: Sequence[str]) -> tuple[int, ...] | None:
        """The iteration vector of now of an instance; None where it takes more to tell.

        Args:
            as_written: the iterators' values as written.
            names: the iterators as written, in the order of ``instance``.
        """
        values: dict[str, int] = {}
        for level, loop in enumerate(self.around):
            point = level if self.written[level] is not None else self.points[level]
            form = self.written[point] if point >= 0 else None
            if form is None:
                return None
            low = max(-(-b.expr.evaluate(values) // b.divisor) for b in loop.lower)
            ahead = form.evaluate(as_written) - low
            value = low + (ahead if point == level else ahead // loop.step * loop.step)
            high = min(b.expr.evaluate(values) // b.divisor for b in loop.upper)
            if not low <= value <= high or (value - low) % loop.step:
                return None
            values[loop.iterator] = value
        same = all(
            v.evaluate(values) == as_written[n] for n, v in zip(names, self.instance, strict=True)
        )
        return tuple(values.values()) if same else None


_Placed = tuple[tuple[str, Position], ...]


class Positions:
    """The positions of a program's statements under its schedules, each worked out once.

    Args:
        iterators: the loops around every statement as written, by its name.
    """

    def __init__(self, iterators: Mapping[str, tuple[str, ...]]) -> None:
        self._iterators = iterators
        self._nests: dict[tuple[int, tuple[object, ...]], int] = {}
        self._known: dict[tuple[int, str, tuple[Affine, ...]], Position] = {}
        self._placed: dict[tuple[int, int], tuple[Loop, _Placed]] = {}
        self._trees: dict[tuple[Loop, tuple[tuple[str, int], ...]], _Placed] = {}

    def of(self, program: Program, *, jams: bool = True) -> dict[str, Position]:
        """The position of every statement, by name, in textual order; as without ``jams``."""
        found: dict[str, Position] = {}
        for node in program.body:
            found.update(self._of(node, jams=jams))
        return found

    def _of(self, node: Node, *, jams: bool) -> _Placed:
        if isinstance(node, Statement):
            return ((node.name, self._position(0, (), node)),)
        here = node.unmarked, node.jams if jams else ()
        if here not in self._trees:
            self._trees[here] = self._place((_spread(node) if here[1] else here[0],), 0, ())
        return self._trees[here]

    def _place(self, nodes: Sequence[Node], nest: int, around: tuple[Loop, ...]) -> _Placed:
        """The statements of ``nodes``; ``nest`` is a number for what ``around`` says of order."""
        found: list[tuple[str, Position]] = []
        for node in nodes:
            if isinstance(node, Statement):
                found.append((node.name, self._position(nest, around, node)))
            else:
                found += self._inside(node, nest, around)
        return tuple(found)

    def _inside(self, loop: Loop, nest: int, around: tuple[Loop, ...]) -> _Placed:
        """The statements in ``loop``: most steps leave most loops as they are, the same object."""
        here = nest, id(loop)
        if here not in self._placed:
            header = loop.iterator, loop.lower, loop.upper, loop.step
            inner = self._nests.setdefault((nest, header), len(self._nests) + 1)
            self._placed[here] = loop, self._place(loop.body, inner, (*around, loop))
        return self._placed[here][1]

    def _position(self, nest: int, around: tuple[Loop, ...], statement: Statement) -> Position:
        here = nest, statement.name, statement.instance
        if here not in self._known:
            meaning = _meaning(around, statement, self._iterators[statement.name])
            self._known[here] = Position(len(self._known), around, statement.instance, *meaning)
        return self._known[here]


def _meaning(
    around: tuple[Loop, ...], statement: Statement, names: tuple[str, ...]
) -> tuple[tuple[Affine | None, ...], tuple[int, ...]]:
    solved = _solve(statement.instance, names)
    for loop in around:
        if loop.iterator not in solved and (once := _only_value(loop, solved)) is not None:
            solved[loop.iterator] = once
    written = tuple(solved.get(loop.iterator) for loop in around)
    points = [-1] * len(around)
    for level in range(len(around) - 1, -1, -1):
        if written[level] is None:
            points[level] = _point_loop(around, level, written, points)
    return written, tuple(points)


def _only_value(loop: Loop, solved: Mapping[str, Affine]) -> Affine | None:
    """The value of a loop that has one iteration, where outer loops are known to be ``solved``."""
    both = (b.expr for b in loop.lower if b.divisor == 1 and b in loop.upper)
    known = (value for value in both if value.names <= solved.keys())
    return next((value.substitute(solved) for value in known), None)


def _solve(instance: tuple[Affine, ...], names: tuple[str, ...]) -> dict[str, Affine]:
    """Iterators of now as affine functions of those as written, as far as substitution goes."""
    solved: dict[str, Affine] = {}
    progress = True
    while progress:
        progress = False
        for name, value in zip(names, instance, strict=True):
            unknown = [(n, c) for n, c in value.terms if n not in solved]
            if len(unknown) == 1 and abs(unknown[0][1]) == 1:
                n, c = unknown[0]
                rest = Affine.of({m: k for m, k in value.terms if m != n}, value.const)
                solved[n] = (Affine.var(name) - rest.substitute(solved)) * c
                progress = True
    return solved


def _point_loop(
    around: tuple[Loop, ...], level: int, written: tuple[Affine | None, ...], points: list[int]
) -> int:
    """The loop of whose tiles ``level`` is the loop, or -1 where its bounds do not show it."""
    tiles = around[level]
    start = Affine.var(tiles.iterator)
    end = Bound(start + (tiles.step - 1))
    for position in range(level + 1, len(around)):
        loop = around[position]
        if Bound(start) in loop.lower and end in loop.upper:
            if written[position] is not None:
                return position
            return points[position] if tiles.step % loop.step == 0 else -1
    return -1


def _spread(node: Node) -> Node:
    """The order in which jammed loops run, as a tree of plain loops; statements by ``instance``.

    ::

        for i in 0..7 jam 2:         for i#tile in 0..7 step 2:
          S(i)                         for i#1 in i#tile..min(i#tile + 1, 7): S(i#1)
          for j in 0..9:       ->      for j in 0..9:
            T(i, j)                      for i#2 in i#tile..min(i#tile + 1, 7): T(i#2, j)

    A range that moves with the jammed loop spans those of all copies.
    """
    if isinstance(node, Statement) or not node.is_jammed:
        return node
    if node.jam == 1:
        return node.with_body(tuple(map(_spread, node.body)))
    span = node.step * node.jam
    over = tiles_name(node)
    start, end = Affine.var(over), Affine.var(over) + (span - 1)
    points = node.but(lower=(Bound(start),), upper=(Bound(end), *node.upper), jam=1)
    counter = iter(range(1, 1 + sum(1 for _ in statements(node.body))))
    body = _sunk(node.body, points, counter)
    return node.but(iterator=over, step=span, body=body, jam=1)


def tiles_name(loop: Loop) -> str:
    """What the loop over the rounds of a jammed loop is called."""
    return f"{loop.iterator}#tile"


def _sunk(nodes: tuple[Node, ...], points: Loop, counter: Iterator[int]) -> tuple[Node, ...]:
    """``nodes`` with the loop ``points`` around every run of neighbouring statements."""
    out: list[Node] = []
    for part in statement_runs(nodes):
        if isinstance(part, Loop):
            lower = extremes(part.lower, points, smallest=True)
            upper = extremes(part.upper, points, smallest=False)
            body = _sunk(part.body, points, counter)
            out.append(part.but(lower=lower, upper=upper, body=body))
        else:
            name = f"{points.iterator}#{next(counter)}"
            value = {points.iterator: Affine.var(name)}
            copies = tuple(
                s.but(instance=tuple(x.substitute(value) for x in s.instance)) for s in part
            )
            out.append(points.but(iterator=name, body=copies))
    return tuple(out)


def advance(spread: Spread, source: Position, target: Position, level: int) -> tuple[int, int]:
    """How far ahead of the source the target may be in the shared loop ``level``.

    Of a loop over tiles only the sign is told: ``(0, 0)``, or 1 or -1 for an end that may be
    apart. The answer holds where both run in the same iteration of all loops further outside.

    Args:
        spread: the least and greatest value of one form of the target's iterators as written
            less another one of the source's.
        source: where the source runs.
        target: where the target runs.
        level: the position of the loop.
    """
    one, two = source.points[level], target.points[level]
    if one < 0 or two < 0:
        return _difference(spread, source.written[level], target.written[level])
    least, most = _difference(spread, source.written[one], target.written[two])
    span = source.around[level].step
    return -1 if least < 0 else int(least >= span), 1 if most > 0 else -int(-most >= span)


def _difference(spread: Spread, source: Affine | None, target: Affine | None) -> tuple[int, int]:
    return UNKNOWN if source is None or target is None else spread(source, target)
