"""From timings to a head for this machine: embed, fit and choose, score on kernels not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agent import __version__
from agent.bundle.encoder import Encoder
from agent.bundle.installed import BundleReference
from agent.calibration.calibration import (
    AccuracyByWay,
    Calibration,
    FailedTiming,
    HeadChoice,
    Point,
    Reach,
    TimingCounts,
)
from agent.calibration.facts import facts_vector
from agent.calibration.journal import disturbances_of, noise_of
from agent.calibration.labels import Sample, judge
from agent.calibration.plan import variant_program
from agent.calibration.predictor import MOST_LOG, prior_of, represent
from agent.errors import MeasureError
from agent.kernels.fixed_set import kernels
from agent.loopnest.features.nest import lower
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.stats import noise_floor
from agent.model.observations import SECONDS, SPEEDUP, Observations
from agent.model.posterior import Z80
from agent.model.score import accuracy, predict_the_median
from agent.model.select import Selection, choose_head

if TYPE_CHECKING:
    from agent.arrays import Doubles
    from agent.bundle.bundle import Bundle
    from agent.calibration.evidence import Evidence

SEED = 0


def fit(evidence: Evidence, bundle: Bundle) -> Calibration:
    """The calibration that the evidence gives on a bundle, but for when it was made and judged.

    Raises:
        MeasureError: it gives none.
    """
    samples, failures = judge(evidence.stored, {k.name: k for k in kernels()})
    if all(s.base for s in samples):
        raise MeasureError(_why_nothing(failures), "See `agent kernels`, and try another compiler.")
    observations, vectors = embed_samples(samples, bundle)
    prior = prior_of(bundle).on(facts_vector(evidence.facts))
    selection = choose_head(prior, observations, SEED)
    return Calibration(
        agent=__version__,
        machine=evidence.machine,
        toolchain=evidence.toolchain,
        facts=evidence.facts,
        bundle=BundleReference.of(bundle),
        timings=_counts(evidence, samples, failures),
        noise_floor=noise_floor(noise_of(evidence.stored)),
        head=_choice(selection),
        accuracy=_accuracy(observations, selection),
        warnings=(*evidence.warnings, *disturbances_of(evidence.stored)),
        model=selection.head.to_json(),
        reach=reach_of(vectors),
        points=points_of(samples, observations, selection),
        repeat_noise=evidence.repeat_noise,
    )


def _why_nothing(failures: Sequence[FailedTiming]) -> str:
    if not failures:
        return "nothing usable was measured"
    first = failures[0]
    return (
        f"nothing usable was measured: {first.kernel} under {first.schedule!r}: "
        f"{first.outcome}. {first.detail}"
    ).rstrip()


def embed_samples(samples: Sequence[Sample], bundle: Bundle) -> tuple[Observations, Doubles]:
    """Embed every timed program once; labels beside their designs, and all embeddings [n, E]."""
    bases = {s.kernel.name: s.kernel for s in samples}
    names = [(name, ORIGINAL) for name in bases]
    names += [(s.kernel.name, s.schedule) for s in samples if not s.base]
    programs = [variant_program(bases[name], schedule) for name, schedule in names]
    seen = represent(Encoder(bundle), lower(programs))
    embedded = {n: (seen.vectors[i], float(seen.work[i])) for i, n in enumerate(names)}
    return observe(samples, embedded), seen.vectors


def observe(
    samples: Sequence[Sample], embedded: Mapping[tuple[str, str], tuple[Doubles, float]]
) -> Observations:
    """Labels beside what the encoder says of their programs.

    Args:
        samples: usable timings.
        embedded: (kernel name, schedule text) -> (embedding [E], log work).

    Returns:
        One row a sample; kernels made from one C file share a group, so that none of them is
        judged by a model that has seen its twin.
    """
    files = {name: n for n, name in enumerate(sorted({s.kernel.path.name for s in samples}))}
    names = {name: n for n, name in enumerate(sorted({s.kernel.name for s in samples}))}
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
        program=np.asarray([names[s.kernel.name] for s in samples], dtype=np.int64),
    )


def _counts(
    evidence: Evidence, samples: Sequence[Sample], failures: Sequence[FailedTiming]
) -> TimingCounts:
    bases = sum(s.base for s in samples)
    usable = len(samples) - bases
    return TimingCounts(evidence.planned, usable, bases, evidence.reused, tuple(failures))


def _choice(selection: Selection) -> HeadChoice:
    kinds, coverage = dict(selection.kinds), dict(selection.coverage)
    return HeadChoice(selection.kind, kinds, selection.verdicts, coverage)


def _accuracy(observations: Observations, selection: Selection) -> AccuracyByWay:
    """Each way to predict on programs it has not seen."""
    return AccuracyByWay(
        calibrated=accuracy(observations, selection.calibrated, selection.calibrated_sd),
        bundle_alone=accuracy(observations, selection.bundle_alone),
        median_alone=accuracy(observations, predict_the_median(observations)),
    )


def points_of(
    samples: Sequence[Sample], observations: Observations, selection: Selection
) -> tuple[Point, ...]:
    """Every label beside what was predicted of it by models that had not seen its kernel.

    Args:
        samples: n usable timings.
        observations: the same, in the same order.
        selection: the choice made with them.

    Returns:
        n points in speed-ups or seconds, each with the ends of its 80 % intervals.
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
        mean, half = work + ours, Z80 * sd
        logs = (s.label, s.low, s.high, mean, mean - half, mean + half, work + alone)
        kind = SECONDS if s.base else SPEEDUP
        points.append(Point(s.kernel.name, s.schedule, kind, *map(_unlogged, logs)))
    return tuple(points)


def _unlogged(log: float) -> float:
    """Back from logarithms; six digits are more than any timing has."""
    return float(f"{math.exp(min(max(log, -MOST_LOG), MOST_LOG)):.6g}")


def reach_of(vectors: Doubles) -> Reach:
    """How far the fixed set reaches in the encoder's space, to tell when a program lies outside.

    Args:
        vectors: [n, E] embeddings of every timed program.
    """
    mean, sd = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    far = float((((vectors - mean) / sd) ** 2).mean(axis=1).max() ** 0.5)
    return Reach(tuple(mean.tolist()), tuple(sd.tolist()), far)
