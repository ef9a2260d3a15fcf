"""Loops as most code has them: some statements with variables, conditions, tables, pixels, state.

Most nests of public C compute little for each element (`docs/explanation/corpus.md`): one or two
loops, subscripts such as ``a[i]`` and ``a[3 * i + 1]``, a handful of statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.loopnest.program import (
    Affine,
    Binary,
    Derived,
    DType,
    Expr,
    Node,
    Read,
)
from bundles.corpus.families import combine, grid, ordered_dims
from bundles.corpus.sketch import Sketch
from bundles.corpus.writing import assign, at, binary, get, larger, literal, loop, nest, stored_as

NUMBER = "q1"  # what the reader calls the first number that a subscript takes from data


def steps(sk: Sketch) -> list[Node]:
    """One loop, seldom more, around several statements, each of what the ones before it gave."""
    dims = grid(sk, sk.rng.choice((1, 1, 1, 1, 1, 2)))
    names, t = [n for n, _ in dims], _wide(sk)
    known: list[Expr] = [_element(sk, names) for _ in range(sk.rng.choice((1, 1, 2, 2, 3)))]
    body: list[Node] = []
    for _ in range(sk.rng.choice((0, 0, 0, 1, 2, 4, 5, 7))):
        value = sk.temporary(t)
        body.append(assign(value, _little(sk, t, known)))
        known.append(Read(value))
    outputs = [sk.array() for _ in range(sk.rng.choice((1, 1, 1, 2)))]
    parts = sk.rng.choice((1, 1, 1, 1, 2, 2, 3, 4))
    for part in range(parts):  # elements side by side: coordinates, coefficients, channels
        place = [Affine.var(n) for n in names]
        place[-1] = place[-1] * parts + part
        body += [
            assign(at(out, *place), stored_as(sk.dtype, _little(sk, t, known))) for out in outputs
        ]
    if sk.chance(0.2):
        total = at(sk.array(t), *names[:-1]) if len(names) > 1 else at(sk.array(t), 0)
        body.append(assign(total, known[-1], "+"))
    return [nest(ordered_dims(sk, dims, 0.9), *body)]


def _little(sk: Sketch, t: DType, known: Sequence[Expr]) -> Expr:
    """A value as most statements compute it: a copy, one operation, a few at most."""
    x, y = sk.rng.choice(known), sk.rng.choice(known)
    coefficient = get(sk.array(), sk.rng.randrange(9)) if sk.chance(0.25) else literal(t, 0.75)
    match sk.rng.randrange(8):
        case 0 | 1:
            return x
        case 2:
            return binary("*", x, coefficient)
        case 3:
            return binary("+", x, coefficient)
        case 4:
            return binary(sk.rng.choice("+-*"), x, y)
        case 5:
            return binary("+", binary("*", x, coefficient), y)
        case 6 if t.is_float:
            return binary("/", x, binary("+", binary("*", y, y), literal(t, 1)))
        case _:
            return combine(sk, t, [x, y])


def _wide(sk: Sketch) -> DType:
    """The type in which C computes with the main type."""
    return DType.I32 if not sk.dtype.is_float and sk.dtype.bits < 32 else sk.dtype


def _element(sk: Sketch, names: list[str]) -> Read:
    """An element at the iterators, near them, or at some of them alone."""
    kept = [n for n in names if sk.chance(0.85)] or names[-1:]
    near = [Affine.var(n) + (sk.rng.choice((-1, 1, 1, 2)) if sk.chance(0.12) else 0) for n in kept]
    return get(sk.array(), *near)


def guarded(sk: Sketch) -> list[Node]:
    """Something is done where a value of the data is large, small or another's: clips, masks."""
    dims = grid(sk, sk.rng.choice((1, 1, 2, 2, 3)))
    names, t = [n for n, _ in dims], _wide(sk)
    x = _element(sk, names)
    limit: Expr = sk.scalar() if sk.chance(0.4) else literal(sk.dtype, 2)
    condition = Binary(sk.rng.choice(("<", ">", ">", "==", "!=")), x, limit)
    out = sk.array()
    kept = names if sk.chance(0.6) else names[:-1]
    if kept != names:  # how many, or the sum of those
        what = literal(t, 1) if sk.chance(0.5) else x
        target = at(sk.array(t), *kept) if kept else at(sk.array(t), 0)
        return [nest(dims, replace(assign(target, what, "+"), condition=condition))]
    value = stored_as(sk.dtype, combine(sk, t, [x, _element(sk, names)]))
    then = replace(assign(at(out, *names), value), condition=condition)
    return [nest(ordered_dims(sk, dims, 0.9), then)]


def lookups(sk: Sketch) -> list[Node]:
    """Tables asked by a byte, gathers by an index, histograms."""
    dims = grid(sk, sk.rng.choice((1, 1, 2)))
    names = [n for n, _ in dims]
    index = get(sk.array(DType.U8 if sk.chance(0.6) else DType.I32), *names)
    most = 255 if sk.types[index.access.array] is DType.U8 else 99
    number = Derived(NUMBER, index, 0, most)
    place = Affine.var(NUMBER)
    if sk.chance(0.3):
        one = assign(at(sk.array(DType.I32), place), literal(DType.I32, 1), "+")
        return [nest(dims, replace(one, derived=(number,)))]
    found: Expr = get(sk.array(), place)
    if sk.chance(0.4):
        found = combine(sk, _wide(sk), [found, get(sk.array(), *names)])
    taken = assign(at(sk.array(), *names), stored_as(sk.dtype, found))
    return [nest(dims, replace(taken, derived=(number,)))]


def fills(sk: Sketch) -> list[Node]:
    """Arrays cleared, copied, scaled or added to one another, one loop after the other."""
    rank, count = sk.rng.choice((1, 1, 1, 2)), sk.rng.choice((1, 1, 2, 3, 4))
    trips = sk.sizes(rank, sk.work / count)
    out: list[Node] = []
    before: list[str] = []
    for _ in range(count):
        names = sk.iterators(rank)
        source = sk.rng.choice(before) if before and sk.chance(0.5) else sk.array()
        x, target = get(source, *names), sk.array()
        match sk.rng.randrange(4):
            case 0:
                value: Expr = literal(sk.dtype, 0) if sk.dtype.is_float else sk.scalar()
            case 1:
                value = x
            case 2:
                value = stored_as(sk.dtype, binary("*", sk.scalar(), x))
            case _:
                value = stored_as(sk.dtype, binary("+", x, get(sk.array(), *names)))
        before.append(target)
        dims = list(zip(names, trips, strict=True))
        out.append(nest(dims, assign(at(target, *names), value)))
    return out


def pixels(sk: Sketch) -> list[Node]:
    """Interleaved channels, made of each other: ``out[4 * i + 1]`` from ``in[3 * i]``."""
    dims = grid(sk, sk.rng.choice((1, 1, 2)))
    *rows, (column, _) = dims
    around = [n for n, _ in rows]
    source, t = sk.rng.choice((2, 3, 3, 4)), _wide(sk)
    target = sk.rng.choice((1, 1, source, 3, 4))
    a, b = sk.array(), sk.array()
    channels = [get(a, *around, Affine.of({column: source}, c)) for c in range(source)]
    body: list[Node] = []
    for c in range(target):
        used = channels if sk.chance(0.4) else [sk.rng.choice(channels)]
        weighted = [binary("*", literal(t, 0.25 + c), x) if len(used) > 1 else x for x in used]
        value: Expr = binary("+", *weighted)
        if not t.is_float and len(used) > 1:
            value = Binary(">>", value, literal(t, 3))
        body.append(
            assign(at(b, *around, Affine.of({column: target}, c)), stored_as(sk.dtype, value))
        )
    return [nest(dims, *body)]


def blocks(sk: Sketch) -> list[Node]:
    """Small blocks of a fixed size, many of them: transforms, differences, sums over blocks."""
    size, t = sk.rng.choice((2, 3, 4, 4, 8, 8, 8, 16, 32)), _wide(sk)
    count = max(4, round(sk.work / size**2))
    s, i, j = sk.iterators(3)
    a, b = get(sk.array(), s, i, j), get(sk.array(), s, i, j)
    match sk.rng.randrange(4):
        case 0:  # sums of differences of blocks
            total = sk.temporary(t)
            difference: Expr = binary("-", a, b)
            inner = assign(total, binary("*", difference, difference), "+")
            first, last = assign(total, literal(t, 0)), assign(at(sk.array(t), s), Read(total))
            return [loop(s, count, first, nest([(i, size), (j, size)], inner), last)]
        case 1:  # rows times a small table
            k = sk.iterators(1)[0]
            term = binary("*", get(sk.array(), i, k), get(a.access.array, s, k, j))
            out, total = at(sk.array(), s, i, j), sk.temporary(t)
            sums: list[Node] = [
                assign(total, literal(t, 0)),
                loop(k, size, assign(total, term, "+")),
            ]
            stored = assign(out, stored_as(sk.dtype, Read(total)))
            return [nest([(s, max(4, count // size)), (i, size), (j, size)], *sums, stored)]
        case 2:
            table = get(sk.array(), i, j)
            value = stored_as(sk.dtype, combine(sk, t, [a, table]))
            return [
                nest([(s, count), (i, size), (j, size)], assign(at(sk.array(), s, i, j), value))
            ]
        case _:  # sums or means of channels
            term = a if sk.chance(0.5) else binary("*", a, a)
            out = at(sk.array(t), s, j) if sk.chance(0.5) else at(sk.array(t), s)
            return [nest([(s, count), (i, size), (j, size)], assign(out, term, "+"))]


def states(sk: Sketch) -> list[Node]:
    """Filters and averages that carry their state in variables from one sample to the next."""
    (i,), t = sk.iterators(1), sk.dtype if sk.dtype.is_float else DType.I32
    (n,) = sk.sizes(1, sk.work)
    x, y = get(sk.array(t), i), at(sk.array(t), i)
    one = sk.temporary(t)
    zero = assign(one, literal(t, 0))
    match sk.rng.randrange(3):
        case 0:
            value = binary("+", Read(one), binary("*", sk.scalar(t), binary("-", x, Read(one))))
            return [zero, loop(i, n, assign(one, value), assign(y, Read(one)))]
        case 1:
            two, now = sk.temporary(t), sk.temporary(t)
            body = [
                assign(now, binary("+", binary("*", sk.scalar(t), x), Read(one))),
                assign(one, binary("+", binary("*", literal(t, 0.5), x), Read(two))),
                assign(two, binary("*", literal(t, 0.25), Read(now))),
                assign(y, Read(now)),
            ]
            return [zero, assign(two, literal(t, 0)), loop(i, n, *body)]
        case _:
            held = larger(t, x, binary("*", literal(t, 0.75), Read(one)))
            return [zero, loop(i, n, assign(one, held), assign(y, Read(one)))]
