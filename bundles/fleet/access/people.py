"""Who a browser is: a password here, a header of the proxy in front, or OpenID Connect.

Sessions are in the database (their SHA-256), so that signing out, a new password and another
process all mean the same. Forms carry a secret that only a page of ours can know.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import math
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bundles.fleet.access import credentials
from bundles.fleet.access.centre import Centre, Denied, centre_of, outside, read

MOST_FORM_BYTES = 8192
FORM_WITHIN_S = 10.0
FULL_WAIT_S = 5.0  # what is said when all places to wait are taken
VISITOR_S, KNOWN_S = 30 * 86_400, 180 * 86_400
Cookies = dict[str, tuple[str, int]]  # what for: value, and for how many seconds


def cookie_name(centre: Centre, what: str) -> str:
    """With https a name that no other host below this one can set."""
    return f"__Host-fleet-{what}" if centre.settings.secure else f"fleet-{what}"


def set_cookie(centre: Centre, response: Response, what: str, value: str, lasts_s: int) -> None:
    """A cookie that scripts never see, and other sites' forms never bring."""
    response.set_cookie(
        cookie_name(centre, what), value, lasts_s, path="/", httponly=True,
        secure=centre.settings.secure, samesite="lax",
    )  # fmt: skip


def drop_cookie(centre: Centre, response: Response, what: str) -> None:
    """Have a browser forget one."""
    response.delete_cookie(cookie_name(centre, what), secure=centre.settings.secure)


def cookie(request: Request, what: str) -> str:
    """Its value; empty where there is none."""
    return request.cookies.get(cookie_name(centre_of(request), what), "")


async def person(request: Request) -> str | None:
    """Who is asking; None where nobody is signed in."""
    centre = centre_of(request)
    if centre.settings.sign_in == "header":
        host = request.client.host if request.client else ""
        names = request.headers.getlist(centre.settings.proxy_header)
        # Two: the proxy added its own to one that came from outside.
        name = names[0] if len(names) == 1 and host in centre.settings.proxies else ""
        return name[:256] if name and may_read(centre, name) else None
    if not (secret := cookie(request, "session")):
        return None
    return await read(centre.database, credentials.session_of, secret, centre.now_s())


def may_read(centre: Centre, name: str) -> bool:
    """Whether a person that a proxy or provider vouches for is one of those meant."""
    allowed = centre.settings.allowed
    return not allowed or any(
        name.lower() == one.lower() or (one[:1] == "@" and name.lower().endswith(one.lower()))
        for one in allowed
    )


async def sign_in(request: Request, form: FormData) -> Cookies:
    """A new session, and a mark by which this browser is known the next time.

    Raises:
        Denied: wrong name or password, or too many tries.
    """
    centre = centre_of(request)
    database, tries, now = centre.database, centre.tries, centre.settings.seconds()
    name, password = str(form.get("name", ""))[:64], str(form.get("password", ""))[:1024]
    if browser := await _known(request, name):
        wait_s, line = tries.of_a_browser.wait_s(browser, now), tries.known
    else:
        wait_s, line = tries.of_strangers.wait_s("", now), tries.strangers
        wait_s = wait_s or tries.of_a_name.wait_s(name, now)
    if wait_s:
        raise _too_many(wait_s)
    async with line.place() as there_is_one:
        if not there_is_one:
            raise _too_many(FULL_WAIT_S)
        right = await read(database, credentials.password_is, name, password)
    if not right:
        raise Denied("No such name and password.")
    nonce = secrets.token_urlsafe(32)
    mark = await read(database, credentials.mark, name, nonce)
    return await begin_session(request, name) | {"known": (f"{nonce}.{mark}", KNOWN_S)}


async def _known(request: Request, name: str) -> str:
    """What is known of a browser in which ``name`` signed in before; empty for any other."""
    nonce, _, given = cookie(request, "known").partition(".")
    if not given:
        return ""
    right = await read(centre_of(request).database, credentials.mark, name, nonce)
    return nonce if hmac.compare_digest(right.encode(), given.encode()) else ""


def _too_many(wait_s: float) -> Denied:
    return Denied(f"Too many tries. Try again in {math.ceil(wait_s)} s.", wait_s)


async def begin_session(request: Request, name: str) -> Cookies:
    """A new session; the one that this browser had ends, and its forms are void."""
    centre = centre_of(request)
    await sign_out(request)
    secret = await outside(credentials.start_session, centre.database, name, centre.now_s())
    return {
        "session": (secret, credentials.SESSION_S),
        "visitor": (new_visitor(), VISITOR_S),
    }


async def sign_out(request: Request) -> None:
    """End the session of a browser, where it has one."""
    if secret := cookie(request, "session"):
        await outside(credentials.end_session, centre_of(request).database, secret)


def new_visitor() -> str:
    """A secret for a browser that has none yet: what its forms are bound to."""
    return secrets.token_urlsafe(32)


def form_secret(visitor: str) -> str:
    """What a form of this browser must carry."""
    return hashlib.sha256(b"form\n" + visitor.encode()).hexdigest()


async def checked_form(request: Request) -> FormData:
    """A form that one of our own pages sent.

    Raises:
        HTTPException: 400, 403, 408 or 413.
    """
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MOST_FORM_BYTES:
        raise HTTPException(413, "That form is too large.")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise HTTPException(400, "That is no form of this page.")
    try:
        async with asyncio.timeout(FORM_WITHIN_S):
            form = await request.form(max_files=0, max_fields=10)
    except TimeoutError as error:
        raise HTTPException(408, "That form did not arrive in time.") from error
    except ClientDisconnect as error:  # nobody is there to hear it; no fault of ours to log
        raise HTTPException(400, "That form ended before it was whole.") from error
    visitor, given = cookie(request, "visitor"), str(form.get("form", ""))
    same = visitor and hmac.compare_digest(form_secret(visitor).encode(), given.encode())
    if not same or not _from_here(request):
        raise HTTPException(403, "That form is not from this page, or too old. Open it again.")
    return form


def _from_here(request: Request) -> bool:
    """Where a browser says which site sent a form, it must be this one."""
    origin = request.headers.get("origin", "")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    here = {
        request.headers.get("host", ""),
        urlsplit(centre_of(request).settings.public_url).netloc,
    }
    return not origin or urlsplit(origin).netloc in here


def check_host(request: Request) -> None:
    """Let a browser pass that came by this centre's own name, or by a number (RFC 9110, 7.4).

    Another name that leads here may be somebody else's (DNS rebinding). Machines may use any: what
    they send has no cookies, and what they are answered repeats no name.

    Raises:
        HTTPException: 421.
    """
    name, public = request.url.hostname or "", centre_of(request).settings.public_url
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return
    if name.lower() not in ("localhost", (urlsplit(public).hostname or "")):
        raise HTTPException(421, f"This centre is at {public} (--public-url), by no other name.")


async def check_staff(request: Request) -> None:
    """Let a person who is signed in, or a staff token, pass; Denied otherwise."""
    if authorization := request.headers.get("authorization"):
        await centre_of(request).tokens.check(authorization, "staff")
    elif await person(request) is None:
        raise Denied("a staff token is needed, or sign in")
