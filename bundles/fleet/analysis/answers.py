"""What the centre says of its fleet, as typed records: the API sends them, the pages show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection

from agent.report.payload import CHANNELS, ERROR_STEP, SHARE_STEP, Channel, Outcome
from bundles.fleet.analysis import released
from bundles.fleet.analysis.figures import machines_of, quantiles
from bundles.fleet.analysis.released import ReleasedCell, Spread
from bundles.fleet.analysis.verdict import Code, PilotVerdict, Side, judge_pilot
from bundles.fleet.counting import weeks
from bundles.fleet.counting.report import LABELS
from bundles.fleet.settings import JUDGE_FROM

SHOWN_WEEKS = 12
JUDGED_WEEKS = 4
MOST_JUDGED = 8  # bundles on the overview; any other has its verdict on request
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
STEPS: Mapping[str, float] = {
    "used": ERROR_STEP, "gain": ERROR_STEP,
    "calibrated_speedup": ERROR_STEP, "alone_speedup": ERROR_STEP,
    "calibrated_seconds": ERROR_STEP, "alone_seconds": ERROR_STEP,
    "calibrated_rank": SHARE_STEP, "alone_rank": SHARE_STEP,
    "calibrated_top": SHARE_STEP, "alone_top": SHARE_STEP,
}  # fmt: skip
Attribute = Literal[
    "used", "gain", "calibrated_speedup", "alone_speedup", "calibrated_seconds", "alone_seconds",
    "calibrated_rank", "alone_rank", "calibrated_top", "alone_top",
]  # fmt: skip
Week = Annotated[str, Meta(pattern="^[0-9]{4}-W[0-9]{2}$")]
Machines = Annotated[int, Meta(ge=1, description="never fewer than the threshold")]


class CellAnswer(Struct, frozen=True):
    """How many machines said the same of all this."""

    week: Week
    bundle: str
    version: str
    channel: Channel
    architecture: str
    outcome: Outcome
    machines: Machines


class CellsAnswer(Struct, frozen=True):
    """Every cell that was released, of the weeks asked for."""

    threshold: int
    released_at: str | None
    cells: list[CellAnswer]


class InForce(Struct, frozen=True):
    """What one channel's machines say of one bundle in one week.

    ``running`` machines use it, ``refused`` ones declined it; ``share`` is of all that run a
    bundle in this channel.
    """

    bundle: str
    version: str
    channel: Channel
    running: int
    share: float
    kept: int
    fell_back: int
    too_noisy: int
    refused: int


class OverviewAnswer(Struct, frozen=True):
    """Bundles in force in the newest week; ``under_way``: more of it is still to come."""

    threshold: int
    released_at: str | None
    week: Week | None
    under_way: bool
    weeks: list[Week]
    machines: int
    in_force: list[InForce]


class GroupAnswer(Struct, frozen=True):
    """Machines that lie beside each other, and their mean."""

    mean: float
    machines: Machines


class SpreadAnswer(Struct, frozen=True):
    """How an attribute is spread over the machines of one week, channel and architecture."""

    week: Week
    channel: str
    architecture: str
    machines: Machines
    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    groups: list[GroupAnswer]


class AccuracyAnswer(Struct, frozen=True):
    """One attribute of one bundle over weeks."""

    bundle: str
    version: str
    attribute: Attribute
    threshold: int
    spreads: list[SpreadAnswer]


class Difference(Struct, frozen=True):
    """Of two means, with its 95 % interval."""

    estimate: float
    low: float
    high: float


class Interval(Struct, frozen=True):
    """Of a share, 95 %."""

    low: float
    high: float


class VerdictAnswer(Struct, frozen=True):
    """What to do with a bundle of pilot; ``worse_by``: log error, pilot's less stable's."""

    bundle: str
    version: str
    against: str | None
    week: Week | None
    verdict: Code
    why: list[str]
    pilot_machines: int
    stable_machines: int
    worse_by: Difference | None
    refused: Interval | None


class LabelShare(Struct, frozen=True):
    """Machines with a label; what is not listed was too few to be told."""

    attribute: str
    label: str
    machines: Machines


def minute_text(seconds: int | None) -> str | None:
    """As ISO 8601, to the minute."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%MZ}" if seconds else None


def cells_answer(connection: Connection, threshold: int, count: int = SHOWN_WEEKS) -> CellsAnswer:
    """Every cell of the last ``count`` weeks."""
    found = released.read_cells(connection, released.newest_weeks(connection, count))
    told = [CellAnswer(weeks.week_text(cell.week), *cell[1:]) for cell in found]  # type: ignore[arg-type]
    return CellsAnswer(threshold, minute_text(released.released_at(connection)), told)


def overview_answer(connection: Connection, threshold: int) -> OverviewAnswer:
    """Bundles in force in the newest week of which something was released."""
    known = released.newest_weeks(connection, SHOWN_WEEKS)
    found = released.read_cells(connection, known[:1])
    last = released.released_at(connection)
    return OverviewAnswer(
        threshold,
        minute_text(last),
        weeks.week_text(known[0]) if known else None,
        bool(known) and (last or 0) < weeks.end(known[0]).timestamp(),
        [weeks.week_text(week) for week in known],
        sum(cell.machines for cell in found),
        bundles_in_force(found),
    )


def bundles_in_force(found: Iterable[ReleasedCell]) -> list[InForce]:
    """Cells by channel and bundle, most machines first."""
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    running: dict[str, int] = {}
    for cell in found:
        counted = counts.setdefault((cell.channel, cell.bundle, cell.version), {})
        counted[cell.outcome] = counted.get(cell.outcome, 0) + cell.machines
        if cell.outcome != "refused":
            running[cell.channel] = running.get(cell.channel, 0) + cell.machines
    told = []
    for (channel, bundle, version), of in counts.items():
        here = sum(machines for outcome, machines in of.items() if outcome != "refused")
        share = here / running[channel] if here else 0.0
        by = [of.get(outcome, 0) for outcome in ("kept", "fell-back", "too-noisy", "refused")]
        told.append(InForce(bundle, version, channel, here, share, *by))  # type: ignore[arg-type]
    return sorted(told, key=lambda x: (CHANNELS.index(x.channel), -x.running, x.bundle, x.version))


def accuracy_answer(
    connection: Connection, threshold: int, bundle: str, version: str, attribute: Attribute
) -> AccuracyAnswer:
    """How an attribute of a bundle is spread, week by week, channel and architecture."""
    found = released.read_spreads(
        connection,
        attribute,
        released.newest_weeks(connection, SHOWN_WEEKS),
        ("week", "channel", "architecture"),
        {"bundle": bundle, "version": version},
    )
    step = STEPS[attribute]
    told = [spread_answer((w, c, a), spread, step) for (w, c, a), spread in found.items()]
    return AccuracyAnswer(bundle, version, attribute, threshold, told)


def spread_answer(where: tuple[int, str, str], spread: Spread, step: float) -> SpreadAnswer:
    """Quantiles and groups, in the attribute's own unit; ``where``: week, channel, architecture."""
    week, channel, architecture = where
    told = [round(x, 4) for x in quantiles(spread, QUANTILES, step)]
    groups = [GroupAnswer(round(part.value * step, 4), part.machines) for part in spread]
    p10, p25, p50, p75, p90 = told
    return SpreadAnswer(
        week=weeks.week_text(week), channel=channel, architecture=architecture,
        machines=machines_of(spread), p10=p10, p25=p25, p50=p50, p75=p75, p90=p90, groups=groups,
    )  # fmt: skip


def label_shares(connection: Connection, week: int, bundle: str, version: str) -> list[LabelShare]:
    """Toolchains, numbers of timings and noise of the machines that reported on a bundle."""
    told = []
    for attribute, known in LABELS.items():
        where = {"bundle": bundle, "version": version}
        spreads = released.read_spreads(connection, attribute, [week], (), where)
        told += [
            LabelShare(attribute, known[part.value], part.machines) for part in spreads.get((), ())
        ]
    return told


def verdict_answer(
    connection: Connection, threshold: int, bundle: str, version: str, *, fewest: int = JUDGE_FROM
) -> VerdictAnswer:
    """Pilot against stable, in the newest week that decides."""
    judge = partial(judge_pilot, threshold=threshold, fewest=fewest)
    known = released.newest_weeks(connection, JUDGED_WEEKS)
    found = released.read_cells(connection, known)
    if (now := _stable(found)) and now[1:] == (bundle, version):
        why = "Most machines of stable run it already: there is nothing to promote it over."
        return _no_verdict(bundle, version, why, week=weeks.week_text(now[0]))
    told = []
    for week in known:
        here = [cell for cell in found if cell.week == week]
        told.append(_verdict_of(connection, judge, bundle, version, here, week))
        if told[-1].verdict != "too-few":
            return told[-1]
    best = max(told, key=lambda x: min(x.pilot_machines, x.stable_machines), default=None)
    return best or _no_verdict(bundle, version, "Nothing was reported of it.")


def _no_verdict(bundle: str, version: str, why: str, week: str | None = None) -> VerdictAnswer:
    return VerdictAnswer(bundle, version, None, week, "too-few", [why], 0, 0, None, None)


def _stable(found: Sequence[ReleasedCell]) -> tuple[int, str, str] | None:
    """What most stable machines run, in the newest week that knows: week, bundle, version."""
    for week in sorted({cell.week for cell in found}, reverse=True):
        for one in bundles_in_force(cell for cell in found if cell.week == week):
            if one.channel == "stable" and one.running:
                return week, one.bundle, one.version
    return None


def _verdict_of(
    connection: Connection,
    judge: Callable[[Side, Side | None], PilotVerdict],
    bundle: str,
    version: str,
    found: Sequence[ReleasedCell],
    week: int,
) -> VerdictAnswer:
    pilot = _side(connection, found, week, "pilot", bundle, version)
    now = [x for x in bundles_in_force(found) if x.channel == "stable" and x.running]
    others = [x for x in now if (x.bundle, x.version) != (bundle, version)]
    stable = None
    if others:
        stable = _side(connection, found, week, "stable", others[0].bundle, others[0].version)
    given = judge(pilot, stable)
    return VerdictAnswer(
        bundle,
        version,
        f"{stable.bundle}@{stable.version}" if stable else None,
        weeks.week_text(week),
        given.code,
        list(given.why),
        *given.machines,
        Difference(*given.worse_by) if given.worse_by else None,
        Interval(*given.refused) if given.refused else None,
    )


def _side(
    connection: Connection,
    found: Sequence[ReleasedCell],
    week: int,
    channel: str,
    bundle: str,
    version: str,
) -> Side:
    where = {"bundle": bundle, "version": version, "channel": channel}
    spreads = released.read_spreads(connection, "used", [week], ("architecture",), where)
    mine = [c for c in found if (c.channel, c.bundle, c.version) == (channel, bundle, version)]
    return Side(
        bundle,
        version,
        {architecture: spread for (architecture,), spread in spreads.items()},
        reported=sum(cell.machines for cell in mine),
        refused=sum(cell.machines for cell in mine if cell.outcome == "refused"),
    )


def candidates(
    connection: Connection, threshold: int, *, fewest: int = JUDGE_FROM
) -> list[VerdictAnswer]:
    """A verdict on the bundles that most pilots report on, but for the one that stable runs.

    Those of any week that may be judged: a new week begins with nothing.
    """
    found = released.read_cells(connection, released.newest_weeks(connection, JUDGED_WEEKS))
    stable = _stable(found)
    here = [x for x in bundles_in_force(found) if x.channel == "pilot"]
    here.sort(key=lambda x: -(x.running + x.refused))
    pilots = [
        (x.bundle, x.version) for x in here if not stable or (x.bundle, x.version) != stable[1:]
    ]
    return [
        verdict_answer(connection, threshold, *pilot, fewest=fewest)
        for pilot in pilots[:MOST_JUDGED]
    ]
