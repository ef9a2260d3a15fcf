"""Machines whose site lets them say which they are: a row for each week in which one reported.

Labels come from outside: ``report.Label`` bounds one, ``MOST_LABELS`` how many there can be. What
comes with one more is counted as if it had none.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from sqlalchemy import Connection, delete, select

from bundles.fleet.counting import weeks
from bundles.fleet.counting.report import Report, pending_row
from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import labelled

MOST_LABELS = 1_000
KEPT_WEEKS = 26
_KEY = ("label", "week")


def keep_labelled(
    database: Database, connection: Connection, reports: Sequence[Report]
) -> frozenset[str]:
    """Keep what machines with a label say, the last of a week; two with one label are one machine.

    Returns:
        The labels that there is room for.
    """
    given = {report.label for report in reports if report.label is not UNSET}
    if not given:
        return frozenset()
    known = set(connection.scalars(select(labelled.c.label).distinct()))
    room = max(0, MOST_LABELS - len(known))
    kept = frozenset((given & known) | set(sorted(given - known)[:room]))
    rows = {tuple(row[k] for k in _KEY): row for row in map(_row, reports) if row["label"] in kept}
    if rows:
        statement = database.insert(labelled)
        others = [column.name for column in labelled.columns if column.name not in _KEY]
        statement = statement.on_conflict_do_update(
            index_elements=list(_KEY), set_={name: statement.excluded[name] for name in others}
        )
        connection.execute(statement, [rows[key] for key in sorted(rows)])
    return kept


def _row(report: Report) -> dict[str, object]:
    kept = pending_row(report)
    names = ("week", "bundle", "version", "channel", "architecture", "outcome")
    return {
        "label": None if report.label is UNSET else report.label,
        **{name: kept[name] for name in names},
        "calibrated": kept["calibrated_speedup"],
        "alone": kept["alone_speedup"],
    }


def forget_labelled(connection: Connection, week: int) -> None:
    """Drop what was said too long ago, and with it labels that are used no more."""
    connection.execute(delete(labelled).where(labelled.c.week <= weeks.before(week, KEPT_WEEKS)))
