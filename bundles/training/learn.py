"""From programs and labels to an encoder with its prior: what is exported, and what is evaluated.

simulated machines -> stage 1 (``training``) -> reference machines -> stage 2 (``adapt``)
    -> whiten -> heads of all machines -> what no head explains -> prior
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from agent.arrays import Bools, Doubles, Floats, Indices, Singles, Texts
from agent.model.heads import RidgeHead
from agent.model.observations import SECONDS, SPEEDUP, Observations
from agent.model.posterior import posterior
from agent.model.prior import Prior
from bundles.labels.labels import Labels, Target, is_test
from bundles.labels.references import References, side_by_side
from bundles.simulator.machines import Machine, facts, sample_machines
from bundles.training import running
from bundles.training.adapt import Adaptation, adapt, labelled_head
from bundles.training.dataset import Dataset, Recipe
from bundles.training.network import Pretrainer
from bundles.training.prior import (
    SECONDS_SHARE,
    Family,
    Noise,
    Whitening,
    heads,
    make_prior,
    whitening,
)
from bundles.training.settings import Say, Settings, Where
from bundles.training.trained import Trained
from bundles.training.training import Log, prepare

LINEAR = 6_000  # programs, at most, that linear heads are fitted to in memory
EMBEDDED = 8_192
VALIDATION_TENTHS = 1  # of the reference programs: they say what no head explains
SCALES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
LABELS, DRAWS = 48, 3
LABEL_SD = 0.03
FEWEST_VERSIONS, FEWEST_PROGRAMS = 3, 8


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


def is_validation(program: Texts) -> Bools:
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
    noise = unexplained(simulated, known, references, embedded)
    say("no head explains: " + "  ".join(f"{k} {v:.2f}" for k, v in vars(noise).items()))
    scale = best_scale(simulated, known, references, embedded, noise)
    say(f"real machines differ {scale} times as much as the prior's directions say")
    return Learned(model, white, make_prior(simulated, known, noise, scale))


def embed(model: Pretrainer, features: Singles) -> Singles:
    """[..., F] -> [..., E], not yet whitened."""
    flat = torch.from_numpy(np.ascontiguousarray(features.reshape(-1, features.shape[-1])))
    with torch.no_grad():
        parts = [model.encoder(part) for part in torch.split(flat, EMBEDDED)]
    found: Singles = torch.cat(parts).numpy()
    return found.reshape(*features.shape[:-1], -1)


def unexplained(
    simulated: Family, known: Family, references: References, embedded: Doubles
) -> Noise:
    """Scales of the errors that heads leave on programs no encoder learnt from.

    Every reference machine is taken as if its toolchain were not known; its labels of the
    programs kept for validation say how large errors are, those of a version and those that all
    versions of a program share. The mean over machines.
    """
    judged = np.flatnonzero(is_validation(references.program))
    rows = []
    for r in range(len(references.targets)):
        prior = replace(_as_if_unknown(simulated, known, references, r), noise_weight=0.0)
        target = references.target[..., r]
        usable = judged[np.isfinite(target[judged]).sum(1) >= FEWEST_VERSIONS]
        if len(usable) < FEWEST_PROGRAMS:
            continue
        labels = observations(embedded, target, usable, target.shape[1], np.random.default_rng(r))
        found = posterior(prior, labels)
        rows.append([found.own.speedup, found.own.seconds])
        rows[-1] += [found.shared.speedup, found.shared.seconds]
    return Noise(*np.mean(rows, axis=0).tolist()) if rows else Noise()


def _as_if_unknown(
    simulated: Family,
    known: Family,
    references: References,
    machine: int,
    noise: Noise | None = None,
    scale: float = 1.0,
) -> Prior:
    """The prior of a reference machine had no machine with its toolchain been measured."""
    toolchains = [(t.machine, t.compiler, t.flags) for t in references.targets]
    others = np.array([t != toolchains[machine] for t in toolchains])
    rest = Family(known.heads[others], known.facts[others]) if others.any() else None
    return make_prior(simulated, rest, noise or Noise(), scale).on(known.facts[machine])


def best_scale(
    simulated: Family, known: Family, references: References, embedded: Doubles, noise: Noise
) -> float:
    """The shrinkage strength that serves reference machines best, each as if it were not known.

    It gets 48 labels and is judged on programs that no encoder learnt from.
    """

    def score(scale: float) -> float:
        found = []
        for r in range(len(references.targets)):
            prior = _as_if_unknown(simulated, known, references, r, noise, scale)
            found += [
                _error(prior, embedded, references, references.target[..., r], seed)
                for seed in range(DRAWS)
            ]
        return float(np.nanmean(found))

    return min(SCALES, key=score)


def _error(
    prior: Prior,
    embedded: Doubles,
    references: References,
    target: Floats,
    seed: int,
) -> float:
    """Of a head fitted to 48 random labels: of speed-ups, and a little of seconds."""
    rng = np.random.default_rng(seed)
    judged = is_validation(references.program) & np.isfinite(target[:, 0])
    known = np.flatnonzero(~judged & (np.isfinite(target).sum(1) >= FEWEST_VERSIONS))
    if not judged.any() or not len(known):
        return float("nan")
    programs = rng.choice(known, min(LABELS // 2, len(known)), replace=False)
    weights = RidgeHead.fit(prior, observations(embedded, target, programs, 2, rng)).weights
    times = embedded[judged] @ weights[:-1] + weights[-1]
    truth = target[judged]
    gains = (times[:, :1] - times[:, 1:]) - (truth[:, :1] - truth[:, 1:])
    level = times[:, 0] - truth[:, 0]
    return float(np.nanmean(np.abs(gains)) + SECONDS_SHARE * np.nanmean(np.abs(level)))


def observations(
    embedded: Doubles,
    target: Floats,
    programs: Indices,
    most: int,
    rng: np.random.Generator,
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
