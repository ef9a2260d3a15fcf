"""The encoder and what it is trained with; ``pretrain`` is the other half of the story.

    features [B, F] -> Encoder -> embedding [B, E] -> machines [B, M]   (linear, one row a machine)
                                                   -> decoder  [B, F]   (autoencoder)

On every simulated machine the log time per unit of work is *linear* in the embedding: whatever
machines disagree about must be a direction of it, and a new machine is a vector of E weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

EMBEDDED = 8_192  # rows at once, where no gradients are wanted
CLIP = 8.0  # standard deviations; features of unseen programs may lie far out


@dataclass(frozen=True)
class Shape:
    """Sizes of the network: F features, H hidden, E embedding, M machines, residual blocks."""

    features: int
    machines: int
    hidden: int = 224
    blocks: int = 3
    embedding: int = 64


class Block(nn.Module):
    """x + W2 relu(W1 norm(x)), [B, H] -> [B, H]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, hidden)
        self.down = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """One residual step."""
        step: Tensor = self.down(functional.relu(self.up(self.norm(x))))
        return x + step


class Embedder(nn.Module):
    """What turns features [n, F] into embeddings [n, E]."""

    def embed(self, x: Tensor) -> Tensor:
        """[n, F] -> [n, E], part by part and without gradients."""
        with torch.no_grad():
            return torch.cat([self(part) for part in torch.split(x, EMBEDDED)])


class EncoderNetwork(Embedder):
    """Features [B, F] as they are to the embedding [B, E]; the normalisation is part of it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(shape.features))
        self.register_buffer("scale", torch.ones(shape.features))
        self.enter = nn.Linear(shape.features, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape.hidden) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.hidden)
        self.leave = nn.Linear(shape.hidden, shape.embedding)

    def normalise(self, x: Tensor) -> Tensor:
        """[B, F] features with mean 0 and sd 1 over the corpus, clipped."""
        shift, scale = self.get_buffer("shift"), self.get_buffer("scale")
        return ((x - shift) * scale).clamp(-CLIP, CLIP)

    def normalise_by(self, x: Tensor) -> None:
        """Take mean and sd of features [n, F] into the encoder; what is constant is left out."""
        sd = x.std(0)
        self.get_buffer("shift").copy_(x.mean(0))
        self.get_buffer("scale").copy_(torch.where(sd > 1e-4, 1.0 / sd, torch.zeros_like(sd)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, F] -> [B, E]."""
        h = self.enter(self.normalise(x))  # [B, H]
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.leave(self.norm(h))
        return out


class Encoders(Embedder):
    """Encoders whose embeddings are added: features [B, F] to the embedding [B, E].

    Of encoders that were trained apart, in coordinates in which a machine has one head for all: its
    predictions are the mean of theirs (deep ensembles, Lakshminarayanan et al. 2017).
    """

    def __init__(self, members: Iterable[EncoderNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def networks(self) -> Sequence[EncoderNetwork]:
        """The members, one after the other."""
        return [cast("EncoderNetwork", member) for member in self.members]

    def forward(self, x: Tensor) -> Tensor:
        """[B, F] -> [B, E]."""
        first, *others = (member(x) for member in self.members)
        embedding: Tensor = first
        for other in others:
            embedding = embedding + other
        return embedding


class Pretrainer(nn.Module):
    """Encoder, decoder and one linear head for every simulated machine."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = EncoderNetwork(shape)
        self.machines = nn.Linear(shape.embedding, shape.machines)
        self.decoder = nn.Sequential(
            nn.Linear(shape.embedding, shape.hidden),
            nn.ReLU(),
            nn.Linear(shape.hidden, shape.features),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F] -> log seconds a unit of work [B, M], normalised features again [B, F]."""
        e = self.encoder(x)
        return self.machines(e), self.decoder(e)


@dataclass(frozen=True)
class Weights:
    """What counts how much in the loss.

    Attributes:
        speedup: differences between a variant and its base, what ranking needs.
        seconds: the times themselves.
        decoder: the autoencoder.
        mask: share of the features that the encoder does not see (they are at the corpus's mean)
            and the decoder has to find all the same.
        delta: errors beyond it (log units) count linearly: simulators have outliers too.
    """

    speedup: float = 1.0
    seconds: float = 0.3
    decoder: float = 0.03
    mask: float = 0.0
    delta: float = 0.3


def loss(model: Pretrainer, x: Tensor, y: Tensor, weights: Weights) -> Tensor:
    """The training loss of programs x [P, V, F] with times y [P, V, M]; variant 0 is the base."""
    p, v, f = x.shape
    times, again = model(_masked(model, x.reshape(p * v, f), weights.mask))  # [P*V, M], [P*V, F]
    times = times.reshape(p, v, -1)
    gain, truth = times[:, :1] - times[:, 1:], y[:, :1] - y[:, 1:]  # [P, V-1, M]
    speedup = functional.huber_loss(gain, truth, delta=weights.delta)
    seconds = functional.huber_loss(times, y, delta=weights.delta)
    seen = model.encoder.normalise(x.reshape(p * v, f))
    decoded = functional.huber_loss(again, seen, delta=1.0)
    return weights.speedup * speedup + weights.seconds * seconds + weights.decoder * decoded


def _masked(model: Pretrainer, x: Tensor, share: float) -> Tensor:
    if not share:
        return x
    return torch.where(torch.rand_like(x) < share, model.encoder.get_buffer("shift"), x)
