"""What would facts of compiled programs be worth if they were known, not foretold?

    python -m benchmarks.compiled_facts_known
        bundles/measured/granite-rapids-vm-gcc-O3-native-t[12].parquet --bundle DIR --out known.json

An encoder that foretells facts cannot gain more from them than a model that is given them. Here
trees correct what a bundle predicts of a machine, from that machine's labels, which taught the
bundle nothing; folds of programs take turns at being predicted. They are given the features of a
version and what changed (*features*), or the compiled program's facts beside (*and facts*), or the
facts of other versions (*and shuffled*). The compiler is that of this machine, with the labels'
``-march``; test programs are not used.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.arrays import Doubles, Indices, Singles
from agent.bundle.bundle import load_bundle
from agent.bundle.encoder import Encoder
from agent.calibration.predictor import prior_of
from agent.loopnest.emitter.emit import emit
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.model.score import log_error, spearman, top_share
from benchmarks.compiled_facts import facts_of_unit
from bundles.evaluation.arms import features_and_changes, xgboost_regressor
from bundles.labels.labels import Labels, load_labels, read_table, sources_of
from bundles.labels.programs import ProgramSource, program_of, scheduled
from bundles.labels.units import UNIT
from bundles.workers import results_in_order

FOLDS, TREES = 5, 300
SEEDS = 3


def compiled(path: Path, labels: Labels, processes: int) -> Singles:
    """[n, K] facts of the versions of a label file, compiled for its target; nan where refused."""
    sources = {source.digest: source for source in sources_of(read_table(path))}
    flags = [flag for flag in labels.target.flags if flag.startswith("-m")]
    jobs = [
        (sources[str(labels.program[rows[0]])], labels.schedule[rows].tolist(), flags)
        for rows in _programs(labels)
    ]
    return np.concatenate(list(results_in_order(_facts, jobs, processes)))


def some_of(labels: Labels, programs: int, versions: int) -> Labels:
    """The first programs, the first versions of each; the program as written is one of them."""
    chosen = list(_programs(labels))[:programs]
    first = labels.schedule == ORIGINAL
    return labels.take(
        np.concatenate(
            [rows[np.argsort(~first[rows], kind="stable")][:versions] for rows in chosen]
        )
    )


def _programs(labels: Labels) -> Iterator[Indices]:
    """Rows of each program, which stand together."""
    yield from np.split(
        np.arange(len(labels)), np.flatnonzero(labels.program[1:] != labels.program[:-1]) + 1
    )


def _facts(source: ProgramSource, schedules: Sequence[str], flags: Sequence[str]) -> Singles:
    program = program_of(source)
    texts = [emit(scheduled(program, text)) for text in schedules]
    units = [texts[n : n + UNIT] for n in range(0, len(texts), UNIT)]
    return np.concatenate([facts_of_unit(unit, flags) for unit in units])


@dataclass(frozen=True, eq=False)
class Rows:
    """Versions of programs that taught a bundle nothing.

    Attributes:
        program: [n] a number for each; ``truth``: [n] log speed-ups; ``told``: [n] by the bundle.
        features: [n, 2 F] and ``facts``: [n, 2 K] of the versions, and what changed.
    """

    program: Indices
    truth: Doubles
    told: Doubles
    features: Singles
    facts: Singles


def rows_of(labels: Labels, facts: Singles, bundle: Path) -> Rows:
    """The versions with facts of programs that are not of the fixed set."""
    loaded, base = load_bundle(bundle), labels.base
    vectors = Encoder(loaded).embed(labels.features).astype(np.float64)
    head = prior_of(loaded).on(labels.target.facts).mean
    told = (vectors[base] - vectors) @ head[:-1]
    there = np.isfinite(facts).all(axis=1)
    rows = np.flatnonzero(
        (labels.schedule != ORIGINAL) & ~labels.fixed & ~labels.test & there & there[base]
    )
    return Rows(
        np.unique(labels.program[rows], return_inverse=True)[1],
        labels.log_speedup[rows],
        told[rows],
        features_and_changes(labels.features, base, rows),
        features_and_changes(facts, base, rows),
    )


def corrected(rows: Rows, given: Singles | None, seed: int) -> dict[str, float]:
    """Figures of the bundle's speed-ups as trees correct them, given [n, D]; None: as they are."""
    told = rows.told.copy()
    if given is not None:
        fold = np.random.default_rng(seed).permutation(rows.program.max() + 1)[rows.program] % FOLDS
        for out in range(FOLDS):
            trees = xgboost_regressor(seed, TREES)
            known = fold != out
            inputs = np.column_stack([given, rows.told])
            trees.fit(inputs[known], (rows.truth - rows.told)[known])
            told[~known] += trees.predict(inputs[~known])
    group = rows.program.astype(np.int64)
    return {
        "log_error": log_error(rows.truth, told),
        "spearman": spearman(rows.truth, told, group) or 0.0,
        "top_share": top_share(rows.truth, told, group) or 0.0,
    }


def ways(rows: Rows) -> dict[str, Singles | None]:
    """What trees are given, by name."""
    mixed = np.random.default_rng(0).permutation(len(rows.facts))
    return {
        "bundle": None,
        "features": rows.features,
        "facts": rows.facts,
        "features and facts": np.hstack([rows.features, rows.facts]),
        "features and shuffled": np.hstack([rows.features, rows.facts[mixed]]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("labels", nargs="+", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--programs", type=int, default=10_000, help="at most")
    parser.add_argument("--versions", type=int, default=100, help="of each, at most")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = {}
    for path in given.labels:
        labels = load_labels(path, given.processes)
        labels = some_of(labels.take(~labels.test & ~labels.fixed), given.programs, given.versions)
        rows = rows_of(labels, compiled(path, labels, given.processes), given.bundle)
        print(f"{labels.target.name}: {len(rows.truth)} versions", flush=True)
        for name, inputs in ways(rows).items():
            each = [corrected(rows, inputs, s) for s in range(SEEDS if inputs is not None else 1)]
            mean = {k: round(float(np.mean([e[k] for e in each])), 4) for k in each[0]}
            found[f"{labels.target.name}, {name}"] = mean
            print(f"  {name}: {mean}", flush=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
