"""What a bundle knows about machines before it sees this one: a distribution over linear heads.

Learned at the centre from simulated and reference machines, carried as plain numbers. The weights
of a machine are ``mean + directions @ z + rest``: ``z`` a multivariate Student-t (most machines
resemble the mean, a few do not at all), ``rest`` a small isotropic Gaussian. Errors are
heavy-tailed and shared by all schedules of one program, so the prior also carries a program effect
and the tails' weight. What is known of a machine without timing it (``agent.model.facts``) may
move the mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np

from agent.arrays import Doubles
from agent.errors import BundleError
from agent.json_values import (
    JsonObject,
    JsonValue,
    MalformedError,
    as_object,
    member,
    number_within,
)
from agent.model.facts import FACTS
from agent.model.observations import PerKind
from agent.model.stored_arrays import (
    SMALLEST_SCALE,
    check_finite,
    check_scale,
    float_matrix,
    float_vector,
)

SCHEMA = 1
MOST_WEIGHTS = 1025
MOST_DIRECTIONS = 64
MOST_WEIGHT = 1e4  # as read from a file
MOST_FACT = 3.0  # in units of its scale: a straight line is not believed farther out
_ARRAYS = ("mean", "directions", "facts_centre", "facts_scale", "facts_shift")


def _none() -> Doubles:
    return np.zeros(0)


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
        intercept_sd: scale of the intercept beyond the directions (no bundle knows how fast a
            machine is); like z it may be far out.
        direction_scale: shrinkage strength: real machines lie this many times as far out as
            simulated ones.
        machine_dof: degrees of freedom of z and of the intercept; small lets an unlike machine
            leave the mean.
        noise_dof: degrees of freedom of rows' and programs' errors; small forgives outliers. The
            four sds above are the scales of such a Student-t: robust ones, not root mean squares.
        noise_weight: how many labels the noise scales above are worth against the machine's own
            (for the width of intervals: how many programs).
        own_sd, alike: how the errors of one program hang together (``ErrorModel``).
        facts_centre: [f] facts (``agent.model.facts.FACTS``) of the average machine; f may be 0.
        facts_scale: [f] by how much they usually differ.
        facts_shift: [E+1, f] what a fact so far above the centre adds to the mean.

    Raises:
        BundleError: a shape is wrong, a number is not finite or out of range.
    """

    mean: Doubles
    directions: Doubles
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
    own_sd: float = 0.55
    alike: float = 0.75
    facts_centre: Doubles = field(default_factory=_none)
    facts_scale: Doubles = field(default_factory=_none)
    facts_shift: Doubles = field(default_factory=_none)

    def __post_init__(self) -> None:
        if not self.facts_shift.size:
            object.__setattr__(self, "facts_shift", np.zeros((self.mean.size, 0)))
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
    def scaled_directions(self) -> Doubles:
        """[E+1, K] directions times the shrinkage strength."""
        return self.direction_scale * self.directions

    @property
    def rest(self) -> Doubles:
        """[E+1] sd of each weight beyond the directions."""
        rest = np.full(len(self.mean), self.rest_sd)
        rest[-1] = self.intercept_sd
        return rest

    def covariance(self) -> Doubles:
        """[E+1, E+1] covariance of the weights (scale matrix, where z has heavy tails)."""
        spread = self.scaled_directions
        return spread @ spread.T + np.diag(self.rest**2)

    def on(self, facts: Doubles) -> Self:
        """The prior of a machine of which these facts are known.

        Args:
            facts: [f] as ``facts_of`` gives them; a fact that is not known (nan) moves nothing.

        Returns:
            A prior without facts; the same one where it has none.
        """
        if not len(self.facts_centre):
            return self
        away = np.nan_to_num((facts - self.facts_centre) / self.facts_scale)
        mean = self.mean + self.facts_shift @ np.clip(away, -MOST_FACT, MOST_FACT)
        return replace(
            self, mean=mean, facts_centre=_none(), facts_scale=_none(), facts_shift=_none()
        )

    def to_json(self) -> dict[str, JsonValue]:
        """Plain numbers; ``from_json`` gives the same prior back, bit for bit."""
        scalars = {name: float(getattr(self, name)) for name in _SCALARS}
        known = _ARRAYS if len(self.facts_centre) else _ARRAYS[:2]
        arrays = {name: getattr(self, name).tolist() for name in known}
        names = {"facts": list(FACTS)} if len(self.facts_centre) else {}
        return {"schema": SCHEMA, **names, **arrays, **scalars}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read a prior; BundleError where it is malformed. Numbers left out take their defaults."""
        try:
            return cls._read(as_object(data, "the prior"))
        except MalformedError as error:
            raise _refusal(error) from error

    @classmethod
    def _read(cls, data: JsonObject) -> Self:
        if member(data, "schema") != SCHEMA:
            raise MalformedError(f"schema is not {SCHEMA}")
        mean = float_vector(member(data, "mean"), "mean", None, MOST_WEIGHTS)
        shape = (len(mean), None)
        directions = float_matrix(member(data, "directions"), "directions", shape, MOST_WEIGHTS)
        needed = {name: member(data, name) for name in ("noise_speedup", "noise_seconds")}
        given = {name: data[name] for name in _SCALARS if name in data} | needed
        scalars = {k: number_within(v, k, *_READ[k]) for k, v in given.items()}
        centre, scale, shift = _read_facts(data, len(mean))
        arrays = (mean, directions, centre, scale, shift)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            if np.abs(array).max(initial=0.0) > MOST_WEIGHT:
                raise MalformedError(f"{name} holds a number beyond {MOST_WEIGHT:g}")
        return cls(
            mean,
            directions,
            facts_centre=centre,
            facts_scale=scale,
            facts_shift=shift,
            **scalars,
        )


def _read_facts(data: JsonObject, width: int) -> tuple[Doubles, Doubles, Doubles]:
    """Centre [f], scale [f] and shift [width, f] of a prior's facts; f = 0 where it has none."""
    if "facts" not in data:
        return _none(), _none(), _none()
    if data["facts"] != list(FACTS):
        raise MalformedError(f"facts are not {', '.join(FACTS)}")
    count = len(FACTS)
    centre, scale = (
        float_vector(member(data, name), name, count, MOST_WEIGHTS)
        for name in ("facts_centre", "facts_scale")
    )
    shift = member(data, "facts_shift")
    return centre, scale, float_matrix(shift, "facts_shift", (width, count), MOST_WEIGHTS)


_SCALARS = tuple(f.name for f in fields(Prior) if f.name not in _ARRAYS)
# What a prior may say that comes from a file. Log units, for embeddings whitened to size one: with
# far larger ones (or scales far apart) arithmetic on this machine fails, long after the update.
_SIZE = (0.0, 1e3)
_READ: Mapping[str, tuple[float, float]] = {
    "noise_speedup": (1e-3, 1e3),
    "noise_seconds": (1e-3, 1e3),
    "program_speedup": _SIZE,
    "program_seconds": _SIZE,
    "rest_sd": _SIZE,
    "intercept_sd": _SIZE,
    "direction_scale": (1e-6, 1e3),
    "machine_dof": (0.5, 1e9),
    "noise_dof": (0.5, 1e9),
    "noise_weight": (0.0, 1e9),
    "own_sd": _SIZE,
    "alike": (1e-3, 1e3),
}
_MAY_BE_ZERO = (
    "program_speedup",
    "program_seconds",
    "rest_sd",
    "intercept_sd",
    "noise_weight",
    "own_sd",
)


def _check(prior: Prior) -> None:
    if prior.mean.ndim != 1 or not 2 <= len(prior.mean) <= MOST_WEIGHTS:
        raise MalformedError(f"mean does not have 2 to {MOST_WEIGHTS} entries")
    shape = prior.directions.shape
    if len(shape) != 2 or shape[0] != len(prior.mean) or shape[1] > MOST_DIRECTIONS:
        raise MalformedError(f"directions is not [{len(prior.mean)}, K <= {MOST_DIRECTIONS}]")
    check_finite(prior.mean, "mean")
    check_finite(prior.directions, "directions")
    _check_facts(prior)
    for name in _SCALARS:
        value = getattr(prior, name)
        if value != 0 or name not in _MAY_BE_ZERO:
            check_scale(value, name)


def _check_facts(prior: Prior) -> None:
    count = len(prior.facts_centre)
    shapes = (prior.facts_centre.shape, prior.facts_scale.shape, prior.facts_shift.shape)
    if count not in (0, len(FACTS)) or shapes != ((count,), (count,), (len(prior.mean), count)):
        raise MalformedError(f"facts are not {len(FACTS)}, with a shift of every weight each")
    check_finite(prior.facts_centre, "facts_centre")
    check_finite(prior.facts_shift, "facts_shift")
    for value in prior.facts_scale:
        check_scale(float(value), "facts_scale")


def _refusal(error: MalformedError) -> BundleError:
    return BundleError(f"the bundle's prior is not usable: {error}", "get the bundle again")


def weak_prior(designs: Doubles) -> Prior:
    """A control for raw features with the same head: zero mean, isotropic, knows no machines.

    Args:
        designs: [n, F+1] speed-up designs; sets the scale, so that predictions have a prior sd near
            1.
    """
    size = float(np.sqrt(np.mean(np.sum(designs**2, axis=1)))) if len(designs) else 1.0
    width = designs.shape[1]
    rest_sd = 1.0 / max(size, SMALLEST_SCALE)
    return Prior(
        np.zeros(width),
        np.zeros((width, 0)),
        noise_speedup=0.5,
        noise_seconds=0.5,
        rest_sd=rest_sd,
        intercept_sd=30.0,
    )
