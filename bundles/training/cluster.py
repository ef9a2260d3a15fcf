"""The same work on a Ray cluster: shards through Ray Data, training through Ray Train.

A worker does what this process would do: ``dataset.shard`` of a number, ``training.fit`` with a
rank. Results go to the work directory, which every node that trains must see. Workers that die
are replaced by Ray; training goes on from the newest checkpoint.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from agent.arrays import Indices
from agent.errors import AgentError, InputError
from bundles.terminal import missing_extra
from bundles.training import training
from bundles.training.dataset import ARRAYS, Dataset, Maker, Recipe, TrainingData, shard
from bundles.training.network import Pretrainer
from bundles.training.settings import Say, TrainingSettings, Where
from bundles.training.shards import data_on_disk, drawing_code
from bundles.training.training import Log

LOCAL = "local"
CLUSTER = "'.[pretrain,cluster]' in a checkout"
BLOCKS = 10_000  # tasks of Ray Data at most; each makes one shard or more
RESTARTS = 3
PROGRESS = "progress.txt"
POLL_S = 0.5
REACHED_S = 10.0
OFF = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to Ray's makers
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
Packed = dict[str, int | bytes | str]  # a shard on its way: number, arrays, fault
SAME = "Every node needs this version of calibration-agent with the extras pretrain and cluster."


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to the cluster, or to a new one on this machine; no usage statistics.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ |= OFF
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    alone = {"include_dashboard": False} if address == LOCAL else {}
    try:
        _check_reachable(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **alone)
    except Exception as error:  # Ray raises a bare one where its node does not start in time
        raise InputError(
            f"no Ray cluster at {address}: {_first_line(error)}",
            "`ray status` on its head node says whether it runs; one that asks for a token needs "
            "RAY_AUTH_MODE=token here too. --address local starts a cluster on this machine.",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise OSError where nobody listens: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != LOCAL:
        socket.create_connection((host, int(port)), timeout=REACHED_S).close()


def _ray() -> ModuleType:
    try:
        import ray
        import ray.data
        import ray.train
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), CLUSTER, "--address") from error
    return ray


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def on_cluster(address: str) -> Maker:
    """Makes shards on all CPUs of a cluster; they come back in any order."""

    def make(recipe: Recipe, numbers: Sequence[int]) -> Iterator[tuple[int, Dataset]]:
        with connected(address):
            yield from _mapped(recipe, numbers)

    return make


def _mapped(recipe: Recipe, numbers: Sequence[int]) -> Iterator[tuple[int, Dataset]]:
    ray = _ray()
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = min(len(numbers), BLOCKS)
    jobs = ray.data.from_items([{"number": n} for n in numbers], override_num_blocks=blocks)
    made = jobs.map(_packer(recipe, drawing_code()), num_cpus=1)
    try:
        for row in made.iter_rows():
            if row["fault"]:
                raise AgentError(row["fault"], SAME)
            yield row["number"], _unpacked(row["shard"])
    except ray.exceptions.RayError as error:
        raise AgentError(f"the cluster made no shard: {_cause(error)}", SAME) from error


def _cause(error: BaseException) -> str:
    """The innermost reason Ray gives."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__


def _packer(recipe: Recipe, code: str) -> Callable[[dict[str, int]], Packed]:
    """What a worker does with a shard's number."""

    def pack(row: dict[str, int]) -> Packed:
        number = int(row["number"])
        if drawing_code() != code:
            fault = "a node of the cluster has another version of the program"
            return {"number": number, "shard": b"", "fault": fault}
        return {"number": number, "shard": _packed(shard(recipe, number)), "fault": ""}

    return pack


def _packed(part: Dataset) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: getattr(part, name) for name in ARRAYS})
    return buffer.getvalue()


def _unpacked(content: bytes) -> Dataset:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return Dataset(*(arrays[name] for name in ARRAYS))


@dataclass(frozen=True)
class _Job:
    """What every training worker is told."""

    settings: TrainingSettings
    directory: Path
    train: slice
    held: slice
    machines: slice | Indices
    kept: Path

    def data(self) -> TrainingData:
        """What is learnt from, on disk."""
        whole = data_on_disk(self.directory)
        return TrainingData(whole.take(self.train), whole.take(self.held), self.machines)


def fit_on_cluster(
    settings: TrainingSettings, data: TrainingData, say: Say, where: Where
) -> tuple[Pretrainer, Log]:
    """``training.fit`` on ``where.workers`` workers of the cluster; both data sets on disk.

    Raises:
        AgentError: the workers failed again and again.
    """
    origin = data.train.origin
    if where.work is None or origin is None or data.held.origin != origin:
        raise ValueError("training on a cluster reads its data from the work directory")
    job = _Job(settings, origin, _rows(data.train), _rows(data.held), data.machines, where.work)
    (where.work / PROGRESS).unlink(missing_ok=True)
    with connected(where.address), _followed(where.work / PROGRESS, say):
        _train(job, where)
    return training.fit(settings, data, say, training.TrainingWorker(kept=where.work))


def _rows(data: Dataset) -> slice:
    return slice(data.first, data.first + len(data))


def check_workers(where: Where) -> None:
    """Refuse more workers than the cluster has room for: they would wait for ever."""
    wanted = "GPU" if where.device == "cuda" else "CPU"
    there = int(_ray().cluster_resources().get(wanted, 0))
    if there < where.workers:
        raise InputError(
            f"{where.workers} workers need as many {wanted}s; the cluster has {there}",
            "Use fewer --workers, or add nodes.",
        )


def _train(job: _Job, where: Where) -> None:
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    api = _ray().train
    gpu = where.device == "cuda"
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=api.ScalingConfig(num_workers=where.workers, use_gpu=gpu),
        run_config=api.RunConfig(
            storage_path=str((job.kept / "ray").absolute()),
            failure_config=api.FailureConfig(max_failures=RESTARTS),
            logging_config=api.LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise AgentError(
            f"training on the cluster failed: {_cause(error)}",
            f"The same command goes on from the last epoch. {SAME}",
        ) from error


def _work(config: dict[str, _Job]) -> None:
    """One training worker."""
    import ray.train
    import ray.train.torch

    job = config["job"]
    context = ray.train.get_context()

    def tell(line: str) -> None:
        with (job.kept / PROGRESS).open("a") as file:
            file.write(line + "\n")

    worker = training.TrainingWorker(
        device=str(ray.train.torch.get_device()),
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        kept=job.kept,
    )
    training.fit(job.settings, job.data(), tell, worker)


@contextmanager
def _followed(path: Path, say: Say) -> Iterator[None]:
    """Tell here, in the meantime, what workers write into a file."""
    over = threading.Event()

    def follow() -> None:
        shown, last = 0, False
        while not last:
            last = over.wait(POLL_S)
            lines = path.read_text().splitlines() if path.exists() else []
            for line in lines[shown:]:
                say(line)
            shown = len(lines)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
