"""Signing in with OpenID Connect: authorization code, PKCE, state and nonce (RFC 6749, 7636, 9700).

What a browser set out with it keeps itself, in a signed cookie of ten minutes, so that any process
can take it back and nothing is kept of whom nobody knows; a provider takes each code once. joserfc
signs that, and checks what the provider signed. Few ask the provider at once, in threads of their
own: a slow one holds nobody up who is signed in, or reports.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlencode

import requests
import urllib3
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from starlette.requests import Request

from bundles.fleet.access.centre import Denied, centre_of
from bundles.fleet.access.limits import WaitingLine
from bundles.fleet.access.people import Cookies, begin_session, cookie, may_read
from bundles.fleet.settings import OidcProvider
from bundles.fleet.threads import started_threads
from bundles.repository.http_body import AS_IS, read_body

ALGORITHMS = ["RS256", "ES256", "EdDSA"]  # never `none`, never a shared secret
TRIP_S = 600
WITHIN_S = (5, 10)  # to connect, and until the next byte
WHOLE_WITHIN_S = 15.0  # one answer
AT_ONCE, MOST_WAITING = 4, 8
FULL_WAIT_S = 20.0  # what is said when all places to wait are taken
DISCOVERED_FOR_S, FAILED_FOR_S = 3600.0, 5.0
CLOCKS_DIFFER_S = 60
MOST_BYTES = 1 << 18
BACK = "/login/back"
_EXPECTED = (
    requests.RequestException, urllib3.exceptions.HTTPError, JoseError, KeyError, TypeError,
    ValueError, AttributeError, RecursionError,
)  # fmt: skip
Json = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


class ProviderDesk:
    """Where a process asks its provider: a few at once, a few more wait, others come again."""

    def __init__(self, provider: OidcProvider) -> None:
        self.provider = provider
        self._line = WaitingLine(AT_ONCE, MOST_WAITING)
        self._threads = started_threads(AT_ONCE, "oidc")
        self._discovering = threading.Lock()
        self._known: Json | None = None
        self._until = 0.0

    async def ask(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call what asks the provider; whatever is wrong with its answer, nobody comes in.

        Raises:
            Denied: it does not answer as it should, or too many ask.
        """
        async with self._line.place() as there_is_one:
            if not there_is_one:
                words = "Too many people are signing in. Try again in a moment."
                raise Denied(words, FULL_WAIT_S)
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: function(*arguments, **named)
                )
            except _EXPECTED as error:
                words = "The identity provider does not answer as it should"
                raise Denied(f"{words} ({type(error).__name__}).") from error

    def discovered(self) -> Json:
        """The provider's own description of itself: of the last hour, or one asks for all now."""
        with self._discovering:
            if time.monotonic() >= self._until:
                self._known, lasts_s = None, FAILED_FOR_S
                try:
                    self._known, lasts_s = self._described(), DISCOVERED_FOR_S
                finally:
                    self._until = time.monotonic() + lasts_s
            if self._known is None:
                raise ValueError("it did not describe itself a moment ago")
            return self._known

    def _described(self) -> Json:
        issuer = self.provider.issuer
        known = _json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if known["issuer"] != issuer:
            raise ValueError("another issuer")
        return known


async def set_out(request: Request) -> tuple[str, str]:
    """Where to send a browser, and what its cookie is to keep.

    Raises:
        Denied: the provider does not answer as it should, or too many ask.
    """
    desk = _desk(request)
    trip = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    challenge = hashlib.sha256(trip["verifier"].encode()).digest()
    known = await desk.ask(desk.discovered)
    query = {
        "response_type": "code",
        "scope": "openid email",
        "client_id": desk.provider.client_id,
        "redirect_uri": _back(request),
        "state": trip["state"],
        "nonce": trip["nonce"],
        "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    ends = centre_of(request).now_s() + TRIP_S
    kept = jwt.encode({"alg": "HS256"}, trip | {"exp": ends}, _trip_key(desk.provider))
    address = known["authorization_endpoint"]
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", kept


async def come_back(request: Request) -> Cookies:
    """The new session of whoever the provider vouches for.

    Raises:
        Denied: it does not, or the browser did not set out from here.
    """
    desk, answer = _desk(request), request.query_params
    trip = _trip(request, desk.provider)
    if not secrets.compare_digest(trip["state"].encode(), answer.get("state", "").encode()):
        raise Denied("The answer is to another question.")
    if "code" not in answer:
        raise Denied("The identity provider did not let you in.")
    name = await desk.ask(_vouched_for, desk, answer["code"], trip, _back(request))
    if not may_read(centre_of(request), name):
        raise Denied(f"{name} is not among those who may read here.")
    return await begin_session(request, name)


def _trip(request: Request, provider: OidcProvider) -> Json:
    """What this browser set out with; Denied where it did not."""
    try:
        kept = jwt.decode(cookie(request, "trip"), _trip_key(provider), algorithms=["HS256"])
        now = centre_of(request).now_s()
        jwt.JWTClaimsRegistry(now=now, exp={"essential": True}).validate(kept.claims)
    except (JoseError, ValueError) as error:
        raise Denied("This browser did not set out from here, or too long ago.") from error
    return kept.claims


def _trip_key(provider: OidcProvider) -> OctKey:
    """Known to every process of this centre, and to nobody outside."""
    made = hmac.new(provider.client_secret.encode(), b"fleet: on the way to sign in", "sha256")
    return OctKey.import_key(made.digest())


def _vouched_for(desk: ProviderDesk, code: str, trip: Json, back: str) -> str:
    """The name in an ID token that is signed, for us, of now, and an answer to our question."""
    known, provider = desk.discovered(), desk.provider
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": back,
        "code_verifier": trip["verifier"],
    }
    secret = (provider.client_id, provider.client_secret)
    token = _json(known["token_endpoint"], data=form, auth=secret)["id_token"]
    keys = KeySet.import_key_set(_json(known["jwks_uri"]))  # type: ignore[arg-type]
    claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
    jwt.JWTClaimsRegistry(
        leeway=CLOCKS_DIFFER_S,
        iss={"essential": True, "value": provider.issuer},
        aud={"essential": True, "value": provider.client_id},
        nonce={"essential": True, "value": trip["nonce"]},
        exp={"essential": True},
        sub={"essential": True},
    ).validate(claims)
    # An address that nobody checked is a word of the person's own: it lets nobody in.
    verified = claims.get("email") if claims.get("email_verified") is True else None
    name = str(verified or claims["sub"]).strip()[:256]
    if not name or not name.isprintable():
        raise ValueError("nobody")
    return name


def _json(
    url: str, data: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None
) -> Json:
    """What a URL of the provider answers: as it is, never unpacked, no more than can be right."""
    with requests.request(
        "POST" if data else "GET", url, data=data, auth=auth, headers=AS_IS,
        timeout=WITHIN_S, stream=True, allow_redirects=False,
    ) as answer:  # fmt: skip
        answer.raise_for_status()
        found = json.loads(read_body(answer, MOST_BYTES, WHOLE_WITHIN_S))
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _desk(request: Request) -> ProviderDesk:
    found: ProviderDesk | None = request.app.state.provider
    if found is None:
        raise Denied("This centre does not sign in that way.")
    return found


def _back(request: Request) -> str:
    return centre_of(request).settings.public_url.rstrip("/") + BACK
