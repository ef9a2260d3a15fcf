"""The instances of a statement as isl knows them: loops, affine conditions, derived numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import islpy as isl

from agent.errors import SourceError
from agent.loopnest.lowering.state import Environment, Range
from agent.loopnest.program import Access, Affine, Literal, Statement, reads

MAX_QUESTIONS = 2_000
_T = TypeVar("_T")


def image(env: Environment, value: Affine, rough: Range) -> Range:
    """The exact range of ``value`` over all instances; ``rough`` holds it already.

    Raises:
        SourceError: the loops and conditions are too complex to tell.
    """
    if not env.conditions and _is_box(env, value):
        return rough
    key = (env.around, env.conditions, tuple(env.derived), value)
    asked = env.region.ranges
    if key not in asked:
        if len(asked) == MAX_QUESTIONS:
            raise SourceError(
                "too many accesses to prove in bounds one by one",
                hint="Fewer statements or simpler subscripts help.",
            )
        asked[key] = _bounded(env, (value,), _range_of)
    return asked[key]


def _is_box(env: Environment, value: Affine) -> bool:
    """Whether intervals are exact: iterators run over constants, derived numbers over data."""
    for loop in env.around:
        if loop.iterator in value.names:
            bounds = (*loop.lower, *loop.upper)
            if loop.step != 1 or not all(b.expr.is_constant for b in bounds):
                return False
    used = [d for d in env.derived if d.name in value.names]
    return len(value.terms) == 1 or (len(used) < 2 and all(any(reads(d.value)) for d in used))


def may_vanish(env: Environment, apart: tuple[Affine, ...]) -> bool:
    """Whether the values ``apart`` are all 0 in some instance.

    Raises:
        SourceError: the loops and conditions are too complex to tell.
    """
    key = (env.around, env.conditions, tuple(env.derived), apart)
    asked = env.region.apart
    if key not in asked:
        asked[key] = _bounded(env, apart, _vanishes)
    return asked[key]


def _vanishes(found: isl.Set) -> bool:
    origin = "{ [" + ", ".join("0" for _ in range(found.n_dim())) + "] }"
    return not found.intersect(isl.Set.read_from_str(found.get_ctx(), origin)).is_empty()


def _range_of(found: isl.Set) -> Range:
    from agent.loopnest.polyhedron import integer

    if found.is_empty():
        return 0, -1
    return integer(found.dim_min_val(0)), integer(found.dim_max_val(0))


def _bounded(env: Environment, values: tuple[Affine, ...], answer: Callable[[isl.Set], _T]) -> _T:
    """What ``answer`` finds in the image of all instances under ``values``."""
    from agent.loopnest import polyhedron
    from agent.loopnest.presburger import access_map

    context = polyhedron.bounded_context()
    numbers = Statement("", Access(""), "", Literal("0"), (), derived=tuple(env.derived))

    def ask() -> _T:
        known = access_map(
            env.around, numbers, values, env.conditions, env.region.dtype_of, context
        )
        return answer(known.range())

    what = "the subscripts " + ", ".join(map(str, values))
    return polyhedron.bounded(context, ask, what, SourceError)
