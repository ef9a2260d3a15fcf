"""What measured facts bring on real machines: label files, each machine left out in turn.

    python -m benchmarks.measured_facts_real bundles/measured/*.parquet
        --readings granite-rapids-vm-gcc-O3-native-t2=readings.txt [--json FILE]

Simulated machines teach what readings mean, as in ``benchmarks.measured_facts``; real ones take
part as in a bundle's prior, with what was read of them, if anything. Readings are what
``benchmarks/measured_facts_probe.c`` prints: lines of a name and a number. The encoder is the
default bundle's. Programs judged are those kept for testing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.arrays import Doubles
from agent.bundle.bundle import default_bundle, load_bundle
from agent.model.linear import RidgeHead
from agent.model.prior import Prior
from agent.model.score import log_error, spearman, top_share
from benchmarks.measured_facts import MEASURED, SEED, Known, make_world, misread, readings, teach
from bundles.evaluation.case import Case, make_case
from bundles.labels.labels import Labels, is_test, load_labels
from bundles.labels.references import side_by_side
from bundles.training.adapt import labelled_head
from bundles.training.held_out import LABELS
from bundles.training.prior import MachineHeads
from bundles.training.trained import Trained, from_bundle

PROGRAMS, MACHINES = 240, 480  # simulated
ERROR = 0.08  # of a simulated reading
NOISES = ("noise_speedup", "noise_seconds", "program_speedup", "program_seconds")
FIGURES = ("log_error", "spearman", "top_share", "seconds_log_error")


def parse_readings(text: str) -> Doubles:
    """[q] logs base 2 in the order of ``MEASURED``; nan for those that the text lacks."""
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.strip())
    return np.array([np.log2(float(found.get(name, "nan"))) for name in MEASURED])


@dataclass(frozen=True, eq=False)
class Real:
    """A target: its labels, head and readings.

    Attributes:
        case: its labels, split by program.
        embedding: [n, E] of its rows.
        head: [E+1] fitted to its programs that are not kept for testing.
        measured: [q] readings.
    """

    case: Case
    embedding: Doubles
    head: Doubles
    measured: Doubles


def make_real(labels: Labels, trained: Trained, measured: Doubles) -> Real:
    """A target made ready."""
    case = make_case(labels)
    some = side_by_side([labels.take(~is_test(labels.program) & ~labels.fixed)])
    shape = some.features.shape
    embedded = trained.embed(some.features.reshape(-1, shape[-1])).reshape(*shape[:2], -1)
    head = labelled_head(embedded, some.target[..., 0])
    return Real(case, trained.embed(labels.features), head, measured)


def known(found: Sequence[Real]) -> Known:
    """What they teach."""
    heads = [x.head for x in found], [x.case.labels.target.facts for x in found]
    return Known(MachineHeads(*map(np.stack, heads)), np.stack([x.measured for x in found]))


def unread(some: Known) -> Known:
    """The same machines, nothing measured of them."""
    return Known(some.machines, some.measured[:, :0])


def judged(real: Real, prior: Prior) -> dict[str, dict[str, float]]:
    """Figures of the prior alone, with random labels, and with those of the fixed set."""
    ways = {"alone": prior.mean}
    draws = {"random": real.case.random_draw(0)[:LABELS], "fixed": real.case.fixed_draw(LABELS)}
    for name, rows in draws.items():
        ways[name] = RidgeHead.fit(prior, real.case.observations(real.embedding, rows)).weights
    return {name: _figures(real, weights) for name, weights in ways.items()}


def _figures(real: Real, weights: Doubles) -> dict[str, float]:
    case = real.case
    truth, group = case.labels.log_speedup[case.test], case.base[case.test].astype(np.int64)
    gains = case.gains(real.embedding, case.test) @ weights[:-1]
    bases = case.test_base
    level = real.embedding[bases] @ weights[:-1] + weights[-1] - case.seconds[bases]
    values = (
        log_error(truth, gains),
        spearman(truth, gains, group) or 0.0,
        top_share(truth, gains, group) or 0.0,
        float(np.abs(level).mean()),
    )
    return dict(zip(FIGURES, values, strict=True))


def compare(found: Sequence[Real], simulated: Known, usual: Prior) -> dict[str, object]:
    """Figures of every target by arm, all targets of its machine left out.

    ``usual`` gives the noise and the shrinkage.
    """
    noises = {name: getattr(usual, name) for name in (*NOISES, "direction_scale")}
    out: dict[str, object] = {}
    for real in found:
        target = real.case.labels.target
        others = known([x for x in found if x.case.labels.target.machine != target.machine])
        rows = {"default bundle": judged(real, usual.on(target.facts))}
        for crossed in (False, True):
            word = ", crossed" if crossed else ""
            taught = teach(unread(simulated), unread(others), crossed=crossed)
            prior = taught.on(target.facts, real.measured[:0])
            rows[f"named{word}"] = judged(real, replace(prior, **noises))
            if np.isfinite(real.measured).any():
                prior = teach(simulated, others, crossed=crossed).on(target.facts, real.measured)
                rows[f"measured{word}"] = judged(real, replace(prior, **noises))
        out[target.name] = rows
        print(json.dumps({target.name: rows}), flush=True)
    return out


def _given(pairs: Sequence[str]) -> Mapping[str, Doubles]:
    split = [pair.split("=", 1) for pair in pairs]
    return {name: parse_readings(Path(path).read_text(encoding="utf-8")) for name, path in split}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("labels", nargs="+", type=Path)
    parser.add_argument("--readings", action="append", default=[], metavar="TARGET=FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    trained = from_bundle(load_bundle(default_bundle()))
    read = _given(args.readings)
    world = make_world(PROGRAMS, MACHINES)
    exact = readings(world.machines, MEASURED)
    noisy = misread(exact, ERROR, np.random.default_rng(SEED))
    simulated = Known(MachineHeads(world.heads, world.facts), noisy)
    nothing = np.full(len(MEASURED), np.nan)
    found = [
        make_real(labels, trained, read.get(labels.target.name, nothing))
        for labels in (load_labels(path) for path in args.labels)
    ]
    answer = compare(found, simulated, trained.prior)
    if args.json:
        args.json.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
