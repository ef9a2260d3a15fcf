"""What reference programs that no encoder learnt from say about the prior: noise and shrinkage.

Every reference machine is taken as if it and its toolchain were not known, so that what is found
is what a machine that was never seen will meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.arrays import Bools, Doubles, Floats, Indices, Singles, Texts
from agent.model.linear import RidgeHead
from agent.model.observations import SECONDS, SPEEDUP, Observations
from agent.model.posterior import posterior
from agent.model.prior import Prior
from bundles.labels.references import References
from bundles.training.prior import SECONDS_SHARE, MachineHeads, Noise, make_prior

VALIDATION_TENTHS = 1  # of the reference programs: they say what no head explains
SCALES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
LABELS, DRAWS = 48, 3
LABEL_SD = 0.03
FEWEST_VERSIONS, FEWEST_PROGRAMS = 3, 8


def is_validation(program: Texts) -> Bools:
    """[n] reference programs that no encoder learns from, by their digests."""
    return np.array([int(name[8:16], 16) % 10 < VALIDATION_TENTHS for name in program], np.bool_)


@dataclass(frozen=True, eq=False)
class Validation:
    """Machines with their heads, and programs to judge a prior by.

    Attributes:
        simulated: heads of the simulated machines.
        known: heads [R, E+1] of the reference machines, fitted without programs of validation.
        references: their programs and times.
        embedded: [p, v, E] whitened embeddings of those programs.
    """

    simulated: MachineHeads
    known: MachineHeads
    references: References
    embedded: Doubles

    def noise(self) -> Noise:
        """Scales of the errors that heads leave on programs no encoder learnt from.

        Labels of the programs kept for validation say how large errors are, those of a version
        and those that all versions of a program share. The mean over machines.
        """
        judged = np.flatnonzero(is_validation(self.references.program))
        rows = []
        for r in range(len(self.references.targets)):
            target = self.references.target[..., r]
            usable = judged[np.isfinite(target[judged]).sum(1) >= FEWEST_VERSIONS]
            if len(usable) < FEWEST_PROGRAMS:
                continue
            rng = np.random.default_rng(r)
            labels = observations(self.embedded, target, usable, target.shape[1], rng)
            found = posterior(replace(self._as_if_unknown(r, Noise()), noise_weight=0.0), labels)
            rows.append([found.own.speedup, found.own.seconds])
            rows[-1] += [found.shared.speedup, found.shared.seconds]
        return Noise(*np.mean(rows, axis=0).tolist()) if rows else Noise()

    def best_scale(self, noise: Noise) -> float:
        """The shrinkage strength that serves reference machines best, each with 48 labels."""

        def score(scale: float) -> float:
            found = []
            for r in range(len(self.references.targets)):
                prior = self._as_if_unknown(r, noise, scale)
                target = self.references.target[..., r]
                found += [self._error(prior, target, seed) for seed in range(DRAWS)]
            return float(np.nanmean(found))

        return min(SCALES, key=score)

    def _as_if_unknown(self, machine: int, noise: Noise, scale: float = 1.0) -> Prior:
        """The prior of a reference machine had no machine with its toolchain been measured."""
        toolchains = [(t.machine, t.compiler, t.flags) for t in self.references.targets]
        others = np.array([t != toolchains[machine] for t in toolchains])
        rest = MachineHeads(self.known.heads[others], self.known.facts[others])
        prior = make_prior(self.simulated, rest if others.any() else None, noise, scale)
        return prior.on(self.known.facts[machine])

    def _error(self, prior: Prior, target: Singles, seed: int) -> float:
        """Of a head fitted to 48 random labels: of speed-ups, and a little of seconds."""
        rng = np.random.default_rng(seed)
        judged = is_validation(self.references.program) & np.isfinite(target[:, 0])
        known = np.flatnonzero(~judged & (np.isfinite(target).sum(1) >= FEWEST_VERSIONS))
        if not judged.any() or not len(known):
            return float("nan")
        programs = rng.choice(known, min(LABELS // 2, len(known)), replace=False)
        weights = RidgeHead.fit(
            prior, observations(self.embedded, target, programs, 2, rng)
        ).weights
        times = self.embedded[judged] @ weights[:-1] + weights[-1]
        truth = target[judged]
        gains = (times[:, :1] - times[:, 1:]) - (truth[:, :1] - truth[:, 1:])
        level = times[:, 0] - truth[:, 0]
        return float(np.nanmean(np.abs(gains)) + SECONDS_SHARE * np.nanmean(np.abs(level)))


def observations(
    embedded: Doubles, target: Floats, programs: Indices, most: int, rng: np.random.Generator
) -> Observations:
    """Labels of some programs: at most so many random speed-ups of each, and its seconds.

    Args:
        embedded: [p, v, E]; variant 0 is the program as written.
        target: [p, v] log seconds less log work; nan where there is no label.
        programs: which of the p.
        most: speed-ups of a program.
        rng: chooses them.
    """
    where, which = list[int](), list[int]()
    for p in programs:
        there = 1 + np.flatnonzero(np.isfinite(target[p, 1:]))
        chosen = rng.choice(there, min(most, len(there)), replace=False)
        where += [int(p)] * len(chosen)
        which += chosen.tolist()
    return labels_of(embedded, target, programs, (where, which))


def labels_of(
    embedded: Doubles,
    target: Floats,
    programs: Indices,
    speedups: tuple[Sequence[int] | Indices, Sequence[int] | Indices],
) -> Observations:
    """The labels of given speed-ups, and of the seconds of given programs.

    Args:
        embedded: [p, v, E]; variant 0 is the program as written.
        target: [p, v] log seconds less log work.
        programs: [k] whose seconds are labels.
        speedups: program and variant of each speed-up, [n] both.
    """
    where, which = speedups
    gains = embedded[where, 0] - embedded[where, which]
    design = np.concatenate(
        [
            np.column_stack([gains, np.zeros(len(gains))]),
            np.column_stack([embedded[programs, 0], np.ones(len(programs))]),
        ]
    )
    truth = np.concatenate([target[where, 0] - target[where, which], target[programs, 0]])
    kind = np.array([SPEEDUP] * len(gains) + [SECONDS] * len(programs))
    group = np.concatenate([np.asarray(where, np.int64), programs]).astype(np.int64)
    sd = np.full(len(truth), LABEL_SD)
    return Observations(design, truth.astype(np.float64), sd, kind, group)
