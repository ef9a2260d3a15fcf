"""An encoder with the prior of its heads, however it came about: a bundle or a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agent.arrays import Doubles, Singles
from agent.bundle.bundle import Bundle
from agent.bundle.encoder import Encoder
from agent.model.prior import Prior


@dataclass(frozen=True, eq=False)
class Trained:
    """What evaluation needs of a model before it sees labels.

    Attributes:
        embed: features [n, F] to whitened embeddings [n, E].
        prior: of a machine's head.
    """

    embed: Callable[[Singles], Doubles]
    prior: Prior


def from_bundle(bundle: Bundle) -> Trained:
    """The encoder and prior of a bundle."""
    encoder = Encoder(bundle)
    return Trained(
        lambda features: encoder.embed(features).astype(np.float64), Prior.from_json(bundle.prior)
    )
