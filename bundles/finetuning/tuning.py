"""Staged fine-tuning: train heads on a frozen encoder first, then both, the encoder more slowly.

The scheme of Liu and Baghdadi 2025 (Data-efficient performance modeling via pre-training): the
pre-trained encoder stays frozen until the validation loss stops falling, and is then trained on
with a fifth of the learning rate. ``Mode`` also names the two it is compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.arrays import Doubles, Indices
from bundles.finetuning.site import Site
from bundles.training.network import Encoders, Weights
from bundles.training.settings import Say

Log = list[dict[str, float]]


class Mode(StrEnum):
    """When the encoder learns: after the heads, never, or from the start."""

    STAGED = "staged"
    FROZEN = "frozen"
    FREE = "free"


@dataclass(frozen=True)
class Tuning:
    """How to fine-tune; the manifest of the bundle repeats it.

    Attributes:
        mode: when the encoder learns.
        seed: of the validation programs and of the order of batches.
        rate: learning rate of Adam.
        slower: the encoder's share of it, in mode staged; ``freed``: in mode free.
        batch: programs a step; ``steps``: a round, after which the validation loss is looked at.
        patience: rounds without a lower validation loss that end a stage; ``rounds``: at most.
        validation: part of the programs that sets the end of a stage.
    """

    mode: Mode = Mode.STAGED
    seed: int = 0
    rate: float = 2e-3
    slower: float = 0.2
    freed: float = 1.0
    batch: int = 16
    steps: int = 20
    patience: int = 8
    rounds: int = 200
    validation: float = 0.2

    @property
    def stages(self) -> tuple[float, ...]:
        """The encoder's share of the learning rate, stage by stage; 0: frozen."""
        return {
            Mode.STAGED: (0.0, self.slower),
            Mode.FROZEN: (0.0,),
            Mode.FREE: (self.freed,),
        }[self.mode]


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """What is tuned further.

    Attributes:
        encoder: features to embeddings [n, E].
        heads: [t, E+1] to start from, the intercept last.
        moves: [E+1, k] how heads may move: each column by about one standard deviation.
    """

    encoder: Encoders
    heads: Doubles
    moves: Doubles


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned encoder, the head [t, E+1] of every target, and how the training went."""

    encoder: Encoders
    heads: Doubles
    log: Log


def split_off_validation(site: Site, tuning: Tuning) -> tuple[Site, Site]:
    """Programs to train on and to validate on, whole programs each."""
    order = np.random.default_rng([tuning.seed, 0]).permutation(len(site))
    cut = max(1, round(len(site) * tuning.validation))
    return site.take(np.sort(order[cut:])), site.take(np.sort(order[:cut]))


def tune_in_stages(
    start: StartingPoint, train: Site, held: Site, tuning: Tuning, say: Say
) -> Tuned:
    """Fine-tune a copy of the encoder; what had the lowest validation loss is kept.

    Args:
        start: not changed.
        train: to learn from.
        held: to see by when to stop.
        tuning: how.
        say: receives a line after each stage.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = _Model(start)
    log: Log = []
    for number, share in enumerate(tuning.stages):
        order = np.random.default_rng([tuning.seed, 1, number])
        log += _stage(model, train, held, tuning, share, order)
        say(
            f"stage {number + 1}, encoder at {share:g} of the learning rate: {len(log)} rounds, "
            f"validation loss {min(r['validation_loss'] for r in log):.4f}"
        )
    return Tuned(model.encoder.eval(), model.numbers(), log)


class _Model(nn.Module):
    """Encoder and one linear head a target.

    A head is ``start + moves @ place``: with Adam, whose steps are of one size, it moves far where
    machines differ and little elsewhere, as the prior of the bundle wants it.
    """

    def __init__(self, start: StartingPoint) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(start.encoder)
        self.register_buffer("start", torch.from_numpy(start.heads.astype(np.float32)))
        self.register_buffer("moves", torch.from_numpy(start.moves.astype(np.float32)))
        self.place = nn.Parameter(torch.zeros(len(start.heads), start.moves.shape[1]))

    def heads(self) -> Tensor:
        """[t, E+1]."""
        return self.get_buffer("start") + self.place @ self.get_buffer("moves").T

    def times(self, embedding: Tensor) -> Tensor:
        """[n, t] log seconds less log work of embeddings [n, E]."""
        heads = self.heads()
        return embedding @ heads[:, :-1].T + heads[:, -1]

    def numbers(self) -> Doubles:
        """[t, E+1] heads."""
        return np.asarray(self.heads().detach().numpy(), np.float64)


@dataclass(frozen=True)
class _Data:
    """A site as tensors; ``x`` are features or, where the encoder is frozen, embeddings."""

    site: Site
    x: Tensor
    seconds: Tensor
    speedup: Tensor

    @classmethod
    def of(cls, site: Site, encoder: Encoders | None) -> _Data:
        x = torch.from_numpy(site.features)
        if encoder is not None:
            x = encoder.embed(x)
        labels = (torch.from_numpy(a.astype(np.float32)) for a in (site.seconds, site.speedup))
        return cls(site, x, *labels)


def _stage(
    model: _Model,
    train: Site,
    held: Site,
    tuning: Tuning,
    share: float,
    order: np.random.Generator,
) -> Log:
    """Train until the validation loss has not fallen for a while; leaves the best model."""
    frozen = model.encoder if share == 0 else None
    known, unseen = _Data.of(train, frozen), _Data.of(held, frozen)
    groups = [{"params": [model.place], "lr": tuning.rate}]
    if frozen is None:
        groups.append({"params": list(model.encoder.parameters()), "lr": share * tuning.rate})
    optimiser = torch.optim.Adam(groups)
    batches = _batches(train, tuning.batch, order)
    least, best, log = _validate(model, unseen, frozen), copy.deepcopy(model.state_dict()), Log()
    since = 0
    for _ in range(tuning.rounds):
        total = 0.0
        for _ in range(tuning.steps):
            total += _step(model, known, next(batches), optimiser, frozen) / tuning.steps
        value = _validate(model, unseen, frozen)
        log.append({"encoder": share, "loss": round(total, 5), "validation_loss": round(value, 5)})
        since += 1
        if value < least:
            least, best, since = value, copy.deepcopy(model.state_dict()), 0
        if since >= tuning.patience:
            break
    model.load_state_dict(best)
    return log


def _batches(site: Site, size: int, order: np.random.Generator) -> Iterator[Indices]:
    """Programs in a random order, again and again; batches of about the same size."""
    parts = -(-len(site) // size)
    while True:
        yield from np.array_split(order.permutation(len(site)), parts)


def _step(
    model: _Model,
    data: _Data,
    programs: Indices,
    optimiser: torch.optim.Optimizer,
    frozen: Encoders | None,
) -> float:
    optimiser.zero_grad()
    value = _loss(model, data, programs, frozen)
    value.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return value.item()


def _validate(model: _Model, data: _Data, frozen: Encoders | None) -> float:
    with torch.no_grad():
        return _loss(model, data, np.arange(len(data.site)), frozen).item()


def _loss(model: _Model, data: _Data, programs: Indices, frozen: Encoders | None) -> Tensor:
    """As in pre-training: Huber's loss of speed-ups and, less, of seconds."""
    rows = torch.from_numpy(data.site.rows(programs))
    count = data.site.count[programs]
    base = torch.from_numpy(np.repeat(np.cumsum(count) - count, count))
    x = data.x[rows]
    times = model.times(x if frozen is not None else model.encoder(x))  # [n, t]
    weights = Weights()
    speedup = _huber(times[base] - times, data.speedup[rows], weights.delta)
    seconds = _huber(times, data.seconds[rows], weights.delta)
    return weights.speedup * speedup + weights.seconds * seconds


def _huber(found: Tensor, truth: Tensor, delta: float) -> Tensor:
    """Mean over what was timed; 0 where nothing was."""
    timed = torch.isfinite(truth)
    if not timed.any():
        return found.new_zeros(())
    return functional.huber_loss(found[timed], truth[timed], delta=delta)
