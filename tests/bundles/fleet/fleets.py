"""Reports as agents make them, and centres as they are run: real processes, a real PostgreSQL."""

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests import forked

SCRIPT = Path(sys.executable).with_name("bundles")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)  # a Tuesday, week 2026-W48
WEEK = "2026-W48"
HANGS_S = 200  # nothing takes as long, on however busy a machine


def accuracy(error=0.4, rank=0.8):
    return {"speedup_error": error, "seconds_error": 0.5, "rank": rank, "top_pick": 0.95}


def report(number, **other):
    """A report as an agent makes it; ``number`` is the machine's, ... leaves a field out."""
    made = {
        "schema": 2,
        "first": True,
        "agent": "0.1.0",
        "bundle": "default",
        "bundle_version": "4",
        "channel": "stable",
        "week": WEEK,
        "architecture": "x86-64-v3",
        "toolchain": "gcc",
        "timings": "48+",
        "noise": "under-1%",
        "calibrated": accuracy(),
        "bundle_alone": accuracy(0.5),
        "outcome": "kept",
        "dedupe": f"{number:064x}",
    } | other
    made = {name: value for name, value in made.items() if value is not ...}
    return json.dumps(made, sort_keys=True, separators=(",", ":")).encode()


def varied(number, **other):
    """A report of one machine of a mixed fleet; the same number, the same report."""
    draw = random.Random(number)
    error = min(5.0, max(0.0, draw.gauss(0.45, 0.12)))
    better = min(5.0, max(0.0, error - draw.gauss(0.08, 0.05)))
    outcome = draw.choices(("kept", "fell-back", "refused", "too-noisy"), (90, 5, 2, 3))[0]
    return report(
        number,
        **{
            "architecture": draw.choices(
                ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"), (10, 50, 25, 15)
            )[0],
            "toolchain": draw.choices(("gcc", "clang", "prebuilt"), (70, 10, 20))[0],
            "noise": draw.choices(("under-1%", "1-3%", "3-10%"), (60, 30, 10))[0],
            "channel": "pilot" if draw.random() < 0.15 else "stable",
            "outcome": outcome,
            "calibrated": accuracy(round(round(better / 0.02) * 0.02, 2)),
            "bundle_alone": accuracy(round(round(error / 0.02) * 0.02, 2)),
        }
        | other,
    )


# --- a PostgreSQL of the tests' own ---


def postgres_is_there():
    return bool(_postgres_programs()) and (os.geteuid() != 0 or shutil.which("runuser"))


def _postgres_programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@dataclass
class Postgres:
    """A cluster in a directory; databases are made on it by name."""

    home: Path
    port: int
    options: str = ""

    def address(self, name):
        return f"postgresql://postgres@/{name}?host={self.home}&port={self.port}"

    def run(self, program, *arguments, check=True):
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, str(_postgres_programs() / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, cwd="/", timeout=HANGS_S)
        if check and done.returncode:
            raise AssertionError(f"{program}: {done.stderr.decode()}")
        return done

    def start(self):
        # After a crash the whole folder is synced: all at once, not file by file.
        synced = "-c recovery_init_sync_method=syncfs"
        options = f"-k {self.home} -p {self.port} -c listen_addresses='' {synced} {self.options}"
        log = self.home / "log"
        self.run(
            "pg_ctl",
            "-D",
            self.home / "data",
            "-l",
            log,
            "-w",
            "-t",
            HANGS_S,
            "-o",
            options,
            "start",
        )

    def stop(self, how="fast"):
        self.run("pg_ctl", "-D", self.home / "data", "-m", how, "-w", "stop", check=False)

    def make(self, name):
        where = ("-h", self.home, "-p", self.port, "-U", "postgres")
        self.run("createdb", "-T", "template0", *where, name)  # nobody else is ever in that one
        return self.address(name)


@contextlib.contextmanager
def postgres(options=""):
    """A new cluster, as a site would have it: fsync on, nothing tuned but ``options``.

    Not below pytest's directories: those are for their maker only, and PostgreSQL refuses root.
    """
    home = Path(tempfile.mkdtemp(prefix="fleet-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    cluster = Postgres(home, 54_321, options)
    plain = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")  # nothing is in it yet
    cluster.run("initdb", "-D", home / "data", *plain)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop("immediate")  # nobody wants what is in it any more
        shutil.rmtree(home)


# --- a centre in a process of its own ---


@dataclass
class Centre:
    process: BaseProcess
    port: int
    log: Path
    host: str = "127.0.0.1"

    @property
    def said(self):
        """What it wrote to stderr, until now."""
        return self.log.read_text()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=HANGS_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def send(self, body, token=None, **headers):
        """The answer's status and object to a report."""
        given = {"Content-Type": "application/json"} | headers
        if token:
            given["Authorization"] = f"Bearer {token}"
        status, _, answer = self.ask("POST", "/v1/reports", body, given)
        return status, json.loads(answer)

    def until_health_is(self, status):
        """What `/health` says then; it looks once a second."""
        until = time.monotonic() + HANGS_S
        while (answer := self.ask("GET", "/health"))[0] != status:
            assert time.monotonic() < until
            time.sleep(0.1)
        return answer[2].decode()

    def kill(self):
        self.process.kill()
        self.process.join()

    def stop(self, how=signal.SIGTERM):
        """Its exit code."""
        os.kill(self.process.pid, how)
        self.process.join(300)
        return self.process.exitcode


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def centre(database, *options, port=None, at=NOW, first=""):
    """``bundles fleet serve`` as a person starts it, with its clock at ``at``.

    ``first``: Python that is run before, to make waits short.
    """
    port = port or free_port()
    words = ("fleet", "serve", "--database", database, "--port", str(port), *options)
    first = _AT.format(at.timestamp()) + CHEAP + first
    command = forked.Command("bundles", words, dict(os.environ), str(Path.cwd()), first)
    with tempfile.TemporaryDirectory(prefix="fleet-log-") as place:
        out, log = Path(place) / "out", Path(place) / "log"
        log.touch()
        process = forked.start(command, out, log)
        made = Centre(process, port, log, "::1" if "::1" in options else "127.0.0.1")
        try:
            _wait(made)
            yield made
        finally:
            process.terminate()
            process.join(300)
            process.kill()
            process.join()


# What a password costs to hash is for attackers, not for tests: argon2's defaults take 50 ms.
CHEAP = """
from argon2 import PasswordHasher
from bundles.fleet.access import credentials
credentials._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
credentials._NOBODY = credentials._HASHER.hash("nobody's")
"""

STILL = "seconds = lambda: 0.0"  # no bucket fills again, however slow this machine is

# The real command, with what tests may not leave to chance injected: day and seconds.
_AT = """
import time
from datetime import UTC, datetime, timedelta
from bundles.fleet import settings
begin, zero = datetime.fromtimestamp({}, UTC), time.monotonic()
now = lambda: begin + timedelta(seconds=time.monotonic() - zero)
made, seconds = settings.CentreSettings.__init__, time.monotonic
settings.utc_now = now
settings.CentreSettings.__init__ = lambda self, *a, **k: made(
    self, *a, **{{"clock": now, "seconds": seconds, **k}}
)
"""


def _wait(made):
    until = time.monotonic() + HANGS_S
    while time.monotonic() < until:
        if not made.process.is_alive():
            raise AssertionError(made.said)
        with contextlib.suppress(OSError):
            if made.ask("GET", "/health")[0] == 200:
                return
        time.sleep(0.02)
    raise AssertionError("the centre does not answer")
