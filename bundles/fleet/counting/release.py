"""Turns pending reports into what may be shown: lots of whole tens of machines, for good.

A lot is pending reports with the same week, bundle, channel, architecture and outcome, in tens;
those beyond a whole ten, drawn at random, wait for others like them. What is left over when its
week closes is pooled over architectures. So every number that is stored here, every difference
between what is shown today and what was shown yesterday, and every difference between two weeks is
a multiple of ``threshold`` (docs/explanation/fleet.md), but for machines whose site labelled them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, delete, func, select, tuple_, update

from bundles.fleet.counting import evidence, rules, weeks
from bundles.fleet.counting.labelled import forget_labelled
from bundles.fleet.counting.lots import CellKey, labels, lots, tens
from bundles.fleet.counting.pending import add_up, portions, set_aside, shown_key
from bundles.fleet.counting.report import LABELS
from bundles.fleet.settings import LATE_WEEKS, THRESHOLD
from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import ATTRIBUTES, cells, firsts, parts, progress, reports, seen

MOST_NAMES = 100  # bundles of one week that have rows of their own; a token can invent any number
OTHER = "other"  # bundle and version under which the rest is counted


def release_ready(
    database: Database,
    now: datetime,
    threshold: int = THRESHOLD,
    late_weeks: int = LATE_WEEKS,
    *,
    sure: bool = False,
) -> int:
    """Release every lot that is ready, close the weeks that are over, forget who sent them.

    Args:
        database: whose reports.
        now: by the centre's clock.
        threshold: at least this; a higher one that is kept with the data holds.
        late_weeks: where none are kept with the data.
        sure: the clock is right, however many weeks are closed at once.

    Returns:
        How many machines' reports were released.

    Raises:
        ClockError: more weeks would be closed at once than a clock that is right would.
    """
    with database.writing(alone=True) as connection:
        kept = rules.kept_rules(connection)
        # A clock that went back opens no week again.
        closed = max(kept.closed, weeks.last_closed(now, rules.late_of(kept, late_weeks)))
        if closed > kept.closed and not sure and (trouble := kept.trouble(now)):
            raise trouble
        _fold_names(connection)
        least, done = max(threshold, kept.threshold or 0), 0
        while some := _release_lots(database, connection, closed, least):
            done += some  # and once more: what is beyond whole tens may be pooled
        evidence.release(database, connection, weeks.week_of(now), least)
        forget_labelled(connection, weeks.week_of(now))
        _close(connection, closed, now)
        _mix(database, connection)
    database.forget()
    return done


def mix(database: Database) -> None:
    """Write what waits anew, so that neither place nor transaction tells which report came when.

    A report and its dedupe value are written in one transaction, whose number PostgreSQL keeps
    with each row; afterwards all reports have the same one, and lie in an order of their own.
    """
    with database.writing(alone=True) as connection:
        _mix(database, connection)
    database.forget()


def _mix(database: Database, connection: Connection) -> None:
    if not database.is_postgresql:  # `seen` has no order but its own, and rows no number in common
        return
    for table in (reports, firsts):
        gone = delete(table).returning(*table.columns).cte("gone")
        again = select(*gone.columns).order_by(*gone.columns)
        connection.execute(table.insert().from_select(list(table.columns.keys()), again))


def _fold_names(connection: Connection) -> None:
    """Count what waits under more names than a week may have as another bundle's.

    Names that are shown in this week already keep their place, then those of weeks before, then
    those of most machines.
    """
    name = [reports.c[column] for column in ("week", "bundle", "version")]
    told = {tuple(row) for row in connection.execute(select(*(cells.c[c.name] for c in name)))}
    before = {row[1:] for row in told}
    waiting: dict[int, list[tuple[bool, int, tuple[Any, ...]]]] = {}
    for *row, machines in connection.execute(select(*name, func.count()).group_by(*name)):
        if (new := tuple(row)) not in told:
            waiting.setdefault(row[0], []).append((new[1:] not in before, -machines, new))
    for week, ranked in waiting.items():
        room = max(0, MOST_NAMES - sum(row[0] == week for row in told))
        for some in portions([new for *_, new in sorted(ranked)[room:]]):
            connection.execute(
                update(reports).where(tuple_(*name).in_(some)).values(bundle=OTHER, version=OTHER)
            )


def _release_lots(database: Database, connection: Connection, closed: int, threshold: int) -> int:
    grouped = select(*_columns(), func.count()).group_by(*_columns())
    pending = {CellKey(*found[:-1]): found[-1] for found in connection.execute(grouped)}
    ready = lots(pending, closed, threshold)
    shown = {group: lot.shown for lot in ready for group in lot.groups}
    if not shown:
        return 0
    sizes = {lot: sum(pending[group] for group in lot.groups) for lot in ready}
    beyond = {lot: machines % lot.shown.least(threshold) for lot, machines in sizes.items()}
    waiting = [
        row
        for lot, count in beyond.items()
        for row in set_aside(database, connection, reports, lot.groups, CellKey._fields, count)
    ]
    add_up(database, connection, cells, (
        (shown_key(lot.shown), machines - beyond[lot]) for lot, machines in sizes.items()
    ))  # fmt: skip
    for attribute in ATTRIBUTES:
        told = labels if attribute in LABELS else tens
        add_up(database, connection, parts, (
            ((*shown_key(group), attribute, part.value), part.machines)
            for group, bins in _bins(connection, attribute, shown).items()
            for part in told(bins, group.least(threshold))
        ))  # fmt: skip
    for some in portions(list(shown)):
        connection.execute(delete(reports).where(tuple_(*_columns()).in_(some)))
    if waiting:
        connection.execute(reports.insert(), waiting)
    done: int = sum(sizes.values()) - sum(beyond.values())
    return done


def _bins(
    connection: Connection, attribute: str, shown: Mapping[CellKey, CellKey]
) -> dict[CellKey, dict[int | None, int]]:
    """For each lot, by the group it is shown under, how many machines are in which bin."""
    column = reports.c[attribute]
    statement = select(*_columns(), column, func.count()).group_by(*_columns(), column)
    found: dict[CellKey, dict[int | None, int]] = {}
    for *key, value, machines in connection.execute(statement):
        if (under := shown.get(CellKey(*key))) is not None:
            bins = found.setdefault(under, {})
            bins[value] = bins.get(value, 0) + machines
    return found


def _close(connection: Connection, closed: int, now: datetime) -> None:
    """What is left of closed weeks was too few to be shown; who sent it need not be known more."""
    connection.execute(delete(reports).where(reports.c.week <= closed))
    connection.execute(delete(seen).where(seen.c.week <= closed))
    connection.execute(update(progress).values(closed=closed, released_at=int(now.timestamp())))


def _columns() -> list[Column[Any]]:
    return [reports.c[name] for name in CellKey._fields]


class Waiting(NamedTuple):
    """Reports that are counted and not shown, and how many machines a lot has; for the keeper."""

    waiting: int
    threshold: int


def still_waiting(connection: Connection) -> Waiting:
    """How many reports wait for others like them. No page may tell it."""
    count = connection.execute(select(func.count()).select_from(reports)).scalar_one()
    return Waiting(count, rules.kept_rules(connection).threshold or THRESHOLD)
