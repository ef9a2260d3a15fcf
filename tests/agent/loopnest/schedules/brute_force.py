"""Whether a schedule keeps a program's meaning, by running both and comparing every pair.

It shares nothing with the polyhedral check: loops are run, jams chunk by chunk, and every two
accesses of one element are looked at.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from agent.loopnest.program import (
    Access,
    Expr,
    Loop,
    Node,
    Program,
    Statement,
    conjuncts,
    guarded_reads,
    loops,
    reads,
    statements,
)
from tests.interpret import Machine, iterations

Instance = tuple[str, tuple[int, ...]]  # statement, iteration vector as written
Point = Mapping[str, int]
Element = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Event:
    """One execution of a statement, and which iteration of every concurrent loop it belongs to."""

    instance: Instance
    concurrent: Mapping[str, tuple[tuple[int, ...], int]]  # loop -> (execution of it, iteration)


@dataclass(frozen=True)
class Conflict:
    """Two instances, in the order as written, that access one element."""

    first: Instance
    second: Instance
    commute: bool


def trace(program: Program) -> list[Event]:
    """Every statement execution in the order of the program as it is now."""
    return [Event(*event) for event in _run(program.body, [({}, {})])]


State = tuple[dict[str, int], dict[str, tuple[tuple[int, ...], int]]]


def _run(nodes: Sequence[Node], states: list[State]) -> Iterator[tuple[Instance, dict]]:
    """Runs nodes for the copies ``states`` of a jammed loop side by side (one copy: plainly)."""
    number = 0
    while number < len(nodes):
        run = number
        while run < len(nodes) and isinstance(nodes[run], Statement):
            run += 1
        for point, concurrent in states:
            for node in nodes[number:run]:
                assert isinstance(node, Statement)
                vector = tuple(v.evaluate(point) for v in node.instance)
                yield (node.name, vector), concurrent
        if run < len(nodes):
            yield from _run_loop(nodes[run], states)
            run += 1
        number = run


def _run_loop(loop: Node, states: list[State]) -> Iterator[tuple[Instance, dict]]:
    assert isinstance(loop, Loop)
    ranges = [list(iterations(loop, point)) for point, _ in states]  # differ in staggered loops
    values = sorted({value for own in ranges for value in own})
    for start in range(0, len(values), loop.jam):
        inner = []
        for (point, concurrent), own in zip(states, ranges, strict=True):
            entry = tuple(point.values())
            for value in (v for v in values[start : start + loop.jam] if v in own):
                marks = dict(concurrent)
                if loop.parallel:
                    marks[loop.iterator] = entry, start
                elif loop.vector:
                    # lanes of one copy and of the copies jammed around it run at the same time
                    marks[loop.iterator] = tuple(states[0][0].values()), start
                inner.append(({**point, loop.iterator: value}, marks))
        yield from _run(loop.body, inner)


def conflicts(program: Program, commutes: Mapping[str, str]) -> list[Conflict]:
    """All dependent pairs of the program as written.

    Args:
        program: as written.
        commutes: for every statement that is a proper reduction its operator's class.
    """
    by_name = {s.name: (around, s) for around, s in statements(program.body)}
    depth = {t.name: t.depth for t in program.temporaries}
    scalars = {s.name for s in program.scalars}
    touched: dict[Element, list[tuple[int, Instance, bool, str]]] = defaultdict(list)
    for time, event in enumerate(trace(program)):
        name, vector = event.instance
        around, s = by_name[name]
        point = dict(zip((x.iterator for x in around), vector, strict=True))
        uses = [(a, holds, False, "") for a, holds in guarded_reads(s)]
        uses.append((s.target, conjuncts(s.condition), True, commutes[name]))
        machine = Machine(program, {}, {})
        for access, holds, writes, op in uses:
            if access.array in scalars or not _may_hold(machine, holds, point):
                continue
            for index in _indices(machine, s, access, point):
                element = access.array, index or vector[: depth.get(access.array, 0)]
                touched[element].append((time, event.instance, writes, op))
    return [
        Conflict(one[1], two[1], bool(one[3]) and one[3] == two[3])
        for accesses in touched.values()
        for one, two in combinations(accesses, 2)
        if one[0] != two[0] and (one[2] or two[2])
    ]


def _may_hold(machine: Machine, holds: Sequence[Expr], point: Point) -> bool:
    """Whether conditions hold, as far as iterators tell."""
    known = (c for c in holds if not any(reads(c)))
    return all(machine.value(c, dict(point)) for c in known)


def _indices(
    machine: Machine, statement: Statement, access: Access, point: Point
) -> list[tuple[int, ...]]:
    """The elements that an access may be: what is read from data may be all of its range."""
    choices: list[dict[str, int]] = [{}]
    for d in statement.derived:
        if any(d.name in s.names for s in access.subscripts):
            known = not any(reads(d.value))
            whole = [machine.value(d.value, dict(point))] if known else range(d.low, d.high + 1)
            choices = [{**c, d.name: int(v)} for c in choices for v in whole]
    return [tuple(s.evaluate({**point, **c}) for s in access.subscripts) for c in choices]


def is_legal(written: list[Conflict], now: Program) -> bool:
    """Whether ``now`` keeps every order that matters and runs nothing at once that may not."""
    now = now.with_body(tuple(map(_pairs_apart, now.body)))
    events = {event.instance: (time, event) for time, event in enumerate(trace(now))}
    marked = [(loop, _shared_targets(loop)) for _, loop in loops(now.body)]
    marked = [(loop, shared) for loop, shared in marked if loop.parallel or loop.vector]
    for conflict in written:
        (before, one), (after, two) = events[conflict.first], events[conflict.second]
        if before > after and not conflict.commute:
            return False
        for loop, shared in marked:
            if _at_once(loop.iterator, one, two):
                names = conflict.first[0], conflict.second[0]
                if not (conflict.commute and _same(shared, *names)):
                    return False
    return True


def _pairs_apart(node: Node) -> Node:
    """``node`` where both loops of a pair that is shared out together are parallel."""
    if not isinstance(node, Loop):
        return node
    body = tuple(map(_pairs_apart, node.body))
    if node.collapse:
        body = tuple(replace(x, parallel=True) for x in body)
    return replace(node, body=body)


def _at_once(loop: str, one: Event, two: Event) -> bool:
    if loop not in one.concurrent or loop not in two.concurrent:
        return False
    (entry, iteration), (other_entry, other) = one.concurrent[loop], two.concurrent[loop]
    return entry == other_entry and iteration != other


def _shared_targets(loop: Loop) -> dict:
    """Targets that are one element throughout an execution of ``loop``, by statement.

    Of what every thread has a copy, the array.
    Lanes that go through loops inside have no sums of their own.
    """
    if loop.lanes > 1 and any(isinstance(node, Loop) for node in loop.body):
        return {}
    inner = {x.iterator for _, x in loops((loop,))}
    inner |= {d.name for _, s in statements(loop.body) for d in s.derived}
    found = {
        s.name: s.target
        for _, s in statements(loop.body)
        if not any(x.names & inner for x in s.target.subscripts)
    }
    private = (s for _, s in statements(loop.body) if s.target.array in loop.private)
    return found | {s.name: s.target.array for s in private}


def _same(shared: dict, one: str, two: str) -> bool:
    return one in shared and two in shared and shared[one] == shared[two]
