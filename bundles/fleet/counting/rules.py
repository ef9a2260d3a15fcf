"""What holds for a database, whoever opens it: threshold, late weeks, which weeks are closed."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select, update

from agent.errors import AgentError, Exit, InputError
from bundles.fleet.counting import weeks
from bundles.fleet.settings import LATE_WEEKS, THRESHOLD
from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import progress

MOST_WEEKS_AT_ONCE = 8  # that are closed; more of them, and the clock is doubted


class ClockError(AgentError):
    """The clock and the weeks that are closed do not fit: one of them is wrong."""

    exit_code = Exit.PROBLEM


class Rules(NamedTuple):
    """As they are kept; None: never chosen."""

    closed: int
    threshold: int | None
    late_weeks: int | None

    def trouble(self, now: datetime) -> ClockError | None:
        """Why reports can neither be taken nor refused for good at this moment."""
        today, closed = f"{now:%Y-%m-%d}", weeks.week_text(self.closed)
        if self.closed >= weeks.week_of(now):
            return ClockError(
                f"weeks up to {closed} are closed, and it is {today}: the clock is or was wrong",
                "Set the clock right; if it is: bundles fleet reopen (see its --help).",
            )
        closing = weeks.last_closed(now, late_of(self))
        if self.closed and weeks.before(closing, MOST_WEEKS_AT_ONCE) > self.closed:
            return ClockError(
                f"it is {today}, and weeks up to {closed} only are closed: is the clock right?",
                "If it is, and the centre was off for so long: "
                "bundles fleet release --clock-is-right",
            )
        return None


def late_of(rules: Rules, given: int = LATE_WEEKS) -> int:
    """For how many weeks after its end reports of a week are taken."""
    return given if rules.late_weeks is None else rules.late_weeks


def kept_rules(connection: Connection) -> Rules:
    """What the database says."""
    columns = progress.c.closed, progress.c.threshold, progress.c.late_weeks
    return Rules(*connection.execute(select(*columns)).one())


def adopt_rules(
    database: Database, threshold: int | None, late_weeks: int | None, *, lower: bool = False
) -> tuple[int, int]:
    """Keep what was chosen, and otherwise leave what is kept.

    Returns:
        Threshold and late weeks that hold from now on.

    Raises:
        InputError: the threshold would fall, and nobody said ``lower``.
    """
    with database.writing(alone=True) as connection:
        before = kept_rules(connection)
        if threshold and threshold < (before.threshold or 0) and not lower:
            raise InputError(
                f"this database hides fewer than {before.threshold} machines, not {threshold}",
                "What is shown once is shown for good. To lower it all the same: --lower-threshold",
            )
        chosen = (
            threshold or before.threshold or THRESHOLD,
            late_of(before) if late_weeks is None else late_weeks,
        )
        connection.execute(update(progress).values(threshold=chosen[0], late_weeks=chosen[1]))
    return chosen


def reopen_weeks(database: Database, now: datetime, this_week: int) -> tuple[int, int]:
    """Take back what a clock that was ahead closed.

    Returns:
        Up to which week all was closed, and is now.

    Raises:
        InputError: it is another week by the clock, or nothing was closed too early.
    """
    if this_week != weeks.week_of(now):
        raise InputError(
            f"it is {weeks.week_text(weeks.week_of(now))} by this machine's clock, not "
            f"{weeks.week_text(this_week)}",
            "Set the clock right first.",
        )
    with database.writing(alone=True) as connection:
        before = kept_rules(connection)
        closed = weeks.last_closed(now, late_of(before))
        if before.closed <= closed:
            raise InputError(
                f"no week after {weeks.week_text(closed)} is closed", "There is nothing to reopen."
            )
        connection.execute(update(progress).values(closed=closed))
    return before.closed, closed
