"""Pre-training from nothing to a bundle, readable top to bottom; the network is in ``network``.

    corpus + simulated machines -> data set -> train -> reference machines -> whiten -> prior
        -> evaluate -> export

What can be repeated is said in ``REPRODUCIBLE``.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from agent.arrays import Indices
from agent.model.prior import Prior
from bundles.labels.labels import Labels
from bundles.simulator.machines import facts_of_machines
from bundles.training.adapt import Adaptation
from bundles.training.backend import ready
from bundles.training.export import Export, code_version, export
from bundles.training.held_out import (
    HeldOut,
    head_figures,
    held_out_figures,
    mean_of_rows,
    scale_for_simulated,
)
from bundles.training.prior import heads
from bundles.training.settings import HERE, Say, TrainingSettings, Where
from bundles.training.stages import Learned, Simulated, embed, learn, simulate_stage
from bundles.training.taught import taught_by
from bundles.training.training import prepare_torch

# Every manifest says this; the words are part of it.
REPRODUCIBLE = (
    "The data is exactly reproducible from the seed. Training repeats bit by bit on the same CPU "
    "type with the same torch, numpy and thread count (deterministic algorithms, seeded orders); "
    "elsewhere sums round differently, and the weights differ slightly."
)
TUNING = 0.5  # part of the held-out machines that sets the shrinkage; the rest is reported on


@dataclass(frozen=True, eq=False)
class PretrainingRun:
    """What to make, from what, and where: every option resolved.

    Attributes:
        out: directory of the bundle; replaced whole.
        settings: sizes and seeds of stage 1.
        where: this process, a work directory, a cluster.
        labels: of reference machines, for stage 2; their test programs are not used.
        adaptation: how stage 2 runs.
        evaluation: what ``bundles evaluate`` found for bundles made this way; kept with it.
        name, version: of the bundle; an empty version is the moment it is made.
        quick: a tiny run, for tests: its manifest says so, and it is not published without force.
    """

    out: Path
    settings: TrainingSettings
    where: Where = HERE
    labels: Sequence[Labels] = ()
    adaptation: Adaptation = field(default_factory=Adaptation)
    evaluation: Mapping[str, object] = field(default_factory=dict)
    name: str = "default"
    version: str = ""
    quick: bool = False


def pretrain(run: PretrainingRun, say: Say) -> dict[str, object]:
    """Make a bundle; returns its manifest.

    Raises:
        BundleError: the bundle does not pass its own checks, or cannot be written.
        InputError: it cannot be made there (no such device, cluster or directory).
    """
    started, code = time.monotonic(), code_version()  # what runs, not what is there at the end
    stage, learned = _learned(run, say)
    results: Mapping[str, Mapping[str, float]] = {}
    if not run.labels:
        learned, results = _on_simulated_machines(stage, learned, run.settings.seed)
    for name, found in results.items():
        say(f"{name:>18}: " + "  ".join(f"{k} {v:.3f}" for k, v in found.items()))
    provenance = {
        "code_version": code,
        **({"quick": True} if run.quick else {}),
        **_provenance(run, learned.prior),
        "training_log": stage.log,
        "evaluation": dict(run.evaluation or results),
        "elapsed_s": round(time.monotonic() - started, 1),
    }
    golden = stage.data.held.features[:8, :2].reshape(16, -1)
    made = Export(
        learned.encoder, learned.prior, golden, provenance,
        run.name, run.version, taught_by(run.labels),
    )  # fmt: skip
    return export(made, run.out, say)


def _learned(run: PretrainingRun, say: Say) -> tuple[Simulated, Learned]:
    """Both stages, one after the other."""
    with ready(run.where) as where:
        prepare_torch(run.settings, "cpu")
        stage = simulate_stage(run.settings, say, where)
        return stage, learn(stage, run.labels, run.adaptation, run.settings.seed, say)


def _provenance(run: PretrainingRun, prior: Prior) -> dict[str, object]:
    """What the bundle is made from, and what that takes to be done again."""
    recipe = {**asdict(run.settings), "directions": prior.directions.shape[1]}
    recipe["direction_scale"] = prior.direction_scale
    return {
        "seeds": {"all": run.settings.seed},
        "recipe": recipe | ({"adaptation": asdict(run.adaptation)} if run.labels else {}),
        "environment": {"torch": torch.__version__, "numpy": np.__version__}
        | {"python": platform.python_version(), "machine": platform.machine()},
        "data": "random loop nests (bundles.corpus) on simulated machines (bundles.simulator)",
        "references": [_reference(some) for some in run.labels],
        "reproducible": REPRODUCIBLE,
    }


def _reference(labels: Labels) -> dict[str, object]:
    """What the manifest says of a reference machine: its class, never whose it is."""
    programs = len(np.unique(labels.program[~labels.fixed]))
    return {"target": labels.target.name, "programs": programs, "labels": len(labels)}


def _on_simulated_machines(
    stage: Simulated, learned: Learned, seed: int
) -> tuple[Learned, Mapping[str, Mapping[str, float]]]:
    """Shrinkage set on some machines that training never saw; figures on the others."""
    others = np.arange(len(stage.learnt), len(stage.machines))
    tuning, reporting = np.array_split(others, [round(len(others) * TUNING)])
    train, held = stage.data.train, stage.data.held
    known = embed(learned.encoder, train.features)
    unseen = embed(learned.encoder, held.features)

    def part(machines: Indices) -> HeldOut:
        about = facts_of_machines([stage.machines[m] for m in machines]).astype(np.float64)
        times = train.target[..., machines], held.target[..., machines]
        return HeldOut(known, times[0], unseen, times[1], about)

    scale = scale_for_simulated(learned.prior, part(tuning), seed)
    prior = replace(learned.prior, direction_scale=scale)
    results = held_out_figures(prior, part(reporting), seed)
    bound = [
        head_figures(head, unseen, held.target[..., m].astype(np.float64))
        for head, m in zip(heads(known, train.target[..., reporting]), reporting, strict=True)
    ]
    return replace(learned, prior=prior), results | {"best_linear_head": mean_of_rows(bound)}
