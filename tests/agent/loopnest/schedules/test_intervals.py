"""What intervals show of a dependence, beside what isl finds."""

import itertools

import pytest

from agent.loopnest.program import Program
from agent.loopnest.schedules import legality
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.dependence import Dependences, common_depth
from agent.loopnest.schedules.intervals import FAR, never
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from tests.agent.loopnest.nests import at, gemm, loop, plus, program, read, statement
from tests.agent.loopnest.schedules.test_candidates import JACOBI, sweeps
from tests.agent.loopnest.schedules.test_legality import jacobi, row_sums

AHEAD = {"=": (0, 0), "<": (1, FAR), ">": (-FAR, -1)}
TIME_TILES = "skew i t 1; tile t 8 i 8; skew i_t t_t 1; interchange t_t i_t"


def in_place() -> Program:
    """In place, again and again: every point from its neighbours."""
    value = plus(plus(read("x", "i - 1"), read("x", "i")), read("x", "i + 1"))
    body = statement("S", at("x", "i"), "", value, "t", "i")
    return program(loop("t", 0, 40, loop("i", 1, 60, body)), arrays={"x": (62,)})


def test_what_intervals_say_never_happens_isl_does_not_find_either() -> None:
    seen = {True: 0, False: 0}
    for base in (in_place(), jacobi(), gemm(40), row_sums(1), sweeps(JACOBI, n=300)):
        dependences = Dependences.of(base)
        for _, version in candidate_schedules(base, 40):
            order = legality._Order(version, dependences)
            for item in dependences.items:
                source, target = order.ends(item)
                shared = common_depth(source.around, target.around)
                pairs = order._as_written(source).apply_range(item.relation)
                pairs = pairs.apply_range(order._as_written(target).reverse())
                sizes = len(source.around), len(target.around)
                for level, sign in itertools.product(range(shared), "<>"):
                    signs = ["="] * level + [sign]
                    ahead = {n: AHEAD[s] for n, s in enumerate(signs)}
                    spread = order.spread(item)
                    said = never(item.distance, source, target, shared, ahead, spread)
                    seen[said] += 1
                    if said:
                        question = [f"a{n} {s} b{n}" for n, s in enumerate(signs)]
                        bad = pairs.intersect(dependences.pairs(sizes, question))
                        assert bad.is_empty(), (version, item, question)
    assert min(seen.values()) > 300


@pytest.mark.parametrize("schedule", [TIME_TILES, f"{TIME_TILES}; parallelize t_t"])
def test_tiles_in_time_are_found_legal_without_isl(schedule, monkeypatch) -> None:
    dependences = Dependences.of(in_place())
    with monkeypatch.context() as patched:
        patched.setattr(legality, "affine_map", None)
        transform(in_place(), parse_schedule(schedule), dependences)
