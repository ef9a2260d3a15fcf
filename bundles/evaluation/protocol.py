"""The protocol: every arm at every budget, for every target and seed; nothing is chosen by test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.arrays import Indices
from agent.errors import AgentError
from bundles.evaluation.arms import BY_NAME, Arm, Bench
from bundles.evaluation.scores import Scores, score
from bundles.workers import WorkerDiedError, in_order

Say = Callable[[str], None]
BUDGETS = (0, 8, 16, 24, 48, 96, 200, 400, 1000, 3000)
SEEDS = 5
NONE: Indices = np.zeros(0, np.intp)


@dataclass(frozen=True)
class Protocol:
    """What is run.

    Attributes:
        budgets: numbers of timed versions; ``seeds``: draws of labels and of learned controls.
        arms: names, in the order of reports.
        processes: that share the work; the figures do not depend on it.
    """

    budgets: tuple[int, ...] = BUDGETS
    seeds: int = SEEDS
    arms: tuple[str, ...] = tuple(BY_NAME)
    processes: int = 2


@dataclass(frozen=True, eq=False)
class Cell:
    """The figures of one arm with one budget and seed on one target."""

    target: str
    arm: str
    budget: int
    seed: int
    scores: Scores


def run(benches: Sequence[Bench], protocol: Protocol, say: Say) -> list[Cell]:
    """Everything, target by target.

    Raises:
        AgentError: a worker process died (out of memory, or killed).
    """
    jobs = [(b, protocol, seed) for b in benches for seed in range(protocol.seeds)]
    started, cells = time.monotonic(), list[Cell]()
    try:
        for number, part in enumerate(in_order(_job, jobs, protocol.processes), 1):
            cells += part
            spent = time.monotonic() - started
            where = f"{part[0].target}, seed {part[0].seed}" if part else "nothing to run"
            say(f"{number}/{len(jobs)}: {where} ({spent:.0f} s)")
    except WorkerDiedError as error:
        raise AgentError(
            "a worker process of the evaluation died, perhaps for want of memory",
            "Run it again with --processes 1; trained encoders are kept.",
        ) from error
    return cells


def _job(bench: Bench, protocol: Protocol, seed: int) -> list[Cell]:
    """All arms and budgets of one target and seed."""
    cells = []
    for name in protocol.arms:
        arm = BY_NAME[name]
        if name == "reference" and bench.reference is None:
            continue
        for budget in reachable(arm, bench, protocol.budgets):
            found = arm.predict(bench, drawn(arm, bench, budget, seed), seed)
            cells.append(Cell(bench.case.name, name, budget, seed, score(bench.truth, found)))
    return cells


def reachable(arm: Arm, bench: Bench, budgets: Sequence[int]) -> list[int]:
    """The budgets that make sense for an arm and that the target's labels reach."""
    case = bench.case
    planned = len(case.fixed_order)
    most = {
        "none": 0,
        "random": len(case.pool),
        "fixed": planned if len(case.fixed_draw(planned)) else 0,
        "candidates": min(planned, len(case.kernels)),
    }[arm.draw]
    least = 0 if arm.draw == "none" or arm.name == "median" else 1
    return [b for b in budgets if least <= b <= min(most, arm.most)]


def drawn(arm: Arm, bench: Bench, budget: int, seed: int) -> Indices:
    """The rows whose labels an arm may see."""
    if arm.draw == "random":
        return bench.case.random_draw(seed)[:budget]
    if arm.draw == "fixed":
        return bench.case.fixed_draw(budget)
    if arm.draw == "candidates":
        return bench.case.candidate_draw(seed)[:budget]
    return NONE
