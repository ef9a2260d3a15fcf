"""The steps of a schedule as pure functions ``Program -> Program``.

A step is refused here where it does not fit the structure of the program; whether it keeps the
program's meaning is decided by ``legality``. Restructuring comes first, marking (parallelize,
vectorize, unroll, jam) last: a marked loop is not restructured any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from agent.errors import ScheduleError
from agent.loopnest.program import (
    Affine,
    Array,
    Bound,
    Loop,
    Node,
    Program,
    Scalar,
    Temporary,
    loops,
    reads,
    statements,
    substitute,
)
from agent.loopnest.schedule import (
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Parallelize,
    Reverse,
    Skew,
    Step,
    Tile,
    Unroll,
    Vectorize,
)

MAX_DEPTH = 12
_C_TYPES = frozenset(  # end in _t as the loops over tiles do, and may be in use where C is emitted
    "size_t ssize_t ptrdiff_t time_t clock_t off_t wchar_t float_t double_t int8_t int16_t int32_t "
    "int64_t intmax_t intptr_t uint8_t uint16_t uint32_t uint64_t uintmax_t uintptr_t".split()
)
MAX_UNROLL = 64
MAX_JAM = 16


def apply(program: Program, step: Step) -> Program:
    """``program`` after one step.

    Raises:
        ScheduleError: the step does not fit the structure; the message says what stands against
            it, the hint what to do.
    """
    match step:
        case Interchange(first, second):
            return interchange(program, first, second)
        case Tile(sizes):
            return tile(program, sizes)
        case Skew(inner, outer, factor):
            return skew(program, inner, outer, factor)
        case Reverse(loop):
            return reverse(program, loop)
        case Fuse(first, second):
            return fuse(program, first, second)
        case Distribute(loop):
            return distribute(program, loop)
        case Parallelize(loop):
            return parallelize(program, loop)
        case Vectorize(loop):
            return vectorize(program, loop)
        case Unroll(loop, factor):
            return unroll(program, loop, factor)
        case Jam(loop, factor):
            return jam(program, loop, factor)


def interchange(program: Program, first: str, second: str) -> Program:
    """Swap two loops of a perfectly nested band.

    Bounds that mention a loop which would be further inside are computed anew::

        for i in 0..99:              for j in 0..99:
          for j in 0..i:       ->      for i in j..99:
            S                            S
    """
    what = f"interchange {first} {second}"
    if first == second:
        raise ScheduleError(f"{what}: the two loops are the same")
    path, band = _band(program, what, first, second)
    _unmarked(what, path, band)
    order = (band[-1], *band[1:-1], band[0])
    headers = order if _well_placed(order) else _rescan(what, path, order)
    nest = _nest(headers, band[-1].body)
    return _finish(program, what, _edit(program.body, band[0].iterator, lambda _: (nest,)))


def tile(program: Program, sizes: Sequence[tuple[str, int]]) -> Program:
    """Run a band of loops tile by tile.

    ::

        for i in 0..99:              for i_t in 0..99 step 32:
          for j in 0..63:      ->      for j_t in 0..63 step 32:
            S                            for i in i_t..min(i_t + 31, 99):
                                           for j in j_t..j_t + 31:
                                             S

    A size counts iterations. Where the bounds of an inner loop depend on an outer one of the
    band, the loop over its tiles spans the extremes over the outer loop's tile.
    """
    what = str(Tile(tuple(sizes)))
    path, band = _band(program, what, *(name for name, _ in sizes))
    if [loop.iterator for loop in band] != [name for name, _ in sizes]:
        raise ScheduleError(
            f"{what}: the loops nest in the order {' '.join(x.iterator for x in band)}",
            hint="Name every loop of the band, outermost first; interchange loops before tiling.",
        )
    _unmarked(what, path, band)
    if len(path) + _height(band[0]) + len(band) > MAX_DEPTH:
        raise ScheduleError(f"{what}: the nest would be more than {MAX_DEPTH} loops deep")
    taken = _names(program)
    over: list[Loop] = []
    inside: list[Loop] = []
    for loop, (_, size) in zip(band, sizes, strict=True):
        name = _fresh(f"{loop.iterator}_t", taken)
        tiles, points = _strip(what, loop, size, name, inside)
        over.append(tiles)
        inside.append(points)
    nest = _nest((*over, *inside), band[-1].body)
    return _finish(program, what, _edit(program.body, band[0].iterator, lambda _: (nest,)))


def skew(program: Program, inner: str, outer: str, factor: int) -> Program:
    """Skew a loop by one around it; the order of execution stays.

    ::

        for i in 0..9:               for i in 0..9:
          for j in 0..9:       ->      for j in i..i + 9:
            S(i, j)                      S(i, j - i)
    """
    what = str(Skew(inner, outer, factor))
    path, loop = _find(program, what, inner)
    around = _find(program, what, outer)[1]
    if around not in path:
        raise ScheduleError(f"{what}: loop {outer} does not surround loop {inner}")
    _unmarked(what, path, (around, loop))
    shift = Affine.var(outer) * factor
    body = _substitute(loop.body, inner, Affine.var(inner) - shift)
    skewed = replace(
        loop,
        lower=tuple(_shifted(b, shift) for b in loop.lower),
        upper=tuple(_shifted(b, shift) for b in loop.upper),
        body=body,
    )
    return _finish(program, what, _edit(program.body, inner, lambda _: (skewed,)))


def reverse(program: Program, name: str) -> Program:
    """Run a loop backwards.

    ::

        for i in 2..9:         ->    for i in 2..9:
          S(i)                         S(11 - i)
    """
    what = f"reverse {name}"
    path, loop = _find(program, what, name)
    _unmarked(what, path, (loop,))
    bounds = (*loop.lower, *loop.upper)
    if len(bounds) > 2 or any(b.divisor != 1 for b in bounds):
        raise ScheduleError(
            f"{what}: the bounds of loop {name} are a min, max or quotient",
            hint="Reverse a loop before it is tiled or interchanged.",
        )
    first, last = loop.lower[0].expr, loop.upper[0].expr
    if loop.step > 1:
        trip = last - first
        if not trip.is_constant:
            raise ScheduleError(f"{what}: loop {name} has step {loop.step} and varying bounds")
        last = first + trip.const // loop.step * loop.step
    body = _substitute(loop.body, name, first + last - Affine.var(name))
    turned = replace(loop, upper=(Bound(last),), body=body)
    return _finish(program, what, _edit(program.body, name, lambda _: (turned,)))


def fuse(program: Program, first: str, second: str) -> Program:
    """Fuse a loop with the one that follows it; the bounds must agree up to a shift.

    ::

        for i in 0..9:               for i in 0..9:
          S(i)                         S(i)
        for j in 1..10:        ->      T(i + 1)
          T(j)
    """
    what = f"fuse {first} {second}"
    path, one = _find(program, what, first)
    _, two = _find(program, what, second)
    siblings = path[-1].body if path else program.body
    if one not in siblings or two not in siblings:
        raise ScheduleError(f"{what}: the loops are not neighbours in one body")
    if siblings.index(two) != siblings.index(one) + 1:
        raise ScheduleError(
            f"{what}: loop {second} does not directly follow loop {first}",
            hint="Fuse takes two loops that stand one after the other, the earlier one first.",
        )
    _unmarked(what, path, (one, two))
    shift = _offset(one, two)
    if shift is None:
        raise ScheduleError(
            f"{what}: the loops run over different ranges: {_range(one)} and {_range(two)}",
            hint="Only loops with equal bounds and steps, up to a shift, can be fused.",
        )
    moved = _substitute(two.body, second, Affine.var(first) + shift)
    fused = replace(one, body=one.body + moved)
    body = _edit(program.body, second, lambda _: ())
    return _finish(program, what, _edit(body, first, lambda _: (fused,)))


def distribute(program: Program, name: str) -> Program:
    """Give every node in a loop's body a loop of its own.

    ::

        for i in 0..9:               for i in 0..9:
          S(i)                 ->      S(i)
          T(i)                       for i2 in 0..9:
                                       T(i2)
    """
    what = f"distribute {name}"
    path, loop = _find(program, what, name)
    _unmarked(what, path, (loop,))
    if len(loop.body) < 2:
        raise ScheduleError(f"{what}: the body of loop {name} is a single {_kind(loop.body[0])}")
    taken = _names(program)
    parts: list[Node] = [replace(loop, body=loop.body[:1])]
    for node in loop.body[1:]:
        own = _fresh(name, taken, first=2)
        body = _substitute((node,), name, Affine.var(own))
        parts.append(replace(loop, iterator=own, body=body))
    return _finish(program, what, _edit(program.body, name, lambda _: tuple(parts)))


def parallelize(program: Program, name: str) -> Program:
    """Share the iterations of a loop among threads: ``for`` -> ``parallel for``."""
    what = f"parallelize {name}"
    path, loop = _find(program, what, name)
    _once(what, loop, parallel=loop.parallel)
    inner = [x for _, x in loops(loop.body)]
    for other in (*path, *inner):
        if other.parallel:
            where = "inside" if other in path else "around"
            raise ScheduleError(
                f"{what}: loop {name} is {where} the parallel loop {other.iterator}",
                hint="Parallel loops do not nest: share out one loop of a nest, an outer one.",
            )
    if loop.unroll > 1 or loop.jam > 1 or any(x.jam > 1 for x in path):
        raise ScheduleError(
            f"{what}: loop {name} is unrolled or jammed",
            hint=f"Tile {name} first, parallelize {name}_t and unroll {name}.",
        )
    return _mark(program, replace(loop, parallel=True))


def vectorize(program: Program, name: str) -> Program:
    """Run the iterations of an innermost loop in SIMD lanes: ``for`` -> ``simd for``."""
    what = f"vectorize {name}"
    _, loop = _find(program, what, name)
    _once(what, loop, vectorized=loop.vector)
    _innermost(what, loop)
    if loop.step != 1:
        raise ScheduleError(f"{what}: loop {name} has step {loop.step}, lanes need step 1")
    if loop.unroll > 1:
        raise ScheduleError(
            f"{what}: loop {name} is unrolled",
            hint="A vectorized loop is unrolled by the compiler: leave the unroll step out.",
        )
    return _mark(program, replace(loop, vector=True))


def unroll(program: Program, name: str, factor: int) -> Program:
    """Unroll an innermost loop ``factor`` times; the order of execution stays."""
    what = str(Unroll(name, factor))
    _, loop = _find(program, what, name)
    _once(what, loop, unrolled=loop.unroll > 1)
    _innermost(what, loop)
    _factor(what, factor, MAX_UNROLL)
    if loop.vector:
        raise ScheduleError(
            f"{what}: loop {name} is vectorized",
            hint="A vectorized loop is unrolled by the compiler: leave the unroll step out.",
        )
    if loop.parallel:
        raise ScheduleError(
            f"{what}: loop {name} is parallel",
            hint=f"Tile {name} first, parallelize {name}_t and unroll {name}.",
        )
    return _mark(program, replace(loop, unroll=factor))


def jam(program: Program, name: str, factor: int) -> Program:
    """Unroll an outer loop and jam the copies into the innermost loop below it.

    ::

        for i in 0..7:               for i in 0..7 step 2:
          for j in 0..9:       ->      for j in 0..9:
            S(i, j)                      S(i, j); S(i + 1, j)

    The tree keeps its shape: the factor is a mark on the loop, carried out when C is emitted.
    """
    what = str(Jam(name, factor))
    path, loop = _find(program, what, name)
    _once(what, loop, jammed=loop.jam > 1)
    _factor(what, factor, MAX_JAM)
    below = perfect_band(loop)[1:]
    if not below:
        raise ScheduleError(
            f"{what}: no loop fills the body of loop {name}",
            hint="Jam needs a perfect nest below the loop; unroll is for innermost loops.",
        )
    _jammable(what, program, path, loop, below)
    return _mark(program, replace(loop, jam=factor))


def _jammable(
    what: str, program: Program, path: tuple[Loop, ...], loop: Loop, below: tuple[Loop, ...]
) -> None:
    name = loop.iterator
    if any(isinstance(node, Loop) for node in below[-1].body):
        raise ScheduleError(
            f"{what}: the loops below {name} are not perfectly nested",
            hint=f"Distribute loop {below[-1].iterator} first.",
        )
    if loop.step != 1 or loop.parallel:
        raise ScheduleError(
            f"{what}: loop {name} is parallel or has a step",
            hint=f"Tile {name} first, parallelize {name}_t and jam {name}.",
        )
    for other in (*path, *below):
        if other.jam > 1 or (other.parallel and other in below):
            raise ScheduleError(
                f"{what}: loop {other.iterator} of the same nest is already {_marks(other)[0]}"
            )
    for inner in below:
        if any(name in b.expr.names for b in (*inner.lower, *inner.upper)):
            raise ScheduleError(
                f"{what}: the bounds of loop {inner.iterator} depend on {name}",
                hint="Jam needs inner loops that run the same for every copy.",
            )
    for temporary in program.temporaries:
        home = temporary_home(program.body, temporary)
        if len(home) > len(path) and home[len(path)].iterator == name:
            raise ScheduleError(f"{what}: temporary {temporary.name} lives inside loop {name}")


def temporary_home(body: tuple[Node, ...], temporary: Temporary) -> tuple[Loop, ...]:
    """The loops each iteration of which has an instance of ``temporary`` of its own.

    Its declaration belongs directly inside the last of them (or outside of all loops).

    Raises:
        ScheduleError: its accesses do not share such loops any more.
    """
    uses = [
        (around, s)
        for around, s in statements(body)
        if s.target.array == temporary.name
        or any(a.array == temporary.name for a in reads(s.value))
    ]
    if not uses or not temporary.depth:
        return ()
    common = uses[0][0]
    for around, _ in uses[1:]:
        same = sum(1 for x, y in zip(common, around, strict=False) if x.iterator == y.iterator)
        common = common[:same]
    owner = uses[0][1].instance[: temporary.depth]
    own = {name for value in owner for name in value.names}
    mentioned = {n for _, s in uses for value in s.instance for n in value.names}
    home = common
    while home and home[-1].iterator not in own:
        home = home[:-1]
    allowed = set(own)
    for loop in reversed(home):  # a loop over tiles is determined by the loop inside its tiles
        if loop.iterator not in mentioned and any(
            Bound(Affine.var(loop.iterator)) in x.lower for x in home if x.iterator in allowed
        ):
            allowed.add(loop.iterator)
    within = {loop.iterator for loop in home}
    same_owner = all(s.instance[: temporary.depth] == owner for _, s in uses)
    if not (own <= within <= allowed and same_owner):
        raise ScheduleError(
            f"temporary {temporary.name} would be needed across iterations of different loops",
            hint="Make it an array, or keep the loops around its declaration together.",
        )
    return home


# Finding loops


def _find(program: Program, what: str, name: str) -> tuple[tuple[Loop, ...], Loop]:
    known = []
    for path, loop in loops(program.body):
        if loop.iterator == name:
            return path, loop
        known.append(loop.iterator)
    raise ScheduleError(
        f"{what}: there is no loop {name}",
        hint=f"The loops are: {', '.join(known)}." if known else "The program has no loops.",
    )


def _band(program: Program, what: str, *names: str) -> tuple[tuple[Loop, ...], tuple[Loop, ...]]:
    """The loops around a perfectly nested band, and the band between the named loops."""
    found = [_find(program, what, name) for name in names]
    path, top = min(found, key=lambda item: len(item[0]))
    chain = perfect_band(top)
    for around, loop in found:
        if loop not in chain:
            _refuse_band(what, top, around, loop)
    return path, chain[: 1 + max(chain.index(loop) for _, loop in found)]


def _refuse_band(what: str, top: Loop, path: tuple[Loop, ...], loop: Loop) -> NoReturn:
    pair = f"loops {top.iterator} and {loop.iterator}"
    if top not in path:
        raise ScheduleError(f"{what}: {pair} are not nested in each other")
    guilty = perfect_band(top)[-1]
    between = next(node for node in guilty.body if node not in (*path, loop))
    name = between.iterator if isinstance(between, Loop) else between.name
    raise ScheduleError(
        f"{what}: {pair} are not perfectly nested: {_kind(between)} {name} stands between them",
        hint=f"Distribute loop {guilty.iterator} first.",
    )


def perfect_band(loop: Loop) -> tuple[Loop, ...]:
    """The perfectly nested loops from ``loop`` down."""
    chain = [loop]
    while len(chain[-1].body) == 1 and isinstance(inner := chain[-1].body[0], Loop):
        chain.append(inner)
    return tuple(chain)


def _height(loop: Loop) -> int:
    return 1 + max((_height(n) for n in loop.body if isinstance(n, Loop)), default=0)


def _kind(node: Node) -> str:
    return "loop" if isinstance(node, Loop) else "statement"


def _range(loop: Loop) -> str:
    def text(bound: Bound) -> str:
        return f"{bound.expr}" if bound.divisor == 1 else f"({bound.expr})/{bound.divisor}"

    low = ", ".join(map(text, loop.lower))
    high = ", ".join(map(text, loop.upper))
    step = f" step {loop.step}" if loop.step > 1 else ""
    return f"{low}..{high}{step}"


# Refusals shared by steps


def _marks(loop: Loop) -> list[str]:
    marks = {
        "parallel": loop.parallel,
        "vectorized": loop.vector,
        "unrolled": loop.unroll > 1,
        "jammed": loop.jam > 1,
    }
    return [name for name, on in marks.items() if on]


def _unmarked(what: str, path: tuple[Loop, ...], touched: Sequence[Loop]) -> None:
    """Refuse to restructure loops that carry a mark, or lie inside a jammed one."""
    for loop in touched:
        if marks := _marks(loop):
            raise ScheduleError(
                f"{what}: loop {loop.iterator} is already {marks[0]}",
                hint="Restructure first, mark loops (parallelize, vectorize, unroll, jam) last.",
            )
    for loop in path:
        if loop.jam > 1:
            raise ScheduleError(
                f"{what}: the nest of loop {loop.iterator} is already jammed",
                hint="Restructure first, jam last.",
            )


def _once(what: str, loop: Loop, **marks: bool) -> None:
    for mark, on in marks.items():
        if on:
            raise ScheduleError(f"{what}: loop {loop.iterator} is {mark} already")


def _innermost(what: str, loop: Loop) -> None:
    inner = next((n for n in loop.body if isinstance(n, Loop)), None)
    if inner is not None:
        raise ScheduleError(
            f"{what}: loop {inner.iterator} is inside loop {loop.iterator}",
            hint="This step takes an innermost loop: interchange or distribute first.",
        )


def _factor(what: str, factor: int, most: int) -> None:
    if not 2 <= factor <= most:
        raise ScheduleError(f"{what}: the factor must be between 2 and {most}")


# Building trees


def _edit(
    body: tuple[Node, ...], name: str, change: Callable[[Loop], tuple[Node, ...]]
) -> tuple[Node, ...]:
    """``body`` with the loop ``name`` replaced by the nodes ``change`` makes of it."""
    out: list[Node] = []
    for node in body:
        if not isinstance(node, Loop):
            out.append(node)
        elif node.iterator == name:
            out.extend(change(node))
        else:
            inner = _edit(node.body, name, change)
            out.append(node if inner is node.body else replace(node, body=inner))
    same = len(out) == len(body) and all(x is y for x, y in zip(out, body, strict=True))
    return body if same else tuple(out)


def _mark(program: Program, loop: Loop) -> Program:
    return program.with_body(_edit(program.body, loop.iterator, lambda _: (loop,)))


def _nest(headers: Sequence[Loop], body: tuple[Node, ...]) -> Loop:
    """The loops ``headers`` perfectly nested around ``body``."""
    nest = replace(headers[-1], body=body)
    for header in reversed(headers[:-1]):
        nest = replace(header, body=(nest,))
    return nest


def _finish(program: Program, what: str, body: tuple[Node, ...]) -> Program:
    """The program around ``body``, once its temporaries still have one place to live."""
    for temporary in program.temporaries:
        try:
            temporary_home(body, temporary)
        except ScheduleError as error:
            raise ScheduleError(f"{what}: {error.message}", hint=error.hint) from None
    return program.with_body(body)


def _substitute(body: tuple[Node, ...], name: str, value: Affine) -> tuple[Node, ...]:
    return tuple(substitute(node, {name: value}) for node in body)


def _names(program: Program) -> set[str]:
    """Every name in use: a new iterator must differ from all of them."""
    declared: tuple[Array | Scalar | Temporary, ...]
    declared = (*program.arrays, *program.scalars, *program.temporaries)
    iterators = (loop.iterator for _, loop in loops(program.body))
    return {program.name, *_C_TYPES, *(x.name for x in declared), *iterators}


def _fresh(base: str, taken: set[str], first: int = 1) -> str:
    """``base``, or ``base2``, ``base3``...: the first that is free; it is taken from then on."""
    number = first
    while (name := base if number == 1 else f"{base}{number}") in taken:
        number += 1
    taken.add(name)
    return name


# Bounds


def _shifted(bound: Bound, shift: Affine) -> Bound:
    return Bound(bound.expr + shift * bound.divisor, bound.divisor)


def _offset(one: Loop, two: Loop) -> int | None:
    """``d`` such that the iterations of ``two`` are those of ``one`` plus ``d``; None if not."""
    if one.step != two.step:
        return None
    difference = two.lower[0].expr - one.lower[0].expr
    if not difference.is_constant or difference.const % one.lower[0].divisor:
        return None
    shift = Affine.constant(difference.const // one.lower[0].divisor)
    lower = tuple(_shifted(b, shift) for b in one.lower)
    upper = tuple(_shifted(b, shift) for b in one.upper)
    return shift.const if (lower, upper) == (two.lower, two.upper) else None


def _well_placed(order: Sequence[Loop]) -> bool:
    """Whether the bounds of every loop mention only loops outside of it."""
    later = {loop.iterator for loop in order}
    for loop in order:
        if any(b.expr.names & later for b in (*loop.lower, *loop.upper)):
            return False
        later.discard(loop.iterator)
    return True


def _rescan(what: str, path: tuple[Loop, ...], order: tuple[Loop, ...]) -> tuple[Loop, ...]:
    """The loops of a band in a new order, with bounds that fit it."""
    from agent.loopnest.polyhedron import scan_bounds  # isl: only where bounds need it

    for loop in order:
        if loop.step > 1:
            raise ScheduleError(
                f"{what}: loop {loop.iterator} has step {loop.step} in a nest that is not "
                "rectangular",
                hint="Interchange loops before tiling them.",
            )
    bounds = scan_bounds(path, order)
    return tuple(
        replace(loop, lower=lower, upper=upper)
        for loop, (lower, upper) in zip(order, bounds, strict=True)
    )


def _strip(
    what: str, loop: Loop, size: int, name: str, inside: Sequence[Loop]
) -> tuple[Loop, Loop]:
    """The loop over the tiles of ``loop`` and the loop inside a tile.

    ``inside`` are the loops inside the tiles of the outer loops of the band.
    """
    span = size * loop.step
    varying = {x.iterator for x in inside}
    depends = any(b.expr.names & varying for b in (*loop.lower, *loop.upper))
    if depends and loop.step > 1:
        raise ScheduleError(
            f"{what}: loop {loop.iterator} has step {loop.step} and bounds that depend on "
            f"{', '.join(sorted(varying))}"
        )
    lower, upper = loop.lower, loop.upper
    for outer in reversed(inside):
        lower = _extremes(lower, outer, smallest=True)
        upper = _extremes(upper, outer, smallest=False)
    start = Bound(Affine.var(name))
    end = Bound(Affine.var(name) + (span - 1))
    tiles = replace(loop, iterator=name, lower=lower, upper=upper, step=span, body=())
    varied = tuple(b for b in loop.lower if b.expr.names & varying)
    last = tuple(b for b in loop.upper if depends or not _divides(span, loop.lower, b))
    points = replace(
        loop,
        lower=(start, *varied),
        upper=(end, *last),
        body=(),
    )
    return tiles, points


def _divides(span: int, lower: tuple[Bound, ...], upper: Bound) -> bool:
    """Whether whole tiles reach exactly to ``upper``, so that it cuts none."""
    if len(lower) > 1 or lower[0].divisor != 1 or upper.divisor != 1:
        return False
    trip = upper.expr - lower[0].expr + 1
    return trip.is_constant and trip.const % span == 0


def _extremes(bounds: tuple[Bound, ...], outer: Loop, *, smallest: bool) -> tuple[Bound, ...]:
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
