"""Schedules of the public Tiramisu timings as schedules of this project.

Order there (``apply_optimizations`` of the Tiramisu autoscheduler): fusion, one unimodular matrix
a computation (interchanges, reversals, skews), tiling, parallelization, unrolling. Loops are
counted by their level after the matrix. The file gives each computation its own list; here a step
changes the loops of all computations inside, so that all of them have to ask for it.

A skew of levels (l, m) by [[a, b], [c, d]] makes the new outer iterator ``a i + b j`` and the new
inner one ``c i + d j``: a product of interchanges, reversals and skews of the inner by the outer
loop, found by Euclid's algorithm on the first column.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agent.errors import ScheduleError
from agent.loopnest.program import Affine, Loop, Node, Program, Statement, statements
from agent.loopnest.schedules.schedule import (
    MAX_STEPS,
    MAX_TEXT,
    Distribute,
    Fuse,
    Interchange,
    Parallelize,
    Reverse,
    Schedule,
    Skew,
    Step,
    Tile,
    Unroll,
)
from agent.loopnest.schedules.transform import apply
from tools.tiramisu.programs import (
    DEEPEST,
    InexpressibleError,
    Source,
    field,
    malformed,
    name_of,
    number_of,
)

MOST_TRANSFORMATIONS, MOST_FUSIONS, TAGS = 12, 32, 16


@dataclass(frozen=True)
class Move:
    """A change of levels: ``swap``; ``turn`` (of ``outer``); ``lean``: inner += factor outer."""

    kind: str
    outer: int
    inner: int = -1
    factor: int = 0


@dataclass(frozen=True)
class Plan:
    """What the file wants of one computation; loops by level after the moves."""

    moves: tuple[Move, ...]
    tiled: tuple[tuple[int, int], ...]  # level, size
    parallel: int | None
    unroll: int | None


class Converter:
    """Turns the schedules of one program into steps; remembers what common beginnings made."""

    def __init__(self, source: Source, schedules: Sequence[Any]) -> None:
        self.source = source
        self.by_name = not any(_counts_levels(s) for s in schedules)
        self.made: dict[tuple[Step, ...], Program | ScheduleError] = {(): source.program}

    def convert(self, data: object) -> tuple[Schedule, Program]:
        """The schedule and the program after it.

        Raises:
            AgentError: it is malformed.
            InexpressibleError: it is not, but no steps here amount to it.
        """
        given = field(data, "computations", dict)
        if set(given) != set(self.source.iterators):
            malformed("a schedule names other computations than the program")
        fusions = _fusions(data, given)
        partners = _partners(fusions)
        plans = {name: self._plan(name, c, partners) for name, c in given.items()}
        draft = _Draft(self.made)
        for first, second, level in fusions:
            draft.fuse(first, second, level)
        _same_tree(draft.program.body, field(data, "tree_structure", dict))
        draft.move({name: p.moves for name, p in plans.items()})
        draft.mark(plans)
        schedule = Schedule(tuple(draft.steps))
        if len(schedule.steps) > MAX_STEPS or len(str(schedule)) > MAX_TEXT:
            raise InexpressibleError("more steps than a schedule may have")
        return schedule, draft.program

    def _plan(self, name: str, data: object, partners: Mapping[str, str]) -> Plan:
        if field_or_none(data, "shiftings", list):
            raise InexpressibleError("shifting")
        own = self.source.iterators[name]
        raw = field(data, "transformations_list", list)
        if len(raw) > MOST_TRANSFORMATIONS:
            malformed(f"{name} is transformed {len(raw)} times")
        changes = [_moves(t, len(own)) for t in raw]
        if self.by_name:
            changes.sort(key=lambda change: change[0].kind != "swap" or len(change) > 1)
        partner = partners.get(name, name)
        levels = [list(own), list(self.source.iterators[partner])]
        if self.by_name:  # an interchange takes the names along
            for m in (m for change in changes for m in change if len(change) == 1):
                for order in levels if m.kind == "swap" else ():
                    order[m.outer], order[m.inner] = order[m.inner], order[m.outer]
        tiled = _tiling(data, levels)
        parallel = field_or_none(data, "parallelized_dim", str)
        factor = data.get("unrolling_factor") if isinstance(data, dict) else None
        return Plan(
            tuple(_turns_first([m for change in changes for m in change])),
            tiled,
            None if parallel is None else _level(parallel, levels),
            None if factor is None else number_of(factor),
        )


def field_or_none(data: object, key: str, kind: type[Any]) -> Any:
    """``data[key]`` of the type ``kind``, or None where it is null or absent."""
    return field(data, key, kind) if isinstance(data, dict) and data.get(key) is not None else None


def _counts_levels(schedule: object) -> bool:
    """Whether a schedule is of the kind in which loops are called as before all interchanges.

    The file joins two generations. In the older one, at most a skew and an interchange, names of
    tiled and parallel loops move with an interchange; in the newer one a name stands for the level
    it had at first. That each program keeps to one of the two was checked on 125 programs in
    which the tiled loops tell (only neighbours can be tiled), without an exception. In the older
    one the interchange came first, though the file lists it last: in that order 531 of 667 sampled
    schedules with both keep all dependences (the others share out tiles after a skew, which the
    authors did not check again, but for 3), in the order listed 402.
    """
    computations = field(schedule, "computations", dict)
    if len(computations) > 1 and "M(" in field(schedule, "sched_str", str):
        return True
    for data in computations.values():
        raw = field(data, "transformations_list", list)
        tags = [t[0] if isinstance(t, list) and t else 0 for t in raw]
        if 2 in tags or tags.count(1) > 1 or tags[:2] == [1, 3]:
            return True
    return False


# Reading


def _moves(data: object, depth: int) -> list[Move]:
    if not isinstance(data, list) or len(data) != TAGS:
        malformed(f"a transformation is not a list of {TAGS} numbers")
    numbers = [number_of(x) for x in data]
    match numbers[0]:
        case 1:
            return [Move("swap", *_two(numbers[1], numbers[2], depth))]
        case 2:
            return [Move("turn", _inside(numbers[3], depth))]
        case 3 if not any(numbers[11:]):
            outer, inner = numbers[4], numbers[5]
            if _two(outer, inner, depth) != (outer, inner):
                malformed("a skew names its inner loop first")
            return [Move(m.kind, *_levels(m, outer, inner), m.factor) for m in skew(numbers[7:11])]
        case 3:
            raise InexpressibleError("a skew of three loops")
        case tag:
            return malformed(f"transformation {tag} is not known")


def _levels(move: Move, outer: int, inner: int) -> tuple[int, int]:
    return (outer, inner)[move.outer], (outer, inner)[move.inner] if move.inner >= 0 else -1


def _inside(level: int, depth: int) -> int:
    if not 0 <= level < depth:
        malformed(f"there is no loop {level} of {depth}")
    return level


def _two(one: int, two: int, depth: int) -> tuple[int, int]:
    if one == two:
        malformed("a transformation names a loop twice")
    return min(_inside(one, depth), _inside(two, depth)), max(one, two)


def skew(matrix: Sequence[int]) -> list[Move]:
    """Moves of levels 0 and 1 whose product is the matrix ``[a, b, c, d]``, first one first.

    Raises:
        InexpressibleError: its determinant is neither 1 nor -1.
    """
    (a, b), (c, d) = (matrix[0], matrix[1]), (matrix[2], matrix[3])
    if abs(a * d - b * c) != 1:
        raise InexpressibleError("a skew that is not unimodular")
    last: list[Move] = []  # undone from the left, so found last to first
    while c:
        if a == 0:
            last.append(Move("swap", 0, 1))
            (a, b), (c, d) = (c, d), (a, b)
        elif abs(c) >= abs(a):
            factor = c // a
            last.append(Move("lean", 0, 1, factor))
            c, d = c - factor * a, d - factor * b
        else:
            factor = a // c - (a % c == 0)  # never to 0, which would take a reversal
            last += [Move("swap", 0, 1), Move("lean", 0, 1, factor), Move("swap", 0, 1)]
            a, b = a - factor * c, b - factor * d
    if a < 0:
        last.append(Move("turn", 0))
        a, b = -a, -b
    if d < 0:
        last.append(Move("turn", 1))
        d = -d
    if b:
        last += [Move("swap", 0, 1), Move("lean", 0, 1, b), Move("swap", 0, 1)]
    return last[::-1]


def _turns_first(moves: Iterable[Move]) -> list[Move]:
    """The same product, reversals (which need simple bounds) first, and nothing undone at once."""
    turns: list[int] = []
    rest: list[Move] = []
    for move in moves:
        if move.kind != "turn":
            if rest and move.kind == "swap" and rest[-1] == move:
                rest.pop()
            else:
                rest.append(move)
            continue
        level = move.outer
        for at in range(len(rest) - 1, -1, -1):
            past = rest[at]
            pair = (past.outer, past.inner)
            if past.kind == "swap" and level in pair:
                level = pair[1 - pair.index(level)]
            elif past.kind == "lean" and level in pair:
                rest[at] = Move("lean", *pair, -past.factor)
        if level in turns:
            turns.remove(level)
        else:
            turns.append(level)
    return [*(Move("turn", level) for level in sorted(turns)), *rest]


def _level(name: str, levels: Sequence[Sequence[str]]) -> int:
    for order in levels:
        if name in order:
            return order.index(name)
    raise InexpressibleError("a loop called by a name that its computation does not have")


def _tiling(data: object, levels: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    tiling = field(data, "tiling", dict)
    if not tiling:
        return ()
    names, sizes = field(tiling, "tiling_dims", list), field(tiling, "tiling_factors", list)
    if not 0 < len(names) == len(sizes) <= DEEPEST:
        malformed("a tiling does not have a size a loop")
    found = [_level(name_of(n), levels) for n in names]
    if found != list(range(found[0], found[0] + len(found))):
        raise InexpressibleError("tiled loops that are not neighbours")
    return tuple((level, number_of(size)) for level, size in zip(found, sizes, strict=True))


def _fusions(data: object, known: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    found = field_or_none(data, "fusions", list) or []
    if len(found) > MOST_FUSIONS:
        malformed(f"{len(found)} fusions are not usable")
    for item in found:
        names = item[:2] if isinstance(item, list) and len(item) == 3 else [None]
        if any(not isinstance(n, str) or n not in known for n in names):
            malformed("a fusion does not name two computations and a level")
    return [(a, b, number_of(level)) for a, b, level in found]


def _partners(fusions: Sequence[tuple[str, str, int]]) -> dict[str, str]:
    """Computation -> the one whose loops it is called by after fusion."""
    partners: dict[str, str] = {}
    for first, second, _ in fusions:
        partners[second] = partners.get(first, first)
    return partners


# Trees


def _same_tree(body: tuple[Node, ...], tree: object) -> None:
    """Refuse a tree that is not theirs: which computations and loops stand in which loop."""
    roots = field(tree, "roots", list)
    if sorted(_shape(n) for n in body if isinstance(n, Loop)) != sorted(
        _their_shape(r, 1) for r in roots
    ):
        raise InexpressibleError("a loop tree that comes out unlike theirs")


def _shape(loop: Loop) -> str:
    inside = sorted(n.name for n in loop.body if isinstance(n, Statement))
    return f"{inside}{sorted(_shape(n) for n in loop.body if isinstance(n, Loop))}"


def _their_shape(node: object, depth: int) -> str:
    if depth > DEEPEST:
        malformed("a loop tree is too deep")
    inside = sorted(name_of(n) for n in field(node, "computations_list", list))
    children = (_their_shape(n, depth + 1) for n in field(node, "child_list", list))
    # a loop that fusion left empty stays in their tree
    return f"{inside}{sorted(c for c in children if c != '[][]')}"


# Steps


class _Draft:
    """A program on its way; loops are found through the computations inside."""

    def __init__(self, made: dict[tuple[Step, ...], Program | ScheduleError]) -> None:
        self.made = made
        self.steps: list[Step] = []
        self.program = self._known()

    def _known(self) -> Program:
        found = self.made[tuple(self.steps)]
        if isinstance(found, ScheduleError):
            kind = str(self.steps[-1]).split()[0]
            raise InexpressibleError(f"{kind}: {_cause(found.message)}")
        self.around = {s.name: loops for loops, s in statements(found.body)}
        return found

    def step(self, step: Step) -> None:
        self.steps.append(step)
        key = tuple(self.steps)
        if key not in self.made:
            try:
                self.made[key] = apply(self.program, step)
            except ScheduleError as error:
                self.made[key] = error
        self.program = self._known()

    def inside(self, loop: Loop) -> list[str]:
        """The computations in a loop, in textual order."""
        return [s.name for _, s in statements(loop.body)]

    def fuse(self, first: str, second: str, level: int) -> None:
        """Bring the loops of two computations together, down to ``level``."""
        for depth in range(level + 1):
            one, two = self.around[first], self.around[second]
            if depth >= min(len(one), len(two)):
                raise InexpressibleError("a fusion deeper than the loops")
            if one[depth].iterator != two[depth].iterator:
                self._alone(second, depth)
                self.step(
                    Fuse(self.around[first][depth].iterator, self.around[second][depth].iterator)
                )

    def _alone(self, name: str, depth: int) -> None:
        """Leave nothing but one computation in its loop at ``depth``, the others in another."""
        loop = self.around[name][depth]
        others = [x for x in self.inside(loop) if x != name]
        if not others:
            return
        for level in range(len(self.around[name]) - 1, depth - 1, -1):
            if len(self.around[name][level].body) > 1:
                self.step(Distribute(self.around[name][level].iterator))
        for one, two in pairwise(others):
            for level in range(depth, min(len(self.around[one]), len(self.around[two]))):
                a, b = self.around[one][level].iterator, self.around[two][level].iterator
                if a != b:
                    self.step(Fuse(a, b))

    def move(self, wanted: Mapping[str, tuple[Move, ...]]) -> None:
        """Carry out the moves of all computations, each when all that it concerns come to it."""
        left = {name: deque(moves) for name, moves in wanted.items()}
        while any(left.values()):
            for name, moves in left.items():
                if moves and self._ready(name, moves[0], left):
                    break
            else:
                raise InexpressibleError("computations of one loop that are moved differently")
            move = moves[0]
            concerned = self._concerned(name, move)
            last = all(m.kind == "turn" for x in concerned for m in left[x])
            self._move(name, move, last=last)
            for other in concerned:
                left[other].popleft()

    def _concerned(self, name: str, move: Move) -> list[str]:
        level = move.inner if move.kind == "lean" else move.outer
        return self.inside(self.around[name][level])

    def _ready(self, name: str, move: Move, left: Mapping[str, deque[Move]]) -> bool:
        return all(left[x] and left[x][0] == move for x in self._concerned(name, move))

    def _move(self, name: str, move: Move, *, last: bool) -> None:
        outer, inner = (self.around[name][level] for level in (move.outer, move.inner))
        match move.kind:
            case "swap":
                self.step(Interchange(outer.iterator, inner.iterator))
            case "lean":
                self.step(Skew(inner.iterator, outer.iterator, move.factor))
            case _:
                self._turn(outer, last=last)

    def _turn(self, loop: Loop, *, last: bool) -> None:
        """``-j``; a reversal here gives ``first + last - j``, which leans where bounds do."""
        self.step(Reverse(loop.iterator))
        lean: Affine = loop.lower[0].expr + loop.upper[0].expr
        for name, factor in () if last else lean.terms:
            self.step(Skew(loop.iterator, name, -factor))

    def mark(self, plans: Mapping[str, Plan]) -> None:
        """Tile, then parallelize, then unroll."""
        start = dict(self.around)
        parallel = {
            _at(start[name], plan.parallel).iterator
            for name, plan in plans.items()
            if plan.parallel is not None
        }
        for name, plan in plans.items():
            self._tile(name, plan, plans, start, parallel)
        unrolled = {}
        for name, plan in plans.items():
            if plan.unroll is not None:
                unrolled[name] = self._unrolled(name, plan.unroll, parallel)
        for loop in sorted(parallel, key=self._place):
            self.step(Parallelize(loop))
        for loop, factor in sorted(set(unrolled.values())):
            self.step(Unroll(loop, factor))

    def _place(self, iterator: str) -> int:
        names = [x.iterator for loops in self.around.values() for x in loops]
        return names.index(iterator)

    def _tile(
        self,
        name: str,
        plan: Plan,
        plans: Mapping[str, Plan],
        start: Mapping[str, tuple[Loop, ...]],
        parallel: set[str],
    ) -> None:
        if not plan.tiled:
            return
        band = tuple((_at(start[name], level).iterator, size) for level, size in plan.tiled)
        top = band[0][0]
        sharing = [n for n, loops in start.items() if any(x.iterator == top for x in loops)]
        if any(plans[n].tiled != plan.tiled for n in sharing):
            raise InexpressibleError("computations of one loop that are tiled differently")
        if sharing[0] != name:
            return
        self._tile_band(name, band, parallel)

    def _tile_band(self, name: str, band: tuple[tuple[str, int], ...], parallel: set[str]) -> None:
        before = {x.iterator for x in self.around[name]}
        self.step(Tile(band))
        tiles = [x.iterator for x in self.around[name] if x.iterator not in before]
        for (points, _), over in zip(band, tiles, strict=True):
            if points in parallel:  # threads share tiles
                parallel.remove(points)
                parallel.add(over)

    def _unrolled(self, name: str, factor: int, parallel: set[str]) -> tuple[str, int]:
        loop = self.around[name][-1]
        if loop.iterator in parallel:  # Halide splits it: threads outside, copies inside
            self._tile_band(name, ((loop.iterator, factor),), parallel)
        return loop.iterator, factor


def _at(loops: tuple[Loop, ...], level: int) -> Loop:
    if level >= len(loops):
        raise InexpressibleError("a level that its computation does not have")
    return loops[level]


_CAUSES = (
    "perfectly nested", "different ranges", "min, max or quotient", "too complex", "never runs",
    "loops deep", "parallel loop", "is inside loop", "does not directly follow", "not neighbours",
    "step", "factor must be", "is unrolled", "not nested",
)  # fmt: skip


def _cause(message: str) -> str:
    """The telling words of a refusal, without names of loops, so that like ones count as one."""
    return next((words for words in _CAUSES if words in message), "does not fit the loops")
