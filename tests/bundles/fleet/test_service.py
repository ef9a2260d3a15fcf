"""The centre as it is run: a process of its own, over real sockets, on both databases."""

import contextlib
import gzip
import http.client
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest
from fleets import HANGS_S, NOW, SCRIPT, STILL, accuracy, centre, free_port, report, varied
from sqlalchemy import func, select

from bundles.fleet.access import credentials
from bundles.fleet.api import handlers
from bundles.fleet.counting import rules
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import parse_report
from bundles.fleet.storage.database import open_database
from bundles.fleet.storage.schema import reports, seen
from tests.conftest import environment
from tests.other_user import NOBODY, become, needs_root, readable

NOW_S = int(NOW.timestamp())
# Tests that wait for the centre's own clocks, whatever the database is.
SLOW = pytest.mark.parametrize("address", ["sqlite"], indirect=True)


def counted(database):
    with database.reading() as connection:
        return [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (seen, reports)
        ]


@pytest.fixture
def served(address, database):
    """A centre, and tokens of a machine and of staff."""
    machine = credentials.add_token(database, "plant", "machine", NOW_S)
    staff = credentials.add_token(database, "reader", "staff", NOW_S)
    with centre(address) as made:
        yield made, machine, staff


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def refusing(request, tmp_path_factory):
    """As ``served``, once for all tests of what is refused, and its database."""
    address = f"sqlite:///{tmp_path_factory.mktemp('refusing') / 'fleet.db'}"
    if request.param == "postgresql":
        address = request.getfixturevalue("cluster").make("refusing")
    with contextlib.closing(open_database(address)) as database, centre(address) as made:
        machine, staff = (
            credentials.add_token(database, k, k, NOW_S) for k in ("machine", "staff")
        )
        yield made, machine, staff, database


def read(made, path, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    status, _, body = made.ask("GET", path, headers=headers)
    return status, body


def test_hostile_reports_get_a_clear_answer_and_count_nothing(refusing):
    made, token, _, database = refusing
    bomb = gzip.compress(b"[" * 50_000_000)
    tries = [
        (b"{", {}, 400),
        (report(1) + b" " * 5000, {}, 413),
        (b"[" * 1500, {}, 422),
        (report(1, schema=3), {}, 422),
        (report(1, week="2099-W01"), {}, 422),
        (report(1, week="2026-W01"), {}, 422),
        (report(1, bundle="'; DROP TABLE seen; --"), {}, 422),
        (report(1, bundle="<script>"), {}, 422),
        (gzip.compress(report(1)), {"Content-Encoding": "gzip"}, 415),
        (bomb[:2000], {}, 400),
        (bomb, {"Content-Encoding": "gzip"}, 415),
        (report(1), {"Content-Type": "text/plain"}, 415),
        (report(1), {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ]
    for body, headers, status in tries:
        answered, said = made.send(body, token, **headers)
        assert (answered, set(said["error"])) == (status, {"code", "message"})
    assert counted(database) == [0, 0]


@pytest.mark.parametrize("forged", ["", "Bearer", "Bearer ", "Bearer x", "Basic eDp5",
                                    "Bearer fleet-machine-' OR 1=1 --", "Bearer \xff"])  # fmt: skip
def test_a_forged_token_sends_nothing(refusing, forged):
    made, _, staff, database = refusing
    for given in (forged, f"Bearer {staff}"):
        headers = {"Content-Type": "application/json", "Authorization": given}
        status, answered, _ = made.ask("POST", "/v1/reports", report(1), headers)
        assert (status, answered["www-authenticate"]) == (401, "Bearer")
    assert counted(database) == [0, 0]


def test_a_machines_token_reads_nothing(refusing):
    made, token, staff, _ = refusing
    for path in ("/v1/overview", "/v1/cells", "/v1/cells.csv", "/metrics"):
        assert read(made, path)[0] == read(made, path, token)[0] == 401
        assert read(made, path, staff)[0] == 200


@SLOW
def test_a_revoked_token_is_refused_within_seconds(served, database):
    made, token, _ = served
    assert made.send(report(1), token)[0] == 202
    credentials.revoke_token(database, "plant", NOW_S)
    until = time.monotonic() + HANGS_S
    while made.send(report(2), token)[0] != 401:
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_token_that_sends_too_fast_is_told_when_to_come_again(address, database):
    token = credentials.add_token(database, "plant", "machine", NOW_S)
    with centre(address, "--per-minute", "5", first=STILL) as made:
        answers = [made.ask("POST", "/v1/reports", report(n),
                            {"Authorization": f"Bearer {token}",
                             "Content-Type": "application/json"}) for n in range(7)]  # fmt: skip
    assert [status for status, *_ in answers] == [202] * 5 + [429] * 2
    assert int(answers[-1][1]["retry-after"]) == 12
    assert counted(database) == [5, 5]


@SLOW
def test_a_body_without_an_end_does_not_hold_the_others_up(address):
    head = (
        b"POST /v1/reports HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    )
    short = "from bundles.fleet.api import handlers; handlers.BODY_WITHIN_S = 3"
    with centre(address, "--without-tokens", first=short) as made, contextlib.ExitStack() as stack:
        there = ("127.0.0.1", made.port)
        slow = [stack.enter_context(socket.create_connection(there, HANGS_S)) for _ in range(100)]
        for each in slow:
            each.sendall(head)
        assert made.send(report(1))[0] == 202
        assert slow[0].recv(100).startswith(b"HTTP/1.1 408")


def test_a_body_may_take_as_long_as_is_promised():
    assert handlers.BODY_WITHIN_S == 10


def test_nobodys_address_is_written_anywhere(address, database, tmp_path):
    token = credentials.add_token(database, "plant", "machine", NOW_S)
    with centre(address) as made:
        made.send(report(1), token)
        made.send(b"{", token)
        made.stop()
        said = made.said
    assert "127.0.0.1" not in said.replace(made.url, "")
    with database.reading() as connection:
        for table in reversed(reports.metadata.sorted_tables):
            rows = connection.execute(select(table)).all()
            assert "127.0.0.1" not in repr(rows)


def test_answers_are_of_released_counts(served, database):
    made, _, staff = served
    store_reports(database, [parse_report(varied(n)) for n in range(800)])
    assert json.loads(read(made, "/v1/overview", staff)[1])["in_force"] == []
    release_ready(database, NOW, 10, 1)
    overview = json.loads(read(made, "/v1/overview", staff)[1])
    cells = json.loads(read(made, "/v1/cells", staff)[1])["cells"]
    table = read(made, "/v1/cells.csv", staff)[1].decode().splitlines()
    assert overview["machines"] == sum(cell["machines"] for cell in cells) >= 750
    assert len(table) == len(cells) + 1
    metrics = read(made, "/metrics", staff)[1].decode()
    assert metrics.count("fleet_machines{") == len(cells)


def test_a_promotion_is_advised_only_on_evidence(served, database):
    made, _, staff = served

    def verdict():
        found = json.loads(read(made, "/v1/verdict?bundle=default&version=5", staff)[1])
        return found["verdict"]

    def fleet(first, count, error, **other):
        draw = random.Random(first)
        store_reports(database, [
            parse_report(report(first + n, calibrated=accuracy(
                round(round(max(0, draw.gauss(error, 0.1)) / 0.02) * 0.02, 2)), **other))
            for n in range(count)
        ])  # fmt: skip
        release_ready(database, NOW, 10, 1)

    assert verdict() == "too-few"
    fleet(0, 400, 0.4)
    fleet(1000, 20, 0.3, channel="pilot", bundle_version="5")
    assert verdict() == "too-few"
    fleet(2000, 40, 0.3, channel="pilot", bundle_version="5")
    assert verdict() == "unclear"  # nine may have refused it unseen
    fleet(3000, 300, 0.3, channel="pilot", bundle_version="5")
    assert verdict() == "promote"
    fleet(4000, 200, 0.4, channel="pilot", bundle_version="5", outcome="refused")
    assert verdict() == "withdraw"


def test_a_bundle_that_is_worse_in_pilot_is_to_be_withdrawn(served, database):
    made, _, staff = served
    store_reports(database, [parse_report(report(n)) for n in range(200)])
    worse = {"channel": "pilot", "bundle_version": "5", "calibrated": accuracy(0.6)}
    store_reports(database, [parse_report(report(1000 + n, **worse)) for n in range(200)])
    release_ready(database, NOW, 10, 1)
    found = json.loads(read(made, "/v1/verdict?bundle=default&version=5", staff)[1])
    assert found["verdict"] == "withdraw"
    assert found["worse_by"]["low"] > 0.15


def test_a_mix_of_architectures_is_no_difference(served, database):
    """Pilots with other machines are compared with machines like theirs."""
    made, _, staff = served

    def send(first, count, architecture, error, **other):
        made_ = {"architecture": architecture, "calibrated": accuracy(error)} | other
        store_reports(database, [parse_report(report(first + n, **made_)) for n in range(count)])

    pilot = {"channel": "pilot", "bundle_version": "5"}
    send(0, 300, "x86-64-v3", 0.3)
    send(1000, 60, "aarch64", 0.9)
    send(2000, 60, "x86-64-v3", 0.3, **pilot)
    send(3000, 300, "aarch64", 0.9, **pilot)
    release_ready(database, NOW, 10, 1)
    found = json.loads(read(made, "/v1/verdict?bundle=default&version=5", staff)[1])
    assert found["worse_by"]["estimate"] == pytest.approx(0, abs=1e-9)
    assert found["verdict"] == "promote"


def test_300_agents_with_losses_repeats_delays_and_a_killed_centre_are_counted_once(
    address, database
):
    """Each agent goes on until its report is accepted, as the real sender does; many never hear
    the answer and send again; the centre is killed (SIGKILL) and started again, three times."""
    token = credentials.add_token(database, "plants", "machine", NOW_S)
    port, draw = free_port(), random.Random(5)
    waiting = list(range(300))
    accepted, sends, lock = set(), [0], threading.Lock()
    alive, over = threading.Event(), time.monotonic() + 200

    def agent(number):
        me = random.Random(number)
        while time.monotonic() < over:
            if not alive.wait(1):
                continue
            time.sleep(me.random() * 0.01)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
            try:
                connection.request(
                    "POST", "/v1/reports", varied(number),
                    {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                )  # fmt: skip
                with lock:
                    sends[0] += 1
                if me.random() < 0.2:
                    continue  # hangs up before the answer: lost on its way, or counted unheard
                answer = connection.getresponse()
                if answer.status == 202 and json.loads(answer.read())["accepted"]:
                    with lock:
                        accepted.add(number)
                    if me.random() < 0.9:
                        return  # one of ten forgets that it was told, and sends once more
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()

    draw.shuffle(waiting)
    with ThreadPoolExecutor(48) as agents:
        jobs = [agents.submit(agent, number) for number in waiting]
        for kills in (75, 150, 225):
            with centre(address, port=port) as made:
                alive.set()
                while len(accepted) < kills:
                    assert time.monotonic() < over
                    time.sleep(0.005)
                made.kill()
                alive.clear()
                assert "Traceback" not in made.said
            heard = set(accepted)
            assert counted(database)[0] >= len(heard)  # what was acknowledged is there
        with centre(address, port=port) as made:
            alive.set()
            for job in jobs:
                job.result(HANGS_S)
            assert "Traceback" not in made.said  # whoever hangs up is no error
    assert accepted == set(range(300))
    assert sends[0] > 330
    assert counted(database) == [300, 300]
    rules.adopt_rules(database, 2, None, lower=True)
    release_ready(database, NOW, 2, 1)
    assert counted(database)[1] < 20  # released, but for lots of one machine


@SLOW
def test_where_nothing_can_be_stored_health_says_so_until_it_can(address, database):
    with centre(address, "--without-tokens") as made:
        before = resource.prlimit(made.process.pid, resource.RLIMIT_FSIZE, (1, -1))  # as if full
        assert "nothing can be stored: " in made.until_health_is(503)
        assert made.send(report(1))[0] == 503
        resource.prlimit(made.process.pid, resource.RLIMIT_FSIZE, before)
        made.until_health_is(200)
        assert made.send(report(1))[0] == 202


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_centre_that_is_told_to_stop_leaves_one_file_that_holds_all(tmp_path, how):
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    with centre(address, "--without-tokens", "--host", "::1") as made:
        assert made.send(report(1))[0] == 202
        assert made.stop(how) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.db"]
    with contextlib.closing(sqlite3.connect(tmp_path / "fleet.db")) as copy:
        assert copy.execute("SELECT count(*) FROM seen").fetchone() == (1,)


def test_with_too_few_files_a_centre_does_not_start(tmp_path):
    command = [SCRIPT, "fleet", "serve", "--database", f"sqlite:///{tmp_path / 'fleet.db'}"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 150; exec "$@"', "sh", *command],
        capture_output=True, text=True, timeout=HANGS_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert "only 150 files may be open at once (RLIMIT_NOFILE)" in done.stderr
    assert "the centre needs 256" in done.stderr
    assert "LimitNOFILE" in done.stderr


NO_THREADS = "import errno; from tests.seccomp import refuse; refuse(thread=errno.EAGAIN)"


def test_where_too_few_threads_may_be_started_a_centre_does_not_start(tmp_path):
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    words = "no more threads may be started here"
    with pytest.raises(AssertionError, match=words), centre(address, first=NO_THREADS):
        pass


def test_a_centre_that_has_started_needs_no_more_threads(tmp_path):
    on_signal = f"import signal; signal.signal(signal.SIGUSR1, lambda *_: exec({NO_THREADS!r}))"
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    with (
        centre(address, "--without-tokens", first=on_signal) as made,
        ThreadPoolExecutor(16) as senders,
    ):
        os.kill(made.process.pid, signal.SIGUSR1)
        early = [report(number, week="2026-W01") for number in range(16)]  # each asks the database
        answers = list(senders.map(made.send, [*early, report(16)]))
        assert [status for status, _ in answers] == 16 * [422] + [202]


def test_a_database_that_goes_away_is_survived(cluster, tmp_path):
    """The centre says 503 and when to come again, goes on by itself, and lost nothing."""
    address = cluster.make(f"away{free_port()}")
    database = open_database(address)
    token = credentials.add_token(database, "plant", "machine", NOW_S)
    with centre(address) as made:
        for number in range(20):
            assert made.send(report(number), token)[0] == 202
        cluster.stop("immediate")
        try:
            status, headers, _ = made.ask(
                "POST", "/v1/reports", report(20),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )  # fmt: skip
            assert (status, headers["retry-after"]) == (503, "30")
            made.until_health_is(503)
            assert made.ask("GET", "/login")[0] == 200
            assert made.said.count("the database does not answer") == 1  # told, and not flooded
        finally:
            cluster.start()
        for number in range(10, 30):
            assert made.send(report(number), token)[0] == 202
    database.close()
    database = open_database(address)
    assert counted(database) == [30, 30]
    database.close()


def test_a_centre_that_is_told_to_stop_answers_those_who_wait(served, database):
    made, token, _ = served
    with ThreadPoolExecutor(16) as senders:
        jobs = [senders.submit(made.send, report(n), token) for n in range(64)]
        wait(jobs, return_when=FIRST_COMPLETED)
        made.stop()
        answered = 0
        for job in jobs:
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered += job.result()[0] == 202
    assert counted(database)[0] >= answered


@needs_root
@pytest.mark.parametrize("words", ["serve", "token add x", "release"])
def test_a_database_that_may_not_be_written_is_told_of(open_place, words):
    place = open_place / "fleet.db"
    open_database(f"sqlite:///{place}").close()
    place.chmod(0o444)
    os.chown(open_place, NOBODY.pw_uid, NOBODY.pw_gid)
    ran = subprocess.run(
        [*readable(open_place), *become(), SCRIPT, "fleet", *words.split()],
        env=environment(FLEET_DATABASE=f"sqlite:///{place}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 4
    assert f"{place} cannot be used: attempt to write a readonly database" in ran.stderr
    assert "may this user write the file" in ran.stderr
