"""``bundles promote`` asks the fleet: the real command, a real repository, a real centre."""

import contextlib
import gzip
import json
import random
import socket
import threading
from datetime import UTC, datetime

import pytest
from fleets import NOW, accuracy, centre, free_port, report

from bundles.fleet.access import credentials
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import parse_report
from bundles.fleet.storage.database import open_database
from bundles.repository import pem
from bundles.repository.making import make_repository
from tests import forked
from tests.bundles.repository.repositories import PASSPHRASE, bundle_like, place, put

PROBLEM, INPUT, UNREACHABLE = 9, 2, 4
ENV = {"BUNDLES_PASSPHRASE": PASSPHRASE, "PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bundle):
    """A repository with tiny 4 on stable and tiny 5 on pilot, a centre, and a staff token."""
    folder = tmp_path_factory.mktemp("promote")
    now = datetime.now(UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pem, "SCRYPT_N", 2)
        where = place(folder / "repository", now)
        make_repository(where, 1, 1)
        put(where, bundle_like(tiny_bundle, folder / "4", "4"), "stable")
        put(where, bundle_like(tiny_bundle, folder / "5", "5"), "pilot")
    database = open_database(f"sqlite:///{folder / 'fleet.db'}")
    (folder / "token").write_text(credentials.add_token(database, "promoter", "staff", 0))
    (folder / "wrong").write_text(credentials.add_token(database, "plant", "machine", 0))
    with centre(f"sqlite:///{folder / 'fleet.db'}") as running:
        yield folder, database, running
    database.close()


def fleet(database, pilot, stable=0.4, machines=300, **other):
    """Replace what the fleet says: so many machines of either channel, with such errors."""
    with database.writing() as connection:
        for table in ("reports", "seen", "cells", "parts", "firsts", "evidence"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    draw = random.Random(1)

    def of(first, error, **more):
        for number in range(first, first + machines):
            rounded = round(round(max(0, draw.gauss(error, 0.08)) / 0.02) * 0.02, 2)
            yield parse_report(report(number, bundle="tiny", calibrated=accuracy(rounded), **more))

    store_reports(database, [*of(0, stable), *of(10_000, pilot, channel="pilot", bundle_version="5",
                                         **other)])  # fmt: skip
    release_ready(database, NOW, 10, 1)


def promote(folder, url, *more, token="token"):
    """The answer's code, the object, and what was said."""
    words = ("promote", "tiny@5", "--to", "stable", "--repo", folder / "repository",
             "--fleet", url, "--fleet-token-file", folder / token, "--json", *more)  # fmt: skip
    done = forked.run("bundles", *words, env=ENV)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def offered(folder):
    """Every byte that machines could take."""
    public = folder / "repository" / "public"
    return {file: file.read_bytes() for file in public.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("fleet_of", "said"),
    [
        ({"pilot": 0.4, "machines": 30}, "wait"),
        ({"pilot": 0.6}, "withdraw"),
        ({"pilot": 0.4, "outcome": "refused"}, "withdraw"),
    ],
)
def test_a_promotion_against_the_verdict_is_refused_and_changes_nothing(made, fleet_of, said):
    folder, database, running = made
    fleet(database, **fleet_of)
    before = offered(folder)
    code, body, words = promote(folder, running.url)
    assert code == PROBLEM
    assert f"the fleet says of tiny@5: {said}" in body["error"]["message"]
    assert "--force" in body["error"]["hint"]
    assert "Traceback" not in words
    assert offered(folder) == before


@pytest.mark.parametrize("token", ["wrong", "none"])
def test_without_the_right_token_nothing_is_promoted(made, token):
    folder, _, running = made
    before = offered(folder)
    assert promote(folder, running.url, token=token)[0] == INPUT
    assert offered(folder) == before


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://127.0.0.1:{port}", UNREACHABLE), ("http://fleet.example", INPUT),
     ("file:///etc/passwd", INPUT), ("{url}/login", UNREACHABLE)],
)  # fmt: skip
def test_a_fleet_that_cannot_be_asked_is_no_yes(made, url, code):
    folder, _, running = made
    before = offered(folder)
    there = url.format(port=free_port(), url=running.url)
    assert promote(folder, there)[0] == code
    assert offered(folder) == before


YES = json.dumps({"verdict": "promote", "why": []}).encode()
PACKED = gzip.compress(YES)
BROKEN = {
    "packed junk": b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "a packed yes": b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
    "broken chunks": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + YES,
    "a chunk cut off": b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + YES,
    "cut off": b"Content-Length: 900\r\n\r\n" + YES,
    "too large": b"Content-Length: 300000\r\n\r\n" + YES + b" " * 300_000,
    "no HTTP": b"",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_no_yes(made, answer):
    folder = made[0]
    before = offered(folder)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        code, _, said = promote(folder, f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert code == UNREACHABLE, said
    assert "Traceback" not in said
    assert offered(folder) == before


def test_the_fleets_yes_promotes_and_force_goes_against_its_no(made):
    folder, database, running = made
    fleet(database, pilot=0.3)
    before = offered(folder)
    code, body, _ = promote(folder, running.url)
    assert code == 0, body
    assert offered(folder) != before
    back = ("withdraw", "tiny@5", "--channel", "stable", "--repo", folder / "repository")
    assert forked.run("bundles", *back, env=ENV).returncode == 0
    fleet(database, pilot=0.6)
    assert promote(folder, running.url, "--again")[0] == PROBLEM
    assert promote(folder, running.url, "--again", "--force")[0] == 0
