import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from agent.errors import AgentError
from agent.loopnest.schedules.schedule import parse_schedule
from agent.model.prior import Prior
from bundles.fixed_set.design import Candidates, Choice, choose_variants, project, usual, write_set

PRIOR = Prior(np.zeros(5), np.eye(5)[:, :4], noise_speedup=0.3, noise_seconds=0.3)


def pools(kernels: int, seed: int = 0) -> list[Candidates]:
    rng = np.random.default_rng(seed)
    found = []
    for k in range(kernels):
        gains = np.column_stack([rng.standard_normal((12, 4)), np.zeros(12)])
        base = np.append(rng.standard_normal(4), 1.0)[None]
        names = tuple(f"unroll i {n + 2}" for n in range(12))
        found.append(Candidates(f"k{k}", names, project(gains, PRIOR), project(base, PRIOR)[0]))
    return found


def information(chosen: tuple[Choice, ...]) -> float:
    return sum(c.gain for c in chosen)


def test_every_prefix_of_eight_or_more_spans_six_kernels() -> None:
    chosen = choose_variants(pools(20), 48, PRIOR)
    assert len(chosen) == 48
    for length in range(8, 49):
        present = len({c.kernel for c in chosen[:length]})
        assert present >= 6
        assert present == 20 or present >= 0.6 * length


def test_every_kernel_is_there_in_the_end_at_most_four_times() -> None:
    counts = Counter(c.kernel for c in choose_variants(pools(20), 48, PRIOR))
    assert len(counts) == 20
    assert max(counts.values()) <= 4


def test_kernels_are_all_covered_even_if_there_is_only_just_room() -> None:
    counts = Counter(c.kernel for c in choose_variants(pools(30), 32, PRIOR))
    assert len(counts) == 30


def test_no_variant_is_chosen_twice() -> None:
    chosen = choose_variants(pools(15), 48, PRIOR)
    assert len({(c.kernel, c.schedule) for c in chosen}) == len(chosen)


def test_too_few_candidates_give_a_shorter_set() -> None:
    assert len(choose_variants(pools(2), 48, PRIOR)) == 8


def test_the_choice_is_deterministic() -> None:
    assert choose_variants(pools(10), 20, PRIOR) == choose_variants(pools(10), 20, PRIOR)


def test_a_design_tells_more_than_the_first_candidates_of_every_kernel() -> None:
    everything = pools(12)
    few = [Candidates(p.kernel, p.schedules[:2], p.speedup[:2], p.seconds) for p in everything]
    assert information(choose_variants(everything, 20, PRIOR)) > information(
        choose_variants(few, 20, PRIOR)
    )


def test_information_only_grows() -> None:
    assert all(c.gain > 0 for c in choose_variants(pools(10), 30, PRIOR))


def test_a_direction_in_which_machines_do_not_differ_is_worth_nothing() -> None:
    blind = np.zeros((5, 5))
    blind[:, 4] = [1, 2, 3, 4, 5]
    assert np.allclose(project(blind * [1, 1, 1, 1, 0], PRIOR), 0)


def test_writing_a_set_keeps_its_kernels_and_replaces_its_variants(tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    path.write_text('# why\nschema = 1\n\n[[variant]]\nkernel = "a"\nschedule = "old"\n')
    write_set(path, [Choice("a", "reverse i", 1.0), Choice("b", "jam i 4; unroll k 2", 0.5)])
    text = path.read_text()
    assert text.startswith("# why\nschema = 1\n")
    assert tomllib.loads(text)["variant"] == [
        {"kernel": "a", "schedule": "reverse i"},
        {"kernel": "b", "schedule": "jam i 4; unroll k 2"},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["set.toml"]


def test_writing_the_same_set_again_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    path.write_text("schema = 1\n\n[[variant]]\n")
    chosen = choose_variants(pools(8), 10, PRIOR)
    write_set(path, chosen)
    before = path.read_bytes()
    write_set(path, chosen)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "schema = 1\n"])
def test_a_file_without_variants_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.toml"
    path.write_text(text)
    with pytest.raises(AgentError, match="has no"):
        write_set(path, [])
    assert path.read_text() == text


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="cannot rewrite"):
        write_set(tmp_path / "none.toml", [])


@pytest.mark.parametrize(
    "text", ["interchange i k; vectorize j", "tile i 32 j 32; parallelize i_t"]
)
def test_schedules_that_people_try_are_considered(text: str) -> None:
    assert usual(parse_schedule(text), in_place=False)


@pytest.mark.parametrize("text", ["original", "reverse i; vectorize i", "skew j i 1"])
def test_contrived_schedules_are_not(text: str) -> None:
    assert not usual(parse_schedule(text), in_place=False)


def test_sweeps_in_place_may_be_skewed() -> None:
    assert usual(parse_schedule("skew j i 1; interchange i j; parallelize j"), in_place=True)
