"""Errors of one program's predictions: how far they reach, and what a timing of it says of them.

Versions that are predicted to take equally long err alike; those that differ by ``alike`` (log
units) or more err each for itself. So the error of a speed-up grows with the speed-up predicted,
and part of it is that of the program as written (it runs slower than foretold, its versions do
not). With ``r`` the error of the seconds as written and ``e_v`` that of the speed-up of version v,
each measured less predicted, and ``apart_v = 1 - exp(-|gain_v| / alike)``:

    sd(e_v) = gain_sd_v sqrt(NEAR^2 + (FAR^2 - NEAR^2) apart_v)      cov(r, e_v) = own_sd^2 apart_v

Given a timing of ``r`` all are Gaussian again, with the tails of a Student-t: a program that is far
off is so in all (Murphy, Machine Learning, 2012, section 2.5). Strength and length were learned on
labels of programs that taught the bundle nothing, with machines left out: a Zen 3 and a Zen 5 ask
for the same ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from agent.arrays import Doubles
from agent.model.posterior import Z80

NEAR, FAR = 0.3, 1.3  # of an sd, for versions predicted alike and for others
MOST_SHARE = 0.9  # of the error as written that speed-ups can have, too
LEAST_LEFT = 0.3  # of a variance: one timing does not say more
DOF = 4.0
LEAST_SD = 0.05  # of a timing: what sessions differ by


@dataclass(frozen=True)
class AnchorTime:
    """Log seconds of a program as written, and by what they differ another time."""

    log_seconds: float
    sd: float

    @classmethod
    def of(cls, seconds: float, low: float, high: float) -> Self:
        """From seconds with the ends of their 80 % interval."""
        sd = (math.log(high) - math.log(low)) / (2 * Z80)
        return cls(math.log(seconds), max(sd, LEAST_SD))


@dataclass(frozen=True, eq=False)
class LogPrediction:
    """What is expected of a program's n versions, log units.

    Attributes:
        gain: [n] log speed-ups; ``gain_sd``: [n].
        written: log seconds of the program as written; ``written_sd``: their sd.
        shared: [n] covariance of the errors of these two.
    """

    gain: Doubles
    gain_sd: Doubles
    written: float
    written_sd: float
    shared: Doubles

    @property
    def seconds(self) -> Doubles:
        """[n] log seconds."""
        return self.written - self.gain

    @property
    def seconds_sd(self) -> Doubles:
        """[n] their sd."""
        variance = self.written_sd**2 + self.gain_sd**2 - 2 * self.shared
        return np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True)
class ErrorModel:
    """How a program's errors hang together, as its bundle knows it.

    Attributes:
        own_sd: of the part of the error as written that versions do not have.
        alike: difference of predicted log seconds within which versions err alike.
    """

    own_sd: float
    alike: float

    def of_heads(
        self, gain: tuple[Doubles, Doubles], written: float, written_sd: float
    ) -> LogPrediction:
        """Means and sds of heads as a prediction: the smaller a gain, the surer it is."""
        spread = np.sqrt(NEAR**2 + (FAR**2 - NEAR**2) * self._apart(gain[0]))
        return LogPrediction(gain[0], gain[1] * spread, written, written_sd, np.zeros(len(spread)))

    def given(self, found: LogPrediction, time: AnchorTime) -> LogPrediction:
        """``found`` once the program as written was timed."""
        variance = found.written_sd**2 + time.sd**2
        shared = min(self.own_sd**2, MOST_SHARE * variance) * self._apart(found.gain)
        error, trust = time.log_seconds - found.written, found.written_sd**2 / variance
        told = shared**2 / variance / np.maximum(found.gain_sd**2, 1e-12)
        left = np.maximum(1 - told, LEAST_LEFT)
        tails = max(1.0, math.sqrt((DOF + error**2 / variance) / (DOF + 1)))
        return replace(
            found,
            gain=found.gain + shared / variance * error,
            gain_sd=found.gain_sd * np.sqrt(left) * tails,
            written=found.written + trust * error,
            written_sd=math.sqrt(trust) * time.sd,
            shared=shared * (1 - trust),
        )

    def _apart(self, gain: Doubles) -> Doubles:
        """[n] from 0 (as written) to 1 (nothing in common with it)."""
        return -np.expm1(-np.abs(gain) / self.alike)
