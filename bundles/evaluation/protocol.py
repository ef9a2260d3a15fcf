"""Every arm at every budget, for every target and seed; nothing is chosen by test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.arrays import Indices
from agent.errors import AgentError
from bundles.evaluation.arms import BY_NAME, REFERENCE, Arm, Bench
from bundles.evaluation.options import EvaluationProtocol
from bundles.evaluation.scores import Scores, score
from bundles.training.settings import Say
from bundles.workers import WorkerDiedError, results_in_order


@dataclass(frozen=True, eq=False)
class ArmTrial:
    """One arm tried with one budget and seed on one target."""

    target: str
    arm: str
    budget: int
    seed: int
    scores: Scores


def run_protocol(
    benches: Sequence[Bench], protocol: EvaluationProtocol, say: Say
) -> list[ArmTrial]:
    """Everything, target by target.

    Raises:
        AgentError: a worker process died (out of memory, or killed).
    """
    jobs = [(b, protocol, seed) for b in benches for seed in range(protocol.seeds)]
    started, trials = time.monotonic(), list[ArmTrial]()
    try:
        for number, part in enumerate(results_in_order(_job, jobs, protocol.processes), 1):
            trials += part
            spent = time.monotonic() - started
            where = f"{part[0].target}, seed {part[0].seed}" if part else "nothing to run"
            say(f"{number}/{len(jobs)}: {where} ({spent:.0f} s)")
    except WorkerDiedError as error:
        raise AgentError(
            "a worker process of the evaluation died, perhaps for want of memory",
            "Run it again with --processes 1; trained encoders are kept.",
        ) from error
    return trials


def _job(bench: Bench, protocol: EvaluationProtocol, seed: int) -> list[ArmTrial]:
    """All arms and budgets of one target and seed."""
    trials = []
    for name in protocol.arms or BY_NAME:
        arm = BY_NAME[name]
        if name == REFERENCE and bench.reference is None:
            continue
        for budget in reachable_budgets(arm, bench, protocol.budgets):
            found = arm.predict(bench, drawn_rows(arm, bench, budget, seed), seed)
            scores = score(bench.truth, found)
            trials.append(ArmTrial(bench.case.name, name, budget, seed, scores))
    return trials


def reachable_budgets(arm: Arm, bench: Bench, budgets: Sequence[int]) -> list[int]:
    """The budgets that make sense for an arm and that the target's labels reach."""
    case = bench.case
    planned = len(case.fixed_order)
    most = {
        "none": 0,
        "random": len(case.pool),
        "fixed": planned if len(case.fixed_draw(planned)) else 0,
        "candidates": min(planned, len(case.kernels)),
    }[arm.draw]
    return [b for b in budgets if arm.least <= b <= min(most, arm.most)]


def drawn_rows(arm: Arm, bench: Bench, budget: int, seed: int) -> Indices:
    """The rows whose labels an arm may see."""
    if arm.draw == "random":
        return bench.case.random_draw(seed)[:budget]
    if arm.draw == "fixed":
        return bench.case.fixed_draw(budget)
    if arm.draw == "candidates":
        return bench.case.candidate_draw(seed)[:budget]
    return np.zeros(0, np.intp)
