"""What goes over the wire, byte for byte, and what is made of the answer. Real sockets and TLS."""

import os
import socket
import threading
import time

import pytest

from agent.errors import InputError, UnreachableError
from agent.report.sender import (
    LONGEST_WAIT_S,
    MAX_ANSWER,
    SendLimits,
    destination_of,
    judge_answer,
    send,
    wait_asked,
)
from agent.settings.config import Config
from tests.agent.report.recorder import BODY, LOST, answers, recording
from tests.agent.update.servers import authority, proxy

REPORT = b'{"agent":"0.1.0","schema":1}'
QUICK = SendLimits(connect_s=0.5, read_s=0.5, whole_s=1.2)


def to(url, tmp_path, **more):
    return destination_of(Config(tmp_path, report_to=url, **more))


def private(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


# The request.


def test_the_request_is_these_bytes_and_no_others(tmp_path):
    with recording() as centre:
        assert send(to(centre.url, tmp_path), REPORT).verdict == "accepted"
    assert centre.requests == [
        b"POST /v1/reports HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"User-Agent: calibration-agent\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n"
        b"\r\n" % (centre.port, len(REPORT)) + REPORT
    ]


def test_a_token_is_one_more_header_and_nothing_else(tmp_path):
    token = private(tmp_path / "token", "abc.DEF-123_~+/==\n")
    with recording() as centre:
        send(to(centre.url, tmp_path), REPORT)
        send(to(centre.url, tmp_path, report_token_file=token), REPORT)
    plain, with_token = centre.headers(0), centre.headers(1)
    assert [line for line in with_token if line not in plain] == [
        "Authorization: Bearer abc.DEF-123_~+/=="
    ]
    assert len(with_token) == len(plain) + 1


def test_the_path_of_the_url_is_kept(tmp_path):
    with recording() as centre:
        send(to(f"{centre.url}/fleet/", tmp_path), REPORT)
    assert centre.headers()[0] == "POST /fleet/v1/reports HTTP/1.1"


def test_credentials_kept_for_other_programs_are_not_sent(tmp_path, monkeypatch):
    netrc = private(tmp_path / "netrc", "default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with recording() as centre:
        send(to(centre.url, tmp_path), REPORT)
    assert not any(line.lower().startswith("authorization") for line in centre.headers())


def test_a_cookie_is_not_sent_back(tmp_path):
    with recording((answers(202, BODY, "Set-Cookie: machine=17; Path=/"),)) as centre:
        for _ in range(2):
            assert send(to(centre.url, tmp_path), REPORT).verdict == "accepted"
    assert centre.requests[0] == centre.requests[1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://fleet.example.org", "cannot be sent to"),
        ("http://10.0.0.1", "cannot be sent to"),
        ("ftp://fleet.example.org", "cannot be sent to"),
        ("fleet.example.org", "cannot be sent to"),
        ("https://", "cannot be sent to"),
        ("https://fleet.example.org:port", "cannot be sent to"),
        ("https://fleet.example.org/?to=me", "cannot be sent to"),
        ("https://fleet.example.org/#here", "cannot be sent to"),
        ("https://me:secret@fleet.example.org", "with a password"),
        ("https://fleet.example.org\\@evil.example.org", "has a character"),
        ("https://fleet.example.org/\r\nX: y", "has a character"),
        ("https://[::1", "cannot be"),
    ],
)
def test_reports_go_to_https_or_this_machine_only(tmp_path, url, words):
    with pytest.raises(InputError, match=words) as refused:
        to(url, tmp_path)
    assert "secret" not in refused.value.message + refused.value.hint


# The answer.


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, "refused"),
        (413, "refused"),
        (422, "refused"),
        (401, "denied"),
        (403, "denied"),
        (429, "later"),
        (500, "later"),
        (502, "later"),
        (503, "later"),
        (200, "later"),
        (204, "later"),
        (301, "later"),
        (307, "later"),
        (404, "later"),
    ],
)
def test_an_answer_says_whether_to_send_it_again(tmp_path, status, verdict):
    with recording((answers(status),)) as centre:
        found = send(to(centre.url, tmp_path), REPORT)
    assert found.verdict == verdict
    assert str(status) in found.words


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"true",
        b'{"accepted":false}',
        b'{"accepted":1}',
        b'{"accepted":"true"}',
        b"<html>please log in",
        b"[" * 4000,
        b"\xff\xfe",
        b'{"accepted":true}' + b" " * MAX_ANSWER,
    ],
)
def test_only_the_centres_own_words_are_an_acceptance(body):
    assert judge_answer(202, "", body).verdict == "later"


def test_an_acceptance_may_say_more(tmp_path):
    assert judge_answer(202, "", b'{"accepted": true, "more": [1]}').verdict == "accepted"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(tmp_path, status):
    with (
        recording() as elsewhere,
        recording((answers(status, b"", f"Location: {elsewhere.url}/v1/reports"),)) as centre,
    ):
        assert send(to(centre.url, tmp_path), REPORT).verdict == "later"
    assert len(centre.requests) == 1
    assert elsewhere.connections == 0


def endless_body(here: socket.socket, stopping: threading.Event) -> None:
    here.sendall(b"HTTP/1.1 202 Accepted\r\n\r\n")
    while not stopping.is_set():
        here.sendall(b"x" * 65536)


def a_bomb(here: socket.socket, stopping: threading.Event) -> None:
    import gzip

    bomb = gzip.compress(b'{"accepted":true}' + b" " * 50_000_000)
    lines = (
        f"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    )
    here.sendall(lines.encode() + bomb)


def a_byte_at_a_time(here: socket.socket, stopping: threading.Event) -> None:
    here.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 4000\r\n\r\n")
    while not stopping.wait(0.1):
        here.sendall(b"x")


def headers_for_ever(here: socket.socket, stopping: threading.Event) -> None:
    here.sendall(b"HTTP/1.1 202 Accepted\r\nX: ")
    while not stopping.wait(0.1):
        here.sendall(b"x")


def continue_for_ever(here: socket.socket, stopping: threading.Event) -> None:
    while not stopping.wait(0.01):
        here.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def silence(here: socket.socket, stopping: threading.Event) -> None:
    stopping.wait(20)


def no_http(here: socket.socket, stopping: threading.Event) -> None:
    here.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize("reply", [endless_body, a_bomb])
def test_an_answer_is_read_up_to_its_limit_only(tmp_path, reply):
    with recording((reply,)) as centre:
        assert send(to(centre.url, tmp_path), REPORT).verdict == "later"


@pytest.mark.parametrize(
    "reply", [a_byte_at_a_time, headers_for_ever, continue_for_ever, silence, no_http, LOST]
)
def test_no_answer_in_time_is_no_answer(tmp_path, reply):
    began = time.monotonic()
    with recording((reply,)) as centre, pytest.raises(UnreachableError) as gone:
        send(to(centre.url, tmp_path), REPORT, QUICK)
    assert time.monotonic() - began < 100 * QUICK.whole_s
    assert "kept" in gone.value.hint


def test_nobody_there_is_said_plainly(tmp_path):
    with pytest.raises(UnreachableError, match="Connection refused"):
        send(to("http://127.0.0.1:1", tmp_path), REPORT)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("99999999999", LONGEST_WAIT_S),
        ("9" * 5000, 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("\u0663", 0.0),
        ("Tue, 24 Nov 2026 06:40:00 GMT", 3600.0),
        ("Tue, 24 Nov 2020 06:40:00 GMT", 0.0),
        ("Tue, 24 Nov 2099 06:40:00 GMT", LONGEST_WAIT_S),
        ("Tue, 99 Nov 2099 99:40:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_within_bounds(header, seconds):
    assert wait_asked(header, now=1_795_498_800.0) == seconds


def test_retry_after_comes_from_the_answer(tmp_path):
    with recording((answers(503, b"", "Retry-After: 77"),)) as centre:
        assert send(to(centre.url, tmp_path), REPORT).wait_s == 77


# Certificates, tokens, proxies.


def test_the_authority_of_a_site_and_a_client_certificate_work_over_tls(tmp_path, monkeypatch):
    known = authority(tmp_path / "ca", ("127.0.0.1",))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(known.bundle))
    with recording(tls=known.ask_clients()) as centre:
        found = send(to(centre.url, tmp_path, report_client_cert=known.client), REPORT)
    assert found.verdict == "accepted"
    assert centre.bodies == [REPORT]


def test_without_the_certificate_that_a_centre_asks_for_nothing_is_taken(tmp_path, monkeypatch):
    known = authority(tmp_path / "ca", ("127.0.0.1",))
    other = authority(tmp_path / "other", ("127.0.0.1",))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(known.bundle))
    with recording(tls=known.ask_clients()) as centre:
        for certificate in (None, other.client):
            with pytest.raises(UnreachableError):
                send(to(centre.url, tmp_path, report_client_cert=certificate), REPORT)
    assert centre.requests == []


def test_nothing_is_sent_to_a_centre_of_an_unknown_authority(tmp_path):
    unknown = authority(tmp_path / "ca", ("127.0.0.1",))
    wanted = pytest.raises(UnreachableError, match="a certificate that this machine does not")
    with recording(tls=unknown.server) as centre, wanted:
        send(to(centre.url, tmp_path), REPORT)
    assert centre.requests == []


def test_a_key_may_be_a_file_of_its_own(tmp_path, monkeypatch):
    known = authority(tmp_path / "ca", ("127.0.0.1",))
    key, _, certificate = known.client.read_text().partition("-----BEGIN CERTIFICATE")
    parts = {
        "report_client_key": private(tmp_path / "key.pem", key),
        "report_client_cert": private(
            tmp_path / "cert.pem", "-----BEGIN CERTIFICATE" + certificate, 0o644
        ),
    }
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(known.bundle))
    with recording(tls=known.ask_clients()) as centre:
        assert send(to(centre.url, tmp_path, **parts), REPORT).verdict == "accepted"


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_certificate_that_cannot_be_used_is_said_before_anything_is_sent(tmp_path, text):
    broken = private(tmp_path / "client.pem", text)
    with pytest.raises(InputError, match=r"client\.pem .* cannot be used"):
        to("https://fleet.example.org", tmp_path, report_client_cert=broken)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path):
    from cryptography.hazmat.primitives import serialization

    known = authority(tmp_path / "ca", ("127.0.0.1",))
    key = serialization.load_pem_private_key(known.client.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    files = {
        "report_client_cert": known.client,
        "report_client_key": private(tmp_path / "locked.pem", locked.decode()),
    }
    with pytest.raises(InputError, match=r"locked\.pem cannot be used"):
        to("https://fleet.example.org", tmp_path, **files)


def test_a_key_without_its_certificate_is_a_mistake(tmp_path):
    with pytest.raises(InputError, match="report_client_cert is not"):
        to("https://fleet.example.org", tmp_path, report_client_key=tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("mode", "sound"),
    [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False), (0o604, False)],
)
@pytest.mark.parametrize("what", ["token", "key"])
def test_a_secret_that_others_can_read_is_not_used(tmp_path, mode, sound, what):
    if what == "token":
        path = private(tmp_path / "token", "abc", mode)
        files = {"report_token_file": path}
    else:
        path = authority(tmp_path / "ca", ("127.0.0.1",)).client
        path.chmod(mode)
        files = {"report_client_cert": path}
    if sound:
        assert to("https://fleet.example.org", tmp_path, **files)
        return
    with pytest.raises(InputError, match="can be read or changed by others") as refused:
        to("https://fleet.example.org", tmp_path, **files)
    assert f"chmod 600 {path}" in refused.value.hint


@pytest.mark.parametrize(
    "text", ["", "\n", "two words", "line\nX-Evil: y", "tökén", "x" * 2000, "a=b", "\x00"]
)
def test_what_is_no_token_is_not_sent(tmp_path, text):
    token = private(tmp_path / "token", text)
    with pytest.raises(InputError, match="holds no token"):
        to("https://fleet.example.org", tmp_path, report_token_file=token)


def test_a_token_file_that_is_missing_endless_or_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    private(tmp_path / "long", "x" * 100_000)
    for path in (tmp_path / "missing", tmp_path / "pipe", tmp_path / "long", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            to("https://fleet.example.org", tmp_path, report_token_file=path)


def test_a_proxy_is_used_and_told_nothing_but_the_name_of_the_centre(tmp_path, monkeypatch):
    known = authority(tmp_path / "ca", ("fleet.example.org",))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(known.bundle))
    with recording(tls=known.server) as centre, proxy(centre.port) as way:
        monkeypatch.setenv("HTTPS_PROXY", way.url)
        assert send(to("https://fleet.example.org", tmp_path), REPORT).verdict == "accepted"
    assert way.asked == ["CONNECT fleet.example.org:443"]
    assert set().union(*way.headers) <= {"Host"}
    assert centre.headers()[1] == "Host: fleet.example.org"


def test_this_machine_itself_is_not_asked_through_a_proxy(tmp_path, monkeypatch):
    with recording() as centre:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        assert send(to(centre.url, tmp_path), REPORT).verdict == "accepted"
