"""Stage 2 of pre-training: an encoder that knows simulated machines meets real ones.

    simulated stage -> encoder + labels of reference machines -> encoder, heads of all machines

Every reference machine has a linear head of its own on the embedding, as the simulated ones do.
The heads of reference machines share most of themselves (``shared + own``, own ones are pulled to
zero): what real machines have in common beyond any simulation is learnt once, and is what a
machine that was never seen starts from. Simulated machines go on being learnt beside them, so that
directions no reference machine shows are not forgotten.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.arrays import Doubles, Floats
from bundles.labels.references import References
from bundles.training.dataset import TrainingData
from bundles.training.network import Pretrainer, Weights, loss
from bundles.training.settings import Say

ROBUST = 8  # rounds of reweighting in a closed-form head


@dataclass(frozen=True)
class Adaptation:
    """How the second stage runs.

    Attributes:
        epochs: over the reference programs; ``batch`` in programs; ``rate``, ``decay`` of AdamW.
        own: penalty on what a reference head has beyond the shared one.
        simulated: weight of the first stage's loss beside the new one; 0 leaves it out.
        noise: sd of what is added to normalised features, against learning programs by heart.
        delta: errors beyond it (log units) count linearly.
        pairs: weight of differences between versions beside speed-ups, which all share the error of
            the program as written: what puts versions in order.
        seconds: weight of times beside speed-ups.
    """

    epochs: int = 30
    batch: int = 24
    rate: float = 2e-3
    decay: float = 1e-2
    own: float = 1e-2
    simulated: float = 1.0
    noise: float = 0.4
    delta: float = 0.3
    pairs: float = 1.0
    seconds: float = 0.3


def adapt(
    model: Pretrainer,
    simulated: TrainingData,
    references: References,
    how: Adaptation,
    seed: int,
    say: Say,
) -> Pretrainer:
    """A copy of ``model`` that also knows the reference machines.

    Args:
        model: as the first stage left it.
        simulated: what the first stage learnt from.
        references: programs to learn from, with their times on real machines.
        how: rates and weights.
        seed: of every random choice; the result is the same for the same one.
        say: told of progress.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    run = _started(copy.deepcopy(model), simulated, references, how)
    for epoch in range(how.epochs):
        total = 0.0
        for rows in _batches(len(references), how.batch, rng):
            total += run.step(rows, rng) * len(rows) / len(references)
        if (epoch + 1) % 10 == 0 or epoch + 1 == how.epochs:
            say(f"reference machines: epoch {epoch + 1}/{how.epochs}  loss {total:.4f}")
    return run.model


@dataclass(eq=False)
class _Adapting:
    """What changes in the second stage, and what it learns from."""

    model: Pretrainer
    heads: ReferenceHeads
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    simulated: TrainingData
    references: References
    how: Adaptation

    def step(self, rows: Tensor, rng: np.random.Generator) -> float:
        """Learn from some reference programs and as many simulated ones; the loss of the former."""
        x, y = (torch.from_numpy(a) for a in (self.references.features, self.references.target))
        self.optimiser.zero_grad()
        value = reference_loss(self.model, self.heads, x[rows], y[rows], self.how)
        found = value.item()
        if self.how.simulated:
            value = value + self.how.simulated * self._simulated_loss(rng)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        return found

    def _simulated_loss(self, rng: np.random.Generator) -> Tensor:
        programs = self.simulated.train
        some = rng.choice(len(programs), min(self.how.batch, len(programs)), False)
        part = programs.take(np.sort(some))
        times = torch.from_numpy(np.ascontiguousarray(self.simulated.learnt(part.target)))
        return loss(self.model, torch.from_numpy(np.array(part.features)), times, Weights())


def _started(
    model: Pretrainer, simulated: TrainingData, references: References, how: Adaptation
) -> _Adapting:
    heads = ReferenceHeads(_closed_form_heads(model, references))
    optimiser = torch.optim.AdamW(
        [
            {"params": model.parameters(), "weight_decay": how.decay},
            {"params": heads.parameters(), "weight_decay": 0.0},
        ],
        how.rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        how.rate,
        total_steps=how.epochs * -(-len(references) // how.batch),
        pct_start=0.1,
    )
    return _Adapting(model, heads, optimiser, schedule, simulated, references, how)


class ReferenceHeads(nn.Module):
    """Linear heads [R, E+1] of the reference machines: one shared, and what each has of its own."""

    def __init__(self, weights: Doubles) -> None:
        super().__init__()
        start = torch.from_numpy(weights.astype(np.float32))
        self.shared = nn.Parameter(start.mean(0))
        self.own = nn.Parameter(start - start.mean(0))

    def forward(self, embedding: Tensor) -> Tensor:
        """[..., E] -> log seconds less work [..., R]."""
        weights = self.shared + self.own
        times: Tensor = embedding @ weights[:, :-1].T + weights[:, -1]
        return times


def reference_loss(
    model: Pretrainer, heads: ReferenceHeads, x: Tensor, y: Tensor, how: Adaptation
) -> Tensor:
    """The loss of programs x [P, V, F] with times y [P, V, R]; nan where there is no label."""
    p, v, f = x.shape
    seen = x.reshape(p * v, f)
    scale = model.encoder.get_buffer("scale")
    spread = torch.where(scale > 0, how.noise / scale.clamp(min=1e-6), torch.zeros_like(scale))
    embedding = model.encoder(seen + spread * torch.randn_like(seen))
    times = heads(embedding).reshape(p, v, -1)
    gains = _huber(times[:, :1] - times[:, 1:], y[:, :1] - y[:, 1:], how.delta)
    other = int(torch.randint(1, v, ())) if v > 1 else 0  # each version and one of the others
    pairs = _huber(times - times.roll(other, 1), y - y.roll(other, 1), how.delta)
    seconds = _huber(times, y, how.delta)
    whole = gains + how.pairs * pairs + how.seconds * seconds
    return whole + how.own * heads.own.square().mean()


def _huber(predicted: Tensor, truth: Tensor, delta: float) -> Tensor:
    there = torch.isfinite(truth)
    return functional.huber_loss(predicted[there], truth[there], delta=delta)


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    yield from torch.split(torch.from_numpy(rng.permutation(count)), size)


def _closed_form_heads(model: Pretrainer, references: References) -> Doubles:
    """[R, E+1] closed-form heads on the embedding as it is."""
    p, v, f = references.features.shape
    with torch.no_grad():
        flat = model.encoder(torch.from_numpy(references.features.reshape(p * v, f)))
    embedding = flat.numpy().astype(np.float64).reshape(p, v, -1)
    count = references.target.shape[2]
    return np.stack([labelled_head(embedding, references.target[..., r]) for r in range(count)])


def labelled_head(
    embedding: Doubles,
    target: Floats,
    ridge: float = 1e-3,
    centre: Doubles | None = None,
    share: float = 0.3,
    delta: float = 0.3,
) -> Doubles:
    """[E+1] robust (Huber) ridge head of one machine, intercept last.

    Args:
        embedding: [p, v, E]; variant 0 is the program as written.
        target: [p, v] log seconds less work; nan where there is no label.
        ridge: relative to the mean eigenvalue of the normal matrix.
        centre: [E+1] what the head is pulled to (default: zero).
        share: weight of all seconds rows together beside that of all speed-up rows.
        delta: see ``Adaptation``.
    """
    gains, labels = embedding[:, :1] - embedding[:, 1:], target[:, :1] - target[:, 1:]
    there, base = np.isfinite(labels), np.isfinite(target[:, 0])
    design = np.concatenate(
        [
            np.column_stack([gains[there], np.zeros(there.sum())]),
            np.column_stack([embedding[base, 0], np.ones(base.sum())]),
        ]
    )
    truth = np.concatenate([labels[there], target[base, 0]]).astype(np.float64)
    level = share * there.sum() / max(base.sum(), 1)
    weight = np.concatenate([np.ones(there.sum()), np.full(base.sum(), level)])
    middle = np.zeros(design.shape[1]) if centre is None else centre
    found, robust = middle, np.ones(len(truth))
    for _ in range(ROBUST):
        scaled = design * (weight * robust)[:, None]
        normal = design.T @ scaled
        pull = ridge * np.trace(normal) / len(normal) * np.eye(len(normal))
        found = np.linalg.solve(normal + pull, scaled.T @ truth + pull @ middle)
        robust = 1.0 / np.maximum(1.0, np.abs(truth - design @ found) / delta)
    return np.asarray(found)
