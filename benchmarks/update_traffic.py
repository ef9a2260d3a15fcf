"""What machines that ask for updates cost the centre, in requests and bytes.

    python benchmarks/update_traffic.py [--machines 10000] [--seconds 2]

A real repository (the default bundle), served by the real `bundles serve`, asked by the agent's own
client; requests and bytes are counted by the server (headers and bodies; TLS is not in it). What
one machine costs in each situation is then multiplied.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from agent.bundle.bundle import default_bundle
from agent.update.floors import NO_FLOORS, Floors
from agent.update.source import open_source
from agent.update.trust import Trust, refresh
from bundles.repository import publish
from bundles.repository.making import make_repository
from bundles.repository.passphrases import Passphrases
from bundles.repository.publish import Audience
from bundles.repository.publisher import Publisher, publisher_at
from bundles.repository.renewal import renew_online

BUNDLES = str(Path(sys.executable).parent / "bundles")
CONNECTIONS = 4
DAY_S, HOUR_S = 86_400, 3_600


@dataclass(frozen=True)
class Cost:
    """Of one machine asking once, by the server's count."""

    requests: int
    sent: int


@contextlib.contextmanager
def served(repository: Path, tally: dict[str, int]) -> Iterator[str]:
    """The plain server in a process of its own; what it counted is in ``tally`` afterwards."""
    command = [BUNDLES, "serve", str(repository), "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split(" at ")[1].split()[0]
        try:
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            out, _ = server.communicate(timeout=30)
            tally.update(json.loads(out))


class Machine:
    """The agent's client with what it keeps: cache, floors, and the bundle it has."""

    def __init__(self, cache: Path, root: bytes) -> None:
        self.cache, self.root = cache, root
        self.floors: Floors = NO_FLOORS
        self.digest = ""

    def ask(self, repository: Path, now: datetime) -> Cost:
        """Refresh, and fetch the settled bundle if it is another one."""
        tally: dict[str, int] = {}
        with served(repository, tally) as url:
            trust = Trust(self.root, "pilot", self.cache, self.floors, now.timestamp())
            session = refresh(open_source(url), trust)
            self.floors = session.trusted.floors
            settled = session.trusted.offers["settled"]
            if settled.digest != self.digest:
                session.download(settled)
                self.digest = settled.digest
        return Cost(tally["requests"], tally["bytes"])


def next_version(work: Path, number: int) -> Path:
    """The default bundle under another version."""
    path = work / f"bundle-{number}"
    shutil.copytree(default_bundle(), path)
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps({**manifest, "version": f"test-{number}"}))
    return path


def situations(work: Path) -> dict[str, Cost]:
    """What one machine costs in each."""
    now = [datetime.now(UTC)]
    first = publisher_at(
        work / "repository", now[0], Passphrases(None, {"BUNDLES_PASSPHRASE": "only a benchmark"})
    )
    make_repository(first, 3, 2)

    def at() -> Publisher:
        now[0] += timedelta(hours=1)
        return Publisher(first.directory, first.keyring, now[0])

    def renewed(days: int) -> Callable[[], object]:
        def act() -> object:
            now[0] += timedelta(days=days)
            return renew_online(at())

        return act

    publish.add_bundle(at(), next_version(work, 1), Audience("pilot"))
    root = (first.directory / "public" / "metadata" / "1.root.json").read_bytes()
    machine = Machine(work / "cache", root)
    changes: dict[str, Callable[[], object]] = {
        "first time ever": lambda: None,
        "nothing new": lambda: None,
        "timestamp renewed (daily)": renewed(1),
        "snapshot renewed (twice a month)": renewed(15),
        "new bundle for the other channel": lambda: publish.add_bundle(
            at(), next_version(work, 2), Audience("stable")
        ),
        "new bundle": lambda: publish.add_bundle(at(), next_version(work, 3), Audience("pilot")),
    }
    found = {}
    for name, change in changes.items():
        change()
        found[name] = machine.ask(first.directory, now[0])
    return found


def rate(repository: Path, seconds: float) -> float:
    """Requests a second that the plain server answers on kept connections, clients beside it."""
    counts = [0] * CONNECTIONS
    with served(repository, {}) as url:
        where = urlsplit(url)
        until = time.perf_counter() + seconds

        def ask(number: int) -> None:
            connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
            while time.perf_counter() < until:
                connection.request("GET", "/metadata/timestamp.json")
                connection.getresponse().read()
                counts[number] += 1
            connection.close()

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(counts) / seconds


def show(found: dict[str, Cost], machines: int, answered: float) -> None:
    quiet, bundle = found["nothing new"], found["new bundle"]
    print("one machine, asking once            requests      bytes   to nothing new")
    for name, cost in found.items():
        print(f"{name:34} {cost.requests:>9} {cost.sent:>10,} {cost.sent / quiet.sent:>12,.1f} x")
    daily = found["timestamp renewed (daily)"]
    requests = machines * (23 * quiet.requests + daily.requests)
    sent = machines * (23 * quiet.sent + daily.sent)
    each = bundle.sent - quiet.sent
    print(f"\n{machines:,} machines asking every hour")
    print(f"  on a day without a bundle: {requests:,} requests, {sent / 1e9:.2f} GB; ", end="")
    print(f"{requests / DAY_S:.1f} requests/s, {sent * 8 / DAY_S / 1e6:.2f} Mbit/s on average")
    print(f"  a new bundle for all: {machines * each / 1e9:.1f} GB more, ", end="")
    print(f"{machines * each * 8 / HOUR_S / 1e6:.0f} Mbit/s if they ask evenly over an hour")
    wasteful = machines * 24 * bundle.sent
    print(f"  if each check fetched the bundle: {wasteful / sent:,.0f} x the bytes of a quiet day")
    needed = requests / DAY_S
    print(f"\nthe plain server on this machine answers {answered:,.0f} requests/s, ", end="")
    print(f"{answered / needed:,.0f} x what they need on average")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--machines", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="of counting the server's rate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bundles-traffic-") as folder:
        found = situations(Path(folder))
        answered = rate(Path(folder) / "repository", options.seconds)
    show(found, options.machines, answered)


if __name__ == "__main__":
    main()
