"""Calibrations of simulated machines: the real pipeline on times that a formula gives.

What comes of them does not depend on how fast or how quiet the machine is that runs the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.bundle.bundle import Bundle, load_bundle
from agent.bundle.encoder import Encoder
from agent.calibration import calibrate as calibrating
from agent.calibration.calibration import StoredCalibration
from agent.calibration.predictor import prior_of, represent
from agent.loopnest.features.nest import lower
from agent.loopnest.program import Program
from agent.settings.config import Config
from agent.state.state import open_state
from tests.fake_runner import FakeRunner, FakeToolchain, seconds_of

FEW_S, SOME_S = 4.0, 14.0  # budgets: four kernels, some ten


def as_the_bundle_says(bundle: Path, times: float = 1.0) -> Callable[[Program], float]:
    """A machine of which the bundle is right, but for a factor of all times."""
    known: Bundle = load_bundle(bundle)
    encoder, mean = Encoder(known), prior_of(known).mean

    def seconds(program: Program) -> float:
        seen = represent(encoder, lower((program,)))
        return times * math.exp(float(seen.vectors[0] @ mean[:-1] + mean[-1] + seen.work[0]))

    return seconds


def calibrated_by(
    runner: FakeRunner, state_dir: Path, bundle: Path, budget_s: float = SOME_S
) -> StoredCalibration:
    """Calibrate the machine that ``runner`` simulates, as ``agent calibrate`` does."""
    config = Config(state_dir=state_dir, bundle=bundle, budget_s=budget_s)
    with pytest.MonkeyPatch.context() as patch, open_state(state_dir) as state:
        patch.setattr(calibrating, "toolchain_for_set", lambda *_: FakeToolchain())
        patch.setattr(calibrating, "WorkerRunner", lambda *_, **__: runner)
        return calibrating.calibrate(config, state, lambda _: None)


__all__ = ["FEW_S", "SOME_S", "FakeRunner", "as_the_bundle_says", "calibrated_by", "seconds_of"]
