"""Pre-training from nothing to a bundle, readable top to bottom; the network is in ``network``.

    corpus + simulated machines -> data set -> train -> whiten -> prior -> evaluate -> export

The data is exactly reproducible from the seed. Training repeats bit by bit on the same CPU type
with the same torch, numpy and thread count (deterministic algorithms, seeded orders); elsewhere
sums round differently, and the weights differ slightly.
"""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bundles import running, simulated_evaluation
from bundles.dataset import Dataset, Recipe
from bundles.export import Export, code_version, export
from bundles.machines import sample_machines
from bundles.network import Pretrainer
from bundles.prior import heads, make_prior, whitening
from bundles.running import ready
from bundles.settings import HERE, Say, Settings, Where
from bundles.training import prepare

LINEAR = 20_000  # programs, at most, that linear heads are fitted to in memory
TUNING = 0.5  # part of the held-out machines that sets the shrinkage; the rest is reported on


def pretrain(settings: Settings, out: Path, say: Say, where: Where = HERE) -> dict[str, Any]:
    """Make a bundle in the directory ``out``; returns its manifest.

    Raises:
        BundleError: the bundle does not pass its own checks, or cannot be written.
        InputError: it cannot be made there (no such device, cluster or directory).
    """
    with ready(where) as place:
        return _pretrain(settings, out, say, place)


def _pretrain(settings: Settings, out: Path, say: Say, where: Where) -> dict[str, Any]:
    started, code = time.monotonic(), code_version()  # what runs, not what is there at the end
    prepare(settings, "cpu")
    train, held, trained, others = _data(settings, say, where)
    model, log = running.train(settings, train, held, trained, say, where)
    train, held = train.loaded(LINEAR), held.loaded(LINEAR)
    raw = _embed(model, train.features)
    white = whitening(raw)
    known, unseen = white(raw), white(_embed(model, held.features))
    weights = heads(known, train.target[..., trained])
    prior = make_prior(weights)
    tuning, reporting = np.array_split(others, [round(len(others) * TUNING)])
    scale = simulated_evaluation.best_scale(
        prior, _part(known, train, unseen, held, tuning), settings.seed
    )
    prior = replace(prior, direction_scale=scale)
    checked = _part(known, train, unseen, held, reporting)
    results = simulated_evaluation.report(prior, checked, settings.seed)
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


def _data(
    settings: Settings, say: Say, where: Where
) -> tuple[Dataset, Dataset, slice, npt.NDArray[np.intp]]:
    """Training and held-out programs; which machines are trained on, which are not."""
    count = settings.machines + settings.other_machines
    machines = sample_machines(np.random.default_rng(settings.seed), count)
    recipe = Recipe(settings.programs, settings.variants, settings.seed, machines)
    shown = [time.monotonic()]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - shown[0] > 10 or done == total:
            shown[0] = time.monotonic()
            say(f"programs {done}/{total}")

    data = running.corpus(recipe, settings.processes, where, progress)
    cut = round(len(data) * (1 - settings.held_out))
    others = np.arange(settings.machines, count)
    return data.take(slice(cut)), data.take(slice(cut, None)), slice(settings.machines), others


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
) -> simulated_evaluation.HeldOut:
    return simulated_evaluation.HeldOut(
        known, train.target[..., machines], unseen, held.target[..., machines]
    )


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
        simulated_evaluation.figures(w, unseen, held.target[..., m].astype(np.float64))
        for w, m in zip(fitted, machines, strict=True)
    ]
    return {name: round(float(np.mean([r[name] for r in rows])), 4) for name in rows[0]}
