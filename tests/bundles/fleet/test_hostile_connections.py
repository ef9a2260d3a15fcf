"""Who connects to do harm: slow heads, endless heads, bodies that trickle, many at once."""

import contextlib
import http.client
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fleets import HANGS_S, centre

from bundles.fleet import connection
from bundles.fleet.access import people
from bundles.fleet.connection import MOST_BODY, MOST_HEAD

FEW = 256  # open files, before the centre raises that
HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /nowhere HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A centre that is started with room for few open files, as a login gives it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 4 * FEW:
        pytest.skip(f"no more than {hard} files may be open here")
    few = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW}, {hard}))"
    address = f"sqlite:///{tmp_path_factory.mktemp('hostile') / 'fleet.db'}"
    with centre(address, first=few) as found:
        yield found
        assert found.stop() == 0
        assert "Traceback" not in found.said


@contextlib.contextmanager
def connected(made, sent=b""):
    with socket.create_connection(("127.0.0.1", made.port), timeout=HANGS_S) as opened:
        opened.sendall(sent)
        yield opened


def trickle(connection, trickled=b"", until=b""):
    """What came until the centre hung up, or ``until``; a byte is sent now and then."""
    end, heard = time.monotonic() + HANGS_S, b""
    connection.settimeout(0.5)
    while time.monotonic() < end:
        try:
            connection.sendall(trickled)
            got = connection.recv(1000)
        except TimeoutError:
            continue
        except OSError:
            return heard
        heard += got
        if not got or (until and until in heard):
            return heard
    raise AssertionError("it was not cut off")


def peak_kib(made):
    status = Path(f"/proc/{made.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def test_many_half_heads_are_no_harm(made):
    with contextlib.ExitStack() as open_ones:
        for _ in range(3 * FEW):
            open_ones.enter_context(connected(made, HEAD))
        assert made.ask("GET", "/health")[0] == 200


HEADS = (
    (b"", b""),
    (HEAD, b""),
    (HEAD, b"X"),
    (HEAD + b"\r\n", b"\r\n"),  # after an answer
    (HEAD + b"\r\n" + HEAD, b"X"),  # a second request
)
BODIES = (
    (POST + b"Content-Length: 900\r\n\r\n", b"x"),  # answered before it is whole
    (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X"),  # a trailer
)


def test_the_limits_are_those_that_are_promised():
    assert (connection.HEAD_WITHIN_S, connection.WHOLE_WITHIN_S) == (10, 20)
    assert people.FORM_WITHIN_S == 10


@pytest.mark.parametrize(
    ("cases", "name"), [(HEADS, "HEAD_WITHIN_S"), (BODIES, "WHOLE_WITHIN_S")], ids=["head", "body"]
)
def test_what_does_not_come_in_time_is_cut_off(tmp_path, cases, name):
    """By the limit that is meant: here the other one lies beyond the end of the test."""
    limits = {"HEAD_WITHIN_S": 1000, "WHOLE_WITHIN_S": 1000} | {name: 2}
    short = "; ".join(f"connection.{one} = {value}" for one, value in limits.items())
    address = f"sqlite:///{tmp_path / 'fleet.db'}"

    def after_s(sent, trickled):
        begin = time.monotonic()
        with connected(made, sent) as opened:
            trickle(opened, trickled)
        return time.monotonic() - begin

    with (
        centre(address, first=f"from bundles.fleet import connection; {short}") as made,
        ThreadPoolExecutor(len(cases)) as clients,
    ):
        waited = list(clients.map(after_s, *zip(*cases, strict=True)))
        assert "Traceback" not in made.said
    assert all(seconds > 1 for seconds in waited)  # an event loop's clock may be a little behind


@pytest.mark.parametrize(
    "sent", [HEAD + b"X: ", b"GET /", HEAD + b"\r\n" + HEAD + b"X: ", HEAD + b"X: y\r\n"]
)
def test_a_head_without_an_end_is_refused_and_takes_no_room(made, sent):
    before, repeated = peak_kib(made), sent.endswith(b"\r\n")
    more = b"X: y\r\n" * 20_000 if repeated else b"a" * 120_000
    with connected(made, sent) as connection, contextlib.suppress(OSError):
        for _ in range(500):
            connection.sendall(more)
    assert peak_kib(made) - before < 20_000
    assert made.ask("GET", "/health")[0] == 200


def test_a_trailer_without_an_end_takes_no_room_either(made):
    before = peak_kib(made)
    begun = POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: "
    with connected(made, begun) as connection, contextlib.suppress(OSError):
        for _ in range(500):
            connection.sendall(b"a" * 120_000)
        pytest.fail("it was all taken")
    assert peak_kib(made) - before < 20_000


@pytest.mark.parametrize(
    ("size", "status"), [(MOST_HEAD - 200, 200), (MOST_HEAD + 1, 431), (4 * MOST_HEAD, 431)]
)
def test_the_limit_of_a_head_is_where_it_is_said_to_be(made, size, status):
    lines = b"".join(b"X: %s\r\n" % (b"a" * 1000) for _ in range(size // 1005))
    head = HEAD + lines + b"X: " + b"a" * (size - len(HEAD) - len(lines) - 7) + b"\r\n\r\n"
    with connected(made) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100).startswith(b"HTTP/1.1 %d" % status)


def test_requests_one_after_the_other_and_in_pieces_are_answered(made):
    connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=HANGS_S)
    with contextlib.closing(connection):
        for _ in range(50):
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b'{"ok":true}'
    whole = HEAD + b"\r\n"
    with connected(made) as pieces:
        for _ in range(2):
            for at in range(len(whole)):
                pieces.sendall(whole[at : at + 1])
            heard = b""
            while not heard.endswith(b'{"ok":true}'):
                heard += pieces.recv(1000)
            assert heard.startswith(b"HTTP/1.1 200")
    with connected(made, whole * 20) as pipelined:
        heard = b""
        while heard.count(b"HTTP/1.1 200") < 20:
            heard += pipelined.recv(10_000)


def test_a_large_body_is_answered_and_then_no_more_of_it_is_taken(made):
    body = b"x" * (MOST_BODY // 2)
    assert made.ask("POST", "/v1/openapi.json", body)[0] == 405
    begun = POST + b"Content-Length: 900000000\r\n\r\n"
    with connected(made, begun) as connection, contextlib.suppress(OSError):
        for _ in range(2000):
            connection.sendall(b"x" * 100_000)
        pytest.fail("it was all taken")


FORM = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nname="
)


def test_a_form_that_trickles_is_told_so(tmp_path):
    short = "from bundles.fleet.access import people; people.FORM_WITHIN_S = 2"
    with centre(f"sqlite:///{tmp_path / 'fleet.db'}", first=short) as made:
        with connected(made, FORM) as opened:
            heard = trickle(opened, b"a", b"408")
        assert "Traceback" not in made.said
    assert heard.startswith(b"HTTP/1.1 408")


def test_who_hangs_up_in_a_form_is_no_error(tmp_path):
    with centre(f"sqlite:///{tmp_path / 'fleet.db'}") as made:
        for _ in range(5):
            with connected(made, FORM):
                pass
        assert made.stop() == 0  # once it has done with all of them
        assert "Traceback" not in made.said
