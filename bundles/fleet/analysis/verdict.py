"""Pilot against stable: promote a bundle, wait, or withdraw it? Pure; reads released counts only.

Two questions, each with a 95 % interval. Is the accuracy that machines get from it no worse than
what stable machines get from theirs (architectures compared one by one)? And do machines take it?
What the first interval rests on, ``figures.difference`` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.report.payload import ERROR_STEP
from bundles.fleet.analysis.figures import RELEASES, machines_of, mean_difference, wilson
from bundles.fleet.analysis.released import Spread
from bundles.fleet.counting.lots import MIXED
from bundles.fleet.settings import USUAL_LIMITS, VerdictLimits

Code = Literal["promote", "too-few", "unclear", "withdraw"]


@dataclass(frozen=True)
class Side:
    """What a channel's machines say of one bundle, each once.

    Attributes:
        bundle, version: whose.
        spreads: log error of the predictions in use, by architecture.
        reported: machines, whatever they say.
        refused: of these, how many declined it.
        releases: at most so many lots of an architecture they came in.
    """

    bundle: str
    version: str
    spreads: Mapping[str, Spread]
    reported: int = 0
    refused: int = 0
    releases: int = RELEASES


@dataclass(frozen=True)
class PilotVerdict:
    """What to do with a bundle of pilot, and why; intervals are 95 %.

    Attributes:
        code: what to do.
        why: one sentence a reason.
        machines: of pilot, and of stable, with a known accuracy, on architectures that both have;
            where refusals decide, all that reported on the two bundles.
        worse_by: how much larger the log error is in pilot: estimate, low, high; None: unknown.
        refused: share of pilot machines that declined it: low and high; None: unknown.
        missing: machines of pilot and of stable that would settle it, if they say what the others
            said; None: nobody can tell, or it is settled.
    """

    code: Code
    why: tuple[str, ...]
    machines: tuple[int, int] = (0, 0)
    worse_by: tuple[float, float, float] | None = None
    refused: tuple[float, float] | None = None
    missing: tuple[int, int] | None = None


def judge_pilot(
    pilot: Side, stable: Side | None, threshold: int, limits: VerdictLimits = USUAL_LIMITS
) -> PilotVerdict:
    """The verdict on a bundle of pilot.

    Args:
        pilot: the bundle in question.
        stable: what most stable machines run; None: there is nothing yet.
        threshold: fewer machines than this may have refused it unseen: they count as if they had.
        limits: of the centre.
    """
    hidden = threshold - 1
    low, _ = wilson(pilot.refused, pilot.reported)
    _, high = wilson(pilot.refused + hidden, pilot.reported + hidden)
    refused = (low, high)
    if pilot.reported >= limits.fewest and low > limits.most_refused:
        why = f"At least {percent_text(low)} of the machines that were offered it refused it."
        all_ = pilot.reported, stable.reported if stable else 0
        return PilotVerdict("withdraw", (why,), all_, refused=refused)
    if stable is None:
        return PilotVerdict("too-few", ("No bundle is in force on stable to compare with.",))
    shared = (pilot.spreads.keys() & stable.spreads.keys()) - {MIXED}
    machines = (
        sum(machines_of(pilot.spreads[x]) for x in shared),
        sum(machines_of(stable.spreads[x]) for x in shared),
    )
    if min(machines) < limits.fewest:
        few, below = _too_few(machines, limits.fewest), _below(machines, limits.fewest)
        return PilotVerdict("too-few", (few,), machines, refused=refused, missing=below)
    ours, theirs = ({x: side.spreads[x] for x in shared} for side in (pilot, stable))
    estimate, half = mean_difference(ours, theirs, ERROR_STEP, threshold, pilot.releases)
    if half is None:
        return PilotVerdict("unclear", (_no_interval(estimate),), machines, refused=refused)
    worse = estimate, estimate - half, estimate + half
    code, why_all = _decide(worse, refused, limits)
    missing = None
    if code == "unclear":
        unseen = pilot.refused + hidden, pilot.reported + hidden
        missing = _to_settle(machines, worse, unseen, limits)
    return PilotVerdict(code, why_all, machines, worse, refused, missing)


def _to_settle(
    machines: tuple[int, int],
    worse: tuple[float, float, float],
    refused: tuple[int, int],
    limits: VerdictLimits,
) -> tuple[int, int] | None:
    if worse[2] > limits.worse_by:
        return _to_be_narrower(machines, worse, limits.worse_by)
    return _to_be_taken(*refused, limits.most_refused), 0


def _below(machines: tuple[int, int], fewest: int) -> tuple[int, int]:
    pilot, stable = (max(0, fewest - some) for some in machines)
    return pilot, stable


def _to_be_narrower(
    machines: tuple[int, int], worse: tuple[float, float, float], margin: float
) -> tuple[int, int] | None:
    """Until the interval ends at the margin: its width falls with the root of the machines."""
    estimate, _, high = worse
    if estimate >= margin:
        return None
    growth = ((high - estimate) / (margin - estimate)) ** 2 - 1
    pilot, stable = (math.ceil(some * growth) for some in machines)
    return pilot, stable


def _to_be_taken(some: int, all_: int, most: float) -> int:
    """Machines that take it until at most such a share may have refused it."""
    more = 0
    while wilson(some, all_ + more)[1] > most:
        more += 1 + more // 50
    return more


def _decide(
    worse: tuple[float, float, float], refused: tuple[float, float], limits: VerdictLimits
) -> tuple[Code, tuple[str, ...]]:
    _, low, high = worse
    _, least, most = map(_more, worse)
    margin = percent_text(math.expm1(limits.worse_by))
    said = f"{_off(worse[0])} ({percent_text(0.95)}: {least} to {most})"
    if low > limits.worse_by:
        return "withdraw", (f"{said}: worse by more than {margin}.",)
    if high > limits.worse_by:
        return "unclear", (f"{said}: it may still be worse by more than {margin}.",)
    if refused[1] > limits.most_refused:
        return "unclear", (
            f"{said}: not worse.",
            f"But up to {percent_text(refused[1])} of the machines may have refused it; "
            f"below {percent_text(limits.most_refused)} is asked for.",
        )
    return "promote", (
        f"{said}: not worse.", f"At most {percent_text(refused[1])} of the machines refused it."
    )  # fmt: skip


def _off(estimate: float) -> str:
    return f"Its predictions are off by {_more(estimate)} than those on stable"


def _no_interval(estimate: float) -> str:
    return (
        f"{_off(estimate)}. How much of that is chance cannot be told: too few groups of machines "
        "of one architecture are known to see how much machines differ."
    )


def _more(worse: float) -> str:
    """A difference of log errors in words: 0.1 as "10.5 % more"."""
    return f"{percent_text(abs(math.expm1(worse)), 1)} {'more' if worse >= 0 else 'less'}"


def percent_text(share: float, digits: int = 0) -> str:
    """A share as people read it."""
    return f"{share * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def _too_few(machines: tuple[int, int], fewest: int) -> str:
    pilot, stable = machines
    return (
        f"Not enough comparable reports yet: needs {fewest} pilot and {fewest} stable machines of "
        f"the same architectures, has {pilot} and {stable}."
    )
