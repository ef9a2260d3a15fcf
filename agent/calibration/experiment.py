"""The decisions of a calibration, without I/O: what to time, for how long, what it shows."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.json_values import is_finite_number
from agent.kernels.fixed_set import Kernel, PlannedVariant
from agent.loopnest.program import Program
from agent.loopnest.schedules.schedule import ORIGINAL, Schedule
from agent.measure.toolchain import family_of
from agent.state.state import StoredTiming, TimingKey

if TYPE_CHECKING:
    from agent.arrays import Doubles
    from agent.measure.machine import Machine
    from agent.measure.timing import Measurement
    from agent.model.observations import Observations
    from agent.model.select import Selection

# What things cost before the machine is known; only the prefix's length hangs on it.
START_S = 3.0  # looking for the compiler, parsing, fitting
COMPILE_CPU_S = 0.35  # one program
GROUP_S = 0.35  # a kernel: worker, arrays, checks, A/A
VARIANT_S = 0.20
FEWEST_VARIANTS = 4
RESUME_S = 24 * 3600.0
SMALLEST_SD = 0.005  # of a label, log units: below, rounds agree by luck
WORST_SD = 1.0
Z80 = 1.2815515655446004
MOST_LOG = 45.0  # exp of it still is a number that people can read
FAR = 1.5  # a program this many times farther out than any of the fixed set is "far"


@dataclass(frozen=True)
class Group:
    """One kernel with the schedules to time in one worker, and all of them as programs."""

    kernel: Kernel
    base: Program
    schedules: tuple[Schedule, ...]
    variants: tuple[Program, ...]
    source: str


@dataclass(frozen=True)
class Sample:
    """A usable timing of a kernel: its program, and the label with its 80 % interval (log units).

    ``base`` rows carry log seconds, others log speed-ups.
    """

    kernel: Kernel
    schedule: str
    base: bool
    label: float
    low: float
    high: float

    @property
    def sd(self) -> float:
        """Standard deviation of the label."""
        return min(max((self.high - self.low) / (2 * Z80), SMALLEST_SD), WORST_SD)


@dataclass(frozen=True)
class Failure:
    """A planned variant that gave no usable timing, and why."""

    kernel: str
    schedule: str
    outcome: str
    detail: str


def prefix_for(
    variants: Sequence[PlannedVariant], budget_s: float, threads: int
) -> tuple[PlannedVariant, ...]:
    """The longest prefix of the fixed set that a budget should allow (at least a few)."""
    fitting = [
        n
        for n in range(1, len(variants) + 1)
        if n <= FEWEST_VARIANTS or cost_s(variants[:n], threads) <= budget_s
    ]
    return tuple(variants[: max(fitting, default=0)])


def cost_s(variants: Sequence[PlannedVariant], threads: int) -> float:
    """Seconds that timing these variants should take from an empty state."""
    groups = len({v.kernel.name for v in variants})
    compiling = COMPILE_CPU_S * (len(variants) + groups) / max(1, threads)
    return START_S + compiling + GROUP_S * groups + VARIANT_S * len(variants)


def weight(group: Group) -> float:
    """The share of the measuring time that a group gets, in arbitrary units."""
    return GROUP_S + VARIANT_S * len(group.variants)


def time_left(spent_s: float, behind: float, ahead: float) -> float:
    """Seconds that the groups ahead should take, from what those behind took (by weight)."""
    return ahead * (spent_s / behind if behind else 1.0)


def facts_known(
    machine: Machine, vector_bytes: int = 0, version: str = "", flags: Sequence[str] = ()
) -> dict[str, float | None]:
    """What a prior may be conditioned on, by name (``agent.model.facts.FACTS``); None: not known.

    Args:
        machine: this one.
        vector_bytes: widest vectors of the compiled code; 0: not known.
        version: the first line a compiler says of itself; empty: not known which it will be.
        flags: of every compilation.
    """
    import numpy as np

    from agent.model.facts import FACTS, facts_of

    family = family_of(version) if version else ""
    found = facts_of(vector_bytes, machine.threads, machine.caches, family, flags)
    return {name: None if np.isnan(x) else float(x) for name, x in zip(FACTS, found, strict=True)}


def facts_vector(known: object) -> Doubles:
    """[f] facts from a record by name; nan for every one that it lacks or that is no number."""
    import numpy as np

    from agent.model.facts import FACTS

    record = known if isinstance(known, Mapping) else {}
    values = [record.get(name) for name in FACTS]
    numbers = [x if isinstance(x, int | float) else math.nan for x in values]
    return np.array(numbers, dtype=np.float64)


def set_identity(variants: Iterable[PlannedVariant]) -> str:
    """Digest of the schedules of the fixed set, in order."""
    text = "\n".join(f"{v.kernel.name}: {v.schedule}" for v in variants)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_of(
    kernel: Kernel, source: str, schedule: str, machine: str, toolchain: str, protocol: str
) -> TimingKey:
    """The key of one timing of the fixed set."""
    sizes = ",".join(f"{name}={value}" for name, value in sorted(kernel.sizes.items()))
    return TimingKey(machine, toolchain, source, sizes, schedule, protocol)


def rows_of(
    group: Group, found: Measurement, machine: str, toolchain: str, protocol: str
) -> list[tuple[TimingKey, dict[str, Any]]]:
    """A measured group as rows for the journal: the base first, with its A/A ratios and notices."""
    extra = {
        "noise": list(found.noise),
        "notices": [[n.kind, n.value, n.limit] for n in found.notices],
    }
    timings = [(ORIGINAL, found.base, extra)]
    timings += [(str(s), t, {}) for s, t in zip(group.schedules, found.timings, strict=True)]
    return [
        (
            key_of(group.kernel, group.source, schedule, machine, toolchain, protocol),
            {"kernel": group.kernel.name, "timing": timing.to_json(), **more},
        )
        for schedule, timing, more in timings
    ]


def newest(stored: Iterable[StoredTiming]) -> dict[TimingKey, StoredTiming]:
    """The last timing of every key."""
    return {timing.key: timing for timing in stored}


def judge(
    stored: Iterable[StoredTiming], kernels: Mapping[str, Kernel]
) -> tuple[list[Sample], list[Failure]]:
    """Timings as labels, and those that give none; of kernels that are still in the set."""
    samples: list[Sample] = []
    failures: list[Failure] = []
    for row in stored:
        kernel = kernels.get(str(row.body.get("kernel")))
        timing = row.body.get("timing")
        if kernel is None or not isinstance(timing, Mapping):
            continue
        sample = sample_of(kernel, row.key.schedule, timing)
        if sample is not None:
            samples.append(sample)
        elif row.key.schedule != ORIGINAL:
            words = (str(timing.get("outcome")), str(timing.get("detail") or ""))
            failures.append(Failure(kernel.name, row.key.schedule, *words))
    return samples, failures


def sample_of(kernel: Kernel, schedule: str, timing: Mapping[str, Any]) -> Sample | None:
    """A timing (``Timing.to_json``) as a label; None where it gives none."""
    if timing.get("outcome") != "ok":
        return None
    base = schedule == ORIGINAL
    names = ("seconds", "seconds_low", "seconds_high") if base else ("log_speedup", "low", "high")
    numbers = [timing.get(name) for name in names]
    if not all(map(is_finite_number, numbers)):
        return None
    values = [float(n) for n in numbers if n is not None]
    if base:
        if min(values) <= 0:
            return None
        values = [math.log(v) for v in values]
    return Sample(kernel, schedule, base, *values)


def noise_of(stored: Iterable[StoredTiming]) -> list[list[float]]:
    """The A/A log-ratios of every kernel."""
    rows = (row.body.get("noise") for row in stored if row.key.schedule == ORIGINAL)
    return [[float(r) for r in ratios] for ratios in rows if isinstance(ratios, list)]


def notices_of(stored: Iterable[StoredTiming]) -> list[dict[str, Any]]:
    """What disturbed the measuring: each kind once, with how many kernels it touched."""
    count: Counter[str] = Counter()
    worst: dict[str, float] = {}
    for row in stored:
        for kind, value, _ in row.body.get("notices") or ():
            count[kind] += 1
            worst[kind] = max(worst.get(kind, 0.0), float(value))
    return [{"code": k, "kernels": n, "worst": worst[k]} for k, n in count.most_common()]


def observe(samples: Sequence[Sample], embedded: Mapping[tuple[str, str], Any]) -> Observations:
    """Labels beside what the encoder says of their programs.

    Args:
        samples: usable timings.
        embedded: (kernel name, schedule text) -> (embedding [E], log work).

    Returns:
        One row a sample; kernels made from one C file share a group, so that none of them is
        judged by a model that has seen its twin.
    """
    import numpy as np

    from agent.model.observations import SECONDS, SPEEDUP, Observations

    files = {name: n for n, name in enumerate(sorted({s.kernel.path.name for s in samples}))}
    kernels = {name: n for n, name in enumerate(sorted({s.kernel.name for s in samples}))}
    designs, targets = [], []
    for s in samples:
        vector, work = embedded[s.kernel.name, s.schedule]
        if s.base:
            designs.append(np.append(vector, 1.0))
            targets.append(s.label - work)
        else:
            designs.append(np.append(embedded[s.kernel.name, ORIGINAL][0] - vector, 0.0))
            targets.append(s.label)
    return Observations(
        design=np.asarray(designs, dtype=np.float64),
        target=np.asarray(targets, dtype=np.float64),
        sd=np.asarray([s.sd for s in samples], dtype=np.float64),
        kind=np.asarray([SECONDS if s.base else SPEEDUP for s in samples], dtype=np.str_),
        group=np.asarray([files[s.kernel.path.name] for s in samples], dtype=np.int64),
        program=np.asarray([kernels[s.kernel.name] for s in samples], dtype=np.int64),
    )


def points_of(
    samples: Sequence[Sample], observations: Observations, selection: Selection
) -> list[dict[str, Any]]:
    """Every label beside what was predicted of it by models that had not seen its kernel.

    Args:
        samples: n usable timings.
        observations: the same, in the same order.
        selection: the choice made with them.

    Returns:
        n records in speed-ups or seconds, each with the ends of its 80 % intervals.
    """
    columns = zip(
        samples,
        observations.target,
        selection.calibrated,
        selection.calibrated_sd,
        selection.bundle_alone,
        strict=True,
    )
    points = []
    for s, target, ours, sd, alone in columns:
        work = s.label - target  # heads predict seconds less the program's work
        numbers = {
            "measured": s.label,
            "low": s.low,
            "high": s.high,
            "calibrated": work + ours,
            "calibrated_low": work + ours - Z80 * sd,
            "calibrated_high": work + ours + Z80 * sd,
            "alone": work + alone,
        }
        kind = "seconds" if s.base else "speedup"
        name = {"kernel": s.kernel.name, "schedule": s.schedule, "kind": kind}
        points.append(name | {key: _unlogged(x) for key, x in numbers.items()})
    return points


def _unlogged(log: float) -> float:
    """Back from logarithms; six digits are more than any timing has."""
    return float(f"{math.exp(min(max(log, -MOST_LOG), MOST_LOG)):.6g}")


def reach_of(vectors: Any) -> dict[str, Any]:
    """How far the fixed set reaches in the encoder's space, to tell when a program lies outside.

    Args:
        vectors: [n, E] embeddings of every timed program.
    """
    mean, sd = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    far = float((((vectors - mean) / sd) ** 2).mean(axis=1).max() ** 0.5)
    return {"mean": mean.tolist(), "sd": sd.tolist(), "radius": far}


def is_far(reach: Mapping[str, Any], vectors: Any) -> Any:
    """[n] whether each embedding lies far outside what was timed."""
    import numpy as np

    mean, sd = np.asarray(reach["mean"]), np.asarray(reach["sd"])
    distance = (((vectors - mean) / sd) ** 2).mean(axis=1) ** 0.5
    return distance > FAR * float(reach["radius"])
