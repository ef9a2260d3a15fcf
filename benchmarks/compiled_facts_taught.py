r"""What does an encoder gain that learns to foretell facts of compiled programs?

    python -m benchmarks.compiled_facts_taught --data WORK/data-... --facts facts.npz
        --arm facts --seeds 0 1 --labels bundles/measured/zen5*.parquet --out DIR

Encoders learn by the recipe of the first stage of ``bundles pretrain``, one member each, from data
that it drew for seed 0 (``--work WORK``); then they go on for some passes in one of three ways,
from the same weights and in the same order:

    none      times on simulated machines and reconstruction, as before
    facts     and the facts of ``compiled_facts``, where a program was compiled
    shuffled  and the facts of other versions: what more targets do that say nothing

    features -> encoder -> embedding -> machines, decoder
                                     -> relu -> facts      (this alone is new)

Then labels teach each of them as they do bundles. ``DIR/ARM-SEED`` is a bundle, ``DIR/ARM`` one of
all seeds joined, both to be judged by ``bundles evaluate``; ``DIR/ARM-SEED.json`` says how well
facts are foretold on programs held out. ``DIR/start-SEED.pt`` is where all arms begin.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.arrays import Bools, Doubles, Singles
from benchmarks.compiled_facts import Facts, read
from bundles.labels.labels import Labels, load_labels
from bundles.simulator.machines import sample_machines
from bundles.training.adapt import Adaptation
from bundles.training.dataset import Dataset, TrainingData
from bundles.training.export import Export, export
from bundles.training.network import Pretrainer, Shape, Weights, loss
from bundles.training.settings import TrainingSettings
from bundles.training.shards import data_on_disk
from bundles.training.stages import LINEAR, Simulated, embed, learn
from bundles.training.training import prepare_torch

ARMS = ("none", "facts", "shuffled")
WEIGHT = 0.1  # of facts in the loss: that of reconstruction
MORE, RATE = 10, 1e-3  # passes that every arm goes on for, and at which rate
VARIES = 1e-2  # sd of a fact that is learned
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class FactsNetwork(Pretrainer):
    """A pre-trainer that also foretells K facts; its other weights start as if it did not."""

    def __init__(self, shape: Shape, facts: int) -> None:
        super().__init__(shape)
        with torch.random.fork_rng(devices=[]):
            self.facts = nn.Sequential(
                nn.Linear(shape.embedding, shape.hidden),
                nn.ReLU(),
                nn.Linear(shape.hidden, facts),
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As ``Pretrainer``; keeps the embedding for ``told``."""
        self.seen: Tensor = self.encoder(x)
        return self.machines(self.seen), self.decoder(self.seen)

    def told(self) -> Tensor:
        """[B, K] facts of the versions that went through last."""
        found: Tensor = self.facts(self.seen)
        return found


@dataclass(frozen=True, eq=False)
class Known:
    """Facts of every version of a data set, as they are learned: mean 0, sd 1; nan: not known.

    Attributes:
        facts: [p, v, K]; ``names``: [K].
    """

    facts: Singles
    names: tuple[str, ...]


def known(found: Facts, programs: int, variants: int, learnt: int) -> Known:
    """Facts laid beside a data set, of which the first ``learnt`` programs give mean and sd."""
    laid = np.full((programs, variants, found.facts.shape[2]), np.nan, np.float32)
    laid[found.rows, : found.facts.shape[1]] = found.facts
    taught = laid[:learnt].reshape(-1, laid.shape[2])
    mean, sd = np.nanmean(taught, axis=0), np.nanstd(taught, axis=0)
    kept = sd > VARIES
    names = tuple(name for name, keep in zip(found.names, kept, strict=True) if keep)
    return Known(((laid - mean) / np.maximum(sd, VARIES))[..., kept], names)


def shuffled(known_facts: Known, rng: np.random.Generator) -> Known:
    """Every version with facts has those of another."""
    mixed = known_facts.facts.reshape(-1, len(known_facts.names)).copy()
    there = np.flatnonzero(np.isfinite(mixed).all(axis=1))
    mixed[there] = mixed[rng.permutation(there)]
    return replace(known_facts, facts=mixed.reshape(known_facts.facts.shape))


def whole_loss(
    model: FactsNetwork, x: Tensor, y: Tensor, facts: Tensor, weights: Weights, weight: float
) -> Tensor:
    """The loss of pre-training, and that of facts [P, V, K] where they are known."""
    value = loss(model, x, y, weights)
    there = torch.isfinite(facts)
    if not weight or not there.any():
        return value
    told = model.told().reshape(facts.shape)
    return value + weight * functional.huber_loss(told[there], facts[there], delta=1.0)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned: programs, the facts [p, v, K] of them, and how much facts count."""

    data: Dataset
    facts: Singles
    weight: float


def fit(settings: TrainingSettings, lesson: Lesson, start: Pretrainer | None) -> FactsNetwork:
    """As ``bundles.training.training.fit``, with facts; from the weights of ``start``, if any."""
    prepare_torch(settings, "cpu")
    arrays = (lesson.data.features, lesson.data.target, lesson.facts)
    x, y, z = (torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)
    shape = Shape(x.shape[2], y.shape[2], settings.hidden, settings.blocks, settings.embedding)
    model = FactsNetwork(shape, z.shape[2])
    if start is None:
        model.encoder.normalise_by(x.reshape(-1, x.shape[2]))
        with torch.no_grad():
            model.machines.bias.copy_(y.reshape(-1, y.shape[2]).mean(0))
    else:
        model.load_state_dict(start.state_dict(), strict=False)
    optimiser = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.decay)
    steps = settings.epochs * -(-len(x) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=steps, pct_start=0.1
    )
    weights = Weights(decoder=settings.decoder, mask=settings.mask)
    for epoch in range(settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(x))
        total, started = 0.0, time.monotonic()
        for rows in torch.split(torch.from_numpy(order), settings.batch):
            optimiser.zero_grad()
            value = whole_loss(model, x[rows], y[rows], z[rows], weights, lesson.weight)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += value.item() * len(rows) / len(x)
        took = time.monotonic() - started
        print(f"epoch {epoch + 1}  loss {total:.5f}  ({took:.0f} s)", flush=True)
    return model


def foretold(seen: Doubles, facts: Singles, learnt: int) -> Doubles:
    """[K] R2 on programs from ``learnt`` on of the best ridge from what is ``seen`` [p, v, D].

    Programs without facts are passed over; a fifth of those before ``learnt`` chooses the ridge.
    """
    there = np.isfinite(facts).all(axis=2)
    program = np.broadcast_to(np.arange(len(facts))[:, None], there.shape)[there]
    x, y = seen[there], facts[there].astype(np.float64)
    mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    x = np.append(np.clip((x - mean) / sd, -8, 8), np.ones((len(x), 1)), axis=1)
    held = program >= learnt
    chooses = ~held & (program % 5 == 0)
    best = max(RIDGES, key=lambda r: float(_ridge(x, y, ~held & ~chooses, chooses, r).mean()))
    return _ridge(x, y, ~held, held, best)


def _ridge(x: Doubles, y: Doubles, fits: Bools, tests: Bools, ridge: float) -> Doubles:
    normal = x[fits].T @ x[fits]
    pull = ridge * np.trace(normal) / len(normal) * np.eye(len(normal))
    return r_squared(x[tests] @ np.linalg.solve(normal + pull, x[fits].T @ y[fits]), y[tests])


def r_squared(told: Doubles, true: Doubles) -> Doubles:
    """[K] of predictions [n, K]."""
    left = ((told - true) ** 2).mean(axis=0)
    return np.asarray(1 - left / np.maximum(true.var(axis=0), 1e-9))


def of_head(model: FactsNetwork, features: Singles, facts: Singles) -> Doubles:
    """[K] R2 of what the network itself foretells of programs [p, v, F]."""
    there = np.isfinite(facts).all(axis=2)
    with torch.no_grad():
        told = model.facts(model.encoder(torch.from_numpy(np.array(features[there]))))
    return r_squared(told.numpy().astype(np.float64), facts[there].astype(np.float64))


def figures(model: FactsNetwork, data: Dataset, facts: Known, learnt: int) -> dict[str, object]:
    """R2 of every fact on programs from ``learnt`` on: foretold, and linear in what is seen."""
    found = {
        "head": of_head(model, data.features[learnt:], facts.facts[learnt:]),
        "embedding": foretold(embed(model.encoder, data.features), facts.facts, learnt),
        "features": foretold(data.features.astype(np.float64), facts.facts, learnt),
    }
    return {k: np.round(v, 4).tolist() for k, v in found.items()} | {"names": facts.names}


def stage_of(
    models: Sequence[FactsNetwork], data: Dataset, settings: TrainingSettings
) -> Simulated:
    """What the first stage leaves to the second."""
    learnt = round(len(data) * (1 - settings.held_out))
    parts = (data.take(slice(learnt)), data.take(slice(learnt, None)))
    count = settings.machines + settings.other_machines
    machines = sample_machines(np.random.default_rng(0), count)
    halves = [part.loaded(LINEAR) for part in parts]
    return Simulated(tuple(models), TrainingData(*halves, slice(settings.machines)), machines, [])


def write(stage: Simulated, labels: Sequence[Labels], seed: int, out: Path) -> None:
    """The second stage, as for any bundle, and the bundle."""
    made = learn(stage, labels, Adaptation(), seed, print)
    golden = stage.data.held.features[:8, :2].reshape(16, -1)
    export(Export(made.encoder, made.prior, golden, {}, version=out.name), out, print)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="drawn by bundles pretrain --work")
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--arm", choices=ARMS, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--weight", type=float, default=WEIGHT)
    parser.add_argument("--labels", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    settings, drawn = TrainingSettings(members=1), data_on_disk(given.data)
    data = replace(drawn.loaded(len(drawn)), target=drawn.target[..., : settings.machines])
    learnt = round(len(data) * (1 - settings.held_out))
    true = known(read(given.facts), len(data), data.features.shape[1], learnt)
    labels = [load_labels(path) for path in given.labels]
    models = []
    for seed in given.seeds:
        each, out = replace(settings, seed=seed), given.out / f"{given.arm}-{seed}"
        start = begun(given.out / f"start-{seed}.pt", each, data.take(slice(learnt)))
        told = shuffled(true, np.random.default_rng(seed)) if given.arm == "shuffled" else true
        weight = 0.0 if given.arm == "none" else given.weight
        lesson = Lesson(data.take(slice(learnt)), told.facts[:learnt], weight)
        models.append(fit(replace(each, epochs=MORE, rate=RATE), lesson, start))
        found = figures(models[-1], data, true, learnt)
        out.with_suffix(".json").write_text(json.dumps(found) + "\n")
        write(stage_of(models[-1:], data, settings), labels, seed, out)
    if len(models) > 1:
        write(stage_of(models, data, settings), labels, given.seeds[0], given.out / given.arm)


def begun(path: Path, settings: TrainingSettings, data: Dataset) -> Pretrainer:
    """The encoder that all arms start from, made where it is not there."""
    shape = Shape(data.features.shape[2], settings.machines)
    model = Pretrainer(shape)
    if not path.exists():
        nothing = np.full((*data.features.shape[:2], 1), np.nan, np.float32)
        made = fit(settings, Lesson(data, nothing, 0.0), None).state_dict()
        kept = {k: v for k, v in made.items() if not k.startswith("facts.")}
        torch.save(kept, path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


if __name__ == "__main__":
    main()
