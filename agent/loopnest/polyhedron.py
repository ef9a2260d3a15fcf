"""Loop nests as integer sets and relations (isl), for what has to be exact.

Dimensions have positional names, because an iterator may be called what isl reserves (``exists``,
``mod``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import gcd
from typing import TYPE_CHECKING, TypeVar

import islpy as isl

from agent.errors import AgentError, ScheduleError
from agent.loopnest.program import Access, Affine, Bound, Loop

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_OPERATIONS = 100_000  # of isl, a question: 10 ms as a rule, seconds at worst
_T = TypeVar("_T")
Bounds = tuple[tuple[Bound, ...], tuple[Bound, ...]]  # lower, upper


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


def integer(value: isl.Val) -> int:
    """The whole number that isl holds in ``value``.

    Raises:
        isl.Error: isl gave up computing it.
    """
    text = value.to_str()
    if text is None:
        raise isl.Error("no value")
    return int(text)


def isl_sum(expr: Affine, names: Mapping[str, str]) -> str:
    """``expr`` in isl's notation, every iterator under the name ``names`` gives it."""
    return " + ".join([*(f"{c}*{names[n]}" for n, c in expr.terms), f"{expr.const}"])


def _stride(loop: Loop, me: str, names: Mapping[str, str]) -> str:
    """``me`` lies a multiple of the step above the first iteration (the largest lower bound)."""
    lower = [(isl_sum(b.expr, names), b.divisor) for b in loop.lower]
    above = " and ".join(f"{d}*first >= {text}" for text, d in lower)
    reached = " or ".join(f"{d}*first <= {text} + {d - 1}" for text, d in lower)
    return f"exists (first, count : {above} and ({reached}) and {me} = first + {loop.step}*count)"


def loop_constraint(loop: Loop, names: Mapping[str, str]) -> str:
    """The values one loop's iterator takes, as a constraint in isl's notation."""
    me = names[loop.iterator]
    parts = [f"{b.divisor}*{me} >= {isl_sum(b.expr, names)}" for b in loop.lower]
    parts += [f"{b.divisor}*{me} <= {isl_sum(b.expr, names)}" for b in loop.upper]
    if loop.step > 1:
        parts.append(_stride(loop, me, names))
    return " and ".join(parts)


def positional(around: Iterable[Loop], letter: str = "x") -> dict[str, str]:
    """Iterator -> the name it has while isl reads a text: ``x0``, ``x1``..."""
    return {loop.iterator: f"{letter}{number}" for number, loop in enumerate(around)}


def affine_map(
    around: tuple[Loop, ...], values: tuple[Affine, ...], context: isl.Context | None = None
) -> isl.Map:
    """The relation from iteration vectors in the loops ``around`` to the tuple ``values``."""
    context = context or isl.DEFAULT_CONTEXT
    if all(_starts_at_sum(loop) for loop in around if loop.step > 1):
        return _built_map(around, values, context)
    names = positional(around)
    constraints = " and ".join(loop_constraint(loop, names) for loop in around) or "true"
    outputs = ", ".join(isl_sum(value, names) for value in values)
    text = f"{{ [{', '.join(names.values())}] -> [{outputs}] : {constraints} }}"
    return isl.Map.read_from_str(context, text)


def _starts_at_sum(loop: Loop) -> bool:
    return len(loop.lower) == 1 and loop.lower[0].divisor == 1


def _built_map(
    around: tuple[Loop, ...], values: tuple[Affine, ...], context: isl.Context
) -> isl.Map:
    """``affine_map`` without a text to read, which takes most of its time."""
    strided = [loop for loop in around if loop.step > 1]
    inputs = [*(loop.iterator for loop in around), *(f"#{loop.iterator}" for loop in strided)]
    outputs = [f"#{n}" for n in range(len(values))]
    space = isl.Space.alloc(context, 0, len(inputs), len(outputs))
    local = isl.LocalSpace.from_space(space)
    places = {name: (isl.dim_type.in_, n) for n, name in enumerate(inputs)}
    places |= {name: (isl.dim_type.out, n) for n, name in enumerate(outputs)}
    zero = [Affine.var(name) - value for name, value in zip(outputs, values, strict=True)]
    for loop in strided:  # a whole number of steps above the first iteration
        first = Affine.var(loop.iterator) - loop.lower[0].expr
        zero.append(first - Affine.var(f"#{loop.iterator}") * loop.step)
    found = isl.BasicMap.universe(space)
    for form in zero:
        start = isl.Constraint.alloc_equality(local)
        found = found.add_constraint(_with_terms(start, form, places))
    for form in (c for loop in around for c in _constraints(loop)):
        start = isl.Constraint.alloc_inequality(local)
        found = found.add_constraint(_with_terms(start, form, places))
    found = found.project_out(isl.dim_type.in_, len(around), len(strided))
    return isl.Map.from_basic_map(found)


def _with_terms(
    constraint: isl.Constraint, form: Affine, places: Mapping[str, tuple[isl.dim_type, int]]
) -> isl.Constraint:
    for name, c in form.terms:
        constraint = constraint.set_coefficient_val(*places[name], c)
    return constraint.set_constant_val(form.const)


def names_once(around: tuple[Loop, ...], access: Access) -> bool:
    """Whether no two iterations of the loops ``around`` access the same element.

    Raises:
        ScheduleError: too complex to be analysed.
    """
    context = bounded_context()
    ask = partial(affine_map, around, access.subscripts, context)
    return bounded(context, lambda: ask().is_injective(), f"the elements of {access.array}")


def scan_bounds(outer: tuple[Loop, ...], band: tuple[Loop, ...]) -> list[Bounds]:
    """Bounds ``(lower, upper)`` of the loops ``band``, put in a new order inside ``outer``.

    Every bound of the loops is kept at the innermost loop that it mentions now, so that the
    iterations of the whole band are exactly the same, unless others imply it. Bounds that
    projection finds besides keep outer loops short; where a projection has holes they span them,
    and such an iteration finds its inner loops empty, which is harmless.

    Raises:
        ScheduleError: the loops never run, or the analysis is too complex.
    """
    iterators = [loop.iterator for loop in (*outer, *band)]
    context = bounded_context()
    space = isl.Space.set_alloc(context, 0, len(iterators))
    local = isl.LocalSpace.from_space(space)
    places = {name: (isl.dim_type.set, n) for n, name in enumerate(iterators)}

    def within(start: isl.BasicSet, forms: Iterable[Affine]) -> isl.BasicSet:
        """``start`` where no form is negative."""
        for form in forms:
            constraint = isl.Constraint.alloc_inequality(local)
            start = start.add_constraint(_with_terms(constraint, form, places))
        return start

    def project() -> list[Bounds]:
        whole = [c for loop in band for c in _constraints(loop)]
        around = isl.BasicSet.universe(space)
        around = within(around, (c for loop in outer for c in _constraints(loop)))
        body = within(around, whole)
        found = []
        for level in range(len(outer), len(iterators)):
            inside = frozenset(iterators[level + 1 :])
            mine = [c for c in whole if iterators[level] in c.names and not c.names & inside]
            shadow = body.eliminate(isl.dim_type.set, level + 1, len(inside)).remove_divs()
            needed = [*mine, *_constraints_of(shadow, level, iterators)]
            for c in reversed(tuple(needed)):  # what projection found goes first
                others = [x for x in needed if x is not c]
                if within(around, [*others, -c - 1]).is_empty():
                    needed = others
            around = within(around, needed)
            found.append(_bounds(needed, iterators[level]))
        return found

    return bounded(context, project, "the bounds of the reordered loops")


def _constraints(loop: Loop) -> list[Affine]:
    """What is not negative for the values of a loop's iterator (its step left aside)."""
    me = Affine.var(loop.iterator)
    lower = [me * b.divisor - b.expr for b in loop.lower]
    return [_reduced(c) for c in (*lower, *(b.expr - me * b.divisor for b in loop.upper))]


def _reduced(constraint: Affine) -> Affine:
    """The same ``>= 0`` over the integers with the smallest coefficients."""
    common = gcd(*(c for _, c in constraint.terms)) or 1
    terms = {n: c // common for n, c in constraint.terms}
    return Affine.of(terms, constraint.const // common)


def _constraints_of(here: isl.BasicSet, level: int, iterators: Sequence[str]) -> list[Affine]:
    """What is not negative in a set, of all that involves dimension ``level``."""
    found = []
    for constraint in here.get_constraints():
        if constraint.involves_dims(isl.dim_type.set, level, 1):
            values = [
                integer(constraint.get_coefficient_val(isl.dim_type.set, d))
                for d in range(len(iterators))
            ]
            const = integer(constraint.get_constant_val())
            form = Affine.of(dict(zip(iterators, values, strict=True)), const)
            found += [form, -form] if constraint.is_equality() else [form]
    return found


def _bounds(constraints: Iterable[Affine], iterator: str) -> Bounds:
    """The bounds on ``iterator`` that constraints ``>= 0`` amount to."""
    lower: list[Bound] = []
    upper: list[Bound] = []
    for form in constraints:
        factor = form.coefficient(iterator)
        rest = form - Affine.var(iterator) * factor
        if factor > 0:
            lower.append(Bound(-rest, factor))
        else:
            upper.append(Bound(rest, -factor))
    if not lower or not upper:
        raise ScheduleError(f"loop {iterator} never runs, its bounds cannot be reordered")
    return tuple(sorted(lower, key=_by_size)), tuple(sorted(upper, key=_by_size))


def _by_size(bound: Bound) -> tuple[int, str]:
    return len(bound.expr.terms), f"{bound.expr}/{bound.divisor}"
