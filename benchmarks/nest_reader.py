r"""Does a network that reads the nest beat the one that reads 305 features, on the same labels?

    python -m benchmarks.nest_reader bundles/measured/*-gcc-O3-native-t*.parquet
        --leave sapphire-rapids-vm --work DIR --out nest_reader.json

Three networks learn from the labels of the machines that are not left out, nothing simulated, with
the loss of the second stage of pre-training:

    features [B, 305] ------------\
                                   enter -> blocks -> embedding [B, 64] -> a head for each target
    nest: tokens -> up the loops -/

The first has the features, the second the nest, the third both. The nest is what the features are
computed from (``agent.loopnest.features.nest``): statements, the loops around each, and its groups
of accesses, all after the schedule. From the innermost loop outwards a recurrent cell carries what
each access has met, another what each statement has; at every loop, statements hear from the others
in it. How long and with how much noise a network learns, its validation programs choose.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.arrays import Bools, Doubles, Indices, Singles
from agent.loopnest.features.nest import LOOPS
from agent.model.score import log_error, spearman, top_share
from benchmarks.nest_tokens import Data, Nests, read
from bundles.labels.labels import is_test
from bundles.training.adapt import Adaptation, ReferenceHeads
from bundles.training.network import CLIP, Block
from bundles.training.validation import is_validation

NETWORKS = {"features": (True, False), "nest": (False, True), "both": (True, True)}
HIDDEN, EMBEDDING, BLOCKS = 224, 64, 3  # as ``bundles.training.network.Shape``
STATE, MET = 64, 32  # what is carried of a statement, and of an access
HOW = Adaptation()


class Normal(nn.Module):
    """Columns [..., F] with mean 0 and sd 1 over what is learned from; noise where it learns."""

    def __init__(self, seen: Singles, noise: float) -> None:
        super().__init__()
        seen = seen.reshape(-1, seen.shape[-1])
        sd = seen.std(axis=0)
        self.register_buffer("shift", torch.from_numpy(seen.mean(axis=0)))
        self.register_buffer("scale", torch.from_numpy(np.where(sd > 1e-4, 1 / (sd + 1e-9), 0)))
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        """[..., F] -> [..., F]."""
        scale = self.get_buffer("scale").float()
        x = ((x - self.get_buffer("shift")) * scale).clamp(-CLIP, CLIP)
        return x + self.noise * torch.randn_like(x) * (scale > 0) if self.training else x


class NestReader(nn.Module):
    """Tokens of B versions to [B, 2 STATE]: from the innermost loops outwards."""

    def __init__(self, seen: Nests, noise: float) -> None:
        super().__init__()
        there = np.arange(LOOPS) < seen.depth[:, None]
        tokens = {
            "statement": seen.statement,
            "access": seen.access,
            "loop": seen.loop[there],
            "step": seen.step[there[seen.row]],
        }
        self.normal = nn.ModuleDict({k: Normal(x, noise) for k, x in tokens.items()})
        s, a, lo, c = (x.shape[-1] for x in tokens.values())
        self.statement, self.access = nn.Linear(s, STATE), nn.Linear(a, MET)
        self.met = nn.GRUCell(c + lo, MET)
        self.rise = nn.GRUCell(lo + MET + STATE, STATE)

    def forward(self, x: Nests, count: int) -> Tensor:
        """The tokens of ``count`` versions -> [count, 2 STATE]."""
        parts = {k: n(torch.from_numpy(getattr(x, k))) for k, n in self.normal.items()}
        h = torch.relu(self.statement(parts["statement"]))
        a = torch.relu(self.access(parts["access"]))
        row, version = torch.from_numpy(x.row), torch.from_numpy(x.version)
        loops, shared = np.unique(x.version[:, None] * 4096 + x.number, return_inverse=True)
        of_loop = torch.from_numpy(shared.reshape(x.number.shape))
        for d in reversed(range(int(x.depth.max(initial=0)))):
            r, q = (torch.from_numpy(np.flatnonzero(x.depth[i] > d)) for i in (slice(None), x.row))
            here = parts["loop"][:, d]
            moves = torch.cat([parts["step"][q, d], here[row[q]]], 1)
            a = a.index_copy(0, q, self.met(moves, a[q]))
            heard = h.new_zeros(len(h), MET).index_add(0, row[q], a[q])[r]
            everyone = h.new_zeros(len(loops), STATE).index_add(0, of_loop[r, d], h[r])
            others = everyone[of_loop[r, d]] - h[r]
            h = h.index_copy(0, r, self.rise(torch.cat([here[r], heard, others], 1), h[r]))
        weighed = torch.cat([h * torch.from_numpy(x.share)[:, None], h], 1)
        return h.new_zeros(count, 2 * STATE).index_add(0, version, weighed)


class Network(nn.Module):
    """The encoder of bundles, on features, on the nest, or on both side by side."""

    def __init__(self, reads: tuple[bool, bool], data: Data, learnt: Indices, noise: float) -> None:
        super().__init__()
        self.normal = Normal(data.features[learnt], noise) if reads[0] else None
        self.reader = NestReader(data.nests.take(learnt), noise) if reads[1] else None
        width = reads[0] * data.features.shape[1] + reads[1] * 2 * STATE
        self.body = nn.Sequential(
            nn.Linear(width, HIDDEN), *(Block(HIDDEN) for _ in range(BLOCKS)),
            nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, EMBEDDING),
        )  # fmt: skip

    def forward(self, data: Data, rows: Indices) -> Tensor:
        """Versions [B] -> [B, E]."""
        parts = [self.normal(torch.from_numpy(data.features[rows]))] if self.normal else []
        if self.reader is not None:
            parts.append(self.reader(data.nests.take(rows), len(rows)))
        embedding: Tensor = self.body(torch.cat(parts, 1))
        return embedding


@dataclass(frozen=True)
class Settings:
    """What validation programs choose: epochs, and the sd of noise on normalised inputs."""

    epochs: int
    noise: float


@dataclass(frozen=True, eq=False)
class Taught:
    """A network with the heads of the targets that taught it."""

    network: Network
    heads: ReferenceHeads
    targets: Indices

    def times(self, data: Data, rows: Indices) -> Doubles:
        """[n, R] log seconds less log work of the versions ``rows`` on every target, else nan.

        On one that taught nothing, the mean of the heads of those with as many threads.
        """
        found = np.full(data.seconds.shape, np.nan)
        with torch.no_grad():
            some = np.array_split(rows, len(rows) // 512 + 1)
            parts = [self.heads(self.network(data, part)) for part in some]
        known = torch.cat(parts).numpy()  # [k, those that taught]
        threads = np.array([t.threads for t in data.targets])
        for target in range(len(threads)):
            taught = self.targets == target
            same = taught if taught.any() else threads[self.targets] == threads[target]
            found[rows, target] = known[:, same].mean(axis=1)
        return found


def train(
    data: Data, targets: Indices, learnt: Indices, name: str, how: Settings, seed: int
) -> Taught:
    """A network and the heads of targets, from the labels of the versions ``learnt`` alone."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 7])
    network = Network(NETWORKS[name], data, learnt, how.noise)
    start = rng.normal(0, EMBEDDING**-0.5, EMBEDDING + 1)
    start[-1] = np.nanmean(data.seconds[np.ix_(learnt, targets)])
    heads = ReferenceHeads(np.tile(start, (len(targets), 1)))
    programs = np.unique(data.base[learnt])
    body = {"params": network.parameters(), "weight_decay": HOW.decay}
    groups = [body, {"params": heads.parameters(), "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, HOW.rate, fused=True)
    steps = how.epochs * -(-len(programs) // HOW.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HOW.rate, steps, pct_start=0.1)
    for _ in range(how.epochs):
        for some in torch.split(torch.from_numpy(rng.permutation(programs)), HOW.batch):
            rows = np.flatnonzero(np.isin(data.base, some.numpy()))
            optimiser.zero_grad()
            value = loss(heads, network(data, rows), data, rows, targets)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return Taught(network.eval(), heads, targets)


def loss(
    heads: ReferenceHeads, embedding: Tensor, data: Data, rows: Indices, targets: Indices
) -> Tensor:
    """As ``bundles.training.adapt.reference_loss``, of whole programs ``rows`` [B]."""
    times, truth = heads(embedding), torch.from_numpy(data.seconds[np.ix_(rows, targets)])
    base = torch.from_numpy(np.searchsorted(rows, data.base[rows]))
    timed = torch.from_numpy(data.base[rows] != rows)[:, None]
    gains = _huber(times[base] - times, truth[base] - truth, timed & torch.isfinite(truth))
    seconds = _huber(times, truth, torch.isfinite(truth))
    value: Tensor = gains + HOW.seconds * seconds + HOW.own * heads.own.square().mean()
    return value


def _huber(predicted: Tensor, truth: Tensor, there: Tensor) -> Tensor:
    return functional.huber_loss(predicted[there], truth[there], delta=HOW.delta)


@dataclass(frozen=True)
class Errors:
    """Of speed-ups on a target: figures, and the mean absolute log error of each program."""

    log_error: float
    spearman: float
    top_share: float
    seconds_log_error: float
    of_program: dict[str, float]


def judge(data: Data, taught: Taught, tested: Bools) -> dict[str, Errors]:
    """Errors on the versions ``tested`` [n] of whole programs, by target."""
    found, true = taught.times(data, np.flatnonzero(tested)), data.seconds.astype(np.float64)
    names = [target.name for target in data.targets]
    return {n: _errors(data, found[:, t], true[:, t], tested) for t, n in enumerate(names)}


def _errors(data: Data, told: Doubles, seconds: Doubles, tested: Bools) -> Errors:
    rows = np.flatnonzero(tested & np.isfinite(seconds))
    found, truth = told[rows], seconds[rows]
    base = np.searchsorted(rows, data.base[rows])
    timed = data.base[rows] != rows
    gain, true_gain, program = (x[timed] for x in (found[base] - found, truth[base] - truth, base))
    gaps = np.abs(gain - true_gain)
    names = data.program[rows[program]]
    return Errors(
        log_error(true_gain, gain),
        spearman(true_gain, gain, program) or 0.0,
        top_share(true_gain, gain, program) or 0.0,
        log_error(truth[~timed], found[~timed]),
        {str(name): float(gaps[names == name].mean()) for name in np.unique(names)},
    )


def chosen(
    data: Data, targets: Indices, learnt: Bools, name: str, choices: Sequence[Settings]
) -> tuple[Settings, Taught]:
    """The settings with the least error of speed-ups on validation programs, and what they gave."""
    kept = is_validation(data.program)
    tried: list[tuple[float, Settings, Taught]] = []
    for how in choices:
        taught = train(data, targets, np.flatnonzero(learnt & ~kept), name, how, 0)
        errors = judge(data, taught, learnt & kept)
        mine = [errors[data.targets[t].name].log_error for t in targets]
        tried.append((float(np.mean(mine)), how, taught))
        print(f"{name}, {how}: {tried[-1][0]:.4f} on validation programs", flush=True)
    return min(tried, key=lambda t: t[0])[1:]


def rate(data: Data, taught: Taught) -> float:
    """Versions embedded a second of one core, their features or tokens at hand."""
    rows, started = np.arange(4_096) % len(data.base), time.process_time()
    with torch.no_grad():
        for part in np.array_split(np.sort(rows), 8):
            taught.network(data, part)
    return len(rows) / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", nargs="+", type=Path)
    parser.add_argument("--leave", required=True, help="a machine that teaches nothing")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--programs", type=int, default=10_000, help="that teach, at most")
    parser.add_argument("--epochs", type=int, nargs="+", default=[15, 40])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.1, 0.4])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = read(given.labels, given.work)
    targets = np.flatnonzero([t.machine != given.leave for t in data.targets])
    learnt = ~is_test(data.program) & np.isfinite(data.seconds[data.base][:, targets]).any(axis=1)
    some = np.random.default_rng(0).permutation(np.unique(data.base[learnt]))[: given.programs]
    teaching = learnt & np.isin(data.base, some)
    rows = np.flatnonzero(teaching & ~is_validation(data.program))
    choices = [Settings(epochs, noise) for epochs in given.epochs for noise in given.noise]
    found = {}
    for name in given.only:
        how, first = chosen(data, targets, teaching, name, choices)
        more = (train(data, targets, rows, name, how, seed) for seed in range(1, given.seeds))
        taught = [first, *more]
        errors = [{t: asdict(e) for t, e in judge(data, x, ~learnt).items()} for x in taught]
        found[name] = {"settings": asdict(how), "rate": rate(data, first), "errors": errors}
        for target in errors[0]:
            for figure in list(errors[0][target])[:-1]:
                print(name, target, figure, *(round(e[target][figure], 3) for e in errors))
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
