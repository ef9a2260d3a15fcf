"""Is a program like what was timed? It and the kernels of the fixed set, as the model sees them.

Each is an embedding of E numbers. Distances are of all of them, each over its standard deviation
among the kernels, in units of what is usual there: 1 is the median of a kernel's distance to the
nearest other. The map shows the two directions in which the kernels differ most (principal
components, Pearson 1901).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent.arrays import Doubles
from agent.calibration.predictor import represent
from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.features.nest import lower

if TYPE_CHECKING:
    from agent.calibration.predictor import Predictor
    from agent.loopnest.program import Program

LEAST_SD = 1e-9  # a number of the embedding that never changes says nothing


@dataclass(frozen=True)
class Placed:
    """A kernel: its place on the map, and its whole distance from the program."""

    name: str
    purpose: str
    x: float
    y: float
    distance: float


@dataclass(frozen=True)
class ProgramMap:
    """A program among the kernels of the fixed set.

    Attributes:
        x, y: where it is.
        kernels: the nearest first.
        shown: share of the kernels' differences that two directions show.
    """

    x: float
    y: float
    kernels: tuple[Placed, ...]
    shown: float

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def map_of(predictor: Predictor, program: Program) -> ProgramMap:
    """Where ``program`` as written is among the kernels as written."""
    known = kernels()
    seen = represent(predictor.encoder, lower((program, *map(load_kernel, known))))
    own, others = _scaled(seen.vectors)
    places, shown = _projected(own, others)
    away = np.linalg.norm(others - own, axis=1)
    placed = [
        Placed(k.name, k.purpose, float(x), float(y), float(d))
        for k, (x, y), d in zip(known, places[1:], away, strict=True)
    ]
    x, y = map(float, places[0])
    return ProgramMap(x, y, tuple(sorted(placed, key=lambda p: p.distance)), shown)


def _scaled(vectors: Doubles) -> tuple[Doubles, Doubles]:
    """The program's embedding [E] and the kernels' [n,E], in usual distances."""
    kernels_only = vectors[1:]
    sd = kernels_only.std(axis=0)
    scaled = vectors[:, sd > LEAST_SD] / sd[sd > LEAST_SD]
    apart = np.linalg.norm(scaled[1:, None] - scaled[None, 1:], axis=2)
    np.fill_diagonal(apart, np.inf)
    usual = float(np.median(apart.min(axis=1))) or 1.0
    return scaled[0] / usual, scaled[1:] / usual


def _projected(own: Doubles, others: Doubles) -> tuple[Doubles, float]:
    """[1+n,2] places, the program's first, and the share of the kernels' variance they show."""
    centre = others.mean(axis=0)
    _, sizes, directions = np.linalg.svd(others - centre, full_matrices=False)
    # A direction has no sign of its own: the largest part is positive, on every machine.
    largest = np.abs(directions[:2]).argmax(axis=1)
    signs = np.sign(directions[[0, 1], largest])[:, None]
    share = float((sizes[:2] ** 2).sum() / (sizes**2).sum())
    return (np.vstack([own, others]) - centre) @ (directions[:2] * signs).T, share
