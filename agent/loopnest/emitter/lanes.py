"""Blocks of iterations that go through the loops inside together, in SIMD lanes.

    for (j = 0; j < 20; j++)  8 lanes       for (j = 0; j < 13; j += 8)
      for (k = 0; k < n; k++)         ->      for (k = 0; k < n; k++)
        c[j] += a[k] * b[k][j];                 for (l = 0; l < 8; l++)  // simd
                                                  c[j + l] += a[k] * b[k][j + l];
                                            ... and so on from j = 16, with 4 lanes

What whole blocks leave over runs in blocks of half as many lanes, of a quarter, and so on. The
loop over the lanes has a constant number of iterations: compilers unroll it completely, and hold
what it updates in vector registers throughout the loops around it. Updates have such loops one by
one: in a loop of its own the vectors of a row follow each other, and what all of them need besides
(``a[k]`` above) is done with before the next row. In one loop for 12 rows gcc keeps 12 such values
at the same time, and has no registers left for the sums.

In an innermost loop that adds up, every lane has a partial result:

    for (k = 0; k < n; k++)  8 lanes        for (l = 0; l < 8; l++) part[l] = 0;
      s += a[k];                      ->    for (k = 0; k < n - 7; k += 8)
                                              for (l = 0; l < 8; l++) part[l] += a[k + l];
                                            for (l = 0; l < 8; l++) s += part[l];
                                            ... and the rest of k
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from agent.errors import ScheduleError
from agent.loopnest.emitter.expanded import Expansion, constant_trips, groups
from agent.loopnest.program import (
    Access,
    Affine,
    Bound,
    Literal,
    Loop,
    Node,
    Read,
    Statement,
    loops,
    map_all_accesses,
    statement_runs,
    statements,
    substitute_statement,
)

_SUFFIX = "#lane"
_START = {"+": "0", "-": "0", "*": "1"}  # of a partial result


def is_lane(name: str) -> bool:
    """Whether an iterator counts the lanes of a block."""
    return name.endswith(_SUFFIX)


def as_tiles(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The order in which blocks of lanes run, as tiles that are innermost; for what counts loops.

    The iterator keeps its name in the loop over the lanes, which is unrolled completely; the
    statements stay as they are.
    """
    if not any(loop.lanes > 1 for _, loop in loops(nodes)):
        return nodes
    out = []
    for node in nodes:
        if isinstance(node, Loop):
            node = replace(node, body=as_tiles(node.body))
            if node.lanes > 1 and any(isinstance(n, Loop) for n in node.body):
                node = _tiles(node)
        out.append(node)
    return tuple(out)


def _tiles(loop: Loop) -> Loop:
    over = f"{loop.iterator}#block"
    start, end = Affine.var(over), Affine.var(over) + (loop.lanes - 1)
    begin, ends = (Bound(start),), (Bound(end), *loop.upper)
    points = replace(loop, lower=begin, upper=ends, unroll=loop.lanes, body=())
    body = _around(loop.body, lambda run: replace(points, body=tuple(run)))
    return replace(loop, iterator=over, step=loop.lanes, body=body, vector=False, lanes=1)


def _around(nodes: Sequence[Node], wrap: Callable[[Sequence[Statement]], Loop]) -> tuple[Node, ...]:
    """``nodes`` with a loop around every run of neighbouring statements."""
    return tuple(
        replace(part, body=_around(part.body, wrap)) if isinstance(part, Loop) else wrap(part)
        for part in statement_runs(nodes)
    )


def rows_apart(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """``nodes`` with a loop of its own for every update in lanes, where nothing else runs there."""
    out: list[Node] = []
    for node in nodes:
        if not isinstance(node, Loop):
            out.append(node)
        elif not is_lane(node.iterator):
            out.append(replace(node, body=rows_apart(node.body)))
        elif all(isinstance(s, Statement) and s.op and s.condition is None for s in node.body):
            out += [replace(node, body=(s,)) for s in node.body]
        else:
            out.append(node)
    return tuple(out)


def in_lanes(loop: Loop, path: tuple[str, ...], made: Expansion) -> tuple[Node, ...]:
    """``loop`` with its blocks of lanes written out.

    Args:
        loop: has lanes; nothing in its body has, nor is jammed.
        path: the iterators around it.
        made: what is made of the program.
    """
    if all(isinstance(node, Statement) for node in loop.body):
        return _innermost(loop, path, made)
    trips, width, found = constant_trips(loop), loop.lanes, []
    while width:
        if trips is None or (trips % (2 * width) if width < loop.lanes else trips) >= width:
            found.append(_block(loop, path, made, width))
        width //= 2
    return tuple(found)


class _LaneLoop:
    """The loop over the lanes of a block."""

    def __init__(self, iterator: str, width: int) -> None:
        self.iterator = iterator
        self.lane = Affine.var(iterator + _SUFFIX)
        self.width = width

    def loop(self, body: Iterable[Statement]) -> Loop:
        """``body`` once for every lane."""
        low, high = (Bound(Affine.constant(n)) for n in (0, self.width - 1))
        name = self.iterator + _SUFFIX
        return Loop(name, (low,), (high,), 1, tuple(body), vector=True)

    def of(self, run: Sequence[Statement]) -> Loop:
        """Statements of the loop that has lanes, once for every lane."""
        value = {self.iterator: Affine.var(self.iterator) + self.lane}
        return self.loop(substitute_statement(s, value) for s in run)


def _block(loop: Loop, path: tuple[str, ...], made: Expansion, width: int) -> Loop:
    """The blocks of ``width`` lanes; those of twice as many have been run."""
    whole = replace(groups(loop, width), lanes=1, vector=False)
    if width < loop.lanes:
        begin = made.left_over(loop, 2 * width, f"rest{2 * width}")
        whole = replace(whole, lower=(Bound(begin),))
    lanes = _LaneLoop(loop.iterator, width)
    return replace(whole, body=_with_temporaries(lanes, loop, path, made))


def block_of(
    loop: Loop, width: int, path: tuple[str, ...], made: Expansion
) -> tuple[Affine, tuple[Node, ...]]:
    """The number of a lane, and the body of ``loop`` for ``width`` iterations in lanes."""
    lanes = _LaneLoop(loop.iterator, width)
    return lanes.lane, _with_temporaries(lanes, loop, path, made)


def _with_temporaries(
    lanes: _LaneLoop, loop: Loop, path: tuple[str, ...], made: Expansion
) -> tuple[Node, ...]:
    """The body of ``loop`` in lanes, of which each has temporaries of its own.

    One that a single run of statements uses lives in the loop over the lanes; others have an
    element for every lane.
    """
    private = [n for n, home in made.homes.items() if loop.iterator in home and n in loop.uses]
    own = {name: made.copy_temporary(name, f"lanes{lanes.width}") for name in private}
    for name in own.values():
        home = made.homes[name]
        made.homes[name] = (*path, *home[home.index(loop.iterator) :])
    body = map_all_accesses(loop.body, lambda a: Access(own.get(a.array, a.array), a.subscripts))
    body = _around(body, lanes.of)
    inside = list(_lane_loops(body, (*path, loop.iterator)))
    for name in own.values():
        users = [(around, run) for around, run in inside if name in run.uses]
        if len(users) == 1 and users[0][0] == made.homes[name]:
            made.homes[name] = (*made.homes[name], users[0][1].iterator)
        else:
            made.shapes[name] = (lanes.width,)
    wide = made.shapes.keys() & set(own.values())
    return map_all_accesses(
        body, lambda a: Access(a.array, (lanes.lane,)) if a.array in wide else a
    )


def _lane_loops(
    nodes: Sequence[Node], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Loop]]:
    for node in nodes:
        if isinstance(node, Loop) and is_lane(node.iterator):
            yield path, node
        elif isinstance(node, Loop):
            yield from _lane_loops(node.body, (*path, node.iterator))


# Sums in an innermost loop


def _innermost(loop: Loop, path: tuple[str, ...], made: Expansion) -> tuple[Node, ...]:
    """Blocks of lanes, with partial results where the loop adds up; what is left in lanes too."""
    lanes = _LaneLoop(loop.iterator, loop.lanes)
    trips, sums = constant_trips(loop), _sums(loop, made)
    begin = made.left_over(loop, loop.lanes, f"rest{loop.lanes}")
    rest = replace(loop, lower=(Bound(begin),), lanes=1, parallel=False)
    left = (rest,) if trips is None or trips % loop.lanes else ()
    if trips is not None and trips < loop.lanes:
        return left
    once = f"{loop.iterator}#once" if sums and trips is None else ""
    path = (*path, once) if once else path
    main = replace(groups(loop, loop.lanes), lanes=1, vector=False)
    main = replace(main, body=_with_temporaries(lanes, loop, path, made))
    summed = _partial(main, sums, lanes, path, made) if sums else (main,)
    return (_once(loop, once, summed), *left) if once else (*summed, *left)


def _sums(loop: Loop, made: Expansion) -> dict[Access, str]:
    """What every iteration of an innermost loop adds to, and how."""
    found: dict[Access, str] = {}
    for _, s in statements(loop.body):
        own = {loop.iterator, *(d.name for d in s.derived)}
        private = loop.iterator in made.homes.get(s.target.array, ())
        if s.op and not private and not any(x.names & own for x in s.target.subscripts):
            if s.condition is not None:
                raise ScheduleError(
                    f"vectorize {loop.iterator} {loop.lanes}: it adds up under a condition",
                    hint=f"Leave the number out: vectorize {loop.iterator}.",
                )
            found[s.target] = s.op
    return found


def _partial(
    main: Loop, sums: Mapping[Access, str], lanes: _LaneLoop, path: tuple[str, ...], made: Expansion
) -> tuple[Node, ...]:
    """``main`` adding up in every lane by itself, and what comes before and after that."""
    parts = {}
    for target in sums:
        name = made.add_array(f"{target.array}#part", target.array, path, (lanes.width,))
        parts[target] = Access(name, (lanes.lane,))
    first, last = [], []
    for (target, part), op in zip(parts.items(), sums.values(), strict=True):
        start = Literal(_START[op]) if op in _START else Read(target)
        first.append(Statement("", part, "", start, ()))
        last.append(Statement("", target, "+" if op == "-" else op, Read(part), ()))
    body = map_all_accesses(main.body, lambda access: parts.get(access, access))
    return lanes.loop(first), replace(main, body=body), lanes.loop(last)


def _once(loop: Loop, name: str, body: tuple[Node, ...]) -> Loop:
    """``body`` where ``loop`` has a whole block of lanes, else nothing."""
    bounds = (*loop.lower, *loop.upper)
    if any(b.divisor != 1 for b in bounds):
        raise ScheduleError(
            f"vectorize {loop.iterator} {loop.lanes}: its bounds are quotients",
            hint=f"Leave the number out: vectorize {loop.iterator}.",
        )
    zero = Bound(Affine.constant(0))
    room = (u.expr - low.expr - (loop.lanes - 1) for u in loop.upper for low in loop.lower)
    return Loop(name, (zero,), (zero, *map(Bound, room)), 1, body)
