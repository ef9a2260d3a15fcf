"""Reads what was released. Nothing that is shown comes from anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, func, select

from bundles.fleet.counting.evidence import EVIDENCE_WEEKS
from bundles.fleet.counting.lots import Part
from bundles.fleet.counting.weeks import before, week_of
from bundles.fleet.storage.schema import cells, evidence, parts, progress


class ReleasedCell(NamedTuple):
    """How many machines said the same of all this."""

    week: int
    bundle: str
    version: str
    channel: str
    architecture: str
    outcome: str
    machines: int


Spread = tuple[Part, ...]
Where = Mapping[str, str]
Key = tuple[Any, ...]  # values of the columns asked for


def newest_weeks(connection: Connection, count: int) -> list[int]:
    """The last weeks of which something was released, newest first."""
    found = select(cells.c.week).distinct().order_by(cells.c.week.desc()).limit(count)
    return list(connection.execute(found).scalars())


def released_at(connection: Connection) -> int | None:
    """When the last release was, in seconds since 1970."""
    moment: int | None = connection.execute(select(progress.c.released_at)).scalar_one()
    return moment


def read_cells(
    connection: Connection, weeks: Iterable[int], where: Where | None = None
) -> list[ReleasedCell]:
    """The cells of some weeks, in the order of their columns."""
    wanted = [cells.c.week.in_(list(weeks)), *_equal(cells, where)]
    columns = [cells.c[name] for name in ReleasedCell._fields]
    found = select(*columns).where(*wanted).order_by(*columns)
    return [ReleasedCell._make(row) for row in connection.execute(found)]


def read_spreads(
    connection: Connection,
    attribute: str,
    weeks: Iterable[int],
    by: Sequence[str],
    where: Where | None = None,
) -> dict[Key, Spread]:
    """How an attribute is spread over machines, for each combination of the columns ``by``."""
    columns = [parts.c[name] for name in by]
    wanted = [parts.c.attribute == attribute, parts.c.week.in_(list(weeks)), *_equal(parts, where)]
    found = (
        select(*columns, parts.c.value, func.sum(parts.c.machines))
        .where(*wanted)
        .group_by(*columns, parts.c.value)
        .order_by(*columns, parts.c.value)
    )
    gathered: dict[Key, list[Part]] = {}
    for *key, value, machines in connection.execute(found):
        gathered.setdefault(tuple(key), []).append(Part(value, int(machines)))
    return {key: tuple(spread) for key, spread in gathered.items()}


def _equal(table: Table, where: Where | None) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in (where or {}).items()]


def released_week(connection: Connection) -> int:
    """The week of the last release; of 1970, where there was none."""
    return week_of(datetime.fromtimestamp(released_at(connection) or 0, UTC))


class EvidenceRow(NamedTuple):
    """Machines that told of a bundle for the first time in twelve weeks, released in a week.

    ``value``: the mean of their log error in bins; ``counting.evidence.UNKNOWN``: not known.
    """

    week: int
    bundle: str
    version: str
    channel: str
    architecture: str
    outcome: str
    value: int
    machines: int


def read_evidence(connection: Connection) -> list[EvidenceRow]:
    """What counts now: of the last ``EVIDENCE_WEEKS`` weeks, no machine twice."""
    wanted = evidence.c.week > before(released_week(connection), EVIDENCE_WEEKS)
    columns = [evidence.c[name] for name in EvidenceRow._fields]
    found = select(*columns).where(wanted).order_by(*columns)
    return [EvidenceRow._make(row) for row in connection.execute(found)]
