"""A test bed: machines drawn from a prior, programs with shared errors, heavy-tailed labels."""

from dataclasses import dataclass

import numpy as np

from agent.model.observations import Observations
from agent.model.prior import Prior

EMBEDDING = 64
DIRECTIONS = 8
VERSIONS = 3


def make_prior(seed: int = 0) -> Prior:
    """A prior learned from 200 drawn machines which differ mainly in a few directions."""
    rng = np.random.default_rng(seed)
    mean = np.append(rng.normal(size=EMBEDDING) / 8, -18.0)
    axes = np.linalg.qr(rng.normal(size=(EMBEDDING + 1, DIRECTIONS)))[0]
    lengths = np.append(1.5, 0.35 * 0.8 ** np.arange(DIRECTIONS - 1))
    machines = mean + rng.normal(size=(200, DIRECTIONS)) @ (axes * lengths).T
    machines += 0.01 * rng.normal(size=machines.shape)
    centre = machines.mean(axis=0)
    _, lengths, axes = np.linalg.svd(machines - centre, full_matrices=False)
    spread = lengths[:DIRECTIONS] / np.sqrt(len(machines) - 1)
    return Prior(
        centre,
        axes[:DIRECTIONS].T * spread,
        noise_speedup=0.2,
        noise_seconds=0.25,
        program_speedup=0.2,
        program_seconds=0.3,
        rest_sd=0.01,
        intercept_sd=0.5,
    )


@dataclass(frozen=True, eq=False)
class Machine:
    """True weights of one machine."""

    weights: np.ndarray
    prior: Prior
    bend: float = 0.0  # of what no linear head can say

    def observe(
        self, programs: int, seed: int, versions: int = VERSIONS, wild: float = 0.0
    ) -> Observations:
        """Labels of random programs: ``versions`` speed-ups and one time in seconds each."""
        rng = np.random.default_rng(seed)
        base = rng.normal(size=(programs, EMBEDDING))
        moved = rng.normal(size=(programs, versions, EMBEDDING)) * 0.7
        fast = np.concatenate([moved, np.zeros((programs, versions, 1))], axis=2)
        fast = fast.reshape(-1, EMBEDDING + 1)
        slow = np.column_stack([base, np.ones(programs)])
        group = np.concatenate([np.repeat(np.arange(programs), versions), np.arange(programs)])
        kind = np.array(["speedup"] * len(fast) + ["seconds"] * len(slow))
        design = np.concatenate([fast, slow])
        own, shared = self.prior.noise.rows(kind), self.prior.program.rows(kind)
        effect = rng.standard_t(4, size=(programs, 2))[group, (kind == "seconds").astype(int)]
        error = own * rng.standard_t(4, size=len(kind)) + shared * effect
        sd = np.full(len(kind), 0.03)
        bent = (
            self.bend * np.tanh(2 * design @ self.prior.directions[:, 1]) ** 2 * (kind == "speedup")
        )
        target = design @ self.weights + bent + error + sd * rng.normal(size=len(kind))
        outlier = rng.random(len(kind)) < wild
        target = np.where(outlier, target + rng.choice([-4.0, 4.0], len(kind)), target)
        return Observations(design, target, sd, kind, group)


def draw_machine(prior: Prior, seed: int, away: float = 1.0, bend: float = 0.0) -> Machine:
    """A machine ``away`` standard deviations from the mean (1: typical, 0: the mean itself)."""
    rng = np.random.default_rng(10_000 + seed)
    z = rng.normal(size=prior.directions.shape[1])
    z *= away * np.sqrt(len(z)) / np.linalg.norm(z)
    rest = prior.rest * rng.normal(size=len(prior.mean)) * min(away, 1.0)
    return Machine(prior.mean + prior.scaled_directions @ z + rest, prior, bend)


def first_speedups(observations: Observations, labels: int) -> Observations:
    """The programs with the first ``labels`` speed-up rows, and their seconds rows."""
    fast = np.flatnonzero(observations.kind == "speedup")[:labels]
    slow = (observations.kind == "seconds") & np.isin(observations.group, observations.group[fast])
    return observations.take(np.concatenate([fast, np.flatnonzero(slow)]))
