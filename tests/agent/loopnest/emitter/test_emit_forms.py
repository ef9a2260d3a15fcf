"""Conditions, derived numbers, tables and integer types of every width in emitted C."""

from dataclasses import replace

import pytest

from agent.loopnest.emitter.emit import emit
from agent.loopnest.program import Binary, Cast, Literal, Program, Statement
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from tests.agent.loopnest.emitter.test_emit import GOLDEN, REGENERATE, compiles
from tests.agent.loopnest.forms import FORMS, I64, index, less, put, when
from tests.agent.loopnest.nests import at, loop, program, read

CASES = {
    "conditional": ("conditional", "original"),
    "conditional_shared": ("conditional", "tile i 8 j 16; parallelize i_t; interchange i j_t"),
    "conditional_simd": ("conditional", "tile i 8; parallelize i_t; vectorize j"),
    "histogram": ("histogram", "interchange i j; jam j 2"),
    "halves": ("halves", "parallelize i; skew k t 1"),
    "table": ("table", "interchange r i; parallelize g"),
    "clipped": ("clipped", "parallelize i; vectorize j"),
}


def build(name: str, schedule: str) -> Program:
    return transform(FORMS[name], parse_schedule(schedule))


@pytest.mark.parametrize("name", CASES)
def test_emitted_c_is_the_golden_file(name: str) -> None:
    text = emit(build(*CASES[name]))
    path = GOLDEN / f"{name}.c"
    if REGENERATE:
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_emitted_c_compiles_without_warnings(name: str) -> None:
    compiles(emit(build(*CASES[name])))


LIMITED = less(read("x", "i"), Literal("5"))


def one_loop(*body: Statement) -> str:
    return emit(program(loop("i", 0, 9, *body), arrays={"x": (10,), "y": (10,), "s": (1,)}))


def test_neighbours_share_one_if_while_nothing_changes_what_it_reads() -> None:
    same = when(LIMITED, *(put(n, at("y", "i"), "+", Literal("1"), "i") for n in ("S0", "S1")))
    assert one_loop(*same).count("if (") == 1
    changing = when(LIMITED, put("S0", at("x", "i"), "", Literal("1"), "i"))
    assert one_loop(*changing, *same).count("if (") == 2


def test_a_reduction_under_a_condition_is_held_only_for_a_clause() -> None:
    (update,) = when(LIMITED, put("S0", at("s", "0"), "+", Literal("1"), "i"))
    nest = loop("i", 0, 9, update)
    plain = program(nest, arrays={"x": (10,), "s": (1,)})
    assert "acc" not in emit(plain)
    assert "reduction(+:acc)" in emit(plain.with_body((replace(nest, vector=True),)))


def test_a_condition_that_reads_the_sum_keeps_it_in_memory() -> None:
    (update,) = when(
        less(read("s", "0"), Literal("5")), put("S0", at("s", "0"), "+", Literal("1"), "i")
    )
    assert "acc" not in one_loop(update)


def test_a_wide_value_is_not_cut_to_an_int() -> None:
    value = Binary("*", Cast(I64, index("3000000000*i")), Literal("2"))
    text = one_loop(put("S0", at("y", "i"), "", value, "i"))
    assert "y[i] = (int64_t)(3000000000 * i) * 2;" in text
