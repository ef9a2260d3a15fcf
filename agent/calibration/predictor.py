"""From programs to log times: the bundle's encoder and a head, the same way for everybody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.arrays import Bools, Doubles
from agent.bundle.bundle import Bundle
from agent.bundle.encoder import Encoder
from agent.calibration.calibration import (
    Calibration,
    CalibrationVerdict,
    Reach,
    StoredCalibration,
)
from agent.calibration.facts import facts_known, facts_vector
from agent.calibration.verdict import verdict_of
from agent.errors import BundleError
from agent.loopnest.features.nest import NestTable, lower
from agent.loopnest.features.vector import features, work
from agent.loopnest.program import Program
from agent.measure.machine import Machine
from agent.model.heads import Head, head_from_json
from agent.model.linear import BundleHead
from agent.model.observations import SECONDS, SPEEDUP
from agent.model.posterior import Z80
from agent.model.prior import Prior

MOST_LOG = 45.0  # exp of it still is a number that people can read
FAR = 1.5  # a program this many times farther out than any of the fixed set is "far"


@dataclass(frozen=True)
class Represented:
    """Programs as the head sees them: ``vectors`` [n, E] and ``work`` [n], log."""

    vectors: Doubles
    work: Doubles


@dataclass(frozen=True)
class Prediction:
    """Speed-up over the program as written and seconds an execution, with 80 % intervals.

    ``far``: the program is unlike everything the calibration has timed.
    """

    speedup: float
    low: float
    high: float
    seconds: float
    seconds_low: float
    seconds_high: float
    far: bool


def represent(encoder: Encoder, table: NestTable) -> Represented:
    """Embed lowered programs, all in one batch."""
    vectors = encoder.embed(features(table)).astype(np.float64)
    return Represented(vectors, work(table))


@dataclass(frozen=True)
class Predictor:
    """A bundle with the head in force.

    Attributes:
        bundle: where the encoder came from.
        encoder: its encoder.
        head: of the calibration in force, else the bundle's own.
        reach: what the calibration has timed; None without one.
        calibration_id: None where the bundle predicts alone; ``verdict``: on that calibration.
        notes: (code, words) a person should know about these predictions.
    """

    bundle: Bundle
    encoder: Encoder
    head: Head
    reach: Reach | None
    calibration_id: int | None
    notes: tuple[tuple[str, str], ...] = ()
    verdict: CalibrationVerdict | None = None

    def predict(self, base: Program, variants: Sequence[Program]) -> list[Prediction]:
        """Predict every variant of ``base`` in one batch.

        The seconds of a variant are those of the program as written over its speed-up, so that
        the two never contradict each other.
        """
        seen = represent(self.encoder, lower((base, *variants)))
        width = seen.vectors.shape[1] + 1
        designs = np.zeros((len(variants), width))
        designs[:, :-1] = seen.vectors[0] - seen.vectors[1:]
        gain, gain_sd = self.head.predict(designs, SPEEDUP)
        same = np.array([v.body == base.body for v in variants], dtype=np.bool_)
        gain, gain_sd = np.where(same, 0.0, gain), np.where(same, 0.0, gain_sd)
        first = np.append(seen.vectors[:1], np.ones((1, 1)), axis=1)
        level, level_sd = self.head.predict(first, SECONDS)
        seconds = level[0] + seen.work[0] - gain
        sd = np.hypot(level_sd[0], gain_sd)
        far = is_far(self.reach, seen.vectors[1:]) if self.reach else np.zeros(len(variants), bool)
        return [
            Prediction(*_interval(g, gs), *_interval(s, ss), bool(f))
            for g, gs, s, ss, f in zip(gain, gain_sd, seconds, sd, far, strict=True)
        ]


def _interval(mean: float, sd: float) -> tuple[float, float, float]:
    """The value and its 80 % interval, back from logarithms."""
    ends = (mean, mean - Z80 * sd, mean + Z80 * sd)
    value, low, high = (math.exp(min(max(float(x), -MOST_LOG), MOST_LOG)) for x in ends)
    return value, low, high


def load_predictor(stored: StoredCalibration | None, bundle: Bundle, machine: Machine) -> Predictor:
    """The calibration in force on its bundle, or the bundle alone where that does not fit.

    Args:
        stored: the calibration in force, if any.
        bundle: to predict with (``installed.bundle_for``).
        machine: this one; what is known of it moves the bundle's prior where there is no head.

    Raises:
        BundleError: the bundle cannot be used.
        StateError: the stored head cannot be read.
    """
    encoder = Encoder(bundle)
    ours = stored.body if stored else None
    alone = BundleHead.fit(prior_of(bundle).on(_facts(ours, machine)))
    if stored is None:
        note = ("no-calibration", "no calibration is in force: the bundle predicts alone")
        return Predictor(bundle, encoder, alone, None, None, (note,))
    calibration = stored.body
    if calibration.bundle.digest != bundle.digest:
        note = ("other-bundle", "the calibration in force was made with another bundle")
        return Predictor(bundle, encoder, alone, None, None, (note,))
    notes: tuple[tuple[str, str], ...] = ()
    if not calibration.machine.is_of(machine):
        notes = (("other-machine", "the calibration in force was made on another machine"),)
    head = head_from_json(calibration.model)
    verdict = verdict_of(calibration)
    return Predictor(bundle, encoder, head, calibration.reach, stored.id, notes, verdict)


def _facts(calibration: Calibration | None, machine: Machine) -> Doubles:
    """The facts of the calibration in force, if it is of this machine; else what needs no compiler.

    The agent compiles for this CPU, so that its vectors are those of the code.
    """
    if calibration and calibration.facts and calibration.machine.is_of(machine):
        return facts_vector(calibration.facts)
    vectors = 0 if "simd_bytes" in machine.unknown else machine.simd_bytes
    return facts_vector(facts_known(machine, vectors))


def is_far(reach: Reach, vectors: Doubles) -> Bools:
    """[n] whether each embedding [n, E] lies far outside what was timed."""
    distance = (((vectors - np.array(reach.mean)) / np.array(reach.sd)) ** 2).mean(axis=1) ** 0.5
    far: Bools = distance > FAR * reach.radius
    return far


def prior_of(bundle: Bundle) -> Prior:
    """The bundle's prior; BundleError where it is malformed or does not fit the encoder."""
    prior = Prior.from_json(bundle.prior)
    if len(prior.mean) != bundle.embedding + 1:
        raise BundleError(
            f"the bundle in {bundle.path} cannot be used: its prior has {len(prior.mean)} weights, "
            f"its encoder needs {bundle.embedding + 1}",
            "Install the bundle again, or use the one that came with the agent.",
        )
    return prior
