"""Training the network of ``network`` on a data set; the rest of the story is in ``pretrain``."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bundles.dataset import Dataset
from bundles.network import Pretrainer, Shape, Weights, loss
from bundles.settings import Say, Settings

Log = list[dict[str, float]]


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
