"""Whether a schedule keeps the meaning of a program: exact, by its dependences.

``Statement.instance`` relates every statement of the transformed program to the program as
written, so one check serves all steps: the source of every dependence still runs before its
target, and loops whose iterations run at the same time carry none. Reductions may be reordered,
and shared out where all iterations update one element.

Ranges of distances answer most questions (``places``); isl answers the rest exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import islpy as isl

from agent.errors import ScheduleError
from agent.loopnest import transform as steps
from agent.loopnest.dependence import Dependence, Dependences, common_depth, pairs_map
from agent.loopnest.places import Place, advance, places, tiles_name
from agent.loopnest.polyhedron import affine_map, bounded
from agent.loopnest.program import Access, Loop, Program, loops, statements
from agent.loopnest.schedule import Schedule, Step

__all__ = ["Dependences", "check", "transform"]


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
            names the step, the dependence, and two instances of it.
    """
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
    _check_marks(after[-1], dependences)
    return after[-1]


def check(program: Program, dependences: Dependences) -> None:
    """Refuse a transformed program that does not mean what it meant as written.

    Raises:
        ScheduleError: the message names the dependence and two instances of it.
    """
    if (broken := _misplaced(program, dependences)) is not None:
        raise ScheduleError(f"the schedule breaks the dependence {broken}")
    _check_marks(program, dependences)


def _culprit(schedule: Schedule, after: list[Program], dependences: Dependences) -> Step:
    """The step since which the order has been wrong."""
    number = len(schedule.steps)
    while number > 1 and _misplaced(after[number - 1], dependences) is not None:
        number -= 1
    return schedule.steps[number - 1]


@dataclass(frozen=True)
class Conflict:
    """A dependence and one pair of instances, as written, that shows it."""

    dependence: Dependence
    source: Mapping[str, int]
    target: Mapping[str, int]

    def distance(self) -> str:
        """``(i: 1, j: -1)``; a range where it varies."""
        ranges = self.dependence.distance.items()
        text = ", ".join(f"{n}: {lo}" if lo == hi else f"{n}: {lo}..{hi}" for n, (lo, hi) in ranges)
        return f"({text or 'no loop is shared'})"

    def __str__(self) -> str:
        d = self.dependence
        access = d.access.array + "".join(f"[{s}]" for s in d.access.subscripts)
        return (
            f"{d.source} -> {d.target} ({d.kind}) on {access}, "
            f"for example from {_point(self.source)} to {_point(self.target)}"
        )


def _point(values: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{n}={v}" for n, v in values.items()) + ")"


# Order


def _misplaced(program: Program, dependences: Dependences) -> Conflict | None:
    """A dependence whose target runs before its source, if there is one."""
    now = places(program, dependences.iterators)
    for item in dependences.items:
        if item.reduction:
            continue
        source, target = now[item.source], now[item.target]
        shared = common_depth(source.around, target.around)
        if _surely_ordered(item, source, target, shared):
            continue
        sizes = len(source.around), len(target.around)
        orders = [_after(level) for level in range(shared)]
        if source.index > target.index:
            orders.append(_equal(shared))
        for order in orders:
            if (found := _find(item, source, target, sizes, order, dependences)) is not None:
                return found
    return None


def _surely_ordered(item: Dependence, source: Place, target: Place, shared: int) -> bool:
    """Whether the ranges of the distances prove that the source runs first."""
    for level in range(shared):
        least, _ = advance(item.distance, source, target, level)
        if least > 0:
            return True
        if least < 0:
            return False
    return source.index < target.index


def _equal(count: int) -> list[str]:
    return [f"a{n} = b{n}" for n in range(count)]


def _after(level: int) -> list[str]:
    return [*_equal(level), f"a{level} > b{level}"]


def _find(
    item: Dependence,
    source: Place,
    target: Place,
    sizes: tuple[int, int],
    constraints: list[str],
    dependences: Dependences,
) -> Conflict | None:
    """A pair of the dependence whose iteration vectors of now satisfy ``constraints``."""

    def search() -> Conflict | None:
        context = dependences.context
        first = affine_map(source.around, source.instance, context)
        second = affine_map(target.around, target.instance, context)
        pairs = first.apply_range(item.relation).apply_range(second.reverse())
        bad = pairs.intersect(pairs_map(context, sizes, constraints))
        return None if bad.is_empty() else _conflict(item, source, target, bad, dependences)

    return bounded(dependences.context, search, f"the dependence {item.source} -> {item.target}")


def _conflict(
    item: Dependence, source: Place, target: Place, bad: isl.Map, dependences: Dependences
) -> Conflict:
    point = bad.wrap().lexmin().sample_point()
    values = [
        int(point.get_coordinate_val(isl.dim_type.set, n).to_python())
        for n in range(len(source.around) + len(target.around))
    ]
    depth = len(source.around)
    return Conflict(
        item,
        _as_written(source, values[:depth], dependences.iterators[item.source]),
        _as_written(target, values[depth:], dependences.iterators[item.target]),
    )


def _as_written(place: Place, vector: list[int], names: tuple[str, ...]) -> dict[str, int]:
    now = dict(zip((loop.iterator for loop in place.around), vector, strict=True))
    return {n: value.evaluate(now) for n, value in zip(names, place.instance, strict=True)}


# Loops whose iterations run at the same time


def _check_marks(program: Program, dependences: Dependences) -> None:
    for _, loop in loops(program.body):
        for marked, step in ((loop.parallel, "parallelize"), (loop.vector, "vectorize")):
            if marked:
                _check_concurrent(f"{step} {loop.iterator}", program, loop, dependences)


def _check_concurrent(what: str, program: Program, loop: Loop, dependences: Dependences) -> None:
    inside = {s.name: s for _, s in statements(loop.body)}
    now: dict[str, Place] = {}
    for item in dependences.items:
        if item.source not in inside or item.target not in inside:
            continue
        one, two = inside[item.source].target, inside[item.target].target
        if item.reduction and one == two and not _varies(one, loop):
            continue
        now = now or places(program, dependences.iterators)
        found = _carried(item, now[item.source], now[item.target], loop, dependences)
        if found is not None:
            raise ScheduleError(
                f"{what}: the loop carries the dependence {found}",
                hint=_concurrency_hint(found),
            )


def _varies(access: Access, loop: Loop) -> bool:
    """Whether an access names several elements in one execution of ``loop``."""
    inner = {x.iterator for _, x in loops(loop.body)} | {loop.iterator}
    return any(s.names & inner for s in access.subscripts)


def _carried(
    item: Dependence, source: Place, target: Place, loop: Loop, dependences: Dependences
) -> Conflict | None:
    name = loop.iterator if loop.jam == 1 else tiles_name(loop)
    level = [x.iterator for x in source.around].index(name)
    for outer in range(level + 1):
        least, most = advance(item.distance, source, target, outer)
        if outer < level and (least > 0 or most < 0):
            return None
        if outer == level and least == most == 0:
            return None
    sizes = len(source.around), len(target.around)
    for sign in "<>":
        constraints = [*_equal(level), f"a{level} {sign} b{level}"]
        found = _find(item, source, target, sizes, constraints, dependences)
        if found is not None:
            return found
    return None


def _concurrency_hint(found: Conflict) -> str:
    if found.dependence.reduction:
        return (
            "Iterations may share a reduction only where all of them update one element: choose "
            "a loop that walks over the elements, or interchange so that this loop is further in."
        )
    if found.dependence.access.subscripts:
        return f"Choose another loop; the distance as written is {found.distance()}."
    return f"Declare {found.dependence.access.array} inside the loop that uses it."
