"""Which schedules keep the meaning of well-known kernels, and what a refusal says."""

import itertools
import re
import time

import pytest

from agent.errors import ScheduleError
from agent.loopnest.emitter.emit import emit
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import (
    Affine,
    Bound,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Program,
    Temporary,
)
from agent.loopnest.schedules import dependence
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.dependence import Dependences
from agent.loopnest.schedules.legality import check_legal, check_step, transform
from agent.loopnest.schedules.schedule import Interchange, Schedule, parse_schedule
from agent.loopnest.schedules.transform import apply
from tests.agent.loopnest.nests import at, gemm, loop, plus, program, read, statement, times
from tests.agent.loopnest.show import show


def legal(before: Program, schedule: str) -> Program:
    return transform(before, parse_schedule(schedule))


def refusal(before: Program, schedule: str) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        legal(before, schedule)
    return caught.value


def seidel() -> Program:
    """In place: every point from its four neighbours."""
    around = [("i - 1", "j"), ("i + 1", "j"), ("i", "j - 1"), ("i", "j + 1")]
    value: Expr = read("x", "i", "j")
    for subscripts in around:
        value = plus(value, read("x", *subscripts))
    body = statement("S", at("x", "i", "j"), "", value, "i", "j")
    return program(loop("i", 1, 30, loop("j", 1, 30, body)), arrays={"x": (32, 32)})


def jacobi() -> Program:
    """Two sweeps a time step, from x to y and back."""
    there = plus(read("x", "i - 1"), read("x", "i + 1"))
    return program(
        loop(
            "t",
            0,
            9,
            loop("i", 1, 30, statement("S", at("y", "i"), "", there, "t", "i")),
            loop("k", 1, 30, statement("T", at("x", "k"), "", read("y", "k"), "t", "k")),
        ),
        arrays={"x": (32,), "y": (32,)},
    )


def recurrence(distance: int = 1) -> Program:
    body = statement("S", at("x", "i"), "", read("x", f"i - {distance}"), "i")
    return program(loop("i", distance, 63, body), arrays={"x": (64,)})


def pair(offset: int) -> Program:
    """A producer loop, and a consumer that reads ``offset`` further on."""
    consume = read("x", f"k + {offset}" if offset >= 0 else f"k - {-offset}")
    return program(
        loop("i", 0, 69, statement("S", at("x", "i"), "", read("a", "i"), "i")),
        loop("k", 2, 63, statement("T", at("y", "k"), "", consume, "k")),
        arrays={"x": (70,), "y": (70,), "a": (70,)},
    )


def total(dtype: DType = DType.F32, op: str = "+", value: Expr | None = None) -> Program:
    body = statement("S", at("s", 0), op, value or read("a", "i"), "i")
    return program(loop("i", 0, 63, body), arrays={"s": (1,), "a": (64,)}, dtype=dtype)


def row_sums(depth: int) -> Program:
    """``t = 0; for j: t += a[i][j]; y[i] = t`` with t declared inside ``depth`` loops."""
    return program(
        loop(
            "i",
            0,
            9,
            statement("S", at("t"), "", Literal("0"), "i"),
            loop("j", 0, 9, statement("T", at("t"), "+", read("a", "i", "j"), "i", "j")),
            statement("U", at("y", "i"), "", read("t"), "i"),
        ),
        arrays={"y": (10,), "a": (10, 10)},
        temporaries=(Temporary("t", DType.F64, depth),),
    )


# Order


@pytest.mark.parametrize("order", [" ".join(p) for p in itertools.permutations("ijk")])
def test_every_order_of_a_matrix_product_is_legal(order: str) -> None:
    wanted = order.split()
    now, steps = ["i", "j", "k"], []
    for place, name in enumerate(wanted):
        if now[place] != name:
            steps.append(Interchange(now[place], name))
            other = now.index(name)
            now[place], now[other] = now[other], now[place]
    names = re.findall(r"([ijk]) 0", show(transform(gemm(8), Schedule(tuple(steps)))))
    assert names == wanted


@pytest.mark.parametrize(
    "schedule",
    [
        "interchange i j",
        "tile i 8 j 8",
        "jam i 2",
        "skew j i 1; interchange i j; parallelize i",
        "skew j i 1; interchange i j; vectorize i",
        "unroll j 4",
    ],
)
def test_what_an_in_place_stencil_allows(schedule: str) -> None:
    legal(seidel(), schedule)


@pytest.mark.parametrize(
    "schedule", ["parallelize i", "parallelize j", "vectorize j", "reverse i", "reverse j"]
)
def test_what_an_in_place_stencil_forbids(schedule: str) -> None:
    error = refusal(seidel(), schedule)
    assert error.message.startswith(f"{schedule}: ")
    assert "S -> S (flow) on x[i][j]" in error.message


def test_a_refusal_gives_the_dependence_an_example_and_its_distance() -> None:
    error = refusal(seidel(), "parallelize i")
    assert error.message == (
        "parallelize i: the loop carries the dependence S -> S (flow) on x[i][j], "
        "for example from (i=1, j=1) to (i=2, j=1)"
    )
    assert error.hint == "Choose another loop; the distance as written is (i: 1, j: 0)."


def test_a_refusal_names_the_step_since_which_the_order_is_wrong() -> None:
    schedule = "interchange i j; reverse j; tile j 4; parallelize i"
    assert refusal(seidel(), schedule).message.startswith("reverse j: breaks the dependence")


def test_an_order_that_a_later_step_repairs_is_legal() -> None:
    assert show(legal(seidel(), "reverse i; reverse i")) == show(seidel())


def test_a_recurrence_cannot_be_reversed() -> None:
    error = refusal(recurrence(), "reverse i")
    assert "S -> S (flow) on x[i]" in error.message
    assert "(i: 1)" in error.hint


def test_a_recurrence_of_a_long_distance_is_parallel_inside_its_tiles() -> None:
    legal(recurrence(8), "tile i 8; vectorize i")
    refusal(recurrence(8), "tile i 9; vectorize i")
    refusal(recurrence(8), "tile i 8; parallelize i_t")


def test_a_time_loop_cannot_be_distributed_around_a_cycle() -> None:
    error = refusal(jacobi(), "distribute t")
    assert error.message.startswith("distribute t: breaks the dependence T -> S")


def test_sweeps_of_a_time_step_may_be_parallel_and_the_time_loop_not() -> None:
    legal(jacobi(), "parallelize i; parallelize k")
    assert "the loop carries" in refusal(jacobi(), "parallelize t").message


def test_fusion_is_legal_where_the_consumer_stays_behind() -> None:
    before = pair(0)
    fitted = before.with_body(
        tuple(loop(x.iterator, 2, 63, *x.body) for x in before.body)  # type: ignore[union-attr]
    )
    assert show(legal(fitted, "fuse i k")) == "i 2..63 (S[i] T[i])"


def test_fusion_is_refused_where_the_consumer_would_run_ahead() -> None:
    before = pair(1)
    fitted = before.with_body(
        tuple(loop(x.iterator, 2, 63, *x.body) for x in before.body)  # type: ignore[union-attr]
    )
    message = refusal(fitted, "fuse i k").message
    assert message.startswith("fuse i k: breaks the dependence S -> T (flow) on x[i]")


def test_fusion_with_a_shift_follows_the_dependence() -> None:
    body = (
        loop("i", 0, 59, statement("S", at("x", "i"), "", read("a", "i"), "i")),
        loop("k", 2, 61, statement("T", at("y", "k"), "", read("x", "k - 2"), "k")),
    )
    fits = program(*body, arrays={"x": (70,), "y": (70,), "a": (70,)})
    assert show(legal(fits, "fuse i k")) == "i 0..59 (S[i] T[i + 2])"
    ahead = statement("T", at("y", "k"), "", read("x", "k - 1"), "k")
    refusal(fits.with_body((body[0], loop("k", 2, 61, ahead))), "fuse i k")


def test_distribution_is_legal_where_values_flow_forward() -> None:
    body = (
        statement("S", at("x", "i"), "", read("a", "i"), "i"),
        statement("T", at("y", "i"), "", read("x", "i - 1"), "i"),
    )
    legal(program(loop("i", 1, 9, *body), arrays=dict.fromkeys("xya", (10,))), "distribute i")


def test_a_triangular_solve_keeps_its_outer_loop_in_order() -> None:
    body = statement("S", at("x", "i"), "-", times(read("l", "i", "j"), read("x", "j")), "i", "j")
    solve = program(
        loop("i", 1, 20, loop("j", 0, "i - 1", body)), arrays={"x": (21,), "l": (21, 21)}
    )
    legal(solve, "interchange i j")
    legal(solve, "vectorize j")
    assert "x[i]" in refusal(solve, "reverse i").message
    refusal(solve, "parallelize i")
    legal(solve, "interchange i j; parallelize i")


def test_a_transposition_in_place_is_told_from_one_into_another_array() -> None:
    def transpose(target: str) -> Program:
        body = statement("S", at(target, "j", "i"), "", read("x", "i", "j"), "i", "j")
        nest = loop("i", 0, 9, loop("j", 0, 9, body))
        return program(nest, arrays={"x": (10, 10), "y": (10, 10)})

    legal(transpose("y"), "interchange i j; parallelize j")
    refusal(transpose("x"), "parallelize i")


def test_even_and_odd_elements_do_not_depend_on_each_other() -> None:
    body = statement("S", at("x", "2*i"), "", read("x", "2*i - 3"), "i")
    legal(program(loop("i", 2, 30, body), arrays={"x": (64,)}), "parallelize i")


def test_a_jam_is_refused_where_copies_would_overtake() -> None:
    body = statement("S", at("x", "i", "j"), "", read("x", "i - 1", "j + 1"), "i", "j")
    nest = program(loop("i", 1, 9, loop("j", 0, 8, body)), arrays={"x": (10, 10)})
    assert refusal(nest, "jam i 2").message.startswith("jam i 2: breaks the dependence S -> S")
    assert refusal(nest, "tile i 4 j 4").message.startswith("tile i 4 j 4: breaks")
    legal(nest, "skew j i 1; tile i 4 j 4")


# Reductions


def test_a_reduction_is_shared_out_where_all_iterations_update_one_element() -> None:
    legal(total(), "parallelize i")
    legal(total(), "vectorize i")
    legal(total(), "reverse i")
    legal(gemm(8), "vectorize k")
    legal(gemm(8), "parallelize k")


@pytest.mark.parametrize(
    ("schedule", "loop_name"),
    [("interchange i k; parallelize k", "k"), ("tile i 4 j 4 k 4; parallelize k_t", "k_t")],
)
def test_a_reduction_into_many_elements_is_not_shared_out(schedule: str, loop_name: str) -> None:
    error = refusal(gemm(8), schedule)
    assert error.message.startswith(f"parallelize {loop_name}: the loop carries the dependence")
    assert "S0 -> S0 (flow) on C[i][j]" in error.message
    assert "update one element" in error.hint


def test_threads_may_add_to_copies_of_an_array() -> None:
    assert "carries the dependence" in refusal(gemm(8), "interchange i k; parallelize k").message
    legal(gemm(8), "interchange i k; parallelize k C")
    wrong = program(
        loop("i", 0, 9, statement("S", at("x", "i"), "+", read("y", "i"), "i")),
        loop("j", 1, 9, statement("T", at("x", "j"), "", read("x", "j - 1"), "j")),
        arrays=dict.fromkeys("xy", (10,)),
    )
    assert "reads x" in refusal(wrong, "parallelize j x").message


def test_lanes_through_inner_loops_have_no_sums_of_their_own() -> None:
    assert "carries the dependence" in refusal(gemm(8), "interchange j k; vectorize k 4").message
    legal(gemm(8), "vectorize k 4")


def test_a_reduction_that_reads_what_it_updates_keeps_its_order() -> None:
    body = statement("S", at("x", "i"), "+", read("x", "i - 1"), "i")
    prefix = program(loop("i", 1, 9, body), arrays={"x": (10,)})
    for schedule in ("parallelize i", "vectorize i", "reverse i"):
        refusal(prefix, schedule)


def test_a_value_read_between_its_updates_keeps_the_order() -> None:
    body = (
        statement("S", at("s", 0), "+", read("a", "i"), "i"),
        statement("T", at("y", "i"), "", read("s", 0), "i"),
    )
    running = program(loop("i", 0, 9, *body), arrays={"s": (1,), "a": (10,), "y": (10,)})
    for schedule in ("parallelize i", "reverse i", "distribute i"):
        assert "s[0]" in refusal(running, schedule).message


@pytest.mark.parametrize("op", ["+", "-", "*", "min", "max"])
def test_float_updates_commute(op: str) -> None:
    legal(total(DType.F32, op), "reverse i")


@pytest.mark.parametrize("dtype", [DType.I32, DType.U8])
def test_integer_updates_with_integers_commute(dtype: DType) -> None:
    legal(total(dtype, "+", Cast(DType.I32, read("a", "i"))), "reverse i")


@pytest.mark.parametrize("dtype", [DType.I32, DType.U8])
@pytest.mark.parametrize("value", [Literal("0.5f"), Cast(DType.F64, read("a", "i"))])
def test_integer_updates_that_truncate_a_float_do_not_commute(dtype: DType, value: Expr) -> None:
    refusal(total(dtype, "+", value), "reverse i")


def test_a_minimum_in_eight_bits_commutes_only_with_values_of_eight_bits() -> None:
    legal(total(DType.U8, "max", read("a", "i")), "reverse i")
    refusal(total(DType.U8, "max", plus(read("a", "i"), Literal("200"))), "reverse i")


def test_updates_of_one_element_with_different_operators_keep_their_order() -> None:
    body = (
        statement("S", at("s", 0), "+", read("a", "i"), "i"),
        statement("T", at("s", 0), "*", read("b", "i"), "i"),
    )
    mixed = program(loop("i", 0, 9, *body), arrays={"s": (1,), "a": (10,), "b": (10,)})
    assert "T -> S" in refusal(mixed, "distribute i").message
    same = statement("T", at("s", 0), "-", read("b", "i"), "i")
    legal(mixed.with_body((loop("i", 0, 9, body[0], same),)), "distribute i; reverse i2")


# Temporaries


@pytest.mark.parametrize("depth", [0, 1])
def test_a_temporary_written_first_in_each_iteration_is_private(depth: int) -> None:
    legal(row_sums(depth), "parallelize i")
    legal(row_sums(depth), "vectorize j")
    legal(row_sums(depth), "jam i 2")


def test_a_temporary_that_carries_a_value_is_not_private() -> None:
    body = (
        statement("S", at("y", "i"), "", read("t"), "i"),
        statement("T", at("t"), "", read("a", "i"), "i"),
    )
    before = program(
        statement("R", at("t"), "", Literal("0")),
        loop("i", 0, 9, *body),
        arrays={"y": (10,), "a": (10,)},
        temporaries=(Temporary("t", DType.F64, 0),),
    )
    error = refusal(before, "parallelize i")
    assert "on t" in error.message
    assert error.hint.startswith("Declare t inside the loop if no iteration needs")


def test_a_temporary_may_be_a_shared_reduction() -> None:
    before = program(
        statement("R", at("t"), "", Literal("0")),
        loop("i", 0, 9, statement("S", at("t"), "+", read("a", "i"), "i")),
        statement("U", at("y", 0), "", read("t")),
        arrays={"y": (1,), "a": (10,)},
        temporaries=(Temporary("t", DType.F64, 0),),
    )
    legal(before, "parallelize i")


def test_what_is_legal_can_be_written_even_where_it_never_runs() -> None:
    update = statement("S", at("t"), "", plus(read("t"), Call("sqrt", (read("t"),))), "i", "j")
    inner = loop("j", 0, 9, statement("R", at("t"), "", Literal("1.0"), "i", "j"), update)
    before = program(
        loop("i", 1, 0, inner, statement("U", at("y", "i"), "", read("t"), "i")),
        arrays={"y": (10,)},
        temporaries=(Temporary("t", DType.F64, 1),),
    )
    for schedule in ("vectorize j", "parallelize j"):
        refusal(before, schedule)
    for _, variant in candidate_schedules(before, 20):
        assert emit(variant)


SHIFTED = """
void f(float C[9], const float in[4])
{
    for (int l = 0; l < 5; l++)
        for (int x = 0; x < 2; x++)
            for (int c = 5 - l; c < 2; c++)
                for (int y = 0; y < 2; y++)
                    if (in[2] <= 2.0f || 4 * y < 4)
                        C[c] += C[c + 6] - in[1 - y];
}
"""


def test_threads_around_a_sum_in_lanes_are_refused_where_c_cannot_share_it_out() -> None:
    before = parse_program(SHIFTED, "f.c", function="f", sizes={})
    dependences = Dependences.of(before)
    lanes = transform(before, parse_schedule("vectorize y"), dependences)
    step = parse_schedule("parallelize l").steps[0]
    for check in (
        lambda: check_step(apply(lanes, step), step, dependences),
        lambda: transform(before, parse_schedule("vectorize y; parallelize l"), dependences),
    ):
        with pytest.raises(ScheduleError, match="into elements of C, which OpenMP cannot share"):
            check()


def test_what_a_jam_leaves_over_depends_on_the_loops_that_its_bounds_name() -> None:
    before = parse_program(SHIFTED, "f.c", function="f", sizes={})
    assert "parallel for" in emit(transform(before, parse_schedule("parallelize l; jam c 4")))


NARROW = """
#include <stdint.h>
void f(int n, {} a[4], const int x[64])
{{
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 64; k++)
            a[i] += x[k];
}}
"""


@pytest.mark.parametrize("name", ["int8_t", "int16_t"])
def test_sums_that_would_overflow_in_a_clause_of_openmp_are_not_shared_out(name: str) -> None:
    before = parse_program(NARROW.format(name), "f.c", function="f", sizes={"n": 4})
    for schedule in ("vectorize k", "parallelize k"):
        with pytest.raises(ScheduleError, match="in a type of less than 32 bits"):
            transform(before, parse_schedule(schedule))
    for _, variant in candidate_schedules(before, 20):
        assert "reduction(" not in emit(variant)


@pytest.mark.parametrize("name", ["uint16_t", "int32_t"])
def test_sums_that_do_not_overflow_in_a_clause_are_shared_out(name: str) -> None:
    before = parse_program(NARROW.format(name), "f.c", function="f", sizes={"n": 4})
    assert "reduction(+:" in emit(transform(before, parse_schedule("vectorize k")))


# The analysis itself


def test_the_schedule_without_steps_is_the_program_as_written() -> None:
    before = row_sums(0)
    assert transform(before, Schedule()) is before


def test_dependences_serve_many_schedules_of_their_program() -> None:
    dependences = Dependences.of(seidel())
    transform(seidel(), parse_schedule("interchange i j"), dependences)
    with pytest.raises(ScheduleError):
        transform(seidel(), parse_schedule("reverse i"), dependences)


def test_check_refuses_a_program_transformed_elsewhere() -> None:
    dependences = Dependences.of(seidel())
    turned = apply(seidel(), parse_schedule("reverse i").steps[0])
    with pytest.raises(ScheduleError, match="the schedule breaks the dependence S -> S"):
        check_legal(turned, dependences)


def test_dependences_are_those_of_a_program_as_written() -> None:
    with pytest.raises(ValueError, match="as written"):
        Dependences.of(apply(seidel(), parse_schedule("skew j i 1").steps[0]))


def test_flow_anti_and_output_are_told_apart() -> None:
    kinds = {(d.source, d.target, d.kind) for d in Dependences.of(jacobi()).items}
    assert {("S", "T", "flow"), ("S", "T", "anti"), ("T", "S", "anti")} <= kinds
    assert ("S", "S", "output") in kinds


def test_too_many_accesses_are_refused() -> None:
    body = [statement(f"S{n}", at("x", "i"), "", read("x", "i"), "i") for n in range(80)]
    with pytest.raises(ScheduleError, match="too many to analyse"):
        Dependences.of(program(loop("i", 0, 9, *body), arrays={"x": (10,)}))


def test_an_analysis_that_isl_gives_up_is_an_error_with_a_hint() -> None:
    names = [f"i{n}" for n in range(7)]

    def scattered(array: str, shift: int) -> Expr:
        forms = (
            Affine.of({n: (7 * q + 3 * p + shift) % 11 - 4 for p, n in enumerate(names)}, q)
            for q in range(3)
        )
        return read(array, *forms)  # type: ignore[arg-type]

    target = scattered("x", 0)
    node = statement("S", target.access, "", scattered("x", 5), *names)  # type: ignore[union-attr]
    for depth in reversed(range(7)):
        outer = Affine.of(dict.fromkeys(names[:depth], 2), 5)
        node = loop(names[depth], 0, (97, Bound(outer, 2)), node, step=1 + depth % 3)  # type: ignore[assignment]
    with pytest.raises(ScheduleError, match="too complex to analyse") as caught:
        Dependences.of(program(node, arrays={"x": (999,) * 3}))
    assert caught.value.hint


def test_an_analysis_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependence, "MAX_SECONDS", -1)
    with pytest.raises(ScheduleError, match="takes over"):
        Dependences.of(seidel())


def test_checking_a_schedule_of_a_matrix_product_is_quick() -> None:
    dependences = Dependences.of(gemm(512))
    schedule = parse_schedule("tile i 32 j 32 k 32; parallelize i_t; vectorize k")
    times_taken = []
    for _ in range(20):
        start = time.process_time()
        transform(gemm(512), schedule, dependences)
        times_taken.append(time.process_time() - start)
    assert min(times_taken) < 0.01  # 0.5 ms when measured


def test_what_a_jam_leaves_over_must_keep_the_order_too() -> None:
    """A jam restores the order an interchange broke, but not in the iterations left over."""
    text = """
    void f(int n, int m, float a[n][m]) {
    #pragma scop
      for (int i = 1; i < n; i++)
        for (int j = 0; j < m - 1; j++)
          a[i][j] = a[i - 1][j + 1] + 1.0f;
    #pragma endscop
    }
    """
    swept = parse_program(text, "f.c", function=None, sizes={"n": 6, "m": 7})
    with pytest.raises(ScheduleError, match="breaks the dependence"):
        transform(swept, parse_schedule("interchange i j; jam j 8"))


def test_distances_are_told_between_loops_of_their_own_too() -> None:
    dependences = Dependences.of(jacobi())
    back = [x for x in dependences.items if (x.source, x.target, x.kind) == ("S", "T", "flow")]
    assert back
    i, k = Affine.var("i"), Affine.var("k")
    assert {dependences.spread(x, i * 2, k * 2 + 1) for x in back} == {(1, 1)}
