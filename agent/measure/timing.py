"""What measuring gives: frozen records, and nothing that acts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum

from agent.measure.evidence import Notice, Round


class Outcome(StrEnum):
    """How measuring one program ended."""

    OK = "ok"
    WRONG_RESULT = "wrong-result"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    COMPILE_FAILED = "compile-failed"
    OUT_OF_MEMORY = "out-of-memory"


@dataclass(frozen=True, slots=True)
class Timing:
    """One program's measurement; NaN where the outcome is not ``ok``.

    Attributes:
        outcome: an ``Outcome`` value; ``detail`` says more where it is not ``ok``.
        log_speedup: median over rounds of log(base seconds / seconds): > 0 is faster.
        low: lower end of its 80 % order-statistic interval; ``high``: upper end.
        seconds: median per execution; ``seconds_low``, ``seconds_high``: 80 % interval.
        base_seconds: median per execution of the program as written, same rounds.
        rounds: how many paired rounds these figures are made of.
        redone: rounds not used because of evidence of disturbance (never for their value).
        steal: share of the CPU time in these rounds taken by the hypervisor.
        involuntary_switches: of the worker's threads in these rounds.
        checksum: order-independent hash of the rounded outputs.
        max_error: largest difference from the base's outputs (see ``plan.ArrayArgument``).
        sharing: in which state of the cores it is compared with the base (``shots.Sharing``).
        disturbed: share of its shots beside which a core was used by others as well.
        different: whether it would be faster again, or slower, another time (95 % interval).
    """

    outcome: str
    log_speedup: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seconds: float = math.nan
    base_seconds: float = math.nan
    seconds_low: float = math.nan
    seconds_high: float = math.nan
    rounds: int = 0
    redone: int = 0
    steal: float = 0.0
    involuntary_switches: int = 0
    checksum: str = ""
    max_error: float = math.nan
    detail: str = ""
    sharing: str = ""
    disturbed: float = 0.0
    different: bool = False

    @property
    def ok(self) -> bool:
        """Whether its numbers can be used."""
        return self.outcome == Outcome.OK

    @property
    def wins(self) -> bool:
        """Whether it is faster than the program as written, and would be another time."""
        return self.ok and self.different and self.log_speedup > 0

    def to_json(self) -> dict[str, object]:
        """Plain values; what is not a finite number becomes None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Measurement:
    """A base program and its variants, measured together.

    Attributes:
        base: the program as written (its ``log_speedup`` is 0).
        timings: of the variants, in the order asked.
        noise: A/A log-ratios, base against itself, one a round used.
        notices: what may have disturbed the measurement, as data.
        rounds: every round that was run, raw, those not used as well.
        elapsed_s: wall time of measuring, compilation excluded.
        waited_s: of it in rounds that only others made necessary.
    """

    base: Timing
    timings: tuple[Timing, ...]
    noise: tuple[float, ...] = ()
    notices: tuple[Notice, ...] = ()
    rounds: tuple[Round, ...] = ()
    elapsed_s: float = 0.0
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MeasureEvent:
    """Progress: ``done`` of ``total`` steps of ``kind``.

    Kinds: compiled, checked, round, restarted, arbitrating (see ``Runner.measure_job``).
    """

    kind: str
    done: int
    total: int
