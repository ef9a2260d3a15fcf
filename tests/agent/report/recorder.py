"""A server that keeps every byte it is sent, and answers with bytes that a test gives it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

BODY = b'{"accepted":true}'
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 17\r\n\r\n" + BODY
LOST = b""  # the report arrives, the answer does not
Answer = bytes | Callable[[socket.socket, threading.Event], None]


def answers(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """An answer, byte for byte."""
    lines = [f"HTTP/1.1 {status} words", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Recorder:
    """What came in: every request from its first to its last byte."""

    url: str
    port: int
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def bodies(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]

    def headers(self, number: int = -1) -> list[str]:
        """The lines before the body, in the order they came."""
        return self.requests[number].partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")


@contextlib.contextmanager
def recording(
    replies: Sequence[Answer] = (ACCEPTED,), tls: ssl.SSLContext | None = None
) -> Iterator[Recorder]:
    """A recorder on this machine; the last of ``replies`` answers all that come later."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    recorder = Recorder(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port)
    thread = threading.Thread(target=_serve, args=(listening, recorder, list(replies), tls))
    thread.start()
    try:
        yield recorder
    finally:
        recorder.stopping.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            pass  # wakes it
        thread.join()
        listening.close()


def _serve(listening, recorder, replies, tls) -> None:
    while not recorder.stopping.is_set():
        plain, _ = listening.accept()
        plain.settimeout(5)
        if recorder.stopping.is_set():
            plain.close()
            return
        recorder.connections += 1
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(plain)
            here = plain
            if tls:
                here = stack.enter_context(tls.wrap_socket(plain, server_side=True))
            request = _read(here)
            if not request:
                continue
            recorder.requests.append(request)
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
            if callable(reply):
                reply(here, recorder.stopping)
            else:
                here.sendall(reply)


def _read(here: socket.socket) -> bytes:
    """One request, and whatever is sent after it within a moment."""
    got = b""
    while b"\r\n\r\n" not in got:
        if not (more := here.recv(65536)):
            return got
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        if not (more := here.recv(65536)):
            break
        body += more
    here.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        body += here.recv(65536)
    here.settimeout(5)
    return head + b"\r\n\r\n" + body
