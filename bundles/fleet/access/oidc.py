"""Signing in with OpenID Connect: authorization code, PKCE, state and nonce (RFC 6749, 7636, 9700).

What a browser set out with is kept in a row of ``sessions`` under a cookie of its own, so that any
process can take it back, once. joserfc checks what the provider signed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlencode

import requests
import urllib3
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.requests import Request

from bundles.fleet.access import credentials
from bundles.fleet.access.centre import Denied, centre_of, outside, read
from bundles.fleet.access.people import ON_THE_WAY, Cookies, begin_session, cookie, may_read
from bundles.fleet.settings import OidcProvider
from bundles.repository.http_body import AS_IS, read_body

ALGORITHMS = ["RS256", "ES256", "EdDSA"]  # never `none`, never a shared secret
TRIP_S = 600
WITHIN_S = (5, 10)
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


async def set_out(request: Request) -> tuple[str, str]:
    """Where to send a browser, and the secret for its cookie.

    Raises:
        Denied: the provider does not answer as it should.
    """
    centre, provider = centre_of(request), _provider(request)
    trip = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    challenge = hashlib.sha256(trip["verifier"].encode()).digest()
    known = await _asking(_discovered, provider)
    query = {
        "response_type": "code",
        "scope": "openid email",
        "client_id": provider.client_id,
        "redirect_uri": _back(request),
        "state": trip["state"],
        "nonce": trip["nonce"],
        "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    kept = ON_THE_WAY + json.dumps(trip)
    secret = await outside(credentials.start_session, centre.database, kept, centre.now_s(), TRIP_S)
    address = known["authorization_endpoint"]
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", secret


async def come_back(request: Request) -> Cookies:
    """The new session of whoever the provider vouches for.

    Raises:
        Denied: it does not, or the browser did not set out from here.
    """
    centre, provider, secret = centre_of(request), _provider(request), cookie(request, "trip")
    kept = await read(centre.database, credentials.session_of, secret, centre.now_s())
    await outside(credentials.end_session, centre.database, secret)
    if not kept or not kept.startswith(ON_THE_WAY):
        raise Denied("This browser did not set out from here, or too long ago.")
    trip, answer = json.loads(kept), request.query_params
    if not secrets.compare_digest(trip["state"].encode(), answer.get("state", "").encode()):
        raise Denied("The answer is to another question.")
    if "code" not in answer:
        raise Denied("The identity provider did not let you in.")
    name = await _asking(_vouched_for, provider, answer["code"], trip, _back(request))
    if not may_read(centre, name):
        raise Denied(f"{name} is not among those who may read here.")
    return await begin_session(request, name)


async def _asking(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Ask the provider in a thread; whatever is wrong with its answer, nobody comes in."""
    try:
        return await asyncio.to_thread(function, *arguments, **named)
    except _EXPECTED as error:
        words = "The identity provider does not answer as it should"
        raise Denied(f"{words} ({type(error).__name__}).") from error


def _discovered(provider: OidcProvider) -> Json:
    """The provider's own description of itself."""
    known = _json(f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration")
    if known["issuer"] != provider.issuer:
        raise ValueError("another issuer")
    return known


def _vouched_for(provider: OidcProvider, code: str, trip: Json, back: str) -> str:
    """The name in an ID token that is signed, for us, of now, and an answer to our question."""
    known = _discovered(provider)
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
        found = json.loads(read_body(answer, MOST_BYTES))
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _provider(request: Request) -> OidcProvider:
    provider = centre_of(request).settings.oidc
    if provider is None:
        raise Denied("This centre does not sign in that way.")
    return provider


def _back(request: Request) -> str:
    return centre_of(request).settings.public_url.rstrip("/") + BACK
