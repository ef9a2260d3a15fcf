"""What machines and programs ask: reports in; cells, accuracies and verdicts out."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from typing import Annotated, Concatenate, ParamSpec, TypeVar

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from agent.report.payload import MAX_BYTES
from bundles.fleet.access.centre import centre_of, read
from bundles.fleet.analysis import answers, judging, released, sites
from bundles.fleet.api import metrics
from bundles.fleet.api.replies import Accepted, Health, json_response, refusing
from bundles.fleet.counting.report import Name, Refusal, Version, parse_report

BODY_WITHIN_S = 10.0
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
P = ParamSpec("P")
Q = TypeVar("Q")


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


async def take_report(request: Request) -> Response:
    """A report; answered once it is on the disk."""
    response = await refusing(_take_report)(request)
    centre_of(request).counts.add(response.status_code)
    return response


async def _take_report(request: Request) -> Response:
    centre, headers = centre_of(request), request.headers
    plant = ""
    if centre.settings.tokens_needed:
        plant = await centre.tokens.check(headers.get("authorization", ""), "machine")
    if headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "encoded", "a report is sent as it is, not compressed")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "not-json", "a report is sent as application/json")
    await centre.writer.take(parse_report(await _body(request)))
    if plant:
        centre.heard.note(plant, centre.this_week())
    return json_response(Accepted(accepted=True), 202)


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
    return json_response(await _look(request, answers.overview_answer))


async def get_cells(request: Request) -> Response:
    """Every released cell."""
    return json_response(await _cells(request))


async def get_csv(request: Request) -> Response:
    """The same as a table."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(answers.CellAnswer.__struct_fields__)
    for cell in (await _cells(request)).cells:
        writer.writerow(map(no_formula, msgspec.structs.astuple(cell)))
    name = {"Content-Disposition": 'attachment; filename="fleet-cells.csv"'}
    return Response(table.getvalue(), media_type="text/csv", headers=name)


def no_formula(value: object) -> object:
    """A text that a spreadsheet would reckon with, behind an apostrophe (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


async def _cells(request: Request) -> answers.CellsAnswer:
    return await _look(request, answers.cells_answer, _query(request, OfWeeks).weeks)


async def get_accuracy(request: Request) -> Response:
    """How an attribute of a bundle is spread."""
    asked = _query(request, OfAttribute)
    chosen = asked.bundle, asked.version, asked.attribute
    return json_response(await _look(request, answers.accuracy_answer, *chosen))


async def get_verdict(request: Request) -> Response:
    """Promote, wait or withdraw?"""
    asked = _query(request, OfBundle)
    limits = centre_of(request).settings.limits
    told = await _look(request, judging.verdict_answer, asked.bundle, asked.version, limits)
    return json_response(told)


async def get_plants(request: Request) -> Response:
    """Which plants report, by their tokens; which went silent."""
    centre = centre_of(request)
    return json_response(await read(centre.database, sites.plants_answer, centre.this_week()))


async def get_machines(request: Request) -> Response:
    """Machines that their site labelled, and what each said last."""
    centre = centre_of(request)
    return json_response(await read(centre.database, sites.machines_answer, centre.this_week()))


async def get_metrics(request: Request) -> Response:
    """For Prometheus."""
    centre = centre_of(request)

    def look(connection: Connection, threshold: int) -> str:
        return metrics.exposition(
            answers.cells_answer(connection, threshold, 1),
            centre.counts.answered,
            released.released_at(connection),
            sites.plants_answer(connection, centre.this_week()),
        )

    told = await _look(request, look)
    return Response(told, headers={"Content-Type": metrics.TYPE})


async def get_health(request: Request) -> Response:
    """Can reports be stored (tried at most once a second), and does the clock fit the database?"""
    await centre_of(request).probe.check()
    return json_response(Health(ok=True))


async def _look(
    request: Request,
    function: Callable[Concatenate[Connection, int, P], Q],
    *arguments: P.args,
    **named: P.kwargs,
) -> Q:
    """What was released, by the threshold of this centre."""
    centre = centre_of(request)
    return await read(centre.database, function, centre.settings.threshold, *arguments, **named)


def _query(request: Request, kind: type[Q]) -> Q:
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(422, "bad-query", str(error)) from error
