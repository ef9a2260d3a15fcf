"""From programs and labels to an encoder with its prior: what is exported, and what is evaluated.

simulated machines -> stage 1 (``training``) -> reference machines -> stage 2 (``adapt``)
    -> whiten -> heads of all machines -> what no head explains -> prior
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from agent.model.heads import RidgeHead
from agent.model.observations import SECONDS, SPEEDUP, Observations
from agent.model.prior import Prior
from bundles import running
from bundles.adapt import Adaptation, adapt, labelled_head
from bundles.dataset import Dataset, Recipe
from bundles.labels import Labels, Target, is_test
from bundles.machines import Machine, facts, sample_machines
from bundles.network import Pretrainer
from bundles.prior import (
    SECONDS_SHARE,
    Family,
    Noise,
    Whitening,
    heads,
    make_prior,
    whitening,
)
from bundles.references import References, side_by_side
from bundles.settings import Say, Settings, Where
from bundles.trained import Trained
from bundles.training import Log, prepare

Doubles = npt.NDArray[np.float64]
LINEAR = 6_000  # programs, at most, that linear heads are fitted to in memory
EMBEDDED = 8_192
VALIDATION_TENTHS = 1  # of the reference programs: they say what no head explains
SCALES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
LABELS, DRAWS = 48, 3
ROBUST_SD = 1.4826  # median absolute deviation of a standard normal, inverted


@dataclass(frozen=True, eq=False)
class Simulated:
    """Stage 1 and what it was made from.

    Attributes:
        model: encoder, and heads of the machines it was trained on.
        train, held: programs to learn from, and to validate on.
        machines: all simulated machines; the first ``trained`` of them were learnt.
        log: of training.
    """

    model: Pretrainer
    train: Dataset
    held: Dataset
    machines: tuple[Machine, ...]
    trained: int
    log: Log


@dataclass(frozen=True, eq=False)
class Learned:
    """An encoder, how its embedding is whitened, and the prior that goes with it."""

    model: Pretrainer
    white: Whitening
    prior: Prior

    def trained(self) -> Trained:
        """As evaluation uses it."""
        return Trained(lambda x: self.white(embed(self.model, x)), self.prior)


def simulate_stage(settings: Settings, say: Say, where: Where) -> Simulated:
    """Stage 1: an encoder from random programs and simulated machines alone."""
    count = settings.machines + settings.other_machines
    machines = sample_machines(np.random.default_rng(settings.seed), count)
    recipe = Recipe(settings.programs, settings.variants, settings.seed, machines)
    data = running.corpus(recipe, settings.processes, where, running.every_few_seconds(say))
    cut = round(len(data) * (1 - settings.held_out))
    train, held = data.take(slice(cut)), data.take(slice(cut, None))
    learnt = slice(settings.machines)
    model, log = running.train(settings, train, held, learnt, say, where)
    return Simulated(
        model, train.loaded(LINEAR), held.loaded(LINEAR), machines, settings.machines, log
    )


def learn(
    stage: Simulated, labels: Sequence[Labels], how: Adaptation, seed: int, say: Say
) -> Learned:
    """Stage 2 and the prior. Without labels the simulated machines are all there is.

    Args:
        stage: stage 1.
        labels: of reference machines; their test programs and fixed set are left out here.
        how: of stage 2.
        seed: of it.
        say: told of progress.
    """
    usable = [some.take(~is_test(some.program) & ~some.fixed) for some in labels]
    usable = [some for some in usable if len(some)]
    learnt = slice(stage.trained)
    if not usable:
        return _finished(stage, stage.model, None, say)
    references = side_by_side(usable)
    kept = is_validation(references.program)
    model = adapt(stage.model, stage.train, learnt, references.take(~kept), how, seed, say)
    return _finished(stage, model, references, say)


def is_validation(program: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """[n] reference programs that no encoder learns from, by their digests."""
    return np.array([int(name[8:16], 16) % 10 < VALIDATION_TENTHS for name in program], np.bool_)


def _finished(
    stage: Simulated, model: Pretrainer, references: References | None, say: Say
) -> Learned:
    raw = embed(model, stage.train.features)
    white = whitening(raw)
    simulated = Family(
        heads(white(raw), stage.train.target[..., : stage.trained]),
        facts(stage.machines[: stage.trained]).astype(np.float64),
    )
    if references is None:
        return Learned(model, white, make_prior(simulated))
    embedded = white(embed(model, references.features))
    kept = is_validation(references.program)
    known = Family(
        np.stack(
            [
                labelled_head(embedded[~kept], references.target[~kept][..., r])
                for r in range(len(references.targets))
            ]
        ),
        np.stack([target.facts for target in references.targets]),
    )
    noise = unexplained(embedded[kept], references.target[kept], known.heads)
    say("no head explains: " + "  ".join(f"{k} {v:.2f}" for k, v in vars(noise).items()))
    scale = best_scale(simulated, known, references, embedded, noise)
    say(f"real machines differ {scale} times as much as the prior's directions say")
    return Learned(model, white, make_prior(simulated, known, noise, scale))


def embed(model: Pretrainer, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[..., F] -> [..., E], not yet whitened."""
    flat = torch.from_numpy(np.ascontiguousarray(features.reshape(-1, features.shape[-1])))
    with torch.no_grad():
        parts = [model.encoder(part) for part in torch.split(flat, EMBEDDED)]
    found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return found.reshape(*features.shape[:-1], -1)


def unexplained(embedded: Doubles, target: npt.NDArray[np.floating], known: Doubles) -> Noise:
    """Robust scales of the errors of heads [R, E+1] on programs [p, v, E] that nobody learnt from.

    The error of a program is the median over its versions; a version's own is what remains.
    """
    gains = (embedded[:, :1] - embedded[:, 1:]) @ known[:, :-1].T  # [p, v-1, R]
    errors = (target[:, :1] - target[:, 1:]) - gains
    several = np.isfinite(errors).sum(1) >= 3
    errors = np.where(several[:, None], errors, np.nan)
    shared = _median(errors, axis=1)  # [p, R]
    own = errors - shared[:, None]
    level = target[:, 0] - embedded[:, 0] @ known[:, :-1].T - known[:, -1]
    return Noise(
        speedup=_spread(own),
        seconds=_spread(level) / 2,  # of one label: half its variance is the program's
        program_speedup=_spread(shared),
        program_seconds=_spread(level) / 2,
    )


def _median(values: Doubles, axis: int) -> Doubles:
    there = np.isfinite(values).any(axis)
    safe = np.where(np.expand_dims(there, axis), values, 0.0)
    return np.asarray(np.where(there, np.nanmedian(safe, axis), np.nan))


def _spread(values: Doubles) -> float:
    found = np.abs(values[np.isfinite(values)])
    return max(0.02, float(ROBUST_SD * np.median(found))) if len(found) else Noise().speedup


def best_scale(
    simulated: Family, known: Family, references: References, embedded: Doubles, noise: Noise
) -> float:
    """The shrinkage strength that serves reference machines best, each as if it were not known.

    Every toolchain is left out in turn; its machines get 48 labels and are judged on programs
    that no head was fitted to.
    """
    toolchains = [(t.machine, t.compiler, t.flags) for t in references.targets]
    judged = is_validation(references.program)

    def score(scale: float) -> float:
        found = []
        for r, toolchain in enumerate(toolchains):
            others = np.array([t != toolchain for t in toolchains])
            rest = Family(known.heads[others], known.facts[others]) if others.any() else None
            prior = make_prior(simulated, rest, noise, scale).on(known.facts[r])
            target = references.target[..., r]
            found += [_error(prior, embedded, target, judged, seed) for seed in range(DRAWS)]
        return float(np.mean(found))

    return min(SCALES, key=score)


def _error(
    prior: Prior,
    embedded: Doubles,
    target: npt.NDArray[np.floating],
    judged: npt.NDArray[np.bool_],
    seed: int,
) -> float:
    """Of a head fitted to 48 random labels: of speed-ups, and a little of seconds."""
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(~judged & (np.isfinite(target).sum(1) >= 3))
    labels = some_labels(embedded[known], target[known], LABELS, rng)
    weights = RidgeHead.fit(prior, labels).weights
    times = embedded[judged] @ weights[:-1] + weights[-1]
    truth = target[judged]
    gains = (times[:, :1] - times[:, 1:]) - (truth[:, :1] - truth[:, 1:])
    level = times[:, 0] - truth[:, 0]
    return float(np.nanmean(np.abs(gains)) + SECONDS_SHARE * np.nanmean(np.abs(level)))


def some_labels(
    embedded: Doubles, target: npt.NDArray[np.floating], count: int, rng: np.random.Generator
) -> Observations:
    """``count`` random speed-ups, two a program, and the seconds of those programs."""
    programs = rng.choice(len(embedded), min(count // 2, len(embedded)), replace=False)
    where, which = [], []
    for p in programs:
        there = 1 + np.flatnonzero(np.isfinite(target[p, 1:]))
        chosen = rng.choice(there, min(2, len(there)), replace=False)
        where += [p] * len(chosen)
        which += list(chosen)
    gains = embedded[where, 0] - embedded[where, which]
    design = np.concatenate(
        [
            np.column_stack([gains, np.zeros(len(gains))]),
            np.column_stack([embedded[programs, 0], np.ones(len(programs))]),
        ]
    )
    truth = np.concatenate([target[where, 0] - target[where, which], target[programs, 0]])
    kind = np.array([SPEEDUP] * len(gains) + [SECONDS] * len(programs))
    group = np.concatenate([np.asarray(where), programs]).astype(np.int64)
    return Observations(design, truth.astype(np.float64), np.full(len(truth), 0.03), kind, group)


def encoder_without(
    labels: Sequence[Labels],
    left_out: Callable[[Target], bool],
    seed: int,
    work: Path,
    say: Say,
    settings: Settings | None = None,
) -> Trained:
    """What would have been learnt had some targets never been measured.

    Args:
        labels: of all targets; test programs are left out here.
        left_out: whether a target is one of those.
        seed: of everything.
        work: directory that keeps stage 1, which no label reaches: it is made once.
        say: told of progress.
        settings: of stage 1.
    """
    settings = replace(settings or Settings(), seed=seed)
    with running.ready(Where(work=work)) as place:
        prepare(settings, "cpu")
        stage = simulate_stage(settings, say, place)
    rest = [some for some in labels if not left_out(some.target)]
    return learn(stage, rest, Adaptation(), seed, say).trained()
