"""Integer sets of loop nests beside their enumeration."""

from dataclasses import replace

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, ScheduleError, SourceError
from agent.loopnest.polyhedron import (
    affine_map,
    bounded,
    bounded_context,
    scan_bounds,
)
from agent.loopnest.program import Bound, Loop, loops
from tests.agent.loopnest.nests import affine, loop
from tests.interpret import points
from tests.strategies import programs


def vectors(domain: isl.Set) -> set[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []

    def visit(point: isl.Point) -> None:
        dims = range(domain.dim(isl.dim_type.set))
        found.append(tuple(point.get_coordinate_val(isl.dim_type.set, d).to_python() for d in dims))

    domain.foreach_point(visit)
    return set(found)


def iteration_domain(nest: tuple[Loop, ...]) -> isl.Set:
    return affine_map(nest, ()).domain()


def test_a_statement_outside_of_loops_runs_once() -> None:
    assert vectors(iteration_domain(())) == {()}


def test_bounds_with_divisors_round_inwards() -> None:
    nest = (loop("i", Bound(affine(5), 3), Bound(affine(11), 2)),)
    assert vectors(iteration_domain(nest)) == {(2,), (3,), (4,), (5,)}


def test_a_step_counts_from_the_largest_lower_bound() -> None:
    nest = (loop("i", 0, 1), loop("j", ("2*i", 1), 8, step=3))
    assert vectors(iteration_domain(nest)) == {(0, 1), (0, 4), (0, 7), (1, 2), (1, 5), (1, 8)}


@settings(deadline=None, max_examples=100)
@given(programs())
def test_a_domain_holds_exactly_the_iterations_that_run(program) -> None:
    for around, inner in loops(program.body):
        nest = (*around, inner)
        expected = {tuple(p.values()) for p in points(nest)}
        assert vectors(iteration_domain(nest)) == expected


def test_an_affine_map_gives_the_values_for_every_iteration() -> None:
    relation = affine_map((loop("i", 0, 4, step=2),), (affine("2*i + 1"), affine(7)))
    assert vectors(relation.range()) == {(1, 7), (5, 7), (9, 7)}


Ends = tuple[int, int, int, int]


@st.composite
def bands(draw: st.DrawFn) -> tuple[Loop, ...]:
    """Three loops whose bounds depend on those outside in any way, and have divisors."""
    found: list[Loop] = []
    for name in "ijk":
        terms = [draw(st.integers(-2, 2)) for _ in found]
        text = " + ".join([f"{c}*{x.iterator}" for c, x in zip(terms, found, strict=True) if c])
        text = text.replace("+ -", "- ") or "0"
        low = draw(st.integers(-3, 2))
        ends = Bound(affine(text) + draw(st.integers(0, 5)), draw(st.integers(1, 3)))
        lower: object = low
        upper: object = (low + draw(st.integers(0, 6)), ends)
        if draw(st.booleans()):
            lower, upper = (low, ends), low + draw(st.integers(0, 6))
        found.append(loop(name, lower, upper))  # type: ignore[arg-type]
    return tuple(found)


@settings(deadline=None, max_examples=200)
@given(bands(), st.permutations((0, 1, 2)), st.booleans())
def test_reordered_loops_run_the_same_iterations(band, order, inside) -> None:
    outer = band[:1] if inside else ()
    rest = [band[n] for n in order if band[n] not in outer]
    expected = {frozenset(p.items()) for p in points(band)}
    try:
        bounds = scan_bounds(outer, tuple(rest))
    except ScheduleError:
        assert not expected
        return
    moved = [
        replace(x, lower=lower, upper=upper) for x, (lower, upper) in zip(rest, bounds, strict=True)
    ]
    found = [frozenset(p.items()) for p in points((*outer, *moved))]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_loops_that_never_run_cannot_be_reordered() -> None:
    with pytest.raises(ScheduleError, match="never runs"):
        scan_bounds((), (loop("j", "i", 3), loop("i", 5, 4)))


def test_giving_up_is_an_error_of_the_kind_asked_for() -> None:
    context = bounded_context(10)

    def ask() -> bool:
        text = "{ [a, b, c] : exists (d : a = 3d + 2b and c = 5d - 7a and 0 <= a + b + c <= 99) }"
        return bool(isl.Set.read_from_str(context, text).is_empty())

    with pytest.raises(SourceError, match="subscripts: too complex") as caught:
        bounded(context, ask, "the subscripts", SourceError)
    assert isinstance(caught.value, AgentError)
    assert caught.value.hint


def test_a_context_answers_again_after_giving_up(capfd: pytest.CaptureFixture[str]) -> None:
    context = bounded_context(3_000)

    def ask(size: int) -> bool:
        dims = ", ".join(f"x{n}" for n in range(size))
        body = " and ".join(f"{n + 2}x{n} + 3x{(n + 1) % size} = 5x{n // 2}" for n in range(size))
        whole = isl.Set.read_from_str(context, f"{{ [{dims}] : {body} and x0 >= 1 }}")
        return bool(whole.is_empty())

    with pytest.raises(ScheduleError):
        bounded(context, lambda: ask(40), "a large system")
    assert bounded(context, lambda: ask(2), "a small system") in (True, False)
    assert capfd.readouterr().err == ""
