"""What the front end proves about accesses: in bounds, and apart within one instance.

Intervals settle nearly every access at once; isl settles the rest exactly (integer points of
triangles, of strides) and is imported for those only.
"""

from __future__ import annotations

from agent.errors import SourceError
from agent.loopnest.program import Access, Affine, Loop

Range = tuple[int, int]


def ranges(around: tuple[Loop, ...]) -> dict[str, Range] | None:
    """An interval that holds every value of each iterator; None where no instance exists."""
    found: dict[str, Range] = {}
    for loop in around:
        low = max(-(-span(b.expr, found)[0] // b.divisor) for b in loop.lower)
        high = min(span(b.expr, found)[1] // b.divisor for b in loop.upper)
        if low > high:
            return None
        found[loop.iterator] = (low, high)
    return found


def span(expr: Affine, values: dict[str, Range]) -> Range:
    """An interval that holds every value of ``expr``."""
    low = high = expr.const
    for name, c in expr.terms:
        ends = sorted((c * values[name][0], c * values[name][1]))
        low, high = low + ends[0], high + ends[1]
    return low, high


def outside(around: tuple[Loop, ...], subscript: Affine, extent: int) -> Range | None:
    """The exact range of ``subscript`` where it leaves ``0..extent-1``, else None.

    Raises:
        SourceError: the loops are too complex to tell.
    """
    values = ranges(around)
    if values is None or _within(span(subscript, values), extent):
        return None
    exact = _exact_range(around, subscript)
    return None if exact is None or _within(exact, extent) else exact


def _within(values: Range, extent: int) -> bool:
    return values[0] >= 0 and values[1] < extent


def _exact_range(around: tuple[Loop, ...], expr: Affine) -> Range | None:
    """The least and greatest value of ``expr`` over the instances; None where there are none."""
    from agent.loopnest import polyhedron

    context = polyhedron.bounded_context()

    def ask() -> Range | None:
        image = polyhedron.affine_map(around, (expr,), context).range()
        if image.is_empty():
            return None
        return int(image.dim_min_val(0).to_python()), int(image.dim_max_val(0).to_python())

    return polyhedron.bounded(context, ask, f"the range of {expr}", SourceError)


def may_meet(around: tuple[Loop, ...], one: Access, two: Access) -> bool:
    """Whether two accesses to one array can be the same element in one instance."""
    apart = [a - b for a, b in zip(one.subscripts, two.subscripts, strict=True)]
    values = ranges(around)
    if values is None or any(not _holds_zero(span(d, values)) for d in apart):
        return False
    if all(d == Affine() for d in apart):
        return True
    from agent.loopnest import polyhedron

    context = polyhedron.bounded_context()

    def ask() -> bool:
        image = polyhedron.affine_map(around, tuple(apart), context).range()
        origin = "{ [" + ", ".join("0" for _ in apart) + "] }"
        return not image.intersect(type(image).read_from_str(context, origin)).is_empty()

    return polyhedron.bounded(context, ask, "whether two accesses meet", SourceError)


def _holds_zero(values: Range) -> bool:
    return values[0] <= 0 <= values[1]
