"""What the handlers of one running centre share, and who is asking them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request

from bundles.fleet import settings
from bundles.fleet.access import credentials
from bundles.fleet.access.heard import Heard
from bundles.fleet.access.limits import Buckets, Tries
from bundles.fleet.counting import weeks
from bundles.fleet.counting.ingest import Unavailable, Writer
from bundles.fleet.counting.probe import StorageProbe
from bundles.fleet.storage.database import COMPLAINT, Database

TOKENS_LOOKED_UP_S = 5.0
ASKED_AGAIN_S = 1.0  # of a database that does not answer: thousands of callers ask it once
P = ParamSpec("P")
T = TypeVar("T")


class Denied(Exception):  # noqa: N818  an answer, not an error of ours
    """The caller is not known; ``wait_s`` above 0: known, and too fast."""

    def __init__(self, message: str, wait_s: float = 0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Tokens:
    """The tokens in use, looked up again every few seconds."""

    def __init__(self, database: Database, chosen: settings.CentreSettings) -> None:
        self._database, self._rates = database, Buckets(chosen.per_minute)
        self._seconds = chosen.seconds
        self._known: dict[bytes, tuple[str, str]] | None = {}
        self._until = 0.0
        self._looking = asyncio.Lock()

    async def check(self, authorization: str, kind: credentials.Kind) -> str:
        """Let a bearer of a token pass.

        Returns:
            The name of the token.

        Raises:
            Denied: no such token, or too often.
            Unavailable: the database does not answer.
        """
        scheme, _, secret = authorization.partition(" ")
        known = await self._look()
        name, is_kind = known.get(credentials.secret_digest(secret), ("", ""))
        if scheme.lower() != "bearer" or is_kind != kind:
            raise Denied(f"a {kind} token is needed")
        if wait_s := self._rates.wait_s(name, self._seconds()):
            raise Denied("too many requests with this token", wait_s)
        return name

    async def _look(self) -> dict[bytes, tuple[str, str]]:
        async with self._looking:
            if time.monotonic() >= self._until:
                await self._look_again()
        if self._known is None:
            raise Unavailable("the database does not answer")
        return self._known

    async def _look_again(self) -> None:
        self._known, lasts_s = None, ASKED_AGAIN_S
        try:
            self._known = await read(self._database, credentials.tokens_in_use)
            lasts_s = TOKENS_LOOKED_UP_S
        except Unavailable:
            pass
        self._until = time.monotonic() + lasts_s


@dataclass
class Counts:
    """How many reports were answered how, since this process began."""

    answered: dict[int, int]

    def add(self, status: int) -> None:
        """One more."""
        self.answered[status] = self.answered.get(status, 0) + 1


@dataclass(frozen=True)
class Centre:
    """A running centre: what ``request.app.state.centre`` is."""

    settings: settings.CentreSettings
    database: Database
    writer: Writer
    tokens: Tokens
    counts: Counts
    heard: Heard
    tries: Tries
    probe: StorageProbe

    def now_s(self) -> int:
        """Seconds since 1970, by the centre's clock."""
        return int(self.settings.clock().timestamp())

    def this_week(self) -> int:
        """By the centre's clock."""
        return weeks.week_of(self.settings.clock())


def new_centre(database: Database, chosen: settings.CentreSettings) -> Centre:
    """A centre that is not at work yet."""
    return Centre(
        chosen,
        database,
        Writer(database, chosen.clock, chosen.late_weeks),
        Tokens(database, chosen),
        Counts({}),
        Heard(),
        Tries(),
        StorageProbe(database, chosen.clock),
    )


def centre_of(request: Request) -> Centre:
    """The centre that a request is for."""
    centre: Centre = request.app.state.centre
    return centre


async def read(
    database: Database,
    function: Callable[Concatenate[Connection, P], T],
    *arguments: P.args,
    **named: P.kwargs,
) -> T:
    """Call ``function`` with a snapshot, in a thread.

    Raises:
        Unavailable: the database does not answer.
    """

    def call() -> T:
        with database.reading() as connection:
            return function(connection, *arguments, **named)

    return await outside(call)


async def outside(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call what talks to the database in a thread.

    Raises:
        Unavailable: the database does not answer.
    """
    try:
        return await asyncio.to_thread(function, *arguments, **named)
    except SQLAlchemyError as error:
        COMPLAINT.tell(error)
        raise Unavailable("the database does not answer") from error
