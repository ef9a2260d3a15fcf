"""Where a bundle repository's files come from: an https server, or a directory such as a USB stick.

Nothing here is believed. Every file has a largest size and a longest time, counted from the first
look-up of a name to the last byte, and whatever comes is judged by its signatures in
``agent.update.trust``. Plain http is taken from this machine itself only.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urljoin, urlsplit

import requests
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.fetcher import FetcherInterface

from agent import __version__, web
from agent.errors import InputError, UnreachableError, UntrustedError
from agent.update.archive import MAX_BYTES
from agent.web import IN_A_URL, NETWORK_ERRORS, printable

_CHUNK = 64 << 10
TELL = "Nothing was changed. Tell the people who run the repository."
_LATER = "Nothing was changed; the bundle in force goes on working. Try again later."
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True)
class DownloadLimits:
    """How long is waited, and how much is taken.

    Attributes:
        connect_s: for a connection, in seconds.
        read_s: for the next bytes.
        whole_s: for a whole file: look-up of the name, connection, redirects, headers and content.
        all_s: for all files together: five, each as slow as it may be (timestamp, snapshot,
            targets, channel, bundle). Newer roots take from it too, and are kept.
        redirects: how many are followed.
        largest: bytes of any one file, whatever its metadata say.
        roots: how many newer roots are followed in one go.
    """

    connect_s: float = 10.0
    read_s: float = 20.0
    whole_s: float = 120.0
    all_s: float = 600.0
    redirects: int = 3
    largest: int = MAX_BYTES
    roots: int = 256


LIMITS = DownloadLimits()


class StatusError(DownloadHTTPError):
    """A file was not given; ``status_code`` is HTTP's (404: there is no such file)."""

    def __init__(self, file: str, status: int) -> None:
        super().__init__(f"HTTP {status} for {file}", status)
        self.file = file


class RepositorySource(FetcherInterface):
    """One bundle repository; python-tuf fetches through it.

    Attributes:
        name: shown to people; never holds credentials.
        metadata_url, targets_url: what python-tuf asks for, without a slash at the end.
        local: no network is used.
        limits: of every single file, and of all of them: ``all_s`` counts from here.
    """

    local: bool

    def __init__(self, name: str, base: str, limits: DownloadLimits) -> None:
        self.name = name
        self.metadata_url = f"{base}/metadata"
        self.targets_url = f"{base}/targets"
        self.limits = limits
        self._ends = time.monotonic() + limits.all_s

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """One whole file, in memory.

        Raises:
            UnreachableError: no answer, no whole answer, or none in time.
            UntrustedError: the file lies outside the repository.
            DownloadLengthMismatchError: it is longer than ``max_length`` (or ``limits.largest``).
            StatusError: the file is not given.
        """
        largest, now = min(max_length, self.limits.largest), time.monotonic()
        ends = min(now + self.limits.whole_s, self._ends)
        name = f"fetch {_file(url)}"
        try:
            return web.finished_within(
                max(ends - now, 0), name, lambda: self._read(url, largest, ends)
            )
        except web.TooSlowError:
            raise self._too_slow(url, ends) from None

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, self.limits.largest)

    @abstractmethod
    def _read(self, url: str, largest: int, ends: float) -> bytes:
        """The content of ``url``, at most ``largest`` bytes, while the clock is before ``ends``."""

    def _too_slow(self, url: str, ends: float) -> UnreachableError:
        if ends == self._ends:
            took = f"the whole update took longer than {self.limits.all_s:g} s"
            return UnreachableError(f"{self.name}: {took}, with {_file(url)} on its way", _LATER)
        took = f"took longer than {self.limits.whole_s:g} s"
        return UnreachableError(f"{self.name}: {_file(url)} {took}", _LATER)

    def _too_long(self, url: str, largest: int) -> DownloadLengthMismatchError:
        return DownloadLengthMismatchError(f"{_file(url)} is longer than {largest} bytes")


def open_source(place: str, limits: DownloadLimits = LIMITS) -> RepositorySource:
    """The repository at a URL (https, file; http on this machine itself) or in a directory.

    Nothing is asked of a server yet.

    Raises:
        InputError: the URL is of a kind that is not used.
        UnreachableError: there is no such directory.
    """
    if "://" not in place:
        return Folder(Path(place), limits)
    url = web.parsed_url(place, "the repository")
    if url.scheme == "file":
        if url.netloc not in ("", "localhost") or not url.path.startswith("/"):
            raise InputError(f"{place} names no directory", "Write file:///media/stick/bundles.")
        return Folder(Path(os.fsdecode(unquote_to_bytes(url.path))), limits)
    if url.query or url.fragment or not web.permitted(place, to_this=True):
        raise InputError(
            f"the repository {web.without_credentials(url)} cannot be used",
            "Give a URL that begins with https:// (http:// only for this machine itself), without"
            " ? and #; or a directory.",
        )
    return Web(url, limits)


class Folder(RepositorySource):
    """A repository in a directory: a USB stick, a network share."""

    local = True

    def __init__(self, folder: Path, limits: DownloadLimits) -> None:
        try:
            self._folder = folder.resolve(strict=True)
            if not self._folder.is_dir():
                raise NotADirectoryError(20, "it is not a directory")
        except (OSError, ValueError, RuntimeError) as error:  # a NUL; links in a circle
            raise UnreachableError(
                f"there is no directory {folder} to read ({web.network_reason(error)})",
                "Is the medium mounted? A repository on a server is given as https://...",
            ) from error
        self._base = f"file://{quote(os.fsencode(self._folder))}"
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


class Web(RepositorySource):
    """A repository on a server, by requests: its proxies, CA bundles and .netrc work as usual."""

    local = False

    def __init__(self, url: SplitResult, limits: DownloadLimits) -> None:
        base = web.without_credentials(url).rstrip("/")
        super().__init__(base, base, limits)
        self._home = _origin(base)
        self._auth = (unquote(url.username or ""), unquote(url.password or ""))
        self._session = web.HttpSession()
        # Compressed answers would let a few bytes become many; "identity" asks for plain ones.
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.headers["User-Agent"] = f"calibration-agent/{__version__}"

    def _read(self, url: str, largest: int, ends: float) -> bytes:
        at = url
        try:
            for _ in range(self.limits.redirects + 1):
                with self._asked(at) as response:
                    if response.status_code not in _REDIRECTS:
                        return self._content(response, url, largest, ends)
                    at = self._redirected(at, response)
        except NETWORK_ERRORS as error:
            raise web.network_error(error, self.name, _file(url), _LATER) from error
        raise UnreachableError(
            f"{self.name} redirects {_file(url)} more than {self.limits.redirects} times", _LATER
        )

    def _asked(self, url: str) -> requests.Response:
        """The beginning of the answer; the content is not read yet."""
        auth = self._auth if any(self._auth) and _origin(url) == self._home else None
        request = self._session.prepare_request(requests.Request("GET", url, auth=auth))
        return self._session.ask(request, (self.limits.connect_s, self.limits.read_s))

    def _redirected(self, url: str, response: requests.Response) -> str:
        location = response.headers.get("Location", "")
        with contextlib.suppress(ValueError):  # brackets that do not match
            there = urljoin(url, location)
            if IN_A_URL.fullmatch(there) and web.permitted(there, to_this=web.to_self(url)):
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
                raise self._too_slow(url, ends)
        return bytes(content)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or web.PORTS[parts.scheme]


def _file(url: str) -> str:
    """What of a URL is shown: the name of the file."""
    return printable(unquote(url.rpartition("/")[2]))
