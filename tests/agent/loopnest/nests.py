"""Small programs written as trees, for tests of what is counted on them."""

from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    Binary,
    Bound,
    DType,
    Expr,
    Loop,
    Node,
    Program,
    Read,
    Statement,
)

End = int | str | Affine | Bound


def affine(text: int | str | Affine) -> Affine:
    """`"2*i - j + 3"` and the like; numbers and affines as they are."""
    if isinstance(text, Affine):
        return text
    if isinstance(text, int):
        return Affine.constant(text)
    terms: dict[str, int] = {}
    const = 0
    for part in text.replace("-", "+-").replace(" ", "").split("+"):
        if not part:
            continue
        sign, body = (-1, part[1:]) if part.startswith("-") else (1, part)
        number, _, name = body.rpartition("*")
        if name.isdigit():
            const += sign * int(name)
        else:
            terms[name] = terms.get(name, 0) + sign * int(number or 1)
    return Affine.of(terms, const)


def loop(
    name: str, low: End | tuple, high: End | tuple, *body: Node, step: int = 1, **marks
) -> Loop:
    """A loop from low to high inclusive; tuples are several bounds."""

    def bounds(ends):
        ends = ends if isinstance(ends, tuple) else (ends,)
        return tuple(e if isinstance(e, Bound) else Bound(affine(e)) for e in ends)

    return Loop(name, bounds(low), bounds(high), step, tuple(body), **marks)


def at(array: str, *subscripts: int | str) -> Access:
    return Access(array, tuple(affine(s) for s in subscripts))


def read(array: str, *subscripts: int | str) -> Expr:
    return Read(at(array, *subscripts))


def times(left: Expr, right: Expr) -> Expr:
    return Binary("*", left, right)


def plus(left: Expr, right: Expr) -> Expr:
    return Binary("+", left, right)


def statement(name: str, target: Access, op: str, value: Expr, *instance: str) -> Statement:
    return Statement(name, target, op, value, tuple(affine(a) for a in instance))


def program(
    *body: Node, arrays: dict[str, tuple[int, ...]], dtype: DType = DType.F64, **more
) -> Program:
    shaped = tuple(Array(n, dtype, s) for n, s in arrays.items())
    return Program("p", shaped, more.get("scalars", ()), more.get("temporaries", ()), tuple(body))


def gemm(
    n: int = 64, order: str = "ijk", tile: int = 0, dtype: DType = DType.F64, **marks
) -> Program:
    """C += A B with its loops in this order, all tiled by `tile` if given; marks by loop name."""
    update = statement(
        "S0", at("C", "i", "j"), "+", times(read("A", "i", "k"), read("B", "k", "j")), "i", "j", "k"
    )
    node: Node = update
    for name in reversed(order):
        low = (0, f"{name}_t") if tile else 0
        high = (n - 1, f"{name}_t + {tile - 1}") if tile else n - 1
        node = loop(name, low, high, node, **marks.get(name, {}))
    for name in reversed(order if tile else ""):
        node = loop(f"{name}_t", 0, n - 1, node, step=tile, **marks.get(f"{name}_t", {}))
    return program(node, arrays=dict.fromkeys("CAB", (n, n)), dtype=dtype)
