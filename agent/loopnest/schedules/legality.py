"""Whether a schedule keeps the meaning of a program: exact, by its dependences.

``Statement.instance`` relates every statement of the transformed program to the program as
written, so one check serves all steps: the source of every dependence still runs before its
target, and loops whose iterations run at the same time carry none. Reductions may be reordered,
and shared out where all iterations update one element and C with OpenMP can say so.

Ranges of distances answer most questions (``positions``); isl answers the rest exactly.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import islpy as isl

from agent.errors import ScheduleError
from agent.loopnest.emitter.accumulate import invariant_updates, surely_shared
from agent.loopnest.emitter.emit import check_marks
from agent.loopnest.emitter.jam import MAX_STATEMENTS
from agent.loopnest.polyhedron import affine_map, bounded, integer
from agent.loopnest.program import Access, Loop, Program, loops, statements
from agent.loopnest.schedules import transform as steps
from agent.loopnest.schedules.dependence import (
    Conflict,
    Dependence,
    Dependences,
    Edge,
    Instance,
    common_depth,
)
from agent.loopnest.schedules.intervals import FAR, never
from agent.loopnest.schedules.positions import Position, Spread, advance, tiles_name
from agent.loopnest.schedules.schedule import (
    Collapse,
    Cyclic,
    Pack,
    Parallelize,
    Schedule,
    Step,
    Stream,
    Unroll,
    Vectorize,
)
from agent.loopnest.schedules.tree import find_loop

__all__ = ["Dependences", "check_in_c", "check_legal", "check_step", "transform"]
_SIGNS = {"=": operator.eq, "<": operator.lt, ">": operator.gt}
_AHEAD = {"=": (0, 0), "<": (1, FAR), ">": (-FAR, -1)}  # the target, of the source
MOST_EXAMPLES = 8  # of a dependence that are tried on other schedules
MOST_DIVS = 4  # remainders and quotients in a set, of which the first element is looked for


def transform(
    program: Program, schedule: Schedule, dependences: Dependences | None = None
) -> Program:
    """``program`` (as written) after all steps of ``schedule``.

    Args:
        program: as written.
        schedule: the steps, applied left to right.
        dependences: those of ``program``, where they are at hand.

    Raises:
        ScheduleError: a step does not fit the structure, or breaks a dependence; the message
            names the step, the dependence, and two instances of it. Or a mark shares out a
            reduction that cannot be written with OpenMP.
    """
    if not schedule.steps:
        return program
    dependences = dependences or Dependences.of(program)
    after = [dependences.program]
    for step in schedule.steps:
        after.append(steps.apply(after[-1], step))
    if (broken := _misplaced(after[-1], dependences)) is not None:
        culprit = _culprit(schedule, after, dependences)
        raise ScheduleError(
            f"{culprit}: breaks the dependence {broken}",
            hint="Each pair must stay in this order; "
            f"the distance as written is {broken.distance()}.",
        )
    _check_marks(after[-1], dependences, in_c=True)
    return after[-1]


def check_legal(program: Program, dependences: Dependences, *, in_c: bool = True) -> None:
    """Refuse a transformed program that does not mean what it meant as written.

    Args:
        program: after some steps; or some of its nests, which are looked at alone.
        dependences: those of the program as written.
        in_c: refuse what cannot be written as C, too, which may take longer than all the rest.

    Raises:
        ScheduleError: the message names the dependence and two instances of it.
    """
    if (broken := _misplaced(program, dependences)) is not None:
        raise ScheduleError(f"the schedule breaks the dependence {broken}")
    _check_marks(program, dependences, in_c=in_c)


def check_step(
    program: Program, step: Step, dependences: Dependences, *, in_c: bool = True
) -> None:
    """Refuse ``program``, the outcome of ``step`` on one that was legal, if it no longer is.

    Raises:
        ScheduleError: as for ``check_legal``; marks that change nothing else are not looked at
            again.
    """
    match step:
        case Unroll() | Pack() | Cyclic() | Stream():
            return
        case Collapse(outer, inner):
            for name in (outer, inner):
                _, loop = find_loop(program, str(step), name)
                _check_concurrent(str(step), program, loop, dependences)
        case Parallelize(name) | Vectorize(name):
            around, loop = find_loop(program, str(step), name)
            targets = _check_concurrent(str(step), program, loop, dependences)
            inside = any(_shares(x) for x in loop.nest[1:] if x.parallel or x.vector)
            # What marks inside share out, threads share as well.
            if in_c and (inside or not _surely_in_c(program, around, loop, targets)):
                check_in_c(program, dependences)
        case _:
            check_legal(program, dependences, in_c=in_c)


def _culprit(schedule: Schedule, after: list[Program], dependences: Dependences) -> Step:
    """The step since which the order has been wrong."""
    number = len(schedule.steps)
    while number > 1 and _misplaced(after[number - 1], dependences) is not None:
        number -= 1
    return schedule.steps[number - 1]


# A transformed program beside its dependences


class _Order:
    """When the statements of a program run now."""

    def __init__(self, program: Program, dependences: Dependences, *, jams: bool = True) -> None:
        self.dependences = dependences
        self.positions = dependences.positions.of(program, jams=jams)
        self._index = {name: index for index, name in enumerate(self.positions)}

    @property
    def key(self) -> tuple[int, ...]:
        """The same where all statements run in the same order."""
        return tuple([position.key for position in self.positions.values()])

    def has(self, edge: Edge) -> bool:
        """Whether both statements are in the program."""
        return edge.source in self.positions and edge.target in self.positions

    def ends(self, item: Edge | Dependence) -> tuple[Position, Position]:
        """Where the source and the target of a dependence run."""
        return self.positions[item.source], self.positions[item.target]

    def first(self, item: Edge | Dependence) -> bool:
        """Whether the source of a dependence stands before the target."""
        return self._index[item.source] < self._index[item.target]

    def spread(self, item: Dependence) -> Spread:
        """What tells how far forms of the target's iterators are ahead of the source's."""
        return partial(self.dependences.spread, item)

    def once(
        self, edge: Edge, level: int, ask: Callable[[Dependence], Conflict | None]
    ) -> Conflict | None:
        """The first that ``ask`` finds of dependences in the loops around ``level`` (-1: in all).

        It is asked once for all schedules that have the two statements in these positions.
        """
        source, target = self.ends(edge)
        question = edge, level, source.key, target.key, self.first(edge)
        answers = self.dependences.answers
        if question not in answers:
            found = map(ask, edge.items)
            answers[question] = next((conflict for conflict in found if conflict is not None), None)
        return answers[question]

    def find(self, item: Dependence, wrong: Sequence[list[str]]) -> Conflict | None:
        """A pair of the dependence whose iteration vectors of now satisfy one of ``wrong``."""
        if not wrong:
            return None
        for pair in self.dependences.examples.get(item, ()):
            if self._is_wrong(item, pair, wrong):
                return Conflict(item, partial(_same, pair))
        source, target = self.ends(item)
        wrong = [x for x in wrong if not self._is_never(item, x)]
        if not wrong:
            return None
        sizes = len(source.around), len(target.around)
        one, two = self._as_written(source), self._as_written(target)

        def relate() -> isl.Map:
            return one.apply_range(item.relation).apply_range(two.reverse())

        def search(constraints: list[str]) -> Conflict | None:
            bad = pairs.intersect(self.dependences.pairs(sizes, constraints))
            return None if bad.is_empty() else Conflict(item, partial(self._example, item, bad))

        ask = partial(bounded, self.dependences.context)
        what = f"the dependence {item.source} -> {item.target}"
        pairs = ask(relate, what)
        found = (ask(partial(search, constraints), what) for constraints in wrong)
        return next((conflict for conflict in found if conflict is not None), None)

    def _is_never(self, item: Dependence, constraints: Sequence[str]) -> bool:
        """Whether surely no pair of the dependence satisfies constraints such as ``a1 > b1``."""
        source, target = self.ends(item)
        shared = common_depth(source.around, target.around)
        alike = shared == len(source.around) == len(target.around)  # the distances tell all
        which = tuple(item.distance.items()) if alike else item
        question = which, source.key, target.key, tuple(constraints)
        known = self.dependences.nevers
        if question not in known:
            ahead = {level: _AHEAD[sign] for level, sign in map(_parts, constraints)}
            spread = self.spread(item)
            known[question] = never(item.distance, source, target, shared, ahead, spread)
        return known[question]

    def _as_written(self, position: Position) -> isl.Map:
        """From iteration vectors of now to those as written."""
        vectors, context = self.dependences.vectors, self.dependences.context
        if position.key not in vectors:
            build = partial(affine_map, position.around, position.instance, context)
            vectors[position.key] = bounded(context, build, "the order of the instances")
        return vectors[position.key]

    def _example(self, item: Dependence, bad: isl.Map) -> tuple[Instance, Instance]:
        """The first of the pairs ``bad``, in terms of the program as written; or any of them."""
        depths = [len(position.around) for position in self.ends(item)]

        def first() -> list[int]:
            found = bad.wrap()
            # Where there are many remainders, it takes minutes that no count of operations ends.
            simple = all(s.dim(isl.dim_type.div) <= MOST_DIVS for s in found.get_basic_sets())
            point = (found.lexmin() if simple else found).sample_point()
            places = range(sum(depths))
            return [integer(point.get_coordinate_val(isl.dim_type.set, n)) for n in places]

        vector = bounded(self.dependences.context, first, "an example of a dependence")
        source = self._instance(item.source, vector[: depths[0]])
        pair = source, self._instance(item.target, vector[depths[0] :])
        known = self.dependences.examples.setdefault(item, [])
        known[MOST_EXAMPLES - 1 :] = [pair]
        return pair

    def _is_wrong(
        self, item: Dependence, pair: tuple[Instance, Instance], wrong: Sequence[list[str]]
    ) -> bool:
        """Whether a pair that broke the order of other schedules surely breaks this one's."""
        source, target = (
            position.at(instance, self.dependences.iterators[name])
            for position, instance, name in zip(
                self.ends(item), pair, (item.source, item.target), strict=True
            )
        )
        if source is None or target is None:
            return False
        return any(all(_holds(c, source, target) for c in constraints) for constraints in wrong)

    def _instance(self, name: str, vector: list[int]) -> Instance:
        position, iterators = self.positions[name], self.dependences.iterators[name]
        now = dict(zip((loop.iterator for loop in position.around), vector, strict=True))
        return {n: v.evaluate(now) for n, v in zip(iterators, position.instance, strict=True)}


def _holds(constraint: str, source: Sequence[int], target: Sequence[int]) -> bool:
    """Whether two iteration vectors satisfy a constraint such as ``a1 > b1``."""
    level, sign = _parts(constraint)
    return bool(_SIGNS[sign](source[level], target[level]))


def _parts(constraint: str) -> tuple[int, str]:
    """``(1, ">")`` of ``a1 > b1``."""
    left, sign, _ = constraint.split()
    return int(left[1:]), sign


def _same(pair: tuple[Instance, Instance]) -> tuple[Instance, Instance]:
    return pair


def _misplaced(program: Program, dependences: Dependences) -> Conflict | None:
    """A dependence whose target runs before its source, if there is one.

    What a jammed loop has left over runs as if it were not jammed: that order must do as well.
    """
    jammed = any(isinstance(node, Loop) and node.is_jammed for node in program.body)
    for jams in (True, False)[: 1 + jammed]:
        order = _Order(program, dependences, jams=jams)
        if order.key in dependences.orders:
            continue
        for edge in dependences.edges:
            if edge.reduction or not order.has(edge):
                continue
            if (found := order.once(edge, -1, partial(_violation, order))) is not None:
                return found
        dependences.orders.add(order.key)
    return None


def _violation(order: _Order, item: Dependence) -> Conflict | None:
    source, target = order.ends(item)
    shared = common_depth(source.around, target.around)
    wrong = []
    for level in range(shared):
        least, most = advance(order.spread(item), source, target, level)
        if least < 0:
            wrong.append([*_equal(level), f"a{level} > b{level}"])
        if least > 0 or most < 0:  # no two are in the same iteration of this loop
            return order.find(item, wrong)
    if item.source != item.target and not order.first(item):
        wrong.append(_equal(shared))
    return order.find(item, wrong)


def _equal(count: int) -> list[str]:
    return [f"a{n} = b{n}" for n in range(count)]


# Loops whose iterations run at the same time


def _check_marks(program: Program, dependences: Dependences, *, in_c: bool) -> None:
    sure = []
    for around, loop in loops(program.body):
        shared = loop.parallel or (around and around[-1].collapse)
        for marked, step in ((shared, "parallelize"), (loop.vector, "vectorize")):
            if marked:
                what = f"{step} {loop.iterator}"
                targets = _check_concurrent(what, program, loop, dependences)
                sure.append(in_c and _surely_in_c(program, around, loop, targets))
    if in_c and not all(sure):
        check_in_c(program, dependences)


def check_in_c(program: Program, dependences: Dependences) -> None:
    """Refuse what cannot be written as C, asked once for each nest where there are no temporaries.

    Args:
        program: after some steps.
        dependences: those of the program as written.

    Raises:
        ScheduleError: it cannot.
    """
    if program.temporaries:
        check_marks(program)
        return
    for node in program.body:
        if node not in dependences.refused:
            dependences.refused[node] = _refused_in_c(program.with_body((node,)))
        if (refused := dependences.refused[node]) is not None:
            raise ScheduleError(refused.message, hint=refused.hint)


def _refused_in_c(program: Program) -> ScheduleError | None:
    try:
        check_marks(program)
    except ScheduleError as refused:
        return refused.with_traceback(None)
    return None


def _check_concurrent(
    what: str, program: Program, loop: Loop, dependences: Dependences
) -> set[Access]:
    """Refuse the mark on ``loop`` if that loop carries a dependence.

    Reductions into one element may be shared out; the elements are returned.
    """
    inside = {s.name: s.target for _, s in loop.inside}
    edges = [x for x in dependences.edges if x.source in inside and x.target in inside]
    apart = loop.lanes > 1 and any(isinstance(node, Loop) for node in loop.body)
    shared = [
        x
        for x in edges
        if x.reduction
        and (
            inside[x.source].array in loop.private
            or (not apart and _shared_element(inside, x, loop))
        )
    ]
    _refuse_carried(what, program, loop, dependences, [x for x in edges if x not in shared])
    return {inside[x.source] for x in shared}


def _surely_in_c(
    program: Program, around: tuple[Loop, ...], loop: Loop, shared: set[Access]
) -> bool:
    """Whether C surely can share out ``loop``, with the reductions into the elements ``shared``."""
    if not _few_copies(program):
        return False
    # The emitter goes by the text: it also shares out what isl knows to be carried by nothing.
    targets = shared | {s.target for s in invariant_updates(loop, {}, loosely=True)}
    if not targets and not program.temporaries:
        return True
    return not _adds_in_lanes(loop) and surely_shared(program, loop, around, targets)


def _adds_in_lanes(loop: Loop) -> bool:
    """Whether every lane of an innermost loop may have a sum of its own."""
    return loop.lanes > 1 and len(loop.nest) == 1


def _shares(loop: Loop) -> bool:
    """Whether a marked loop may have updates that its iterations do together."""
    blocks = loop.lanes > 1 and len(loop.nest) > 1  # of lanes, each with all that it updates
    return not blocks and any(True for _ in invariant_updates(loop, {}, loosely=True))


def _few_copies(program: Program) -> bool:
    """Whether jams and lanes surely write out no more statements than they may."""
    copies = (
        math.prod(x.jam * x.lanes.bit_length() for x in around)
        for around, _ in statements(program.body)
    )
    return sum(copies) <= MAX_STATEMENTS


def _refuse_carried(
    what: str,
    program: Program,
    loop: Loop,
    dependences: Dependences,
    relevant: Sequence[Edge],
) -> None:
    if not relevant:
        return
    order = _Order(program, dependences)
    name = loop.iterator if loop.jam == 1 else tiles_name(loop)
    for edge in relevant:
        level = [x.iterator for x in order.ends(edge)[0].around].index(name)
        found = order.once(edge, level, partial(_carried, order, level))
        if found is not None:
            raise ScheduleError(
                f"{what}: the loop carries the dependence {found}",
                hint=_concurrency_hint(found),
            )


def _shared_element(targets: Mapping[str, Access], edge: Edge, loop: Loop) -> bool:
    """Whether both updates go to one element throughout each execution of ``loop``."""
    inner = loop.iterators.union(d.name for _, s in loop.inside for d in s.derived)
    target = targets[edge.source]
    return target == targets[edge.target] and not any(s.names & inner for s in target.subscripts)


def _carried(order: _Order, level: int, item: Dependence) -> Conflict | None:
    source, target = order.ends(item)
    ahead = [advance(order.spread(item), source, target, n) for n in range(level + 1)]
    if any(least > 0 or most < 0 for least, most in ahead[:-1]):
        return None
    least, most = ahead[-1]
    signs = [sign for sign, possible in (("<", most > 0), (">", least < 0)) if possible]
    return order.find(item, [[*_equal(level), f"a{level} {sign} b{level}"] for sign in signs])


def _concurrency_hint(found: Conflict) -> str:
    if found.dependence.reduction:
        return (
            "Iterations may share a reduction only where all of them update one element: choose "
            "a loop that walks over the elements, or interchange so that this loop is further in."
        )
    if found.dependence.access.subscripts:
        return f"Choose another loop; the distance as written is {found.distance()}."
    return (
        f"Declare {found.dependence.access.array} inside the loop if no iteration needs what an "
        "earlier one left in it; else choose another loop."
    )
