from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.loopnest.features import counting
from agent.loopnest.features.nest import FIELDS, LOOPS, Geometry, concat, lower
from agent.loopnest.program import (
    Binary,
    Bound,
    Call,
    DType,
    Literal,
    Loop,
    Program,
    Read,
    Scalar,
    Statement,
    Temporary,
    statements,
)
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.schedule import Collapse, Interchange, Pack, Vectorize, parse_schedule
from agent.loopnest.schedules.transform import apply
from tests.agent.loopnest.nests import affine, at, gemm, loop, plus, program, read, statement, times


def instances(nodes, values=()):
    """How often each statement runs, by running the loops."""
    out: dict[str, int] = {}
    known = dict(values)
    for node in nodes:
        if isinstance(node, Statement):
            out[node.name] = out.get(node.name, 0) + 1
            continue
        low = max(-(-b.expr.evaluate(known) // b.divisor) for b in node.lower)
        high = min(b.expr.evaluate(known) // b.divisor for b in node.upper)
        for value in range(low, high + 1, node.step):
            for name, n in instances(node.body, known | {node.iterator: value}).items():
                out[name] = out.get(name, 0) + n
    return out


def set_one(*subscripts, name="S0", array="X"):
    return statement(name, at(array, *subscripts), "", Literal("1.0"), *subscripts)


def first(p: Program):
    return lower([p]).take(np.array([0]))


def test_lanes_through_inner_loops_are_seen_as_tiles_that_are_innermost():
    tiled = lower([apply(gemm(40), Vectorize("j", 8))])
    assert tiled.trip[0, 0, :4].tolist() == [40, 5, 40, 8]
    assert tiled.vector[0, 0, :4].tolist() == [False, False, False, True]
    assert tiled.instances[0, 0] == 40**3


def test_a_packed_array_is_read_in_the_order_of_its_buffer():
    plain = apply(gemm(64), Interchange("i", "j"))
    before, after = (lower([p]) for p in (plain, apply(plain, Pack("B", "j"))))
    packed = [a.name for a in plain.arrays].index("B")
    assert set(before.array[0, 0, :3]) == {0, 1, 2}
    assert set(after.array[0, 0, :3]) == {0, 1, 2, 3} - {packed}  # buffers come after the arrays
    assert before.instances[0, 0] == after.instances[0, 0]


def test_loops_shared_out_together_are_seen_as_the_inner_one_around_the_other():
    update = statement("S", at("x", "p", "i", "j"), "", Literal("1.0"), "p", "i", "j")
    nest = loop("p", 0, 2, loop("i", 0, 39, loop("j", 0, 9, update)))
    table = first(apply(program(nest, arrays={"x": (3, 40, 10)}), Collapse("p", "i")))
    assert table.trip[0, 0, :3].tolist() == [40, 3, 10]
    assert table.parallel[0, 0, :3].tolist() == [True, False, False]


def test_a_rectangular_nest_has_its_trip_counts_outermost_first():
    table = first(gemm(64, "ikj"))
    assert table.trip[0, 0, :4].tolist() == [64, 64, 64, 1]
    assert table.instances[0, 0] == table.total_instances[0] == 64**3


def test_a_tiled_nest_with_a_partial_tile_runs_as_often_as_the_untiled_one():
    table = lower([gemm(50), gemm(50, tile=16)])
    assert table.instances[0, 0] == pytest.approx(table.instances[1, 0], rel=1e-12)
    assert table.trip[1, 0, :6].tolist() == [4, 4, 4, 12.5, 12.5, 12.5]
    assert table.imbalance[1, 0, 0] == pytest.approx(16 / 12.5)


def test_a_loop_over_tiles_moves_the_accesses_by_whole_tiles():
    table = first(gemm(64, tile=16))
    c = table.coef[0, 0, 0]  # C[i][j]; loops i_t j_t k_t i j k
    assert c[2, :6].tolist() == [16, 0, 0, 1, 0, 0]
    assert c[3, :6].tolist() == [0, 16, 0, 0, 1, 0]


def test_the_strides_in_bytes_are_coefficients_times_row_bytes():
    table = first(gemm(64, "ijk", dtype=DType.F32))
    strides = np.einsum("adl,ad->al", table.coef[0, 0], table.row_bytes[0, 0])[:3, :3]
    assert strides.tolist() == [[256, 4, 0], [256, 0, 4], [0, 4, 256]]


def test_reduction_loops_are_those_that_leave_the_target_in_place():
    assert first(gemm(64)).reduction[0, 0, :3].tolist() == [False, False, True]
    tiled = first(gemm(64, tile=16)).reduction[0, 0, :6].tolist()
    assert tiled == [False, False, True, False, False, True]


def test_a_reduction_into_a_temporary_accumulates_in_the_loops_it_outlives():
    body = statement("S0", at("t"), "+", read("A", "i", "j"), "i", "j")
    p = program(
        loop("i", 0, 9, loop("j", 0, 9, body)),
        arrays={"A": (10, 10)},
        temporaries=(Temporary("t", DType.F64, 1),),
    )
    table = first(p)
    assert table.reduction[0, 0, :2].tolist() == [False, True]
    assert (table.array[0, 0] >= 0).sum() == 1


def test_marks_come_along():
    marks = {"i": {"parallel": True, "jam": 2}, "k": {"unroll": 4, "vector": True}}
    table = first(gemm(64, **marks))
    assert table.parallel[0, 0, :3].tolist() == [True, False, False]
    assert table.vector[0, 0, :3].tolist() == [False, False, True]
    assert (table.jam[0, 0, 0], table.unroll[0, 0, 2]) == (2, 4)


def test_a_triangle_is_counted_exactly_and_known_to_be_uneven():
    p = program(loop("i", 0, 99, loop("j", 0, "i", set_one("i", "j"))), arrays={"X": (100, 100)})
    table = first(p)
    assert table.instances[0, 0] == 5050
    assert table.trip[0, 0, :2].tolist() == [100, 50.5]
    assert table.imbalance[0, 0, 0] == pytest.approx(2, rel=0.05)


def test_a_tiled_triangle_is_counted_exactly():
    inner = loop("j", ("j_t", 0), ("j_t + 7", "i"), set_one("i", "j"))
    middle = loop("i", ("i_t", "j_t"), ("i_t + 7", 49), inner)
    tiles = loop("i_t", 0, 49, loop("j_t", 0, ("i_t + 7", 49), middle, step=8), step=8)
    table = first(program(tiles, arrays={"X": (50, 50)}))
    assert table.instances[0, 0] == 50 * 51 / 2


@pytest.mark.parametrize("n", [40, 700])
def test_a_tetrahedron_is_counted_well_whichever_way_its_loops_are_nested(n):
    up = loop("i", 0, n - 1, loop("j", 0, "i", loop("k", 0, "j", set_one("i", "j", "k"))))
    down = loop("k", 0, n - 1, loop("j", "k", n - 1, loop("i", "j", n - 1, set_one("i", "j", "k"))))
    exact = n * (n + 1) * (n + 2) / 6
    for tree in (up, down):
        got = first(program(tree, arrays={"X": (n, n, n)})).instances[0, 0]
        assert got == pytest.approx(exact, rel=1e-9 if n == 40 else 2e-4)


def test_a_skewed_loop_moves_with_the_loop_it_is_skewed_by():
    p = program(
        loop("i", 0, 9, loop("j", "i", "i + 19", set_one("i", "j - i"))), arrays={"X": (10, 20)}
    )
    table = first(p)
    assert table.instances[0, 0] == 200
    assert table.coef[0, 0, 0, 2:, :2].tolist() == [[1, 0], [0, 1]]


def after(p: Program, schedule: str) -> Program:
    for step in parse_schedule(schedule).steps:
        p = apply(p, step)
    return p


@pytest.mark.parametrize(
    "schedule",
    ["tile j 5; tile k 24", "tile i 16; tile j 4; tile k 8", "tile i 100 j 8; tile k 12"],
)
def test_a_large_tetrahedron_is_counted_alike_however_it_is_tiled(schedule):
    inner = loop("j", 0, "i", loop("k", 0, "j", set_one("i", "j", "k")))
    p = program(loop("i", 0, 399, inner), arrays={"X": (400, 400, 400)})
    table = lower([p, after(p, schedule)])
    assert table.total_instances[1] == table.total_instances[0]
    assert table.total_instances[0] == pytest.approx(400 * 401 * 402 / 6, rel=1e-3)


def test_how_uneven_tiles_of_a_wavefront_are_is_known():
    p = program(loop("i", 0, 39, loop("j", 0, 39, set_one("i", "j"))), arrays={"X": (40, 40)})
    tiled = after(p, "skew j i 1; interchange i j; tile j 8 i 8")
    (tiles,) = tiled.body
    work = [sum(instances(tiles.body, {"j_t": first}).values()) for first in range(0, 79, 8)]
    assert lower([tiled]).imbalance[0, 0, 0] == pytest.approx(max(work) / np.mean(work))


def test_a_large_skewed_nest_is_counted_exactly():
    inner = loop("k", "j", "j + 99", set_one("i", "j - i", "k - j"))
    tree = loop("i", 0, 999, loop("j", "i", "i + 998", inner))
    table = first(program(tree, arrays={"X": (1000, 1000, 100)}))
    assert table.trip[0, 0, :3].tolist() == [1000, 999, 100]


def test_a_wavefront_keeps_its_raw_coefficients():
    inner = loop("i", (0, "j - 19"), (9, "j"), set_one("i", "j - i"))
    table = first(program(loop("j", 0, 28, inner), arrays={"X": (10, 20)}))
    assert table.instances[0, 0] == 200
    assert table.coef[0, 0, 0, 2:, :2].tolist() == [[0, 1], [1, -1]]


def recurrences(store, load, *loops, instance="i"):
    node = statement("S0", store, "", plus(load, Literal("1.0")), *loops)
    for name in reversed(loops):
        node = loop(name, 1, 8, node)
    p = program(node, arrays={"X": (10, 10), "Y": (10, 10), "x": (10,)})
    return first(p).recurrence[0, 0, : len(loops)].tolist()


def test_a_value_read_from_the_previous_iteration_is_a_recurrence_of_that_loop():
    assert recurrences(at("x", "i"), read("x", "i - 1"), "i") == [True]
    assert recurrences(at("X", "i", "j"), read("X", "i - 1", "j"), "i", "j") == [True, False]
    assert recurrences(at("X", "i", "j"), read("X", "i", "j - 1"), "i", "j") == [False, True]
    assert recurrences(at("X", "i", "j"), read("X", "i - 1", "j + 1"), "i", "j") == [True, False]


def test_an_even_store_and_an_odd_load_are_no_recurrence():
    assert recurrences(at("x", "2*i"), read("x", "2*i - 1"), "i") == [False]


def test_an_update_in_place_repeats_along_loops_that_do_not_move_it():
    assert recurrences(at("x", "i"), read("x", "i"), "t", "i") == [True, False]


def test_a_wavefront_frees_the_inner_loop_of_a_stencil_in_place():
    value = plus(read("X", "i - 1", "j - i"), read("X", "i", "j - i - 1"))
    s = statement("S0", at("X", "i", "j - i"), "", value, "i", "j - i")
    inner = loop("i", (1, "j - 19"), (9, "j - 1"), s)
    table = first(program(loop("j", 2, 28, inner), arrays={"X": (10, 20)}))
    assert table.recurrence[0, 0, :2].tolist() == [True, False]


def test_a_temporary_that_outlives_its_iteration_is_a_recurrence():
    value = plus(times(read("t"), Literal("0.5")), read("x", "i"))
    s = statement("S0", at("t"), "", value, "i")
    temporaries = (Temporary("t", DType.F64, 0),)
    p = program(loop("i", 0, 9, s), arrays={"x": (10,)}, temporaries=temporaries)
    assert first(p).recurrence[0, 0, 0]


def test_operations_are_counted_by_kind_and_type():
    call = Call("sqrt", (Binary("/", read("a", "i"), Read(at("s"))),))
    s = statement("S0", at("a", "i"), "+", call, "i")
    p = program(
        loop("i", 0, 9, s), arrays={"a": (10,)}, dtype=DType.F32, scalars=(Scalar("s", DType.F32),)
    )
    table = first(p)
    # add in double, div in float, sqrt in double
    assert table.ops[0, 0, :6].tolist() == [1, 0, 1, 1, 0, 0]
    assert (table.float_bytes[0, 0], table.element_bytes[0, 0, 0]) == (8, 4)
    assert table.float_target[0, 0]


def test_integer_arithmetic_has_no_float_width():
    p = program(
        loop("i", 0, 9, statement("S0", at("a", "i"), "", plus(read("b", "i"), Literal("3")), "i")),
        arrays={"a": (10,), "b": (10,)},
        dtype=DType.U8,
    )
    table = first(p)
    assert (table.float_bytes[0, 0], table.lane_bytes[0, 0]) == (0, 4)
    assert table.ops[0, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0]


def test_the_points_of_a_stencil_are_one_group_with_a_span():
    value = plus(plus(read("X", "i - 1", "j"), read("X", "i + 1", "j")), read("X", "i", "j - 1"))
    s = statement("S0", at("Y", "i", "j"), "", value, "i", "j")
    p = program(loop("i", 1, 8, loop("j", 1, 8, s)), arrays={"X": (10, 10), "Y": (10, 10)})
    table = first(p)
    assert table.leader[0, 0, :5].tolist() == [True, True, False, False, False]
    assert table.span[0, 0, 1].tolist() == [0, 0, 2, 1]


def test_accesses_beyond_the_table_weigh_on_their_group():
    value = read("X", "i")
    for offset in range(1, 14):
        value = plus(value, read("X", f"i + {offset}"))
    p = program(
        loop("i", 0, 9, statement("S0", at("Y", "i"), "", value, "i")),
        arrays={"X": (30,), "Y": (10,)},
    )
    table = first(p)
    assert table.weight[0, 0].sum() == 15
    assert table.weight[0, 0, 1] == 6


def test_only_the_heaviest_statements_are_kept_and_all_are_counted():
    heavy = [loop(f"i{k}", 0, 99, set_one(f"i{k}", name=f"H{k}")) for k in range(4)]
    p = program(*heavy[:2], set_one(0, name="L"), *heavy[2:], arrays={"X": (100,)})
    table = first(p)
    assert table.instances[0].tolist() == [100] * 4
    assert (table.total_instances[0], table.statements[0]) == (401, 5)
    assert table.share[0].sum() == pytest.approx(1)


def test_the_outermost_loops_of_a_very_deep_nest_are_merged():
    names = [f"i{k}" for k in range(LOOPS + 2)]
    node = set_one(names[-1])
    for name in reversed(names):
        node = loop(name, 0, 1, node)
    table = first(program(node, arrays={"X": (2,)}))
    assert table.instances[0, 0] == 2 ** (LOOPS + 2)
    assert table.trip[0, 0].tolist() == [8] + [2] * (LOOPS - 1)
    assert table.coef[0, 0, 0, 3, LOOPS - 1] == 1


def test_an_array_of_many_dimensions_keeps_its_strides():
    s = set_one("i", "j", 0, 0, "k")
    p = program(loop("i", 0, 1, loop("j", 0, 2, loop("k", 0, 6, s))), arrays={"X": (2, 3, 4, 5, 7)})
    table = first(p)
    strides = np.einsum("dl,d->l", table.coef[0, 0, 0], table.row_bytes[0, 0, 0])
    assert strides[:3].tolist() == [3 * 4 * 5 * 7 * 8, 4 * 5 * 7 * 8, 8]


def test_statements_share_the_loops_around_both():
    both = loop(
        "i",
        0,
        9,
        set_one("i"),
        loop("j", 0, 9, set_one("j", name="S1")),
        loop("k", 0, 9, set_one("k", name="S2")),
    )
    ids = first(program(both, arrays={"X": (10,)})).loop_id[0]
    assert ids[0, 0] == ids[1, 0] == ids[2, 0]
    assert ids[1, 1] != ids[2, 1]


def test_concat_puts_tables_one_after_another():
    table = concat([lower([gemm(8), gemm(9)]), lower([gemm(10)])])
    assert len(table) == 3
    assert table.trip[:, 0, 0].tolist() == [8, 9, 10]


def test_a_program_lowers_alike_alone_and_in_company():
    company, alone = lower([gemm(50, tile=16), gemm(50)]), lower([gemm(50)])
    assert company.coef[1].tolist() == alone.coef[0].tolist()
    assert company.trip[1].tolist() == alone.trip[0].tolist()


def test_a_loop_whose_step_does_not_divide_the_outer_one_runs_through_no_tiles():
    inner = loop("j", "i + 1", "i + 2", set_one("j"), step=2)
    nest = loop("i", 0, 8, inner, step=3)
    table = first(program(nest, arrays={"X": (20,)}))
    assert table.instances[0, 0] == instances((nest,))["S0"] == 3


@st.composite
def bounded_loops(draw, around: tuple[str, ...]):
    """One loop with bounds that may name the loops around it."""
    name = f"i{len(around)}"
    low, high = affine(draw(st.integers(-3, 3))), affine(draw(st.integers(2, 9)))
    for outer in around:
        low = low + affine(outer) * draw(st.sampled_from([0, 0, 0, 1, -1]))
        high = high + affine(outer) * draw(st.sampled_from([0, 0, 0, 1, -1]))
    upper = (Bound(high), Bound(affine(draw(st.integers(3, 12)))))[: draw(st.integers(1, 2))]
    return Loop(name, (Bound(low, draw(st.integers(1, 2))),), upper, draw(st.integers(1, 3)), ())


@st.composite
def trees(draw, around: tuple[str, ...] = ()):
    made = draw(bounded_loops(around))
    inner = (*around, made.iterator)
    if len(inner) < 4 and draw(st.booleans()):
        return replace(made, body=(draw(trees(inner)),))
    return replace(made, body=(set_one(inner[-1], name=f"S{len(inner)}"),))


@settings(deadline=None, max_examples=150)
@given(trees())
def test_random_nests_are_counted_as_running_them_counts(tree):
    table = lower([program(tree, arrays={"X": (20,)})])
    exact = instances((tree,))
    ((around, _),) = statements((tree,))
    assert table.total_instances[0] == pytest.approx(sum(exact.values()), rel=1e-9)
    if exact:
        product = table.trip[0, 0, : len(around)].prod()
        assert product == pytest.approx(sum(exact.values()), rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(5, 40), st.integers(2, 12), st.integers(2, 5), st.integers(0, 3))
def test_tiling_twice_changes_no_count(n, outer, inner, low):
    outer *= inner
    s = set_one("i")
    twice = loop(
        "i_t_t", low, n,
        loop(
            "i_t", (low, "i_t_t"), (n, f"i_t_t + {outer - 1}"),
            loop("i", (low, "i_t"), (n, f"i_t + {inner - 1}"), s),
            step=inner,
        ),
        step=outer,
    )  # fmt: skip
    table = first(program(twice, arrays={"X": (64,)}))
    assert table.instances[0, 0] == pytest.approx(instances((twice,))["S0"], rel=1e-12)


def test_what_is_known_of_other_schedules_changes_no_table() -> None:
    versions = [version for _, version in candidate_schedules(gemm(40), 60)]
    known = Geometry()
    parts = [lower(versions[start : start + 7], known) for start in range(0, len(versions), 7)]
    alone = [lower([version]) for version in versions]
    for name in FIELDS:
        for tables in (parts, [lower(versions, known)]):
            found = np.concatenate([getattr(t, name) for t in tables])
            assert np.array_equal(found, np.concatenate([getattr(t, name) for t in alone])), name


def test_a_nest_is_counted_once_whatever_marks_it_has(monkeypatch) -> None:
    plain = apply(gemm(40), parse_schedule("tile i 8 j 8").steps[0])
    marked = [apply(plain, parse_schedule(text).steps[0]) for text in ("vectorize k", "jam i 2")]
    known = Geometry()
    lower([plain], known)
    monkeypatch.setattr(counting, "enter", None)
    assert lower(marked, known).vector.any()
