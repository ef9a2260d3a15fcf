"""Programs with conditions, derived numbers, tables and integer types of every width, by hand."""

from dataclasses import replace

from agent.loopnest.program import (
    AffineValue,
    Array,
    Binary,
    Cast,
    Derived,
    DType,
    Expr,
    Literal,
    Program,
    Scalar,
    Statement,
    Temporary,
    Unary,
)
from tests.agent.loopnest.nests import affine, at, loop, plus, read, times

I32, U8, U16, U32, I64, F32 = DType.I32, DType.U8, DType.U16, DType.U32, DType.I64, DType.F32


def when(condition: Expr, *statements: Statement) -> tuple[Statement, ...]:
    return tuple(replace(s, condition=condition) for s in statements)


def put(name: str, target, op: str, value: Expr, *instance: str, derived=()) -> Statement:
    return Statement(
        name, target, op, value, tuple(affine(a) for a in instance), derived=tuple(derived)
    )


def index(text: int | str) -> Expr:
    return AffineValue(affine(text))


def less(left: Expr, right: Expr) -> Expr:
    return Binary("<", left, right)


def both(left: Expr, right: Expr) -> Expr:
    return Binary("&&", left, right)


def conditional() -> Program:
    """Clipped and counted where ``m`` is over a limit; the diagonal is set apart."""
    over = less(read("limit"), read("m", "i", "j"))
    body = (
        *when(
            over,
            put("S0", at("x", "i", "j"), "", read("limit"), "i", "j"),
            put("S1", at("count", "i"), "+", Literal("1"), "i", "j"),
        ),
        *when(Unary("!", over), put("S2", at("x", "i", "j"), "", read("m", "i", "j"), "i", "j")),
        *when(
            Binary("==", index("i"), index("j")),
            put("S3", at("x", "i", "j"), "", Literal("0"), "i", "j"),
        ),
    )
    arrays = (Array("x", U8, (40, 30)), Array("count", U32, (40,)), Array("m", U8, (40, 30)))
    nest = loop("i", 0, 39, loop("j", 0, 29, *body))
    return Program("conditional", arrays, (Scalar("limit", U8),), (), (nest,))


def histogram() -> Program:
    """Bins by value; the values go through a lookup table in an argument."""
    bin_of = Derived("bin", read("image", "i", "j"), 0, 255)
    slot = Derived("slot", read("image", "i", "j"), 0, 255)
    body = (
        put("S0", at("bins", "bin"), "+", Literal("1"), "i", "j", derived=[bin_of]),
        put("S1", at("out", "i", "j"), "", read("lut", "slot"), "i", "j", derived=[slot]),
    )
    arrays = (
        Array("bins", U32, (256,)),
        Array("out", U8, (24, 32)),
        Array("image", U8, (24, 32)),
        Array("lut", U8, (256,)),
    )
    return Program("histogram", arrays, (), (), (loop("i", 0, 23, loop("j", 0, 31, *body)),))


def halves() -> Program:
    """``x[i] = y[i / 2]`` and two planes that take turns: ``a[t % 2]`` from ``a[(t + 1) % 2]``."""
    half = Derived("half", Binary("/", index("i"), Literal("2")), 0, 15)
    now = Derived("now", Binary("%", index("t"), Literal("2")), 0, 1)
    before = Derived("before", Binary("%", index("t + 1"), Literal("2")), 0, 1)
    double = put("S0", at("x", "i"), "", read("y", "half"), "i", derived=[half])
    mean = times(Literal("0.5f"), plus(read("a", "before", "k"), read("a", "before", "k + 2")))
    turn = put("S1", at("a", "now", "k + 1"), "", mean, "t", "k", derived=[now, before])
    arrays = (Array("x", F32, (32,)), Array("y", F32, (16,)), Array("a", F32, (2, 34)))
    body = (loop("i", 0, 31, double), loop("t", 0, 5, loop("k", 0, 31, turn)))
    return Program("halves", arrays, (), (), body)


def table() -> Program:
    """A filter with its weights in a table, and a gather whose index is of 64 bits."""
    weights = Array("weights", F32, (2, 3), ("0.25f", "0.5f", "0.25f", "-1", "0", "1"))
    filtered = times(read("weights", "r", "s"), read("x", "i + s"))
    column = Derived("column", Cast(DType.U64, read("idx", "g")), 0, 29)
    gathered = read("y", "1", "29 - column")
    update = put("S0", at("y", "r", "i"), "+", filtered, "r", "i", "s")
    gather = put("S1", at("z", "g"), "", gathered, "g", derived=[column])
    body = (
        loop("r", 0, 1, loop("i", 0, 29, loop("s", 0, 2, update))),
        loop("g", 0, 29, gather),
    )
    arrays = (
        Array("y", F32, (2, 30)),
        Array("z", F32, (30,)),
        Array("x", F32, (32,)),
        Array("idx", U16, (30,)),
        weights,
    )
    return Program("table", arrays, (), (), body)


def clipped() -> Program:
    """A temporary of the guarded block, nested conditions, and a sum of 64 bits."""
    inside = both(less(Literal("0"), index("i")), less(index("i"), index("29 - j")))
    bright = both(inside, less(Literal("10"), read("t")))
    body = (
        *when(
            inside,
            put("S0", at("t"), "", read("m", "i - 1", "j"), "i", "j"),
            put("S1", at("x", "i", "j"), "", read("t"), "i", "j"),
        ),
        *when(bright, put("S2", at("total", "0"), "+", read("t"), "i", "j")),
    )
    arrays = (Array("x", I64, (30, 20)), Array("total", I64, (1,)), Array("m", DType.I16, (30, 20)))
    nest = loop("i", 0, 29, loop("j", 0, 19, *body))
    return Program("clipped", arrays, (), (Temporary("t", I64, 0),), (nest,))


FORMS = {p.name: p for p in (conditional(), histogram(), halves(), table(), clipped())}
