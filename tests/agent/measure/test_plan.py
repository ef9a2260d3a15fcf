from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    Binary,
    Bound,
    Cast,
    DType,
    Literal,
    Loop,
    Program,
    Read,
    Scalar,
    Statement,
)
from agent.measure.plan import Arguments, ArrayArgument, arguments_of, roughness, tolerances

AT_I = Affine.var("i")


def one_loop(*body: Statement) -> Program:
    loop = Loop("i", (Bound(Affine.constant(0)),), (Bound(Affine.constant(9)),), 1, body)
    arrays = (
        Array("x", DType.F32, (10,)),
        Array("y", DType.F32, (10,)),
        Array("z", DType.U8, (10,)),
    )
    return Program("p", arrays, (Scalar("s", DType.F64), Scalar("n", DType.I32)), (), (loop,))


def assign(target: str, op: str, source: str) -> Statement:
    value = Read(Access(source, (AT_I,)))
    return Statement("S0", Access(target, (AT_I,)), op, Cast(DType.U8, value), (AT_I,))


def test_an_updated_array_is_written_and_restored() -> None:
    x, y, _ = arguments_of(one_loop(assign("x", "+", "y"))).arrays
    assert (x.written, x.restored) == (True, True)
    assert (y.written, y.restored) == (False, False)


def test_an_array_that_is_only_written_need_not_be_restored() -> None:
    x = arguments_of(one_loop(assign("x", "", "y"))).arrays[0]
    assert (x.written, x.restored) == (True, False)


def test_integers_rounded_from_floats_may_differ_by_one() -> None:
    assert arguments_of(one_loop(assign("z", "", "y"))).arrays[2].tolerance == 1.0


def test_integers_made_of_integers_must_be_equal() -> None:
    assert arguments_of(one_loop(assign("z", "", "z"))).arrays[2].tolerance == 0.0


def test_the_commands_follow_the_order_of_the_entry_point() -> None:
    commands = arguments_of(one_loop(assign("x", "+", "y"))).commands()
    assert [c.split()[:3] for c in commands[:3]] == [
        ["array", "f32", "10"],
        ["array", "f32", "10"],
        ["array", "u8", "10"],
    ]
    assert commands[3:] == ["scalar f64 0.75 0.75", "scalar i32 3 3"]


def test_outputs_are_counted_three_times() -> None:
    assert arguments_of(one_loop(assign("x", "+", "y"))).bytes == 40 * 3 + 40 + 10


def test_literals_alone_make_an_exact_integer() -> None:
    statement = Statement("S0", Access("z", (AT_I,)), "", Literal("1"), (AT_I,))
    assert arguments_of(one_loop(statement)).arrays[2].tolerance == 0.0


def test_a_term_of_a_divisor_is_a_pivot() -> None:
    x, y, s = Read(Access("x", (AT_I,))), Read(Access("y", (AT_I,))), Read(Access("s"))
    value = Binary("/", x, Binary("-", s, Binary("*", x, y)))
    found = arguments_of(one_loop(Statement("S0", Access("x", (AT_I,)), "", value, (AT_I,))))
    assert [scalar.pivot for scalar in found.scalars] == [4.0, 3]
    assert [a.matrix for a in found.arrays] == [(1, 10), (1, 10), (1, 10)]


def test_sums_into_one_element_round_one_after_another() -> None:
    sums = Statement("S0", Access("x", (Affine.constant(0),)), "+", Literal("1.0f"), (AT_I,))
    assert arguments_of(one_loop(sums)).chain == 10
    assert arguments_of(one_loop(assign("x", "+", "y"))).chain == 1


def test_so_does_a_recurrence() -> None:
    before = Binary("*", Read(Access("x", (AT_I - 1,))), Literal("0.5f"))
    steps = Statement("S0", Access("x", (AT_I,)), "", before, (AT_I,))
    assert arguments_of(one_loop(steps)).chain == 11


def test_a_tolerance_grows_with_what_a_disturbance_does() -> None:
    x = ArrayArgument("x", DType.F32, 8, written=True, restored=False, tolerance=1e-6)
    n = ArrayArgument("n", DType.I32, 8, written=True, restored=False, tolerance=1.0)
    given = Arguments((x, n), chain=100)
    assert tolerances(given, (0.0, 0.0), (0.0, 0.0)) == (1e-6, 1.0)
    flipped = tolerances(given, (1e-4, 0.0), (0.0, 2.0))
    assert flipped == (16 * 1e-4 * 10, 3.0)
    assert roughness(given, flipped) == flipped[0]
