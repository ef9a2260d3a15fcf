"""Turns pending reports into what may be shown: lots of whole tens of machines, for good.

A lot is pending reports with the same week, bundle, channel, architecture and outcome, in tens;
those beyond a whole ten, drawn at random, wait for others like them. What is left over when its
week closes is pooled over architectures. Of each attribute a lot tells means of ten machines, or
labels in tens. So every number that is stored here, every difference between what is shown today
and what was shown yesterday, and every difference between two weeks is a multiple of ``threshold``
(docs/explanation/fleet.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnClause,
    Connection,
    Table,
    delete,
    func,
    literal_column,
    select,
    tuple_,
    update,
)  # fmt: skip

from bundles.fleet.counting import rules, weeks
from bundles.fleet.counting.report import LABELS
from bundles.fleet.settings import LATE_WEEKS, THRESHOLD
from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import ATTRIBUTES, KEY, cells, parts, progress, reports, seen

MIXED = "mixed"  # architectures that are too few by themselves
MOST_PARTS = 24  # of one attribute in one lot: finer than that nobody looks
MOST_NAMES = 100  # bundles of one week that have rows of their own; a token can invent any number
OTHER = "other"  # bundle and version under which the rest is counted

Bins = Mapping[int | None, int]  # machines in each bin; None: not known of them


class CellKey(NamedTuple):
    """What the machines of a pending group have in common; the columns of ``schema.KEY``."""

    week: int
    bundle: str
    version: str
    channel: str
    architecture: str
    outcome: str


class Part(NamedTuple):
    """So many machines with a label, or whose bins have this mean (rounded to a bin)."""

    value: int
    machines: int


class Lot(NamedTuple):
    """What is released as one: the groups it takes, and under which it is shown."""

    shown: CellKey
    groups: tuple[CellKey, ...]


def lots(pending: Mapping[CellKey, int], closed: int, threshold: int) -> list[Lot]:
    """Which groups are released now.

    Rare outcomes are pooled over architectures at every release, so that never as many as
    ``threshold`` of them stay unseen; kept ones wait for others of their architecture until their
    week is over. What is too few even then is never shown.
    """
    large = [Lot(group, (group,)) for group, n in pending.items() if n >= threshold]
    pools: dict[CellKey, list[CellKey]] = {}
    for group, machines in pending.items():
        if machines < threshold and (group.week <= closed or group.outcome != "kept"):
            pools.setdefault(group._replace(architecture=MIXED), []).append(group)
    pooled = [
        Lot(shown, tuple(groups))
        for shown, groups in pools.items()
        if sum(pending[g] for g in groups) >= threshold
    ]
    return sorted(large + pooled)


def tens(bins: Bins, threshold: int) -> list[Part]:
    """A distribution as its machines in order, ten by ten: of each group only the mean is told.

    Nothing at all where so few have a value, or so few lack one, that saying so would tell on them.
    Where some lack one, the others may be no whole tens: all groups have a share of the rest, which
    is not counted.
    """
    lacking = bins.get(None, 0)
    known = sum(bins.values()) - lacking
    if known < threshold or 0 < lacking < threshold:
        return []
    values = sorted((v, n) for v, n in bins.items() if v is not None)
    machines = [value for value, count in values for _ in range(count)]
    all_tens = known // threshold
    groups = min(all_tens, MOST_PARTS)
    cuts = [all_tens * group // groups for group in range(groups + 1)]
    return _summed(
        Part(
            round(fmean(machines[a * known // all_tens : b * known // all_tens])),
            (b - a) * threshold,
        )
        for a, b in pairwise(cuts)
    )


def labels(bins: Bins, threshold: int) -> list[Part]:
    """Labels that enough machines have, in tens: the rest of a lot is tens then, or none."""
    return sorted(
        Part(v, n - n % threshold) for v, n in bins.items() if v is not None and n >= threshold
    )


def _summed(groups: Iterable[Part]) -> list[Part]:
    sums: dict[int, int] = {}
    for value, machines in groups:
        sums[value] = sums.get(value, 0) + machines
    return [Part(value, machines) for value, machines in sorted(sums.items())]


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
    gone = delete(reports).returning(*reports.columns).cte("gone")
    again = select(*gone.columns).order_by(*gone.columns)
    connection.execute(reports.insert().from_select(list(reports.columns.keys()), again))


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
        for some in _some([new for *_, new in sorted(ranked)[room:]]):
            connection.execute(
                update(reports).where(tuple_(*name).in_(some)).values(bundle=OTHER, version=OTHER)
            )


def _release_lots(database: Database, connection: Connection, closed: int, threshold: int) -> int:
    count = func.count()
    grouped = select(*_columns(), count).group_by(*_columns())
    pending = {CellKey(*found[:-1]): found[-1] for found in connection.execute(grouped)}
    ready = lots(pending, closed, threshold)
    shown = {group: lot.shown for lot in ready for group in lot.groups}
    if not shown:
        return 0
    sizes = {lot: sum(pending[group] for group in lot.groups) for lot in ready}
    waiting = [
        row
        for lot, machines in sizes.items()
        for row in _set_aside(database, connection, lot, machines % threshold)
    ]
    whole = {lot: machines - machines % threshold for lot, machines in sizes.items()}
    _add(database, connection, cells, [
        {**lot.shown._asdict(), "machines": machines} for lot, machines in whole.items()
    ])  # fmt: skip
    for attribute in ATTRIBUTES:
        _add(database, connection, parts, [
            {**group._asdict(), "attribute": attribute, **part._asdict()}
            for group, bins in _bins(connection, attribute, shown).items()
            for part in (labels if attribute in LABELS else tens)(bins, threshold)
        ])  # fmt: skip
    for some in _some(list(shown)):
        connection.execute(delete(reports).where(tuple_(*_columns()).in_(some)))
    if waiting:
        connection.execute(reports.insert(), waiting)
    return sum(whole.values())


def _set_aside(
    database: Database, connection: Connection, lot: Lot, count: int
) -> list[dict[str, Any]]:
    """Take so many reports of a lot out, whichever chance draws: no machine is left for what it is.

    A report has no key of its own; both databases know where a row lies.
    """
    if not count:
        return []
    place: ColumnClause[Any] = literal_column("ctid" if database.is_postgresql else "rowid")
    of_it = tuple_(*_columns()).in_([tuple(group) for group in lot.groups])
    drawn = select(place).select_from(reports).where(of_it).order_by(func.random()).limit(count)
    taken = delete(reports).where(place.in_(drawn)).returning(*reports.columns)
    return [dict(row._mapping) for row in connection.execute(taken)]


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


def _add(
    database: Database,
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, str | int]],
) -> None:
    """Add ``machines`` to the rows that are there, make the others."""
    if not rows:
        return
    keys = [c.name for c in table.primary_key.columns]
    statement = database.insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=keys,
        set_={"machines": table.c.machines + statement.excluded.machines},
    )
    connection.execute(statement, sorted(rows, key=lambda r: [r[k] for k in keys]))


def _close(connection: Connection, closed: int, now: datetime) -> None:
    """What is left of closed weeks was too few to be shown; who sent it need not be known more."""
    connection.execute(delete(reports).where(reports.c.week <= closed))
    connection.execute(delete(seen).where(seen.c.week <= closed))
    connection.execute(update(progress).values(closed=closed, released_at=int(now.timestamp())))


def _columns() -> list[Column[Any]]:
    return [reports.c[name] for name in KEY]


def _some(
    groups: Sequence[tuple[Any, ...]], most: int = 100
) -> Iterator[list[tuple[str | int, ...]]]:
    for start in range(0, len(groups), most):
        yield [tuple(group) for group in groups[start : start + most]]
