"""Diamonds: tiles in time of which whole waves run at the same time."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ScheduleError
from agent.loopnest.features.nest import lower
from agent.loopnest.program import Loop, Program
from agent.loopnest.schedules import legality
from agent.loopnest.schedules.candidates import LegalDraft, Outcomes, candidate_schedules
from agent.loopnest.schedules.dependence import Dependences
from agent.loopnest.schedules.diamonds import diamond_tiles
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import Diamond, parse_schedule
from tests.agent.loopnest.schedules.brute_force import trace
from tests.agent.loopnest.schedules.test_candidates import FIELDS, JACOBI, seidel, sweeps
from tests.agent.loopnest.schedules.test_transform import after, refusal, run, square
from tests.agent.loopnest.schedules.test_transform import sweeps as two_loops

BLUR = (
    "void f(int n, int m, double A[n][m], double B[n][m]) { for (int t = 0; t < 90; t++) {"
    " for (int i = 1; i < n - 1; i++) for (int j = 1; j < m - 1; j++)"
    " B[i][j] = A[i - 1][j] + A[i][j - 1] + A[i][j] + A[i][j + 1] + A[i + 1][j];"
    " for (int i = 1; i < n - 1; i++) for (int j = 1; j < m - 1; j++)"
    " A[i][j] = B[i - 1][j] + B[i][j - 1] + B[i][j] + B[i][j + 1] + B[i + 1][j]; } }"
)
COPIES = (
    "void f(int n, double A[2][n]) { for (int t = 0; t < 99; t++)"
    " for (int i = 1; i < n - 1; i++)"
    " A[(t + 1) % 2][i] = A[t % 2][i - 1] + A[t % 2][i] + A[t % 2][i + 1]; }"
)


def test_a_diamond_leans_on_both_sides() -> None:
    assert after(square(100, "t", "i"), "diamond t i 32") == (
        "t_t -1..6 (i_t (32*t_t - 31)/64..(32*t_t + 229)/64 (t max(0, 16*t_t)..min(99, 16*t_t + 31)"
        " (i max(0, 32*i_t - t, 32*i_t + t - 32*t_t - 31)"
        "..min(99, 32*i_t - t + 31, 32*i_t + t - 32*t_t) (S[t, i]))))"
    )


def test_both_sides_of_a_diamond_are_moved_for_a_late_sweep() -> None:
    found = after(two_loops((1, 98), (1, 98)), "diamond t 2 i 32 j 1 3")
    assert "(i max(1, 32*i_t - 2*t, 32*i_t + 2*t - 32*t_t - 31).." in found
    assert "j max(1, 32*i_t - 2*t - 1, 32*i_t + 2*t - 32*t_t - 28).." in found


def test_loops_inside_the_sweeps_of_a_diamond_are_tiled_with_it() -> None:
    tiled = run(square(64, "t", "i", "j"), "diamond t i 8 j 16")
    (nest,) = tiled.body
    assert isinstance(nest, Loop)
    assert [x.iterator for x in nest.nest] == ["t_t", "i_t", "j_t", "t", "i", "j"]


@st.composite
def diamonds(draw: st.DrawFn) -> tuple[Program, Diamond]:
    """Sweeps over different ranges in a loop of time, and a diamond of them."""
    ends = st.tuples(st.integers(-3, 5), st.integers(-2, 24))
    base = two_loops(draw(ends), draw(ends))
    moves = st.tuples(st.sampled_from("ij"), st.integers(-2, 3), st.integers(-2, 3))
    late = draw(st.lists(moves, max_size=2, unique_by=lambda move: move[0]))
    sizes = (("i", draw(st.integers(2, 9))),)
    return base, Diamond("t", draw(st.integers(1, 3)), sizes, tuple(late))


@settings(deadline=None, max_examples=100)
@given(diamonds())
def test_diamonds_hold_every_iteration_once_and_where_they_say(case) -> None:
    base, step = case
    tiled = run(base, str(step))
    wanted = Counter(event.instance for event in trace(base))
    assert Counter(event.instance for event in trace(tiled)) == wanted
    ((_, size),), late = step.sizes, {name: ends for name, *ends in step.late}
    for event in trace(run(tiled, "parallelize t")):
        name, (t, i) = event.instance
        (wave, column), _ = event.concurrent["t"]
        begin, end = late.get("i" if name == "S" else "j", (0, 0))
        assert column == (step.slope * t + i + begin) // size
        assert wave - column == (step.slope * t - i + end) // size


def test_time_may_be_around_other_loops_than_its_own() -> None:
    found = after(square(20, "k", "t", "i"), "diamond t i 8")
    assert found.startswith("k 0..19 (t_t -1..4 (i_t ")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("diamond t i 8 j 0 1", "loop j is no sweep"),
        ("skew i t 1; diamond t i 8", "the bounds of loop i depend on t"),
        ("tile i 4; diamond t i_t 8", "loop i_t has step 4"),
        ("parallelize i; diamond t i 8", "already parallel"),
        ("; ".join([*["tile t 2 i 2"] * 5, "diamond t i 8"]), "more than 12 loops deep"),
    ],
)
def test_what_gives_no_diamonds_is_refused(schedule: str, message: str) -> None:
    assert message in refusal(square(64, "t", "i"), schedule).message


@pytest.mark.parametrize(
    "text",
    [
        "diamond t i 32",
        "diamond t 2 i 32",
        "diamond t i 32 j 8",
        "diamond t 3 i 8 j 4 i 1 0 k -1 2",
    ],
)
def test_a_diamond_is_read_as_it_is_written(text: str) -> None:
    assert str(parse_schedule(text)) == text


def test_a_slope_of_one_is_left_out() -> None:
    assert str(parse_schedule("diamond t 1 i 32")) == "diamond t i 32"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diamond", "expected a loop of time"),
        ("diamond 3 i 8", "expected the name of a loop"),
        ("diamond t i", "expected a loop of time"),
        ("diamond t i 8 k 1 2 j 4", "expected a loop of time"),
        ("diamond t t 8", "a loop is named twice"),
        ("diamond t i 8 k 0 1 k 1 1", "a loop is named twice"),
        ("diamond t 0 i 8", "0 is outside 1.."),
        ("diamond t i 1", "1 is outside 2.."),
    ],
)
def test_a_malformed_diamond_is_answered_with_its_form(text: str, message: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    assert message in caught.value.message
    assert caught.value.hint.startswith("For example: diamond t i 32")


# legality


@pytest.mark.parametrize(
    ("schedule", "dependence"),
    [
        ("diamond t i 16 i2 1 1", "S1 -> S0 (anti) on B"),  # the slope is 2
        ("diamond t 2 i 16", "S0 -> S1 (flow) on B"),  # the second sweep is later
        ("diamond t 2 i 16 i2 1 0", "S0 -> S1 (flow) on B"),  # on both sides
    ],
)
def test_a_diamond_that_leans_too_little_is_refused_with_a_dependence(
    schedule: str, dependence: str
) -> None:
    with pytest.raises(ScheduleError, match="breaks the dependence") as refused:
        transform(sweeps(JACOBI, n=100), parse_schedule(schedule))
    assert dependence in refused.value.message


def test_the_diamonds_of_a_wave_are_independent() -> None:
    schedule = parse_schedule("diamond t 2 i 16 i2 1 1; parallelize i_t")
    (nest,) = transform(sweeps(JACOBI, n=100), schedule).body
    assert isinstance(nest, Loop)
    assert [x.iterator for x in nest.nest if x.parallel] == ["i_t"]


def test_waves_of_diamonds_follow_each_other() -> None:
    with pytest.raises(ScheduleError, match="the loop carries the dependence"):
        transform(sweeps(COPIES, n=100), parse_schedule("diamond t i 8; parallelize t_t"))


def test_a_sweep_in_place_has_no_diamonds() -> None:
    with pytest.raises(ScheduleError, match="breaks the dependence"):
        transform(seidel(), parse_schedule("diamond i j 8"))


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        (COPIES, "diamond t i 8; parallelize i_t"),
        (JACOBI, "diamond t 2 i 8 i2 1 1; parallelize i_t"),
        (BLUR, "diamond t 2 i 8 i2 1 1; parallelize i_t"),
        (BLUR, "shift j2 1; skew j t 2; skew j2 t 2; diamond t 2 i 8 j 32 i2 1 1; parallelize i_t"),
        (FIELDS, "wrap j; diamond t j_w 8 i2 1 0; parallelize j_w_t"),
    ],
)
def test_diamonds_are_found_legal_without_isl(text: str, schedule: str, monkeypatch) -> None:
    base = sweeps(text, n=300, **({"m": 200} if "int m" in text else {}))
    dependences = Dependences.of(base)
    with monkeypatch.context() as patched:
        patched.setattr(legality, "affine_map", None)
        transform(base, parse_schedule(schedule), dependences)


# features


@pytest.mark.parametrize(
    "schedule",
    [
        "diamond t 2 i 8 i2 1 1; parallelize i_t",
        "diamond t 2 i 6 i2 1 1; vectorize j",
        "shift j2 1; skew j t 2; skew j2 t 2; diamond t 2 i 8 j 32 i2 1 1",
    ],
)
def test_diamonds_change_no_count(schedule: str) -> None:
    base = sweeps(BLUR, n=300, m=200)
    tables = lower([base, transform(base, parse_schedule(schedule))])
    assert tables.instances[1].tolist() == tables.instances[0].tolist()
    product = tables.trip[1, 0].prod()
    assert product == pytest.approx(tables.instances[0, 0], rel=1e-6)


@pytest.mark.parametrize(
    "more",
    [
        "tile t 4 i 4",
        "tile i 4",
        "tile t 3",
        "interchange t_t i_t",
        "tile t_t 2 i_t 3",
        "tile t_t 4; tile t_t 3",
    ],
)
def test_diamonds_that_are_tiled_again_change_no_count(more: str) -> None:
    before, after_it = square(64, "t", "i"), run(square(64, "t", "i"), f"diamond t i 8; {more}")
    tables = lower([before, after_it])
    assert tables.instances[1, 0] == pytest.approx(tables.instances[0, 0], rel=1e-3)


def test_what_a_diamond_touches_moves_with_it() -> None:
    tables = lower([run(square(1000, "t", "i"), "diamond t i 32")])
    columns = tables.coef[0, 0, 0, -1]  # of the written element, by loop
    assert columns[:4].tolist() == [-16, 32, 0, 1]  # not with time: both sides do, apart


# candidates


def found_for(text: str, **sizes: int) -> set[str]:
    return {str(schedule) for schedule, _ in candidate_schedules(sweeps(text, **sizes), 40)}


def test_candidates_hold_diamonds_of_one_sweep() -> None:
    assert "diamond t i 32; parallelize i_t; vectorize i" in found_for(COPIES, n=300)


def test_candidates_hold_diamonds_of_two_sweeps_and_of_loops_inside() -> None:
    found = found_for(BLUR, n=300, m=200)
    last = "i2 1 1; parallelize i_t; vectorize j; vectorize j2"
    assert f"diamond t 2 i 32 {last}" in found
    assert f"shift j2 1; skew j t 2; skew j2 t 2; diamond t 2 i 16 j 128 {last}" in found


def test_candidates_hold_diamonds_of_sweeps_that_are_later_on_one_side() -> None:
    found = found_for(FIELDS, n=300, m=200)
    assert any(s.startswith("wrap j; diamond t j_w 32 i2 1 0; parallelize j_w_t") for s in found)


def test_no_diamond_is_proposed_of_a_sweep_in_place() -> None:
    draft = LegalDraft(Dependences.of(seidel()), Outcomes())
    diamond_tiles(draft, (8,))
    assert not draft.steps
