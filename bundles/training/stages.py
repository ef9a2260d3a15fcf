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

from agent.arrays import Doubles, Singles
from agent.model.prior import Prior
from bundles.labels.labels import Labels, is_test
from bundles.labels.references import References, side_by_side
from bundles.labels.target import Target
from bundles.simulator.machines import SimulatedMachine, facts_of_machines, sample_machines
from bundles.training import backend
from bundles.training.adapt import Adaptation, adapt, labelled_head
from bundles.training.dataset import Recipe, TrainingData
from bundles.training.network import Pretrainer
from bundles.training.prior import MachineHeads, Whitening, heads, make_prior, whitening
from bundles.training.settings import Say, TrainingSettings, Where
from bundles.training.trained import Trained
from bundles.training.training import Log, prepare_torch
from bundles.training.validation import Validation, is_validation

LINEAR = 6_000  # programs, at most, that linear heads are fitted to in memory


@dataclass(frozen=True, eq=False)
class Simulated:
    """Stage 1 and what it was made from.

    Attributes:
        model: encoder, and heads of the machines it was trained on.
        data: what it was learnt from; of many programs, the first 6,000.
        machines: all simulated machines; the first of them were learnt.
        log: of training.
    """

    model: Pretrainer
    data: TrainingData
    machines: tuple[SimulatedMachine, ...]
    log: Log

    @property
    def learnt(self) -> tuple[SimulatedMachine, ...]:
        """The machines that heads were learnt of."""
        return self.machines[: self.model.shape.machines]


@dataclass(frozen=True, eq=False)
class Learned:
    """An encoder, how its embedding is whitened, and the prior that goes with it."""

    model: Pretrainer
    white: Whitening
    prior: Prior

    def trained(self) -> Trained:
        """As evaluation uses it."""
        return Trained(lambda x: self.white(embed(self.model, x)), self.prior)


def simulate_stage(settings: TrainingSettings, say: Say, where: Where) -> Simulated:
    """Stage 1: an encoder from random programs and simulated machines alone."""
    count = settings.machines + settings.other_machines
    machines = sample_machines(np.random.default_rng(settings.seed), count)
    recipe = Recipe(settings.programs, settings.variants, settings.seed, machines)
    data = backend.corpus(recipe, settings.processes, where, backend.every_few_seconds(say))
    cut = round(len(data) * (1 - settings.held_out))
    learnt = slice(settings.machines)
    whole = TrainingData(data.take(slice(cut)), data.take(slice(cut, None)), learnt)
    model, log = backend.train(settings, whole, say, where)
    loaded = TrainingData(whole.train.loaded(LINEAR), whole.held.loaded(LINEAR), learnt)
    return Simulated(model, loaded, machines, log)


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
    if not usable:
        return _finished(stage, stage.model, None, say)
    references = side_by_side(usable)
    kept = is_validation(references.program)
    model = adapt(stage.model, stage.data, references.take(~kept), how, seed, say)
    return _finished(stage, model, references, say)


def _finished(
    stage: Simulated, model: Pretrainer, references: References | None, say: Say
) -> Learned:
    train = stage.data.train
    raw = embed(model, train.features)
    white = whitening(raw)
    simulated = MachineHeads(
        heads(white(raw), stage.data.learnt(train.target)),
        facts_of_machines(stage.learnt).astype(np.float64),
    )
    if references is None:
        return Learned(model, white, make_prior(simulated))
    embedded = white(embed(model, references.features))
    known = _reference_heads(embedded, references)
    validation = Validation(simulated, known, references, embedded)
    noise = validation.noise()
    say("no head explains: " + "  ".join(f"{k} {v:.2f}" for k, v in vars(noise).items()))
    scale = validation.best_scale(noise)
    say(f"real machines differ {scale} times as much as the prior's directions say")
    return Learned(model, white, make_prior(simulated, known, noise, scale))


def _reference_heads(embedded: Doubles, references: References) -> MachineHeads:
    """Of programs [p, v, E] that are not kept for validation."""
    kept = ~is_validation(references.program)
    fitted = [
        labelled_head(embedded[kept], references.target[kept][..., r])
        for r in range(len(references.targets))
    ]
    return MachineHeads(np.stack(fitted), np.stack([t.facts for t in references.targets]))


def embed(model: Pretrainer, features: Singles) -> Singles:
    """[..., F] -> [..., E], not yet whitened."""
    flat = torch.from_numpy(np.ascontiguousarray(features.reshape(-1, features.shape[-1])))
    found: Singles = model.encoder.embed(flat).numpy()
    return found.reshape(*features.shape[:-1], -1)


def encoder_without(
    labels: Sequence[Labels],
    left_out: Callable[[Target], bool],
    seed: int,
    work: Path,
    say: Say,
    settings: TrainingSettings | None = None,
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
    settings = replace(settings or TrainingSettings(), seed=seed)
    with backend.ready(Where(work=work)) as place:
        prepare_torch(settings, "cpu")
        stage = simulate_stage(settings, say, place)
    rest = [some for some in labels if not left_out(some.target)]
    return learn(stage, rest, Adaptation(), seed, say).trained()
