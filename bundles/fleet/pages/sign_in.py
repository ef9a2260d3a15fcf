"""Signing in and out, as a browser does it."""

from __future__ import annotations

import math

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bundles.fleet.access import oidc, people
from bundles.fleet.access.centre import Denied, centre_of
from bundles.fleet.pages.rendering import form_page, templates


async def login(request: Request) -> Response:
    """Ask for name and password, or send to the identity provider."""
    centre = centre_of(request)
    if centre.settings.sign_in == "oidc":
        address, trip = await oidc.set_out(request)
        response: Response = RedirectResponse(address, 303)
        people.set_cookie(centre, response, "trip", trip, oidc.TRIP_S)
        return response
    if centre.settings.sign_in == "header":
        raise HTTPException(403, "The proxy in front of this centre did not say who you are.")
    return form_page(request, "login.html", {})


async def login_back(request: Request) -> Response:
    """Where the identity provider sends people back to."""
    response = _signed_in(request, await oidc.come_back(request))
    people.drop_cookie(centre_of(request), response, "trip")
    return response


async def take_login(request: Request) -> Response:
    """Name and password."""
    form = await people.checked_form(request)
    if centre_of(request).settings.sign_in != "password":
        raise HTTPException(403, "Nobody signs in that way here.")
    try:
        return _signed_in(request, await people.sign_in(request, form))
    except Denied as denied:
        status = 429 if denied.wait_s else 403
        response = form_page(request, "login.html", {"problem": str(denied)}, status)
        if denied.wait_s:
            response.headers["Retry-After"] = str(math.ceil(denied.wait_s))
        return response


async def take_logout(request: Request) -> Response:
    """End the session."""
    await people.checked_form(request)
    await people.sign_out(request)
    if centre_of(request).settings.sign_in == "password":
        response: Response = RedirectResponse("/login", 303)
    else:  # on to the provider would be to sign in again, and forms may lead to this site only
        response = HTMLResponse(templates().get_template("signed-out.html").render())
    people.drop_cookie(centre_of(request), response, "session")
    return response


def _signed_in(request: Request, cookies: people.Cookies) -> Response:
    response = RedirectResponse("/", 303)
    for what, (value, lasts_s) in cookies.items():
        people.set_cookie(centre_of(request), response, what, value, lasts_s)
    return response
