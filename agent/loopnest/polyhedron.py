"""Loop nests as integer sets and relations (isl), for what has to be exact.

Dimensions are built under positional names, because an iterator may be called what isl reserves
(``exists``, ``mod``), and get the iterators' names afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import islpy as isl

from agent.errors import AgentError, ScheduleError
from agent.loopnest.program import Affine, Bound, Loop

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_OPERATIONS = 2_000_000  # of isl, a question; about a second
_T = TypeVar("_T")


def bounded_context(operations: int = MAX_OPERATIONS) -> isl.Context:
    """A context in which isl gives up after ``operations`` and prints nothing."""
    context = isl.Context()
    context.set_on_error(isl.on_error.CONTINUE)
    context.set_max_operations(operations)
    return context


def bounded(
    context: isl.Context,
    question: Callable[[], _T],
    what: str,
    error: type[AgentError] = ScheduleError,
) -> _T:
    """The answer to ``question``, computed by isl within the operations ``context`` allows.

    Raises:
        AgentError: of the type ``error``, where isl gives up; ``what`` says on what.
    """
    context.reset_operations()
    try:
        return question()
    except isl.Error as failure:
        raise error(
            f"{what}: too complex to analyse exactly",
            hint="Fewer loops around the statements, or simpler bounds and subscripts, help.",
        ) from failure


def affine_text(expr: Affine, names: Mapping[str, str]) -> str:
    """``expr`` in isl's notation, every iterator under the name ``names`` gives it."""
    return " + ".join([*(f"{c}*{names[n]}" for n, c in expr.terms), f"{expr.const}"])


def _stride(loop: Loop, me: str, names: Mapping[str, str]) -> str:
    """``me`` lies a multiple of the step above the first iteration (the largest lower bound)."""
    lower = [(affine_text(b.expr, names), b.divisor) for b in loop.lower]
    above = " and ".join(f"{d}*first >= {text}" for text, d in lower)
    reached = " or ".join(f"{d}*first <= {text} + {d - 1}" for text, d in lower)
    return f"exists (first, count : {above} and ({reached}) and {me} = first + {loop.step}*count)"


def loop_constraint(loop: Loop, names: Mapping[str, str]) -> str:
    """The values one loop's iterator takes, as a constraint in isl's notation."""
    me = names[loop.iterator]
    parts = [f"{b.divisor}*{me} >= {affine_text(b.expr, names)}" for b in loop.lower]
    parts += [f"{b.divisor}*{me} <= {affine_text(b.expr, names)}" for b in loop.upper]
    if loop.step > 1:
        parts.append(_stride(loop, me, names))
    return " and ".join(parts)


def positional(around: Iterable[Loop], letter: str = "x") -> dict[str, str]:
    """Iterator -> the name it has while isl reads a text: ``x0``, ``x1``..."""
    return {loop.iterator: f"{letter}{number}" for number, loop in enumerate(around)}


def iteration_domain(around: tuple[Loop, ...], context: isl.Context | None = None) -> isl.Set:
    """The iteration vectors of a statement inside the loops ``around``, outermost first.

    Returns:
        A set with one dimension a loop, called like its iterator; strides and ceilings are
        existentially quantified.
    """
    names = positional(around)
    constraints = " and ".join(loop_constraint(loop, names) for loop in around) or "true"
    text = f"{{ [{', '.join(names.values())}] : {constraints} }}"
    domain = isl.Set.read_from_str(context or isl.DEFAULT_CONTEXT, text)
    for position, loop in enumerate(around):
        domain = domain.set_dim_name(isl.dim_type.set, position, loop.iterator)
    return domain


def affine_map(
    around: tuple[Loop, ...], values: tuple[Affine, ...], context: isl.Context | None = None
) -> isl.Map:
    """The relation from iteration vectors in the loops ``around`` to the tuple ``values``."""
    names = positional(around)
    constraints = " and ".join(loop_constraint(loop, names) for loop in around) or "true"
    outputs = ", ".join(affine_text(value, names) for value in values)
    text = f"{{ [{', '.join(names.values())}] -> [{outputs}] : {constraints} }}"
    return isl.Map.read_from_str(context or isl.DEFAULT_CONTEXT, text)


def scan_bounds(
    outer: tuple[Loop, ...], band: tuple[Loop, ...]
) -> list[tuple[tuple[Bound, ...], tuple[Bound, ...]]]:
    """Bounds ``(lower, upper)`` of the loops ``band``, put in a new order inside ``outer``.

    What lies inside a loop is projected out to get its bounds. Where a projection has holes the
    bounds span them: such an iteration finds its inner loops empty, which is harmless. Every
    constraint of the original loops is kept at the innermost loop it mentions, so that the
    iterations of the whole band are exactly the same.

    Raises:
        ScheduleError: the loops never run, or the analysis is too complex.
    """
    order = (*outer, *band)
    names = positional(order)
    context = bounded_context()
    unit = [replace(loop, step=1) for loop in order]  # strides of outer loops may be ignored
    dims = ", ".join(names.values())

    def basic_set(constraints: Iterable[str]) -> isl.BasicSet:
        text = f"{{ [{dims}] : {' and '.join(constraints) or 'true'} }}"
        return isl.BasicSet.read_from_str(context, text)

    def project() -> list[tuple[tuple[Bound, ...], tuple[Bound, ...]]]:
        whole = basic_set(loop_constraint(loop, names) for loop in unit)
        known = basic_set(loop_constraint(loop, names) for loop in unit[: len(outer)])
        found = []
        for level in range(len(outer), len(order)):
            inner = len(order) - level - 1
            plain = whole.drop_constraints_involving_dims(isl.dim_type.set, level + 1, inner)
            shadow = whole.eliminate(isl.dim_type.set, level + 1, inner).remove_divs()
            here = shadow.intersect(plain).gist(known)
            found.append(_bounds_of(here, level, [loop.iterator for loop in order]))
            known = known.intersect(here)
        return found

    return bounded(context, project, "the bounds of the reordered loops")


def _bounds_of(
    here: isl.BasicSet, level: int, iterators: Sequence[str]
) -> tuple[tuple[Bound, ...], tuple[Bound, ...]]:
    """The constraints of a set on dimension ``level``, as lower and upper bounds."""
    lower: list[Bound] = []
    upper: list[Bound] = []
    for constraint in here.get_constraints():
        mine = _integer(constraint, level)
        terms = {n: _integer(constraint, d) for d, n in enumerate(iterators) if d != level}
        rest = Affine.of(terms, constraint.get_constant_val().to_python())
        if mine > 0 or (mine and constraint.is_equality()):
            lower.append(Bound(rest * (-1 if mine > 0 else 1), abs(mine)))
        if mine < 0 or (mine and constraint.is_equality()):
            upper.append(Bound(rest * (1 if mine < 0 else -1), abs(mine)))
    if not lower or not upper:
        raise ScheduleError(f"loop {iterators[level]} never runs, its bounds cannot be reordered")
    return tuple(sorted(lower, key=_by_size)), tuple(sorted(upper, key=_by_size))


def _integer(constraint: isl.Constraint, dim: int) -> int:
    return int(constraint.get_coefficient_val(isl.dim_type.set, dim).to_python())


def _by_size(bound: Bound) -> tuple[int, str]:
    return len(bound.expr.terms), f"{bound.expr}/{bound.divisor}"
