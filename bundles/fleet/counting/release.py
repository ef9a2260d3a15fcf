"""Turns pending reports into what may be shown: lots of ten machines or more, for good.

A lot is all pending reports with the same week, bundle, channel, architecture and outcome, once
there are enough of them; what is left over is pooled over architectures. Of each attribute a lot
tells means of ten machines, or labels that ten have. So every number that is stored here, and
every difference between what is shown today and what was shown yesterday, counts ``threshold``
machines or more (docs/explanation/fleet.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Table, delete, func, select, tuple_, update

from bundles.fleet.counting import rules, weeks
from bundles.fleet.counting.report import LABELS
from bundles.fleet.settings import LATE_WEEKS, THRESHOLD
from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import ATTRIBUTES, KEY, cells, parts, progress, reports, seen

MIXED = "mixed"  # architectures that are too few by themselves
MOST_PARTS = 24  # of one attribute in one lot: finer than that nobody looks

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
    """
    lacking = bins.get(None, 0)
    known = sum(bins.values()) - lacking
    if known < threshold or 0 < lacking < threshold:
        return []
    enough = max(threshold, -(-known // MOST_PARTS))
    groups: list[tuple[int, int]] = []  # machines, sum of their bins
    machines = total = 0
    for value, count in sorted((v, n) for v, n in bins.items() if v is not None):
        machines, total = machines + count, total + count * value
        if machines >= enough:
            groups.append((machines, total))
            machines = total = 0
    if machines:  # the highest ones, too few by themselves
        last = groups.pop()
        groups.append((last[0] + machines, last[1] + total))
    return _summed(Part(round(total / machines), machines) for machines, total in groups)


def labels(bins: Bins, threshold: int) -> list[Part]:
    """Labels with enough machines; one less where the rest could be told by subtraction."""
    shown = [Part(v, n) for v, n in bins.items() if v is not None and n >= threshold]
    rest = sum(bins.values()) - sum(part.machines for part in shown)
    if 0 < rest < threshold and shown:
        shown.remove(min(shown, key=lambda part: (part.machines, part.value)))
    return sorted(shown)


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
        done = _release_lots(database, connection, closed, max(threshold, kept.threshold or 0))
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


def _release_lots(database: Database, connection: Connection, closed: int, threshold: int) -> int:
    count = func.count()
    grouped = select(*_columns(), count).group_by(*_columns())
    pending = {CellKey(*found[:-1]): found[-1] for found in connection.execute(grouped)}
    ready = lots(pending, closed, threshold)
    shown = {group: lot.shown for lot in ready for group in lot.groups}
    if not shown:
        return 0
    _add(database, connection, cells, [
        {**lot.shown._asdict(), "machines": sum(pending[g] for g in lot.groups)} for lot in ready
    ])  # fmt: skip
    for attribute in ATTRIBUTES:
        _add(database, connection, parts, [
            {**group._asdict(), "attribute": attribute, **part._asdict()}
            for group, bins in _bins(connection, attribute, shown).items()
            for part in (labels if attribute in LABELS else tens)(bins, threshold)
        ])  # fmt: skip
    for some in _some(list(shown)):
        connection.execute(delete(reports).where(tuple_(*_columns()).in_(some)))
    return sum(pending[group] for group in shown)


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


def _some(groups: Sequence[CellKey], most: int = 100) -> Iterator[list[tuple[str | int, ...]]]:
    for start in range(0, len(groups), most):
        yield [tuple(group) for group in groups[start : start + most]]
