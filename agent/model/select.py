"""Which head to trust on this machine: nested cross-validation by program, with a way back.

The posterior under the bundle's prior (ridge) already goes only as far from the bundle as the
labels warrant; a vote of a few dozen labels on top of it is noisier than the prior is, and loses
where it is close. So ridge stands unless programs it has not seen speak clearly against it: then
the bundle alone stays, and the verdict says so; or clearly for boosting. Clearly is two standard
errors. Choosing is part of fitting: the accuracy reported comes from outer folds in each of which
fit *and* choice knew nothing of the programs held out.

Last, what was chosen has to be shown to be no worse than the bundle alone on those programs
(``agent.model.paired``: errors, and the order of versions), for speed-ups and for seconds each;
else the bundle predicts that kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from agent.arrays import Bools, Doubles, Ints
from agent.model.heads import BoostedHead, PairHead, SingleHead
from agent.model.linear import BundleHead, RidgeHead, interval_factor
from agent.model.observations import KINDS, SPEEDUP, Observations, group_folds
from agent.model.paired import Judgement, Measured, judge_ways
from agent.model.posterior import Z80
from agent.model.prior import Prior
from agent.model.records import CandidateVerdict, HeadKind, Kind, Status

OUTER_FOLDS = 8
INNER_FOLDS = 4
FEWEST_PROGRAMS = 3  # below, cross-validation says nothing
BOOSTING_PROGRAMS = 8
BOOSTING_LABELS = 32
MARGIN = 0.01  # of the error of what is left for another
MARGIN_SE = 2.0  # of the gain's standard error over programs


@dataclass(frozen=True, eq=False)
class Selection:
    """The head to use, why, and what it predicted for programs it had not seen.

    Attributes:
        head: fitted on all labels.
        kinds: name of the head used for each kind of prediction.
        verdicts: one a candidate and kind of prediction.
        calibrated: [n] out-of-fold predictions, by heads chosen and fitted without that program.
        calibrated_sd: [n] their sd.
        bundle_alone: [n] the bundle's predictions.
        coverage: share of out-of-fold 80 % intervals that hold the label, by kind; None without
            labels.
        fold_kinds: the speed-up head chosen in each outer fold.
    """

    head: PairHead
    kinds: Mapping[Kind, str]
    verdicts: tuple[CandidateVerdict, ...]
    calibrated: Doubles
    calibrated_sd: Doubles
    bundle_alone: Doubles
    coverage: Mapping[Kind, float | None]
    fold_kinds: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Name of the speed-up head."""
        return self.kinds[SPEEDUP]


def choose_head(prior: Prior, observations: Observations, seed: int = 0) -> Selection:
    """Choose and fit a head for this machine, and test the choice on programs left out.

    Args:
        prior: the bundle's.
        observations: all labels of this machine; any number, also none.
        seed: makes folds and boosting reproducible.

    Raises:
        ValueError: designs and prior differ in width, or there are too many labels.
    """
    head, verdicts = best_head(prior, observations, seed)
    mean, sd = BundleHead.fit(prior).predict(observations.design, observations.kind)
    calibrated, calibrated_sd, chosen = mean.copy(), sd.copy(), []
    for held_out in group_folds(observations.group, OUTER_FOLDS, seed):
        inner, _ = best_head(prior, observations.take(~held_out), seed)
        test = observations.take(held_out)
        calibrated[held_out], calibrated_sd[held_out] = inner.predict(test.design, test.kind)
        chosen.append(inner.kind)
    alone = BundleHead.fit(prior, observations)
    for kind in KINDS:
        rows = observations.kind == kind
        judged = _judge_choice(observations.take(rows), kind, mean[rows], calibrated[rows])
        verdicts = tuple(_with_order(v, judged) if v.target == kind else v for v in verdicts)
        if judged is not None and judged.no_worse:
            continue
        calibrated[rows] = mean[rows]
        calibrated_sd[rows] = alone.predict(observations.design[rows], kind)[1]
        head = replace(head, speedup=alone) if kind == SPEEDUP else replace(head, seconds=alone)
        verdicts = tuple(_turned_down(v) if v.target == kind else v for v in verdicts)
    covered = np.abs(observations.target - calibrated) <= Z80 * calibrated_sd
    return Selection(
        head=head,
        kinds={"speedup": head.speedup.kind, "seconds": head.seconds.kind},
        verdicts=verdicts,
        calibrated=calibrated,
        calibrated_sd=calibrated_sd,
        bundle_alone=mean,
        coverage={kind: _share(covered[observations.kind == kind]) for kind in KINDS},
        fold_kinds=tuple(chosen),
    )


def _judge_choice(
    observations: Observations, kind: Kind, alone: Doubles, calibrated: Doubles
) -> Judgement | None:
    """Predictions [n] of observations of one kind beside the bundle's [n]."""
    half = Z80 * observations.sd
    measured = Measured(kind, observations.programs, observations.target, half)
    return judge_ways(measured, alone, calibrated)


def _with_order(verdict: CandidateVerdict, judged: Judgement | None) -> CandidateVerdict:
    if verdict.status != "chosen" or judged is None or judged.misorder is None:
        return verdict
    misorder = judged.misorder
    return replace(verdict, order=1 - misorder.after, bundle_order=1 - misorder.before)


def _turned_down(verdict: CandidateVerdict) -> CandidateVerdict:
    return replace(verdict, status="not-better") if verdict.status == "chosen" else verdict


def _share(hits: Bools) -> float | None:
    return float(hits.mean()) if len(hits) else None


def best_head(
    prior: Prior, observations: Observations, seed: int
) -> tuple[PairHead, tuple[CandidateVerdict, ...]]:
    """The head that ``choose_head`` finds, and why; without judging the choice itself."""
    tried = _left_out(prior, observations, seed)
    verdicts = {kind: _judge(kind, observations, tried) for kind in KINDS}
    winners = {kind: _winner(verdicts[kind]) for kind in KINDS}
    fitted = _fit(prior, observations, set(winners.values()), tried, seed)
    pair = PairHead(fitted[winners["speedup"]], fitted[winners["seconds"]])
    return pair, verdicts["speedup"] + verdicts["seconds"]


@dataclass(frozen=True, eq=False)
class _Tried:
    """Predictions [n] of rows by candidates fitted without their programs, and their sd."""

    mean: Mapping[HeadKind, Doubles]
    sd: Mapping[HeadKind, Doubles]


def _candidates(observations: Observations) -> tuple[HeadKind, ...]:
    programs = len(np.unique(observations.group))
    if programs < FEWEST_PROGRAMS:
        return ()
    labels = int((observations.kind == SPEEDUP).sum())
    boosting = programs >= BOOSTING_PROGRAMS and labels >= BOOSTING_LABELS
    return ("ridge", "boosting") if boosting else ("ridge",)


def _left_out(prior: Prior, observations: Observations, seed: int) -> _Tried:
    bundle = BundleHead.fit(prior).predict(observations.design, observations.kind)
    candidates = _candidates(observations)
    tried = {name: (bundle[0].copy(), bundle[1].copy()) for name in ("bundle", *candidates)}
    folds = group_folds(observations.group, INNER_FOLDS, seed + 1) if candidates else ()
    for held_out in folds:
        test = observations.take(held_out)
        heads = _train(prior, observations.take(~held_out), "boosting" in candidates, seed)
        for name, head in heads.items():
            mean, sd = head.predict(test.design, test.kind)
            tried[name][0][held_out], tried[name][1][held_out] = mean, sd
    return _Tried({n: t[0] for n, t in tried.items()}, {n: t[1] for n, t in tried.items()})


def _train(
    prior: Prior, observations: Observations, boosting: bool, seed: int
) -> dict[HeadKind, SingleHead]:
    ridge, left_out = RidgeHead.fit_and_leave_out(prior, observations)
    heads: dict[HeadKind, SingleHead] = {"ridge": ridge}
    if boosting:
        heads["boosting"] = BoostedHead.on(ridge, left_out, prior, observations, seed)
    return heads


def _judge(kind: Kind, observations: Observations, tried: _Tried) -> tuple[CandidateVerdict, ...]:
    rows = observations.kind == kind
    names: tuple[HeadKind, ...] = ("ridge", "boosting") if kind == SPEEDUP else ("ridge",)
    group = observations.group[rows]
    error = {n: np.abs(observations.target - mean)[rows] for n, mean in tried.mean.items()}
    if len(np.unique(group)) < FEWEST_PROGRAMS or "ridge" not in error:
        return tuple(CandidateVerdict(kind, name, "too-few-labels") for name in names)
    ridge = _judge_ridge(kind, error, group)
    if kind != SPEEDUP:
        return (ridge,)
    if "boosting" not in error:
        return ridge, CandidateVerdict(kind, "boosting", "too-few-labels")
    boosting = _judge_boosting(kind, error, group, ridge.status == "chosen")
    beaten = boosting.status == ridge.status == "chosen"
    return replace(ridge, status="beaten") if beaten else ridge, boosting


def _judge_ridge(kind: Kind, error: Mapping[HeadKind, Doubles], group: Ints) -> CandidateVerdict:
    """Ridge stands unless the bundle is clearly better."""
    _, margin, worse = _gain(error["ridge"], error["bundle"], group)
    status: Status = "not-better" if worse else "chosen"
    return _verdict(kind, "ridge", status, error, margin)


def _judge_boosting(
    kind: Kind, error: Mapping[HeadKind, Doubles], group: Ints, ridge_stands: bool
) -> CandidateVerdict:
    """Boosting replaces what stands only where it is clearly better."""
    standing = error["ridge" if ridge_stands else "bundle"]
    _, margin, better = _gain(standing, error["boosting"], group)
    helps = error["boosting"].mean() < error["bundle"].mean()
    status: Status = "chosen" if better else "beaten" if helps and ridge_stands else "not-better"
    return _verdict(kind, "boosting", status, error, margin)


def _verdict(
    kind: Kind, name: HeadKind, status: Status, error: Mapping[HeadKind, Doubles], margin: float
) -> CandidateVerdict:
    means = (float(error[name].mean()), float(error["bundle"].mean()))
    return CandidateVerdict(kind, name, status, *means, margin)


def _gain(before: Doubles, after: Doubles, group: Ints) -> tuple[float, float, bool]:
    """Mean gain in absolute error, the margin it has to exceed, and whether it does.

    The standard error treats programs, not rows, as independent (cluster-robust).
    """
    gain = before - after
    which = np.unique(group, return_inverse=True)[1]
    total = np.bincount(which, weights=gain - gain.mean())
    count = len(total)
    error = float(np.sqrt(np.sum(total**2) * count / max(count - 1, 1))) / len(gain)
    margin = max(MARGIN * float(before.mean()), MARGIN_SE * error)
    return float(gain.mean()), margin, bool(gain.mean() > margin)


def _winner(verdicts: tuple[CandidateVerdict, ...]) -> HeadKind:
    return next((v.candidate for v in verdicts if v.status == "chosen"), "bundle")


def _fit(
    prior: Prior, observations: Observations, wanted: set[HeadKind], tried: _Tried, seed: int
) -> dict[HeadKind, SingleHead]:
    """The winners on all labels; boosting's intervals from its own left-out errors."""
    fitted: dict[HeadKind, SingleHead] = {"bundle": BundleHead.fit(prior, observations)}
    if wanted - {"bundle"}:
        fitted |= _train(prior, observations, "boosting" in wanted, seed)
    if "boosting" in wanted:
        mean, sd = tried.mean["boosting"], tried.sd["boosting"]
        factor = interval_factor(observations, mean, sd, SPEEDUP, prior.noise_weight)
        fitted["boosting"] = fitted["boosting"].rescaled(SPEEDUP, factor)
    return fitted
