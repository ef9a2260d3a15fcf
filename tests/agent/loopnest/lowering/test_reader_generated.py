"""Random programs written as C come back as the programs they were written from."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import (
    PREDICATES,
    Access,
    Affine,
    AffineValue,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Read,
    Select,
    Statement,
    Unary,
    reads,
    statements,
    walk,
)

ITERATORS = ("i", "j", "k")
EXTENT = 3 * 3 * 7 + 4 + 1  # coefficients to 3, three iterators to 7, shifts to 4


def written(affine: Affine) -> str:
    parts = [f"{c} * {name}" for name, c in affine.terms]
    return " + ".join([*parts, str(affine.const)])


def as_c(expr: Expr) -> str:
    match expr:
        case Literal(text):
            return text
        case AffineValue(value):
            return str(value)
        case Read(access):
            return access.array + "".join(f"[{written(s)}]" for s in access.subscripts)
        case Unary(op, x):
            return f"{op}({as_c(x)})"
        case Cast(dtype, x):
            return f"({dtype.value})({as_c(x)})"
        case Binary(op, left, right):
            return f"({as_c(left)} {op} {as_c(right)})"
        case Select(condition, yes, no):
            return f"({as_c(condition)} ? {as_c(yes)} : {as_c(no)})"
        case Call(function, arguments):
            return f"{function}({', '.join(map(as_c, arguments))})"


@st.composite
def affines(draw: st.DrawFn, depth: int) -> Affine:
    terms = {name: draw(st.integers(0, 3)) for name in ITERATORS[:depth]}
    return Affine.of(terms, draw(st.integers(0, 4)))


@st.composite
def accesses(draw: st.DrawFn, name: str, depth: int) -> Access:
    return Access(name, (draw(affines(depth)), draw(affines(depth))))


def values(depth: int) -> st.SearchStrategy[Expr]:
    leaves = st.one_of(
        st.sampled_from(["1", "2.5", "0.125f", "1e-3", "0x10"]).map(Literal),
        st.sampled_from(ITERATORS[:depth]).map(lambda n: AffineValue(Affine.var(n))),
        st.sampled_from(["B", "C"]).flatmap(lambda n: accesses(n, depth)).map(Read),
    )

    def larger(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        return st.one_of(
            st.builds(Binary, st.sampled_from("+ - * / < >= == && ||".split()), inner, inner),
            st.builds(Unary, st.sampled_from("-!"), inner),
            st.builds(Cast, st.sampled_from([DType.F32, DType.F64, DType.I32, DType.U8]), inner),
            st.builds(Select, inner, inner, inner),
            st.builds(lambda x: Call("expf", (x,)), inner),
            st.builds(lambda x, y: Call("fmin", (x, y)), inner, inner),
        )

    return st.recursive(leaves, larger, max_leaves=8)


@st.composite
def nests(draw: st.DrawFn) -> tuple[int, Access, str, Expr]:
    depth = draw(st.integers(1, 3))
    op = draw(st.sampled_from(["", "+", "-", "*"]))
    return depth, draw(accesses("A", depth)), op, draw(values(depth))


@settings(deadline=None, max_examples=200)
@given(nests())
def test_a_generated_statement_is_read_back_as_it_was(nest):
    depth, target, op, value = nest
    decided = [x for x in walk(value) if isinstance(x, Binary) and x.op in PREDICATES]
    decided += [x.condition for x in walk(value) if isinstance(x, Select)]
    assume(all(any(reads(x)) for x in decided))  # of affine forms, only what they say is kept
    loops = "".join(f"for (int {n} = 0; {n} < 8; ++{n}) " for n in ITERATORS[:depth])
    text = (
        "#include <stdint.h>\n"
        "void f(int n, float A[n][n], const double B[n][n], unsigned char C[n][n])\n{\n"
        "#pragma scop\n"
        f"{loops}{as_c(Read(target))} {op}= {as_c(value)};\n#pragma endscop\n}}\n"
    )
    program = parse_program(text, "f.c", function="f", sizes={"n": EXTENT})
    ((around, statement),) = statements(program.body)
    instance = tuple(Affine.var(n) for n in ITERATORS[:depth])
    assert tuple(loop.iterator for loop in around) == ITERATORS[:depth]
    assert statement == Statement("S0", target, op, value, instance)
