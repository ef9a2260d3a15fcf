"""Inner loops whose range moves with a jammed loop: what copies have in common, and the rest.

    for (i = 0; i < 4; i++)  jam 2        for (i = 0; i < 4; i += 2) {
      for (j = i; j < n; j++)               for (e = i; e < i + 2; e++)
        S(i, j);                    ->        for (j = e; j < i + 1; j++)
                                                S(e, j);
                                            for (j = i + 1; j < n; j++) {
                                              S(i, j);
                                              S(i + 1, j);
                                            }
                                          }

Iterations of the inner loop keep their order across its parts, and within a part outside of the
common range the copies run one after the other. So every two instances run as they do in the jam
of whole ranges, or as they do without a jam: legality asks that both orders do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.errors import ScheduleError
from agent.loopnest.program import Affine, Bound, Loop, loops, substitute_loop

_SUFFIX = "#each"


def each_name(loop: Loop) -> str:
    """The iterator of the loop over the copies of a jammed loop, one after the other."""
    return f"{loop.iterator}{_SUFFIX}"


def moves_with(inner: Loop, name: str) -> bool:
    """Whether the bounds of a loop depend on the iterator ``name``."""
    return any(name in b.expr.names for b in (*inner.lower, *inner.upper))


def is_staggered(loop: Loop) -> bool:
    """Whether the range of a loop inside moves with ``loop``."""
    return any(moves_with(inner, loop.iterator) for _, inner in loops(loop.body))


def refuse_staggered(what: str, loop: Loop, homes: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse to jam ``loop`` where a range inside moves with it in a way that cannot be split.

    Args:
        what: the step, for the message.
        loop: about to be jammed.
        homes: for each temporary the iterators around its declaration.

    Raises:
        ScheduleError: an inner loop has a step, or a temporary of the jammed loop lives across it.
    """
    for _, inner in loops(loop.body):
        if not moves_with(inner, loop.iterator):
            continue
        depends = f"{what}: the bounds of loop {inner.iterator} depend on {loop.iterator}"
        if inner.step != 1:
            raise ScheduleError(
                f"{depends}, and it has step {inner.step}",
                hint=f"Tile {loop.iterator} and {inner.iterator} together, then jam.",
            )
        for name, home in homes.items():
            if loop.iterator in home and inner.iterator not in home and name in inner.uses:
                raise ScheduleError(
                    f"{depends}, and temporary {name} lives across that loop",
                    hint=f"Declare {name} inside loop {inner.iterator}, or jam another loop.",
                )


def parts(inner: Loop, jammed: Loop) -> tuple[tuple[Loop, ...], Loop, tuple[Loop, ...]]:
    """``inner`` before, in and after the range that is common to all copies of ``jammed``.

    The first and the last are inside a loop that runs one copy after the other.
    """
    low = _furthest(inner.lower, jammed, greatest=True)
    high = _furthest(inner.upper, jammed, greatest=False)
    before = [
        _each_copy(inner, jammed, b, (low[:n], (Bound(b.expr - 1, b.divisor),)))
        for n, b in enumerate(low)
    ]
    after = [
        _each_copy(inner, jammed, b, ((Bound(b.expr + 1, b.divisor), *low), high[:n]))
        for n, b in enumerate(high)
    ]
    still = [
        tuple(b for b in bounds if jammed.iterator not in b.expr.names)
        for bounds in (inner.lower, inner.upper)
    ]
    common = replace(inner, lower=(*still[0], *low), upper=(*still[1], *high))
    return tuple(before), common, tuple(reversed(after))


def _furthest(bounds: tuple[Bound, ...], jammed: Loop, *, greatest: bool) -> tuple[Bound, ...]:
    """Of the bounds that move with a jammed loop those of the copy that is furthest."""
    found, last = [], (jammed.jam - 1) * jammed.step
    for bound in bounds:
        c = bound.expr.coefficient(jammed.iterator)
        if c:
            found.append(replace(bound, expr=bound.expr + c * last * ((c > 0) == greatest)))
    return tuple(found)


def _each_copy(
    inner: Loop, jammed: Loop, moving: Bound, within: tuple[tuple[Bound, ...], tuple[Bound, ...]]
) -> Loop:
    """``inner`` for one copy of ``jammed`` after the other.

    Args:
        inner: its range moves with ``jammed``.
        jammed: has several copies.
        moving: a bound of ``inner``; what runs here lies between those of two copies.
        within: lower and upper bounds besides those of ``inner``.
    """
    name, each = jammed.iterator, f"{jammed.iterator}{_SUFFIX}"
    span = (jammed.jam - 1) * jammed.step
    own = substitute_loop(inner, {name: Affine.var(each)})
    most = -(-abs(moving.expr.coefficient(name)) * span // moving.divisor)
    lower, upper = within
    part = _narrowed(replace(own, lower=(*lower, *own.lower), upper=(*upper, *own.upper)), most)
    first = Affine.var(name)
    return Loop(each, (Bound(first),), (Bound(first + span),), jammed.step, (part,))


def _narrowed(part: Loop, most: int) -> Loop:
    """``part``, which has ``most`` iterations, in no more lanes than that."""
    lanes = min(part.lanes, 1 << most.bit_length() - 1)
    return replace(part, lanes=lanes, vector=part.vector and (lanes > 1 or part.lanes == 1))
