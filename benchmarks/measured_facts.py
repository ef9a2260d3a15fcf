"""Would a second of measuring bring an unknown machine nearer, as facts beside the named ones?

    python -m benchmarks.measured_facts [--programs 240] [--machines 480] [--json FILE]

Simulated machines have everything as parameters that a probe could read: rates of operations,
latency and bandwidth of every level, threads, the cost of a parallel region. Some of them teach a
prior, others are held out; programs are random, the encoder is the default bundle's, which saw
none of these machines. Only the facts differ between arms; some three minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np

from agent.arrays import Doubles, Indices
from agent.bundle.bundle import default_bundle, load_bundle
from agent.model.facts import FACTS
from agent.model.linear import RidgeHead
from agent.model.prior import MOST_FACT, Prior
from bundles.simulator.machines import SimulatedMachine, facts_of_machines, sample_machines
from bundles.training.dataset import Recipe, generate
from bundles.training.held_out import LABELS, SCALES, head_figures, some_labels, with_errors
from bundles.training.prior import (
    REFERENCE_WEIGHT,
    SECONDS_SHARE,
    MachineHeads,
    heads,
    make_prior,
)
from bundles.training.trained import from_bundle

LINE = 64.0
ALONE_US = 0.1  # a parallel region of one thread, as the simulator has it
RIDGES = (3.0, 10.0, 30.0, 100.0, 300.0)
SWITCHES = ("threads", "clang", "o3")  # facts that change what others mean
LEAST_SPREAD = 0.02  # of a reading, in powers of two: what named facts say altogether says nothing
TINY = 1e-6
VARIANTS, SEEDS = 12, 3
SEED = 17  # of programs and machines: not the default bundle's
FIGURES = ("log_error", "spearman", "top_share", "seconds_log_error")

Reading = Callable[[SimulatedMachine], float]


def _l3(value: Reading) -> Reading:
    return lambda m: value(m) if m.l3 > m.l2 else math.nan


# Nanoseconds, or so many a nanosecond: a probe knows no clock. What it could read of a simulated
# machine, exactly.
PROCESSOR: Mapping[str, Reading] = {
    "addition in a chain": lambda m: m.latency / m.ghz,
    "operations alone": lambda m: m.flops * m.ghz,
    "operations beside others": lambda m: m.issue * m.ghz,
    "loads": lambda m: m.loads * m.ghz,
    "stores": lambda m: m.stores * m.ghz,
    "division": lambda m: m.divide / m.ghz,
    "vector division": lambda m: m.divide * m.wide_divide / m.ghz,
    "square root": lambda m: m.root / m.ghz,
    "exponential": lambda m: m.transcendental / m.ghz,
    "conversion": lambda m: m.convert / m.flops / m.ghz,
    "gather": lambda m: m.gather / m.ghz,
    "store to load": lambda m: m.forward / m.ghz,
    "mispredicted branch": lambda m: m.branch / m.ghz,
    "turn of a loop": lambda m: m.loop / m.ghz,
    "vector loop over its ideal": lambda m: m.efficiency,
}
MEMORY: Mapping[str, Reading] = {
    "L2 latency": lambda m: m.l2_latency / m.ghz,
    "L3 latency": _l3(lambda m: m.l3_latency / m.ghz),
    "memory latency": lambda m: m.memory_ns,
    "independent misses": lambda m: max(m.memory_ns / m.parallelism, LINE / m.memory_bandwidth),
    "L2 bandwidth": lambda m: m.l2_bandwidth * m.ghz,
    "L3 bandwidth": _l3(lambda m: m.l3_bandwidth * m.ghz),
    "memory bandwidth": lambda m: m.memory_bandwidth,
    "L3 bandwidth of all": _l3(lambda m: m.l3_bandwidth * m.ghz * min(m.cores, m.l3_scaling)),
    "memory bandwidth of all": lambda m: m.memory_bandwidth * min(m.cores, m.memory_scaling),
    "pages within reach": lambda m: m.tlb,
    "page walk": lambda m: m.walk / m.ghz,
}
THREADS: Mapping[str, Reading] = {
    "speed of all threads": lambda m: m.cores**m.scaling,
    "parallel region": lambda m: m.fork_us + m.fork_core_us * m.cores if m.cores > 1 else ALONE_US,
    "line that two write": lambda m: m.sharing / m.ghz,
}
MEASURED: Mapping[str, Reading] = {**PROCESSOR, **MEMORY, **THREADS}
_COMPILER = (
    "autovec", "strided", "reassociate", "vector_math", "vector_root", "vector_select",
    "vector_compare", "outer", "interchange", "peel", "unrolls", "interleave", "registers",
    "packs", "select_call",
)  # fmt: skip


def readings(machines: Sequence[SimulatedMachine], of: Mapping[str, Reading]) -> Doubles:
    """[m, q] logs base 2 of what an exact probe would read; nan where there is no such level."""
    values = [[read(m) for read in of.values()] for m in machines]
    return np.log2(np.array(values).reshape(len(machines), len(of)))


def parameters(machines: Sequence[SimulatedMachine], names: Sequence[str]) -> Doubles:
    """[m, q] parameters themselves, sizes and rates as logs base 2, flags as they are."""
    values = np.array([[float(getattr(m, name)) for name in names] for m in machines])
    return np.where(
        (values <= 0).any(0) | (values == 1).all(0),
        values,
        np.log2(np.maximum(values, TINY)),
    )


def misread(exact: Doubles, error: float, rng: np.random.Generator) -> Doubles:
    """Readings with independent errors of that relative size (an sd of the natural log)."""
    return np.asarray(exact + error / math.log(2) * rng.standard_normal(exact.shape))


@dataclass(frozen=True, eq=False)
class Terms:
    """What moves a head beyond the named facts: readings, less what those lead one to expect.

    Whatever is not known (nan) is taken to be as the named facts say, and moves nothing.

    Attributes:
        named: prior with the named facts (``make_prior``).
        expected: [1+f, q] readings by named facts, the first row their centre.
        spread: [q] by how much readings differ from that.
        crossed: also the products of readings and of named facts with ``SWITCHES``.
    """

    named: Prior
    expected: Doubles
    spread: Doubles
    crossed: bool

    def __call__(self, facts: Doubles, measured: Doubles) -> Doubles:
        """[m, t] of named facts [m, f] and readings [m, q]."""
        known = _known(self.named, facts)
        away = (measured - known @ self.expected) / self.spread
        terms = np.clip(np.nan_to_num(away), -MOST_FACT, MOST_FACT)
        if not self.crossed:
            return terms
        both = np.hstack([known[:, 1:], terms])
        return np.hstack([terms, *(both * known[:, 1 + FACTS.index(s), None] for s in SWITCHES)])


@dataclass(frozen=True, eq=False)
class Taught:
    """A prior by the named facts, and by what else is known of a machine.

    Attributes:
        terms: of facts and readings.
        shift: [t, E+1] what one of each adds to the mean.
        rest: how machines differ still; its mean is not used.
    """

    terms: Terms
    shift: Doubles
    rest: Prior

    def on(self, facts: Doubles, measured: Doubles) -> Prior:
        """The prior of a machine with named facts [f] and readings [q]."""
        beyond = self.terms(facts[None], measured[None])[0] @ self.shift
        return replace(self.rest, mean=self.terms.named.on(facts).mean + beyond)


@dataclass(frozen=True, eq=False)
class Known:
    """Machines [m] with their heads and named facts, and readings [m, q] of them; q may be 0."""

    machines: MachineHeads
    measured: Doubles


def teach(simulated: Known, reference: Known | None = None, *, crossed: bool = False) -> Taught:
    """Learn from simulated machines, and from real ones as ``make_prior`` does.

    The ridge on the terms is the best on simulated machines left out one by one.
    """
    named = make_prior(simulated.machines, reference.machines if reference else None)
    known = _known(named, simulated.machines.facts)
    columns = [_least_squares(known, column) for column in simulated.measured.T]
    expected = np.array(columns).reshape(-1, known.shape[1]).T
    spread = np.sqrt(np.nanmean((simulated.measured - known @ expected) ** 2, axis=0))
    terms = Terms(named, expected, np.maximum(spread, LEAST_SPREAD), crossed)
    x, y = _left(terms, simulated)
    y = y - y.mean(0)  # what real machines have in common is in the prior's mean
    ridge = best_ridge(x, y)
    if reference is None:
        shift = _ridge(x, y, ridge)
        return Taught(terms, shift, make_prior(_without_facts(y - x @ shift)))
    x_real, y_real = _left(terms, reference)
    weight = np.sqrt(REFERENCE_WEIGHT)
    shift = _ridge(np.vstack([x, weight * x_real]), np.vstack([y, weight * y_real]), ridge)
    rests = _without_facts(y - x @ shift), _without_facts(y_real - x_real @ shift)
    return Taught(terms, shift, make_prior(*rests))


def _left(terms: Terms, known: Known) -> tuple[Doubles, Doubles]:
    """[m, t] terms of machines, and [m, E+1] what the named facts leave of their heads."""
    means = np.stack([terms.named.on(facts).mean for facts in known.machines.facts])
    return terms(known.machines.facts, known.measured), known.machines.heads - means


def _without_facts(left: Doubles) -> MachineHeads:
    return MachineHeads(left, np.zeros((len(left), len(FACTS))))


def best_ridge(x: Doubles, y: Doubles) -> float:
    """Of ``RIDGES`` the one with the least error on rows left out one by one (PRESS)."""

    def error(ridge: float) -> float:
        gram = x.T @ x + ridge * np.eye(x.shape[1])
        lever = np.einsum("ij,ij->i", x, np.linalg.solve(gram, x.T).T)
        left = (y - x @ _ridge(x, y, ridge)) / (1 - lever)[:, None]
        return float((left[:, :-1] ** 2).sum())  # embeddings are white: this is that of speed-ups

    return min(RIDGES, key=error)


def _known(prior: Prior, facts: Doubles) -> Doubles:
    """[m, 1+f] a one, and named facts in units of their scale."""
    x = np.nan_to_num((facts - prior.facts_centre) / prior.facts_scale)
    return np.column_stack([np.ones(len(x)), np.clip(x, -MOST_FACT, MOST_FACT)])


def _least_squares(x: Doubles, y: Doubles) -> Doubles:
    """[f] of rows whose y is known, with just enough of a ridge for facts that never vary."""
    there = np.isfinite(y)
    return _ridge(x[there], y[there], TINY)


def _ridge(x: Doubles, y: Doubles, ridge: float) -> Doubles:
    return np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y))


@dataclass(frozen=True, eq=False)
class World:
    """Machines and programs; programs ``known`` give heads and labels, ``unseen`` are predicted.

    Attributes:
        machines: [m] simulated machines; ``facts`` [m, f] their named facts.
        heads: [m, E+1] the best linear head of each.
        known, unseen: [p, v, E] and [q, v, E] embeddings.
        known_target, unseen_target: [p, v, m] and [q, v, m] log seconds less log work.
    """

    machines: tuple[SimulatedMachine, ...]
    facts: Doubles
    heads: Doubles
    known: Doubles
    unseen: Doubles
    known_target: Doubles
    unseen_target: Doubles


def make_world(programs: int, machines: int) -> World:
    """Random programs on random machines; three fifths of the programs are known."""
    fleet = sample_machines(np.random.default_rng(SEED), machines)
    data = generate(Recipe(programs, VARIANTS, SEED, fleet))
    embed = from_bundle(load_bundle(default_bundle())).embed
    flat = embed(data.features.reshape(-1, data.features.shape[-1]))
    embedded = flat.reshape(*data.features.shape[:2], -1)
    cut = round(0.6 * programs)
    target = data.target.astype(np.float64)
    return World(
        fleet,
        facts_of_machines(fleet).astype(np.float64),
        heads(embedded[:cut], target[:cut]),
        embedded[:cut],
        embedded[cut:],
        target[:cut],
        target[cut:],
    )


@dataclass(frozen=True)
class Arm:
    """What is known of a machine before any timing of a program.

    Attributes:
        title: in the table.
        read: [m, q] readings of machines; the generator misreads them.
        named: whether the named facts are known.
        crossed: see ``Terms``.
    """

    title: str
    read: Callable[[Sequence[SimulatedMachine], np.random.Generator], Doubles]
    named: bool = True
    crossed: bool = False


def _probe(
    machines: Sequence[SimulatedMachine],
    rng: np.random.Generator,
    of: Mapping[str, Reading] = MEASURED,
    error: float = 0.0,
) -> Doubles:
    return misread(readings(machines, of), error, rng)


def _parameters(
    machines: Sequence[SimulatedMachine], rng: np.random.Generator, names: Sequence[str]
) -> Doubles:
    del rng  # these are exact
    return parameters(machines, names)


_ALL = tuple(f.name for f in fields(SimulatedMachine))
NAMED = "named facts"
_nothing, _rough = partial(_probe, of={}), partial(_probe, error=0.08)
ARMS = (
    Arm("no facts", _nothing, named=False),
    Arm(NAMED, _nothing),
    Arm("named + processor, exact", partial(_probe, of=PROCESSOR)),
    Arm("named + memory, exact", partial(_probe, of=MEMORY)),
    Arm("named + threads, exact", partial(_probe, of=THREADS)),
    Arm("named + measured, exact", _probe),
    Arm("named + measured, 8 % off", _rough),
    Arm("named, crossed", _nothing, crossed=True),
    Arm("named + measured, exact, crossed", _probe, crossed=True),
    Arm("named + measured, 8 % off, crossed", _rough, crossed=True),
    Arm("named + measured, 25 % off, crossed", partial(_probe, error=0.25), crossed=True),
    Arm("named + compiler's ways, crossed", partial(_parameters, names=_COMPILER), crossed=True),
    Arm("every parameter, crossed", partial(_parameters, names=_ALL), crossed=True),
)


@dataclass(frozen=True)
class Score:
    """Figures [s, m] of one arm with so many labels, over seeds and machines held out.

    ``misfit``: judged on times with errors such as real machines show beside the simulation.
    """

    arm: str
    labels: int
    misfit: bool
    figures: Mapping[str, Doubles]


@dataclass(frozen=True)
class Split:
    """Machines that teach, that set the shrinkage, that are held out; the seed of the draws."""

    taught: Indices
    tuning: Indices
    held: Indices
    seed: int


def splits(machines: int, seeds: int, taught: int | None = None) -> list[Split]:
    """As many ways to hold an eighth of the machines out; of the others, at most so many teach."""
    held = machines // 8
    tuning = held + max(machines // 40, 2)
    found = []
    for seed in range(seeds):
        order = np.random.default_rng([SEED, seed]).permutation(machines)
        others = order[tuning:]
        found.append(Split(others[:taught], order[held:tuning], order[:held], seed))
    return found


def trial(world: World, arm: Arm, split: Split) -> list[dict[tuple[int, bool], dict[str, float]]]:
    """Figures of every machine held out, by labels and misfit."""
    rng = np.random.default_rng([split.seed, *arm.title.encode()])
    measured = arm.read(world.machines, rng)
    facts = world.facts if arm.named else np.zeros_like(world.facts)
    heads_of = MachineHeads(world.heads[split.taught], facts[split.taught])
    taught = teach(Known(heads_of, measured[split.taught]), crossed=arm.crossed)

    def fitted(machine: int, scale: float) -> Doubles:
        draw = np.random.default_rng([split.seed, machine])  # the same labels for every arm
        known = with_errors(world.known_target[..., machine], draw)
        prior = replace(taught.on(facts[machine], measured[machine]), direction_scale=scale)
        return RidgeHead.fit(prior, some_labels(world.known, known, LABELS, draw)).weights

    def loss(scale: float) -> float:
        found = [_judge(world, fitted(m, scale), m) for m in split.tuning]
        return float(
            np.mean([f["log_error"] + SECONDS_SHARE * f["seconds_log_error"] for f in found])
        )

    scale = min(SCALES, key=loss)
    rows = []
    for machine in split.held:
        alone = taught.on(facts[machine], measured[machine]).mean
        rows.append(_both(world, machine, {0: alone, LABELS: fitted(machine, scale)}, split.seed))
    return rows


def _both(
    world: World, machine: int, weights: Mapping[int, Doubles], seed: int
) -> dict[tuple[int, bool], dict[str, float]]:
    return {
        (labels, misfit): _judge(world, found, machine, seed if misfit else None)
        for labels, found in weights.items()
        for misfit in (False, True)
    }


def _judge(
    world: World, weights: Doubles, machine: int, seed: int | None = None
) -> dict[str, float]:
    """Figures on unseen programs; with a seed: on times with the misfit of real machines."""
    target = world.unseen_target[..., machine]
    if seed is not None:
        target = with_errors(target, np.random.default_rng([seed, machine, 1]))
    return head_figures(weights, world.unseen, target)


def run(world: World, arms: Sequence[Arm], parts: Sequence[Split]) -> list[Score]:
    """All arms on the same machines, programs and labels; last, every machine's own best head."""
    found = []
    for arm in arms:
        rows = [trial(world, arm, split) for split in parts]
        found += [Score(arm.title, *key, _stacked(rows, key)) for key in rows[0][0]]
        print(table(found[-4:]).splitlines()[-1], flush=True)
    own = [[_both(world, m, {0: world.heads[m]}, s.seed) for m in s.held] for s in parts]
    return found + [Score("its own best head", *key, _stacked(own, key)) for key in own[0][0]]


def _stacked(
    rows: Sequence[Sequence[dict[tuple[int, bool], dict[str, float]]]], key: tuple[int, bool]
) -> dict[str, Doubles]:
    return {f: np.array([[m[key][f] for m in seed] for seed in rows]) for f in FIGURES}


def gain(score: Score, base: Score, figure: str) -> tuple[float, float]:
    """Mean of (score - base) over machines, and its standard deviation from seed to seed."""
    by_seed = (score.figures[figure] - base.figures[figure]).mean(1)
    return float(by_seed.mean()), float(by_seed.std(ddof=1)) if len(by_seed) > 1 else math.nan


def table(scores: Sequence[Score]) -> str:
    """Markdown: means over seeds and machines, and the gain in log error over the named facts."""
    named = {(s.labels, s.misfit): s for s in scores if s.arm == NAMED}
    lines = [
        "| facts | labels | misfit | log error | less named (sd) | Spearman | top pick | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in scores:
        base = named.get((s.labels, s.misfit))
        mean = {name: float(values.mean()) for name, values in s.figures.items()}
        less = "{:+.3f} ({:.3f})".format(*gain(s, base, "log_error")) if base else "-"
        cells = [f"{mean['log_error']:.3f}", less, *(f"{mean[f]:.3f}" for f in FIGURES[1:])]
        lines.append(
            f"| {s.arm} | {s.labels} | {'yes' if s.misfit else 'no'} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--programs", type=int, default=240, metavar="N")
    parser.add_argument("--machines", type=int, default=480, metavar="N")
    parser.add_argument("--taught", type=int, metavar="N", help="machines that teach, at most")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    parts = splits(args.machines, args.seeds, args.taught)
    scores = run(make_world(args.programs, args.machines), ARMS, parts)
    order = sorted(scores, key=lambda s: (s.misfit, s.labels))
    print(table(order))
    if args.json:
        rows = [
            {**asdict(s), "figures": {f: v.mean(1).tolist() for f, v in s.figures.items()}}
            for s in scores
        ]
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
