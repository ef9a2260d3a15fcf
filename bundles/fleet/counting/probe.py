"""Can a report be stored at this moment? Found out by storing something."""

from __future__ import annotations

import asyncio
import secrets
import time

from sqlalchemy import delete

from bundles.fleet.counting.ingest import Clock, Unavailable, check_clock_fits
from bundles.fleet.storage.database import COMPLAINT, Database, public_reason
from bundles.fleet.storage.schema import seen

KNOWN_FOR_S = 1.0
PATIENCE_S = 3.0  # then what was found the last time is said: a release may hold SQLite for longer


class StorageProbe:
    """Tries at most once a second, however many ask."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._trouble, self._known_until = "", 0.0
        self._trying: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Return if reports can be stored.

        Raises:
            Unavailable: they cannot, or the clock is doubted; why.
        """
        if self._trying is None and time.monotonic() >= self._known_until:
            self._trying = asyncio.create_task(self._try())
        if self._trying is not None:
            await asyncio.wait({self._trying}, timeout=PATIENCE_S)
        if self._trouble:
            raise Unavailable(self._trouble)

    async def _try(self) -> None:
        try:
            await asyncio.to_thread(self._store_and_delete)
            self._trouble = ""
        except Unavailable as error:
            self._trouble = str(error)
        except Exception as error:  # noqa: BLE001  whatever it is, nothing was stored
            COMPLAINT.tell(error)
            self._trouble = f"nothing can be stored: {public_reason(error)}"
        self._known_until, self._trying = time.monotonic() + KNOWN_FOR_S, None

    def _store_and_delete(self) -> None:
        mine = {"week": 0, "dedupe": secrets.token_bytes(32)}  # of no week that there is
        with self._database.writing() as connection:
            check_clock_fits(connection, self._clock())
            connection.execute(seen.insert(), mine)
            connection.execute(
                delete(seen).where(seen.c.week == 0, seen.c.dedupe == mine["dedupe"])
            )
