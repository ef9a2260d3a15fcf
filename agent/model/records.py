"""What a choice of head is told by: plain records, for those too who never compute with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.json_values import Later

Kind = Literal["speedup", "seconds"]
HeadKind = Literal["bundle", "ridge", "boosting"]
Status = Literal["chosen", "beaten", "not-better", "too-few-labels"]


@dataclass(frozen=True, slots=True)
class CandidateVerdict:
    """Why a candidate was or was not taken for one kind of prediction.

    Attributes:
        target: "speedup" or "seconds".
        candidate: "ridge" or "boosting" (the bundle is what they are compared with).
        status: "chosen"; "beaten" (by another candidate); "not-better" (ridge: the bundle is
            better, by more than ``margin``; boosting: no better than the bundle); "too-few-labels".
        log_error: mean absolute log error on programs left out; None if it was not tried.
        bundle_log_error: the bundle's on the same rows.
        margin: by how much ridge may be worse than the bundle, and boosting has to be better than
            what it would replace.
        order: share of a program's versions that differ measurably which the choice puts in the
            right order, pair by pair; of the one chosen for speed-ups, before it was judged.
        bundle_order: the bundle's on the same pairs.
    """

    target: Kind
    candidate: HeadKind
    status: Status
    log_error: float | None = None
    bundle_log_error: float | None = None
    margin: float | None = None
    order: Later[float] = None
    bundle_order: Later[float] = None


@dataclass(frozen=True, slots=True)
class PredictionAccuracy:
    """All figures of one way to predict; None where there was nothing to judge by.

    Attributes:
        versions: speed-up labels judged.
        programs: programs they belong to.
        log_error: mean absolute log error of speed-ups.
        log_error_low: lower end of its 80 % bootstrap interval over programs.
        log_error_high: upper end.
        factor: exp(log_error).
        mape: mean absolute relative error of speed-ups (1.0 = 100 %).
        median_ape: median of it.
        spearman: rank correlation within a program.
        top_share: speed of the top pick / speed of the best.
        pairwise: share of pairs in the right order.
        coverage: share of 80 % intervals that hold; None if no sd was given.
        seconds_log_error: mean absolute log error of times in seconds.
        seconds_coverage: coverage of times in seconds.
    """

    versions: int = 0
    programs: int = 0
    log_error: float | None = None
    log_error_low: float | None = None
    log_error_high: float | None = None
    factor: float | None = None
    mape: float | None = None
    median_ape: float | None = None
    spearman: float | None = None
    top_share: float | None = None
    pairwise: float | None = None
    coverage: float | None = None
    seconds_log_error: float | None = None
    seconds_coverage: float | None = None
