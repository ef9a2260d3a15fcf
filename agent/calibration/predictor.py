"""From programs to log times: the bundle's encoder and a head, the same way for everybody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.arrays import Bools, Doubles
from agent.bundle.bundle import Bundle
from agent.bundle.encoder import Encoder
from agent.calibration.bounds import possible
from agent.calibration.calibration import (
    Calibration,
    CalibrationVerdict,
    Reach,
    StoredCalibration,
)
from agent.calibration.facts import facts_known, facts_vector
from agent.calibration.verdict import calibration_verdict
from agent.errors import BundleError
from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.features.nest import Geometry, NestTable, lower
from agent.loopnest.features.vector import features, work
from agent.loopnest.program import Program
from agent.measure.machine import Machine
from agent.model.anchor import ErrorModel, LogPrediction, LogTime
from agent.model.heads import Head, head_from_json
from agent.model.linear import BundleHead
from agent.model.observations import SECONDS, SPEEDUP
from agent.model.posterior import Z80
from agent.model.prior import Prior

MOST_LOG = 45.0  # exp of it still is a number that people can read
FAR = 1.5  # a program this many times farther out than any of the fixed set is "far"
USUAL, WIDENING = 0.4, 0.3  # most programs lie within the one; errors grow with this power beyond
LEAST_WORK, SMALLER = 6e4, 0.15  # of what bundles learn from; errors grow with this power below
CORPUS_RADIUS = 1.85  # of the fixed set, in sds of what a bundle learned from (its space is white)


@dataclass(frozen=True)
class Represented:
    """Programs as the head sees them: ``vectors`` [n, E] and ``work`` [n], log."""

    vectors: Doubles
    work: Doubles


@dataclass(frozen=True)
class Prediction:
    """Speed-up over the program as written and seconds an execution, with 80 % intervals.

    ``far``: the program is unlike everything the calibration has timed. ``possible``: a machine
    could be so fast, or so slow; if not, no figure is to be shown.
    """

    speedup: float
    low: float
    high: float
    seconds: float
    seconds_low: float
    seconds_high: float
    far: bool
    possible: bool = True


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
        errors: how those of one program hang together.
        notes: (code, words) a person should know about these predictions.
        threads: of this machine; 0: not known.
    """

    bundle: Bundle
    encoder: Encoder
    head: Head
    reach: Reach | None
    calibration_id: int | None
    errors: ErrorModel
    notes: tuple[tuple[str, str], ...] = ()
    verdict: CalibrationVerdict | None = None
    threads: int = 0

    def gain(self, vectors: Doubles) -> tuple[Doubles, Doubles]:
        """[n-1] mean and sd of log speed-ups of embeddings [n,E] over the first, as written."""
        designs = np.zeros((len(vectors) - 1, vectors.shape[1] + 1))
        designs[:, :-1] = vectors[0] - vectors[1:]
        return self.head.predict(designs, SPEEDUP)

    def see(
        self, base: Program, variants: Sequence[Program], geometry: Geometry | None = None
    ) -> Represented:
        """``base`` and the variants as the head sees them; ``geometry``: as for ``lower``."""
        return represent(self.encoder, lower((base, *variants), geometry))

    def predict(
        self,
        base: Program,
        variants: Sequence[Program],
        anchor: LogTime | None = None,
        seen: Represented | None = None,
    ) -> list[Prediction]:
        """Predict every variant of ``base`` in one batch.

        The seconds of a variant are those of the program as written over its speed-up, so that
        the two never contradict each other.

        Args:
            base: the program as written.
            variants: what steps have made of it.
            anchor: a timing of ``base``.
            seen: what ``see`` gives of them, where it is at hand.

        Raises:
            BundleError: the program as written is predicted to take a time that is impossible.
        """
        seen = seen or self.see(base, variants)
        same = np.array([v.body == base.body for v in variants], dtype=np.bool_)
        heads = self.logs(seen, same)  # nonsense stays nonsense, whatever a timing makes of it
        written = heads.written.log_seconds
        if not possible(np.array([written]), seen.work[:1], self.threads)[0]:
            words = f"{base.name} takes {in_seconds(written)} as written"
            raise impossible(self.bundle, words)
        can_be = possible(heads.seconds, np.full(len(same), seen.work[0]), self.threads)
        found = heads if anchor is None else self.errors.given(heads, anchor)
        far = is_far(self.reach, seen.vectors[1:]) if self.reach else np.zeros_like(same)
        logs = (found.gain, found.gain_sd, found.seconds, found.seconds_sd)
        return [
            Prediction(*_interval(g, gs), *_interval(s, ss), bool(f), bool(p))
            for g, gs, s, ss, f, p in zip(*logs, far, can_be, strict=True)
        ]

    def logs(self, seen: Represented, same: Bools, anchor: LogTime | None = None) -> LogPrediction:
        """What is expected of n versions, the program as written before them in ``seen``.

        Args:
            seen: [n+1].
            same: [n] which of them are the program as written again.
            anchor: a timing of that.
        """
        gain, gain_sd = (np.where(same, 0.0, x) for x in self.gain(seen.vectors))
        gain_sd = gain_sd * widening(self._away(seen.vectors[1:])) * shortness(seen.work[0])
        found = self.errors.of_heads(gain, gain_sd, self._written(seen))
        return found if anchor is None else self.errors.given(found, anchor)

    def _away(self, vectors: Doubles) -> Doubles:
        """[n] how far out embeddings [n, E] lie: of what was timed, else of the bundle's corpus."""
        if self.reach:
            return distance(self.reach, vectors)
        return np.asarray((vectors**2).mean(axis=1) ** 0.5 / CORPUS_RADIUS)

    def written(self, base: Program) -> LogTime:
        """The time of a program as written, as it is predicted."""
        return self._written(self.see(base, ()))

    def _written(self, seen: Represented) -> LogTime:
        first = np.append(seen.vectors[:1], np.ones((1, 1)), axis=1)
        level, sd = self.head.predict(first, SECONDS)
        return LogTime(float(level[0] + seen.work[0]), float(sd[0]))

    def log_speedups(
        self, base: Program, variants: Sequence[Program], geometry: Geometry | None = None
    ) -> tuple[Represented, Doubles, Doubles]:
        """``base`` and the variants as seen; log speed-ups [n] over it, and their deviations.

        ``geometry``: as for ``lower``.
        """
        seen = self.see(base, variants, geometry)
        gain, gain_sd = self.gain(seen.vectors)
        same = np.array([v.body == base.body for v in variants], dtype=np.bool_)
        return seen, np.where(same, 0.0, gain), np.where(same, 0.0, gain_sd)


def impossible(bundle: Bundle, what: str) -> BundleError:
    """What to raise where ``bundle`` says ``what``, which no machine can do."""
    return BundleError(
        f"the bundle {bundle.name} {bundle.version} cannot be used here: it says that {what}, "
        "which is impossible",
        "Use another bundle (`agent bundle list`), or the one that came with the agent.",
    )


def in_seconds(log_seconds: float) -> str:
    """A predicted time that is nonsense, for the message that says so."""
    return f"{math.exp(min(max(log_seconds, -MOST_LOG), MOST_LOG)):.1e} s"


def check_possible(bundle: Bundle, machine: Machine | None = None) -> None:
    """Refuse a bundle that predicts impossible times of the fixed set.

    Args:
        bundle: with its prior.
        machine: on it; None: on one of which nothing is known.

    Raises:
        BundleError: it does, or its prior does not fit its encoder.
    """
    facts = _facts(None, machine) if machine else facts_vector(None)
    head = BundleHead.fit(prior_of(bundle).on(facts))
    programs = {k.name: load_kernel(k) for k in kernels()}
    seen = represent(Encoder(bundle), lower(tuple(programs.values())))
    design = np.append(seen.vectors, np.ones((len(programs), 1)), axis=1)
    seconds = head.predict(design, SECONDS)[0] + seen.work
    for name, log_s, can_be in zip(
        programs,
        seconds,
        possible(seconds, seen.work, _threads(machine) if machine else 0),
        strict=True,
    ):
        if not can_be:
            raise impossible(bundle, f"{name} of the fixed set takes {in_seconds(log_s)}")


def _threads(machine: Machine) -> int:
    return 0 if "threads" in machine.unknown else machine.threads


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
    encoder, prior = Encoder(bundle), prior_of(bundle)
    ours, threads = stored.body if stored else None, _threads(machine)
    head = BundleHead.fit(prior.on(_facts(ours, machine)))
    errors = ErrorModel(prior.own_sd, prior.alike)
    alone = Predictor(bundle, encoder, head, None, None, errors, threads=threads)
    if stored is None:
        note = ("no-calibration", "no calibration is in force: the bundle predicts alone")
        return replace(alone, notes=(note,))
    calibration = stored.body
    if calibration.bundle.digest != bundle.digest:
        note = ("other-bundle", "the calibration in force was made with another bundle")
        return replace(alone, notes=(note,))
    notes: tuple[tuple[str, str], ...] = ()
    if not calibration.machine.is_of(machine):
        notes = (("other-machine", "the calibration in force was made on another machine"),)
    return replace(
        alone,
        head=head_from_json(calibration.model),
        reach=calibration.reach,
        calibration_id=stored.id,
        notes=notes,
        verdict=calibration_verdict(calibration),
    )


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
    far: Bools = distance(reach, vectors) > FAR
    return far


def distance(reach: Reach, vectors: Doubles) -> Doubles:
    """[n] how far out each embedding [n, E] lies; 1: as far as the farthest that was timed."""
    away = ((vectors - np.array(reach.mean)) / np.array(reach.sd)) ** 2
    return np.asarray(away.mean(axis=1) ** 0.5 / reach.radius)


def widening(away: Doubles) -> Doubles:
    """[n] by what intervals are wider at distances [n] (learned on programs never seen)."""
    return np.maximum(away / USUAL, 1.0) ** WIDENING


def shortness(log_work: float) -> float:
    """By what intervals are wider of a program that does less than any a bundle learned from.

    Mostly it is a matter of parallel loops: starting threads takes longer than the loop. Learned on
    labels of random programs that are so short (``docs/explanation/evaluation.md``).
    """
    return float(max(LEAST_WORK / math.exp(log_work), 1.0) ** SMALLER)


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
