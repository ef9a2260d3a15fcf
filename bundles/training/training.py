"""Training the network of ``network`` on a data set; the rest of the story is in ``pretrain``.

The data set may be larger than memory: an epoch goes through it in shuffled windows, and reads
one at a time. A data set that fits in one window is shuffled as a whole. Several workers share
every batch and average their gradients: a run is the same on any number of them, up to rounding
and to what is masked, which each worker draws for itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from agent.arrays import Indices
from agent.errors import InputError
from bundles.training.checkpoints import Checkpoints, State
from bundles.training.dataset import Dataset, TrainingData
from bundles.training.network import Pretrainer, Shape, Weights, loss
from bundles.training.settings import Say, TrainingSettings
from bundles.training.shards import code_digest, digest_of

Log = list[dict[str, float]]
BLOCK = 1_024  # programs read in one go
WINDOW = 32 * BLOCK  # programs shuffled together, and in memory at a time: about 1 GB
EMBEDDED = 8_192  # rows evaluated at a time
VALIDATED = 16 * BLOCK  # programs, at most


@dataclass(frozen=True)
class TrainingWorker:
    """The process that has a part of a training run, or all of it.

    Attributes:
        device: of torch, such as ``cpu`` or ``cuda:0``.
        rank, world: number of this worker, and of workers.
        kept: directory of checkpoints; a run that finds one of its own there goes on from it.
    """

    device: str = "cpu"
    rank: int = 0
    world: int = 1
    kept: Path | None = None


ALONE = TrainingWorker()


class Objective(nn.Module):
    """The training loss as a module, so that workers can share its gradients."""

    def __init__(self, model: Pretrainer, weights: Weights) -> None:
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Programs x [P, V, F] with times y [P, V, M] -> loss."""
        return loss(self.model, x, y, self.weights)


def fit(
    settings: TrainingSettings, data: TrainingData, say: Say, worker: TrainingWorker = ALONE
) -> tuple[Pretrainer, Log]:
    """Train the network; the log holds one record an epoch.

    Args:
        settings: sizes, rates, epochs and the seed.
        data: programs, and the machines that are learnt.
        say: told of every epoch.
        worker: which part of the run this process has.

    Raises:
        InputError: the device is not there.
    """
    prepare_torch(settings, worker.device)
    run = _start(settings, data, worker)
    checkpoints = Checkpoints(worker.kept, _identity(settings, data))
    if found := checkpoints.newest():
        run.restore(found)
        say(f"training goes on after epoch {len(run.log)}")
    _agree(worker, len(run.log))
    while len(run.log) < settings.epochs:
        started, epoch = time.monotonic(), len(run.log)
        mean = _epoch(run, settings, data, epoch)
        record = {"epoch": epoch + 1, "loss": round(mean, 5)}
        if worker.rank == 0:
            record |= _validate(run.model, data, worker.device)
        run.log.append(record)
        if worker.rank == 0:
            checkpoints.keep(epoch + 1, run.state())
            took = time.monotonic() - started
            say("  ".join(f"{k} {v:g}" for k, v in record.items()) + f"  ({took:.0f} s)")
    return run.model.cpu(), run.log


def prepare_torch(settings: TrainingSettings, device: str) -> None:
    """Seed torch, set its threads, and make it deterministic.

    Raises:
        InputError: there is no such device.
    """
    check_device(device)
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS is not
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)


def check_device(device: str) -> None:
    """Refuse a GPU that is not there (InputError)."""
    if not device.startswith("cuda"):
        return
    if torch.version.cuda is None:
        raise InputError(
            "--device cuda: this torch was built without CUDA",
            "Install torch with CUDA (pytorch.org says how), or leave out --device.",
        )
    if not torch.cuda.is_available():
        raise InputError(
            "--device cuda: torch finds no GPU", "See what nvidia-smi says, or leave out --device."
        )


@dataclass(eq=False)
class _Run:
    """All that changes while training."""

    worker: TrainingWorker
    model: Pretrainer
    objective: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    log: Log

    def state(self) -> State:
        """What a checkpoint holds: tensors, numbers and texts."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "log": self.log,
        }

    def restore(self, state: State) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        self.log = list(state["log"])


def _start(settings: TrainingSettings, data: TrainingData, worker: TrainingWorker) -> _Run:
    sample = data.train.take(slice(WINDOW))  # programs are in no order: any will do
    x = torch.from_numpy(np.array(sample.features))  # [P, V, F]
    y = torch.from_numpy(np.ascontiguousarray(data.learnt(sample.target)))  # [P, V, M]
    model = Pretrainer(
        Shape(x.shape[2], y.shape[2], settings.hidden, settings.blocks, settings.embedding)
    )
    _normalisation(model, x, y)
    model = model.to(worker.device)
    objective: nn.Module = Objective(model, _weights(settings))
    if worker.world > 1:
        objective = DistributedDataParallel(objective)
    optimiser = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.decay)
    steps = sum(-(-len(window) // settings.batch) for window in _windows(len(data.train), [0]))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=steps * settings.epochs, pct_start=0.1
    )
    return _Run(worker, model, objective, optimiser, schedule, [])


def _weights(settings: TrainingSettings) -> Weights:
    plain = Weights()
    return Weights(
        settings.simulated * plain.speedup,
        settings.simulated * plain.seconds,
        settings.decoder,
        settings.mask,
    )


def _normalisation(model: Pretrainer, x: Tensor, y: Tensor) -> None:
    """Bake the features' mean and sd into the encoder; start every machine at its mean."""
    flat = x.reshape(-1, x.shape[2])
    model.encoder.normalise_by(flat)
    with torch.no_grad():
        model.machines.bias.copy_(y.reshape(-1, y.shape[2]).mean(0))


def _identity(settings: TrainingSettings, data: TrainingData) -> str:
    """Tells runs apart: settings, code, and the data by their shape and a sample."""
    here, train = Path(__file__), data.train
    sample = train.take(slice(BLOCK))
    content = (sample.features, sample.target)
    facts = [asdict(settings), train.features.shape, train.target.shape]
    chosen = np.arange(train.target.shape[2])[data.machines].tolist()
    code = code_digest([here, here.with_name("network.py")])
    return digest_of([facts, chosen, code, *(sha256(a.tobytes()).hexdigest() for a in content)])


def _agree(worker: TrainingWorker, epochs: int) -> None:
    """All workers must have found the same checkpoint."""
    if worker.world > 1:
        found = torch.tensor([epochs, -epochs], device=worker.device)
        distributed.all_reduce(found, distributed.ReduceOp.MIN)
        if int(found[0]) != -int(found[1]):
            raise RuntimeError("workers see different checkpoints in the work directory")


def _epoch(run: _Run, settings: TrainingSettings, data: TrainingData, epoch: int) -> float:
    """One pass over the data; the mean loss over all workers."""
    worker, total, count = run.worker, 0.0, 0
    for rows, part, share in _batches(data.train, settings, epoch, worker):
        x = torch.from_numpy(np.ascontiguousarray(part.features[rows])).to(worker.device)
        y = torch.from_numpy(np.ascontiguousarray(data.learnt(part.target[rows])))
        run.optimiser.zero_grad()
        value = run.objective(x, y.to(worker.device)) * share
        value.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimiser.step()
        run.schedule.step()
        total += value.item()
        count += 1
    mean = torch.tensor(total / count, dtype=torch.float64, device=worker.device)
    if worker.world > 1:
        distributed.all_reduce(mean)
    return float(mean) / worker.world


def _windows(count: int, seed: list[int]) -> Iterator[Indices]:
    """Rows of the windows of an epoch, each in random order; their lengths do not depend on it."""
    rng = np.random.default_rng(seed)
    if count <= WINDOW:
        yield rng.permutation(count)
        return
    starts = rng.permutation(np.arange(0, count - count % BLOCK, BLOCK))
    if count % BLOCK:
        starts = np.append(starts, count - count % BLOCK)
    for some in np.split(starts, range(WINDOW // BLOCK, len(starts), WINDOW // BLOCK)):
        rows = (some[:, None] + np.arange(BLOCK)).ravel()
        yield rng.permutation(rows[rows < count])


def _batches(
    train: Dataset, settings: TrainingSettings, epoch: int, worker: TrainingWorker
) -> Iterator[tuple[Indices, Dataset, float]]:
    """This worker's rows of every batch, where they are, and how much they weigh.

    The weight makes the mean over workers that over the batch, even where they do not share it
    evenly; a worker without a row in a small batch computes one for nothing.
    """
    on_disk = isinstance(train.features, np.memmap)
    for window in _windows(len(train), [settings.seed, epoch]):
        batches = np.split(window, range(settings.batch, len(window), settings.batch))
        mine = [batch[worker.rank :: worker.world] for batch in batches]
        weights = [len(m) * worker.world / len(b) for m, b in zip(mine, batches, strict=True)]
        mine = [m if len(m) else b[:1] for m, b in zip(mine, batches, strict=True)]
        if not on_disk:
            yield from ((m, train, w) for m, w in zip(mine, weights, strict=True))
            continue
        wanted = np.unique(np.concatenate(mine))
        data = train.take(wanted)
        places = (np.searchsorted(wanted, m) for m in mine)
        yield from ((p, data, w) for p, w in zip(places, weights, strict=True))


def _validate(model: Pretrainer, data: TrainingData, device: str) -> dict[str, float]:
    """Mean absolute log error of speed-ups and of times, on unseen programs."""
    held = data.held.take(slice(VALIDATED))
    flat = held.features.reshape(-1, held.features.shape[2])
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(np.array(flat[start : start + EMBEDDED])).to(device))[0].cpu()
            for start in range(0, len(flat), EMBEDDED)
        ]
    truth = data.learnt(held.target)
    predicted = torch.cat(parts).numpy().reshape(truth.shape)
    gain = (predicted[:, :1] - predicted[:, 1:]) - (truth[:, :1] - truth[:, 1:])
    return {
        "speedup_error": round(float(np.abs(gain).mean()), 4),
        "seconds_error": round(float(np.abs(predicted - truth).mean()), 4),
    }
