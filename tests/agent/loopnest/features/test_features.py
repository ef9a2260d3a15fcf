import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from agent.loopnest.features.nest import concat, lower
from agent.loopnest.features.vector import (
    BOUND,
    COLUMNS,
    FEATURES,
    features,
    is_guess,
    work,
)
from agent.loopnest.program import DType, Literal, Program, Temporary
from agent.loopnest.schedules.schedule import Interchange, Jam, Pack, Vectorize
from agent.loopnest.schedules.transform import apply
from tests.agent.loopnest.features.test_nest import trees
from tests.agent.loopnest.nests import at, gemm, loop, plus, program, read, statement


def of(p: Program) -> dict[str, float]:
    return dict(zip(FEATURES, features(lower([p]))[0].tolist(), strict=True))


def copy(stride: str = "i", n: int = 1024, **marks) -> Program:
    """Y[i] = X[stride], one loop."""
    s = statement("S0", at("Y", "i"), "", read("X", stride), "i")
    return program(loop("i", 0, n - 1, s, **marks), arrays={"X": (n * 4096,), "Y": (n,)})


def column(n: int, row: int) -> Program:
    """Walk a matrix with rows of this many doubles by column."""
    s = statement("S0", at("Y", "j"), "+", read("X", "i", "j"), "j", "i")
    return program(loop("j", 0, 63, loop("i", 0, n - 1, s)), arrays={"X": (n, row), "Y": (64,)})


def test_names_are_unique_and_match_the_columns():
    assert len(set(FEATURES)) == len(FEATURES)
    assert features(lower([gemm(8)])).shape == (1, len(FEATURES))
    assert FEATURES[: len(COLUMNS)] == COLUMNS


def test_no_programs_have_no_features():
    assert features(lower([])).shape == (0, len(FEATURES))


def test_features_of_a_program_do_not_depend_on_its_company():
    company = [gemm(40), gemm(64, tile=16), two_statements(), copy("2*i"), column(64, 512)]
    together = features(lower(company))
    for k, p in enumerate(company):
        assert together[k] == pytest.approx(features(lower([p]))[0], rel=1e-4, abs=1e-4)


def test_tiling_lowers_the_traffic_into_small_caches():
    plain, tiled = of(gemm(1024, "ikj")), of(gemm(1024, "ikj", tile=32))
    assert tiled["traffic_32k"] < plain["traffic_32k"] - 1
    assert tiled["traffic_1m"] < plain["traffic_1m"] - 1


def test_a_cache_that_holds_everything_sees_each_line_once():
    small = of(gemm(64))
    assert 2 ** small["traffic_16m"] * 64**3 == pytest.approx(3 * 64 * 64 * 8, rel=0.05)


def test_streaming_moves_its_bytes_through_every_cache():
    seen = of(copy(n=2**20))
    for size in ("8k", "1m"):
        assert 2 ** seen[f"traffic_{size}"] == pytest.approx(16, rel=0.05)


def test_a_larger_cache_never_has_more_traffic():
    for p in (gemm(300), gemm(300, tile=32), column(500, 512)):
        found = of(p)
        series = [found[n] for n in COLUMNS if n.startswith("traffic_") and "sets" not in n]
        assert all(a >= b - 1e-3 for a, b in itertools.pairwise(series))


def test_interchange_to_unit_stride_shows_in_the_stride_classes():
    bad, good = of(gemm(512, "ijk")), of(gemm(512, "ikj"))
    assert bad["loads_far_0"] + bad["loads_page_0"] > 0
    assert good["loads_far_0"] + good["loads_page_0"] == 0
    assert good["loads_unit_0"] > bad["loads_unit_0"]


@pytest.mark.parametrize(
    ("stride", "kind"),
    [("0", "none"), ("i", "unit"), ("2*i", "near"), ("9*i", "far"), ("513*i", "page")],
)
def test_a_stride_has_its_class(stride, kind):
    assert of(copy(stride))[f"loads_{kind}_0"] == 1


def test_power_of_two_rows_press_on_few_sets():
    power, odd = of(column(192, 2048)), of(column(192, 2056))
    assert power["set_lines_l1_1"] > odd["set_lines_l1_1"] + 3
    assert power["traffic_sets_l1"] > odd["traffic_sets_l1"] + 1
    assert power["loads_power_0"] == 1
    assert odd["loads_power_0"] == 0


def test_a_walk_by_column_touches_a_page_each():
    assert 2 ** of(column(192, 2048))["pages_inner_1"] == pytest.approx(194, abs=1)
    assert of(column(192, 2048))["page_walks_64"] > of(column(32, 2048))["page_walks_64"] + 3


def test_contiguous_code_is_vectorised_by_itself_and_strided_code_is_not():
    assert of(copy())["simd_auto"] == 1
    assert of(copy("2*i"))["simd_auto"] == 0
    assert of(copy("2*i"))["simd_auto_strided"] == 1
    assert of(copy("2*i", vector=True))["simd_forced_strided"] == 1


def test_a_float_sum_is_vectorised_only_by_order():
    plain, forced = of(gemm(64, "ijk")), of(gemm(64, "ijk", k={"vector": True}))
    assert plain["scalar_sum"] == 1
    assert plain["simd_auto"] == 0
    assert forced["simd_forced_sum"] == 1
    assert forced["latency_sum"] < plain["latency_sum"]


def test_an_integer_sum_is_vectorised_by_itself():
    s = statement("S0", at("Y", 0), "+", read("X", "i"), "i")
    p = program(loop("i", 0, 99, s), arrays={"X": (100,), "Y": (1,)}, dtype=DType.I32)
    assert of(p)["simd_auto"] == 1
    assert of(p)["integer_sum"] == 1


def test_a_carried_value_keeps_code_scalar():
    s = statement("S0", at("X", "i"), "", plus(read("X", "i - 1"), Literal("1.0")), "i")
    found = of(program(loop("i", 1, 99, s), arrays={"X": (100,)}))
    assert found["simd_auto"] == 0
    assert found["recurrence_0"] == 1
    assert found["latency_carried"] == 2


def test_narrow_types_fill_wide_lanes_worse_in_short_loops():
    assert of(copy(n=9))["lanes_filled_64"] > of(copy(n=8))["lanes_filled_64"]
    wide, narrow = of(gemm(64, "ikj")), of(gemm(64, "ikj", dtype=DType.F32))
    assert narrow["cycles_32"] < wide["cycles_32"]


def test_a_parallel_loop_inside_forks_often():
    outer = of(gemm(64, i={"parallel": True}))
    inner = of(gemm(64, j={"parallel": True}))
    assert (outer["parallel_forks"], inner["parallel_forks"]) == (0, 6)
    assert inner["fork_share"] > outer["fork_share"]
    assert outer["parallel_work"] - inner["parallel_work"] == pytest.approx(6)
    assert of(gemm(64))["parallel"] == 0


def test_threads_that_store_side_by_side_share_lines():
    assert of(copy(n=32, parallel=True))["false_sharing"] == 1
    assert of(copy(n=32))["false_sharing"] == 0
    assert of(copy(n=65536, parallel=True))["false_sharing"] == 0


def test_a_parallel_triangle_is_uneven():
    s = statement("S0", at("X", "i", "j"), "", Literal("1.0"), "i", "j")
    tri = loop("i", 0, 99, loop("j", 0, "i", s), parallel=True)
    assert of(program(tri, arrays={"X": (100, 100)}))["parallel_uneven"] > 0.9


def test_jamming_and_unrolling_are_seen():
    found = of(gemm(64, i={"jam": 4}, k={"unroll": 8}))
    assert (found["jam"], found["unroll"], found["copies"]) == (2, 3, 5)
    assert found["latency_sum"] == 0  # four chains side by side


def two_statements(fused: bool = True) -> Program:
    one = statement("S0", at("Y", "i"), "", read("X", "i"), "i")
    two = statement("S1", at("Z", "i"), "", read("Y", "i"), "i")
    other = statement("S1", at("Z", "k"), "", read("Y", "k"), "k")
    apart = (loop("i", 0, 99, one), loop("k", 0, 99, other))
    body = (loop("i", 0, 99, one, two),) if fused else apart
    return program(*body, arrays={"X": (100,), "Y": (100,), "Z": (100,)})


def test_fusion_is_seen():
    fused, apart = of(two_statements()), of(two_statements(fused=False))
    assert (fused["fused_depth"], fused["fused_whole"], fused["fused_arrays"]) == (1, 1, 1)
    assert (apart["fused_depth"], apart["fused_whole"]) == (0, 0)
    assert apart["fused_reuse_bytes"] > fused["fused_reuse_bytes"]


def test_statements_count_by_their_share_of_the_work():
    light = statement("S1", at("Y", "i"), "", Literal("0.0"), "i")
    p = gemm(64)
    q = Program(p.name, (*p.arrays, *copy().arrays), (), (), (*p.body, loop("i", 0, 9, light)))
    assert of(q)["heaviest_depth"] == 3
    assert of(q)["depth"] == pytest.approx(3, abs=0.01)


def test_work_is_the_same_for_all_schedules():
    tables = lower([gemm(50), gemm(50, "kij"), gemm(50, tile=16), gemm(50, i={"parallel": True})])
    assert np.ptp(work(tables)) < 1e-9


def test_a_statement_without_arrays_has_features():
    s = statement("S0", at("t"), "+", Literal("1.0"), "i")
    p = program(loop("i", 0, 9, s), arrays={"A": (4,)}, temporaries=(Temporary("t", DType.F64, 0),))
    together = features(concat([lower([p]), lower([gemm(8)])]))
    assert np.isfinite(together).all()


def test_an_empty_loop_and_huge_loops_have_bounded_features():
    s = statement("S0", at("X", "i", "j"), "", Literal("1.0"), "i", "j")
    none = program(loop("i", 5, 2, loop("j", 0, 9, s)), arrays={"X": (10, 10)})
    n = 10**9
    huge = program(loop("i", 0, n, loop("j", 0, n, s, jam=16, unroll=64)), arrays={"X": (n, n)})
    found = features(lower([none, huge]))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= BOUND


@settings(deadline=None, max_examples=100)
@given(trees())
def test_features_of_random_nests_are_finite_and_bounded(tree):
    found = features(lower([program(tree, arrays={"X": (20,)})]))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= BOUND


def test_a_program_is_no_guess_where_the_bundle_was_taught_all_its_marks():
    tile = apply(apply(gemm(40), Vectorize("j", 8)), Jam("i", 4))
    packed = apply(apply(apply(gemm(40), Interchange("i", "j")), Pack("B", "j")), Vectorize("i", 8))
    assert not is_guess(gemm(40))
    assert is_guess(tile)
    assert not is_guess(tile, frozenset({"lanes"}))
    assert is_guess(packed, frozenset({"lanes"}))
    assert not is_guess(packed, frozenset({"lanes", "packs"}))
