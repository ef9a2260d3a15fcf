"""One report to the centre: the request byte for byte, and what its answer means.

``POST <report_to>/v1/reports`` with the report as its body and fixed headers; no redirects, no
cookies, no .netrc, nothing that requests or Python would add to say what they are. Proxies and
authorities are found as requests does; one request takes half a minute at most.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import requests

from agent import web
from agent.errors import InputError, UnreachableError

if TYPE_CHECKING:
    from agent.settings.config import Config

PATH = "/v1/reports"
MAX_ANSWER = 4_096
MAX_TOKEN = 4_096
LONGEST_WAIT_S = 86_400.0  # what a centre may ask for
_HEADERS = {
    "User-Agent": "calibration-agent",  # no version, no platform: the report says what it says
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
}
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,1024}=*")  # RFC 6750, section 2.1
_KEPT = "The report is kept and sent later."
Acceptance = Literal["accepted", "refused", "denied", "later", "unreachable"]


@dataclass(frozen=True)
class SendLimits:
    """Seconds for a connection, for the next bytes, and for the whole from name to answer."""

    connect_s: float = 10.0
    read_s: float = 20.0
    whole_s: float = 30.0


@dataclass(frozen=True)
class Destination:
    """Where reports go.

    Attributes:
        name: shown to people: the URL as configured.
        url: that is posted to.
        headers: of every request; they hold the token, where there is one.
        cert: files of the client's certificate and key.
    """

    name: str
    url: str
    headers: Mapping[str, str]
    cert: tuple[str, str] | None = None


@dataclass(frozen=True)
class CentreAnswer:
    """What the centre made of a report.

    Attributes:
        verdict: "accepted"; "refused": never to be sent again; "denied": this machine is not let
            in; "later"; "unreachable": there was none.
        words: why, for people; empty where it was accepted.
        wait_s: the centre asks to wait that long.
    """

    verdict: Acceptance
    words: str = ""
    wait_s: float = 0.0


def destination_of(config: Config) -> Destination:
    """Where the configuration sends reports; ``report_to`` is set.

    Raises:
        InputError: the URL is of a kind that is not used, or token, certificate or key cannot be.
    """
    place = config.report_to or ""
    url = web.parsed_url(place, "the centre (report_to)")
    name = web.without_credentials(url).rstrip("/")
    if "@" in url.netloc:
        hint = "Put a token in a file of its own and name it with report_token_file."
        raise InputError(f"the centre's URL {name} is given with a password", hint)
    if url.query or url.fragment or not web.permitted(place, to_this=True):
        raise InputError(
            f"reports cannot be sent to {name}",
            "Set report_to to a URL that begins with https:// (http:// only for this machine"
            " itself), without ? and #.",
        )
    headers = dict(_HEADERS)
    if config.report_token_file is not None:
        headers["Authorization"] = f"Bearer {_token(config.report_token_file)}"
    return Destination(name, f"{name}{PATH}", headers, _certificate(config))


def _token(path: Path) -> str:
    text = _private(path, "the token").decode("ascii", "replace").strip()
    if _TOKEN.fullmatch(text) is None:
        raise InputError(f"{path} holds no token", "It has one line: the token as it was given.")
    return text


def _certificate(config: Config) -> tuple[str, str] | None:
    """The client's certificate and key, tried: an error here is plainer than one on the way."""
    cert, key = config.report_client_cert, config.report_client_key or config.report_client_cert
    if cert is None or key is None:
        if config.report_client_key is not None:
            raise InputError("report_client_key is set, but report_client_cert is not")
        return None
    _private(key, "the private key", most=1 << 20)
    try:
        # Without a password of ours, OpenSSL would ask for one and wait.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InputError(
            f"the client certificate {cert} with the key {key} cannot be used"
            f" ({web.network_reason(error)})",
            "Both are PEM files, and the key has no password.",
        ) from error
    return str(cert), str(key)


def _private(path: Path, what: str, most: int = MAX_TOKEN) -> bytes:
    """The content of a file that only its owner, and a group that may read it, have to do with."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            about = os.fstat(file.fileno())
            content = file.read(most + 1) if stat.S_ISREG(about.st_mode) else None
    except OSError as error:
        raise InputError(f"{what} in {path} cannot be read: {error.strerror}") from error
    if content is None or len(content) > most:
        raise InputError(f"{path} is not a file that could hold {what}")
    if about.st_mode & 0o027:
        hint = f"Run `chmod 600 {path}` (640 where a service's group is to read it)."
        raise InputError(f"{what} in {path} can be read or changed by others", hint)
    return content


def send(centre: Destination, body: bytes, limits: SendLimits | None = None) -> CentreAnswer:
    """Send one report.

    Raises:
        UnreachableError: no answer, no whole answer, or none in time. It may have arrived.
    """
    limits = limits or SendLimits()
    try:
        return web.finished_within(
            limits.whole_s, "send a report", lambda: _send(centre, body, limits)
        )
    except web.TooSlowError:
        words = f"{centre.name} did not answer within {limits.whole_s:g} s"
        raise UnreachableError(words, _KEPT) from None


def _send(centre: Destination, body: bytes, limits: SendLimits) -> CentreAnswer:
    request = requests.Request("POST", centre.url, headers=dict(centre.headers), data=body)
    waits = (limits.connect_s, limits.read_s)
    try:
        # Prepared by itself, not by the session, which would add headers, cookies and .netrc.
        with (
            web.HttpSession() as session,
            session.ask(request.prepare(), waits, centre.cert) as found,
        ):
            content = found.raw.read(MAX_ANSWER + 1, decode_content=False)
            return judge_answer(found.status_code, found.headers.get("Retry-After", ""), content)
    except web.NETWORK_ERRORS as error:
        raise web.network_error(error, centre.name, "sending a report", _KEPT) from error


def judge_answer(status: int, retry_after: str, content: bytes) -> CentreAnswer:
    """What an answer means (docs/reference/report.md has the table)."""
    if status == 202 and _accepts(content):
        return CentreAnswer("accepted")
    if status in (400, 413, 422):
        words = f"the centre does not take this report (HTTP {status}); it is dropped"
        return CentreAnswer("refused", words)
    if status in (401, 403):
        words = f"the centre does not let this machine in (HTTP {status}): is its token right?"
        return CentreAnswer("denied", words)
    if status == 429 or status >= 500:
        return CentreAnswer("later", f"the centre is busy (HTTP {status})", wait_asked(retry_after))
    return CentreAnswer(
        "later", f"what answers there is not a centre (HTTP {status}): see report_to"
    )


def _accepts(content: bytes) -> bool:
    """Does it say so in so many words? A network's log-in page does not."""
    try:
        body = json.loads(content) if len(content) <= MAX_ANSWER else None
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("accepted") is True


def wait_asked(retry_after: str, now: float | None = None) -> float:
    """Seconds of a Retry-After header, at most a day; 0 where it says nothing that can be read."""
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return min(float(text), LONGEST_WAIT_S)
    try:
        until = parsedate_to_datetime(text[:64]).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(until - (time.time() if now is None else now), 0.0), LONGEST_WAIT_S)
