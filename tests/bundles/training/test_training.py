import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agent.errors import Exit, InputError  # noqa: E402
from bundles import cli  # noqa: E402
from bundles.simulator.machines import sample_machines  # noqa: E402
from bundles.training import training  # noqa: E402
from bundles.training.backend import ready  # noqa: E402
from bundles.training.dataset import Dataset, Recipe, TrainingData, in_processes  # noqa: E402
from bundles.training.network import Pretrainer  # noqa: E402
from bundles.training.settings import TrainingSettings, Where, quick_settings  # noqa: E402
from bundles.training.shards import data_on_disk, stored  # noqa: E402
from bundles.training.training import Log, TrainingWorker, fit  # noqa: E402

SETTINGS = quick_settings(TrainingSettings(seed=1))
RECIPE = Recipe(120, 4, 1, sample_machines(np.random.default_rng(1), 10))
TRAINED = slice(8)
SCRIPT = """
import sys
from pathlib import Path
from bundles.training.settings import TrainingSettings, quick_settings
from bundles.training.shards import data_on_disk
from bundles.training.dataset import TrainingData
from bundles.training.training import TrainingWorker, fit

data = data_on_disk(Path(sys.argv[1]))
parts = TrainingData(data.take(slice(100)), data.take(slice(100, None)), slice(8))
settings = quick_settings(TrainingSettings(seed=1))
worker = TrainingWorker(kept=Path(sys.argv[2]))
fit(settings, parts, lambda t: print(t, flush=True), worker)
"""


class StopError(Exception):
    """Stands for anything that ends a run."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = stored(RECIPE, tmp_path_factory.mktemp("work"), in_processes(1))
    assert data.origin is not None
    return data.origin


def train(origin: Path, worker: TrainingWorker = training.ALONE, say=lambda _: None) -> tuple:
    return fit(SETTINGS, parted(data_on_disk(origin)), say, worker)


def parted(data: Dataset, at: int = 100) -> TrainingData:
    return TrainingData(data.take(slice(at)), data.take(slice(at, None)), TRAINED)


@pytest.fixture(scope="module")
def uninterrupted(origin: Path) -> tuple[Pretrainer, Log]:
    return train(origin)


def same(one: tuple[Pretrainer, Log], two: tuple[Pretrainer, Log]) -> bool:
    states = one[0].state_dict(), two[0].state_dict()
    return one[1] == two[1] and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def stop_after(epoch: int):
    def say(line: str) -> None:
        if line.startswith(f"epoch {epoch}"):
            raise StopError

    return say


def checkpoints(work: Path) -> list[Path]:
    return sorted(work.glob("training-*/*.pt"))


def test_data_on_disk_train_the_same_weights_as_data_in_memory(
    origin: Path, uninterrupted: tuple
) -> None:
    data = data_on_disk(origin).loaded(RECIPE.programs)
    assert same(fit(SETTINGS, parted(data), lambda _: None), uninterrupted)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    origin: Path, tmp_path: Path, uninterrupted: tuple
) -> None:
    worker = TrainingWorker(kept=tmp_path)
    with pytest.raises(StopError):
        train(origin, worker, stop_after(2))
    lines: list[str] = []
    assert same(train(origin, worker, lines.append), uninterrupted)
    assert lines[0] == "training goes on after epoch 2"
    assert lines[1].startswith("epoch 3")


def test_a_process_that_was_killed_goes_on_to_the_same_weights(
    origin: Path, tmp_path: Path, uninterrupted: tuple
) -> None:
    command = [sys.executable, "-c", SCRIPT, origin, tmp_path]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline().startswith("epoch 1")
        run.kill()
    run.wait()
    lines: list[str] = []
    assert same(train(origin, TrainingWorker(kept=tmp_path), lines.append), uninterrupted)
    assert lines[0].startswith("training goes on")


def test_a_run_that_is_complete_is_not_trained_again(
    origin: Path, tmp_path: Path, uninterrupted: tuple
) -> None:
    train(origin, TrainingWorker(kept=tmp_path))
    lines: list[str] = []
    assert same(train(origin, TrainingWorker(kept=tmp_path), lines.append), uninterrupted)
    assert lines == ["training goes on after epoch 4"]
    assert len(checkpoints(tmp_path)) == 2


def test_a_damaged_checkpoint_is_passed_over(
    origin: Path, tmp_path: Path, uninterrupted: tuple
) -> None:
    with pytest.raises(StopError):
        train(origin, TrainingWorker(kept=tmp_path), stop_after(3))
    newest = checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    lines: list[str] = []
    assert same(train(origin, TrainingWorker(kept=tmp_path), lines.append), uninterrupted)
    assert lines[0] == "training goes on after epoch 2"


def test_a_checkpoint_of_another_run_is_not_used(origin: Path, tmp_path: Path) -> None:
    train(origin, TrainingWorker(kept=tmp_path))
    lines: list[str] = []
    other = replace(SETTINGS, seed=2)
    fit(other, parted(data_on_disk(origin)), lines.append, TrainingWorker(kept=tmp_path))
    assert lines[0].startswith("epoch 1")


def test_small_data_are_shuffled_as_a_whole() -> None:
    (window,) = training._windows(100, [0, 1])
    assert sorted(window) == list(range(100))
    assert list(window) != list(range(100))


def test_large_data_are_shuffled_in_windows_of_scattered_blocks(monkeypatch) -> None:
    monkeypatch.setattr(training, "BLOCK", 10)
    monkeypatch.setattr(training, "WINDOW", 40)
    epochs = [list(training._windows(123, [0, epoch])) for epoch in range(2)]
    for windows in epochs:
        assert [len(w) for w in windows] == [40, 40, 40, 3]
        assert sorted(np.concatenate(windows)) == list(range(123))
        assert len({row // 10 for row in windows[0]}) == 4
    assert set(epochs[0][0]) != set(epochs[1][0])


def test_data_on_disk_and_in_memory_train_the_same_in_windows(origin: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "BLOCK", 10)
    monkeypatch.setattr(training, "WINDOW", 40)
    data = data_on_disk(origin)
    models = [
        fit(SETTINGS, parted(d, 93), lambda _: None) for d in (data, data.loaded(RECIPE.programs))
    ]
    assert same(*models)
    assert models[0][1][-1]["loss"] < models[0][1][0]["loss"]


@pytest.mark.parametrize("world", [2, 3])
def test_workers_share_every_batch_and_weigh_it_as_one(world: int) -> None:
    data = Dataset(np.zeros((50, 1, 1), np.float32), np.zeros((50, 1, 1), np.float32), np.zeros(50))
    alone = list(training._batches(data, SETTINGS, 0, TrainingWorker()))
    shared = [
        list(training._batches(data, SETTINGS, 0, TrainingWorker(rank=rank, world=world)))
        for rank in range(world)
    ]
    for number, (rows, _, share) in enumerate(alone):
        parts = [worker[number] for worker in shared]
        counted = [row for part, _, weight in parts if weight for row in part]
        assert share == 1.0
        assert sorted(counted) == sorted(rows)
        assert sum(weight for _, _, weight in parts) == pytest.approx(world)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    where = Where(work=tmp_path / "work", device="cuda")
    with pytest.raises(InputError, match="--device cuda") as refused, ready(where):
        pass
    assert "leave out --device" in refused.value.hint
    assert not (tmp_path / "work").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_command_refuses_a_gpu_that_is_not_there(capsys, monkeypatch, tmp_path: Path) -> None:
    arguments = ["bundles", "pretrain", "--out", str(tmp_path / "b"), "--device", "cuda"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert cli.main() == Exit.USAGE
    error = capsys.readouterr().err
    assert "--device cuda" in error
    assert "hint:" in error
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Where(device="tpu"), "--device tpu is not known"),
        (Where(workers=2), "several workers need a cluster"),
        (Where(address="10.0.0.1:6379"), "a cluster needs a work directory"),
    ],
)
def test_options_that_do_not_fit_are_refused(where: Where, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused, ready(where):
        pass
    assert refused.value.hint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_trains_nearly_the_same_weights(origin: Path, uninterrupted: tuple) -> None:
    model, log = train(origin, TrainingWorker("cuda"))
    assert log[-1]["loss"] == pytest.approx(uninterrupted[1][-1]["loss"], rel=0.02)
    assert next(model.parameters()).device.type == "cpu"
