"""Every address for people, and what they see when something goes wrong."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bundles.fleet.access import oidc
from bundles.fleet.access.centre import Denied
from bundles.fleet.access.people import check_host
from bundles.fleet.api.replies import Handler, problem_response
from bundles.fleet.counting.ingest import Unavailable
from bundles.fleet.pages import sign_in, staff
from bundles.fleet.pages.rendering import HERE, templates


async def failed(request: Request, error: Exception) -> Response:
    """A page, or JSON below /v1, that says what went wrong."""
    status, words, wait_s = _said(error)
    headers = dict(getattr(error, "headers", None) or {})  # Allow, of a method that is not
    if request.url.path.startswith(("/v1/", "/metrics", "/health")):
        response = problem_response(status, "refused", words, wait_s)
        response.headers.update(headers)
        return response
    shown = templates().get_template("error.html").render(status=status, words=words)
    return HTMLResponse(
        shown, status, headers | ({"Retry-After": str(int(wait_s))} if wait_s else {})
    )


def _said(error: Exception) -> tuple[int, str, float]:
    if isinstance(error, HTTPException):
        return error.status_code, error.detail, 0
    if isinstance(error, Unavailable):
        return 503, "The database does not answer. Nothing is lost; try again in a minute.", 30
    if isinstance(error, Denied):
        return 429 if error.wait_s else 403, str(error), error.wait_s
    return 500, "Something went wrong here; the centre's log says what.", 0


def _page(path: str, handler: Handler, method: str = "GET") -> Route:
    async def handle(request: Request) -> Response:
        check_host(request)
        return await handler(request)

    return Route(path, handle, methods=[method])


ROUTES = [
    _page("/", staff.overview),
    _page("/bundle", staff.bundle),
    _page("/machines", staff.machines),
    _page("/api", staff.interface),
    _page("/help", staff.explained),
    _page("/login", sign_in.login),
    _page("/login", sign_in.take_login, "POST"),
    _page(oidc.BACK, sign_in.login_back),
    _page("/logout", sign_in.take_logout, "POST"),
    Mount("/static", StaticFiles(directory=HERE / "static")),
]
