"""What machines say of a bundle for the first time in twelve weeks: each is counted once.

A week of a small site has no ten machines that are alike; eight weeks may. So the first report of a
machine (``first``) waits for others for up to four weeks, and counts for eight. A machine is first
again after twelve: whatever is summed up over eight weeks holds no machine twice, though nobody
can tell which reports of two weeks are one machine's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Connection, and_, delete, func, or_, select, tuple_

from agent.report.payload import ONCE_IN_WEEKS
from bundles.fleet.counting import weeks
from bundles.fleet.counting.lots import CellKey, lots, tens
from bundles.fleet.counting.pending import Group, add_up, portions, set_aside, shown_key
from bundles.fleet.counting.report import Report, pending_row
from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import evidence, firsts

EVIDENCE_WEEKS = 8  # for which a first report counts, from the week in which it was released
WAIT_WEEKS = ONCE_IN_WEEKS - EVIDENCE_WEEKS  # for nine others; longer, and some count twice
MOST_NAMES = 100  # bundles; a token can invent any number
UNKNOWN = -1  # the value of machines whose accuracy is not known
ALIKE = CellKey._fields[1:]  # columns: all but the week
NOT_JUDGED = ("refused", "too-noisy")  # outcomes that come without an accuracy


def first_rows(reports: Iterable[Report], labelled: frozenset[str]) -> list[dict[str, object]]:
    """Rows of what is said for the first time, in an order that tells nothing."""
    rows = [_row(report, labelled) for report in reports if report.first]
    judged = (row for row in rows if row["used"] is not None or row["outcome"] in NOT_JUDGED)
    return sorted(judged, key=repr)


def _row(report: Report, labelled: frozenset[str]) -> dict[str, object]:
    row = pending_row(report, labelled)
    return {name: row[name] for name in (*CellKey._fields, "used")}


def release(database: Database, connection: Connection, week: int, threshold: int) -> None:
    """Release every lot of firsts that is ready, under the week that it is; forget what is old."""
    _forget(connection, week)
    grouped = select(*_alike(), func.count()).group_by(*_alike())
    pending = {CellKey(week, *found[:-1]): found[-1] for found in connection.execute(grouped)}
    for lot in lots(pending, closed=0, threshold=threshold):
        least = lot.shown.least(threshold)
        machines = sum(pending[group] for group in lot.groups)
        groups = [group[1:] for group in lot.groups]
        waiting = set_aside(database, connection, firsts, groups, ALIKE, machines % least)
        parts = tens(_taken(connection, groups), least)
        unknown = machines - len(waiting) - sum(part.machines for part in parts)
        told = [*parts, *([(UNKNOWN, unknown)] if unknown else [])]
        key = shown_key(lot.shown)
        add_up(database, connection, evidence, (((*key, v), count) for v, count in told))
        if waiting:
            connection.execute(firsts.insert(), waiting)


def _taken(connection: Connection, groups: list[Group]) -> dict[int | None, int]:
    """How many machines of some groups have which log error, in bins; they wait no more."""
    bins: dict[int | None, int] = {}
    for some in portions(groups):
        of_them = tuple_(*_alike()).in_(some)
        counted = select(firsts.c.used, func.count()).where(of_them).group_by(firsts.c.used)
        for value, count in connection.execute(counted):
            bins[value] = bins.get(value, 0) + count
        connection.execute(delete(firsts).where(of_them))
    return bins


def _forget(connection: Connection, week: int) -> None:
    """What waited too long, and the names beyond those that most machines told of.

    Refusals wait as long as a machine counts once: a bundle is refused once, and nine unseen ones
    are allowed for, not nine every four weeks.
    """
    old = firsts.c.week <= weeks.before(week, WAIT_WEEKS)
    ancient = firsts.c.week <= weeks.before(week, ONCE_IN_WEEKS)
    connection.execute(delete(firsts).where(or_(ancient, and_(old, firsts.c.outcome != "refused"))))
    names = firsts.c.bundle, firsts.c.version
    ranked = select(*names).group_by(*names).order_by(func.count().desc(), *names)
    beyond = [tuple(row) for row in connection.execute(ranked)][MOST_NAMES:]
    for some in portions(beyond):
        connection.execute(delete(firsts).where(tuple_(*names).in_(some)))


def _alike() -> list[Column[Any]]:
    return [firsts.c[name] for name in ALIKE]
