"""A control: the bundle's network trained on the labels alone, with no pre-training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from agent.arrays import Doubles, Indices
from bundles.evaluation.case import Case
from bundles.evaluation.scores import ArmPrediction
from bundles.training.network import Pretrainer, Shape, Weights

STEPS, BATCH = 300, 128  # batch in speed-up rows
RATE, DECAY = 1e-3, 1e-2


def train_and_predict(case: Case, rows: Indices, seed: int) -> ArmPrediction:
    """Train on the labels of speed-up rows and of their programs as written; predict the test."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = Pretrainer(Shape(case.labels.features.shape[1], 1))
    _normalise(model, case)
    _train(model, case, rows, seed)
    return _predict(model, case)


def _normalise(model: Pretrainer, case: Case) -> None:
    """Mean and sd of the features of the programs that labels are drawn from."""
    known = np.concatenate([case.pool, np.unique(case.base[case.pool])])
    model.encoder.normalise_by(torch.from_numpy(case.labels.features[known]))


def _train(model: Pretrainer, case: Case, rows: Indices, seed: int) -> None:
    features = torch.from_numpy(case.labels.features)
    gain = torch.from_numpy(case.labels.log_speedup).float()
    level = torch.from_numpy(case.seconds).float()
    with torch.no_grad():
        model.machines.bias.copy_(level[torch.from_numpy(np.unique(case.base[rows]))].mean())
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    rng = np.random.default_rng([seed, 3])
    for _ in range(STEPS):
        batch = rng.permutation(rows)[:BATCH]
        version, base = torch.from_numpy(batch), torch.from_numpy(case.base[batch])
        optimiser.zero_grad()
        times = _times(model, features[torch.cat([base, version])])
        before, after = times[: len(base)], times[len(base) :]
        value = _loss(before - after, gain[version], before, level[base])
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _times(model: Pretrainer, features: Tensor) -> Tensor:
    times: Tensor = model.machines(model.encoder(features))[:, 0]
    return times


def _loss(gain: Tensor, true_gain: Tensor, level: Tensor, true_level: Tensor) -> Tensor:
    weights = Weights()
    speedup = functional.huber_loss(gain, true_gain, delta=weights.delta)
    seconds = functional.huber_loss(level, true_level, delta=weights.delta)
    return weights.speedup * speedup + weights.seconds * seconds


def _predict(model: Pretrainer, case: Case) -> ArmPrediction:
    model.eval()
    features = case.labels.features

    def times(rows: Indices) -> Doubles:
        return np.asarray(_times(model, torch.from_numpy(features[rows])), np.float64)

    with torch.no_grad():
        base = times(case.test_base)
        place = np.searchsorted(case.test_base, case.base[case.test])
        return ArmPrediction(base[place] - times(case.test), seconds=base)
