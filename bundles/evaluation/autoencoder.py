"""A control: an encoder trained only to give its input back, on the corpus without any times."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from agent.arrays import Doubles, Singles
from agent.loopnest.features.vector import FEATURES_VERSION
from bundles.simulator.machines import sample_machines
from bundles.training.dataset import Recipe, generate
from bundles.training.network import Pretrainer, Shape
from bundles.training.prior import whitening
from bundles.training.settings import Say

Embed = Callable[[Singles], Doubles]


@dataclass(frozen=True)
class AutoencoderSize:
    """How much the autoencoder is trained; everything else is as in pre-training."""

    programs: int = 3_000
    variants: int = 16
    epochs: int = 30
    batch: int = 768  # versions
    rate: float = 2e-3
    decay: float = 1e-3
    seed: int = 0


SMALL = AutoencoderSize(programs=50, variants=4, epochs=2)


def plain_autoencoder(size: AutoencoderSize, work: Path, say: Say) -> Embed:
    """Features [n, F] to whitened embeddings [n, E]; trained once and kept in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(json.dumps([FEATURES_VERSION, asdict(size)]).encode()).hexdigest()[:16]
    path = work / f"autoencoder-{key}.npz"
    if not path.exists():
        say(f"training the plain autoencoder on {size.programs} programs")
        _save(path, _trained(size))
    return _load(path)


def _trained(size: AutoencoderSize) -> dict[str, npt.NDArray[np.generic]]:
    """Weights of the encoder and the whitening of its embeddings."""
    torch.manual_seed(size.seed)
    torch.set_num_threads(1)
    machines = sample_machines(np.random.default_rng(size.seed), 1)  # their times are not used
    data = generate(Recipe(size.programs, size.variants, size.seed, machines), processes=1)
    flat = torch.from_numpy(data.features.reshape(-1, data.features.shape[2]))
    model = Pretrainer(Shape(flat.shape[1], 1))
    model.encoder.normalise_by(flat)
    _fit(model, flat, size)
    embedded = model.encoder.embed(flat).numpy()
    white = whitening(embedded.reshape(*data.features.shape[:2], -1))
    weights = {f"encoder.{k}": v.numpy() for k, v in model.encoder.state_dict().items()}
    return {**weights, "shift": white.shift, "turn": white.turn}


def _fit(model: Pretrainer, flat: torch.Tensor, size: AutoencoderSize) -> None:
    steps = size.epochs * -(-len(flat) // size.batch)
    optimiser = torch.optim.AdamW(model.parameters(), size.rate, weight_decay=size.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, size.rate, total_steps=steps)
    rng = np.random.default_rng(size.seed)
    for _ in range(size.epochs):
        for rows in torch.split(torch.from_numpy(rng.permutation(len(flat))), size.batch):
            optimiser.zero_grad()
            x = flat[rows]
            _, again = model(x)
            value = functional.huber_loss(again, model.encoder.normalise(x), delta=1.0)
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def _save(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    staged = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(staged, allow_pickle=False, **arrays)
    staged.replace(path)


def _load(path: Path) -> Embed:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    prefix = "encoder."
    state = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    model = Pretrainer(Shape(len(state["shift"]), 1)).encoder
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    shift, turn = arrays["shift"], arrays["turn"]

    def embed(features: Singles) -> Doubles:
        with torch.no_grad():
            raw = model(torch.from_numpy(features)).double().numpy()
        return np.asarray((raw - shift) @ turn, np.float64)

    return embed
