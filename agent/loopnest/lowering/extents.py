"""Accesses stay within their array: that is proved where C says how long it is.

Where only a pointer is given, the accesses say how long it must be.
"""

from __future__ import annotations

from dataclasses import replace

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    Place,
)
from agent.loopnest.lowering.state import (
    MAX_ARRAYS,
    MAX_ELEMENTS,
    ArrayUse,
    Environment,
    Object,
    Range,
    RestartError,
    refusal,
)
from agent.loopnest.program import Affine, DType, Read, reads

INSIDE = "subscripts that are read from data stay inside of their arrays"


def use_of(
    env: Environment,
    at: Place,
    found: Object,
    dtype: DType,
    fields: tuple[tuple[Affine, int], ...],
) -> ArrayUse:
    """The array of the Program that holds the numbers of type ``dtype`` in ``found``."""
    region = env.region
    inner = tuple(extent for _, extent in fields)
    key = (found.ident, dtype, len(inner))
    if key not in region.arrays:
        if len(region.arrays) == MAX_ARRAYS:
            raise refusal(
                at,
                f"the loops use more than {MAX_ARRAYS} arrays",
                "Put #pragma scop and endscop around fewer loops.",
            )
        again = any(k[0] == found.ident for k in region.arrays)
        name = f"{found.name}_{dtype.name.lower()}" if again else found.name
        if again or (name in region.names.taken and name not in region.parameters):
            name = region.names.fresh(name)
        region.names.taken.add(name)
        region.arrays[key] = ArrayUse(name, found, dtype, inner)
    return region.arrays[key]


def checked(
    env: Environment, at: Place, use: ArrayUse, values: tuple[Affine, ...]
) -> tuple[Affine, ...]:
    """The subscripts ``values``, within the array; where its extent is open, it is noted."""
    first, *rest = use.object.shape
    if first is None:
        low, high = exact_range(env, at, values[0])
        if high - low >= MAX_ELEMENTS:
            raise _boundless(env, at, use, values[0])
        note_extent(env, use, values[0], (low, high))
    else:
        values = (_kept(env, at, use, 1, values[0], first), *values[1:])
    for number, extent in enumerate(rest, 1):
        if extent is not None:
            kept = _kept(env, at, use, number + 1, values[number], extent)
            values = (*values[:number], kept, *values[number + 1 :])
    return values


def note_extent(env: Environment, use: ArrayUse, value: Affine, ends: Range) -> None:
    """Note that the first subscript ``value`` runs over ``ends``, and whether it surely does."""
    derived = {d.name for d in env.derived}
    surely = env.sure and not env.conditions and not derived & value.names
    use.saw(*ends, surely=surely)


def _boundless(env: Environment, at: Place, use: ArrayUse, value: Affine) -> Exception:
    """That an extent is not known; or that what a variable counts to has to be found out."""
    for derived in env.derived:
        if derived.name in value.names and isinstance(derived.value, Read):
            ident = env.region.holds.get(derived.value.access.array)
            if ident is not None and ident not in env.region.decisions.counting:
                return RestartError(counting=ident)
    return refusal(
        at,
        f"nothing says how many elements {use.object.name!r} has: its subscript is read from data",
        f"Declare the parameter with its extent, for example {use.object.name}[n], and give n "
        "with --size.",
    )


def _kept(
    env: Environment, at: Place, use: ArrayUse, number: int, value: Affine, extent: int
) -> Affine:
    """``value`` where it stays within ``extent``; numbers read from data are taken to."""
    low, high = exact_range(env, at, value)
    if low >= 0 and high < extent:
        return value
    if narrowed(env, value, extent):
        env.region.assumed[INSIDE] = None
        return value
    shape = "".join(f"[{n}]" for n in use.array().shape)
    outside = refusal(
        at,
        f"{use.name} is out of bounds: subscript {number} runs from {low} to "
        f"{high}, and {use.name}{shape} has 0 to {extent - 1} there",
        "Check the loop's bounds, the array's shape and the sizes given with --size.",
    )
    if len(use.object.shape) > 1 and number > 1:  # perhaps it means to go on in the next row
        raise RestartError(flat=use.object.ident) from outside
    raise outside


def narrowed(env: Environment, value: Affine, extent: int) -> bool:
    """Narrows the one derived number of ``value`` to what stays within ``extent``, if it can."""
    mine = [n for n, d in enumerate(env.derived) if d.name in value.names]
    if len(mine) != 1 or len(value.terms) != 1:
        return False
    found = env.derived[mine[0]]
    if not any(reads(found.value)):
        return False  # nothing but iterators: it goes where it goes
    factor = value.coefficient(found.name)
    ends = sorted((-value.const / factor, (extent - 1 - value.const) / factor))
    low, high = max(found.low, int(-(-ends[0] // 1))), min(found.high, int(ends[1] // 1))
    if low > high:
        return False
    env.derived[mine[0]] = replace(found, low=low, high=high)
    return True


def exact_range(env: Environment, at: Place, value: Affine) -> Range:
    """The least and the greatest value over all instances; (0, -1) where there are none."""
    ranges = env.ranges()
    if ranges is None:
        return 0, -1
    if value.is_constant:
        return value.const, value.const
    from agent.loopnest.lowering.domain import image

    rough = value.interval(ranges)
    try:
        return image(env, value, rough)
    except SourceError as failure:
        raise refusal(at, failure.message, failure.hint) from failure
