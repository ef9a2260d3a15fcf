"""What to do with a bundle of pilot: from what samples of machines it is judged, as records.

Machines are counted over eight weeks by their first reports (``counting.evidence``), each once. If
these are too few (agents of schema 1 do not say what is a first report) the newest week that is not
too small decides, of the last four.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import Connection

from agent.terminal.numbers import Count
from bundles.fleet.analysis import released
from bundles.fleet.analysis.answers import InForce, Week, bundles_in_force
from bundles.fleet.analysis.figures import RELEASES
from bundles.fleet.analysis.released import EvidenceRow, ReleasedCell, Spread
from bundles.fleet.analysis.verdict import Code, PilotVerdict, Side, judge_pilot
from bundles.fleet.counting import weeks
from bundles.fleet.counting.evidence import EVIDENCE_WEEKS, UNKNOWN
from bundles.fleet.counting.lots import Part
from bundles.fleet.settings import USUAL_LIMITS, VerdictLimits

JUDGED_WEEKS = 4
MOST_JUDGED = 8  # bundles on the overview; any other has its verdict on request
RATE_WEEKS = 4  # the last ones, from which it is told how fast machines come
OFTEN = 7 * EVIDENCE_WEEKS + 1  # releases in that time, daily


class Difference(Struct, frozen=True):
    """Of two means, with its 95 % interval."""

    estimate: float
    low: float
    high: float


class ShareInterval(Struct, frozen=True):
    """Of a share, 95 %."""

    low: float
    high: float


class Needs(Struct, frozen=True):
    """Machines that are still missing; ``weeks``: until then, as they came lately; null: never.

    Of a verdict that is not clear: those that would settle it if they say what the others said.
    """

    pilot: int
    stable: int
    weeks: int | None


class VerdictAnswer(Struct, frozen=True):
    """What to do with a bundle of pilot; ``worse_by``: log error, pilot's less stable's.

    Machines are those that reported from the week ``since`` to ``week``, each counted once.
    """

    bundle: str
    version: str
    against: str | None
    week: Week | None
    verdict: Code
    why: list[str]
    pilot_machines: int
    stable_machines: int
    worse_by: Difference | None
    refused: ShareInterval | None
    since: Week | None = None
    needs: Needs | None = None


class _Sample(NamedTuple):
    """Reports of some weeks, of each machine and bundle one: cells, and how errors are spread."""

    since: int
    week: int
    cells: Sequence[ReleasedCell]
    spreads: Mapping[tuple[str, str, str], Mapping[str, Spread]]  # by channel, bundle, version
    releases: int
    evidence: Sequence[EvidenceRow] = ()


def verdict_answer(
    connection: Connection,
    threshold: int,
    bundle: str,
    version: str,
    limits: VerdictLimits = USUAL_LIMITS,
) -> VerdictAnswer:
    """Pilot against stable: over eight weeks, or else in the newest week that decides."""
    known = released.newest_weeks(connection, JUDGED_WEEKS)
    cells, rows = released.read_cells(connection, known), released.read_evidence(connection)
    now = _stable(cells) or _stable(_cells(rows))
    if now and now[1:] == (bundle, version):
        why = "Most machines of stable run it already: there is nothing to promote it over."
        return _no_verdict(bundle, version, why, weeks.week_text(now[0]))
    told = []
    until = released.released_week(connection)
    for sample in (
        *_over_weeks(rows, until),
        *(_of_week(connection, cells, week) for week in known),
    ):
        told.append(_judged(sample, (bundle, version), now, threshold, limits))
        if told[-1].verdict != "too-few":
            return told[-1]
    # The sum of many weeks may be smaller than one of them: older agents are not in it.
    best = max(told, key=lambda x: min(x.pilot_machines, x.stable_machines), default=None)
    why = f"Nothing that may be shown was reported of it: none, or fewer than {threshold} alike."
    return best or _no_verdict(bundle, version, why)


def candidates(
    connection: Connection, threshold: int, limits: VerdictLimits = USUAL_LIMITS
) -> list[VerdictAnswer]:
    """A verdict on the bundles that most pilots report on, but for the one that stable runs.

    Those of any week that may be judged: a new week begins with nothing.
    """
    known = released.newest_weeks(connection, JUDGED_WEEKS)
    found = released.read_cells(connection, known)
    gathered = _cells(released.read_evidence(connection))
    stable = _stable(found) or _stable(gathered)
    here: dict[tuple[str, str], int] = {}
    for one in (*bundles_in_force(found), *bundles_in_force(gathered)):
        name = one.bundle, one.version
        if one.channel == "pilot" and (not stable or name != stable[1:]):
            here[name] = max(here.get(name, 0), one.running + one.refused)
    most = sorted(here, key=lambda name: (-here[name], name))[:MOST_JUDGED]
    return [verdict_answer(connection, threshold, *name, limits) for name in most]


def _no_verdict(bundle: str, version: str, why: str, week: str | None = None) -> VerdictAnswer:
    return VerdictAnswer(bundle, version, None, week, "too-few", [why], 0, 0, None, None)


def _stable(found: Iterable[ReleasedCell]) -> tuple[int, str, str] | None:
    """What most stable machines run, in the newest week that knows: week, bundle, version."""
    found = list(found)
    for week in sorted({cell.week for cell in found}, reverse=True):
        if running := _running_on_stable(cell for cell in found if cell.week == week):
            return week, running[0].bundle, running[0].version
    return None


def _running_on_stable(found: Iterable[ReleasedCell]) -> list[InForce]:
    return [x for x in bundles_in_force(found) if x.channel == "stable" and x.running]


def _over_weeks(rows: Sequence[EvidenceRow], until: int) -> list[_Sample]:
    """All that counts now, where anything does; ``until``: the week that is looked from."""
    if not rows:
        return []
    spreads: dict[tuple[str, str, str], dict[str, Spread]] = {}
    for row in rows:
        if row.value != UNKNOWN:
            by = spreads.setdefault((row.channel, row.bundle, row.version), {})
            by[row.architecture] = (*by.get(row.architecture, ()), Part(row.value, row.machines))
    since = min(row.week for row in rows)
    return [_Sample(since, until, _cells(rows), spreads, OFTEN, rows)]


def _cells(rows: Iterable[EvidenceRow]) -> list[ReleasedCell]:
    return [ReleasedCell(*row[:6], row.machines) for row in rows]


def _of_week(connection: Connection, found: Iterable[ReleasedCell], week: int) -> _Sample:
    by = ("channel", "bundle", "version", "architecture")
    spreads: dict[tuple[str, str, str], dict[str, Spread]] = {}
    for (*key, architecture), spread in released.read_spreads(
        connection, "used", [week], by
    ).items():
        spreads.setdefault((key[0], key[1], key[2]), {})[architecture] = spread
    here = [cell for cell in found if cell.week == week]
    return _Sample(week, week, here, spreads, RELEASES)


def _judged(
    sample: _Sample,
    name: tuple[str, str],
    now: tuple[int, str, str] | None,
    threshold: int,
    limits: VerdictLimits,
) -> VerdictAnswer:
    """By one sample; against what stable runs now, or ran most where nobody told of that."""
    running = [(x.bundle, x.version) for x in _running_on_stable(sample.cells)]
    others = [x for x in running if x != name]
    against = now[1:] if now and now[1:] in others else (others[0] if others else None)
    pilot = _side(sample, "pilot", name)
    stable = _side(sample, "stable", against) if against else None
    given = judge_pilot(pilot, stable, threshold, limits)
    needs = _needs(sample, (pilot, stable), given)
    return VerdictAnswer(
        *name,
        "@".join(against) if against else None,
        weeks.week_text(sample.week),
        given.code,
        [*given.why, *_in_words(needs, sample.evidence, given.code)],
        *given.machines,
        Difference(*given.worse_by) if given.worse_by else None,
        ShareInterval(*given.refused) if given.refused else None,
        weeks.week_text(sample.since),
        needs,
    )


def _side(sample: _Sample, channel: str, name: tuple[str, str]) -> Side:
    mine = [c for c in sample.cells if (c.channel, c.bundle, c.version) == (channel, *name)]
    return Side(
        *name,
        sample.spreads.get((channel, *name), {}),
        reported=sum(cell.machines for cell in mine),
        refused=sum(cell.machines for cell in mine if cell.outcome == "refused"),
        releases=sample.releases,
    )


def _needs(sample: _Sample, sides: tuple[Side, Side | None], given: PilotVerdict) -> Needs | None:
    """What is missing until it can be said, and how long it takes to come."""
    pilot, stable = sides
    if given.missing is None or stable is None:
        return None
    shared = pilot.spreads.keys() & stable.spreads.keys()
    waits = []
    channels = ("pilot", pilot), ("stable", stable)
    for (channel, side), some, has in zip(channels, given.missing, given.machines, strict=True):
        whose = channel, side.bundle, side.version
        rows = [row for row in sample.evidence if whose == (row.channel, row.bundle, row.version)]
        known = [row for row in rows if row.architecture in shared and row.value != UNKNOWN]
        waits.append(_weeks_until(known, sample.week, some, has + some) if some else 0)
    found = [wait for wait in waits if wait is not None]
    return Needs(*given.missing, weeks=max(found) if len(found) == len(waits) else None)


def _weeks_until(rows: Sequence[EvidenceRow], week: int, missing: int, fewest: int) -> int | None:
    """Until so many more came, as fast as lately; None: by then the first ones count no more."""
    if not rows:
        return None
    since = weeks.before(week, RATE_WEEKS)
    seen = min(RATE_WEEKS, weeks.between(min(row.week for row in rows), week) + 1)
    rate = sum(row.machines for row in rows if row.week > since) / seen
    if rate * EVIDENCE_WEEKS < fewest:
        return None
    return math.ceil(missing / rate)


def _in_words(needs: Needs | None, evidence: Sequence[EvidenceRow], code: Code) -> list[str]:
    if needs is None:
        return []
    both = (
        f"{Count(needs.pilot):more pilot machine}",
        f"{Count(needs.stable):more stable machine}",
    )
    missing = " and ".join(words for words in both if not words.startswith("0 "))
    takes = f"It takes {missing}"
    if code == "unclear":
        takes = f"If they say what the others said, it takes about {missing}"
    if needs.weeks is not None:
        return [f"{takes}: about {Count(needs.weeks):week} at the rate of lately."]
    other = "judge from fewer (--judge-from)"
    if code == "unclear":
        other = "allow for more (--worse-by, --most-refused)"
    never = (
        f" At the rate of the last {RATE_WEEKS} weeks, {EVIDENCE_WEEKS} weeks do not bring enough: "
        f"put more machines on pilot, or {other}."
    )
    return [f"{takes}.{never if evidence else ''}"]
