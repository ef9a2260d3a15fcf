"""Families of programs, each a short function that draws one loop nest of its kind.

They stand for what people write: maps, reductions, contractions, stencils, convolutions,
transposes, recurrences, triangular nests, normalisations, pipelines, strided accesses. A family
draws its shape (rank, order of loops, number of operands, offsets) and returns the tree;
``finishing.finish`` makes a Program of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.loopnest.program import (
    Access,
    Affine,
    Binary,
    Cast,
    DType,
    Expr,
    Node,
    Read,
    Select,
)
from bundles.corpus.sketch import Sketch
from bundles.corpus.writing import (
    absolute,
    assign,
    at,
    binary,
    call,
    get,
    half,
    larger,
    literal,
    loop,
    negative,
    nest,
    smaller,
    stored_as,
)

Family = Callable[[Sketch], list[Node]]


def transcendental(sk: Sketch, t: DType, x: Expr) -> Expr:
    """A costly function of ``x``, kept within its domain."""
    match sk.rng.randrange(5):
        case 0:
            return call("exp", t, negative(binary("*", x, x)))
        case 1:
            return call("log", t, binary("+", absolute(t, x), literal(t, 1)))
        case 2:
            return binary("/", x, binary("+", binary("*", x, x), literal(t, 1)))
        case _:
            return call("sqrt", t, binary("+", absolute(t, x), literal(t, 1)))


def pointwise(sk: Sketch, t: DType, x: Expr) -> Expr:
    """A cheap or costly function of one value."""
    kind = sk.rng.random()
    if t.is_float and kind < 0.25:
        return transcendental(sk, t, x)
    if kind < 0.5:
        return binary("*", x, literal(t, 0.75))
    if kind < 0.65:
        return larger(t, x, literal(t, 0.5))
    if kind < 0.75:
        limit = literal(t, 1.5)
        return Select(Binary(">", x, limit), limit, binary("+", x, literal(t, 0.25)))
    if not t.is_float and kind < 0.9:
        return Binary(">>", binary("+", x, literal(t, 3)), literal(t, 2))
    return binary("+", binary("*", x, x), literal(t, 1))


def combine(sk: Sketch, t: DType, values: Sequence[Expr]) -> Expr:
    """All the values in one expression, each used once or twice."""
    out = values[0]
    for value in values[1:]:
        match sk.rng.randrange(8):
            case 0 | 1 | 2:
                out = binary("*", out, value)
            case 3 | 4:
                out = binary("+", out, binary("*", sk.scalar(t), value))
            case 5:
                out = binary("-", out, value)
            case 6:
                out = smaller(t, out, value) if sk.chance(0.5) else larger(t, out, value)
            case _:
                out = binary("+", out, value)
    if len(values) == 1 or sk.chance(0.2):
        out = pointwise(sk, t, out)
    for _ in range(sk.rng.choice((0, 0, 0, 0, 1, 2, 4))):
        out = binary("+", binary("*", out, literal(t, 0.5)), literal(t, 0.125))
    return out


def ordered(sk: Sketch, names: Sequence[str], keep: float = 0.6) -> list[str]:
    """The names in the order given (probability ``keep``) or shuffled."""
    out = list(names)
    if not sk.chance(keep):
        sk.rng.shuffle(out)
    return out


def grid(sk: Sketch, rank: int, work: float | None = None) -> list[tuple[str, int]]:
    """Fresh iterators with trip counts whose product is about the work wanted."""
    return list(zip(sk.iterators(rank), sk.sizes(rank, work), strict=True))


def wide(sk: Sketch) -> DType:
    """A type to accumulate the main type in."""
    if sk.dtype is DType.U8:
        return DType.I32
    return DType.F64 if sk.dtype is DType.F32 and sk.chance(0.1) else sk.dtype


def elementwise(sk: Sketch) -> list[Node]:
    """Maps of one to three statements; operands may be broadcast over some loops."""
    dims = grid(sk, sk.rng.choice((1, 1, 2, 2, 2, 3, 3, 4)))
    names = [n for n, _ in dims]
    body: list[Node] = []
    for _ in range(sk.rng.choice((1, 1, 1, 2, 3))):
        operands: list[Expr] = [get(sk.array(), *names)]
        for _ in range(sk.rng.choice((0, 1, 1, 2))):
            subset = [n for n in names if sk.chance(0.75)] or names[-1:]
            operands.append(get(sk.array(), *subset))
        op = "+" if sk.dtype is not DType.U8 and sk.chance(0.2) else ""
        value = stored_as(sk.dtype, combine(sk, sk.dtype, operands))
        body.append(assign(at(sk.array(), *names), value, op))
    return [nest(ordered_dims(sk, dims), *body)]


def ordered_dims(
    sk: Sketch, dims: Sequence[tuple[str, int]], keep: float = 0.75
) -> list[tuple[str, int]]:
    """The loops in the order given or, less often, in another."""
    out = list(dims)
    if not sk.chance(keep):
        sk.rng.shuffle(out)
    return out


def contraction(sk: Sketch) -> list[Node]:
    """``out[..] += a[..] * b[..]`` over drawn index sets: gemv, gemm, batched, tensors, dot."""
    rank = sk.rng.choice((1, 2, 2, 3, 3, 3, 4, 5))
    dims = grid(sk, rank)
    names = [n for n, _ in dims]
    summed = names[-sk.rng.randint(1, max(1, rank - 1)) :] if rank > 1 else names
    kept = [n for n in names if n not in summed]
    sides = _operands(sk, kept, summed)
    acc = wide(sk)
    out = at(sk.array(acc), *ordered(sk, kept, 0.85)) if kept else at(sk.array(acc), 0)
    values: list[Expr] = [get(sk.array(), *ordered(sk, side, 0.6)) for side in sides]
    if acc is not sk.dtype and sk.chance(0.5):
        values = [Cast(acc, v) for v in values]
    value = binary("*", *values) if len(values) > 1 else pointwise(sk, sk.dtype, values[0])
    return _reduce(sk, dims, kept, out, acc, value)


def _operands(sk: Sketch, kept: list[str], summed: list[str]) -> list[list[str]]:
    """Index sets of one to three operands that together use every loop."""
    count = sk.rng.choice((1, 2, 2, 2, 2, 3))
    if count == 1:
        return [[*kept, *summed]]
    cut = sk.rng.randint(0, len(kept))
    sides = [[*kept[:cut], *summed], [*summed, *kept[cut:]]]
    if len(summed) > 1 and sk.chance(0.3):
        sides[0].remove(summed[0])
    for name in kept:  # a batch index belongs to both
        for side in sides:
            if name not in side and sk.chance(0.15):
                side.insert(0, name)
    if count == 3:
        sides.append([n for n in (*kept, *summed) if sk.chance(0.5)] or [summed[-1]])
    return sides


def _reduce(
    sk: Sketch,
    dims: list[tuple[str, int]],
    kept: list[str],
    out: Access,
    acc: DType,
    value: Expr,
) -> list[Node]:
    """The reduction in one of the forms people write: plain, initialised, or in a temporary."""
    op = sk.rng.choice(("+", "+", "+", "+", "+", "-", "max", "min"))
    if op in ("max", "min") and not acc.is_float:
        op = "+"
    sizes = dict(dims)
    inner = [(n, sizes[n]) for n, _ in dims if n not in kept]
    outer = [(n, sizes[n]) for n in kept]
    form = sk.rng.random()
    if form < 0.5 or not outer:
        return [nest(ordered_dims(sk, dims, 0.55), assign(out, value, op))]
    if form < 0.75:
        first = assign(out, literal(acc, 0) if acc.is_float else binary("*", sk.scalar(acc)))
        return [nest(outer, first, nest(inner, assign(out, value, op)))]
    total = sk.temporary(acc)
    last = assign(out, binary("*", sk.scalar(acc), Read(total)), sk.rng.choice(("", "+")))
    start = assign(total, literal(acc, 0))
    return [nest(outer, start, nest(inner, assign(total, value, op)), last)]


def reduction(sk: Sketch) -> list[Node]:
    """Sums, products of differences, maxima over rows, columns or everything."""
    rank = sk.rng.choice((1, 2, 2, 2, 3))
    dims = grid(sk, rank)
    names = [n for n, _ in dims]
    kept = [n for n in names if sk.chance(0.5)]
    if len(kept) == rank:
        kept.pop(sk.rng.randrange(rank))
    acc = wide(sk)
    out = at(sk.array(acc), *kept) if kept else at(sk.array(acc), 0)
    value: Expr = get(sk.array(), *names)
    if sk.chance(0.4):
        other = get(sk.array(), *(names if sk.chance(0.5) else names[-1:]))
        value = binary("-", value, other)
        value = binary("*", value, value) if sk.chance(0.5) else absolute(sk.dtype, value)
    elif sk.chance(0.4):
        value = pointwise(sk, sk.dtype, value)
    return _reduce(sk, dims, kept, out, acc, value)


def _offsets(sk: Sketch, rank: int) -> list[tuple[int, ...]]:
    """The neighbours a stencil reads: a cross, a box, one line, or some drawn ones."""
    radius = sk.rng.choice((1, 1, 1, 2))
    cross = [tuple(0 for _ in range(rank))]
    steps = [d for r in range(1, radius + 1) for d in (-r, r)]
    for axis in range(rank):
        cross += [tuple(d if a == axis else 0 for a in range(rank)) for d in steps]
    kind = sk.rng.random()
    if kind < 0.55:
        return cross
    if kind < 0.8 and rank <= 2:
        return list(itertools.product(range(-1, 2), repeat=rank))
    line = sk.rng.randrange(rank)
    return [o for o in cross if all(x == 0 for a, x in enumerate(o) if a != line)]


def _neighbours(sk: Sketch, array: str, names: Sequence[str], t: DType) -> Expr:
    offsets = _offsets(sk, len(names))
    terms: list[Expr] = []
    weighted = sk.chance(0.5)
    for o in offsets:
        value = get(array, *(Affine.var(n) + d for n, d in zip(names, o, strict=True)))
        terms.append(
            binary("*", literal(t, 0.125 + 0.25 * len(terms)), value) if weighted else value
        )
    total = binary("+", *terms)
    return total if weighted else binary("*", literal(t, 0.2), total)


def stencil(sk: Sketch) -> list[Node]:
    """Sweeps over a grid, once or repeated over time (ping-pong or copy back)."""
    rank = sk.rng.choice((1, 2, 2, 2, 3, 3))
    steps = sk.rng.choice((1, 1, 4, 10, 20, 50)) if sk.dtype.is_float else 1
    dims = grid(sk, rank, max(sk.work / steps, 64 * 4.0**rank))
    names = [n for n, _ in dims]
    source, target = sk.array(), sk.array()
    sweep = assign(
        at(target, *names), stored_as(sk.dtype, _neighbours(sk, source, names, _arith(sk)))
    )
    if steps == 1:
        return [nest(_inside(sk, dims), sweep)]
    time = sk.iterators(1)[0]
    back = [(n, t) for n, (_, t) in zip(sk.iterators(rank), dims, strict=True)]
    again = [n for n, _ in back]
    if sk.chance(0.5):
        second = assign(at(source, *again), get(target, *again))
    else:
        second = assign(at(source, *again), _neighbours(sk, target, again, _arith(sk)))
    return [loop(time, steps, nest(dims, sweep), nest(back, second))]


def _arith(sk: Sketch) -> DType:
    return DType.I32 if sk.dtype is DType.U8 else sk.dtype


def _inside(sk: Sketch, dims: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Half the time the array, not the loop, has the round size."""
    if sk.chance(0.5):
        return [(n, max(2, t - 2)) for n, t in dims]
    return dims


def in_place(sk: Sketch) -> list[Node]:
    """Gauss-Seidel-like sweeps and line relaxations: every value uses new neighbours."""
    rank = sk.rng.choice((1, 2, 2, 2, 3))
    dims = grid(sk, rank)
    names = [n for n, _ in dims]
    a = sk.array()
    if sk.chance(0.5):
        value = _neighbours(sk, a, names, _arith(sk))
    else:
        axis = sk.rng.randrange(rank)
        before = [Affine.var(n) - (1 if i == axis else 0) for i, n in enumerate(names)]
        value = binary("*", literal(_arith(sk), 0.5), binary("+", get(a, *before), get(a, *names)))
    if sk.chance(0.4):
        value = binary("+", value, get(sk.array(), *names))
    return [nest(ordered_dims(sk, dims), assign(at(a, *names), stored_as(sk.dtype, value)))]


def convolution(sk: Sketch) -> list[Node]:
    """FIR filters, 2-D convolutions, channels in and out, strides and dilation."""
    spatial = sk.rng.choice((1, 1, 2, 2))
    taps = (
        sk.rng.choice((3, 3, 5, 5, 7, 9, 16, 31)) if spatial == 1 else sk.rng.choice((3, 3, 5, 7))
    )
    channels = sk.rng.choice((0, 0, 1, 2)) if spatial == 2 else sk.rng.choice((0, 0, 1))
    share = sk.work / taps**spatial
    outer = grid(sk, channels + spatial, max(share, 4.0 ** (channels + spatial)))
    deep, places = outer[:channels], outer[channels:]
    window = [(n, taps) for n in sk.iterators(spatial)]
    stride, spread = sk.rng.choice((1, 1, 1, 2)), sk.rng.choice((1, 1, 1, 1, 2))
    subscripts = [
        Affine.of({x: stride, r: spread}) for (x, _), (r, _) in zip(places, window, strict=True)
    ]
    into, out_of = deep[:1], deep[1:]
    acc = wide(sk)
    image = get(sk.array(), *(n for n, _ in into), *subscripts)
    weights = get(sk.array(), *(n for n, _ in out_of), *(n for n, _ in into + window))
    kept = [n for n, _ in out_of + places]
    out = at(sk.array(acc), *kept)
    dims = out_of + places + into + window
    return _reduce(sk, dims, kept, out, acc, binary("*", image, weights))


def transpose(sk: Sketch) -> list[Node]:
    """Permuted copies and updates."""
    dims = grid(sk, sk.rng.choice((2, 2, 2, 3, 4)))
    names = [n for n, _ in dims]
    other = list(names)
    while other == names:
        sk.rng.shuffle(other)
    value: Expr = get(sk.array(), *other)
    if sk.chance(0.4):
        value = combine(sk, sk.dtype, [value, get(sk.array(), *names)])
    return [
        nest(ordered_dims(sk, dims), assign(at(sk.array(), *names), stored_as(sk.dtype, value)))
    ]


def recurrence(sk: Sketch) -> list[Node]:
    """Prefix sums, IIR filters, Horner's rule along one axis of one or more signals."""
    dims = grid(sk, sk.rng.choice((1, 2, 2, 3)))
    names = [n for n, _ in dims]
    axis = sk.rng.randrange(len(names))
    y, t = sk.array(), _arith(sk)

    def back(array: str, by: int) -> Expr:
        return get(array, *(Affine.var(n) - by * (i == axis) for i, n in enumerate(names)))

    value: Expr = binary("+", binary("*", literal(t, 0.5), back(y, 1)), get(sk.array(), *names))
    if sk.chance(0.4):
        value = binary("-", value, binary("*", literal(t, 0.25), back(y, 2)))
    if sk.chance(0.2):
        value = pointwise(sk, t, value) if not t.is_float else larger(t, value, literal(t, 0.1))
    target = assign(at(y, *names), stored_as(sk.dtype, value))
    return [nest(ordered_dims(sk, dims), target)]


def triangular(sk: Sketch) -> list[Node]:
    """Nests with a triangular loop: syrk, trmv, covariance, substitution, masked sums."""
    i, j, k = sk.iterators(3)
    t = wide(sk)
    a, b = sk.array(), sk.array()
    if sk.chance(0.45):
        n = sk.sizes(1, max(2 * sk.work, 256) ** 0.5 * 1.2, 16)[0] * 1
        return _triangle2(sk, n, (i, j), (a, b), t)
    n, depth = sk.sizes(2, max(sk.work, 512) ** (2 / 3), 8)
    out = at(sk.array(t), i, j)
    products = binary("*", get(a, i, k), get(b if sk.chance(0.5) else a, j, k))
    if sk.chance(0.4):
        products = binary("*", get(a, k, i), get(a, k, j))
    statement = assign(out, products, sk.rng.choice("++-"))
    below = sk.chance(0.6)
    if sk.chance(0.3):
        total = sk.temporary(t)
        inner: list[Node] = [
            assign(total, literal(t, 0)),
            loop(k, depth, assign(total, products, "+")),
            assign(out, Read(total)),
        ]
        return [loop(i, n, half(j, i, n, *inner, below=below))]
    if sk.chance(0.6):
        return [loop(i, n, half(j, i, n, loop(k, depth, statement), below=below))]
    return [loop(i, n, loop(k, depth, half(j, i, n, statement, below=below)))]


def _triangle2(
    sk: Sketch, n: int, names: tuple[str, str], arrays: tuple[str, str], t: DType
) -> list[Node]:
    (i, j), (a, b) = names, arrays
    match sk.rng.randrange(4):
        case 0:
            body = assign(at(sk.array(t), i), binary("*", get(a, i, j), get(b, j)), "+")
        case 1:
            body = assign(at(sk.array(t), j), binary("*", get(a, i, j), get(b, i)), "+")
        case 2:
            value = combine(sk, sk.dtype, [get(a, i, j), get(b, j, i)])
            body = assign(at(sk.array(), i, j), stored_as(sk.dtype, value))
        case _:  # forward substitution: x[i] -= L[i][j] * x[j], j < i
            x = sk.array(t)
            body = assign(at(x, i), binary("*", get(a, i, j), get(x, j)), "-")
            return [loop(i, n, loop(j, i, body))]
    return [loop(i, n, half(j, i, n, body, below=sk.chance(0.6)))]


def normalise(sk: Sketch) -> list[Node]:
    """Rows (or columns) reduced to a number, then mapped with it: norms, means, softmax."""
    rows, cols = sk.sizes(2, sk.work)
    i, j, j2 = sk.iterators(3)
    t, out = wide(sk), sk.array(sk.dtype if sk.dtype.is_float else wide(sk))
    a = sk.array()
    total = sk.temporary(t)
    first, second = ((i, j), (i, j2)) if sk.chance(0.8) else ((j, i), (j2, i))
    x: Expr = get(a, *first)
    x = binary("*", x, x) if sk.chance(0.5) else x
    if t.is_float:
        scale: Expr = binary("+", call("sqrt", t, absolute(t, Read(total))), literal(t, 1))
        mapped = binary(sk.rng.choice("/*-"), get(a, *second), scale)
    else:
        mapped = binary("-", get(a, *second), Binary(">>", Read(total), literal(t, 8)))
    body: list[Node] = [
        assign(total, literal(t, 0)),
        loop(j, cols, assign(total, x, "max" if t.is_float and sk.chance(0.2) else "+")),
    ]
    if sk.chance(0.2):
        body.append(assign(at(sk.array(t), i), Read(total)))
    body.append(loop(j2, cols, assign(at(out, *second), mapped)))
    return [loop(i, rows, *body)]


def pipeline(sk: Sketch) -> list[Node]:
    """Two or three neighbouring nests that hand an array on: fusable or not."""
    rank = sk.rng.choice((1, 2, 2, 2, 3))
    trips = sk.sizes(rank, sk.work / 2)
    current, t = sk.array(), _arith(sk)
    out: list[Node] = []
    for _ in range(sk.rng.choice((2, 2, 3))):
        names = sk.iterators(rank)
        reach = sk.chance(0.4)
        values = [_neighbours(sk, current, names, t) if reach else get(current, *names)]
        if sk.chance(0.5):
            values.append(get(sk.array(), *names))
        target = sk.array()
        value = stored_as(sk.dtype, combine(sk, t, values))
        dims = list(zip(names, trips, strict=True))
        out.append(nest(ordered_dims(sk, dims, 0.9), assign(at(target, *names), value)))
        current = target
    if sk.chance(0.25):
        names = sk.iterators(rank)
        total = at(sk.array(wide(sk)), *names[:-1]) if rank > 1 else at(sk.array(wide(sk)), 0)
        dims = list(zip(names, trips, strict=True))
        out.append(nest(dims, assign(total, get(current, *names), "+")))
    return out


@dataclass(frozen=True)
class _StridedGrid:
    """Iterators and trip counts, and the axis along which subscripts have a step."""

    names: Sequence[str]
    trips: Sequence[int]
    axis: int
    step: int

    def scaled(self, by: int) -> list[Affine]:
        """``[i][step * j + by]``."""
        here = [Affine.var(n) for n in self.names]
        here[self.axis] = here[self.axis] * self.step + by
        return here


def strided(sk: Sketch) -> list[Node]:
    """Subscripts with steps, reversals and interleaving: decimation, complex numbers, grids."""
    dims = grid(sk, sk.rng.choice((1, 2, 2, 3)))
    step = sk.rng.choice((2, 2, 3, 4))
    names, trips = zip(*dims, strict=True)
    walk = _StridedGrid(names, trips, sk.rng.randrange(len(names)), step)
    a = sk.array()
    kinds = (_decimated, _interleaved, _complex_product, _reversed)
    body = kinds[sk.rng.randrange(len(kinds))](sk, a, walk)
    return [nest(ordered_dims(sk, dims), *body)]


def _decimated(sk: Sketch, a: str, walk: _StridedGrid) -> list[Node]:
    """Every step-th element, or the mean of neighbours."""
    count = sk.rng.randint(1, walk.step)
    value = binary("+", *(get(a, *walk.scaled(d)) for d in range(count)))
    out = at(sk.array(), *walk.names)
    return [assign(out, stored_as(sk.dtype, pointwise(sk, _arith(sk), value)))]


def _interleaved(sk: Sketch, a: str, walk: _StridedGrid) -> list[Node]:
    """Two arrays into one, or one with room between its elements."""
    b, out = sk.array(), sk.array()
    second = stored_as(sk.dtype, pointwise(sk, _arith(sk), get(b, *walk.names)))
    return [
        assign(at(out, *walk.scaled(0)), get(a, *walk.names)),
        assign(at(out, *walk.scaled(1)), second),
    ]


def _complex_product(sk: Sketch, a: str, walk: _StridedGrid) -> list[Node]:
    """Products of complex numbers, real and imaginary parts side by side."""
    b, out = sk.array(), sk.array()

    def times(x: int, y: int) -> Expr:
        return binary("*", get(a, *walk.names, x), get(b, *walk.names, y))

    re, im = binary("-", times(0, 0), times(1, 1)), binary("+", times(0, 1), times(1, 0))
    return [
        assign(at(out, *walk.names, 0), stored_as(sk.dtype, re)),
        assign(at(out, *walk.names, 1), stored_as(sk.dtype, im)),
    ]


def _reversed(sk: Sketch, a: str, walk: _StridedGrid) -> list[Node]:
    """One axis from its end to its beginning."""
    mirrored = [Affine.var(n) for n in walk.names]
    mirrored[walk.axis] = mirrored[walk.axis] * -1 + (walk.trips[walk.axis] - 1)
    value = combine(sk, sk.dtype, [get(a, *mirrored), get(sk.array(), *walk.names)])
    return [assign(at(sk.array(), *walk.names), stored_as(sk.dtype, value))]
