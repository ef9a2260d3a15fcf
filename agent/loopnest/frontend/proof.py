"""What the front end proves about accesses: in bounds, and apart within one instance.

Intervals settle nearly every access at once; isl settles the rest exactly (integer points of
triangles, of strides) and is imported for those only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.errors import SourceError
from agent.loopnest.program import Access, Affine, Loop

MAX_QUESTIONS = 200  # to isl, a program; each is bounded too
Range = tuple[int, int]


def iterator_ranges(around: tuple[Loop, ...]) -> dict[str, Range] | None:
    """An interval that holds every value of each iterator; None where no instance exists."""
    found: dict[str, Range] = {}
    for loop in around:
        low = max(-(-b.expr.interval(found)[0] // b.divisor) for b in loop.lower)
        high = min(b.expr.interval(found)[1] // b.divisor for b in loop.upper)
        if low > high:
            return None
        found[loop.iterator] = (low, high)
    return found


@dataclass
class Prover:
    """Answers questions about one program; the exact answers are kept, their number is bounded."""

    asked: dict[tuple[tuple[Loop, ...], tuple[Affine, ...]], bool | Range | None] = field(
        default_factory=dict
    )

    def outside(self, around: tuple[Loop, ...], subscript: Affine, extent: int) -> Range | None:
        """The exact range of ``subscript`` where it leaves ``0..extent-1``, else None.

        Raises:
            SourceError: the loops are too complex to tell.
        """
        values = iterator_ranges(around)
        if values is None or _within(subscript.interval(values), extent):
            return None
        exact = self._image(around, (subscript,))
        if exact is None or isinstance(exact, bool) or _within(exact, extent):
            return None
        return exact

    def may_meet(self, around: tuple[Loop, ...], one: Access, two: Access) -> bool:
        """Whether two accesses to one array can be the same element in one instance.

        Raises:
            SourceError: the loops are too complex to tell.
        """
        apart = tuple(a - b for a, b in zip(one.subscripts, two.subscripts, strict=True))
        if all(d == Affine() for d in apart):
            return True
        values = iterator_ranges(around)
        if values is None or not all(_within_zero(d.interval(values)) for d in apart):
            return False
        return self._image(around, (*apart, Affine())) is True

    def _image(self, around: tuple[Loop, ...], values: tuple[Affine, ...]) -> bool | Range | None:
        """What isl finds on the tuple ``values`` over all instances.

        Of one value its range (None without instances); of several, whether they can all be 0.
        """
        key = (around, values)
        if key not in self.asked:
            if len(self.asked) == MAX_QUESTIONS:
                raise SourceError(
                    "too many accesses to prove in bounds one by one",
                    hint="Fewer statements or simpler subscripts help.",
                )
            self.asked[key] = _ask(around, values)
        return self.asked[key]


def _within(values: Range, extent: int) -> bool:
    return values[0] >= 0 and values[1] < extent


def _within_zero(values: Range) -> bool:
    return values[0] <= 0 <= values[1]


def _ask(around: tuple[Loop, ...], values: tuple[Affine, ...]) -> bool | Range | None:
    from agent.loopnest import polyhedron

    context = polyhedron.bounded_context()

    def ask() -> bool | Range | None:
        image = polyhedron.affine_map(around, values, context).range()
        if len(values) > 1:
            origin = "{ [" + ", ".join("0" for _ in values) + "] }"
            return not image.intersect(type(image).read_from_str(context, origin)).is_empty()
        if image.is_empty():
            return None
        return int(image.dim_min_val(0).to_python()), int(image.dim_max_val(0).to_python())

    what = "the subscripts " + ", ".join(map(str, values))
    return polyhedron.bounded(context, ask, what, SourceError)
