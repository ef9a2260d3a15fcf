"""Pre-training from nothing to a bundle, readable top to bottom; the network is in ``network``.

    corpus + simulated machines -> data set -> train -> whiten -> prior -> evaluate -> export

The data is exactly reproducible from the seed. Training repeats bit by bit on the same CPU type
with the same torch, numpy and thread count (deterministic algorithms, seeded orders); elsewhere
sums round differently, and the weights differ slightly.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundles import evaluate
from bundles.dataset import Dataset, Recipe, generate
from bundles.export import Export, code_version, export
from bundles.machines import sample_machines
from bundles.network import Pretrainer, Shape, Weights, loss
from bundles.prior import heads, make_prior, whitening

Say = Callable[[str], None]
Log = list[dict[str, float]]
TUNING = 0.5  # part of the held-out machines that sets the shrinkage; the rest is reported on


@dataclass(frozen=True)
class Settings:
    """What a bundle is made from; the manifest repeats all of it.

    Attributes:
        programs, variants: size of the corpus; ``held_out``: part kept for validation.
        machines, other_machines: simulated machines to train on, and to validate on.
        epochs, batch, rate, decay: of AdamW under a one-cycle schedule; ``batch`` in programs.
        hidden, blocks, embedding: sizes of the encoder.
        threads, processes: CPU threads of torch, processes that draw programs.
    """

    seed: int = 0
    programs: int = 8_000
    variants: int = 16
    held_out: float = 0.1
    machines: int = 192
    other_machines: int = 48
    epochs: int = 40
    batch: int = 48
    rate: float = 2e-3
    decay: float = 1e-3
    hidden: int = 224
    blocks: int = 3
    embedding: int = 64
    threads: int = 1  # at these sizes a second thread costs more than it brings
    processes: int = 2


def quick(settings: Settings) -> Settings:
    """A tiny run of the same pipeline, for tests: seconds instead of minutes."""
    small = replace(settings, programs=200, variants=8, machines=32, other_machines=8)
    return replace(small, epochs=4, batch=16, hidden=64, blocks=1, embedding=24, processes=1)


def pretrain(settings: Settings, out: Path, say: Say) -> dict[str, Any]:
    """Make a bundle in the directory ``out``; returns its manifest.

    Raises:
        BundleError: the bundle does not pass its own checks, or cannot be written.
    """
    started, code = time.monotonic(), code_version()  # what runs, not what is there at the end
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    train, held, trained, others = _data(settings, say)
    model, log = fit(settings, train, held, trained, say)
    raw = _embed(model, train.features)
    white = whitening(raw)
    known, unseen = white(raw), white(_embed(model, held.features))
    weights = heads(known, train.target[..., trained])
    prior = make_prior(weights)
    tuning, reporting = np.array_split(others, [round(len(others) * TUNING)])
    scale = evaluate.best_scale(prior, _part(known, train, unseen, held, tuning), settings.seed)
    prior = replace(prior, direction_scale=scale)
    checked = _part(known, train, unseen, held, reporting)
    results = evaluate.report(prior, checked, settings.seed)
    results["best_linear_head"] = _bound(known, train, unseen, held, reporting)
    for name, figures in results.items():
        say(f"{name:>18}: " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items()))
    evaluation: dict[str, Any] = dict(results)
    evaluation["protocol"] = (
        f"{len(held)} unseen random programs x {len(reporting)} unseen simulated machines; labels "
        "with heavy-tailed errors; means over programs and machines"
    )
    recipe = {**asdict(settings), "directions": prior.directions.shape[1], "direction_scale": scale}
    provenance = {
        "code_version": code,
        "seeds": {"all": settings.seed},
        "recipe": recipe,
        "environment": {"torch": torch.__version__, "numpy": np.__version__}
        | {"python": platform.python_version(), "machine": platform.machine()},
        "data": "random loop nests (bundles.corpus) on simulated machines (bundles.machines)",
        "reproducible": (__doc__ or "").split("\n\n")[2].replace("\n", " ").strip(),
        "training_log": log,
        "evaluation": evaluation,
        "elapsed_s": round(time.monotonic() - started, 1),
    }
    golden = held.features[:8, :2].reshape(16, -1)
    return export(Export(model.encoder, white, prior, golden, provenance), out, say)


def _data(settings: Settings, say: Say) -> tuple[Dataset, Dataset, slice, npt.NDArray[np.intp]]:
    """Training and held-out programs; which machines are trained on, which are not."""
    count = settings.machines + settings.other_machines
    machines = sample_machines(np.random.default_rng(settings.seed), count)
    recipe = Recipe(settings.programs, settings.variants, settings.seed, machines)
    shown = [time.monotonic()]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - shown[0] > 10 or done == total:
            shown[0] = time.monotonic()
            say(f"programs {done}/{total}")

    data = generate(recipe, settings.processes, progress)
    cut = round(len(data) * (1 - settings.held_out))
    others = np.arange(settings.machines, count)
    return data.take(slice(cut)), data.take(slice(cut, None)), slice(settings.machines), others


def fit(
    settings: Settings, train: Dataset, held: Dataset, trained: slice, say: Say
) -> tuple[Pretrainer, Log]:
    """Train the network; the log holds one record an epoch."""
    y = torch.from_numpy(np.ascontiguousarray(train.target[..., trained]))  # [P, V, M]
    x = torch.from_numpy(train.features)  # [P, V, F]
    model = Pretrainer(
        Shape(x.shape[2], y.shape[2], settings.hidden, settings.blocks, settings.embedding)
    )
    _normalisation(model, x, y)
    steps = -(-len(x) // settings.batch)
    optimiser = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=steps * settings.epochs, pct_start=0.1
    )
    log: Log = []
    for epoch in range(settings.epochs):
        started, total = time.monotonic(), 0.0
        for batch in _batches(len(x), settings.batch, settings.seed, epoch):
            optimiser.zero_grad()
            value = loss(model, x[batch], y[batch], Weights())
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += value.item() / steps
        record = {"epoch": epoch + 1, "loss": round(total, 5)} | _validate(model, held, trained)
        log.append(record)
        took = time.monotonic() - started
        say("  ".join(f"{k} {v:g}" for k, v in record.items()) + f"  ({took:.0f} s)")
    return model, log


def _normalisation(model: Pretrainer, x: Tensor, y: Tensor) -> None:
    """Bake the features' mean and sd into the encoder; start every machine at its mean."""
    flat = x.reshape(-1, x.shape[2])
    sd = flat.std(0)
    model.encoder.get_buffer("shift").copy_(flat.mean(0))
    model.encoder.get_buffer("scale").copy_(torch.where(sd > 1e-4, 1.0 / sd, torch.zeros_like(sd)))
    with torch.no_grad():
        model.machines.bias.copy_(y.reshape(-1, y.shape[2]).mean(0))


def _batches(count: int, size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    yield from torch.split(torch.from_numpy(order), size)


def _validate(model: Pretrainer, held: Dataset, trained: slice) -> dict[str, float]:
    """Mean absolute log error of speed-ups and of times, on unseen programs."""
    with torch.no_grad():
        times, _ = model(torch.from_numpy(held.features.reshape(-1, held.features.shape[2])))
    truth = held.target[..., trained]
    predicted = times.numpy().reshape(truth.shape)
    gain = (predicted[:, :1] - predicted[:, 1:]) - (truth[:, :1] - truth[:, 1:])
    return {
        "speedup_error": round(float(np.abs(gain).mean()), 4),
        "seconds_error": round(float(np.abs(predicted - truth).mean()), 4),
    }


def _embed(model: Pretrainer, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[p, v, F] -> [p, v, E]."""
    flat = torch.from_numpy(features.reshape(-1, features.shape[2]))
    with torch.no_grad():
        parts = [model.encoder(part) for part in torch.split(flat, 8_192)]
    found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return found.reshape(*features.shape[:2], -1)


def _part(
    known: npt.NDArray[np.float64],
    train: Dataset,
    unseen: npt.NDArray[np.float64],
    held: Dataset,
    machines: npt.NDArray[np.intp],
) -> evaluate.HeldOut:
    return evaluate.HeldOut(known, train.target[..., machines], unseen, held.target[..., machines])


def _bound(
    known: npt.NDArray[np.float64],
    train: Dataset,
    unseen: npt.NDArray[np.float64],
    held: Dataset,
    machines: npt.NDArray[np.intp],
) -> dict[str, float]:
    """What a linear head fitted to all labels of a machine reaches: the encoder's own limit."""
    fitted = heads(known, train.target[..., machines])
    rows = [
        evaluate.figures(w, unseen, held.target[..., m].astype(np.float64))
        for w, m in zip(fitted, machines, strict=True)
    ]
    return {name: round(float(np.mean([r[name] for r in rows])), 4) for name in rows[0]}
