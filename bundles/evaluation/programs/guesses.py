"""The ways to predict real programs that are compared: none of them learns from the programs.

The bundle alone and with the head of a calibration, each with and without a timing of the program
as written; rules of thumb; a random order; and what the same timings made again would be worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from agent.bundle.bundle import Bundle
from agent.bundle.encoder import Encoder
from agent.calibration.facts import facts_vector
from agent.calibration.fit import SEED, embed_samples, reach_of
from agent.calibration.labels import judge
from agent.calibration.predictor import Predictor, Represented, prior_of
from agent.kernels.fixed_set import kernels
from agent.measure.timing import Outcome
from agent.model.anchor import ErrorModel, LogTime
from agent.model.facts import facts_of
from agent.model.linear import BundleHead
from agent.model.posterior import Z80
from agent.model.select import best_head
from agent.state.state import StoredTiming, TimingKey
from bundles.evaluation.programs.records import RealHead, RealProgram, RealTimings
from bundles.evaluation.programs.scoring import RealGuess

DRAWS = 64
LANES_GAIN = 2.0  # what vectorize is taken to bring by the rules of thumb
Guesser = Callable[[RealProgram], RealGuess | None]


@dataclass(frozen=True)
class RealWay:
    """A way to predict: ``title`` for people, and what it says of a program; None: nothing."""

    title: str
    guess: Guesser


def ways(head: RealHead, bundle: Bundle, again: RealTimings | None) -> dict[str, RealWay]:
    """All there are for a journal and a bundle, by name; ``again``: a journal of another run."""
    alone = _alone(head, bundle)
    found = {"bundle": RealWay("bundle alone", _predicted(alone, anchored=False))}
    found["bundle_anchored"] = RealWay("bundle, anchored", _predicted(alone, anchored=True))
    if head.fixed:
        ours = _calibrated(head, alone)
        found["calibrated"] = RealWay("calibrated", _predicted(ours, anchored=False))
        found["calibrated_anchored"] = RealWay(
            "calibrated, anchored", _predicted(ours, anchored=True)
        )
    found["rules"] = RealWay("rules of thumb", _rules(head.target.threads))
    found["random"] = RealWay("random order", _random)
    found["again"] = RealWay("the same timings again", _again)
    if again is not None:
        found["repeated"] = RealWay("the same, timed in another run", _repeated(again))
    return found


def _alone(head: RealHead, bundle: Bundle) -> Predictor:
    """As the agent predicts before it is calibrated: it knows the machine, not its compiler."""
    target = head.target
    caches = {1: target.l1, 2: target.l2, 3: target.l3}
    facts = facts_of(target.simd_bytes, target.threads, caches, "", ())
    prior = prior_of(bundle)
    head_alone, errors = BundleHead.fit(prior.on(facts)), ErrorModel(prior.own_sd, prior.alike)
    return Predictor(
        bundle, Encoder(bundle), head_alone, None, None, errors, threads=target.threads
    )


def _calibrated(head: RealHead, alone: Predictor) -> Predictor:
    """With the head that the calibration's timings give on this bundle."""
    stored = [StoredTiming(TimingKey(**t["key"]), 0.0, t["body"]) for t in head.fixed]
    samples, _ = judge(stored, {k.name: k for k in kernels()})
    observations, vectors = embed_samples(samples, alone.bundle)
    prior = prior_of(alone.bundle).on(facts_vector(head.facts))
    fitted = best_head(prior, observations, SEED)[0]
    return replace(alone, head=fitted, reach=reach_of(vectors))


def _predicted(predictor: Predictor, *, anchored: bool) -> Guesser:
    def guess(program: RealProgram) -> RealGuess:
        vectors = predictor.encoder.embed(program.matrix).astype(np.float64)
        chosen = [0, *program.timed]
        seen = Represented(vectors[chosen], np.full(len(chosen), program.work))
        anchor = LogTime.of(*program.seconds) if anchored and program.seconds else None
        found = predictor.logs(seen, np.zeros(len(chosen) - 1, np.bool_), anchor)
        return RealGuess(found.gain, found.gain_sd, found.written.log_seconds)

    return guess


def _rules(threads: int) -> Guesser:
    """A parallel loop is faster by the number of threads, a vectorized one by ``LANES_GAIN``."""
    gains: Mapping[str, float] = {
        "parallelize": math.log(threads),
        "vectorize": math.log(LANES_GAIN),
    }

    def guess(program: RealProgram) -> RealGuess:
        texts = [program.versions[n].schedule for n in program.timed]
        return RealGuess(np.array([sum(g for w, g in gains.items() if w in t) for t in texts]))

    return guess


def _random(program: RealProgram) -> RealGuess:
    """Every version is as fast as written; the order is drawn."""
    size = (DRAWS, len(program.timed))
    return RealGuess(1e-6 * np.random.default_rng(0).standard_normal(size))


def _again(program: RealProgram) -> RealGuess:
    """Labels of another session, drawn from their 80 % intervals: nobody can be shown better."""
    timed = [program.versions[n] for n in program.timed]
    sd = np.array([(v.high - v.low) / (2 * Z80) for v in timed])
    noise = np.random.default_rng(0).standard_normal((DRAWS, len(timed)))
    return RealGuess(program.speedups + noise * sd)


def _repeated(again: RealTimings) -> Guesser:
    """The labels of another run as a prediction, of programs that it timed the same versions of."""
    known = {
        program.name: {
            v.schedule: v.log_speedup for v in program.versions if v.outcome == Outcome.OK
        }
        for program in again.programs
    }

    def guess(program: RealProgram) -> RealGuess | None:
        there = known.get(program.name, {})
        texts = [program.versions[n].schedule for n in program.timed]
        if not all(text in there for text in texts):
            return None
        return RealGuess(np.array([there[text] for text in texts]))

    return guess
