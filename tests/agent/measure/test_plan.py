from agent.loopnest.program import (
    Access,
    Affine,
    Array,
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
from agent.measure.plan import arguments_of

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
    assert commands[3:] == ["scalar f64 0.75", "scalar i32 3"]


def test_outputs_are_counted_three_times() -> None:
    assert arguments_of(one_loop(assign("x", "+", "y"))).bytes == 40 * 3 + 40 + 10


def test_literals_alone_make_an_exact_integer() -> None:
    statement = Statement("S0", Access("z", (AT_I,)), "", Literal("1"), (AT_I,))
    assert arguments_of(one_loop(statement)).arrays[2].tolerance == 0.0
