"""What machines and programs ask: reports in; cells, accuracies and verdicts out."""

from __future__ import annotations

import asyncio
import csv
import io
import math
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bundles.fleet import answers, metrics, released
from bundles.fleet.centre import Denied, of, read
from bundles.fleet.ingest import TRY_AGAIN_S, Unavailable, check_clock
from bundles.fleet.people import check_staff
from bundles.fleet.report import MAX_BYTES, Name, Refusal, Version, parse

BODY_WITHIN_S = 10.0
Handler = Callable[[Request], Awaitable[Response]]
Q = TypeVar("Q")


class Accepted(Struct, frozen=True):
    """The report is counted; one that was counted before is answered alike."""

    accepted: bool


class Problem(Struct, frozen=True):
    """Why not: one word for programs, a sentence for people."""

    code: str
    message: str


class Problems(Struct, frozen=True):
    """Every answer that is a refusal."""

    error: Problem


class Health(Struct, frozen=True):
    """The database answers, and the clock fits it."""

    ok: bool


class OfWeeks(Struct, forbid_unknown_fields=True):
    """How far back to look."""

    weeks: Annotated[int, Meta(ge=1, le=520)] = answers.SHOWN_WEEKS


class OfBundle(Struct, forbid_unknown_fields=True):
    """Which bundle."""

    bundle: Name
    version: Version


class OfAttribute(Struct, forbid_unknown_fields=True):
    """What to know of which bundle."""

    bundle: Name
    version: Version
    attribute: answers.Attribute = "used"


def answer(body: Any, status: int = 200) -> Response:
    """A record as JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def problem(status: int, code: str, message: str, wait_s: float = 0) -> Response:
    """A refusal as JSON; ``wait_s`` above 0 says when to come again."""
    response = answer(Problems(Problem(code, message)), status)
    if wait_s:
        response.headers["Retry-After"] = str(math.ceil(wait_s))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def refusing(handler: Handler) -> Handler:
    """Expected failures as answers."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return problem(refusal.status, refusal.code, str(refusal))
        except Denied as denied:
            status, code = (429, "too-fast") if denied.wait_s else (401, "unknown-caller")
            return problem(status, code, str(denied), denied.wait_s)
        except Unavailable as error:
            return problem(503, "unavailable", str(error), TRY_AGAIN_S)

    return handle


async def take_report(request: Request) -> Response:
    """A report; answered once it is on the disk."""
    response = await refusing(_take_report)(request)
    of(request).counts.add(response.status_code)
    return response


async def _take_report(request: Request) -> Response:
    centre, headers = of(request), request.headers
    if centre.settings.tokens_needed:
        await centre.tokens.check(headers.get("authorization", ""), "machine")
    if headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "encoded", "a report is sent as it is, not compressed")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "not-json", "a report is sent as application/json")
    await centre.writer.take(parse(await _body(request)))
    return answer(Accepted(accepted=True), 202)


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    break
    except TimeoutError as error:
        raise Refusal(408, "too-slow", "the report did not arrive in time") from error
    except ClientDisconnect as error:  # nobody is there to hear it; no fault of ours to log
        raise Refusal(400, "cut-off", "the report ended before it was whole") from error
    return bytes(body)


async def get_overview(request: Request) -> Response:
    """Bundles in force."""
    await check_staff(request)
    centre = of(request)
    return answer(await read(centre.database, answers.overview, centre.settings.threshold))


async def get_cells(request: Request) -> Response:
    """Every released cell."""
    return answer(await _cells(request))


async def get_csv(request: Request) -> Response:
    """The same as a table."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(answers.CellAnswer.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(cell) for cell in (await _cells(request)).cells)
    name = {"Content-Disposition": 'attachment; filename="fleet-cells.csv"'}
    return Response(table.getvalue(), media_type="text/csv", headers=name)


async def _cells(request: Request) -> answers.CellsAnswer:
    await check_staff(request)
    centre, asked = of(request), _query(request, OfWeeks)
    return await read(centre.database, answers.cells, centre.settings.threshold, asked.weeks)


async def get_accuracy(request: Request) -> Response:
    """How an attribute of a bundle is spread."""
    await check_staff(request)
    centre, asked = of(request), _query(request, OfAttribute)
    chosen = asked.bundle, asked.version, asked.attribute
    return answer(await read(centre.database, answers.accuracy, centre.settings.threshold, *chosen))


async def get_verdict(request: Request) -> Response:
    """Promote, wait or withdraw?"""
    await check_staff(request)
    centre, asked = of(request), _query(request, OfBundle)
    chosen = asked.bundle, asked.version
    return answer(await read(centre.database, answers.verdict, centre.settings.threshold, *chosen))


async def get_metrics(request: Request) -> Response:
    """For Prometheus."""
    await check_staff(request)
    centre = of(request)

    def look(connection: Connection) -> tuple[answers.CellsAnswer, int | None]:
        cells = answers.cells(connection, centre.settings.threshold, 1)
        return cells, released.released_at(connection)

    cells, moment = await read(centre.database, look)
    return Response(
        metrics.text(cells, centre.counts.answered, moment), headers={"Content-Type": metrics.TYPE}
    )


async def get_health(request: Request) -> Response:
    """Does the database answer, and does the clock fit it?"""
    centre = of(request)
    await read(centre.database, check_clock, centre.settings.clock())
    return answer(Health(ok=True))


async def get_openapi(_: Request) -> Response:
    """This interface, described."""
    from bundles.fleet.openapi import document

    return answer(document())


def _query(request: Request, kind: type[Q]) -> Q:
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(422, "bad-query", str(error)) from error


ROUTES = [
    Route("/v1/reports", take_report, methods=["POST"]),
    *(
        Route(path, refusing(handler), methods=["GET"])
        for path, handler in (
            ("/v1/overview", get_overview),
            ("/v1/cells", get_cells),
            ("/v1/cells.csv", get_csv),
            ("/v1/accuracy", get_accuracy),
            ("/v1/verdict", get_verdict),
            ("/v1/openapi.json", get_openapi),
            ("/metrics", get_metrics),
            ("/health", get_health),
        )
    ),
]
