"""Real servers on this machine: http, https with an authority of its own, and a forward proxy."""

import contextlib
import datetime
import ipaddress
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Server:
    """A running server: where it is, and what it was asked for."""

    url: str
    port: int
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)


class _Http(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for every answer: no test leaves a thread behind
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that hangs up is no error here."""


@contextlib.contextmanager
def answering(
    answer: Callable[[BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server whose every GET is answered by ``answer(handler)``; ``handler.about`` is ours."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.about = server
            server.asked.append(self.path)
            server.headers.append(dict(self.headers))
            answer(self)

        def log_message(self, *_):
            pass

    with _running(_Http(("127.0.0.1", 0), Handler), tls) as server:
        yield server


@contextlib.contextmanager
def serving(directory: Path, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A plain static server of a directory."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept
        timeout = 0.2  # but not for long where nothing comes

        def do_GET(self):
            server.asked.append(self.path)
            server.headers.append(dict(self.headers))
            super().do_GET()

        def log_message(self, *_):
            pass

    bound = partial(Handler, directory=str(directory))
    with _running(_Http(("127.0.0.1", 0), bound), tls) as server:
        yield server


@contextlib.contextmanager
def _running(http: _Http, tls: ssl.SSLContext | None) -> Iterator[Server]:
    port = http.server_address[1]
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port)
    thread = threading.Thread(target=partial(http.serve_forever, 0.01))
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Proxy(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False

    def handle_error(self, request, client_address):
        pass


@contextlib.contextmanager
def proxy(to_port: int, refuse: str | None = None) -> Iterator[Server]:
    """A forward proxy that knows where every name leads: to ``to_port`` of this machine."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            line = self.rfile.readline().decode()
            server.asked.append(" ".join(line.split()[:2]))
            told = {}
            while (line := self.rfile.readline()) not in (b"\r\n", b"\n", b""):
                name, _, value = line.decode("latin-1").partition(":")
                told[name] = value.strip()
            server.headers.append(told)
            if refuse:
                self.wfile.write(f"HTTP/1.1 {refuse}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            with socket.create_connection(("127.0.0.1", to_port)) as there:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._join(self.connection, there)

        def _join(self, here, there):
            other = {here: there, there: here}
            while not server.stopping.is_set():
                for ready in select.select(list(other), [], [], 0.05)[0]:
                    if not (data := ready.recv(65536)):
                        return
                    other[ready].sendall(data)

    with _Proxy(("127.0.0.1", 0), Handler) as listening:
        port = listening.server_address[1]
        server = Server(f"http://127.0.0.1:{port}", port)
        thread = threading.Thread(target=partial(listening.serve_forever, 0.01))
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            listening.shutdown()
            thread.join()


@dataclass(frozen=True)
class Authority:
    """A certificate authority: what clients are given, what a server shows, and what a client."""

    bundle: Path
    server: ssl.SSLContext
    client: Path

    def ask_clients(self) -> ssl.SSLContext:
        """The server wants to see a certificate of this authority."""
        self.server.load_verify_locations(self.bundle)
        self.server.verify_mode = ssl.CERT_REQUIRED
        return self.server


def authority(
    folder: Path, names: tuple[str, ...], *, began_days: int = -1, ends_days: int = 30
) -> Authority:
    """An authority of its own, a server certificate for ``names`` from it, and a client's."""
    now = datetime.datetime.now(datetime.UTC)
    span = [now + datetime.timedelta(days=n) for n in (began_days, ends_days)]
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Plant authority")])
    always = [now + datetime.timedelta(days=n) for n in (-100, 100)]
    ca = (
        _certificate(ca_name, ca_name, ca_key, always)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    bundle, shown, client = (folder / f"{name}.pem" for name in ("ca", "server", "client"))
    bundle.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for path, holders in ((shown, names), (client, ("machine",))):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, holders[0])])
        alternatives = x509.SubjectAlternativeName([_general(n) for n in holders])
        leaf = _certificate(subject, ca_name, key, span).add_extension(alternatives, critical=False)
        path.write_bytes(_pem(key, leaf.sign(ca_key, hashes.SHA256())))
        path.chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown)
    return Authority(bundle, context, client)


def _pem(key, certificate) -> bytes:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(subject, issuer, key, span):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(span[0])
        .not_valid_after(span[1])
    )


def _general(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)
