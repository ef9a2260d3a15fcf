import random
from dataclasses import replace

import numpy as np
import pytest

from agent.loopnest.features.nest import lower
from agent.loopnest.program import Affine, DType, Program
from agent.loopnest.schedules import transform
from agent.loopnest.schedules.schedule import parse_schedule
from bundles.corpus.corpus import random_program
from bundles.corpus.finishing import finish
from bundles.corpus.sketch import Sketch
from bundles.corpus.writing import assign, at, binary, get, literal, loop, nest
from bundles.simulator.machines import SimulatedMachine, sample_machines
from bundles.simulator.simulate import simulate
from bundles.simulator.traffic import L1_BYTES, L2_BYTES, cache_traffic, simulated_rows

FLEET = sample_machines(np.random.default_rng(7), 48)
ONE = replace(FLEET[0], cores=1.0, autovec=1.0, reassociate=0.0, peel=1.0, simd=32.0)
MANY = replace(ONE, cores=8.0, memory_scaling=3.0, fork_us=3.0, fork_core_us=0.2, scaling=0.95)


def program(*body, **types: DType) -> Program:
    sketch = Sketch(random.Random(1), DType.F32, 1.0)
    sketch.types.update(types)
    return replace(finish(sketch, "p", body), name="p")


def gemm(n: int, dtype: DType = DType.F32) -> Program:
    multiply = assign(at("C", "i", "j"), binary("*", get("A", "i", "k"), get("B", "k", "j")), "+")
    return program(nest([("i", n), ("j", n), ("k", n)], multiply), A=dtype, B=dtype, C=dtype)


def axpy(n: int, repeat_over: int = 1) -> Program:
    add = assign(at("B", "t", "i"), get("A", "t", "i"), "+")
    return program(nest([("t", repeat_over), ("i", n)], add), A=DType.F32, B=DType.F32)


def scheduled(base: Program, text: str) -> Program:
    for step in parse_schedule(text).steps:
        base = transform.apply(base, step)
    return base


def gain(base: Program, text: str, machines=FLEET) -> float:
    times = simulate(lower([base, scheduled(base, text)]), tuple(machines))
    return float(np.exp(np.median(times[0] - times[1])))


def seconds(base: Program, machine: SimulatedMachine) -> float:
    return float(np.exp(simulate(lower([base]), (machine,))[0, 0]))


def test_times_of_the_corpus_are_finite_and_plausible() -> None:
    rng = random.Random(0)
    table = lower([random_program(rng) for _ in range(200)])
    times = np.exp(simulate(table, FLEET))
    assert times.shape == (200, 48)
    assert np.isfinite(times).all()
    assert (times > 1e-8).all()
    assert (times < 60).all()


def test_no_programs_give_no_times() -> None:
    assert simulate(lower([]), FLEET).shape == (0, 48)


def test_a_matrix_product_is_faster_with_unit_stride_inside() -> None:
    literal = [m for m in FLEET if not m.interchange]  # compilers that leave loops in their order
    assert gain(gemm(256), "interchange j k", literal) > 1.5
    assert gain(gemm(256), "interchange i k", literal) < 1.0


def test_tiling_helps_a_large_matrix_product_and_not_a_tiny_one() -> None:
    small_cache = replace(ONE, l2=256 * 1024.0, l3=256 * 1024.0)
    large, tiny = (scheduled(gemm(n), "interchange j k") for n in (1024, 16))
    assert gain(large, "tile i 32 k 32", [small_cache]) > 1.1
    assert gain(tiny, "tile i 4 k 4", [small_cache]) < 1.0


def test_threads_help_large_work_and_hurt_tiny_work() -> None:
    assert 3 < gain(gemm(512), "parallelize i", [MANY]) <= 8.5
    assert gain(axpy(512), "parallelize i", [MANY]) < 0.7
    assert gain(gemm(512), "parallelize i", [ONE]) == pytest.approx(1.0, abs=0.1)


def test_forking_in_an_inner_loop_is_worse_than_outside() -> None:
    assert gain(gemm(128), "parallelize i", [MANY]) > gain(gemm(128), "parallelize j", [MANY])


def test_streaming_threads_are_limited_by_memory_bandwidth() -> None:
    base = axpy(16_000_000)
    assert 1.5 < gain(base, "parallelize i", [MANY]) < 4


def test_vectorising_a_float_sum_needs_to_be_asked_for() -> None:
    total = assign(at("S", "i"), binary("*", get("A", "i", "j"), get("A", "i", "j")), "+")
    rows = program(nest([("i", 64), ("j", 64)], total), A=DType.F32, S=DType.F32)
    assert gain(rows, "vectorize j", [ONE]) > 2
    fast_math = replace(ONE, reassociate=1.0)
    assert gain(rows, "vectorize j", [fast_math]) == pytest.approx(1.0, abs=0.05)


def test_vectorising_a_unit_stride_map_changes_nothing_where_the_compiler_does_it() -> None:
    assert gain(axpy(2048), "vectorize i", [ONE]) == pytest.approx(1.0, abs=0.05)
    assert gain(axpy(2048), "vectorize i", [replace(ONE, autovec=0.0)]) > 1.5


def test_wider_vectors_are_faster_on_data_in_cache() -> None:
    base = axpy(2048)
    assert seconds(base, ONE) < 0.8 * seconds(base, replace(ONE, simd=8.0))


def test_a_recurrence_is_bound_by_latency() -> None:
    step = binary("*", literal(DType.F32, 0.5), get("A", "i", "j"))
    chain = assign(at("A", "i", "j"), step)
    plain = program(nest([("i", 64), ("j", 512)], chain), A=DType.F32)
    carried = program(
        nest([("i", 64), ("j", 512)], assign(at("A", "i", Affine.var("j") + 1), step)),
        A=DType.F32,
    )
    assert seconds(carried, ONE) > 4 * seconds(plain, ONE)


def test_walking_down_columns_of_power_of_two_pitch_is_slower() -> None:
    def columns(width: int) -> Program:
        move = assign(at("B", "j", "i"), get("A", "i", "j"))
        sketch = program(nest([("j", 32), ("i", 256)], move), A=DType.F64, B=DType.F64)
        a, b = sketch.arrays
        arrays = tuple(
            replace(x, shape=(x.shape[0], width)) if x.name == "A" else x for x in (a, b)
        )
        return replace(sketch, arrays=arrays)

    table = lower([columns(4096), columns(4104)])
    rows = simulated_rows(table)
    moved = cache_traffic(table, rows)
    lines = moved.stream[0] + moved.jump[0]
    at_32k = int(np.argmin(np.abs(L1_BYTES - 32 * 1024)))
    assert lines[0, at_32k] > 1.5 * lines[1, at_32k]


def test_a_program_that_fits_a_cache_moves_nothing_into_it() -> None:
    table = lower([axpy(512), axpy(8_000_000)])
    moved = cache_traffic(table, simulated_rows(table))
    assert moved.stream[1][0, -1] < 1
    everything = 2 * 8_000_000 * 4 / 64
    assert moved.stream[1][1, len(L2_BYTES) // 2] == pytest.approx(1.5 * everything, rel=0.05)


def test_traffic_never_grows_with_the_cache() -> None:
    rng = random.Random(3)
    table = lower([random_program(rng) for _ in range(150)])
    moved = cache_traffic(table, simulated_rows(table))
    for level in (*moved.stream, *moved.jump, moved.pages):
        assert (np.diff(level, axis=1) <= 1e-3 * (1 + level[:, :1])).all()


def test_a_triangle_shared_among_threads_is_unbalanced() -> None:
    total = assign(at("S", "i"), binary("*", get("A", "i", "j"), get("A", "i", "j")), "+")
    triangle = program(
        loop("i", 1024, loop("j", Affine.var("i") + 1, total)), A=DType.F32, S=DType.F32
    )
    square = program(nest([("i", 1024), ("j", 512)], total), A=DType.F32, S=DType.F32)
    assert gain(triangle, "parallelize i", [MANY]) < gain(square, "parallelize i", [MANY])


def test_the_second_pass_over_a_short_row_comes_from_the_cache() -> None:
    def passes(shared: bool) -> float:
        sketch = Sketch(random.Random(1), DType.F32, 1.0)
        sketch.types.update(A=DType.F32, B=DType.F32, S=DType.F32, T=DType.F32)
        first = assign(at("S", "i"), get("A", "i", "j"), "+")
        second = assign(at("T", "i"), get("A" if shared else "B", "i", "k"), "+")
        body = loop("i", 20_000, loop("j", 1024, first), loop("k", 1024, second))
        return seconds(finish(sketch, "p", [body]), replace(ONE, reassociate=1.0))

    assert passes(shared=True) < 0.85 * passes(shared=False)


def test_machines_are_reproducible_and_diverse() -> None:
    again = sample_machines(np.random.default_rng(7), 48)
    assert again == FLEET
    assert len({m.cores for m in FLEET}) >= 4
    assert len({m.simd for m in FLEET}) >= 3
    assert all(m.l1 < m.l2 <= m.l3 for m in FLEET)
    assert all(1 <= m.memory_scaling <= m.cores for m in FLEET)


def test_simulation_does_not_depend_on_what_else_is_in_the_table() -> None:
    rng = random.Random(5)
    programs = [random_program(rng) for _ in range(20)]
    together = simulate(lower(programs), FLEET)
    alone = np.concatenate([simulate(lower([p]), FLEET) for p in programs])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_a_compiler_that_interchanges_leaves_nothing_to_gain_by_hand() -> None:
    plain, clever = (replace(ONE, interchange=x, outer=0.0) for x in (0.0, 1.0))
    assert gain(gemm(256), "interchange j k", [plain]) > 2
    assert gain(gemm(256), "interchange j k", [clever]) == pytest.approx(1.0, abs=0.05)
    assert gain(gemm(256), "vectorize k", [clever]) < 0.8  # the mark forbids it


def test_an_outer_loop_around_a_sum_is_vectorised_where_the_compiler_can() -> None:
    columns = assign(at("S", "j"), get("A", "i", "j"), "+")
    base = program(nest([("j", 128), ("i", 128)], columns), A=DType.F32, S=DType.F32)
    plain, clever = (replace(ONE, interchange=0.0, outer=x) for x in (0.0, 1.0))
    assert seconds(base, clever) < 0.5 * seconds(base, plain)


def test_short_inner_loops_are_unrolled_before_vectorising() -> None:
    taps = binary("*", get("A", Affine.of({"i": 1, "k": 1})), get("W", "k"))
    base = program(
        nest([("i", 4096), ("k", 5)], assign(at("S", "i"), taps, "+")),
        A=DType.F32, W=DType.F32, S=DType.F32,
    )  # fmt: skip
    plain, clever = (replace(ONE, interchange=0.0, outer=0.0, peel=x) for x in (1.0, 8.0))
    assert seconds(base, clever) < 0.4 * seconds(base, plain)


def convolution() -> Program:
    taps = binary(
        "*",
        get("A", "c", Affine.of({"i": 1, "k": 1}), Affine.of({"j": 1, "l": 1})),
        get("W", "c", "k", "l"),
    )
    loops = [("i", 64), ("j", 256), ("c", 32), ("k", 3), ("l", 3)]
    return program(
        nest(loops, assign(at("S", "i", "j"), taps, "+")),
        A=DType.F32, W=DType.F32, S=DType.F32,
    )  # fmt: skip


def test_a_loop_around_unrolled_ones_is_vectorised_unless_a_mark_keeps_them() -> None:
    gcc = replace(ONE, gcc=1.0, clang=0.0, outer=1.0, peel=16.0)
    base = convolution()
    assert seconds(base, gcc) < 0.5 * seconds(base, replace(gcc, outer=0.0))
    assert gain(base, "vectorize l", [gcc]) < 0.7
    assert gain(base, "parallelize j", [gcc]) < 0.7  # there it is a function of its own


def test_clang_unrolls_a_short_loop_whether_it_is_marked_or_not() -> None:
    clang = replace(ONE, gcc=0.0, clang=1.0, outer=0.0, interchange=0.0, peel=64.0)
    taps = binary("*", get("A", Affine.of({"i": 1, "k": 1})), get("W", "k"))
    base = program(
        nest([("i", 4096), ("k", 5)], assign(at("S", "i"), taps, "+")),
        A=DType.F32, W=DType.F32, S=DType.F32,
    )  # fmt: skip
    assert gain(base, "vectorize k", [clang]) == pytest.approx(1.0, abs=0.05)
    assert gain(base, "unroll k 2", [clang]) < 0.5


def test_pitches_near_a_power_of_two_crowd_few_sets_too() -> None:
    def columns(width: int) -> Program:
        add = assign(at("B", "j"), get("A", "i", "j"), "+")
        base = program(nest([("j", 64), ("i", 256)], add), A=DType.F32, B=DType.F32)
        arrays = tuple(
            replace(x, shape=(x.shape[0], width)) if x.name == "A" else x for x in base.arrays
        )
        return replace(base, arrays=arrays)

    table = lower([columns(4095), columns(3700)])
    moved = cache_traffic(table, simulated_rows(table))
    lines = moved.stream[0] + moved.jump[0]
    at_32k = int(np.argmin(np.abs(L1_BYTES - 32 * 1024)))
    assert lines[0, at_32k] > 1.3 * lines[1, at_32k]


def test_a_transposing_copy_is_left_in_its_order() -> None:
    gcc = replace(ONE, interchange=1.0, outer=0.0)
    copy = program(
        nest([("j", 512), ("i", 40)], assign(at("B", "i", "j"), get("A", "j", "i"))),
        A=DType.F32, B=DType.F32,
    )  # fmt: skip
    plain = seconds(copy, replace(gcc, interchange=0.0))
    assert seconds(copy, gcc) == pytest.approx(plain, rel=1e-6)


def test_short_sums_of_neighbouring_elements_overlap() -> None:
    square = binary("*", get("A", "i", "j"), get("A", "i", "j"))
    short, long = (
        program(nest([("i", n), ("j", 65_536 // n)], assign(at("S", "i"), square, "+")),
                A=DType.F32, S=DType.F32)
        for n in (4096, 16)
    )  # fmt: skip
    literal = replace(ONE, outer=0.0, interchange=0.0)
    blind = replace(literal, window=1.0)
    assert seconds(short, literal) < 0.7 * seconds(short, blind)
    assert seconds(long, literal) == pytest.approx(seconds(long, blind), rel=0.05)


def test_a_loop_that_turns_once_changes_nothing() -> None:
    base = gemm(64)
    multiply = assign(at("C", "i", "j"), binary("*", get("A", "i", "k"), get("B", "k", "j")), "+")
    wrapped = program(
        nest([("i", 64), ("j", 64), ("z", 1), ("k", 64)], multiply),
        A=DType.F32, B=DType.F32, C=DType.F32,
    )  # fmt: skip
    table = lower([base, wrapped])
    np.testing.assert_allclose(*simulate(table, FLEET), atol=0.02)


def test_a_block_of_sums_that_stays_in_registers_is_faster_than_a_loop_in_lanes() -> None:
    here = (replace(ONE, registers=16.0, outer=0.0, interchange=0.0),)
    product = gemm(240)
    in_lanes = gain(product, "interchange j k; vectorize j", here)
    held = gain(product, "vectorize j 16; jam i 4", here)
    assert held > 1.3 * in_lanes


def test_a_block_of_more_sums_than_registers_is_no_gain_over_one_that_fits() -> None:
    here = (replace(ONE, registers=16.0, outer=0.0, interchange=0.0),)
    product = gemm(240)
    fits = gain(product, "vectorize j 16; jam i 4", here)
    assert gain(product, "vectorize j 64; jam i 12", here) < 0.8 * fits


def test_large_last_level_caches_are_further_away() -> None:
    large = [m.l3_latency for m in FLEET if m.l3 > 64 << 20]
    small = [m.l3_latency for m in FLEET if m.l3 <= 32 << 20]
    assert np.median(large) > 1.5 * np.median(small)
