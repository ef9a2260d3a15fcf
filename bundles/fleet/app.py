"""The ASGI application: routes, headers that browsers obey, releases that come by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bundles.fleet.access import centre
from bundles.fleet.access.oidc import ProviderDesk
from bundles.fleet.analysis import released
from bundles.fleet.api.routes import ROUTES as API
from bundles.fleet.counting import rules
from bundles.fleet.counting.ingest import Unavailable
from bundles.fleet.counting.release import mix, release_ready
from bundles.fleet.pages.routes import ROUTES as PAGES
from bundles.fleet.pages.routes import failed
from bundles.fleet.settings import CentreSettings
from bundles.fleet.storage.database import Database, driver_reason

LOG = logging.getLogger("bundles.fleet")
LOOK_EVERY_S = 60
MIX_EVERY_S = 900
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
ONLY_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}


def application(
    database: Database, settings: CentreSettings, threads: ThreadPoolExecutor | None = None
) -> ASGIApp:
    """A centre on a database that is open; whoever opened it closes it.

    Args:
        database: the reports'.
        settings: of the centre.
        threads: that talk to the database, and end with the centre; None: as many as asyncio takes.

    Raises:
        InputError: threads that ask the provider may not be started.
    """
    made = centre.new_centre(database, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if threads is not None:
            asyncio.get_running_loop().set_default_executor(threads)
        async with made.writer.running():
            releasing = asyncio.create_task(_release_by_itself(made))
            try:
                yield
            finally:
                releasing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await releasing
                await _note_plants(made)

    app = Starlette(
        routes=[*API, *PAGES],
        lifespan=lifespan,
        exception_handlers={
            HTTPException: failed,
            centre.Denied: failed,
            Unavailable: failed,
            Exception: failed,
        },
    )
    app.state.centre = made
    app.state.provider = ProviderDesk(settings.oidc) if settings.oidc else None
    app.router.redirect_slashes = (
        False  # it would believe the Host header, and lead away from https
    )
    return _Headers(app, HEADERS | (ONLY_HTTPS if settings.secure else {}))


class _Headers:
    """Adds headers to every answer that does not have them."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cached = scope["path"].startswith("/static/")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                has = {name for name, _ in message["headers"]}
                more = [pair for pair in self._headers if pair[0] not in has]
                if cached:
                    more = [p for p in more if p[0] != b"cache-control"]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, sending)


async def _release_by_itself(made: centre.Centre) -> None:
    """Release at fixed moments (midnight UTC, by default), not when a count is reached."""
    database, mixed = made.database, time.monotonic()
    while True:
        try:
            await asyncio.to_thread(release_if_due, database, made.settings)
            if time.monotonic() - mixed >= MIX_EVERY_S:
                await asyncio.to_thread(mix, database)
                mixed = time.monotonic()
        except Exception as error:  # noqa: BLE001  the next look may find it better
            LOG.warning("not released: %s", driver_reason(error))
        await _note_plants(made)
        await asyncio.sleep(LOOK_EVERY_S)


async def _note_plants(made: centre.Centre) -> None:
    """Keep which plants were heard of; one that is not noted is at its next report."""
    try:
        await asyncio.to_thread(made.heard.write, made.database)
    except Exception as error:  # noqa: BLE001  reports are what counts
        LOG.warning("plants not noted: %s", driver_reason(error))


def release_if_due(database: Database, settings: CentreSettings) -> int:
    """Release if one of the fixed moments has passed since the last time; how many machines."""
    now = settings.clock()
    with database.reading() as connection:
        before = released.released_at(connection) or 0
        if trouble := rules.kept_rules(connection).trouble(now):
            raise trouble
    if int(now.timestamp()) // settings.release_every_s == before // settings.release_every_s:
        return 0
    return release_ready(database, now, settings.threshold, settings.late_weeks)
