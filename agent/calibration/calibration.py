"""A calibration: all that was found out about one machine, as a typed value.

The state keeps it as one JSON object, in the order of the fields below; the schema it has is the
state's (``agent.state.file.SCHEMA``): fields are only ever added, as ``Later``, and
whatever is missing or damaged in a stored one has its default. ``--json`` gives the same object
less what only predictions and the page use (``INTERNAL``), with its number and when it was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from agent.bundle.installed import BundleReference
from agent.clock import stamp
from agent.json_values import Later
from agent.measure.machine import DECIDING, fingerprint
from agent.measure.stats import NoiseFloor
from agent.model.records import CandidateVerdict, Kind, PredictionAccuracy
from agent.state import typed
from agent.state.state import KEPT_CALIBRATIONS, StoredRecord

if TYPE_CHECKING:
    from agent.json_values import JsonObject
    from agent.measure.machine import Machine
    from agent.measure.toolchain import Toolchain
    from agent.state.state import State

VerdictLevel = Literal["good", "usable", "not-to-be-used"]
INTERNAL = frozenset(("model", "reach", "facts", "points"))  # for predict and the page; long


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What was known of the machine then (see ``agent.measure.machine.Machine``).

    Attributes:
        fingerprint: digest of what decides timings.
        caches: bytes by level: ``L1``...
        microcode: None: by an older agent, which did not note it.
        unknown: names of facts that could not be read then.
    """

    fingerprint: str = ""
    architecture: str = ""
    level: str = ""
    simd_bytes: int = 0
    cpus: tuple[int, ...] = ()
    cpus_online: int = 0
    quota: float | None = None
    threads: int = 0
    caches: Mapping[str, int] = field(default_factory=dict)
    line_bytes: int = 0
    page_bytes: int = 0
    memory_bytes: int = 0
    available_bytes: int = 0
    model: str = ""
    virtual: bool = False
    governor: str | None = None
    load: float = 0.0
    kernel: str = ""
    microcode: Later[str] = None
    unknown: Later[tuple[str, ...]] = None

    @classmethod
    def of(cls, machine: Machine, mark: str) -> Self:
        """What is noted of this machine, which goes by ``mark`` (see ``mark_of``)."""
        return typed.from_json(cls, {"fingerprint": mark, **machine.to_json()})

    def is_of(self, machine: Machine) -> bool:
        """Whether they are facts of ``machine``, as far as both know them."""
        here = MachineFacts.of(machine, fingerprint(machine))
        unknown = {*(self.unknown or ()), *machine.unknown}
        if here.fingerprint == self.fingerprint or not unknown:
            return here.fingerprint == self.fingerprint
        known = [name for name in DECIDING if name not in unknown]
        return all(getattr(here, name) == getattr(self, name) for name in known)


def mark_of(machine: Machine, then: MachineFacts | None) -> str:
    """The fingerprint that ``machine`` goes by: that of ``then``, if those are facts of it."""
    return then.fingerprint if then and then.is_of(machine) else fingerprint(machine)


@dataclass(frozen=True, slots=True)
class ToolchainFacts:
    """The compiler that the calibration speaks for.

    Attributes:
        kind: ``compiler`` or ``prebuilt``.
        compiler: its path.
        version: first line of what it says of itself.
        flags: of every compilation.
        openmp: whether parallel loops were timed.
        mark: changes when another toolchain is there.
    """

    kind: Later[str] = None
    compiler: str = ""
    version: str = ""
    flags: tuple[str, ...] = ()
    openmp: bool = False
    mark: Later[str] = None

    @classmethod
    def of(cls, used: Toolchain) -> Self:
        """What is noted of a toolchain."""
        return cls(used.kind, used.compiler, used.version, used.flags, used.openmp, used.mark)


@dataclass(frozen=True, slots=True)
class FailedTiming:
    """A planned variant that gave no usable timing, and why."""

    kernel: str
    schedule: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True)
class TimingCounts:
    """How many variants were planned and usable, bases that were, and taken from an earlier run."""

    planned: int = 0
    usable: int = 0
    base_usable: int = 0
    reused: int = 0
    failed: tuple[FailedTiming, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """Which head was chosen, and why.

    Attributes:
        kind: of the speed-up head.
        kinds: of the head for ``speedup`` and ``seconds``.
        verdicts: on every candidate.
        coverage: share of 80 % intervals that hold the label, by kind; None without labels.
    """

    kind: str = ""
    kinds: Mapping[Kind, str] = field(default_factory=dict)
    verdicts: tuple[CandidateVerdict, ...] = ()
    coverage: Mapping[Kind, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccuracyByWay:
    """How good each way to predict is, on kernels it had not seen."""

    calibrated: PredictionAccuracy = field(default_factory=PredictionAccuracy)
    bundle_alone: PredictionAccuracy = field(default_factory=PredictionAccuracy)
    median_alone: PredictionAccuracy = field(default_factory=PredictionAccuracy)


@dataclass(frozen=True, slots=True)
class CalibrationWarning:
    """Something a person should know, by a code that ``agent.terminal`` has words for.

    Attributes:
        code: what it is.
        kernels: how many kernels it touched.
        worst: the largest value seen, in the unit of the code.
        variants: how many timings.
        kernel: which one.
        why: in words.
    """

    code: str
    kernels: Later[int] = None
    worst: Later[float] = None
    variants: Later[int] = None
    kernel: Later[str] = None
    why: Later[str] = None


@dataclass(frozen=True, slots=True)
class CalibrationVerdict:
    """Whether a calibration can be believed (``agent.calibration.verdict``).

    Attributes:
        level: ``good``; ``usable``, with care; ``not-to-be-used``: kept, but not put in force.
        code: of the reason.
        reason: in one plain sentence, without its full stop.
        stays: number of the calibration that stays in force in place of this one, if one does.
    """

    level: VerdictLevel
    code: str
    reason: str
    stays: Later[int] = None

    @property
    def words(self) -> str:
        """For people, without a full stop: ``not to be used: only 2 kernels could be timed``."""
        return f"{self.name}: {self.reason}"

    @property
    def name(self) -> str:
        """The level in words."""
        return self.level.replace("-", " ")

    @property
    def believed(self) -> bool:
        """Whether the calibration may come into force by itself."""
        return self.level != "not-to-be-used"


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the fixed set reaches in the encoder's space.

    Attributes:
        mean: [E] of the embeddings of all timed programs.
        sd: [E], positive.
        radius: of the farthest of them, in root mean square sds.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    radius: float


@dataclass(frozen=True, slots=True)
class Point:
    """A timing beside what was predicted of it by models that had not seen its kernel.

    Attributes:
        kernel: of the fixed set.
        schedule: of the timed version.
        kind: ``speedup`` or ``seconds``, what all numbers are.
        measured: the label; ``low``, ``high``: ends of its 80 % interval.
        calibrated: by a head of this machine, with the ends of its 80 % interval.
        alone: by the bundle alone.
    """

    kernel: str
    schedule: str
    kind: Kind
    measured: float
    low: float
    high: float
    calibrated: float
    calibrated_low: float
    calibrated_high: float
    alone: float

    @property
    def off(self) -> float:
        """By which factor the prediction is off; 1 is exact."""
        return math.exp(abs(math.log(self.calibrated / self.measured)))

    @property
    def held(self) -> bool:
        """Whether the measured value lies in the predicted interval."""
        return self.calibrated_low <= self.measured <= self.calibrated_high


@dataclass(frozen=True, slots=True)
class RepeatNoise:
    """What speed-ups differ by that were timed again, in new processes at the end; log units.

    Attributes:
        median: of the absolute differences; ``p90``: nine in ten are below.
        held: share of the 80 % intervals of one that hold the other (63 % is right: both vary).
        versions: that were timed twice.
    """

    median: float
    p90: float
    held: float
    versions: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that one calibration found.

    Attributes:
        agent: version of the agent that made it.
        machine: then.
        toolchain: that its programs were compiled with.
        facts: of machine and toolchain, by name, for a bundle's prior; None: by an older agent.
        bundle: it was fitted on.
        timings: how many there are.
        noise_floor: of timing programs against themselves, within one process.
        head: which was chosen.
        accuracy: on kernels not seen.
        warnings: what disturbed it.
        model: the head in plain numbers (``agent.model.heads.head_from_json``).
        reach: of the fixed set; None: by an older agent, as for ``points``.
        points: every label beside its predictions.
        elapsed_s: seconds it took; ``elapsed``: by phase.
        refit: whether nothing was timed for it.
        measured_at: when its timings were begun.
        verdict: whether it can be believed; None: by an older agent.
        repeat_noise: of timing versions again; None: by an older agent, or there was none to time.
    """

    agent: str = ""
    machine: MachineFacts = field(default_factory=MachineFacts)
    toolchain: ToolchainFacts = field(default_factory=ToolchainFacts)
    facts: Later[Mapping[str, float | None]] = None
    bundle: BundleReference = field(default_factory=BundleReference)
    timings: TimingCounts = field(default_factory=TimingCounts)
    noise_floor: NoiseFloor | None = None
    head: HeadChoice = field(default_factory=HeadChoice)
    accuracy: AccuracyByWay = field(default_factory=AccuracyByWay)
    warnings: tuple[CalibrationWarning, ...] = ()
    model: Mapping[str, object] = field(default_factory=dict)
    reach: Later[Reach] = None
    points: Later[tuple[Point, ...]] = None
    elapsed_s: Later[float] = None
    elapsed: Mapping[str, float] = field(default_factory=dict)
    refit: bool = False
    measured_at: Later[str] = None
    verdict: Later[CalibrationVerdict] = None
    repeat_noise: Later[RepeatNoise] = None

    @property
    def noise(self) -> float | None:
        """What two timings of the same thing differ by, log units: no prediction can do better.

        Of a calibration by an older agent as far as it tells: within one process.
        """
        if self.repeat_noise is not None:
            return self.repeat_noise.median
        return self.noise_floor.label_median if self.noise_floor else None

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """A stored calibration; what it lacks has its default."""
        return typed.from_json(cls, data)

    def to_json(self) -> dict[str, object]:
        """Plain data, as it is stored."""
        return typed.to_json(self)


StoredCalibration = StoredRecord[Calibration]


def answer_json(stored: StoredCalibration) -> dict[str, object]:
    """The answer of ``agent calibrate`` (docs/reference/schemas/calibrate.json)."""
    told = {name: x for name, x in stored.body.to_json().items() if name not in INTERNAL}
    in_force = stored.body.verdict is None or stored.body.verdict.believed
    made = {"calibration_id": stored.id, "created_at": stamp(stored.created_at)}
    return {**told, **made, "in_force": in_force}


def calibration_in_force(state: State) -> StoredCalibration | None:
    """The calibration that predictions use now; None: the bundle predicts alone."""
    found = state.calibration_in_force()
    return None if found is None else _typed(found)


def newest_calibration(state: State) -> StoredCalibration | None:
    """The calibration made last, in force or not."""
    return next(iter(stored_calibrations(state, 1)), None)


def stored_calibrations(
    state: State, most: int = KEPT_CALIBRATIONS
) -> tuple[StoredCalibration, ...]:
    """Calibrations made, in force or not, newest first."""
    return tuple(map(_typed, state.calibrations(most)))


def _typed(kept: StoredRecord[JsonObject]) -> StoredCalibration:
    return StoredRecord(kept.id, kept.created_at, Calibration.from_json(kept.body))
