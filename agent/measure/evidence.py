"""Evidence that something else disturbed a round, and notices for people, as data.

A round is judged by what the system says happened around it, never by the times it gave:
dropping slow values would bias every figure made from the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.measure.shots import Shots
from agent.measure.stats import quantile

MAX_STEAL = 0.01  # share of the round's CPU time
MAX_FOREIGN = 0.15  # CPUs' worth of other processes' work on our CPUs
FOREIGN_RESOLUTION_S = 0.025  # ticks are counted in 10 ms, on every CPU
MAX_SWITCHES_PER_S = 50.0
FEW_SWITCHES = 3  # always tolerated: kernel threads need the CPU now and then
NOISY_ROUND = 0.05  # log units, 90th percentile of |A/A|


@dataclass(frozen=True, slots=True)
class Round:
    """One paired round as it came from the worker.

    Attributes:
        seconds: (program, seconds per execution as it was) in the order run; program 0 is the
            base, 1 the base again (A/A), 2 + i the i-th variant.
        wall_s: duration; ``cpu_s``: CPU time of the worker's threads.
        steal_s: time of our CPUs taken by the hypervisor; ``busy_s``: worked for anybody.
        switches: involuntary context switches of the worker's threads.
        others: threads of others running or ready on the whole machine at the end.
        reasons: evidence of disturbance found (empty: an undisturbed round).
        samples: what ``seconds`` are the means of, in the same order; empty where not known.
    """

    seconds: tuple[tuple[int, float], ...]
    wall_s: float
    cpu_s: float
    steal_s: float
    busy_s: float
    switches: int
    others: int
    reasons: tuple[str, ...] = ()
    samples: tuple[Shots, ...] = ()

    def sample(self, program: int) -> Shots | None:
        """What was timed of ``program``; None where it took no part, or that is not known."""
        parts = zip(self.seconds, self.samples, strict=False)
        return next((sample for (timed, _), sample in parts if timed == program), None)

    @property
    def foreign_s(self) -> float:
        """CPU time other processes used on our CPUs (resolution: some 10 ms)."""
        return max(0.0, self.busy_s - self.cpu_s)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know: ``value`` is beyond ``limit``.

    Kinds: ``steal`` (share of CPU time), ``foreign-load`` (CPUs' worth), ``switches`` (a second),
    ``disturbed-rounds`` (share of the rounds used), ``noise`` (A/A, log units), ``few-rounds``
    (rounds), ``garbage`` (lines a program printed into the protocol), ``unpinned`` (1),
    ``not-finite`` (elements of the base's outputs that are NaN or infinite), ``rough`` (how far
    results may be off for their rounding alone, relative: wrong ones may pass),
    ``shared-cores`` (share of the shots beside which others used a core).
    """

    kind: str
    value: float
    limit: float


def disturbances(observed: Round, cpus: int, alone: bool) -> tuple[str, ...]:
    """Why this round should be done again; empty where nothing was seen.

    Args:
        observed: the round.
        cpus: how many CPUs the worker may use.
        alone: whether these are all CPUs of the machine (else the machine-wide count of
            runnable threads says nothing about ours).
    """
    wall = observed.wall_s
    foreign = observed.foreign_s
    found = {
        "steal": observed.steal_s > MAX_STEAL * wall * cpus,
        "foreign-load": foreign > max(MAX_FOREIGN * wall, FOREIGN_RESOLUTION_S),
        "switches": observed.switches > max(FEW_SWITCHES, MAX_SWITCHES_PER_S * wall),
        "runnable": alone and observed.others > 0,
    }
    return tuple(name for name, seen in found.items() if seen)


def notices(
    attempts: Sequence[Round], used: Sequence[Round], noise: Sequence[float], cpus: int, wanted: int
) -> tuple[Notice, ...]:
    """What to say about a measurement: shares over all attempts, and over the rounds used."""
    wall = sum(r.wall_s for r in attempts)
    if not wall or not used:
        return ()
    values = (
        ("steal", sum(r.steal_s for r in attempts) / (wall * cpus), MAX_STEAL),
        ("foreign-load", sum(r.foreign_s for r in attempts) / wall, MAX_FOREIGN),
        ("switches", sum(r.switches for r in attempts) / wall, MAX_SWITCHES_PER_S),
        ("disturbed-rounds", sum(bool(r.reasons) for r in used) / len(used), 0.0),
        ("noise", quantile([abs(x) for x in noise], 0.9) if noise else 0.0, NOISY_ROUND),
    )
    out = [Notice(kind, value, limit) for kind, value, limit in values if value > limit]
    if len(used) < wanted:
        out.append(Notice("few-rounds", len(used), wanted))
    return tuple(out)
