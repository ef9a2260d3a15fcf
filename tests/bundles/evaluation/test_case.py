"""The split by program, the draws that budgets buy, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from agent.errors import AgentError
from agent.kernels.fixed_set import fixed_variants
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.model.observations import SECONDS, SPEEDUP
from bundles.evaluation.case import (
    MOST_VERSIONS,
    Case,
    TooFewError,
    make_case,
    refuse_leaks,
    refuse_names,
)
from bundles.labels.labels import Labels, is_test, load_labels
from tests.bundles.simulated_labels import timed_items, write_simulated


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Labels:
    found = timed_items(30, 5, fixed=True)
    (path,) = write_simulated(found, tmp_path_factory.mktemp("labels"))
    return load_labels(path)


@pytest.fixture(scope="module")
def case(labels: Labels) -> Case:
    return make_case(labels)


def test_no_label_that_can_be_drawn_is_of_a_test_program(case: Case) -> None:
    drawn = np.concatenate([case.pool, case.kernels])
    tested = set(case.labels.program[case.test])
    assert not tested & set(case.labels.program[drawn])
    assert is_test(case.labels.program[case.test]).all()
    assert not case.labels.fixed[case.test].any()


def test_every_timed_version_is_tested_drawn_or_of_the_fixed_set(case: Case) -> None:
    rows = np.concatenate([case.test, case.pool, case.kernels])
    timed = np.flatnonzero(case.labels.schedule != ORIGINAL)
    assert sorted(rows) == sorted(timed)


def test_of_a_program_with_very_many_versions_the_same_few_are_judged(labels: Labels) -> None:
    row = np.flatnonzero(is_test(labels.program) & ~labels.fixed & (labels.schedule != ORIGINAL))
    many = np.concatenate([np.arange(len(labels)), np.repeat(row[:1], 100)])
    name = labels.program[row[0]]
    first, again = make_case(labels.take(many)), make_case(labels.take(many))
    assert (labels.take(many).program[first.test] == name).sum() == MOST_VERSIONS
    np.testing.assert_array_equal(first.test, again.test)


def test_a_draw_takes_two_schedules_of_a_program_before_the_next(case: Case) -> None:
    programs = case.labels.program[case.random_draw(3)[:12]]
    assert len(set(programs)) == 6
    assert all(a == b for a, b in zip(programs[::2], programs[1::2], strict=True))


def test_a_larger_draw_holds_the_smaller_one(case: Case) -> None:
    order = case.random_draw(0)
    assert sorted(order) == sorted(case.pool)
    assert (case.random_draw(0) == order).all()
    assert (case.random_draw(1) != order).any()


def test_the_fixed_draw_follows_the_order_of_the_set(case: Case) -> None:
    rows = case.fixed_draw(9)
    planned = fixed_variants()[:9]
    assert list(case.labels.family[rows]) == [v.kernel.name for v in planned]
    assert list(case.labels.schedule[rows]) == [str(v.schedule) for v in planned]


def test_a_variant_without_a_usable_time_is_left_out_of_its_prefix(labels: Labels) -> None:
    first = fixed_variants()[0]
    lost = (labels.family == first.kernel.name) & (labels.schedule == str(first.schedule))
    assert len(make_case(labels.take(~lost)).fixed_draw(8)) == 7


def test_observations_hold_the_drawn_speedups_and_the_times_of_their_programs(case: Case) -> None:
    embedding = np.random.default_rng(0).standard_normal((len(case.labels), 3))
    rows = case.random_draw(0)[:8]
    seen = case.observations(embedding, rows)
    assert (seen.kind == SPEEDUP).sum() == 8
    assert (seen.kind == SECONDS).sum() == 4
    np.testing.assert_array_equal(seen.target[:8], case.labels.log_speedup[rows])
    bases = np.unique(case.base[rows])
    expected = np.log(case.labels.seconds[bases]) - case.labels.work[bases]
    np.testing.assert_allclose(seen.target[8:], expected)
    np.testing.assert_array_equal(seen.design[:8, -1], 0)
    np.testing.assert_array_equal(seen.design[8:, -1], 1)


def test_kernels_of_one_c_file_are_one_group(case: Case) -> None:
    fixed = case.labels.fixed
    assert len(np.unique(case.group[fixed])) < len(np.unique(case.labels.program[fixed]))
    assert not set(case.group[fixed]) & set(case.group[~fixed])


def test_a_test_program_under_another_name_is_refused_as_leakage(labels: Labels) -> None:
    tested = np.flatnonzero(is_test(labels.program) & ~labels.fixed)
    rows = tested[labels.program[tested] == labels.program[tested[0]]]
    twin = labels.take(rows)
    renamed = replace(twin, program=np.full(len(rows), "fffffff9" + "0" * 16))
    assert not is_test(renamed.program).any()
    with pytest.raises(AgentError, match="equal features and work") as caught:
        refuse_leaks([labels, renamed])
    assert "both sides of the split" in caught.value.hint


def test_files_of_two_machines_with_the_same_programs_are_no_leak(labels: Labels) -> None:
    refuse_leaks([labels, labels])


def test_a_name_that_is_no_digest_is_refused(labels: Labels) -> None:
    named = replace(labels, program=np.array([f"my-kernel-{p}" for p in labels.program]))
    with pytest.raises(AgentError, match="is not a digest"):
        refuse_names(named)


def test_a_target_with_too_few_programs_says_how_many_it_has(labels: Labels) -> None:
    few = labels.take(np.isin(labels.program, np.unique(labels.program[~labels.fixed])[:6]))
    with pytest.raises(TooFewError, match="at least 5 and 4 are needed") as caught:
        make_case(few)
    assert "Measure more" in caught.value.hint
