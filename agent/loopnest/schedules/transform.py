"""The steps of a schedule as pure functions ``Program -> Program``.

A step is refused here where it does not fit the structure of the program; whether it keeps the
program's meaning is decided by ``legality``. Restructuring comes first, marking (parallelize,
vectorize, unroll, jam) last: a marked loop is not restructured any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import ScheduleError
from agent.loopnest.emitter.accumulate import invariant_updates, operator
from agent.loopnest.emitter.lifetimes import homes
from agent.loopnest.emitter.packing import buffer_of, packed, packed_read
from agent.loopnest.emitter.staggered import is_staggered, refuse_staggered
from agent.loopnest.program import (
    MAX_DEPTH,
    Affine,
    Bound,
    Loop,
    Node,
    Program,
    Statement,
    loops,
    statements,
    substitute,
)
from agent.loopnest.schedules.bounds import (
    Diamonds,
    offset,
    range_text,
    rescan,
    shifted,
    tile_loop,
    united,
    well_placed,
)
from agent.loopnest.schedules.schedule import (
    Collapse,
    Cyclic,
    Diamond,
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Pack,
    Parallelize,
    Reverse,
    Shift,
    Skew,
    Step,
    Stream,
    Tile,
    Unroll,
    Vectorize,
    Wrap,
)
from agent.loopnest.schedules.tree import (
    band_between,
    check_temporary,
    edit,
    find_loop,
    fresh,
    height,
    kind,
    levels_between,
    marks_of,
    names_in_use,
    nested,
    refuse_again,
    refuse_factor,
    refuse_marked,
    refuse_outer,
    replace_iterator,
    with_marks,
)

MAX_UNROLL = 64
MAX_JAM = 16
MAX_LANES = 64
MAX_PRIVATE = 1 << 18  # bytes: the copy lives on the stack of a thread


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
        case Diamond():
            return diamond(program, step)
        case Skew(inner, outer, factor):
            return skew(program, inner, outer, factor)
        case Shift(loop, distance):
            return shift(program, loop, distance)
        case Wrap(loop):
            return wrap(program, loop)
        case Reverse(loop):
            return reverse(program, loop)
        case Fuse(first, second):
            return fuse(program, first, second)
        case Distribute(loop):
            return distribute(program, loop)
        case Parallelize(loop, arrays):
            return parallelize(program, loop, arrays)
        case Cyclic(loop, chunk):
            return cyclic(program, loop, chunk)
        case Collapse(outer, inner):
            return collapse(program, outer, inner)
        case Vectorize(loop, lanes):
            return vectorize(program, loop, lanes)
        case Unroll(loop, factor):
            return unroll(program, loop, factor)
        case Jam(loop, factor):
            return jam(program, loop, factor)
        case Pack(array, loop):
            return pack(program, array, loop)
        case Stream(array, loop):
            return stream(program, array, loop)


def interchange(program: Program, first: str, second: str) -> Program:
    """Swap two loops of a perfectly nested band.

    Bounds that mention a loop which would be further inside are computed anew::

        for i in 0..99:              for j in 0..99:
          for j in 0..i:       ->      for i in j..99:
            S                            S

    A loop over tiles that ends up with several lower bounds counts its tiles from then on.
    """
    what = f"interchange {first} {second}"
    if first == second:
        raise ScheduleError(f"{what}: the two loops are the same")
    path, band = band_between(program, what, first, second)
    refuse_marked(what, path, band)
    headers, body = (band[-1], *band[1:-1], band[0]), band[-1].body
    if not well_placed(headers):
        headers, values = rescan(what, path, band, [loop.iterator for loop in headers])
        body = tuple(substitute(node, values) for node in body)
    nest = nested(headers, body)
    return _finish(program, what, edit(program.body, band[0].iterator, lambda _: (nest,)))


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

    Loops that follow each other inside one of the band are tiled together; the first of them is
    named. They share the loop over tiles, and run one after the other in a tile::

        for t in 0..9:               for t_t in 0..9 step 4:
          for i in 0..98:              for i_t in 0..99 step 32:
            S(t, i)            ->        for t in t_t..min(t_t + 3, 9):
          for j in 1..99:                  for i in max(i_t, 0)..min(i_t + 31, 98): S(t, i)
            T(t, j)                        for j in max(i_t, 1)..min(i_t + 31, 99): T(t, j)
    """
    what = str(Tile(tuple(sizes)))
    path, levels = levels_between(program, what, [name for name, _ in sizes])
    top = levels[0][0]
    for level in levels:
        refuse_marked(what, path, level)
    if len(path) + height(top) + len(sizes) > MAX_DEPTH:
        raise ScheduleError(f"{what}: the nest would be more than {MAX_DEPTH} loops deep")
    taken = names_in_use(program)
    names = [fresh(f"{name}_t", taken) for name, _ in sizes]
    cut = _Cut(what, levels, [size for _, size in sizes], names, [[] for _ in sizes])
    points = cut.tiled(top, ())
    headers: list[Loop] = []
    for tiles in cut.over:
        headers.append(united(what, tiles, (*path, *headers)))
    nest = nested(headers, (points,))
    return _finish(program, what, edit(program.body, top.iterator, lambda _: (nest,)))


@dataclass(frozen=True)
class _Cut:
    """Levels of a nest that are cut into tiles; ``over`` takes the loops over tiles, by level."""

    what: str
    levels: tuple[tuple[Loop, ...], ...]
    sizes: Sequence[int]
    names: Sequence[str]
    over: list[list[Loop]]

    def tiled(self, loop: Loop, inside: tuple[Loop, ...]) -> Loop:
        """``loop`` inside a tile; ``inside`` are the loops around it there."""
        depth = len(inside)
        alone = len(self.levels[depth]) == 1
        size, name = self.sizes[depth], self.names[depth]
        tiles, points = tile_loop(self.what, loop, size, name, inside, alone=alone)
        self.over[depth].append(tiles)
        return points.with_body(self.body(loop, (*inside, points)))

    def body(self, loop: Loop, inside: tuple[Loop, ...]) -> tuple[Node, ...]:
        """The body of ``loop`` inside a tile, of which it is the last of the loops ``inside``."""
        if len(inside) == len(self.levels):
            return loop.body
        inner = (node for node in loop.body if isinstance(node, Loop))
        return tuple(self.tiled(node, inside) for node in inner)


def diamond(program: Program, step: Diamond) -> Program:
    """Tile a loop of time and a loop inside it in diamonds; those of a wave are independent.

    ::

        for t in 0..99:          for t_t (waves): for i_t (the diamonds of one):
          for i in 1..98:          for t in 16*t_t..16*t_t + 31 of 0..99:
            S(t, i)        ->        for i in 32*i_t - t..32*i_t - t + 31 of 1..98
                                         and of 32*(i_t - t_t) + t - 31..32*(i_t - t_t) + t:
                                       S(t, i)

    Both sides of a diamond lean by the slope: how many elements away one iteration of time reads.
    Loops that follow each other are tiled together, as by ``tile``; for one that is ``late`` both
    sides are moved. Loops inside them can be tiled as well.
    """
    what = str(step)
    path, levels = levels_between(program, what, [step.time, *(name for name, _ in step.sizes)])
    (time,), sweeps = levels[0], levels[1]
    for level in levels:
        refuse_marked(what, path, level)
    _refuse_no_diamond(step, time, sweeps)
    if len(path) + height(time) + len(levels) > MAX_DEPTH:
        raise ScheduleError(f"{what}: the nest would be more than {MAX_DEPTH} loops deep")
    taken = names_in_use(program)
    names = [fresh(f"{name}_t", taken) for name in (step.time, *dict(step.sizes))]
    sizes = [size for _, size in step.sizes]
    tiles = Diamonds(step.time, names[0], names[1], step.slope, sizes[0])
    named = {name: (begin, end) for name, begin, end in step.late}
    late = [named.get(sweep.iterator, (0, 0)) for sweep in sweeps]
    moved = list(zip(sweeps, late, strict=True))
    waves = united(what, [tiles.over_waves(time, *ends) for ends in late], path)
    columns = [tiles.over_columns(sweep, *ends) for sweep, ends in moved]
    headers = [waves, united(what, columns, (*path, waves))]
    instants = tiles.instants(time, late, (*path, *headers))
    cut = _Cut(what, levels, [0, *sizes], names, [[] for _ in levels])
    inside = [tiles.points(sweep, *ends) for sweep, ends in moved]
    body = [
        points.with_body(cut.body(sweep, (instants, points)))
        for sweep, points in zip(sweeps, inside, strict=True)
    ]
    for over in cut.over[2:]:
        headers.append(united(what, over, (*path, *headers)))
    nest = nested([*headers, instants], tuple(body))
    return _finish(program, what, edit(program.body, step.time, lambda _: (nest,)))


def _refuse_no_diamond(step: Diamond, time: Loop, sweeps: Sequence[Loop]) -> None:
    """Refuse loops whose tiles are no diamonds, and sweeps that are not there."""
    names = [loop.iterator for loop in sweeps]
    for name, *_ in step.late:
        if name not in names:
            hint = f"The loops directly inside loop {step.time} are: {', '.join(names)}."
            raise ScheduleError(f"{step}: loop {name} is no sweep", hint=hint)
    for loop in (time, *sweeps):
        if loop.step > 1:
            raise ScheduleError(f"{step}: loop {loop.iterator} has step {loop.step}")
        if any(step.time in b.expr.names for b in (*loop.lower, *loop.upper)):
            raise ScheduleError(
                f"{step}: the bounds of loop {loop.iterator} depend on {step.time}",
                hint="Leave out its skew: both sides of a diamond lean.",
            )


def skew(program: Program, inner: str, outer: str, factor: int) -> Program:
    """Skew a loop by one around it; the order of execution stays.

    ::

        for i in 0..9:               for i in 0..9:
          for j in 0..9:       ->      for j in i..i + 9:
            S(i, j)                      S(i, j - i)
    """
    what = str(Skew(inner, outer, factor))
    path, loop = find_loop(program, what, inner)
    outer_path, around = find_loop(program, what, outer)
    if around not in path:
        raise ScheduleError(
            f"{what}: loop {outer} does not surround loop {inner}",
            hint=f"The inner loop comes first: {Skew(outer, inner, factor)}."
            if loop in outer_path
            else "A loop is skewed by one around it; the inner loop comes first.",
        )
    refuse_marked(what, path, (around, loop))
    skewed = _moved(loop, Affine.var(outer) * factor)
    return _finish(program, what, edit(program.body, inner, lambda _: (skewed,)))


def shift(program: Program, name: str, distance: int) -> Program:
    """Move the range of a loop; the order of execution stays.

    What is tiled together with other loops runs so many iterations later than they do::

        for i in 0..9:         ->    for i in 2..11:
          S(i)                         S(i - 2)
    """
    what = str(Shift(name, distance))
    path, loop = find_loop(program, what, name)
    refuse_marked(what, path, (loop,))
    return _finish(program, what, edit(program.body, name, lambda _: (_moved(loop, distance),)))


def _moved(loop: Loop, distance: Affine | int) -> Loop:
    """``loop`` with its iterator greater by ``distance`` throughout."""
    by = Affine.constant(distance) if isinstance(distance, int) else distance
    return loop.but(
        lower=tuple(shifted(b, by) for b in loop.lower),
        upper=tuple(shifted(b, by) for b in loop.upper),
        body=replace_iterator(loop.body, loop.iterator, Affine.var(loop.iterator) - by),
    )


def wrap(program: Program, name: str) -> Program:
    """Put a loop of one iteration around a loop, called as that and ``_w``.

    So that it can be tiled together with nests that have one loop more::

        for t:                       for t:
          for j in 0..9:               for j_w in 0..0:
            S(j)                         for j in 0..9:
          for i in 1..9:       ->          S(j)
            for k in 0..9:             for i in 1..9:
              T(i, k)                    for k in 0..9:
                                           T(i, k)
    """
    what = str(Wrap(name))
    path, loop = find_loop(program, what, name)
    refuse_marked(what, path, (loop,))
    if len(path) + height(loop) == MAX_DEPTH:
        raise ScheduleError(f"{what}: the nest would be more than {MAX_DEPTH} loops deep")
    once = (Bound(Affine.constant(0)),)
    around = Loop(fresh(f"{name}_w", names_in_use(program)), once, once, 1, (loop,))
    return _finish(program, what, edit(program.body, name, lambda _: (around,)))


def reverse(program: Program, name: str) -> Program:
    """Run a loop backwards.

    ::

        for i in 2..9:         ->    for i in 2..9:
          S(i)                         S(11 - i)
    """
    what = f"reverse {name}"
    path, loop = find_loop(program, what, name)
    refuse_marked(what, path, (loop,))
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
    body = replace_iterator(loop.body, name, first + last - Affine.var(name))
    turned = loop.but(upper=(Bound(last),), body=body)
    return _finish(program, what, edit(program.body, name, lambda _: (turned,)))


def fuse(program: Program, first: str, second: str) -> Program:
    """Fuse a loop with the one that follows it; the bounds must agree up to a shift.

    ::

        for i in 0..9:               for i in 0..9:
          S(i)                         S(i)
        for j in 1..10:        ->      T(i + 1)
          T(j)
    """
    what = f"fuse {first} {second}"
    path, one = find_loop(program, what, first)
    other, two = find_loop(program, what, second)
    siblings = path[-1].body if path else program.body
    if one not in siblings or two not in siblings:
        raise ScheduleError(
            f"{what}: the loops are not neighbours in one body", hint=_fuse_hint(path, other)
        )
    if siblings.index(two) != siblings.index(one) + 1:
        raise ScheduleError(
            f"{what}: loop {second} does not directly follow loop {first}",
            hint="Fuse takes two loops that stand one after the other, the earlier one first.",
        )
    refuse_marked(what, path, (one, two))
    ahead = offset(one, two)
    if ahead is None:
        raise ScheduleError(
            f"{what}: the loops run over different ranges: {range_text(one)} and {range_text(two)}",
            hint="Only loops with equal bounds and steps, up to a shift, can be fused.",
        )
    moved = replace_iterator(two.body, second, Affine.var(first) + ahead)
    fused = one.but(body=one.body + moved)
    body = edit(program.body, second, lambda _: ())
    return _finish(program, what, edit(body, first, lambda _: (fused,)))


def _fuse_hint(path: tuple[Loop, ...], other: tuple[Loop, ...]) -> str:
    """What to do about two loops that lie inside different loops."""
    apart = ((a.iterator, b.iterator) for a, b in zip(path, other, strict=False) if a != b)
    outer = next(apart, None)
    if outer is None:
        return "Fuse takes two loops of one body that stand one after the other."
    return f"Fuse the loops around them first: {Fuse(*outer)}."


def distribute(program: Program, name: str) -> Program:
    """Give every node in a loop's body a loop of its own.

    ::

        for i in 0..9:               for i in 0..9:
          S(i)                 ->      S(i)
          T(i)                       for i2 in 0..9:
                                       T(i2)
    """
    what = f"distribute {name}"
    path, loop = find_loop(program, what, name)
    refuse_marked(what, path, (loop,))
    if len(loop.body) < 2:
        raise ScheduleError(f"{what}: the body of loop {name} is a single {kind(loop.body[0])}")
    taken = names_in_use(program)
    parts: list[Node] = [loop.but(body=loop.body[:1])]
    for node in loop.body[1:]:
        own = fresh(name, taken, first=2)
        body = replace_iterator((node,), name, Affine.var(own))
        parts.append(loop.but(iterator=own, body=body))
    return _finish(program, what, edit(program.body, name, lambda _: tuple(parts)))


def parallelize(program: Program, name: str, arrays: tuple[str, ...] = ()) -> Program:
    """Share the iterations of a loop among threads: ``for`` -> ``parallel for``.

    With arrays, each thread has a copy of its own of them, to which it adds::

        for i in 0..99:              parallel for i in 0..99:    (y: one for each thread)
          for j in 0..9:       ->      for j in 0..9:
            y[j] += a[i][j]              y[j] += a[i][j]
                                     y = the sum of all of them
    """
    what = str(Parallelize(name, arrays))
    path, loop = find_loop(program, what, name)
    refuse_again(what, loop, parallel=loop.parallel)
    inner = [x for _, x in loops(loop.body)]
    for other in (*path, *inner):
        if other.parallel:
            where = "inside" if other in path else "around"
            raise ScheduleError(
                f"{what}: loop {name} is {where} the parallel loop {other.iterator}",
                hint="Parallel loops do not nest: share out one loop of a nest, an outer one.",
            )
    if loop.unroll > 1:
        raise ScheduleError(
            f"{what}: loop {name} is unrolled",
            hint=f"Tile {name} first, parallelize {name}_t and unroll {name}.",
        )
    if around := next((x for x in path if x.jam > 1 or x.lanes > 1 or x.packs), None):
        mark = marks_of(around)[-1]
        raise ScheduleError(f"{what}: loop {name} is inside the {mark} loop {around.iterator}")
    if loop.stream:
        raise ScheduleError(
            f"{what}: loop {name} is streaming",
            hint=f"Tile {name} first, parallelize {name}_t, then vectorize and stream.",
        )
    if loop.lanes > 1:
        raise ScheduleError(
            f"{what}: loop {name} is vectorized in blocks",
            hint=f"Tile {name} first, parallelize {name}_t and vectorize {name}.",
        )
    for array in arrays:
        _refuse_private(what, program, loop, array)
    return with_marks(program, loop, parallel=True, private=arrays)


def _refuse_private(what: str, program: Program, loop: Loop, name: str) -> None:
    """Refuse copies of an array for each thread that cannot be added up in the end."""
    array = next((a for a in program.arguments if a.name == name), None)
    uses = [s for _, s in statements(loop.body) if name in s.uses]
    if array is None or not uses:
        raise ScheduleError(f"{what}: loop {loop.iterator} adds to no array {name}")
    if not array.sure:
        raise ScheduleError(
            f"{what}: nothing says that {name} has all {array.shape[0]} elements that copies of it "
            "would be added to",
            hint=f"Declare the parameter with its extent: {name}[n].",
        )
    if any(name in s.reads or s.target.array != name for s in uses):
        raise ScheduleError(f"{what}: loop {loop.iterator} reads {name}")
    if not operator(s.op for s in uses):
        raise ScheduleError(f"{what}: the updates of {name} are not one kind of reduction")
    if not array.dtype.is_float and array.dtype.bits < 32:
        raise ScheduleError(f"{what}: copies of integers of less than 32 bits cannot be added up")
    if array.bytes > MAX_PRIVATE:
        raise ScheduleError(
            f"{what}: {name} has {array.bytes} bytes, each thread may have {MAX_PRIVATE}"
        )


def cyclic(program: Program, name: str, chunk: int) -> Program:
    """Give the threads of a parallel loop ``chunk`` iterations at a time, in turn.

    Without this each thread has one part of them, which are seldom as long where a loop inside
    runs less and less often::

        parallel for i in 0..7:      threads 0 0 0 0 1 1 1 1   ->   0 0 1 1 0 0 1 1  (chunk 2)
          for j in i..7:
            S(i, j)
    """
    what = str(Cyclic(name, chunk))
    _, loop = find_loop(program, what, name)
    refuse_again(what, loop, cyclic=loop.cyclic > 0)
    if not loop.parallel:
        raise ScheduleError(
            f"{what}: loop {name} is not parallel", hint=f"Say parallelize {name} before."
        )
    return with_marks(program, loop, cyclic=chunk)


def collapse(program: Program, outer: str, inner: str) -> Program:
    """Share the iterations of two nested loops together among threads: all pairs of them.

    ::

        for i in 0..2:               parallel for (i, j) in (0, 0), (0, 1), ... (2, 99):
          for j in 0..99:      ->      for k in 0..9:
            for k in 0..9:               S(i, j, k)
              S(i, j, k)

    For an outer loop that has few iterations for the threads there are. The inner one must be the
    only node in it, with bounds that do not depend on it, and have loops inside: SIMD lanes and the
    compiler's own work need a loop that stays one.
    """
    what = str(Collapse(outer, inner))
    path, band = band_between(program, what, outer, inner)
    if [loop.iterator for loop in band] != [outer, inner]:
        raise ScheduleError(f"{what}: loop {inner} is not the loop directly inside loop {outer}")
    if all(isinstance(node, Statement) for node in band[1].body):
        raise ScheduleError(
            f"{what}: there is no loop inside loop {inner}",
            hint=f"Tile {inner} first, and collapse {inner}_t.",
        )
    if marks := [*marks_of(band[0]), *(m for m in marks_of(band[1]) if m != "packing")]:
        raise ScheduleError(f"{what}: a loop of the two is already {marks[0]}")
    bounds = (*band[1].lower, *band[1].upper)
    if any(outer in b.expr.names for b in bounds):
        raise ScheduleError(f"{what}: the bounds of loop {inner} depend on {outer}")
    if len(bounds) > 2 or any(b.divisor != 1 for b in bounds):
        raise ScheduleError(f"{what}: the bounds of loop {inner} are a min, max or quotient")
    if any(True for loop in band for _ in invariant_updates(loop, {}, loosely=True)):
        raise ScheduleError(f"{what}: iterations add up to elements that they share")
    between = tuple(loop.iterator for loop in (*path, band[0]))
    if held := next((n for n, home in homes(program).items() if home == between), None):
        raise ScheduleError(f"{what}: temporary {held} lives between the two loops")
    shared = parallelize(program, outer)
    _, loop = find_loop(shared, what, outer)
    return with_marks(shared, loop, collapse=True)


def refuse_collapsed(what: str, path: tuple[Loop, ...], loop: Loop) -> None:
    """Refuse to make several loops of one of two that are shared out together."""
    if loop.collapse or (path and path[-1].collapse):
        raise ScheduleError(
            f"{what}: loop {loop.iterator} is collapsed with another",
            hint="Choose a loop inside, or parallelize without collapse.",
        )


def vectorize(program: Program, name: str, lanes: int = 1) -> Program:
    """Run the iterations of a loop in SIMD lanes.

    An innermost loop, in as many lanes as the compiler sees fit: ``for`` -> ``simd for``. With a
    number, so many iterations run together, through the loops inside too; what they update stays
    in vector registers there, and in an innermost loop every lane has a sum of its own::

        for j in 0..95:              for j in 0..95 step 16:
          for k in 0..99:      ->      for k in 0..99:
            S(j, k)                      S(j, k); ... S(j + 15, k)  at the same time

    The tree keeps its shape: lanes are a mark on the loop, carried out when C is emitted.
    """
    what = str(Vectorize(name, lanes))
    path, loop = find_loop(program, what, name)
    refuse_again(what, loop, vectorized=loop.vector, jammed=loop.jam > 1)
    if around := next((x for x in path if x.lanes > 1), None):
        raise ScheduleError(f"{what}: loop {around.iterator} around it is vectorized already")
    refuse_collapsed(what, path, loop)
    if lanes == 1:
        refuse_outer(what, loop)
    else:
        _refuse_lanes(what, loop, lanes)
    if loop.step != 1:
        raise ScheduleError(f"{what}: loop {name} has step {loop.step}, lanes need step 1")
    if loop.unroll > 1:
        raise ScheduleError(
            f"{what}: loop {name} is unrolled",
            hint="A vectorized loop is unrolled by the compiler: leave the unroll step out.",
        )
    return with_marks(program, loop, vector=True, lanes=lanes)


def _refuse_lanes(what: str, loop: Loop, lanes: int) -> None:
    """Refuse a number of lanes that cannot be written out around these loops."""
    if lanes > MAX_LANES or lanes & (lanes - 1):
        raise ScheduleError(f"{what}: the number of lanes must be 2, 4, 8, ... or {MAX_LANES}")
    inner = [x for _, x in loops(loop.body)]
    for other in (loop, *inner):
        if other.vector or other.packs:
            mark = "packs" if other.packs else "is vectorized"
            raise ScheduleError(f"{what}: loop {other.iterator} inside {mark} already")
        if other.parallel:
            raise ScheduleError(
                f"{what}: loop {other.iterator} is parallel",
                hint=f"Tile loop {loop.iterator} first, and parallelize the loop over its tiles.",
            )
    _refuse_dependent(what, loop, "Lanes go through inner loops together.")


def unroll(program: Program, name: str, factor: int) -> Program:
    """Unroll an innermost loop ``factor`` times; the order of execution stays."""
    what = str(Unroll(name, factor))
    _, loop = find_loop(program, what, name)
    refuse_again(what, loop, unrolled=loop.unroll > 1)
    refuse_outer(what, loop)
    refuse_factor(what, factor, MAX_UNROLL)
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
    return with_marks(program, loop, unroll=factor)


def jam(program: Program, name: str, factor: int) -> Program:
    """Unroll an outer loop and jam the copies into the loops inside it.

    ::

        for i in 0..7:               for i in 0..7 step 2:
          S(i)                         S(i); S(i + 1)
          for j in 0..9:       ->      for j in 0..9:
            T(i, j)                      T(i, j); T(i + 1, j)

    Where the range of an inner loop moves with the outer one, copies run together what they have in
    common, and the rest one after the other::

        for i in 0..7:               for i in 0..7 step 2:
          for j in i..9:               T(i, i)
            T(i, j)            ->      for j in i + 1..9:
                                         T(i, j); T(i + 1, j)

    The tree keeps its shape: the factor is a mark on the loop, carried out when C is emitted.
    """
    what = str(Jam(name, factor))
    path, loop = find_loop(program, what, name)
    refuse_again(
        what, loop, jammed=loop.jam > 1, vectorized=loop.lanes > 1, packing=bool(loop.packs)
    )
    refuse_collapsed(what, path, loop)
    refuse_factor(what, factor, MAX_JAM)
    below = [inner for _, inner in loops(loop.body)]
    if not below:
        raise ScheduleError(
            f"{what}: there is no loop inside loop {name}",
            hint="Jam is for outer loops, unroll for innermost ones.",
        )
    for other in (*path, *below):
        inside = other in below and (other.parallel or other.packs or other.stream)
        if other.jam > 1 or inside:
            mark = marks_of(other)[-1 if other.stream else 0]
            raise ScheduleError(
                f"{what}: loop {other.iterator} of the same nest is already {mark}",
                hint="A nest has one jammed loop, and none around its parallel loop.",
            )
    if is_staggered(loop):
        refuse_staggered(what, loop, homes(program))
    return with_marks(program, loop, jam=factor)


def pack(program: Program, read: str, name: str) -> Program:
    """Copy what the loops inside a loop read of an array into a buffer, in every iteration.

    ::

        for j_t in 0..63 step 16:            for j_t in 0..63 step 16:
          for i in 0..99:                      for j in j_t..j_t + 15: for k in 0..99:
            for j in j_t..j_t + 15:      ->      b_pack[k][j - j_t] = b[j][k]
              for k in 0..99:                  for i in 0..99:
                s[i][j] += a[i][k] * b[j][k]     ... s[i][j] += a[i][k] * b_pack[k][j - j_t]

    The buffer is in the order in which the loops nest, but for a loop in SIMD lanes (here j), which
    comes last. ``read`` is the array, or which of several reads of it (``a[j][k]`` beside
    ``a[i][k]``): the others are left. The tree keeps its shape: the copy is made when C is emitted.
    """
    what, array = str(Pack(read, name)), read.partition("[")[0]
    path, loop = find_loop(program, what, name)
    if array not in {a.name for a in program.arrays}:
        known = ", ".join(a.name for a in program.arrays)
        raise ScheduleError(f"{what}: there is no array {array}", hint=f"The arrays are: {known}.")
    inner = [x for _, x in loops(loop.body)]
    source = packed_read(what, loop, read)
    for other in (*path, loop, *inner):
        if source in other.packs:
            raise ScheduleError(f"{what}: loop {other.iterator} packs {source} already")
        if other in inner and other.parallel:
            raise ScheduleError(f"{what}: loop {other.iterator} inside is parallel")
        if other not in inner and (other.jam > 1 or other.lanes > 1):
            mark = marks_of(other)[-1]
            raise ScheduleError(
                f"{what}: loop {other.iterator} is {mark}",
                hint="Pack in a loop around those that are jammed or in lanes.",
            )
    if loop.collapse:
        refuse_collapsed(what, path, loop)
    packs = (*loop.packs, source)
    buffer_of(program, path, loop.but(packs=packs), source)
    return with_marks(program, loop, packs=packs)


def stream(program: Program, array: str, name: str) -> Program:
    """Write an array past the caches, whole lines at a time, in an innermost loop in SIMD lanes.

    ::

        for j in 0..99:                for j in 0..first - 1:     (to where a line begins)
          C[i][j] = S(i, j)              C[i][j] = S(i, j)
                                 ->    for j in first..84 step 16:
                                         line = S(i, j); ... S(i, j + 15)
                                         C[i][j..j + 15] = line    (no cache keeps it)
                                       ... and the rest

    Other stores first read the line that they change. It pays where the array is far larger than
    the caches; every element must be written once, and nothing of it read in the nest. The tree
    keeps its shape: the stores are chosen when C is emitted.
    """
    what = str(Stream(array, name))
    path, loop = find_loop(program, what, name)
    refuse_outer(what, loop)
    refuse_again(what, loop, streaming=bool(loop.stream))
    if not loop.vector or loop.lanes > 1:
        raise ScheduleError(
            f"{what}: loop {name} is not in as many lanes as the compiler sees fit",
            hint=f"Say vectorize {name} before, without a number.",
        )
    if loop.parallel:
        raise ScheduleError(
            f"{what}: loop {name} is parallel",
            hint=f"Tile {name} first, parallelize {name}_t, then vectorize and stream.",
        )
    if around := next((x for x in path if x.jam > 1 or x.lanes > 1), None):
        mark = marks_of(around)[-1]
        raise ScheduleError(f"{what}: loop {name} is inside the {mark} loop {around.iterator}")
    _refuse_stream(what, program, (*path, loop), array)
    return with_marks(program, loop, stream=array)


def _refuse_stream(what: str, program: Program, nest: tuple[Loop, ...], array: str) -> None:
    """Refuse an array that is not written by one row of elements, each once, or that is read."""
    loop, name = nest[-1], nest[-1].iterator
    inside = [s for _, s in statements(loop.body)]
    writes = [s for s in inside if s.target.array == array]
    if array not in {a.name for a in program.arguments} or len(writes) != 1:
        raise ScheduleError(f"{what}: loop {name} writes {array} in {len(writes)} places, not in 1")
    target = writes[0].target
    *others, last = (s.coefficient(name) for s in target.subscripts)
    if any(others) or last != 1:
        raise ScheduleError(f"{what}: loop {name} does not walk along the rows of {array}")
    if writes[0].op or any(array in s.reads for _, s in nest[0].inside):
        raise ScheduleError(f"{what}: {array} is read in the nest of loop {nest[0].iterator}")
    names = frozenset[str]().union(*(s.names for s in target.subscripts))
    if writes[0].condition is not None or names & {n.name for n in writes[0].derived}:
        raise ScheduleError(f"{what}: which elements are written depends on data")
    if any(s.op and not any(name in x.names for x in s.target.subscripts) for s in inside):
        raise ScheduleError(
            f"{what}: loop {name} adds up as well", hint=f"Distribute loop {name} first."
        )
    from agent.loopnest.polyhedron import names_once  # isl: only where it is asked

    if not names_once(nest, target):
        raise ScheduleError(f"{what}: elements of {array} are written several times")


def _refuse_dependent(what: str, loop: Loop, hint: str) -> None:
    """Refuse a loop on which the bounds of a loop inside depend."""
    for _, inner in loops(loop.body):
        if any(loop.iterator in b.expr.names for b in (*inner.lower, *inner.upper)):
            raise ScheduleError(
                f"{what}: the bounds of loop {inner.iterator} depend on {loop.iterator}", hint=hint
            )


def _finish(program: Program, what: str, body: tuple[Node, ...]) -> Program:
    """The program around ``body``, once its temporaries still have one place to live.

    And once its loops can still pack what they did: how far inner loops reach may show no more.
    """
    placed = tuple(statements(body)) if program.temporaries else ()
    for temporary in program.temporaries:
        try:
            check_temporary(placed, temporary)
        except ScheduleError as error:
            raise ScheduleError(f"{what}: {error.message}", hint=error.hint) from None
    found = program.with_body(body)
    try:
        packed(found, copies=False)
    except ScheduleError as error:
        hint = "Leave out that pack, or pack afterwards."
        raise ScheduleError(f"{what}: {error.message}", hint=hint) from None
    return found
