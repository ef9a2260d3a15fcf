"""A real Ray cluster of two CPUs on this machine; skipped where Ray is not installed."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

torch = pytest.importorskip("torch")
ray = pytest.importorskip("ray")

from agent.errors import InputError  # noqa: E402
from bundles.simulator.machines import sample_machines  # noqa: E402
from bundles.training import backend, cluster  # noqa: E402
from bundles.training.dataset import Dataset, Recipe, TrainingData, generate  # noqa: E402
from bundles.training.network import Pretrainer  # noqa: E402
from bundles.training.settings import TrainingSettings, Where, quick_settings  # noqa: E402
from bundles.training.training import Log, fit  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of many kinds
    pytest.mark.timeout(1500),  # processes that import Ray and PyTorch, one after the other
]

# Nothing masked: every worker draws for itself what is hidden from it.
SETTINGS = replace(quick_settings(TrainingSettings(seed=1)), mask=0.0)
RECIPE = Recipe(120, 4, 1, sample_machines(np.random.default_rng(1), 10))
TRAINED = slice(8)
STARTS = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Where]:
    work = Where(tmp_path_factory.mktemp("work"), "local", 2)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        # How often Ray looks whether its workers have ended; usually every two seconds.
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        yield started(work, stack)


def started(work: Where, stack: contextlib.ExitStack) -> Where:
    """Ray gives its processes 30 s to start, however busy a machine is: then once more."""
    for _ in range(STARTS):
        with contextlib.suppress(InputError):
            return stack.enter_context(backend.ready(work))
    return stack.enter_context(backend.ready(work))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is there once a worker that makes shards was killed."""
    return tmp_path_factory.mktemp("killer") / "killed"


@pytest.fixture(scope="module")
def data(place: Where, killed: Path) -> Dataset:
    """Made on the cluster, of which a worker is killed meanwhile."""
    killer = threading.Thread(target=kill_a_worker, args=(killed,), daemon=True)
    killer.start()
    return backend.corpus(RECIPE, 1, place, lambda *_: None)


@pytest.fixture(scope="module")
def parts(data: Dataset) -> TrainingData:
    return TrainingData(data.take(slice(100)), data.take(slice(100, None)), TRAINED)


@pytest.fixture(scope="module")
def here(parts: TrainingData) -> tuple[Pretrainer, Log]:
    return fit(SETTINGS, parts, lambda _: None)


def test_shards_from_a_cluster_are_those_made_here_though_a_worker_is_killed(
    data: Dataset, killed: Path
) -> None:
    made = generate(RECIPE)
    assert killed.exists()
    assert data.features.tobytes() == made.features.tobytes()
    assert data.target.tobytes() == made.target.tobytes()
    assert list(data.family) == list(made.family)


def kill_a_worker(done: Path) -> None:
    """Kill the first process of this cluster that makes a shard."""
    while True:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, IndexError):
                if child.cmdline()[0].startswith("ray::Map"):
                    child.kill()
                    done.touch()
                    return
        time.sleep(0.02)


def test_one_worker_trains_the_same_weights_as_this_process(
    place: Where, parts: TrainingData, here: tuple[Pretrainer, Log]
) -> None:
    lines: list[str] = []
    alone = replace(place, workers=1)
    model, log = backend.train(SETTINGS, parts, lines.append, alone)
    state, expected = model.state_dict(), here[0].state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert log == here[1]
    assert [line.split()[1] for line in lines[:4]] == ["1", "2", "3", "4"]


def test_two_workers_train_the_same_weights_up_to_rounding(
    place: Where, parts: TrainingData, here: tuple[Pretrainer, Log], tmp_path: Path
) -> None:
    elsewhere = replace(place, work=tmp_path)
    model, log = backend.train(SETTINGS, parts, lambda _: None, elsewhere)
    state, expected = model.state_dict(), here[0].state_dict()
    for name in expected:
        torch.testing.assert_close(state[name], expected[name], rtol=1e-3, atol=1e-4)
    assert [r["loss"] for r in log] == pytest.approx([r["loss"] for r in here[1]], rel=1e-3)


def test_nothing_is_told_to_the_makers_of_ray(place: Where) -> None:
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()


def test_more_workers_than_the_cluster_has_are_refused(place: Where) -> None:
    with pytest.raises(InputError, match="5000 workers need as many CPUs"):
        cluster.check_workers(replace(place, workers=5000))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense", "ray://127.0.0.1:port"])
def test_no_cluster_at_an_address_is_said_at_once(tmp_path: Path, address: str) -> None:
    ray.shutdown()  # this process may have joined the cluster of the tests above
    where = Where(tmp_path, address)
    with pytest.raises(InputError, match="no Ray cluster at") as refused, backend.ready(where):
        pass
    assert "--address local" in refused.value.hint


def test_a_cluster_that_does_not_start_here_is_told_and_no_crash(
    tmp_path: Path, monkeypatch
) -> None:
    """As Ray says it where its node takes more than 30 s."""

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match="no Ray cluster at local: The current node timed out"), \
            backend.ready(Where(tmp_path, "local")):  # fmt: skip
        pass
