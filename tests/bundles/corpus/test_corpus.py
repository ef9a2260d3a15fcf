import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest

from agent.calibration.predictor import LEAST_WORK
from agent.loopnest.arithmetic import number_ranges
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import work
from agent.loopnest.program import DType, Loop, Node, Program, Statement, accesses, statements
from bundles.corpus import finishing
from bundles.corpus.corpus import DTYPES, MAX_BYTES, MAX_WORK, MIN_WORK, fault, random_program
from bundles.corpus.finishing import deletable_work, finish, statement_runs
from bundles.corpus.mixture import FAMILIES
from bundles.corpus.sketch import Sketch
from bundles.corpus.writing import assign, at, get, nest

Instances = Iterator[tuple[Statement, dict[str, int]]]


def points(nodes: tuple[Node, ...], point: dict[str, int]) -> Instances:
    for node in nodes:
        if isinstance(node, Statement):
            yield node, point
            continue
        low = max(-(-b.expr.evaluate(point) // b.divisor) for b in node.lower)
        high = min(b.expr.evaluate(point) // b.divisor for b in node.upper)
        for value in range(low, high + 1, node.step):
            yield from points(node.body, {**point, node.iterator: value})


def with_numbers(found: Instances) -> Instances:
    """Numbers from data at the ends of their ranges."""
    for statement, point in found:
        yield statement, point | {d.name: d.low for d in statement.derived}
        if statement.derived:
            yield statement, point | {d.name: d.high for d in statement.derived}


def tiny_programs() -> Iterator[Program]:
    for seed, (family, _) in itertools.product(range(4), FAMILIES):
        rng = random.Random(seed)
        dtype = rng.choice(list(DType))
        sketch = Sketch(rng, dtype, 700)
        yield finish(sketch, family.__name__, family(sketch))


def corpus(count: int, seed: int = 0) -> list[Program]:
    rng = random.Random(seed)
    return [random_program(rng) for _ in range(count)]


def test_every_access_of_tiny_programs_is_in_bounds_by_enumeration() -> None:
    for program in tiny_programs():
        shapes = {a.name: a.shape for a in program.arrays}
        if statement_runs(program) > 5_000:
            continue
        for statement, point in with_numbers(points(program.body, {})):
            for access in accesses(statement):
                for s, extent in zip(access.subscripts, shapes.get(access.array, ()), strict=False):
                    assert 0 <= s.evaluate(point) < extent, (program.name, str(s), point)


def test_arrays_are_no_larger_than_their_accesses_by_more_than_the_padding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finishing, "FLAT", 0.0)
    for program in tiny_programs():
        reached = {a.name: [0] * len(a.shape) for a in program.arrays}
        for around, statement in statements(program.body):
            box = number_ranges(around, statement)
            for access in accesses(statement):
                for d, s in enumerate(access.subscripts):
                    top = s.const + sum(max(c * box[n][0], c * box[n][1]) for n, c in s.terms)
                    reached[access.array][d] = max(reached[access.array][d], top + 1)
        for array in program.arrays:
            for extent, reach in zip(array.shape, reached[array.name], strict=True):
                assert reach <= extent <= reach + 8


def test_accesses_have_a_subscript_for_every_dimension() -> None:
    for program in corpus(300):
        rank = {a.name: len(a.shape) for a in program.arrays}
        for _, statement in statements(program.body):
            for access in accesses(statement):
                assert len(access.subscripts) == rank.get(access.array, 0)


def test_programs_of_the_corpus_are_fit() -> None:
    for program in corpus(300, seed=1):
        assert fault(program) == ""
        assert program.bytes <= MAX_BYTES
        assert MIN_WORK <= statement_runs(program) <= 2 * MAX_WORK


def test_iterator_names_are_unique_and_statement_names_too() -> None:
    def names(nodes: tuple[Node, ...]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, Loop):
                yield node.iterator
                yield from names(node.body)
            else:
                yield node.name

    for program in corpus(300, seed=2):
        found = list(names(program.body))
        assert len(found) == len(set(found))


def test_an_iterator_that_only_repeats_work_is_refused() -> None:
    sketch = Sketch(random.Random(0), DType.F32, 1e4)
    tree = nest([("i", 100), ("j", 100)], assign(at("B", "j"), get("A", "j"), "+"))
    sketch.types.update(A=DType.F32, B=DType.F32)
    closed_form = nest([("i", 100), ("j", 100)], assign(at("B", "j"), get("A", "j")))
    assert "loop i repeats" in deletable_work(finish(sketch, "p", [tree]))
    assert "loop i repeats" in deletable_work(finish(sketch, "p", [closed_form]))


def test_a_loop_over_time_is_no_repetition() -> None:
    sketch = Sketch(random.Random(0), DType.F32, 1e4)
    sketch.types.update(A=DType.F32, B=DType.F32)
    there = nest([("i", 100)], assign(at("B", "i"), get("A", "i")))
    back = nest([("j", 100)], assign(at("A", "j"), get("B", "j")))
    assert deletable_work(finish(sketch, "p", [nest([("t", 9)], there, back)])) == ""


def test_the_same_seed_gives_the_same_programs() -> None:
    assert corpus(50, seed=3) == corpus(50, seed=3)
    assert corpus(50, seed=3) != corpus(50, seed=4)


def test_the_corpus_holds_every_family_type_and_depth() -> None:
    programs = corpus(600, seed=5)
    assert {p.name for p in programs} == {f.__name__ for f, _ in FAMILIES}
    assert {a.dtype for p in programs for a in p.arrays} == {dtype for dtype, _ in DTYPES}
    depths = {len(around) for p in programs for around, _ in statements(p.body)}
    assert depths >= {1, 2, 3, 4, 5}
    assert any(p.temporaries for p in programs)
    assert any(p.scalars for p in programs)


@pytest.mark.parametrize("family", [f for f, _ in FAMILIES])
def test_every_family_makes_fit_programs_mostly(family) -> None:
    fit = 0
    for seed in range(40):
        sketch = Sketch(random.Random(seed), DType.F32, 2e5)
        fit += fault(finish(sketch, family.__name__, family(sketch))) == ""
    assert fit >= 30


def test_no_program_does_less_than_what_the_agent_takes_for_the_least_that_bundles_learn_from() -> (
    None
):
    assert float(np.exp(work(lower(corpus(300))).min())) >= LEAST_WORK
