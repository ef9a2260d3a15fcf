"""What each objective of pre-training brings: the encoder trained without it, on unseen machines.

    python benchmarks/ablation.py bundles/measured/*.parquet --work DIR --out ablation.json

Every toolchain is left out in turn (its labels taught neither encoder nor prior); test programs
were seen by nobody. Minutes a configuration; stage 1 is kept in DIR.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bundles.evaluation.arms import make_bench
from bundles.evaluation.case import make_case
from bundles.evaluation.options import EvaluationProtocol
from bundles.evaluation.protocol import ArmTrial, run_protocol
from bundles.evaluation.reference import left_out
from bundles.labels.labels import Labels, load_labels
from bundles.training import backend
from bundles.training.adapt import Adaptation
from bundles.training.settings import TrainingSettings, Where
from bundles.training.stages import learn, simulate_stage
from bundles.training.training import prepare_torch

ARMS = ("bundle", "bundle_random", "bundle_fixed")
SEEDS, LABELS = 3, 48


@dataclass(frozen=True)
class Configuration:
    """A way to pre-train: stage 1, stage 2, and whether reference machines take part."""

    name: str
    settings: TrainingSettings
    how: Adaptation = field(default_factory=Adaptation)
    references: bool = True


def configurations(seed: int) -> tuple[Configuration, ...]:
    """Everything, and everything but one objective."""
    whole = TrainingSettings(seed=seed, members=1)
    return (
        Configuration("all", whole),
        Configuration("nothing masked", replace(whole, mask=0.0, decoder=0.03)),
        Configuration("no reconstruction", replace(whole, mask=0.0, decoder=0.0)),
        Configuration(
            "no simulated machines",
            replace(whole, simulated=0.0, mask=0.0, decoder=1.0),
            Adaptation(simulated=0.0),
        ),
        Configuration("no reference machines", whole, references=False),
    )


def evaluate(files: Sequence[Labels], tried: Configuration, work: Path) -> list[ArmTrial]:
    """All trials of a configuration: every target, its toolchain left out."""
    with backend.ready(Where(work=work)) as place:
        prepare_torch(tried.settings, "cpu")
        stage = simulate_stage(tried.settings, print, place)
    trials: list[ArmTrial] = []
    groups: dict[tuple[str, tuple[str, ...]], list[Labels]] = {}
    for some in files:
        if some.fixed.any():
            groups.setdefault((some.target.compiler, some.target.flags), []).append(some)
    for group in groups.values():
        hidden = left_out("target", group[0].target)
        known = [x for x in files if not hidden(x.target)] if tried.references else []
        trained = learn(stage, known, tried.how, tried.settings.seed, print).trained()
        plain = [np.zeros((len(x), 1)) for x in group]
        benches = [make_bench(make_case(x), trained, p) for x, p in zip(group, plain, strict=True)]
        protocol = EvaluationProtocol((0, LABELS), SEEDS, ARMS, processes=1)
        trials += run_protocol(benches, protocol, print)
    return trials


def figures(trials: Sequence[ArmTrial]) -> dict[str, dict[str, float]]:
    """Means over targets and seeds, by arm."""
    found = {}
    for arm in ARMS:
        wanted = 0 if arm == "bundle" else LABELS
        scores = [t.scores for t in trials if t.arm == arm and t.budget == wanted]
        found[arm] = {
            "log_error": float(np.mean([s.error.sum() / s.count.sum() for s in scores])),
            "spearman": float(np.mean([np.nanmean(s.spearman) for s in scores])),
            "seconds_log_error": float(np.mean([np.nanmean(s.seconds) for s in scores])),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one configuration, by name")
    given = parser.parse_args()
    files = [load_labels(path) for path in given.labels]
    found = {}
    for tried in configurations(given.seed):
        if given.only in (None, tried.name):
            found[tried.name] = figures(evaluate(files, tried, given.work))
            print(json.dumps({tried.name: found[tried.name]}, indent=1), flush=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
