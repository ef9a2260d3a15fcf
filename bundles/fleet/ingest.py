"""Takes reports in: each is counted once, and acknowledged only after it is on the disk.

Requests that wait at the same time share one transaction (group commit): while one is being
committed the next batch gathers, so one writer carries a thousand requests a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from bundles.fleet import weeks
from bundles.fleet.database import COMPLAINT, Database
from bundles.fleet.report import Refusal, Report, row
from bundles.fleet.schema import progress, reports, seen

MOST_TOGETHER = 256  # reports in one transaction
MOST_WAITING = 4096  # beyond them, callers are asked to come again
TRY_AGAIN_S = 30
Clock = Callable[[], datetime]


class Unavailable(Exception):  # noqa: N818  an answer, not an error of ours
    """Nothing was lost or counted; the sender keeps its report and comes again."""


def store(database: Database, batch: Sequence[Report]) -> int:
    """Count reports in one transaction; those seen before, or of a closed week, change nothing.

    Returns:
        How many were new.
    """
    with database.writing() as connection:
        closed = connection.execute(select(progress.c.closed)).scalar_one()
        wanted = {_identity(r): r for r in reversed(batch)}  # of two alike the first one counts
        wanted = {key: report for key, report in wanted.items() if key[0] > closed}
        fresh = _unseen(database, connection, sorted(wanted))
        if fresh:
            # In an order of their own: where a row lies must not tell whose dedupe came with it.
            rows = sorted((row(wanted[key]) for key in fresh), key=repr)
            connection.execute(reports.insert(), rows)
        return len(fresh)


def _identity(report: Report) -> tuple[int, bytes]:
    return weeks.parse(report.week), bytes.fromhex(report.dedupe)


def _unseen(
    database: Database, connection: Connection, keys: Iterable[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    """Those not seen before, which now are. In sorted order, so that two writers never deadlock."""
    values = [{"week": week, "dedupe": dedupe} for week, dedupe in keys]
    if not values:
        return []
    statement = database.insert(seen).on_conflict_do_nothing().returning(seen.c.week, seen.c.dedupe)
    return [(week, bytes(dedupe)) for week, dedupe in connection.execute(statement, values)]


class Writer:
    """The one that writes reports, for every request of this process."""

    def __init__(self, database: Database, clock: Clock, late_weeks: int) -> None:
        self._database, self._clock, self._late = database, clock, late_weeks
        self._waiting: list[tuple[Report, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()

    async def take(self, report: Report) -> None:
        """Return once the report is counted for good (or was before).

        Raises:
            Refusal: its week is over, or has not begun.
            Unavailable: the database does not answer, or too many wait.
        """
        check_week(report, self._clock(), self._late)
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable("too many reports at once")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((report, done))
        self._wake.set()
        await done

    @contextlib.asynccontextmanager
    async def running(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """At work until the end of the context; then what waits is written first."""
        task = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            while self._waiting:
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._waiting[:MOST_TOGETHER]
            del self._waiting[:MOST_TOGETHER]
            if not self._waiting:
                self._wake.clear()
            await asyncio.shield(self._write(batch))

    async def _write(self, batch: Sequence[tuple[Report, asyncio.Future[None]]]) -> None:
        failed: Exception | None = None
        try:
            await asyncio.to_thread(store, self._database, [report for report, _ in batch])
        except (SQLAlchemyError, OSError) as error:
            COMPLAINT.tell(error)
            failed = Unavailable("the database does not answer")
            failed.__cause__ = error
        for _, done in batch:
            if done.done():  # its caller hung up
                continue
            if failed:
                done.set_exception(failed)
            else:
                done.set_result(None)


def check_week(report: Report, now: datetime, late: int) -> None:
    """Refusal where a report is of a week that is closed, or is to come."""
    week = weeks.parse(report.week)
    if weeks.is_open(week, now, late):
        return
    code = "week-closed" if week < weeks.of(now) else "week-to-come"
    raise Refusal(422, code, f"reports of {report.week} are not taken on {now:%Y-%m-%d}")
