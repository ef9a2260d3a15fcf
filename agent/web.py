"""What the two that may use the network share (``agent.update``, ``agent.report``).

Which addresses may be asked, which certificates are accepted, an end to all waiting, and what went
wrong in people's words. Plain http is used with this machine itself only.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy

from agent.errors import InputError, UnreachableError

IN_A_URL = re.compile(r"[!-\[\]-~]+")  # no backslash: some parsers read it as a slash
PORTS = {"https": 443, "http": 80}
NETWORK_ERRORS = (urllib3.exceptions.HTTPError, OSError, ValueError)  # requests' own: OSErrors
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")  # requests: not the last
T = TypeVar("T")


class TooSlowError(Exception):
    """Something is not done in the time it was given."""


class HttpSession(requests.Session):
    """A session that asks what it is told to ask, and nothing else."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would first read all that a redirect holds, however much."""

    def ask(
        self,
        request: requests.PreparedRequest,
        waits: tuple[float, float],
        cert: tuple[str, str] | None = None,
    ) -> requests.Response:
        """The beginning of the answer; the content is not read yet.

        Args:
            request: to an address that is ``permitted``.
            waits: seconds for a connection, and for the next bytes.
            cert: files of a client's certificate and key.
        """
        url = request.url or ""
        # What goes to this machine itself goes to no proxy: there it would mean another machine.
        proxies = {"no_proxy": "*"} if to_self(url) else {}
        verify = _authorities()[1] or True
        settings = self.merge_environment_settings(
            url, proxies, stream=True, verify=verify, cert=cert
        )
        return self.send(request, timeout=waits, allow_redirects=False, **settings)


def finished_within(seconds: float, name: str, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises, if it does in time; TooSlowError if not.

    The work is done by a thread because no time-out of a socket bounds the whole: names that take
    for ever to look up, headers sent a byte a minute and media that hang end here too. A thread
    given up dies with its process, or when the other side lets go.
    """
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            found.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    if not wait([found], timeout=seconds).done:
        raise TooSlowError(f"{name} took longer than {seconds:g} s")
    return found.result()


def parsed_url(place: str, what: str) -> SplitResult:
    """A URL in parts; InputError if it is none. ``what`` says what it is the URL of."""
    if IN_A_URL.fullmatch(place) is None:
        raise InputError(f"{what}'s URL has a character in it that URLs do not have")
    try:
        return urlsplit(place)
    except ValueError as error:
        raise InputError(f"{what}'s URL cannot be read: {error}") from error


def permitted(url: str, *, to_this: bool) -> bool:
    """May ``url`` be asked: https, or (``to_this``) this machine itself."""
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number; brackets that do not match
        return False
    if not sound or parts.scheme not in PORTS:
        return False
    return to_this if to_self(url) else parts.scheme == "https"


def to_self(url: str) -> bool:
    """Does the URL name this machine: localhost, 127.0.0.0/8 or ::1?"""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_credentials(url: SplitResult) -> str:
    """The URL without its credentials."""
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def printable(words: str) -> str:
    """Words that others chose, safe to show."""
    return "".join(c if c.isprintable() else " " for c in words[:200])


def network_error(error: Exception, name: str, about: str, later: str) -> UnreachableError:
    """What went wrong on the network, in people's words.

    Args:
        error: of the network.
        name: the server's URL.
        about: what was asked of it.
        later: what to say if time may mend it.
    """
    if name.startswith("https") and (refusal := _no_authorities() or _no_proxy(name)):
        return refusal
    said = network_reason(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return UnreachableError(
            f"the proxy on the way to {name} does not let this machine through ({said})",
            _proxy_hint(_proxy(name)[0] or "HTTPS_PROXY"),
        )
    if any(isinstance(inner, ssl.SSLCertVerificationError) for inner in _chain(error)):
        return UnreachableError(
            f"{name} shows a certificate that this machine does not accept ({said})",
            "If your network has an authority of its own, name its certificates with"
            " REQUESTS_CA_BUNDLE=FILE. If the clock of this machine is wrong, set it:"
            f" it says {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC.",
        )
    if isinstance(error, requests.exceptions.SSLError):
        return UnreachableError(
            f"the secure connection to {name} broke ({said})",
            f"{later} A server that wants a certificate of this machine closes like this, and so"
            " does a firewall on the way.",
        )
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return UnreachableError(f"{name} does not answer in time ({about})", later)
    return UnreachableError(f"{name} cannot be reached: {said} ({about})", later)


def network_reason(error: BaseException) -> str:
    """The words of the innermost error that has any of its own."""
    words = str(error)
    for inner in _chain(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            words = inner.verify_message
        elif isinstance(inner, urllib3.exceptions.IncompleteRead):
            words = "the connection was closed half-way"
        elif isinstance(inner, OSError) and not isinstance(inner, requests.RequestException):
            words = inner.strerror or str(inner) or words
    return printable(words)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised for, in each of the ways that the libraries keep that."""
    for _ in range(20):
        if not isinstance(error, BaseException):
            return
        yield error
        error = (
            error.__cause__
            or getattr(error, "reason", None)
            or next((kept for kept in error.args if isinstance(kept, BaseException)), None)
        )


def _authorities() -> tuple[str, str]:
    """The variable that names the authorities to accept, and the file or directory it names."""
    for name in _AUTHORITIES:
        if place := os.environ.get(name):
            return name, place
    return "", ""


def _no_authorities() -> UnreachableError | None:
    """What to say if the environment names authorities that cannot be read."""
    name, place = _authorities()
    if not name:
        return None
    try:
        there = {"capath" if Path(place).is_dir() else "cafile": place}
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**there)
    except OSError as error:
        return UnreachableError(
            f"the certificates in {printable(place)} cannot be used ({network_reason(error)})",
            f"{name} in the environment names that file: correct it, or remove the variable.",
        )
    return None


def _proxy(url: str) -> tuple[str, str]:
    """The variable that names the proxy on the way to ``url``, and its value; empty without one."""
    value = select_proxy(url, get_environ_proxies(url))
    named = (f"{scheme}_proxy" for scheme in (urlsplit(url).scheme, "all"))
    for name in (spelt for low in named for spelt in (low, low.upper())):
        if value and os.environ.get(name) == value:
            return name, value
    return "", ""


def _no_proxy(url: str) -> UnreachableError | None:
    """What to say if the environment names a proxy that cannot be one; it may hold a password."""
    name, value = _proxy(url)
    if not name:
        return None
    try:  # as requests would, without a connection
        HTTPAdapter().get_connection_with_tls_context(
            requests.Request("GET", "https://localhost").prepare(), True, {"https": value}
        )
    except NETWORK_ERRORS:
        socks = value.lower().startswith("socks")
        what = "names a SOCKS proxy" if socks else "does not hold the address of a proxy"
        return UnreachableError(
            f"{name} in the environment {what}, so {url} was not asked", _proxy_hint(name)
        )
    return None


def _proxy_hint(variable: str) -> str:
    return (
        f"Set {variable} to an HTTP proxy, as in http://HOST:PORT, or remove the variable; name"
        " hosts that are reached without a proxy in NO_PROXY."
    )
