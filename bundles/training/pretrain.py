"""Pre-training from nothing to a bundle, readable top to bottom; the network is in ``network``.

    corpus + simulated machines -> data set -> train -> reference machines -> whiten -> prior
        -> evaluate -> export

The data is exactly reproducible from the seed. Training repeats bit by bit on the same CPU type
with the same torch, numpy and thread count (deterministic algorithms, seeded orders); elsewhere
sums round differently, and the weights differ slightly.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.arrays import Indices
from agent.model.prior import Prior
from bundles.labels.labels import Labels
from bundles.simulator.machines import facts
from bundles.training import held_out as simulated_evaluation
from bundles.training.adapt import Adaptation
from bundles.training.export import Export, code_version, export
from bundles.training.learn import Learned, Simulated, embed, learn, simulate_stage
from bundles.training.prior import heads
from bundles.training.running import ready
from bundles.training.settings import HERE, Say, Settings, Where
from bundles.training.training import prepare

TUNING = 0.5  # part of the held-out machines that sets the shrinkage; the rest is reported on


def pretrain(
    settings: Settings,
    out: Path,
    say: Say,
    where: Where = HERE,
    labels: Sequence[Labels] = (),
    how: Adaptation | None = None,
    evaluation: Mapping[str, Any] | None = None,
    named: tuple[str, str] = ("default", ""),
) -> dict[str, Any]:
    """Make a bundle in the directory ``out``; returns its manifest.

    Args:
        settings: sizes and seeds of stage 1.
        out: the bundle; replaced whole.
        say: receives progress lines.
        where: this process, a work directory, a cluster.
        labels: of reference machines, for stage 2; their test programs are not used.
        how: of stage 2.
        evaluation: what ``bundles evaluate`` found for bundles made this way; kept with it.
        named: name and version; an empty version is the moment it is made.

    Raises:
        BundleError: the bundle does not pass its own checks, or cannot be written.
        InputError: it cannot be made there (no such device, cluster or directory).
    """
    started, code = time.monotonic(), code_version()  # what runs, not what is there at the end
    how = how or Adaptation()
    with ready(where) as place:
        prepare(settings, "cpu")
        stage = simulate_stage(settings, say, place)
        learned = learn(stage, labels, how, settings.seed, say)
    results: dict[str, Any] = {}
    if not labels:
        prior, results = _on_simulated_machines(stage, learned, settings.seed)
        learned = replace(learned, prior=prior)
    for name, found in results.items():
        say(f"{name:>18}: " + "  ".join(f"{k} {v:.3f}" for k, v in found.items()))
    recipe = {**asdict(settings), "directions": learned.prior.directions.shape[1]}
    recipe["direction_scale"] = learned.prior.direction_scale
    provenance = {
        "code_version": code,
        "seeds": {"all": settings.seed},
        "recipe": recipe | ({"adaptation": asdict(how)} if labels else {}),
        "environment": {"torch": torch.__version__, "numpy": np.__version__}
        | {"python": platform.python_version(), "machine": platform.machine()},
        "data": "random loop nests (bundles.corpus) on simulated machines (bundles.simulator)",
        "references": [_reference(some) for some in labels],
        "reproducible": (__doc__ or "").split("\n\n")[2].replace("\n", " ").strip(),
        "training_log": stage.log,
        "evaluation": dict(evaluation or results),
        "elapsed_s": round(time.monotonic() - started, 1),
    }
    golden = stage.held.features[:8, :2].reshape(16, -1)
    made = Export(learned.model.encoder, learned.white, learned.prior, golden, provenance, *named)
    return export(made, out, say)


def _reference(labels: Labels) -> dict[str, Any]:
    """What the manifest says of a reference machine: its class, never whose it is."""
    programs = len(np.unique(labels.program[~labels.fixed]))
    return {"target": labels.target.name, "programs": programs, "labels": len(labels)}


def _on_simulated_machines(
    stage: Simulated, learned: Learned, seed: int
) -> tuple[Prior, dict[str, dict[str, float]]]:
    """Shrinkage set on some machines that training never saw; figures on the others."""
    others = np.arange(stage.trained, len(stage.machines))
    tuning, reporting = np.array_split(others, [round(len(others) * TUNING)])
    known = learned.white(embed(learned.model, stage.train.features))
    unseen = learned.white(embed(learned.model, stage.held.features))

    def part(machines: Indices) -> simulated_evaluation.HeldOut:
        return simulated_evaluation.HeldOut(
            known,
            stage.train.target[..., machines],
            unseen,
            stage.held.target[..., machines],
            facts([stage.machines[m] for m in machines]).astype(np.float64),
        )

    scale = simulated_evaluation.best_scale(learned.prior, part(tuning), seed)
    prior = replace(learned.prior, direction_scale=scale)
    results = simulated_evaluation.report(prior, part(reporting), seed)
    fitted = heads(known, stage.train.target[..., reporting])
    bound = [
        simulated_evaluation.figures(w, unseen, stage.held.target[..., m].astype(np.float64))
        for w, m in zip(fitted, reporting, strict=True)
    ]
    results["best_linear_head"] = {
        name: round(float(np.mean([row[name] for row in bound])), 4) for name in bound[0]
    }
    return prior, results
