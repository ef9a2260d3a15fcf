"""How programs are answered: records as JSON; one shape for every refusal."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from bundles.fleet.access.centre import Denied
from bundles.fleet.access.people import check_staff
from bundles.fleet.counting.ingest import TRY_AGAIN_S, Unavailable
from bundles.fleet.counting.report import Refusal

Handler = Callable[[Request], Awaitable[Response]]


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
    """Reports can be stored, and the clock fits the database."""

    ok: bool


def json_response(body: object, status: int = 200) -> Response:
    """A record as JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def problem_response(status: int, code: str, message: str, wait_s: float = 0) -> Response:
    """A refusal as JSON; ``wait_s`` above 0 says when to come again."""
    response = json_response(Problems(Problem(code, message)), status)
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
            return problem_response(refusal.status, refusal.code, str(refusal))
        except Denied as denied:
            status, code = (429, "too-fast") if denied.wait_s else (401, "unknown-caller")
            return problem_response(status, code, str(denied), denied.wait_s)
        except Unavailable as error:
            return problem_response(503, "unavailable", str(error), TRY_AGAIN_S)

    return handle


def staff_only(handler: Handler) -> Handler:
    """For people who are signed in, and programs with a staff token."""

    async def handle(request: Request) -> Response:
        await check_staff(request)
        return await handler(request)

    return handle
