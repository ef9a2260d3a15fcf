import contextlib
import random
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from agent.loopnest.features.vector import FEATURES
from bundles.corpus.corpus import random_program
from bundles.simulator.machines import sample_machines
from bundles.training.dataset import Dataset, Recipe, generate, variants_of

RECIPE = Recipe(60, 6, 3, sample_machines(np.random.default_rng(0), 4))
LONGER = Recipe(120, 3, 3, RECIPE.machines)


@pytest.fixture(scope="module")
def made() -> Dataset:
    return generate(RECIPE)


def test_the_same_recipe_gives_the_same_data_bit_by_bit(made: Dataset) -> None:
    shown: list[int] = []
    again = generate(RECIPE, progress=lambda *counts: shown.append(counts[0]))
    assert again.features.tobytes() == made.features.tobytes()
    assert again.target.tobytes() == made.target.tobytes()
    assert list(again.family) == list(made.family)
    assert shown == [50, 60]


def test_the_number_of_processes_changes_nothing(made: Dataset) -> None:
    shared = generate(RECIPE, processes=2)
    assert made.features.tobytes() == shared.features.tobytes()
    assert made.target.tobytes() == shared.target.tobytes()


def test_another_seed_gives_other_programs(made: Dataset) -> None:
    other = generate(Recipe(5, 6, 4, RECIPE.machines))
    assert made.features[:5].tobytes() != other.features.tobytes()


def test_data_have_the_shapes_asked_for_and_only_finite_numbers(made: Dataset) -> None:
    assert made.features.shape == (60, 6, len(FEATURES))
    assert made.target.shape == (60, 6, 4)
    assert np.isfinite(made.features).all()
    assert np.isfinite(made.target).all()


def test_no_variant_shares_a_loop_that_carries_a_value() -> None:
    rng = random.Random(0)
    for _ in range(30):
        table = variants_of(random_program(rng), 8, rng)
        assert len(table) == 8
        assert not (table.parallel & table.recurrence).any()


def test_the_first_variant_is_the_program_as_written() -> None:
    rng = random.Random(1)
    for _ in range(20):
        table = variants_of(random_program(rng), 4, rng)
        assert not table.parallel[0].any()
        assert not table.vector[0].any()


def test_a_process_that_is_killed_is_replaced_and_nothing_changes(tmp_path: Path) -> None:
    once = tmp_path / "killed"
    killer = threading.Thread(target=kill_a_child, args=(once,), daemon=True)
    killer.start()
    data = generate(LONGER, processes=2)
    killer.join()
    assert once.exists()
    assert data.features.tobytes() == generate(LONGER).features.tobytes()


def kill_a_child(done: Path) -> None:
    """Kill the first process of this one that draws programs."""
    while True:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "LokyProcess" in " ".join(child.cmdline()):
                    child.kill()
                    done.touch()
                    return
        time.sleep(0.02)


def test_a_slice_of_a_data_set_is_the_same_programs(made: Dataset) -> None:
    part = made.take(slice(10, 20)).take(np.array([3, 1]))
    assert part.features.tobytes() == made.features[[13, 11]].tobytes()
    assert list(part.family) == [made.family[13], made.family[11]]
