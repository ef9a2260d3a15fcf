"""Where a bundle repository's files come from: an https server, or a directory such as a USB stick.

Nothing here is believed. Every file has a largest size and a longest time, counted from the first
look-up of a name to the last byte, and whatever comes is judged by its signatures in
``agent.update.trust``. Plain http is taken from this machine itself only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import ssl
import stat
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import requests
import urllib3
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.fetcher import FetcherInterface

from agent import __version__
from agent.errors import InputError, UnreachableError, UntrustedError
from agent.update.archive import MAX_BYTES

_CHUNK = 64 << 10
_IN_A_URL = re.compile(r"[!-\[\]-~]+")  # no backslash: some parsers read it as a slash
TELL = "Nothing was changed. Tell the people who run the repository."
_LATER = "Nothing was changed; the bundle in force goes on working. Try again later."
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")  # requests: not the last
_PORTS = {"https": 443, "http": 80}
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True)
class Limits:
    """How long is waited, and how much is taken.

    Attributes:
        connect_s: for a connection, in seconds.
        read_s: for the next bytes.
        whole_s: for a whole file: look-up of the name, connection, redirects, headers and content.
        redirects: how many are followed.
        largest: bytes of any one file, whatever its metadata say.
    """

    connect_s: float = 10.0
    read_s: float = 20.0
    whole_s: float = 120.0
    redirects: int = 3
    largest: int = MAX_BYTES


LIMITS = Limits()


class StatusError(DownloadHTTPError):
    """A file was not given; ``status_code`` is HTTP's (404: there is no such file)."""

    def __init__(self, file: str, status: int) -> None:
        super().__init__(f"HTTP {status} for {file}", status)
        self.file = file


class Source(FetcherInterface):
    """One bundle repository; python-tuf fetches through it.

    Attributes:
        name: shown to people; never holds credentials.
        metadata_url, targets_url: what python-tuf asks for, without a slash at the end.
        local: no network is used.
        limits: of every single file.
    """

    local: bool

    def __init__(self, name: str, base: str, limits: Limits) -> None:
        self.name = name
        self.metadata_url = f"{base}/metadata"
        self.targets_url = f"{base}/targets"
        self.limits = limits

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """One whole file, in memory.

        Raises:
            UnreachableError: no answer, no whole answer, or none in time.
            UntrustedError: the file lies outside the repository.
            DownloadLengthMismatchError: it is longer than ``max_length`` (or ``limits.largest``).
            StatusError: the file is not given.
        """
        # The work is done by a thread because no time-out of a socket bounds the whole: names that
        # take for ever to look up, headers sent a byte a minute and media that hang end here too.
        # A thread given up dies with its process, or when the server lets go.
        outcome: SimpleQueue[bytes | Exception] = SimpleQueue()
        largest, ends = min(max_length, self.limits.largest), time.monotonic() + self.limits.whole_s

        def work() -> None:
            try:
                outcome.put(self._read(url, largest, ends))
            except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
                outcome.put(error)

        threading.Thread(target=work, name=f"fetch {_file(url)}", daemon=True).start()
        try:
            got = outcome.get(timeout=self.limits.whole_s)
        except Empty:
            raise self._too_slow(url) from None
        if isinstance(got, Exception):
            raise got
        return got

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, self.limits.largest)

    @abstractmethod
    def _read(self, url: str, largest: int, ends: float) -> bytes:
        """The content of ``url``, at most ``largest`` bytes, while the clock is before ``ends``."""

    def _too_slow(self, url: str) -> UnreachableError:
        took = f"took longer than {self.limits.whole_s:g} s"
        return UnreachableError(f"{self.name}: {_file(url)} {took}", _LATER)

    def _too_long(self, url: str, largest: int) -> DownloadLengthMismatchError:
        return DownloadLengthMismatchError(f"{_file(url)} is longer than {largest} bytes")


def open_source(place: str, limits: Limits = LIMITS) -> Source:
    """The repository at a URL (https, file; http on this machine itself) or in a directory.

    Nothing is asked of a server yet.

    Raises:
        InputError: the URL is of a kind that is not used.
        UnreachableError: there is no such directory.
    """
    if "://" not in place:
        return Folder(Path(place), limits)
    if _IN_A_URL.fullmatch(place) is None:
        raise InputError("the repository's URL has a character in it that URLs do not have")
    try:
        url = urlsplit(place)
    except ValueError as error:
        raise InputError(f"the repository's URL cannot be read: {error}") from error
    if url.scheme == "file":
        if url.netloc not in ("", "localhost") or not url.path.startswith("/"):
            raise InputError(f"{place} names no directory", "Write file:///media/stick/bundles.")
        return Folder(Path(unquote(url.path)), limits)
    if url.query or url.fragment or not _permitted(place, to_self=True):
        raise InputError(
            f"the repository {_shown(url)} cannot be used",
            "Give a URL that begins with https:// (http:// only for this machine itself), without"
            " ? and #; or a directory.",
        )
    return Web(url, limits)


class Folder(Source):
    """A repository in a directory: a USB stick, a network share."""

    local = True

    def __init__(self, folder: Path, limits: Limits) -> None:
        try:
            self._folder = folder.resolve(strict=True)
            if not self._folder.is_dir():
                raise NotADirectoryError(20, "it is not a directory")
        except (OSError, ValueError, RuntimeError) as error:  # a NUL; links in a circle
            raise UnreachableError(
                f"there is no directory {folder} to read ({_reason(error)})",
                "Is the medium mounted? A repository on a server is given as https://...",
            ) from error
        self._base = f"file://{quote(str(self._folder))}"
        super().__init__(str(folder), self._base, limits)

    def _read(self, url: str, largest: int, ends: float) -> bytes:  # noqa: ARG002 - a file has an end
        path = self._inside(url)
        refusal = UntrustedError(f"{self.name}: {_file(url)} is not a regular file", TELL)
        try:
            # Looked at before it is opened: to open some devices is to do something. What it was
            # may have changed since; without O_NONBLOCK a named pipe would hang here.
            if not stat.S_ISREG(path.lstat().st_mode):
                raise refusal
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(path, flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise refusal
                content = file.read(largest + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise StatusError(_file(url), 404) from None
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
            raise UnreachableError(f"{self.name}: {_file(url)} {why}", _LATER) from error
        if len(content) > largest:
            raise self._too_long(url, largest)
        return content

    def _inside(self, url: str) -> Path:
        """The path of a URL below the directory, links followed; UntrustedError if it leaves it."""
        parts = unquote(url.removeprefix(self._base)).split("/")[1:]
        words = f"{self.name}: {_file(url)} leads out of the repository"
        refusal = UntrustedError(words, TELL)
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise refusal
        try:
            path = self._folder.joinpath(*parts).resolve()
        except (OSError, RuntimeError):  # links in a circle
            raise refusal from None
        if not path.is_relative_to(self._folder):
            raise refusal
        return path


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: we follow redirects. requests would first read all they hold, however much."""


class Web(Source):
    """A repository on a server, by requests: its proxies, CA bundles and .netrc work as usual."""

    local = False

    def __init__(self, url: SplitResult, limits: Limits) -> None:
        base = _shown(url).rstrip("/")
        super().__init__(base, base, limits)
        self._home = _origin(base)
        self._auth = (unquote(url.username or ""), unquote(url.password or ""))
        self._session = _Session()
        # Compressed answers would let a few bytes become many; "identity" asks for plain ones.
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.headers["User-Agent"] = f"calibration-agent/{__version__}"

    def _read(self, url: str, largest: int, ends: float) -> bytes:
        at = url
        try:  # requests' own errors are OSErrors
            for _ in range(self.limits.redirects + 1):
                with self._asked(at) as response:
                    if response.status_code not in _REDIRECTS:
                        return self._content(response, url, largest, ends)
                    at = self._redirected(at, response)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _explained(error, self.name, _file(url)) from error
        raise UnreachableError(
            f"{self.name} redirects {_file(url)} more than {self.limits.redirects} times", _LATER
        )

    def _asked(self, url: str) -> requests.Response:
        """The beginning of the answer; the content is not read yet."""
        auth = self._auth if any(self._auth) and _origin(url) == self._home else None
        request = self._session.prepare_request(requests.Request("GET", url, auth=auth))
        # What goes to this machine itself goes to no proxy: there it would mean another machine.
        proxies = {"no_proxy": "*"} if _to_self(url) else {}
        settings = self._session.merge_environment_settings(
            request.url or url, proxies, stream=True, verify=_authorities()[1] or True, cert=None
        )
        waits = (self.limits.connect_s, self.limits.read_s)
        return self._session.send(request, timeout=waits, allow_redirects=False, **settings)

    def _redirected(self, url: str, response: requests.Response) -> str:
        location = response.headers.get("Location", "")
        with contextlib.suppress(ValueError):  # brackets that do not match
            there = urljoin(url, location)
            if _IN_A_URL.fullmatch(there) and _permitted(there, to_self=_to_self(url)):
                return there
        raise UnreachableError(
            f"{self.name} redirects {_file(url)} to {printable(location)}, which is not an https"
            " server",
            "A network that asks for a log-in answers like this; so does a wrong URL.",
        )

    def _content(self, response: requests.Response, url: str, largest: int, ends: float) -> bytes:
        if response.status_code != 200:
            raise StatusError(_file(url), response.status_code)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise UnreachableError(
                f"{self.name} sends {_file(url)} compressed though it was asked not to",
                "Serve the repository as plain files, without Content-Encoding.",
            )
        content = bytearray()
        for chunk in response.iter_content(_CHUNK):
            content += chunk
            if len(content) > largest:
                raise self._too_long(url, largest)
            if time.monotonic() > ends:  # nobody waits for this thread any more
                raise self._too_slow(url)
        return bytes(content)


def _permitted(url: str, *, to_self: bool) -> bool:
    """May ``url`` be asked: https, or (``to_self``) this machine itself."""
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number; brackets that do not match
        return False
    if not sound or parts.scheme not in _PORTS:
        return False
    return to_self if _to_self(url) else parts.scheme == "https"


def _to_self(url: str) -> bool:
    """Does the URL name this machine: localhost, 127.0.0.0/8 or ::1?"""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _shown(url: SplitResult) -> str:
    """The URL without its credentials."""
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _file(url: str) -> str:
    """What of a URL is shown: the name of the file."""
    return printable(unquote(url.rpartition("/")[2]))


def printable(words: str) -> str:
    """Words that others chose, safe to show."""
    return "".join(c if c.isprintable() else " " for c in words[:200])


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
            f"the certificates in {printable(place)} cannot be used ({_reason(error)})",
            f"{name} in the environment names that file: correct it, or remove the variable.",
        )
    return None


def _explained(error: Exception, name: str, file: str) -> UnreachableError:
    """What went wrong on the network, in people's words."""
    if name.startswith("https") and (refusal := _no_authorities()):
        return refusal
    if isinstance(error, requests.exceptions.ProxyError):
        return UnreachableError(
            f"the proxy on the way to {name} does not let this machine through ({_reason(error)})",
            "Look at HTTPS_PROXY and NO_PROXY in the environment.",
        )
    if isinstance(error, requests.exceptions.SSLError):
        return UnreachableError(
            f"{name} shows a certificate that this machine does not accept ({_reason(error)})",
            "If your network has an authority of its own, name its certificates with"
            " REQUESTS_CA_BUNDLE=FILE. If the clock of this machine is wrong, set it:"
            f" it says {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC.",
        )
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return UnreachableError(f"{name} does not answer in time ({file})", _LATER)
    return UnreachableError(f"{name} cannot be reached: {_reason(error)} ({file})", _LATER)


def _reason(error: BaseException) -> str:
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
