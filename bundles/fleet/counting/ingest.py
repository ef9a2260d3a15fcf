"""Takes reports in: each is counted once, and acknowledged only after it is on the disk.

Requests that wait at the same time share one transaction (group commit): while one is being
committed the next batch gathers, so one writer carries a thousand requests a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from bundles.fleet.counting import rules, weeks
from bundles.fleet.counting.evidence import first_rows
from bundles.fleet.counting.labelled import keep_labelled
from bundles.fleet.counting.report import Refusal, Report, pending_row
from bundles.fleet.storage.database import COMPLAINT, Complaint, Database
from bundles.fleet.storage.schema import firsts, reports, seen

MOST_TOGETHER = 256  # reports in one transaction
MOST_WAITING = 4096  # beyond them, callers are asked to come again
TRY_AGAIN_S = 30
CLOCK_COMPLAINT = Complaint("reports are not taken")
Clock = Callable[[], datetime]


class Unavailable(Exception):  # noqa: N818  an answer, not an error of ours
    """Nothing was lost or counted; the sender keeps its report and comes again."""


class StoredBatch(NamedTuple):
    """What became of some reports: those of a closed week are not counted, the others are."""

    new: int
    rules: rules.Rules

    def refused(self, report: Report) -> bool:
        """Whether its week is closed: nobody knows any more whether it was counted."""
        return weeks.parse_week(report.week) <= self.rules.closed


def store_reports(database: Database, batch: Sequence[Report]) -> StoredBatch:
    """Count reports in one transaction; those seen before, or of a closed week, change nothing."""
    with database.writing() as connection:
        kept = rules.kept_rules(connection)
        wanted = {_identity(r): r for r in reversed(batch)}  # of two alike the first one counts
        wanted = {key: report for key, report in wanted.items() if key[0] > kept.closed}
        fresh = [wanted[key] for key in _unseen(database, connection, sorted(wanted))]
        if fresh:
            labels = keep_labelled(database, connection, fresh)
            # In an order of their own: where a row lies must not tell whose dedupe came with it.
            rows = sorted((pending_row(report, labels) for report in fresh), key=repr)
            connection.execute(reports.insert(), rows)
            if first := first_rows(fresh, labels):
                connection.execute(firsts.insert(), first)
        return StoredBatch(len(fresh), kept)


def _identity(report: Report) -> tuple[int, bytes]:
    return weeks.parse_week(report.week), bytes.fromhex(report.dedupe)


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
            Unavailable: the database does not answer, too many wait, or the clock is doubted.
        """
        try:
            check_week(report, self._clock(), self._late)
        except Refusal as refusal:
            raise await asyncio.to_thread(self._doubted, refusal) from None
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
        stored, failed = None, None
        try:
            stored = await asyncio.to_thread(
                store_reports, self._database, [report for report, _ in batch]
            )
        except Exception as error:  # noqa: BLE001  the others that wait are still written
            failed = _unavailable(error)
        for report, done in batch:
            if done.done():  # its caller hung up
                continue
            if stored and stored.refused(report):
                done.set_exception(
                    _answer(closed_week(report, self._clock()), stored.rules, self._clock())
                )
            elif failed:
                done.set_exception(failed)
            else:
                done.set_result(None)

    def _doubted(self, refusal: Refusal) -> Exception:
        """A refusal is for good, so it needs a clock that fits what is known."""
        try:
            with self._database.reading() as connection:
                return _answer(refusal, rules.kept_rules(connection), self._clock())
        except (SQLAlchemyError, OSError) as error:
            return _unavailable(error)


def check_clock_fits(connection: Connection, now: datetime) -> None:
    """Unavailable where the clock and the weeks that are closed do not fit."""
    if trouble := rules.kept_rules(connection).trouble(now):
        CLOCK_COMPLAINT.tell(trouble)
        raise Unavailable(str(trouble))


def _answer(refusal: Refusal, kept: rules.Rules, now: datetime) -> Exception:
    if trouble := kept.trouble(now):
        CLOCK_COMPLAINT.tell(trouble)
        return Unavailable(str(trouble))
    return refusal


def _unavailable(error: Exception) -> Unavailable:
    COMPLAINT.tell(error)
    failed = Unavailable("the database does not answer")
    failed.__cause__ = error
    return failed


def check_week(report: Report, now: datetime, late: int) -> None:
    """Refusal where a report is of a week that is closed, or is to come."""
    week = weeks.parse_week(report.week)
    if weeks.is_open(week, now, late):
        return
    if week < weeks.week_of(now):
        raise closed_week(report, now)
    raise _untaken("week-to-come", report, now)


def closed_week(report: Report, now: datetime) -> Refusal:
    """That its week is closed."""
    return _untaken("week-closed", report, now)


def _untaken(code: str, report: Report, now: datetime) -> Refusal:
    return Refusal(422, code, f"reports of {report.week} are not taken on {now:%Y-%m-%d}")
