"""What an evaluation found, as one value: everything else only makes, writes or draws it.

Fields are in the order of evaluation.json, whose meaning docs/reference/evaluation.md gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from agent.errors import AgentError

SCHEMA = 1
LATER = {"later": True}  # of a field that older reports lack: not written where it is not known
Interval = tuple[float, float]


@dataclass(frozen=True)
class Figures:
    """How good predictions are; None where an arm has no such figure."""

    log_error: float | None = None
    factor: float | None = None
    mape: float | None = None
    median_ape: float | None = None
    spearman: float | None = None
    top_share: float | None = None
    pairwise: float | None = None
    coverage: float | None = None
    seconds_log_error: float | None = None
    seconds_coverage: float | None = None

    def __getitem__(self, metric: str) -> float | None:
        value: float | None = getattr(self, metric)
        return value


Curves = Mapping[str, Mapping[int, Figures]]  # by arm and budget
METRICS = tuple(field.name for field in fields(Figures))
COMPARED = ("log_error", "spearman", "top_share", "seconds_log_error")  # between arms
CURVES = ("log_error", "spearman")  # with intervals, drawn, and equalled by other arms
MONOTONE = ("log_error", "spearman", "seconds_log_error")  # should improve with labels
LESS_IS_BETTER = ("log_error", "seconds_log_error")


@dataclass(frozen=True)
class MeanFigures(Figures):
    """A mean over targets; ``band``: less what is hard for all arms alike."""

    log_error_interval: Interval = (0.0, 0.0)
    log_error_band: Interval = (0.0, 0.0)
    spearman_interval: Interval = (0.0, 0.0)
    spearman_band: Interval = (0.0, 0.0)


@dataclass(frozen=True)
class BundleEncoder:
    """A bundle as it is was evaluated."""

    kind: Literal["bundle"]
    name: str
    version: str
    digest: str
    note: str


@dataclass(frozen=True)
class LeftOutEncoder:
    """Encoders were trained that never saw what was tested."""

    kind: Literal["trained-without"]
    leave: str
    note: str


@dataclass(frozen=True)
class HowEvaluated:
    """``interval``: the level of all intervals."""

    encoder: BundleEncoder | LeftOutEncoder
    seeds: int
    budgets: tuple[int, ...]
    resamples: int
    interval: float


@dataclass(frozen=True)
class ArmTitle:
    """What an arm is called, where its labels come from, and whether anything taught it before."""

    title: str
    draw: str
    pretrained: bool


@dataclass(frozen=True)
class ProgramCounts:
    """Programs of a target."""

    test: int
    training: int
    kernels: int


@dataclass(frozen=True)
class VersionCounts:
    """Timed versions of a target."""

    test: int
    training: int
    kernels: int
    fixed_set: int


@dataclass(frozen=True)
class TargetReport:
    """One target: what it is (``bundles.labels.labels.Target``), how much there is, figures.

    ``ceiling``: the log error that true speed-ups would be shown to have, for the labels they are
    judged by would be others another time; None: by an older version.
    """

    name: str
    machine: Mapping[str, object]
    programs: ProgramCounts
    versions: VersionCounts
    arms: Curves
    ceiling: float | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class Focus:
    """The arm and number of labels that others are compared with."""

    arm: str
    labels: int


@dataclass(frozen=True)
class WorstTarget:
    """A target and its value."""

    target: str
    value: float | None


@dataclass(frozen=True)
class Worst:
    """The target with the largest error, and the one that is ranked worst."""

    log_error: WorstTarget
    spearman: WorstTarget


@dataclass(frozen=True)
class PairedDifference:
    """By how much an arm differs from the one it is compared with, with its interval.

    Attributes:
        against, labels: the other arm and its budget.
        metric: that is compared; ``value``: mean of ours less mean of the other.
        low, high: of the interval.
        relative: value over the other's mean.
        better: ours is better, and the interval does not hold 0; ``worse``: likewise.
    """

    against: str
    labels: int
    metric: str
    value: float
    low: float
    high: float
    relative: float
    better: bool
    worse: bool


@dataclass(frozen=True)
class Efficiency:
    """How many labels an arm without pre-training needs to equal ours.

    Attributes:
        metric: that is equalled; ``wanted``: its value with our labels.
        arm: the one that needs fewest (or, if none gets there, comes closest).
        labels: that it needs, interpolated on the logarithm; the most it was given if ``reached``
            is false.
        times: labels over ours; ``at_most``: it was given no fewer, and had equalled ours already.
    """

    metric: str
    wanted: float
    arm: str
    labels: float
    times: float
    reached: bool
    at_most: bool


@dataclass(frozen=True)
class Efficiencies:
    """Of the mean over targets, and of each: it may have more labels than all of them have."""

    mean: tuple[Efficiency, ...]
    targets: Mapping[str, tuple[Efficiency, ...]]


@dataclass(frozen=True)
class Gain:
    """By how much, relatively, our arm's labels lower the errors of the bundle alone."""

    log_error: float
    seconds_log_error: float


@dataclass(frozen=True)
class Worsening:
    """Budgets at which an arm is worse than with fewer labels, or than the bundle alone."""

    than_fewer: tuple[int, ...]
    than_bundle: tuple[int, ...]


@dataclass(frozen=True)
class SkippedTarget:
    """A target left out for want of labels."""

    target: str
    why: str


@dataclass(frozen=True)
class EvaluationReport:
    """All of it; figures are rounded."""

    schema: int
    created: str
    agent: str
    protocol: HowEvaluated
    arms: Mapping[str, ArmTitle]
    targets: tuple[TargetReport, ...]
    focus: Focus | None
    compared: tuple[str, ...]
    mean: Mapping[str, Mapping[int, MeanFigures]]
    worst: Worst | None
    differences: tuple[PairedDifference, ...]
    efficiency: Efficiencies
    gains: Mapping[str, Gain]
    never_worse: Mapping[str, Mapping[str, Worsening]]
    skipped: tuple[SkippedTarget, ...]
    elapsed_s: float

    @property
    def mean_budgets(self) -> list[int]:
        """All that some arm has a mean at."""
        return sorted({budget for curve in self.mean.values() for budget in curve})

    def to_json(self) -> dict[str, object]:
        """As evaluation.json has it."""
        return cast(dict[str, object], plain(self))

    @classmethod
    def from_json(cls, data: object) -> EvaluationReport:
        """Read what ``to_json`` gave; AgentError where something is missing or of another type."""
        try:
            return cast(EvaluationReport, from_plain(cls, data))
        except (KeyError, TypeError, ValueError) as error:
            raise AgentError(
                f"this is not a report of `bundles evaluate`: {error}",
                "Give the evaluation.json that it wrote.",
            ) from error


def plain(value: object) -> object:
    """Records and mappings as mappings from text, sequences as lists."""
    if is_dataclass(value):
        pairs = ((f, getattr(value, f.name)) for f in fields(value))
        return {f.name: plain(x) for f, x in pairs if not (x is None and f.metadata == LATER)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def from_plain(kind: Any, value: Any) -> object:
    """``plain`` read backwards; KeyError, TypeError or ValueError where it is not of that kind."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        present = [f for f in fields(kind) if f.name in value or f.metadata != LATER]
        known = {f.name: from_plain(hints[f.name], value[f.name]) for f in present}
        return cast(type, kind)(**known)
    if origin is UnionType:
        return _first_typed(parts, value)
    if origin is Mapping:
        return {parts[0](key): from_plain(parts[1], part) for key, part in dict(value).items()}
    if origin is tuple:
        kinds = parts[:1] * len(value) if parts[-1] is ... else parts
        return tuple(from_plain(k, part) for k, part in zip(kinds, value, strict=True))
    plain = (int, float) if kind is float else kind
    if value in parts if origin is Literal else isinstance(value, plain):
        return value
    raise TypeError(f"{str(value)[:40]!r} is not {kind}")


def _first_typed(kinds: tuple[Any, ...], value: Any) -> object:
    """As the first of the kinds that it is of."""
    for kind in kinds[:-1]:
        try:
            return from_plain(kind, value)
        except (KeyError, TypeError, ValueError):
            continue
    return from_plain(kinds[-1], value)
