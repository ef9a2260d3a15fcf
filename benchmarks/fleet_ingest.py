"""How many reports a second a centre takes, how long each waits, and whether its memory stays flat.

    python benchmarks/fleet_ingest.py [--database sqlite] [--rate 1000] [--reports 60000]
    python benchmarks/fleet_ingest.py --reports 1000000        # memory, about 17 minutes

The real `bundles fleet serve` on a PostgreSQL of its own (fsync on, nothing tuned), all on this
machine, this program's load included. Reports are due at fixed moments (open loop); a report's time
runs from its moment, so a stall counts against every report that was due meanwhile. Connections are
kept, as those of a proxy in front are. In the end every report is looked for in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import uvloop
from sqlalchemy import func, select

from bundles.fleet.access import credentials
from bundles.fleet.storage.database import Database, open_database
from bundles.fleet.storage.schema import seen
from tests.bundles.fleet.fleets import Centre, centre, postgres, varied

WARM_UP_S = 3.0
GOAL_RATE, GOAL_P99_MS = 1000, 50


@dataclass
class Load:
    """What is sent, and what became of it."""

    rate: float
    reports: int
    requests: list[bytes]
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    sent: int = 0
    begun: float = 0.0
    ended: float = 0.0


class Connection(asyncio.Protocol):
    """One request at a time; the next one that is due is taken when an answer is whole."""

    def __init__(self, load: Load, done: asyncio.Future[None]) -> None:
        self._load, self._done = load, done
        self._loop = asyncio.get_running_loop()
        self._due, self._rest = 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        load = self._load
        if load.sent == load.reports:
            self._finish()
            return
        number, load.sent = load.sent, load.sent + 1
        self._due = load.begun + number / load.rate
        wait = self._due - self._loop.time()
        if wait > 0:
            self._loop.call_later(wait, self._send, number)
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        request = self._load.requests[number % len(self._load.requests)]
        self._transport.write(request % os.urandom(32).hex().encode())

    def data_received(self, data: bytes) -> None:
        """Note an answer that is whole."""
        self._rest += data
        head, ended, body = self._rest.partition(b"\r\n\r\n")
        if not ended or not body.endswith(b"}"):
            return
        self._rest = b""
        self._load.ended = self._loop.time()
        if head.startswith(b"HTTP/1.1 202"):
            self._load.waits.append(self._loop.time() - self._due)
        else:
            self._load.refused += 1
        self._next()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """The end, of its own accord or not."""
        self._finish()

    def _finish(self) -> None:
        self._transport.close()
        if not self._done.done():
            self._done.set_result(None)


async def send(load: Load, port: int, connections: int, watch: Centre) -> list[int]:
    """Send it all; the resident memory of the centre (MiB) at every tenth."""
    loop = asyncio.get_running_loop()
    load.begun = loop.time() + 0.1
    dones = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(lambda done=done: Connection(load, done), "127.0.0.1", port)
        dones.append(done)
    memory = [resident(watch)]
    while not all(done.done() for done in dones):
        if load.sent >= len(memory) * load.reports / 10:
            memory.append(resident(watch))
        await asyncio.sleep(0.05)
    return memory


def resident(watch: Centre) -> int:
    status = Path(f"/proc/{watch.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def requests(token: str, count: int = 4000) -> list[bytes]:
    """Whole requests of a mixed fleet; each time one is sent it gets a dedupe of its own."""
    made, marks = [], random.Random(1)
    for number in range(count):
        mark = f"{marks.getrandbits(256):064x}"
        body = varied(number, dedupe=mark).replace(b"%", b"%%").replace(mark.encode(), b"%s")
        length = len(body.replace(b"%%", b"%")) - 2 + 64
        head = (
            "POST /v1/reports HTTP/1.1\r\nHost: fleet\r\nUser-Agent: calibration-agent\r\n"
            "Accept-Encoding: identity\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


@contextlib.contextmanager
def database_of(kind: str) -> Iterator[str]:
    if kind == "postgresql":
        with postgres() as cluster:
            yield cluster.make("fleet")
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/fleet.db"


def there(database: Database) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(seen)).scalar_one()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--rate", type=float, default=GOAL_RATE, help="reports a second")
    parser.add_argument("--reports", type=int, default=60_000)
    parser.add_argument("--connections", type=int, default=64)
    chosen = parser.parse_args()
    with database_of(chosen.database) as address:
        database = open_database(address)
        token = credentials.add_token(database, "plants", "machine", 0)
        with centre(address, "--per-minute", "100000000") as watch:
            made = requests(token)
            warm = Load(chosen.rate / 2, int(chosen.rate / 2 * WARM_UP_S), made)
            uvloop.run(send(warm, watch.port, chosen.connections, watch))
            load = Load(chosen.rate, chosen.reports, made)
            memory = uvloop.run(send(load, watch.port, chosen.connections, watch))
        accepted = len(load.waits) + len(warm.waits)
        kept = there(database)
        database.close()
    show(chosen, load, memory)
    same = "each is there" if accepted == kept else "NOT THE SAME"
    print(f"accepted {accepted:,}, in the database {kept:,}: {same}")


def show(chosen: argparse.Namespace, load: Load, memory: list[int]) -> None:
    p50, p99, p999, most = np.quantile(np.array(load.waits) * 1000, (0.5, 0.99, 0.999, 1))
    rate = len(load.waits) / (load.ended - load.begun)
    print(f"{chosen.database}, {os.cpu_count()} cores, {chosen.connections} connections")
    print(f"{len(load.waits):,} accepted, {load.refused:,} refused, {rate:,.0f} a second")
    print(f"ms from due to acknowledged: median {p50:.1f}, p99 {p99:.1f}, p99.9 {p999:.1f}, "
          f"longest {most:.0f}")  # fmt: skip
    print(f"resident memory of the centre, MiB, at every tenth: {' '.join(map(str, memory))}")
    good = rate >= 0.99 * GOAL_RATE and p99 <= GOAL_P99_MS
    print(f"goal (1,000 a second, p99 50 ms): {'reached' if good else 'not reached'}")


if __name__ == "__main__":
    main()
