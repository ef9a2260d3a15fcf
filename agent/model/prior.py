"""What a bundle knows about machines before it sees this one: a distribution over linear heads.

Learned at the centre from simulated and reference machines, carried as plain numbers. The weights
of a machine are ``mean + directions @ z + rest``: ``z`` a multivariate Student-t (most machines
resemble the mean, a few do not at all), ``rest`` a small isotropic Gaussian. Errors are
heavy-tailed and shared by all schedules of one program, so the prior also carries a program effect
and the tails' weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from agent.errors import BundleError
from agent.model import plain
from agent.model.observations import PerKind
from agent.model.plain import Floats, MalformedError

SCHEMA = 1
MOST_WEIGHTS = 1025
MOST_DIRECTIONS = 64


@dataclass(frozen=True, eq=False)
class Prior:
    """Distribution of a machine's head ``(w, b)``, and of what no head explains (all log units).

    Attributes:
        mean: [E+1] the average machine; the last entry is the intercept b.
        directions: [E+1, K] how machines differ; columns scaled by their standard deviation. K may
            be 0.
        noise_speedup: sd of a speed-up row's own error.
        noise_seconds: sd of a seconds row's own error.
        program_speedup: sd of the error shared by a program's speed-up rows.
        program_seconds: sd of the error shared by a program's seconds rows.
        rest_sd: sd of each weight beyond the directions.
        intercept_sd: sd of the intercept beyond the directions (no bundle knows how fast a machine
            is).
        direction_scale: shrinkage strength: real machines lie this many times as far out as
            simulated ones.
        machine_dof: degrees of freedom of z; small lets an unlike machine leave the mean.
        noise_dof: degrees of freedom of rows' and programs' errors; small forgives outliers. The
            four sds above are the scales of such a Student-t: robust ones, not root mean squares.
        noise_weight: how many labels the noise scales above are worth against the machine's own.

    Raises:
        BundleError: a shape is wrong, a number is not finite or out of range.
    """

    mean: Floats
    directions: Floats
    noise_speedup: float
    noise_seconds: float
    program_speedup: float = 0.2
    program_seconds: float = 0.3
    rest_sd: float = 0.02
    intercept_sd: float = 1.0
    direction_scale: float = 1.0
    machine_dof: float = 4.0
    noise_dof: float = 4.0
    noise_weight: float = 20.0

    def __post_init__(self) -> None:
        try:
            _check(self)
        except MalformedError as error:
            raise _refusal(error) from error

    @property
    def noise(self) -> PerKind:
        """Sd of a row's own error."""
        return PerKind(self.noise_speedup, self.noise_seconds)

    @property
    def program(self) -> PerKind:
        """Sd of the error that all rows of a program and kind share."""
        return PerKind(self.program_speedup, self.program_seconds)

    @property
    def scaled_directions(self) -> Floats:
        """[E+1, K] directions times the shrinkage strength."""
        return self.direction_scale * self.directions

    @property
    def rest(self) -> Floats:
        """[E+1] sd of each weight beyond the directions."""
        rest = np.full(len(self.mean), self.rest_sd)
        rest[-1] = self.intercept_sd
        return rest

    def covariance(self) -> Floats:
        """[E+1, E+1] covariance of the weights (scale matrix, where z has heavy tails)."""
        spread = self.scaled_directions
        return spread @ spread.T + np.diag(self.rest**2)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; ``from_json`` gives the same prior back, bit for bit."""
        scalars = {name: float(getattr(self, name)) for name in _SCALARS}
        arrays = {"mean": self.mean.tolist(), "directions": self.directions.tolist()}
        return {"schema": SCHEMA, **arrays, **scalars}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read a prior; BundleError where it is malformed. Numbers left out take their defaults."""
        try:
            return cls._read(plain.record(data, "the prior"))
        except MalformedError as error:
            raise _refusal(error) from error

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        if plain.field(data, "schema") != SCHEMA:
            raise MalformedError(f"schema is not {SCHEMA}")
        mean = plain.floats(plain.field(data, "mean"), "mean", (None,), MOST_WEIGHTS)
        shape = (len(mean), None)
        directions = plain.floats(
            plain.field(data, "directions"), "directions", shape, MOST_WEIGHTS
        )
        needed = {name: plain.field(data, name) for name in ("noise_speedup", "noise_seconds")}
        given = {name: data[name] for name in _SCALARS if name in data} | needed
        return cls(mean, directions, **{k: plain.number(v, k) for k, v in given.items()})


_SCALARS = tuple(f.name for f in fields(Prior) if f.name not in ("mean", "directions"))
_MAY_BE_ZERO = ("program_speedup", "program_seconds", "rest_sd", "intercept_sd", "noise_weight")


def _check(prior: Prior) -> None:
    if prior.mean.ndim != 1 or not 2 <= len(prior.mean) <= MOST_WEIGHTS:
        raise MalformedError(f"mean does not have 2 to {MOST_WEIGHTS} entries")
    shape = prior.directions.shape
    if len(shape) != 2 or shape[0] != len(prior.mean) or shape[1] > MOST_DIRECTIONS:
        raise MalformedError(f"directions is not [{len(prior.mean)}, K <= {MOST_DIRECTIONS}]")
    plain.finite(prior.mean, "mean")
    plain.finite(prior.directions, "directions")
    for name in _SCALARS:
        value = getattr(prior, name)
        if value != 0 or name not in _MAY_BE_ZERO:
            plain.scale(value, name)


def _refusal(error: MalformedError) -> BundleError:
    return BundleError(f"the bundle's prior is not usable: {error}", "get the bundle again")


def prior_from_machines(weights: Floats, directions: int, **scalars: float) -> Prior:
    """The prior of a family of machines: their mean and their leading principal directions.

    Args:
        weights: [m, E+1] the linear head of each machine (simulated or reference), intercept last.
        directions: how many directions to keep (K).
        **scalars: the other attributes of ``Prior``; noise_speedup and noise_seconds are needed.

    Returns:
        A prior whose direction columns have the length of the machines' sd along them.
    """
    mean = weights.mean(axis=0)
    _, lengths, axes = np.linalg.svd(weights - mean, full_matrices=False)
    keep = min(directions, len(lengths), MOST_DIRECTIONS)
    spread = lengths[:keep] / np.sqrt(max(len(weights) - 1, 1))
    return Prior(mean, axes[:keep].T * spread, **scalars)


def weak_prior(designs: Floats) -> Prior:
    """A control for raw features with the same head: zero mean, isotropic, knows no machines.

    Args:
        designs: [n, F+1] speed-up designs; sets the scale, so that predictions have a prior sd near
            1.
    """
    size = float(np.sqrt(np.mean(np.sum(designs**2, axis=1)))) if len(designs) else 1.0
    width = designs.shape[1]
    rest_sd = 1.0 / max(size, plain.SMALLEST_SCALE)
    spread = {"noise_speedup": 0.5, "noise_seconds": 0.5, "intercept_sd": 30.0}
    return Prior(np.zeros(width), np.zeros((width, 0)), rest_sd=rest_sd, **spread)
