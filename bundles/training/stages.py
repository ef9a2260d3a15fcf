"""From programs and labels to an encoder with its prior: what is exported, and what is evaluated.

simulated machines -> stage 1 (``training``) -> reference machines -> stage 2 (``adapt``)
    -> whiten -> heads of all machines -> what no head explains -> prior

Several encoders go through both stages and are joined: a machine's head predicts the mean of what
heads of each would.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from agent.arrays import Doubles, Singles
from agent.model.prior import Prior
from bundles.labels.labels import Labels, is_test
from bundles.labels.references import References, side_by_side
from bundles.labels.target import Target
from bundles.simulator.machines import SimulatedMachine, facts_of_machines, sample_machines
from bundles.training import backend
from bundles.training.adapt import Adaptation, adapt, labelled_head
from bundles.training.dataset import Recipe, TrainingData
from bundles.training.network import Embedder, EncoderNetwork, Encoders, Pretrainer
from bundles.training.prior import (
    Joining,
    MachineHeads,
    Whitening,
    heads,
    joining,
    make_prior,
    mean_heads,
    whitening,
)
from bundles.training.settings import Say, TrainingSettings, Where
from bundles.training.trained import Trained
from bundles.training.training import Log, prepare_torch
from bundles.training.validation import Validation, is_validation

LINEAR = 6_000  # programs, at most, that linear heads are fitted to in memory


@dataclass(frozen=True, eq=False)
class Simulated:
    """Stage 1 and what it was made from.

    Attributes:
        models: encoders that started apart, each with heads of the machines it was trained on.
        data: what it was learnt from; of many programs, the first 6,000.
        machines: all simulated machines; the first of them were learnt.
        log: of training, one model after the other.
    """

    models: tuple[Pretrainer, ...]
    data: TrainingData
    machines: tuple[SimulatedMachine, ...]
    log: Log

    @property
    def learnt(self) -> tuple[SimulatedMachine, ...]:
        """The machines that heads were learnt of."""
        return self.machines[: self.models[0].shape.machines]


@dataclass(frozen=True, eq=False)
class Learned:
    """Encoders of whitened embeddings, and the prior that goes with them."""

    encoder: Encoders
    prior: Prior

    def trained(self) -> Trained:
        """As evaluation uses it."""
        return Trained(lambda x: embed(self.encoder, x), self.prior)


def simulate_stage(settings: TrainingSettings, say: Say, where: Where) -> Simulated:
    """Stage 1: encoders from random programs and simulated machines alone."""
    count = settings.machines + settings.other_machines
    machines = sample_machines(np.random.default_rng(settings.seed), count)
    recipe = Recipe(settings.programs, settings.variants, settings.seed, machines)
    data = backend.corpus(recipe, settings.processes, where, backend.every_few_seconds(say))
    cut = round(len(data) * (1 - settings.held_out))
    learnt = slice(settings.machines)
    whole = TrainingData(data.take(slice(cut)), data.take(slice(cut, None)), learnt)
    made = [backend.train(each, whole, say, where) for each in settings.each_member()]
    loaded = TrainingData(whole.train.loaded(LINEAR), whole.held.loaded(LINEAR), learnt)
    models, logs = zip(*made, strict=True)
    return Simulated(models, loaded, machines, [record for log in logs for record in log])


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
        return _finished(stage, stage.models, None, say)
    references = side_by_side(usable)
    kept = is_validation(references.program)
    models = [
        adapt(model, stage.data, references.take(~kept), how, seed + n, say)
        for n, model in enumerate(stage.models)
    ]
    return _finished(stage, models, references, say)


def _finished(
    stage: Simulated, models: Sequence[Pretrainer], references: References | None, say: Say
) -> Learned:
    train = stage.data.train
    parts = [Part.of(model.encoder, train.features) for model in models]
    rows = [part.embed(train.features) for part in parts]
    simulated = mean_heads(heads(some, stage.data.learnt(train.target)) for some in rows)
    known = None if references is None else _reference_heads(parts, references)
    found = simulated if known is None else np.vstack([simulated, known])
    joint = joining(np.concatenate(rows, -1), found, len(parts))
    encoder = join(parts, joint)
    about = MachineHeads(joint.heads(simulated), facts_of_machines(stage.learnt).astype(np.float64))
    if references is None or known is None:
        return Learned(encoder, make_prior(about))
    real = MachineHeads(joint.heads(known), np.stack([t.facts for t in references.targets]))
    validation = Validation(about, real, references, embed(encoder, references.features))
    noise = validation.noise()
    say("no head explains: " + "  ".join(f"{k} {v:.2f}" for k, v in vars(noise).items()))
    scale = validation.best_scale(noise)
    say(f"real machines differ {scale} times as much as the prior's directions say")
    return Learned(encoder, make_prior(about, real, noise, scale))


def _reference_heads(parts: Sequence[Part], references: References) -> Doubles:
    """[r, K E+1] of programs that are not kept for validation."""
    kept = references.take(~is_validation(references.program))
    return mean_heads(
        np.stack([labelled_head(rows, times) for times in np.moveaxis(kept.target, -1, 0)])
        for rows in (part.embed(kept.features) for part in parts)
    )


@dataclass(frozen=True, eq=False)
class Part:
    """One of the encoders, and how its embedding is whitened."""

    encoder: EncoderNetwork
    white: Whitening

    @classmethod
    def of(cls, encoder: EncoderNetwork, features: Singles) -> Part:
        """Whitened on features [p, v, F]; variant 0 is the base."""
        return cls(encoder, whitening(embed(encoder, features)))

    def embed(self, features: Singles) -> Doubles:
        """[..., F] -> [..., E], whitened."""
        return self.white(embed(self.encoder, features))


def join(parts: Sequence[Part], joint: Joining) -> Encoders:
    """One encoder of several: their whitened embeddings in the coordinates of ``joint``, added."""
    members = []
    for part, turn in zip(parts, np.split(joint.turn, len(parts)), strict=True):
        member, white = copy.deepcopy(part.encoder), part.white
        weight, bias = (p.detach().numpy() for p in part.encoder.leave.parameters())
        member.leave = nn.Linear(weight.shape[1], turn.shape[1])
        whole = white.turn @ turn
        with torch.no_grad():
            member.leave.weight.copy_(torch.from_numpy(whole.T @ weight))
            member.leave.bias.copy_(torch.from_numpy((bias - white.shift) @ whole))
        members.append(member)
    return Encoders(members)


def embed(encoder: Embedder, features: Singles) -> Doubles:
    """[..., F] -> [..., E]."""
    flat = torch.from_numpy(np.ascontiguousarray(features.reshape(-1, features.shape[-1])))
    found = encoder.embed(flat).numpy().astype(np.float64)
    return np.asarray(found.reshape(*features.shape[:-1], -1))


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
