"""Every step on small nests: the loops before and after, and what is refused."""

from dataclasses import replace

import pytest

from agent.errors import ScheduleError
from agent.loopnest.program import Bound, DType, Loop, Program, Temporary, loops
from agent.loopnest.schedules.schedule import Fuse, Interchange, Jam, Tile, Unroll, parse_schedule
from agent.loopnest.schedules.transform import apply
from tests.agent.loopnest.nests import affine, at, gemm, loop, plus, program, read, statement
from tests.agent.loopnest.show import show


def run(before: Program, schedule: str) -> Program:
    for step in parse_schedule(schedule).steps:
        before = apply(before, step)
    return before


def after(before: Program, schedule: str) -> str:
    return show(run(before, schedule))


def refusal(before: Program, schedule: str) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        run(before, schedule)
    return caught.value


def square(n: int = 10, *names: str) -> Program:
    """S over all loops named, each 0..n-1."""
    names = names or ("i", "j")
    node = statement("S", at("x", *names), "", read("x", *names), *names)
    for name in reversed(names):
        node = loop(name, 0, n - 1, node)
    return program(node, arrays={"x": (n,) * len(names)})


def triangle(low: object = 0, high: object = "i") -> Program:
    body = statement("S", at("x", "i", "j"), "", read("x", "i", "j"), "i", "j")
    return program(loop("i", 0, 99, loop("j", low, high, body)), arrays={"x": (100, 100)})


def strided() -> Program:
    body = statement("S", at("x", "i"), "", read("x", "i"), "i")
    return program(loop("i", 1, 99, body, step=3), arrays={"x": (100,)})


def two_loops(high: int = 9, low: int = 0, **marks: bool) -> Program:
    return program(
        loop("i", 0, 9, statement("S", at("x", "i"), "", read("y", "i"), "i"), **marks),
        loop("j", low, high, statement("T", at("y", "j"), "", read("y", "j"), "j")),
        arrays={"x": (10,), "y": (20,)},
    )


def imperfect() -> Program:
    """A row sum: statements before and after an inner loop."""
    return program(
        loop(
            "i",
            0,
            9,
            statement("S", at("x", "i"), "", read("y", "i"), "i"),
            loop("j", 0, 9, statement("T", at("x", "i"), "+", read("a", "i", "j"), "i", "j")),
            statement("U", at("y", "i"), "", read("x", "i"), "i"),
        ),
        arrays={"x": (10,), "y": (10,), "a": (10, 10)},
    )


def with_temporary() -> Program:
    return program(
        loop(
            "i",
            0,
            9,
            statement("S", at("t"), "", read("x", "i"), "i"),
            loop("j", 0, 9, statement("T", at("t"), "+", read("a", "i", "j"), "i", "j")),
            statement("U", at("x", "i"), "", read("t"), "i"),
        ),
        arrays={"x": (10,), "a": (10, 10)},
        temporaries=(Temporary("t", DType.F64, 1),),
    )


# interchange


def test_interchange_swaps_a_rectangular_pair() -> None:
    assert after(square(), "interchange i j") == "j 0..9 (i 0..9 (S[i, j]))"


def test_interchange_takes_the_loops_in_any_order() -> None:
    assert run(square(), "interchange j i") == run(square(), "interchange i j")


def test_interchange_keeps_the_loops_between_the_two() -> None:
    swapped = run(square(10, "i", "j", "k"), "interchange i k")
    assert [x.iterator for _, x in loops(swapped.body)] == ["k", "j", "i"]


def test_interchange_twice_is_the_identity() -> None:
    assert run(triangle(), "interchange i j; interchange i j") == triangle()


def test_interchange_of_a_triangle_recomputes_both_bounds() -> None:
    assert after(triangle(), "interchange i j") == "j 0..99 (i j..99 (S[i, j]))"


def test_interchange_rounds_bounds_with_a_divisor_inwards() -> None:
    half = triangle(0, Bound(affine("i"), 2))
    assert after(half, "interchange i j") == "j 0..49 (i 2*j..99 (S[i, j]))"
    double = triangle(0, "2*i")
    assert after(double, "interchange i j") == "j 0..198 (i (j)/2..99 (S[i, j]))"


def test_interchange_of_a_band_leaves_no_bound_that_others_imply() -> None:
    body = statement("S", at("x", "k"), "", read("x", "k"), "i", "j", "k")
    nest = loop("i", 0, 99, loop("j", 0, "i", loop("k", "j", "i + 5", body)))
    before = program(nest, arrays={"x": (200,)})
    expected = "k 0..104 (j 0..min(99, k) (i max(j, k - 5)..99 (S[i, j, k])))"
    assert after(before, "interchange i k") == expected


def test_interchange_keeps_a_bound_that_only_the_loops_outside_of_the_band_could_imply() -> None:
    body = statement("S", at("x", "k"), "", read("x", "k"), "i", "j", "k")
    nest = loop("i", 0, 1, loop("j", 1, "i", loop("k", 0, "j", body)))
    swapped = after(program(nest, arrays={"x": (9,)}), "interchange j k")
    assert swapped == "i 0..1 (k 0..1 (j 1..i (S[i, j, k])))"


def test_interchange_of_tile_loops_needs_no_new_bounds() -> None:
    tiled = after(square(64), "tile i 8 j 16; interchange i_t j_t")
    assert tiled.startswith("j_t 0..63 step 16 (i_t 0..63 step 8 (i i_t..i_t + 7 (j j_t..")


def test_interchange_keeps_the_step_of_a_loop_over_tiles_that_goes_outside() -> None:
    assert after(triangle(), "tile j 8; interchange i j_t") == (
        "j_t 0..96 step 8 (i j_t..99 (j j_t..min(j_t + 7, i) (S[i, j])))"
    )


def test_interchange_counts_the_tiles_of_a_loop_that_gets_several_lower_bounds() -> None:
    swept = after(square(32), "tile i 8 j 8; skew j_t i_t 1; interchange i_t j_t")
    assert swept == (
        "j_t 0..48 step 8 (i_t max(0, (j_t - 24)/8)..min(3, (j_t)/8) "
        "(i 8*i_t..8*i_t + 7 (j -8*i_t + j_t..-8*i_t + j_t + 7 (S[i, j]))))"
    )


def test_interchange_refuses_steps_that_start_anywhere() -> None:
    assert "tiling" in refusal(triangle("i", 99), "tile j 8; interchange i j_t").hint


def test_interchange_names_what_stands_between_two_loops() -> None:
    error = refusal(imperfect(), "interchange i j")
    assert error.message == (
        "interchange i j: loops i and j are not perfectly nested: statement S stands between them"
    )
    assert error.hint == "Distribute loop i first."


def test_interchange_refuses_loops_side_by_side() -> None:
    assert "not nested in each other" in refusal(two_loops(), "interchange i j").message


def test_interchange_refuses_one_loop_twice() -> None:
    with pytest.raises(ScheduleError, match="the same"):
        apply(square(), Interchange("i", "i"))


def test_an_unknown_loop_is_answered_with_the_loops_there_are() -> None:
    error = refusal(gemm(), "interchange i q")
    assert error.message == "interchange i q: there is no loop q"
    assert error.hint == "The loops are: i, j, k."


def test_a_program_without_loops_says_so() -> None:
    flat = program(statement("S", at("x", 0), "", read("x", 0)), arrays={"x": (1,)})
    assert refusal(flat, "reverse i").hint == "The program has no loops."


# tile


def test_tile_puts_loops_over_tiles_outside_and_cuts_the_last_tile() -> None:
    assert after(square(100), "tile i 32 j 20") == (
        "i_t 0..99 step 32 (j_t 0..99 step 20 "
        "(i i_t..min(i_t + 31, 99) (j j_t..j_t + 19 (S[i, j]))))"
    )


def test_tile_takes_part_of_a_band() -> None:
    tiled = run(square(16, "i", "j", "k"), "tile j 4 k 4")
    assert [x.iterator for _, x in loops(tiled.body)] == ["i", "j_t", "k_t", "j", "k"]


def test_tile_twice_gives_two_levels_with_new_names() -> None:
    assert after(square(64, "i"), "tile i 32; tile i 8") == (
        "i_t 0..63 step 32 (i_t2 i_t..i_t + 31 step 8 (i i_t2..i_t2 + 7 (S[i])))"
    )


def test_tile_spans_the_extremes_of_a_triangle() -> None:
    assert after(triangle(), "tile i 32 j 16") == (
        "i_t 0..99 step 32 (j_t 0..min(i_t + 31, 99) step 16 "
        "(i i_t..min(i_t + 31, 99) (j j_t..min(j_t + 15, i) (S[i, j]))))"
    )


def test_tile_spans_the_extremes_of_a_falling_bound() -> None:
    falling = triangle("-i + 99", 120)
    assert after(falling, "tile i 32 j 16") == (
        "i_t 0..99 step 32 (j_t max(-i_t + 68, 0)..120 step 16 "
        "(i i_t..min(i_t + 31, 99) (j max(j_t, -i + 99)..min(j_t + 15, 120) (S[i, j]))))"
    )


def test_tile_counts_iterations_of_a_loop_with_a_step() -> None:
    assert after(strided(), "tile i 4") == (
        "i_t 1..99 step 12 (i i_t..min(i_t + 11, 99) step 3 (S[i]))"
    )


def test_tile_refuses_a_gap_in_the_band() -> None:
    error = refusal(square(10, "i", "j", "k"), "tile i 4 k 4")
    assert "the loops nest in the order i j k" in error.message


def test_tile_refuses_the_wrong_order() -> None:
    assert "order i j" in refusal(square(), "tile j 4 i 4").message


def test_tile_refuses_an_imperfect_nest() -> None:
    assert "statement S stands between" in refusal(imperfect(), "tile i 4 j 4").message


def test_tile_refuses_what_would_nest_too_deep() -> None:
    schedule = "; ".join(["tile i 2 j 2 k 2"] * 4)
    assert "more than 12 loops deep" in refusal(square(64, "i", "j", "k"), schedule).message


def test_the_name_of_a_loop_over_tiles_is_new_and_no_c_type() -> None:
    node = statement("S", at("x", "int32"), "", read("size_t2", "int32"), "int32")
    before = program(loop("int32", 0, 9, node), arrays={"x": (10,), "size_t2": (10,)})
    assert next(x.iterator for _, x in loops(run(before, "tile int32 4").body)) == "int32_t2"


def sweeps(first: tuple[object, object], second: tuple[object, object]) -> Program:
    """Two loops inside a loop ``t``, from one bound to another."""
    inner = [
        loop(name, *ends, statement(what, at("x", name), "", read("y", name), "t", name))
        for name, what, ends in (("i", "S", first), ("j", "T", second))
    ]
    return program(loop("t", 0, 9, *inner), arrays={"x": (100,), "y": (100,)})


def test_tile_takes_loops_that_follow_each_other_together() -> None:
    assert after(sweeps((0, 98), (1, 99)), "tile t 4 i 32") == (
        "t_t 0..9 step 4 (i_t 0..99 step 32 (t t_t..min(t_t + 3, 9) "
        "(i max(i_t, 0)..min(i_t + 31, 98) (S[t, i]) j max(i_t, 1)..min(i_t + 31, 99) (T[t, j]))))"
    )


def test_tile_takes_all_loops_of_a_level_together() -> None:
    nests = [
        loop(i, 0, 9, loop(j, 0, 9, statement(what, at("x", i, j), "", read("x", i, j), i, j)))
        for i, j, what in (("i", "j", "S"), ("k", "l", "T"))
    ]
    both = program(loop("t", 0, 9, *nests), arrays={"x": (10, 10)})
    tiled = run(both, "tile t 2 i 3 j 4")
    order = [x.iterator for _, x in loops(tiled.body)]
    assert order == ["t_t", "i_t", "j_t", "t", "i", "j", "k", "l"]


def test_tile_names_the_first_loop_of_a_level() -> None:
    assert "not perfectly nested" in refusal(sweeps((0, 9), (0, 9)), "tile t 4 j 32").message


def test_loops_tiled_together_have_tiles_wherever_one_of_them_has() -> None:
    assert after(sweeps((0, "t - 1"), ("t", 99)), "tile t 4 i 32").startswith(
        "t_t 0..9 step 4 (i_t 0..99 step 32 (t t_t..min(t_t + 3, 9) "
        "(i max(i_t, 0)..min(i_t + 31, t - 1) (S[t, i]) j max(i_t, t)..min(i_t + 31, 99)"
    )


def test_tile_refuses_loops_of_which_none_surely_begins_first() -> None:
    error = refusal(sweeps((5, 98), ("t", 99)), "tile t 4 i 32")
    assert error.message == (
        "tile t 4 i 32: no range surely holds both 5..98 step 32 and t_t..99 step 32"
    )
    assert error.hint.endswith("skew them by the same.")


# skew, shift, wrap, reverse


def test_shift_moves_a_range_and_what_it_indexes() -> None:
    shifted = run(square(), "shift j 2")
    assert show(shifted) == "i 0..9 (j 2..11 (S[i, j - 2]))"
    inner = next(x for _, x in loops(shifted.body) if x.iterator == "j")
    assert inner.body[0].target == at("x", "i", "j - 2")  # type: ignore[union-attr]


def test_shift_back_is_the_identity() -> None:
    assert run(triangle(), "shift j 3; shift j -3") == triangle()


def test_wrap_puts_one_iteration_around_a_loop() -> None:
    assert after(square(), "wrap j") == "i 0..9 (j_w 0..0 (j 0..9 (S[i, j])))"


def test_skew_shifts_the_loop_and_what_it_indexes() -> None:
    skewed = run(square(), "skew j i 2")
    assert show(skewed) == "i 0..9 (j 2*i..2*i + 9 (S[i, -2*i + j]))"
    inner = next(x for _, x in loops(skewed.body) if x.iterator == "j")
    assert inner.body[0].target == at("x", "i", "-2*i + j")  # type: ignore[union-attr]


def test_skew_scales_bounds_that_have_a_divisor() -> None:
    half = triangle(0, Bound(affine("i"), 2))
    assert after(half, "skew j i 1") == "i 0..99 (j i..(3*i)/2 (S[i, -i + j]))"


def test_skew_refuses_a_loop_that_is_not_around() -> None:
    assert "loop j does not surround loop i" in refusal(square(), "skew i j 1").message


def test_reverse_runs_backwards_over_the_same_range() -> None:
    assert after(square(), "reverse i") == "i 0..9 (j 0..9 (S[-i + 9, j]))"


def test_reverse_of_a_triangle_keeps_its_bounds() -> None:
    assert after(triangle("i", 99), "reverse j") == "i 0..99 (j i..99 (S[i, i - j + 99]))"


def test_reverse_with_a_step_starts_at_the_last_iteration() -> None:
    node = statement("S", at("x", "i"), "", read("x", "i"), "i")
    before = program(loop("i", 1, 99, node, step=4), arrays={"x": (100,)})
    assert after(before, "reverse i") == "i 1..97 step 4 (S[-i + 98])"


def test_reverse_refuses_bounds_that_are_a_minimum() -> None:
    error = refusal(square(), "tile i 4; reverse i")
    assert "min, max or quotient" in error.message
    assert "before it is tiled" in error.hint


# fuse, distribute


def test_fuse_joins_neighbours_under_the_first_name() -> None:
    assert after(two_loops(), "fuse i j") == "i 0..9 (S[i] T[i])"


def test_fuse_shifts_the_second_loop() -> None:
    assert after(two_loops(12, 3), "fuse i j") == "i 0..9 (S[i] T[i + 3])"


def test_fuse_refuses_other_ranges_and_shows_them() -> None:
    error = refusal(two_loops(10), "fuse i j")
    assert error.message == "fuse i j: the loops run over different ranges: 0..9 and 0..10"


def test_fuse_refuses_the_later_loop_first() -> None:
    assert "does not directly follow" in refusal(two_loops(), "fuse j i").message


def test_fuse_refuses_loops_of_different_bodies() -> None:
    assert "not neighbours" in refusal(square(), "fuse i j").message


def test_distribute_gives_every_node_a_loop() -> None:
    assert after(imperfect(), "distribute i") == (
        "i 0..9 (S[i]) i2 0..9 (j 0..9 (T[i2, j])) i3 0..9 (U[i3])"
    )


def test_distribute_then_fuse_is_the_identity() -> None:
    assert run(imperfect(), "distribute i; fuse i i2; fuse i i3") == imperfect()


def test_distribute_refuses_a_single_node() -> None:
    assert "a single loop" in refusal(square(), "distribute i").message


def test_distribute_refuses_to_part_the_uses_of_a_temporary() -> None:
    error = refusal(with_temporary(), "distribute i")
    assert error.message.startswith("distribute i: temporary t would be needed across")


# Temporaries


def test_a_temporary_may_be_tiled_with_the_loop_it_belongs_to() -> None:
    assert after(with_temporary(), "tile i 5").startswith("i_t 0..9 step 5 (i i_t..i_t + 4 (S[i]")


def test_a_temporary_refuses_another_loop_around_its_own() -> None:
    body = (
        statement("S", at("t"), "+", read("x", "j"), "i", "j"),
        statement("T", at("x", "j"), "", read("t"), "i", "j"),
    )
    before = program(
        loop("i", 0, 9, loop("j", 0, 9, *body)),
        arrays={"x": (10,)},
        temporaries=(Temporary("t", DType.F64, 1),),
    )
    for schedule in ("interchange i j", "tile i 4 j 4"):
        assert "temporary t" in refusal(before, schedule).message


# Marks


def marked(schedule: str, before: Program | None = None) -> dict[str, Loop]:
    return {x.iterator: x for _, x in loops(run(before or gemm(8), schedule).body)}


def test_marks_are_set_on_the_loops_named() -> None:
    found = marked("parallelize i; jam j 4; vectorize k")
    assert found["i"].parallel
    assert found["j"].jam == 4
    assert found["k"].vector


def test_unroll_marks_an_innermost_loop() -> None:
    assert marked("unroll k 4")["k"].unroll == 4


def test_threads_take_turns_in_a_parallel_loop_only() -> None:
    assert marked("parallelize i; cyclic i 1")["i"].cyclic == 1
    assert refusal(gemm(8), "cyclic i 4").hint == "Say parallelize i before."
    assert "cyclic already" in refusal(gemm(8), "parallelize i; cyclic i 4; cyclic i 8").message


def test_a_loop_may_be_both_parallel_and_jammed() -> None:
    found = marked("jam i 2; parallelize i")["i"]
    assert (found.jam, found.parallel) == (2, True)


def test_jam_takes_an_imperfect_nest() -> None:
    assert marked("jam i 2", imperfect())["i"].jam == 2


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("parallelize i; parallelize j", "loop j is inside the parallel loop i"),
        ("parallelize j; parallelize i", "loop i is around the parallel loop j"),
        ("parallelize i; parallelize i", "loop i is parallel already"),
        ("unroll k 4; parallelize k", "loop k is unrolled"),
        ("jam i 2; parallelize j", "loop j is inside the jammed loop i"),
        ("vectorize i", "loop j is inside loop i"),
        ("unroll k 2; vectorize k", "loop k is unrolled"),
        ("vectorize k; unroll k 2", "loop k is vectorized"),
        ("parallelize k; unroll k 2", "loop k is parallel"),
        ("unroll j 2", "loop k is inside loop j"),
        ("unroll k 65", "between 2 and 64"),
        ("jam k 2", "there is no loop inside loop k"),
        ("jam i 17", "between 2 and 16"),
        ("jam i 2; jam j 2", "loop i of the same nest is already jammed"),
        ("parallelize j; jam i 2", "loop j of the same nest is already parallel"),
        ("parallelize i; interchange i j", "loop i is already parallel"),
        ("vectorize k; tile k 4", "loop k is already vectorized"),
        ("jam i 2; interchange j k", "the nest of loop i is already jammed"),
        ("parallelize j; interchange i k", "loop j is already parallel"),
        ("jam j 2; reverse j", "loop j is already jammed"),
        ("vectorize j 3", "must be 2, 4, 8, ... or 64"),
        ("vectorize j 128", "must be 2, 4, 8, ... or 64"),
        ("vectorize j 8; vectorize k", "loop j around it is vectorized already"),
        ("vectorize k; vectorize j 8", "loop k inside is vectorized already"),
        ("vectorize j 8; vectorize j", "loop j is vectorized already"),
        ("parallelize j; vectorize j 8", "loop j is parallel"),
        ("vectorize j 8; parallelize j", "loop j is vectorized in blocks"),
        ("vectorize j 8; parallelize k", "loop k is inside the vectorized loop j"),
        ("vectorize j 8; jam j 2", "loop j is vectorized already"),
        ("vectorize j 8; interchange i j", "loop j is already vectorized"),
        ("vectorize j 8; tile k 4", "the nest of loop j is already vectorized"),
    ],
)
def test_marks_that_do_not_fit_are_refused(schedule: str, message: str) -> None:
    assert message in refusal(gemm(8), schedule).message


def test_a_register_tile_is_a_jam_around_lanes() -> None:
    found = marked("interchange j k; interchange j k; jam i 4; vectorize j 8; parallelize i")
    assert (found["i"].jam, found["i"].parallel) == (4, True)
    assert (found["j"].vector, found["j"].lanes) == (True, 8)


def test_a_loop_packs_what_the_loops_inside_read() -> None:
    found = marked("tile j 4; interchange i j_t; pack B j_t; jam i 2; vectorize j 4")
    assert found["j_t"].packs == (at("B", "k", "j"),)
    assert (found["i"].jam, found["j"].lanes) == (2, 4)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("pack D i", "there is no array D"),
        ("pack C i", "loop i writes C"),
        ("pack A k", "the subscript is not moved by any loop inside"),
        ("pack B i; pack B j", "loop i packs B[k][j] already"),
        ("pack B[k][i] i", "loop i does not read B[k][i]"),
        ("parallelize j; pack B i", "loop j inside is parallel"),
        ("jam i 2; pack B i", "loop i is jammed"),
        ("vectorize j 4; pack B j", "loop j is vectorized"),
        ("pack B j; jam i 2", "loop j of the same nest is already packing"),
        ("pack B j; jam j 2", "loop j is packing already"),
        ("pack B j; vectorize j 4", "loop j inside packs already"),
        ("pack B i; interchange j k", "the nest of loop i is already packing"),
        ("pack B i; parallelize j", "loop j is inside the packing loop i"),
        ("parallelize k B", "loop k reads B"),
        ("parallelize k D", "loop k adds to no array D"),
    ],
)
def test_packs_that_do_not_fit_are_refused(schedule: str, message: str) -> None:
    assert message in refusal(gemm(8), schedule).message


def test_a_pack_says_which_of_several_reads_of_an_array() -> None:
    update = statement(
        "S", at("C", "i", "j"), "+", plus(read("A", "i", "k"), read("A", "j", "k")), "i", "j", "k"
    )
    nest = loop("i", 0, 19, loop("j", 0, "i", loop("k", 0, 19, update)))
    both = program(nest, arrays={"C": (20, 20), "A": (20, 20)})
    said = refusal(both, "tile j 4; interchange i j_t; pack A j_t")
    assert "reads A in 2 different places" in said.message
    assert said.hint == "Say which of them: pack A[i][k] j_t or pack A[j][k] j_t."
    found = marked("tile j 4; interchange i j_t; pack A[j][k] j_t; pack A[i][k] i", both)
    assert (found["j_t"].packs, found["i"].packs) == ((at("A", "j", "k"),), (at("A", "i", "k"),))


def test_what_is_packed_moves_with_the_loops_around() -> None:
    found = marked("pack B[k][j] j; reverse i; pack A[7-i][k] j")
    assert [str(x) for x in found["j"].packs] == ["B[k][j]", "A[-i+7][k]"]


def test_a_step_after_which_a_pack_could_copy_more_than_there_is_is_refused() -> None:
    schedule = "interchange j k; tile i 32 k 32 j 32; pack B i; tile k_t 128 j_t 384"
    assert "it might copy what is outside of the array" in refusal(gemm(64), schedule).message


def test_a_buffer_that_is_too_large_is_refused() -> None:
    assert "more than 262144" in refusal(gemm(256), "pack B i").message


def rows(*reads: str) -> Program:
    """Two planes of rows that are copied, with what else the statement reads."""
    value = read("a", "p", "i", "j")
    for name in reads:
        value = plus(value, read(name, "p", "i", "j"))
    copy = statement("S", at("x", "p", "i", "j"), "", value, "p", "i", "j")
    nest = loop("p", 0, 1, loop("i", 0, 9, loop("j", 0, 99, copy)))
    return program(nest, arrays=dict.fromkeys("ax", (2, 10, 100)))


def test_a_loop_in_lanes_streams_an_array() -> None:
    assert marked("vectorize j; stream x j", rows())["j"].stream == "x"


def test_two_loops_are_shared_out_together() -> None:
    found = marked("collapse p i; cyclic p 2; vectorize j", rows())
    assert (found["p"].parallel, found["p"].collapse, found["p"].cyclic) == (True, True, 2)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("stream x i", "loop j is inside loop i"),
        ("stream x j", "loop j is not in as many lanes"),
        ("vectorize j 8; stream x j", "loop j is not in as many lanes"),
        ("parallelize j; vectorize j; stream x j", "loop j is parallel"),
        ("vectorize j; stream x j; parallelize j", "loop j is streaming"),
        ("jam i 2; vectorize j; stream x j", "loop j is inside the jammed loop i"),
        ("vectorize j; stream x j; jam i 2", "loop j of the same nest is already streaming"),
        ("vectorize j; stream a j", "loop j writes a in 0 places"),
        ("interchange i j; vectorize i; stream x i", "loop i does not walk along the rows of x"),
        ("vectorize j; stream x j; stream x j", "loop j is streaming already"),
        ("collapse p j", "loop j is not the loop directly inside loop p"),
        ("collapse i j", "there is no loop inside loop j"),
        ("collapse p i; parallelize p", "loop p is parallel already"),
        ("parallelize p; collapse p i", "a loop of the two is already parallel"),
        ("tile i 4; interchange p i_t; collapse p i", "a min, max or quotient"),
        ("collapse p i; jam i 2", "loop i is collapsed"),
        ("collapse p i; vectorize i 2", "loop i is collapsed"),
        ("collapse p i; pack a p", "loop p is collapsed"),
        ("collapse p i; tile i 5", "loop p is already parallel"),
    ],
)
def test_streams_and_pairs_that_do_not_fit_are_refused(schedule: str, message: str) -> None:
    assert message in refusal(rows(), schedule).message


def test_what_is_read_in_the_nest_is_not_streamed() -> None:
    assert "x is read in the nest" in refusal(rows("x"), "vectorize j; stream x j").message


def test_what_is_written_again_is_not_streamed() -> None:
    copy = statement("S", at("x", "j"), "", read("a", "j"), "t", "j")
    again = program(loop("t", 0, 3, loop("j", 0, 9, copy)), arrays=dict.fromkeys("ax", (10,)))
    assert "written several times" in refusal(again, "vectorize j; stream x j").message


def test_sums_are_not_shared_out_by_pairs_of_loops() -> None:
    assert "elements that they share" in refusal(gemm(8), "interchange j k; collapse i k").message


def test_vectorize_refuses_a_step() -> None:
    assert "has step 3" in refusal(strided(), "vectorize i").message


def test_jam_takes_a_range_that_moves_with_the_loop() -> None:
    assert marked("jam i 2", triangle())["i"].jam == 2


def test_jam_refuses_a_range_with_a_step_that_moves_with_the_loop() -> None:
    error = refusal(triangle("i", 99), "tile j 8; jam i 2")
    assert "the bounds of loop j_t depend on i, and it has step 8" in error.message


def test_jam_refuses_a_temporary_that_lives_across_a_range_that_moves() -> None:
    nest = with_temporary()
    outer = nest.body[0]
    assert isinstance(outer, Loop)
    first, inner, last = outer.body
    moving = replace(inner, upper=(Bound(affine("i")),))  # type: ignore[type-var]
    nest = nest.with_body((replace(outer, body=(first, moving, last)),))
    assert "temporary t lives across that loop" in refusal(nest, "jam i 2").message


def test_lanes_refuse_inner_bounds_that_depend_on_the_loop() -> None:
    assert "the bounds of loop j depend on i" in refusal(triangle(), "vectorize i 8").message


def test_fuse_refuses_a_marked_loop() -> None:
    assert "already parallel" in refusal(two_loops(parallel=True), "fuse i j").message


@pytest.mark.parametrize("step", [Unroll("k", 1), Jam("i", 1)])
def test_a_factor_of_one_is_refused(step: Unroll | Jam) -> None:
    with pytest.raises(ScheduleError, match="between 2"):
        apply(gemm(8), step)


@pytest.mark.parametrize("step", [Tile((("i", 4), ("i", 4))), Fuse("i", "i")])
def test_a_loop_named_twice_is_refused(step: Tile | Fuse) -> None:
    with pytest.raises(ScheduleError):
        apply(gemm(8), step)


def test_the_program_given_stays_as_it_is() -> None:
    before = gemm(8)
    run(before, "interchange i k; tile k 4; parallelize k_t")
    assert before == gemm(8)


def test_a_factor_with_many_digits_is_told_its_range() -> None:
    with pytest.raises(ScheduleError, match=r"99999999999 is outside 1\.\.65536"):
        parse_schedule("tile i 99999999999")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("tile", "For example: tile i 32 j 32."),
        ("tile i", "For example: tile i 32 j 32."),
        ("unroll i", "For example: unroll k 4."),
        ("interchange i", "For example: interchange i k."),
        ("skew i 1", "For example: skew j i 1 (the inner loop first)."),
        ("shift i 0", "For example: shift i2 1."),
        ("wrap i j", "For example: wrap j."),
        ("jam i x", "For example: jam i 4."),
    ],
)
def test_a_malformed_step_is_answered_with_its_form(text: str, hint: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    assert caught.value.hint == hint


def test_skew_the_wrong_way_round_is_answered_with_the_right_one() -> None:
    error = refusal(square(), "skew i j 2")
    assert error.hint == "The inner loop comes first: skew j i 2."


def test_skew_by_a_loop_elsewhere_says_what_it_takes() -> None:
    assert "one around it" in refusal(two_loops(), "skew i j 1").hint


def test_fuse_of_loops_in_two_loops_names_those_to_fuse_first() -> None:
    inner = [loop(x, 0, 9, statement(x, at("x", x), "", read("a", x), x)) for x in "jq"]
    both = program(loop("i", 0, 9, inner[0]), loop("p", 0, 9, inner[1]), arrays={"x": (10,)})
    assert refusal(both, "fuse j q").hint == "Fuse the loops around them first: fuse i p."


def test_fuse_of_a_loop_and_one_inside_it_says_what_it_takes() -> None:
    assert "one after the other" in refusal(square(), "fuse i j").hint
