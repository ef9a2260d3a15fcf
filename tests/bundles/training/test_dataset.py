import contextlib
import random
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from agent.loopnest.features.vector import FEATURES
from bundles.corpus.corpus import random_program
from bundles.simulator.machines import sample_machines
from bundles.training.dataset import Recipe, generate, variants_of

RECIPE = Recipe(60, 6, 3, sample_machines(np.random.default_rng(0), 4))
LONGER = Recipe(200, 3, 3, RECIPE.machines)


def test_the_same_recipe_gives_the_same_data_bit_by_bit() -> None:
    one, two = generate(RECIPE), generate(RECIPE)
    assert one.features.tobytes() == two.features.tobytes()
    assert one.target.tobytes() == two.target.tobytes()
    assert list(one.family) == list(two.family)


def test_the_number_of_processes_changes_nothing() -> None:
    alone, shared = generate(RECIPE), generate(RECIPE, processes=2)
    assert alone.features.tobytes() == shared.features.tobytes()
    assert alone.target.tobytes() == shared.target.tobytes()


def test_another_seed_gives_other_programs() -> None:
    other = Recipe(60, 6, 4, RECIPE.machines)
    assert generate(RECIPE).features.tobytes() != generate(other).features.tobytes()


def test_data_have_the_shapes_asked_for_and_only_finite_numbers() -> None:
    shown: list[int] = []
    data = generate(RECIPE, progress=lambda *counts: shown.append(counts[0]))
    assert data.features.shape == (60, 6, len(FEATURES))
    assert data.target.shape == (60, 6, 4)
    assert np.isfinite(data.features).all()
    assert np.isfinite(data.target).all()
    assert shown == [50, 60]


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


def test_a_slice_of_a_data_set_is_the_same_programs() -> None:
    data = generate(RECIPE)
    part = data.take(slice(10, 20)).take(np.array([3, 1]))
    assert part.features.tobytes() == data.features[[13, 11]].tobytes()
    assert list(part.family) == [data.family[13], data.family[11]]
