"""What the centre says of its fleet, as typed records: the API sends them, the pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection

from agent.report.payload import CHANNELS, ERROR_STEP, SHARE_STEP, Channel, Outcome
from bundles.fleet.analysis import released
from bundles.fleet.analysis.figures import machines_of, quantiles
from bundles.fleet.analysis.released import ReleasedCell, Spread
from bundles.fleet.counting import weeks
from bundles.fleet.counting.report import LABELS

SHOWN_WEEKS = 12
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
    """Bundles in force in the newest week; ``under_way``: more of it is still to come.

    ``machines``: all whose reports are shown, those that are ``running`` a bundle and those that
    ``refused`` one.
    """

    threshold: int
    released_at: str | None
    week: Week | None
    under_way: bool
    weeks: list[Week]
    machines: int
    in_force: list[InForce]
    running: int = 0
    refused: int = 0


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
    last, in_force = released.released_at(connection), bundles_in_force(found)
    return OverviewAnswer(
        threshold,
        minute_text(last),
        weeks.week_text(known[0]) if known else None,
        bool(known) and (last or 0) < weeks.end(known[0]).timestamp(),
        [weeks.week_text(week) for week in known],
        sum(cell.machines for cell in found),
        in_force,
        sum(one.running for one in in_force),
        sum(one.refused for one in in_force),
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
