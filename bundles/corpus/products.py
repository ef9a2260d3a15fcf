"""Matrix products and their kin as people write them.

Drawn are the form (where the sum is kept, when the target is scaled or cleared), the order of the
loops, which operands are transposed, and sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.loopnest.program import Access, Affine, DType, Expr, Loop, Node, Read, Statement
from bundles.corpus.sketch import Sketch
from bundles.corpus.writing import assign, at, binary, get, half, literal, loop, nest

Dims = Sequence[tuple[str, int]]
FORMS = ("plain", "plain", "cleared", "cleared", "before", "scaled", "variable", "variable")


def matrix_product(sk: Sketch) -> list[Node]:
    """``C (+)= alpha op(A) op(B)``, at times with a batch around it."""
    acc = _wide(sk)
    shares = sk.sizes(3, sk.work, 8)
    batch = list(zip(sk.iterators(1), sk.sizes(1, 16, 2), strict=True)) if sk.chance(0.12) else []
    if batch:
        shares = sk.sizes(3, sk.work / batch[0][1], 8)
    (i, n), (j, m), (k, p) = zip(sk.iterators(3), shares, strict=True)
    outer = [b for b, _ in batch]
    a, b = _operand(sk, i, k, outer), _operand(sk, k, j, outer)
    out = at(sk.array(acc), *outer, i, j)
    return summed(sk, [*batch, (i, n), (j, m)], [(k, p)], out, binary("*", a, b))


def _operand(sk: Sketch, row: str, column: str, outer: Sequence[str] = ()) -> Read:
    """An element of a fresh matrix, which may be transposed."""
    names = (column, row) if sk.chance(0.25) else (row, column)
    return get(sk.array(), *outer, *names)


def _wide(sk: Sketch) -> DType:
    """What products of the main type are added up in."""
    return DType.I32 if not sk.dtype.is_float and sk.dtype.bits < 32 else sk.dtype


def _scaled(sk: Sketch, acc: DType, value: Expr, share: float = 0.35) -> Expr:
    return binary("*", sk.scalar(acc), value) if sk.chance(share) else value


def summed(sk: Sketch, kept: Dims, inner: Dims, out: Access, term: Expr) -> list[Node]:
    """``out (+)= sum of term`` over the inner loops, in one of the forms people write it.

    Args:
        sk: draws the form.
        kept: loops that choose the element of ``out``.
        inner: those that are summed over.
        out: the element.
        term: what is added up.
    """
    acc = sk.types[out.array]
    form = sk.rng.choice(FORMS)
    if form == "variable":
        return [nest(kept, *in_variable(sk, inner, out, term))]
    update = assign(out, _scaled(sk, acc, term), "+")
    if form == "plain":
        return [nest(_ordered(sk, [*kept, *inner]), update)]
    first = assign(out, sk.scalar(acc), "*") if form == "scaled" else assign(out, literal(acc, 0))
    if form != "before" and sk.chance(0.7):
        return [nest(kept, first, nest(inner, update))]
    return _first_by_itself(sk, kept, inner, first, update)


def _first_by_itself(
    sk: Sketch, kept: Dims, inner: Dims, first: Statement, update: Statement
) -> list[Node]:
    """The first statement in loops of its own: in front of everything, or row by row."""
    again = dict(zip([n for n, _ in kept], sk.iterators(len(kept)), strict=True))
    if len(kept) > 1 and sk.chance(0.5):
        (row, *others), swapped = kept, [*inner, *kept[1:]]
        alone = [(again[n], trip) for n, trip in others]
        moved = _renamed(first, {n: again[n] for n, _ in others})
        rest = swapped if sk.chance(0.6) else [*others, *inner]
        return [nest([row], nest(alone, moved), nest(rest, update))]
    alone = [(again[n], trip) for n, trip in kept]
    return [nest(alone, _renamed(first, again)), nest(_ordered(sk, [*kept, *inner]), update)]


def _renamed(statement: Statement, names: dict[str, str]) -> Statement:
    values = {old: Affine.var(new) for old, new in names.items()}
    target = Access(
        statement.target.array, tuple(s.substitute(values) for s in statement.target.subscripts)
    )
    return assign(target, statement.value, statement.op)


def _ordered(sk: Sketch, dims: Dims) -> list[tuple[str, int]]:
    """The loops as they come, with the sum further out, or in any order."""
    out = list(dims)
    match sk.rng.randrange(10):
        case 0 | 1 | 2:
            out[-2:] = reversed(out[-2:])
        case 3:
            out = [out[-1], *out[:-1]]
        case 4:
            sk.rng.shuffle(out)
    return out


def in_variable(sk: Sketch, inner: Dims, out: Access, term: Expr) -> list[Node]:
    """``s = 0; for ... s += term; out = alpha * s + beta * out``, or less of it."""
    acc = sk.types[out.array]
    total = sk.temporary(acc)
    value, op = _scaled(sk, acc, Read(total)), "+" if sk.chance(0.25) else ""
    if not op and sk.chance(0.25):
        value = binary("+", value, binary("*", sk.scalar(acc), Read(out)))
    sums = nest(inner, assign(total, term, "+"))
    return [assign(total, literal(acc, 0)), sums, assign(out, value, op)]


def rank_update(sk: Sketch) -> list[Node]:
    """``C (+)= alpha A A'`` or ``A B' + B A'``, one triangle of it, at times mirrored."""
    acc, (i, j, k) = _wide(sk), sk.iterators(3)
    n, p = sk.sizes(2, max(sk.work, 1024) ** (2 / 3) * 1.3, 8)
    a, c = sk.array(), sk.array(acc)
    turn = sk.chance(0.3)

    def of(array: str, row: str) -> Read:
        return get(array, k, row) if turn else get(array, row, k)

    term = binary("*", of(a, i), of(a, j))
    if sk.chance(0.35):
        b = sk.array()
        term = binary("+", binary("*", of(a, i), of(b, j)), binary("*", of(b, i), of(a, j)))
    out = at(c, i, j)
    update = loop(k, p, assign(out, _scaled(sk, acc, term), "+"))
    match sk.rng.randrange(4):
        case 0:
            body = in_variable(sk, [(k, p)], out, term)
        case 1:
            body = [assign(out, *_first(sk, acc)), update]
        case 2:
            (j2,) = sk.iterators(1)
            below = sk.chance(0.6)
            first = half(j2, i, n, assign(at(c, i, j2), *_first(sk, acc)), below=below)
            inner = loop(k, p, half(j, i, n, *update.body, below=below))
            return [loop(i, n, first, inner)]
        case _:
            body = [update]
    if sk.chance(0.25):
        body.append(assign(at(c, j, i), Read(out)))
    return [loop(i, n, half(j, i, n, *body, below=sk.chance(0.6)))]


def _first(sk: Sketch, acc: DType) -> tuple[Expr, str]:
    """What becomes of an element before anything is added: it is scaled, or cleared."""
    return (sk.scalar(acc), "*") if sk.chance(0.5) else (literal(acc, 0), "")


def triangle_product(sk: Sketch) -> list[Node]:
    """Products with a triangular or symmetric matrix, in place or not; solves with many sides."""
    acc, (i, j, k) = sk.dtype, sk.iterators(3)
    n, m = sk.sizes(2, max(sk.work, 1024) ** (2 / 3) * 1.3, 8)
    a, b = sk.array(), sk.array()
    coefficient = get(a, k, i) if sk.chance(0.4) else get(a, i, k)
    in_place = sk.chance(0.6)
    out = at(b if in_place else sk.array(acc), i, j)
    update = assign(out, binary("*", coefficient, get(b, k, j)), sk.rng.choice("++-"))
    strict = half(k, i, n, update, below=sk.chance(0.6), strict=in_place or sk.chance(0.5))
    last = assign(out, sk.scalar(acc), "*")
    match sk.rng.randrange(4):
        case 0:
            return [loop(i, n, loop(j, m, strict, last))]
        case 1:
            return [loop(i, n, loop(j, m, assign(out, sk.scalar(acc), "*"), strict))]
        case 2:
            inner = Loop(k, strict.lower, strict.upper, 1, (loop(j, m, update),))
            return [loop(i, n, inner)]
        case _:
            return (
                [loop(j, m, loop(i, n, strict))]
                if sk.chance(0.5)
                else [loop(i, n, loop(j, m, strict))]
            )


def factorisation(sk: Sketch) -> list[Node]:
    """Eliminations: rows scaled by a pivot, the rest of the matrix updated; substitutions."""
    i, j, k, i2 = sk.iterators(4)
    n = sk.sizes(1, (3 * max(sk.work, 4096)) ** (1 / 3), 12)[0]
    a, symmetric = sk.array(), sk.chance(0.4)
    first = Affine.var(k) + 1
    pivot = binary("+", get(a, k, k), literal(sk.dtype, 1)) if sk.chance(0.3) else get(a, k, k)
    scale = assign(at(a, i2, k), binary("/", get(a, i2, k), pivot))
    other = get(a, j, k) if symmetric else get(a, k, j)
    update = assign(at(a, i, j), binary("*", get(a, i, k), other), "-")
    inner = loop(j, Affine.var(i) + 1 if symmetric else n, update, lower=first)
    outer = loop(i, n, inner, lower=first)
    return [loop(k, n - 1, loop(i2, n, scale, lower=first), outer)]


def vector_product(sk: Sketch) -> list[Node]:
    """A matrix with vectors: gemv, its transpose, updates of rank one, two at a time, A' A x."""
    acc, (i, j) = _wide(sk), sk.iterators(2)
    n, m = sk.sizes(2, sk.work, 8)
    a, x, y = sk.array(), sk.array(), sk.array(acc)
    row, column = binary("*", get(a, i, j), get(x, j)), binary("*", get(a, i, j), get(x, i))
    match sk.rng.randrange(6):
        case 0:
            return summed(sk, [(i, n)], [(j, m)], at(y, i), row)
        case 1:
            return summed(sk, [(j, m)], [(i, n)], at(y, j), column)
        case 2:
            value = _scaled(sk, acc, binary("*", get(x, i), get(sk.array(), j)))
            return [nest([(i, n), (j, m)], assign(at(sk.array(acc), i, j), value, "+"))]
        case 3:
            q, s = sk.array(acc), sk.array()
            second = assign(at(q, j), binary("*", get(a, i, j), get(s, i)), "+")
            return [nest([(i, n), (j, m)], assign(at(y, i), row, "+"), second)]
        case 4:
            i2, j2 = sk.iterators(2)
            again = binary("*", get(a, i2, j2), get(y, i2))
            first = summed(sk, [(i, n)], [(j, m)], at(y, i), row)
            return [*first, *summed(sk, [(j2, m)], [(i2, n)], at(sk.array(acc), j2), again)]
        case _:
            (j2,) = sk.iterators(1)
            total = in_variable(sk, [(j, m)], at(y, i), row)
            spread = assign(at(sk.array(acc), j2), binary("*", get(a, i, j2), get(y, i)), "+")
            return [loop(i, n, *total, loop(j2, m, spread))]


def product_chain(sk: Sketch) -> list[Node]:
    """Two products, the second of what the first gives: one after the other, or row by row."""
    acc = _wide(sk)
    i, j, k, i2, j2, k2 = sk.iterators(6)
    n, m, p, q = sk.sizes(4, (sk.work / 2) ** (4 / 3), 8)
    a, b, c = sk.array(), sk.array(), sk.array(acc)
    if sk.chance(0.7):
        first = summed(
            sk, [(i, n), (j, m)], [(k, p)], at(c, i, j), binary("*", get(a, i, k), get(b, k, j))
        )
        term = binary("*", get(c, i2, k2), _operand(sk, k2, j2))
        return [*first, *summed(sk, [(i2, n), (j2, q)], [(k2, m)], at(sk.array(acc), i2, j2), term)]
    row, out = at(c, j), at(sk.array(acc), i, j2)
    first = [
        assign(row, literal(acc, 0)),
        loop(k, p, assign(row, binary("*", get(a, i, k), get(b, k, j)), "+")),
    ]
    second = summed(sk, [(j2, q)], [(k2, m)], out, binary("*", get(c, k2), _operand(sk, k2, j2)))
    return [loop(i, n, loop(j, m, *first), *second)]


def small_products(sk: Sketch) -> list[Node]:
    """Products of many small matrices or vectors: states, poses, colours."""
    acc, size = sk.dtype, sk.rng.choice((2, 3, 3, 4, 4, 6, 8, 12, 16))
    square = sk.chance(0.6)
    count = max(4, round(sk.work / size ** (3 if square else 2)))
    s, i, j, k = sk.iterators(4)
    alike = [] if sk.chance(0.5) else [s]  # one matrix for all, or one each
    a = get(sk.array(), *alike, i, k)
    if square:
        term = binary("*", a, get(sk.array(), s, k, j))
        kept, out = [(s, count), (i, size), (j, size)], at(sk.array(acc), s, i, j)
    else:
        term = binary("*", a, get(sk.array(), s, k))
        kept, out = [(s, count), (i, size)], at(sk.array(acc), s, i)
    return summed(sk, kept, [(k, size)], out, term)


def complex_product(sk: Sketch) -> list[Node]:
    """Products of complex matrices or vectors, real and imaginary parts side by side or apart."""
    acc = sk.dtype
    n, m = sk.sizes(2, sk.work, 8)
    i, k = sk.iterators(2)
    a, b = sk.array(), sk.array()
    apart = (sk.array(), sk.array()) if sk.chance(0.3) else None

    def part(array: str, which: int, *place: str) -> Read:
        if apart and which:
            return get(apart[0] if array == a else apart[1], *place)
        return get(array, *place, which) if not apart else get(array, *place)

    def times(x: int, y: int) -> Expr:
        return binary("*", part(a, x, i, k), part(b, y, k))

    re, im = sk.temporary(acc), sk.temporary(acc)
    sums = loop(
        k, m,
        assign(re, binary("-", times(0, 0), times(1, 1)), "+"),
        assign(im, binary("+", times(0, 1), times(1, 0)), "+"),
    )  # fmt: skip
    out = sk.array(acc)
    last = [assign(at(out, i, 0), Read(re)), assign(at(out, i, 1), Read(im))]
    if sk.chance(0.3):
        last = [
            assign(
                at(out, i),
                binary("+", binary("*", Read(re), Read(re)), binary("*", Read(im), Read(im))),
            )
        ]
    zero = [assign(re, literal(acc, 0)), assign(im, literal(acc, 0))]
    return [loop(i, n, *zero, sums, *last)]


def moments(sk: Sketch) -> list[Node]:
    """Means of columns, columns less their means, products of all pairs of them."""
    i, j, i2, j2, a1, a2, k = sk.iterators(7)
    n, m = sk.sizes(2, max(sk.work, 4096) ** (2 / 3) * 1.3, 8)
    x, mean, c = sk.array(), sk.array(), sk.array()
    t = sk.dtype
    means: list[Node] = [
        assign(at(mean, j), literal(t, 0)),
        loop(i, n, assign(at(mean, j), get(x, i, j), "+")),
        assign(at(mean, j), binary("/", get(mean, j), sk.scalar())),
    ]
    centred = assign(at(x, i2, j2), get(mean, j2), "-")
    pair = in_variable(sk, [(k, n)], at(c, a1, a2), binary("*", get(x, k, a1), get(x, k, a2)))
    if sk.chance(0.5):
        pair.append(assign(at(c, a2, a1), get(c, a1, a2)))
    return [
        loop(j, m, *means),
        nest([(i2, n), (j2, m)], centred),
        loop(a1, m, half(a2, a1, m, *pair, below=sk.chance(0.4))),
    ]
