"""What waits in a table: counted by group, drawn from by chance, added to what is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnClause, Connection, Table, delete, func, literal_column, select, tuple_

from bundles.fleet.counting.lots import CellKey
from bundles.fleet.storage.database import Database

Group = tuple[Any, ...]  # values of the columns that groups are told apart by


def set_aside(
    database: Database,
    connection: Connection,
    table: Table,
    groups: Sequence[Group],
    by: Sequence[str],
    count: int,
) -> list[dict[str, Any]]:
    """Take so many rows of some groups out; of the newest week first whichever chance draws.

    No machine is left for what it says. A row has no key of its own; both databases know where it
    lies.
    """
    if not count:
        return []
    place: ColumnClause[Any] = literal_column("ctid" if database.is_postgresql else "rowid")
    of_it = tuple_(*(table.c[name] for name in by)).in_(groups)
    order = table.c.week.desc(), func.random()
    drawn = select(place).select_from(table).where(of_it).order_by(*order).limit(count)
    taken = delete(table).where(place.in_(drawn)).returning(*table.columns)
    return [dict(row._mapping) for row in connection.execute(taken)]


def add_up(
    database: Database, connection: Connection, table: Table, rows: Iterable[tuple[Group, int]]
) -> None:
    """Add machines to the rows with these keys (in the order of columns), make the others."""
    sums: Counter[Group] = Counter()
    for key, machines in rows:
        sums[key] += machines
    if not sums:
        return
    names = [column.name for column in table.primary_key.columns]
    statement = database.insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=names,
        set_={"machines": table.c.machines + statement.excluded.machines},
    )
    connection.execute(statement, [
        {**dict(zip(names, key, strict=True)), "machines": machines}
        for key, machines in sorted(sums.items())
    ])  # fmt: skip


def portions(groups: Sequence[Group], most: int = 100) -> Iterator[list[Group]]:
    """Some at a time, as a statement takes only so many parameters."""
    for start in range(0, len(groups), most):
        yield [tuple(group) for group in groups[start : start + most]]


def shown_key(group: CellKey) -> Group:
    """Under which it is shown: who was labelled is told elsewhere."""
    return group[:-1]
