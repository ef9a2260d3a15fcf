"""Random schedules fit; candidates are legal, diverse, and hold what experts try."""

import itertools
import random
from dataclasses import replace

import pytest

from agent.errors import ScheduleError
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import Binary, Program, loops
from agent.loopnest.schedules import legality, transform
from agent.loopnest.schedules.candidates import (
    LegalDraft,
    Outcomes,
    candidate_schedules,
    random_schedule,
)
from agent.loopnest.schedules.dependence import Dependences
from agent.loopnest.schedules.legality import check_legal
from agent.loopnest.schedules.schedule import (
    Reverse,
    Schedule,
    Skew,
    Tile,
    Unroll,
    Vectorize,
    parse_schedule,
)
from agent.loopnest.schedules.sweep_tiles import diagonal_factor, sweep_tiles
from agent.loopnest.schedules.time_tiles import skews
from tests.agent.loopnest.nests import at, gemm, loop, plus, program, read, statement
from tests.agent.loopnest.schedules.brute_force import trace
from tests.agent.loopnest.schedules.test_legality import jacobi, row_sums, seidel

PROGRAMS = (gemm(12), seidel(), jacobi(), row_sums(1))


@pytest.mark.parametrize("base", PROGRAMS, ids=["gemm", "seidel", "jacobi", "row_sums"])
def test_candidates_are_legal_and_differ(base: Program) -> None:
    dependences = Dependences.of(base)
    found = candidate_schedules(base, 60, dependences=dependences)
    assert len({p.body for _, p in found}) == len(found) == 60
    for schedule, after in found:
        check_legal(after, dependences)
        assert parse_schedule(str(schedule)) == schedule


def test_a_candidate_is_what_its_schedule_makes_of_the_program() -> None:
    for schedule, after in candidate_schedules(gemm(12), 40):
        now = gemm(12)
        for step in schedule.steps:
            now = transform.apply(now, step)
        assert now == after


def verdict(after: Program, dependences: Dependences) -> str:
    try:
        check_legal(after, dependences)
    except ScheduleError as error:
        return str(error).split(", for example")[0]  # one of another schedule will do
    return "legal"


@pytest.mark.parametrize("base", [seidel(), jacobi()], ids=["seidel", "jacobi"])
def test_what_was_found_of_other_schedules_changes_no_verdict(base: Program) -> None:
    shared, rng = Dependences.of(base), random.Random(5)
    drawn = [random_schedule(base, rng)[1] for _ in range(40)]
    found = [verdict(after, shared) for after in drawn]
    assert found == [verdict(after, Dependences.of(base)) for after in drawn]
    assert 0 < found.count("legal") < len(found)
    assert any(shared.examples.values())


def test_the_program_as_written_comes_first() -> None:
    base = row_sums(0)
    assert candidate_schedules(base, 5)[0] == (Schedule(), base)


def test_the_same_seed_gives_the_same_candidates() -> None:
    assert candidate_schedules(gemm(12), 50, 3) == candidate_schedules(gemm(12), 50, 3)
    assert candidate_schedules(gemm(12), 50, 3) != candidate_schedules(gemm(12), 50, 4)


def test_candidates_hold_what_experts_try_on_a_matrix_product() -> None:
    found = {str(schedule) for schedule, _ in candidate_schedules(gemm(256), 40)}
    assert {
        "parallelize i",
        "vectorize k",
        "interchange j k",
        "interchange j k; parallelize i; vectorize j",
        "tile i 32 j 32 k 32; parallelize i_t",
    } <= found


def test_candidates_hold_register_tiles_and_partial_sums() -> None:
    found = {str(schedule) for schedule, _ in candidate_schedules(gemm(256), 100)}
    assert {
        "vectorize j 16; jam i 6; parallelize i",
        "vectorize j 8; jam i 4; parallelize i",
        "vectorize k 32; parallelize i",
    } <= found


def test_candidates_fill_the_registers_with_rows_that_leave_none_over() -> None:
    found = {str(schedule) for schedule, _ in candidate_schedules(gemm(250), 200)}
    assert {
        "vectorize j 16; jam i 10; parallelize i",
        "tile j 16; interchange i j_t; pack B j_t; vectorize j 16; jam i 10; parallelize j_t",
    } <= found


def test_wide_buffers_hold_what_fits_and_are_shared_evenly() -> None:
    found = {str(schedule) for schedule, _ in candidate_schedules(gemm(1000), 100)}
    order = "interchange j k_t; interchange i j_t; interchange i k_t"
    tile = f"tile j 128; tile k 250; {order}; pack B k_t; vectorize j 16; jam i 10"
    assert f"{tile}; parallelize j_t" in found


def test_rows_of_a_register_tile_are_those_that_use_again_what_lanes_load() -> None:
    product = Binary("*", read("A", "c", "y + p", "x"), read("W", "o", "c", "p"))
    update = statement("S", at("C", "o", "y", "x"), "+", product, "o", "c", "y", "x", "p")
    inside = loop("c", 0, 15, loop("y", 0, 31, loop("x", 0, 63, loop("p", 0, 2, update))))
    arrays = {"C": (16, 32, 64), "A": (16, 34, 64), "W": (16, 16, 3)}
    found = candidate_schedules(program(loop("o", 0, 15, inside), arrays=arrays), 100)
    assert any("vectorize x 16; jam o 8" in str(schedule) for schedule, _ in found)


def test_a_register_tile_goes_by_the_sum_beside_other_updates() -> None:
    scattered = statement("S", at("C", "k", "j"), "+", read("A", "i", "k"), "i", "j", "k")
    summed = statement("T", at("D", "i", "j"), "+", read("A", "i", "k"), "i", "j", "k")
    nest = loop("i", 0, 99, loop("j", 0, 99, loop("k", 0, 99, scattered, summed)))
    arrays = {"C": (100, 100), "A": (100, 100), "D": (100, 100)}
    found = candidate_schedules(program(nest, arrays=arrays), 100)
    assert any("vectorize j 16" in str(schedule) for schedule, _ in found)


def test_candidates_hold_sums_of_which_every_thread_has_a_copy() -> None:
    update = statement("S", at("y", "j"), "+", read("A", "i", "j"), "i", "j")
    columns = program(
        loop("i", 0, 99, loop("j", 0, 49, update)), arrays={"y": (50,), "A": (100, 50)}
    )
    found = {str(schedule) for schedule, _ in candidate_schedules(columns, 60)}
    assert "vectorize j; parallelize i y" in found


def test_candidates_hold_the_wavefront_of_an_in_place_stencil() -> None:
    found = {str(schedule) for schedule, _ in candidate_schedules(seidel(), 60)}
    assert "skew j i 1; interchange i j; parallelize i" in found


def test_candidates_hold_tiles_whose_diagonals_are_shared_out() -> None:
    found = {str(schedule) for schedule, _ in candidate_schedules(seidel(), 60)}
    tiles = "tile i 16 j 16"
    assert {tiles, f"{tiles}; skew j_t i_t 1; interchange i_t j_t; parallelize i_t"} <= found


def test_candidates_hold_time_tiles() -> None:
    around = (read("x", f"i + {n}") for n in (-1, 0, 1))
    body = statement("S", at("x", "i"), "", plus(next(around), next(around)), "t", "i")
    body = replace(body, value=plus(body.value, next(around)))
    swept = program(loop("t", 0, 99, loop("i", 1, 98, body)), arrays={"x": (100,)})
    found = {str(schedule) for schedule, _ in candidate_schedules(swept, 60)}
    tiles = "skew i t 1; tile t 32 i 32"
    assert {tiles, f"{tiles}; skew i_t t_t 1; interchange t_t i_t; parallelize t_t"} <= found


def sweeps(text: str, **sizes: int) -> Program:
    """What a function ``f`` of C does."""
    return parse_program(text, "f.c", function=None, sizes=sizes)


JACOBI = (
    "void f(int n, double A[n], double B[n]) {"
    " for (int t = 0; t < 99; t++) {"
    " for (int i = 1; i < n - 1; i++) B[i] = A[i - 1] + A[i] + A[i + 1];"
    " for (int i = 1; i < n - 1; i++) A[i] = B[i - 1] + B[i] + B[i + 1]; } }"
)
FIELDS = (
    "void f(int n, int m, double E[n][m], double H[n][m], const double *s) {"
    " for (int t = 0; t < 99; t++) {"
    " for (int j = 0; j < m; j++) E[0][j] = s[t];"
    " for (int i = 1; i < n; i++) for (int j = 0; j < m; j++) E[i][j] -= H[i][j] - H[i - 1][j];"
    " for (int i = 0; i < n - 1; i++) for (int j = 0; j < m - 1; j++)"
    " H[i][j] -= E[i + 1][j] - E[i][j + 1]; } }"
)


def test_candidates_hold_time_tiles_of_two_sweeps() -> None:
    found = {str(schedule) for schedule, _ in candidate_schedules(sweeps(JACOBI, n=300), 60)}
    tiles = "shift i2 1; skew i t 2; skew i2 t 2; tile t 32 i 64"
    waves = "skew i_t t_t 2; interchange t_t i_t; parallelize t_t"
    assert {tiles, f"{tiles}; {waves}; vectorize i; vectorize i2"} <= found


def test_candidates_hold_time_tiles_of_sweeps_of_different_depth() -> None:
    fields = sweeps(FIELDS, n=300, m=200)
    found = {str(schedule) for schedule, _ in candidate_schedules(fields, 60)}
    tiles = (
        "wrap j; shift i2 1; shift j3 1; skew j_w t 1; skew j t 1; skew i t 1; skew j2 t 1;"
        " skew i2 t 1; skew j3 t 1; tile t 16 j_w 32 j 128"
    )
    assert f"{tiles}; skew j_w_t t_t 3; interchange t_t j_w_t; parallelize t_t" in found


def test_candidates_hold_tiles_of_factors_in_place() -> None:
    factors = (
        "void f(int n, double A[n][n]) { for (int i = 0; i < n; i++) {"
        " for (int j = 0; j < i; j++) {"
        " for (int k = 0; k < j; k++) A[i][j] -= A[i][k] * A[k][j]; A[i][j] /= A[j][j]; }"
        " for (int j = i; j < n; j++)"
        " for (int k = 0; k < i; k++) A[i][j] -= A[i][k] * A[k][j]; } }"
    )
    found = {str(schedule) for schedule, _ in candidate_schedules(sweeps(factors, n=300), 60)}
    waves = "skew j_t i_t 2; interchange i_t j_t; parallelize i_t"
    assert f"tile i 16 j 32; {waves}; interchange j2 k2; vectorize j2" in found


def test_a_sweep_of_fewer_loops_lacks_outer_ones() -> None:
    draft = LegalDraft(Dependences.of(sweeps(FIELDS, n=300, m=200)), Outcomes())
    sweep_tiles(draft, (32, 64), waves=False)
    assert str(draft.steps[0]) == "wrap j"
    assert str(draft.steps[-1]) == "tile t 32 j_w 64"


def test_sweeps_far_apart_are_not_moved() -> None:
    mirrored = JACOBI.replace("B[i - 1] + B[i]", "B[n - 1 - i] + B[i]")
    dependences = Dependences.of(sweeps(mirrored, n=300))
    draft = LegalDraft(dependences, Outcomes())
    sweep_tiles(draft, (32, 64), waves=True)
    assert not draft.steps


@pytest.mark.parametrize(
    ("size", "inner", "skew", "factor"), [(32, 32, 1, 1), (32, 64, 2, 2), (16, 32, 1, 3)]
)
def test_diagonals_leave_behind_the_tiles_that_a_tile_depends_on(
    size: int, inner: int, skew: int, factor: int
) -> None:
    assert diagonal_factor(size, inner, skew) == factor


def test_nothing_is_skewed_where_no_loop_carries_a_dependence() -> None:
    assert skews(Dependences.of(gemm(12)), "ijk") is None


def test_loops_are_skewed_as_far_as_their_dependences_go_back() -> None:
    body = statement("S", at("x", "i", "j"), "", read("x", "i - 1", "j + 3"), "i", "j")
    far = program(loop("i", 1, 9, loop("j", 0, 6, body)), arrays={"x": (10, 10)})
    assert skews(Dependences.of(far), "ij") == {("j", "i"): 3}


def test_candidates_hold_register_tiles_of_triangles() -> None:
    update = statement("S", at("C", "i", "j"), "+", read("A", "k", "j"), "i", "j", "k")
    nest = loop("i", 0, 99, loop("j", "i", 99, loop("k", 0, 99, update)))
    triangle = program(nest, arrays={"C": (100, 100), "A": (100, 100)})
    found = {str(schedule) for schedule, _ in candidate_schedules(triangle, 60)}
    assert "vectorize j 16; jam i 6; parallelize i; cyclic i 1" in found


def test_candidates_pack_what_tiles_of_an_upper_triangle_read() -> None:
    product = Binary("*", read("A", "k", "i"), read("A", "k", "j"))
    update = statement("S", at("C", "i", "j"), "+", product, "i", "j", "k")
    nest = loop("i", 0, 299, loop("j", "i", 299, loop("k", 0, 299, update)))
    triangle = program(nest, arrays={"C": (300, 300), "A": (300, 300)})
    found = {str(schedule) for schedule, _ in candidate_schedules(triangle, 60)}
    tile = "tile i 96 j 64; pack A[k][j] j_t; vectorize j 16; jam i 6"
    assert f"{tile}; parallelize i_t; cyclic i_t 1" in found


def test_candidates_deal_out_the_iterations_of_triangles_only() -> None:
    update = statement("S", at("y", "i"), "+", read("A", "i", "j"), "i", "j")
    arrays = {"y": (900,), "A": (900, 900)}
    nests = [
        program(loop("i", 0, 899, loop("j", 0, end, update)), arrays=arrays) for end in ("i", 9)
    ]
    triangle, box = ({str(s) for s, _ in candidate_schedules(nest, 60)} for nest in nests)
    assert {"parallelize i; cyclic i 8", "vectorize j; parallelize i; cyclic i 8"} <= triangle
    assert not any("cyclic" in text for text in box)


def test_candidates_pack_one_of_two_reads_of_an_array() -> None:
    product = Binary("*", read("A", "i", "k"), read("A", "j", "k"))
    update = statement("S", at("C", "i", "j"), "+", product, "i", "j", "k")
    nest = loop("i", 0, 299, loop("j", 0, "i", loop("k", 0, 299, update)))
    triangle = program(nest, arrays={"C": (300, 300), "A": (300, 300)})
    found = {str(schedule) for schedule, _ in candidate_schedules(triangle, 60)}
    tile = "tile j 64; interchange i j_t; pack A[j][k] j_t; vectorize j 16; jam i 6"
    assert f"{tile}; parallelize j_t; cyclic j_t 1" in found


def test_candidates_hold_transposes_by_blocks() -> None:
    copy = statement("S", at("B", "j", "i"), "", read("A", "i", "j"), "i", "j")
    nest = loop("i", 0, 1999, loop("j", 0, 1999, copy))
    flat = program(nest, arrays=dict.fromkeys("AB", (2000, 2000)))
    found = {str(schedule) for schedule, _ in candidate_schedules(flat, 60)}
    tile = "interchange i j; tile j 64 i 64; pack A i_t; vectorize i; parallelize j_t"
    assert {tile, f"{tile}; stream B i"} <= found


def test_candidates_stream_large_arrays_only() -> None:
    def schedules(count: int) -> set[str]:
        copy = statement("S", at("x", "i"), "", read("a", "i"), "i")
        flat = program(loop("i", 0, count - 1, copy), arrays=dict.fromkeys("ax", (count,)))
        return {str(schedule) for schedule, _ in candidate_schedules(flat, 60)}

    assert "tile i 16384; parallelize i_t; vectorize i; stream x i" in schedules(1 << 20)
    assert not any("stream" in text for text in schedules(1 << 16))


def test_candidates_share_out_short_outer_loops_with_those_inside() -> None:
    copy = statement("S", at("x", "p", "i", "j"), "", read("a", "p", "i", "j"), "p", "i", "j")
    nests = [
        program(
            loop("p", 0, count - 1, loop("i", 0, 99, loop("j", 0, 99, copy))),
            arrays=dict.fromkeys("ax", (count, 100, 100)),
        )
        for count in (3, 300)
    ]
    few, many = ({str(s) for s, _ in candidate_schedules(nest, 60)} for nest in nests)
    assert "collapse p i; vectorize j" in few
    assert not any("collapse" in text for text in many)


def test_few_candidates_of_a_program_without_loops() -> None:
    flat = program(statement("S", at("x", 0), "", read("x", 0)), arrays={"x": (1,)})
    assert candidate_schedules(flat, 10) == ((Schedule(), flat),)


def test_random_schedules_run_every_instance_once() -> None:
    rng = random.Random(5)
    for base in PROGRAMS:
        expected = sorted(e.instance for e in trace(base))
        for _ in range(40):
            _, after = random_schedule(base, rng)
            assert sorted(e.instance for e in trace(after)) == expected


def test_random_schedules_are_varied() -> None:
    rng = random.Random(1)
    drawn = [random_schedule(gemm(64), rng) for _ in range(400)]
    kinds = {type(step).__name__ for schedule, _ in drawn for step in schedule.steps}
    assert kinds >= {"Interchange", "Tile", "Parallelize", "Vectorize", "Unroll", "Jam", "Skew"}
    assert len({after.body for _, after in drawn}) > 250
    assert sum(not schedule.steps for schedule, _ in drawn) < 60


def test_random_schedules_of_several_nests_fuse_and_distribute() -> None:
    rng = random.Random(2)
    pair = program(
        loop("i", 0, 9, statement("S", at("x", "i"), "", read("a", "i"), "i")),
        loop("j", 0, 9, *(statement(f"T{n}", at("y", "j"), "", read("x", "j"), "j") for n in "01")),
        arrays=dict.fromkeys("axy", (10,)),
    )
    drawn = (random_schedule(pair, rng)[0].steps for _ in range(100))
    kinds = {type(step).__name__ for step in itertools.chain.from_iterable(drawn)}
    assert {"Fuse", "Distribute"} <= kinds


def test_a_random_schedule_is_the_same_for_the_same_generator() -> None:
    assert random_schedule(gemm(64), random.Random(9)) == random_schedule(
        gemm(64), random.Random(9)
    )


def test_tiles_are_shorter_than_the_loops_they_cut() -> None:
    rng = random.Random(4)
    for _ in range(200):
        schedule, _ = random_schedule(gemm(20), rng)
        if not any(isinstance(step, Skew) for step in schedule.steps):  # skewed loops are longer
            tiles = [step for step in schedule.steps if isinstance(step, Tile)]
            assert all(size < 20 for step in tiles for _, size in step.sizes)


def test_random_schedules_need_no_more_levels_than_features_have() -> None:
    rng = random.Random(3)
    for _ in range(200):
        _, after = random_schedule(gemm(64), rng)
        assert max(len(around) for around, _ in loops(after.body)) < transform.MAX_DEPTH


def in_a_row(count: int) -> Program:
    """Loops that follow each other, each of which reads what the one before has written."""
    bodies = [
        loop(
            f"i{n}",
            0,
            63,
            statement(f"S{n}", at("x", f"i{n}"), "+", read("y", f"i{n}"), f"i{n}"),
            statement(f"T{n}", at("y", f"i{n}"), "", read("x", f"i{n}"), f"i{n}"),
        )
        for n in range(count)
    ]
    return program(*bodies, arrays={"x": (64,), "y": (64,)})


def test_nests_beside_a_step_change_nothing_but_the_names_of_new_loops() -> None:
    base = in_a_row(3)
    for schedule, after in candidate_schedules(base, 60):
        assert legality.transform(base, schedule).body == after.body


def test_a_step_of_a_nest_is_tried_once_whatever_stands_beside_it(monkeypatch) -> None:
    tried, check_step = [], legality.check_step

    def check(after, step, dependences, **how):
        tried.append(step)
        check_step(after, step, dependences, **how)

    monkeypatch.setattr(legality, "check_step", check)
    dependences, outcomes = Dependences.of(in_a_row(2)), Outcomes()
    for first in (Reverse("i1"), Unroll("i1", 4)):
        draft = LegalDraft(dependences, outcomes)
        assert draft.attempt(first)
        assert draft.attempt(Vectorize("i0"))
    assert tried == [Reverse("i1"), Vectorize("i0"), Unroll("i1", 4)]
