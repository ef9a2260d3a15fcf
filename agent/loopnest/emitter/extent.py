"""Bounds on the value of an affine form inside a loop nest, by substitution of loop bounds.

Used where emission needs to know that a loop runs at least once, that one bound makes another
superfluous, or that an index fits a C ``int``. The answers are estimates on the safe side, not
exact: exact questions go to isl (polyhedron.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.loopnest.program import Affine, Bound, Loop, Statement

MAX_PATHS = 256  # combinations of bounds tried; beyond, one bound a loop
UNKNOWN = 2**200  # further from zero than any number that a program computes


def ceil_div(value: int, divisor: int) -> int:
    """``value / divisor`` rounded up; ``divisor`` is positive."""
    return -(-value // divisor)


def constant_lower(loop: Loop) -> int | None:
    """The first value of a loop whose lower bounds are numbers."""
    if any(not b.expr.is_constant for b in loop.lower):
        return None
    return max(ceil_div(b.expr.const, b.divisor) for b in loop.lower)


def constant_upper(loop: Loop) -> int | None:
    """The last value allowed by those upper bounds that are numbers, on the grid of the steps."""
    numbers = [b.expr.const // b.divisor for b in loop.upper if b.expr.is_constant]
    if not numbers:
        return None
    last, first = min(numbers), constant_lower(loop)
    if first is None or last < first:
        return last
    return first + (last - first) // loop.step * loop.step


def uppers(loop: Loop) -> list[Bound]:
    """The upper bounds, of numbers only the smallest, on the grid of the steps."""
    last = constant_upper(loop)
    rest = [b for b in loop.upper if not b.expr.is_constant]
    return rest if last is None else [Bound(Affine.constant(last)), *rest]


def _least(expr: Affine, around: Sequence[Loop], budget: int) -> int:
    for depth in range(len(around) - 1, -1, -1):
        loop = around[depth]
        factor = expr.coefficient(loop.iterator)
        if not factor:
            continue
        rest = expr - Affine.var(loop.iterator) * factor
        bounds = list(loop.lower) if factor > 0 else uppers(loop)
        bounds = bounds if budget >= len(bounds) else bounds[:1]
        return max(
            ceil_div(
                _least(rest * b.divisor + b.expr * factor, around[:depth], budget // len(bounds)),
                b.divisor,
            )
            for b in bounds
        )
    return -UNKNOWN if expr.terms else expr.const


def least(expr: Affine, around: Sequence[Loop]) -> int:
    """A number that ``expr`` is never below in any iteration of the nest ``around``.

    Args:
        expr: affine in the iterators of ``around``; with another name in it, nothing is known
            and the answer is far below all numbers.
        around: loops, outermost first; bounds use iterators of earlier loops.
    """
    return _least(expr, around, MAX_PATHS)


def greatest(expr: Affine, around: Sequence[Loop]) -> int:
    """A number that ``expr`` is never above in any iteration of the nest ``around``."""
    return -_least(-expr, around, MAX_PATHS)


def with_numbers(around: Sequence[Loop], statement: Statement) -> tuple[Loop, ...]:
    """``around``, and a loop over the range of every number that ``statement`` derives."""
    ends = {
        d.name: [(Bound(Affine.constant(end)),) for end in (d.low, d.high)]
        for d in statement.derived
    }
    return (*around, *(Loop(name, low, high, 1, ()) for name, (low, high) in ends.items()))


def runs(loop: Loop, around: Sequence[Loop]) -> bool:
    """Whether the loop provably has at least one iteration wherever it is reached."""
    return all(_covers(low, high, around) for low in loop.lower for high in loop.upper)


def runs_once(loop: Loop, around: Sequence[Loop]) -> bool:
    """Whether the loop provably has at most one iteration wherever it is reached."""
    return any(
        greatest(high.expr * low.divisor - low.expr * high.divisor, around)
        < loop.step * high.divisor * low.divisor
        for low in loop.lower
        for high in loop.upper
    )


def _covers(low: Bound, high: Bound, around: Sequence[Loop]) -> bool:
    # ceil(l/a) <= floor(u/b) follows from l/a + (a-1)/a <= u/b - (b-1)/b
    if low.expr.is_constant:
        low = Bound(Affine.constant(ceil_div(low.expr.const, low.divisor)))
    if high.expr.is_constant:
        high = Bound(Affine.constant(high.expr.const // high.divisor))
    gap = (high.expr - (high.divisor - 1)) * low.divisor
    return least(gap - (low.expr + (low.divisor - 1)) * high.divisor, around) >= 0


def tightest(bounds: Iterable[Bound], around: Sequence[Loop], *, lower: bool) -> tuple[Bound, ...]:
    """The bounds that matter: reduced fractions, one number at most, none implied by another."""
    kept: list[Bound] = []
    for bound in dict.fromkeys(_reduced(b, lower=lower) for b in bounds):
        if any(implied(bound, by, around, lower=lower) for by in kept):
            continue
        kept = [b for b in kept if not implied(b, bound, around, lower=lower)]
        kept.append(bound)
    return tuple(kept)


def _reduced(bound: Bound, *, lower: bool) -> Bound:
    expr, d = bound.expr, bound.divisor
    if any(c % d for _, c in expr.terms):
        return bound
    const = ceil_div(expr.const, d) if lower else expr.const // d
    return Bound(Affine.of({n: c // d for n, c in expr.terms}, const))


def implied(bound: Bound, by: Bound, around: Sequence[Loop], *, lower: bool) -> bool:
    """Whether ``by`` is surely as tight as ``bound``, wherever the loops ``around`` get to."""
    gap = by.expr * bound.divisor - bound.expr * by.divisor
    return least(gap if lower else -gap, around) >= 0


def extremes(bounds: tuple[Bound, ...], outer: Loop, *, smallest: bool) -> tuple[Bound, ...]:
    """``bounds`` where ``outer`` takes the value in its tile that makes them least tight.

    Of several bounds of ``outer`` each gives one that holds; those with a divisor are left out,
    the bounds of the tile itself have none.
    """
    found: dict[Bound, None] = {}
    for bound in bounds:
        c = bound.expr.coefficient(outer.iterator)
        at_start = (c > 0) == smallest
        ends = outer.lower if at_start else outer.upper
        for end in ends if c else ():
            if end.divisor == 1:
                expr = bound.expr.substitute({outer.iterator: end.expr})
                found[Bound(expr, bound.divisor)] = None
        if not c:
            found[bound] = None
    return tuple(found)


def magnitude_bound(expr: Affine, around: Sequence[Loop]) -> int:
    """A number that neither ``expr`` nor a partial sum of its terms exceeds in size."""
    total = abs(expr.const)
    for name, c in expr.terms:
        var = Affine.var(name)
        total += abs(c) * max(abs(least(var, around)), abs(greatest(var, around)))
    return total
