"""A plain static server for trying a repository out. For many machines, use a real one or a CDN.

Only ``metadata`` and ``targets`` are served, only regular files, nothing is listed. The cache
headers are those that a web server should send (docs/how-to/publish-bundles.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agent.errors import InputError
from agent.settings.config import CHANNELS
from bundles.files import most_open_files

IDLE_S = 60.0
FEWEST_FILES = 256  # one for each connection, one for what is read for it, some more
POLL_S = 0.05  # how long a stop may take
CHANGES_OFTEN = "max-age=60"
NEVER_CHANGES = "public, max-age=31536000, immutable"
ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO))
_NAME = re.compile(r"/(metadata|targets/[a-z]+)/([A-Za-z0-9][A-Za-z0-9._-]{0,200})")
_NUMBER = re.compile(r"^[0-9]+\.")
_DIGEST = re.compile(r"^[0-9a-f]{64}\.")


@dataclass
class Tally:
    """What was asked for and sent; threads share it.

    Attributes:
        requests: by kind of file (``timestamp.json``, ``N.root.json``, ``DIGEST.settled.bundle``)
            and status.
        sent: bytes of bodies and headers.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    sent: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, status: int, sent: int) -> None:
        """One answer."""
        with self._guard:
            self.requests[kind, status] += 1
            self.sent += sent

    def to_json(self) -> dict[str, Any]:
        """For ``--json`` and for people."""
        with self._guard:
            by_kind = sorted(self.requests.items())
            return {
                "requests": sum(self.requests.values()),
                "bytes": self.sent,
                "by_file": [
                    {"file": kind, "status": status, "requests": count}
                    for (kind, status), count in by_kind
                ],
            }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a client keeps its connection for the whole refresh
    server_version, sys_version = "bundles", ""
    timeout = IDLE_S
    wbufsize = 1 << 16  # headers and body in one packet: sent apart, the body waits for an ACK
    server: Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        if self.server.said:
            self.server.said(f"{self.address_string()} {format % args}")

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        try:
            content = read_below(self.server.public, path)
        except OSError as error:  # what is there must not be called absent: roots are counted so
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"cannot be read: {error.strerror}")
            return
        status = HTTPStatus.OK if content is not None else HTTPStatus.NOT_FOUND
        body = content if content is not None else b"not found\n"
        self.send_response(status)
        is_json = content is not None and path.endswith(".json")
        kind = "application/json" if is_json else "application/octet-stream"
        self.send_header("Content-Type", kind if content is not None else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", caching(path) if content is not None else CHANGES_OFTEN)
        self.send_header("X-Content-Type-Options", "nosniff")
        head = sum(map(len, getattr(self, "_headers_buffer", ()))) + 2
        self.server.tally.count(kind_of(path), status, head + (len(body) if with_body else 0))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Serves one directory; ``url`` and ``tally`` say where and how much.

    Args:
        public: holds ``metadata`` and ``targets``.
        host: address to listen on.
        port: 0 for any that is free.
        said: told of every request; None: of none.

    Raises:
        InputError: the address cannot be used, there is no repository, or too few files may be
            open at once.
    """

    daemon_threads = True
    request_queue_size = 128  # the standard 5 turns machines away that ask at the same second

    def __init__(
        self, public: Path, host: str, port: int, said: Callable[[str], None] | None = None
    ) -> None:
        if not (public / "metadata").is_dir():
            raise InputError(
                f"{public} holds no bundle repository",
                "Name the repository, or a directory made by `bundles export`.",
            )
        files = most_open_files()
        if files < FEWEST_FILES:
            raise InputError(
                f"only {files} files may be open at once (RLIMIT_NOFILE), and a server needs "
                f"{FEWEST_FILES} or more",
                "Raise the limit: `ulimit -n 4096`, or LimitNOFILE=4096 in its systemd unit.",
            )
        self.tally, self.said = Tally(), said
        self.public = public
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise InputError(
                f"{host}:{port} cannot be listened on: {error.strerror or error}",
                "Give another --port (0: any that is free).",
            ) from error

    @property
    def url(self) -> str:
        """Where agents find it."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server at work in a thread; it stops at the end of the context."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def until_stopped() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM or SIGHUP sets, so that what was counted can still be told."""
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def public_of(directory: Path) -> Path:
    """What is served of a repository; of an export, the directory itself."""
    return directory / "public" if (directory / "public").is_dir() else directory


def what_to_try(public: Path, url: str) -> str:
    """The whole command with which an agent on this machine asks the server, or why none helps."""
    root = public / "metadata" / "1.root.json"
    offering = [name for name in CHANNELS if any((public / "targets" / name).glob("*.bundle"))]
    if not offering:
        return "No channel offers a bundle yet: `bundles add BUNDLE --channel pilot`."
    told = f"--root {root} --channel {offering[0]}"
    return f"Try: agent update --check --from {url} {told}"


def read_below(public: Path, path: str) -> bytes | None:
    """The content of a file of the repository; None for everything else there may be.

    Raises:
        OSError: it is there, and cannot be read.
    """
    if not _NAME.fullmatch(path):
        return None
    try:
        descriptor = os.open(f"{public}{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return file.read()
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise


def caching(path: str) -> str:
    """The Cache-Control of a file: may its content, or its absence, ever change?

    A machine asks for the root after its own, which is mostly not there; the answer to that must
    not be remembered for long, so roots are treated alike whether there or not.
    """
    fleeting = path.endswith(("/timestamp.json", ".root.json"))
    return CHANGES_OFTEN if fleeting else NEVER_CHANGES


def kind_of(path: str) -> str:
    """``1.root.json`` as ``N.root.json``, and so on; ``other`` for what is no file of ours."""
    found = _NAME.fullmatch(path)
    if not found:
        return "other"
    return _NUMBER.sub("N.", _DIGEST.sub("DIGEST.", found[2]))
