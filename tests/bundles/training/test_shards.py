import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import bundles
from agent.errors import BusyError, Exit, InputError
from bundles.corpus.mixture import FAMILIES
from bundles.files import write_whole
from bundles.simulator.machines import sample_machines
from bundles.training import shards
from bundles.training.dataset import Dataset, Recipe, generate, in_processes, shard_rows
from bundles.training.shards import DTYPES, held_alone, stored

RECIPE = Recipe(220, 3, 5, sample_machines(np.random.default_rng(0), 3))
SCRIPT = """
import numpy as np
from pathlib import Path
from bundles.training.dataset import Recipe, in_processes
from bundles.simulator.machines import sample_machines
from bundles.training.shards import stored

def main():
    recipe = Recipe(220, 3, 5, sample_machines(np.random.default_rng(0), 3))
    stored(recipe, Path("WORK"), in_processes(PROCESSES))

if __name__ == "__main__":
    main()
"""


class Counting:
    """A maker that remembers what it was asked for; shards are cut from a data set made before."""

    def __init__(self, made: Dataset) -> None:
        self.made, self.asked = made, list[int]()

    def __call__(self, recipe: Recipe, numbers: Sequence[int]) -> Iterator[tuple[int, Dataset]]:
        self.asked += numbers
        for number in numbers:
            yield number, self.made.take(shard_rows(recipe, number))


@pytest.fixture(scope="module")
def whole() -> Dataset:
    return generate(RECIPE)


@pytest.fixture
def again(whole: Dataset) -> Counting:
    return Counting(whole)


@pytest.fixture
def work(tmp_path: Path, whole: Dataset) -> Path:
    """A work directory with the whole data set."""
    stored(RECIPE, tmp_path, Counting(whole))
    return tmp_path


def same(one: Dataset, two: Dataset) -> bool:
    pairs = ((one.features, two.features), (one.target, two.target), (one.family, two.family))
    return all(np.array_equal(a, b) for a, b in pairs)


def directory(work: Path) -> Path:
    (found,) = work.glob("data-*")
    return found


def test_what_is_on_disk_is_what_is_made_in_memory(tmp_path: Path, whole: Dataset) -> None:
    shown: list[int] = []
    data = stored(RECIPE, tmp_path, in_processes(1), lambda *counts: shown.append(counts[0]))
    assert same(data, whole)
    assert isinstance(data.features, np.memmap)
    assert shown == [50, 100, 150, 200, 220]


def test_nothing_whole_is_made_twice(tmp_path: Path, whole: Dataset, again: Counting) -> None:
    first = Counting(whole)
    stored(RECIPE, tmp_path, first)
    stored(RECIPE, tmp_path, again)
    assert first.asked == [0, 1, 2, 3, 4]
    assert again.asked == []


def test_shards_may_come_in_any_order(tmp_path: Path, whole: Dataset) -> None:
    def backwards(recipe: Recipe, numbers: Sequence[int]) -> Iterator[tuple[int, Dataset]]:
        return Counting(whole)(recipe, numbers[::-1])

    assert same(stored(RECIPE, tmp_path, backwards), whole)


@pytest.mark.parametrize("name", ["features.npy", "target.npy", "family.npy"])
def test_a_damaged_shard_is_made_again_and_no_other(
    work: Path, whole: Dataset, again: Counting, name: str
) -> None:
    path = directory(work) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert same(stored(RECIPE, work, again), whole)
    assert len(again.asked) == 1


def test_a_file_cut_short_loses_only_what_was_cut(
    work: Path, whole: Dataset, again: Counting
) -> None:
    path = directory(work) / "features.npy"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 3 // 4)
    assert same(stored(RECIPE, work, again), whole)
    assert again.asked == [3, 4]


def test_a_damaged_header_is_mended(work: Path, whole: Dataset, again: Counting) -> None:
    with (directory(work) / "target.npy").open("r+b") as file:
        file.write(b"nonsense")
    assert same(stored(RECIPE, work, again), whole)
    assert again.asked == []


@pytest.mark.parametrize("journal", [b"", b"\xff\x00 nonsense\n7", b"0 0123\n999 4567\n"])
def test_a_damaged_journal_costs_time_but_no_data(
    work: Path, whole: Dataset, again: Counting, journal: bytes
) -> None:
    (directory(work) / "shards.txt").write_bytes(journal)
    assert same(stored(RECIPE, work, again), whole)
    assert again.asked == [0, 1, 2, 3, 4]


def test_a_torn_line_of_the_journal_costs_one_shard(
    work: Path, whole: Dataset, again: Counting
) -> None:
    path = directory(work) / "shards.txt"
    path.write_bytes(path.read_bytes()[:-20])
    assert same(stored(RECIPE, work, again), whole)
    assert again.asked == [4]
    later = Counting(whole)
    stored(RECIPE, work, later)
    assert later.asked == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_was_killed_goes_on(
    tmp_path: Path, whole: Dataset, again: Counting, processes: int
) -> None:
    work, script = tmp_path / "work", tmp_path / "script.py"
    script.write_text(SCRIPT.replace("WORK", str(work)).replace("PROCESSES", str(processes)))
    run = subprocess.Popen([sys.executable, script])
    while not any(p.stat().st_size for p in work.glob("data-*/shards.txt")):
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    kept = len((directory(work) / "shards.txt").read_text().splitlines())
    assert same(stored(RECIPE, work, again), whole)
    assert kept >= 1
    assert len(again.asked) == 5 - kept


def test_another_recipe_has_a_directory_of_its_own(work: Path, whole: Dataset) -> None:
    fewer = Counting(whole)
    stored(Recipe(60, 3, 5, RECIPE.machines), work, fewer)
    assert fewer.asked == [0, 1]
    assert len(list(work.glob("data-*"))) == 2


def test_data_of_other_code_are_not_used(work: Path, again: Counting, monkeypatch) -> None:
    monkeypatch.setattr(shards, "drawing_code", lambda: "another version")
    stored(RECIPE, work, again)
    assert again.asked == [0, 1, 2, 3, 4]


def test_the_code_that_draws_is_all_in_the_digest() -> None:
    probe = (
        "import sys, bundles.training.dataset\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('bundles.')))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    used = {Path(name) for name in done.stdout.split() if not name.endswith("__init__.py")}
    top = Path(bundles.__file__).parent.parent
    assert used <= {path for pattern in shards.DRAWN_BY for path in top.glob(pattern)}


def test_too_little_room_is_said_before_anything_is_made(tmp_path: Path) -> None:
    huge = Recipe(1_000_000_000, 16, 0, RECIPE.machines)
    with pytest.raises(InputError, match=r"needs [0-9.]+ GB more"):
        stored(huge, tmp_path, in_processes(1))


def test_a_work_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot use") as refused, held_alone(tmp_path / "file"):
        pass
    assert "--work" in refused.value.hint


def test_a_second_run_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with held_alone(tmp_path):
        with pytest.raises(BusyError, match="another run") as refused, held_alone(tmp_path):
            pass
        assert refused.value.exit_code == Exit.BUSY
    with held_alone(tmp_path):
        pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"one")
    write_whole(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_name_of_every_family_fits_its_place():
    letters = DTYPES["family"].itemsize // np.dtype("U1").itemsize
    assert [f.__name__ for f, _ in FAMILIES if len(f.__name__) > letters] == []
