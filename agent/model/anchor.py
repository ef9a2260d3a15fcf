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
from dataclasses import dataclass
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
class LogTime:
    """Log seconds of a program as written, and their sd: timed (another time), or predicted."""

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
        written: the time of the program as written.
        shared: [n] covariance of the errors of the two.
    """

    gain: Doubles
    gain_sd: Doubles
    written: LogTime
    shared: Doubles

    @property
    def seconds(self) -> Doubles:
        """[n] log seconds."""
        return self.written.log_seconds - self.gain

    @property
    def seconds_sd(self) -> Doubles:
        """[n] their sd."""
        variance = self.written.sd**2 + self.gain_sd**2 - 2 * self.shared
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

    def of_heads(self, gain: Doubles, gain_sd: Doubles, written: LogTime) -> LogPrediction:
        """What heads say, as a prediction: the smaller a gain [n], the surer it is."""
        spread = np.sqrt(NEAR**2 + (FAR**2 - NEAR**2) * self._apart(gain))
        return LogPrediction(gain, gain_sd * spread, written, np.zeros(len(gain)))

    def given(self, found: LogPrediction, timed: LogTime) -> LogPrediction:
        """``found`` once the program as written was timed."""
        predicted = found.written
        variance = predicted.sd**2 + timed.sd**2
        error, trust = timed.log_seconds - predicted.log_seconds, predicted.sd**2 / variance
        shared = self._shared(found.gain, variance)
        told = shared**2 / variance / np.maximum(found.gain_sd**2, 1e-12)
        tails = max(1.0, math.sqrt((DOF + error**2 / variance) / (DOF + 1)))
        return LogPrediction(
            gain=self.corrected(found.gain, predicted, timed),
            gain_sd=found.gain_sd * np.sqrt(np.maximum(1 - told, LEAST_LEFT)) * tails,
            written=LogTime(predicted.log_seconds + trust * error, math.sqrt(trust) * timed.sd),
            shared=shared * (1 - trust),
        )

    def corrected(self, gain: Doubles, predicted: LogTime, timed: LogTime) -> Doubles:
        """[n] log speed-ups as ``given`` makes them of ``gain`` [n]."""
        variance = predicted.sd**2 + timed.sd**2
        error = timed.log_seconds - predicted.log_seconds
        return gain + self._shared(gain, variance) / variance * error

    def _shared(self, gain: Doubles, variance: float) -> Doubles:
        """[n] covariance of an error as written of this variance and those of speed-ups."""
        return min(self.own_sd**2, MOST_SHARE * variance) * self._apart(gain)

    def _apart(self, gain: Doubles) -> Doubles:
        """[n] from 0 (as written) to 1 (nothing in common with it)."""
        return -np.expm1(-np.abs(gain) / self.alike)
