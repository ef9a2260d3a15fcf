"""docs/how-to/run-the-centre.md is true: what nginx and systemd make of what it gives them."""

import contextlib
import datetime
import http.client
import re
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fleets import HANGS_S, centre, free_port, report

DOCUMENT = Path(__file__).parents[3] / "docs" / "how-to" / "run-the-centre.md"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed (apt install nginx)")
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)
EXPOSURE = "25"  # of 100: what systemd itself calls OK is below 50


def blocks(language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", DOCUMENT.read_text())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that signed itself, and its key, in one folder."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "fleet.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "fleet.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


def configured(place, certificate, *, clients=False, listen=443, to=8001):
    """The document's block with this test's files and ports, and what nginx wants besides."""
    server, more = blocks("nginx")
    if clients:
        server = server.rstrip().removesuffix("}") + more + "}\n"
    server = server.replace("/etc/ssl/plants.pem", str(certificate / "fleet.pem"))
    server = server.replace("/etc/ssl", str(certificate))
    server = server.replace("listen 443", f"listen 127.0.0.1:{listen}").replace("8001", str(to))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {place}/{kind};" for kind in kinds)
    file = place / "nginx.conf"
    file.write_text(
        f"pid {place}/pid;\nerror_log stderr error;\ndaemon off;\nevents {{}}\n"
        f"http {{\n{temporary}\n{server}}}\n"
    )
    return [NGINX, "-e", "stderr", "-p", place, "-c", file]


@needs_nginx
@pytest.mark.parametrize("clients", [False, True])
def test_nginx_takes_the_block(tmp_path, certificate, clients):
    command = configured(tmp_path, certificate, clients=clients, listen=free_port())
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert "syntax is ok" in done.stderr


@needs_nginx
@pytest.mark.parametrize("clients", [False, True])
def test_reports_come_through_and_nobodys_address_is_logged(tmp_path, certificate, clients):
    port, log = free_port(), tmp_path / "log"

    def send(*, known, body=None):
        context = ssl.create_default_context(cafile=certificate / "fleet.pem")
        context.check_hostname = False
        if known:
            context.load_cert_chain(certificate / "fleet.pem", certificate / "fleet.key")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=HANGS_S, context=context
        )
        with contextlib.closing(connection):
            path = "/v1/reports" if body else "/login"
            headers = {"Content-Type": "application/json"}
            connection.request("POST" if body else "GET", path, body, headers)
            return connection.getresponse().status

    with centre(f"sqlite:///{tmp_path / 'fleet.db'}", "--without-tokens") as made:
        command = configured(tmp_path, certificate, clients=clients, listen=port, to=made.port)
        with log.open("wb") as said, subprocess.Popen(command, stderr=said) as nginx:
            try:
                until = time.monotonic() + HANGS_S
                while True:
                    with contextlib.suppress(ConnectionRefusedError):
                        assert send(known=False) == 200  # a browser needs no certificate
                        break
                    assert time.monotonic() < until, log.read_text()
                    time.sleep(0.05)
                assert send(known=True, body=report(1)) == 202
                assert send(known=False, body=report(2)) == (403 if clients else 202)
                assert send(known=True, body=b"x" * 20_000) == 413
                made.kill()
                assert send(known=True, body=report(3)) == 502
            finally:
                nginx.terminate()
    assert "127.0.0.1" not in log.read_text()


@pytest.fixture
def unit(tmp_path):
    """The document's unit, starting a program that is there."""
    (written,) = [block for block in blocks("ini") if "[Service]" in block]
    file = tmp_path / "fleet.service"
    file.write_text(written.replace("/opt/calibration-agent/bin/bundles", sys.executable))
    return file


@needs_systemd
def test_systemd_takes_the_unit(unit):
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=HANGS_S
    )
    complaints = [line for line in done.stderr.splitlines() if "fleet.service" in line]
    assert (done.returncode, complaints) == (0, [])


@needs_systemd
def test_the_unit_may_do_little(unit):
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S)
    assert done.returncode == 0, done.stdout[-200:]
    for line in ("StateDirectory=fleet", "UMask=0077", "LimitNOFILE=", "MemoryMax="):
        assert line in unit.read_text()
