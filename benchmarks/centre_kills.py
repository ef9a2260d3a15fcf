"""What is lost or counted twice when a centre is killed at its work: nothing.

    python benchmarks/centre_kills.py [--database sqlite] [--kills 200] [--seed 1]

The real `run_centre`, in a process of its own on a real database (PostgreSQL of its own, fsync on),
takes reports from senders that do as agents do: each sends until its report is accepted, and now
and then once more. It is killed (SIGKILL) at random, and started again; before every second kill a
release is begun in another process; every second of these is killed too. In the end every report
that was accepted must be there, and every report that is there must be counted once: shown, or
waiting.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from sqlalchemy import func, select

from benchmarks.fleet_ingest import database_of
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.weeks import week_of, week_text
from bundles.fleet.server import run_centre
from bundles.fleet.settings import CentreSettings, utc_now
from bundles.fleet.storage.database import Database, open_database
from bundles.fleet.storage.schema import cells, reports, seen
from tests.bundles.fleet.fleets import free_port, varied

SENDERS = 8
ALIVE_S = 0.8  # at most this long after its first answer a centre is killed
AGAIN = 0.1  # of the accepted reports are sent once more
IMPORTED_LATE = ("alembic.command", "psycopg", "uvloop", "uvicorn.lifespan.on")
STARTS = multiprocessing.get_context("forkserver")  # imports once, for all that are killed


@dataclass
class Fleet:
    """What machines have sent, and what they were told."""

    port: int
    seed: int
    week: str
    sent: int = 0
    accepted: set[int] = field(default_factory=set)
    again: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def machines(self, first: int) -> None:
        """One sender: the reports of every eighth machine, one after the other."""
        draw, number, connection = random.Random(f"{self.seed} {first}"), first, self._connect()
        while not self.over.is_set() or number not in self.accepted:
            try:
                self.sent += 1
                if not self._accepted(connection, number):
                    continue
                self.again += number in self.accepted
                self.accepted.add(number)
            except (OSError, http.client.HTTPException):  # killed, or not there yet
                connection.close()
                time.sleep(0.1)
                connection = self._connect()
                continue
            if draw.random() >= AGAIN and not self.over.is_set():
                number += SENDERS
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def _accepted(self, connection: http.client.HTTPConnection, number: int) -> bool:
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/reports", varied(number, week=self.week), kind)
        answer = connection.getresponse()
        return answer.status == 202 and bool(json.loads(answer.read())["accepted"])


def _serve(settings: CentreSettings, port: int) -> None:
    run_centre(settings, "127.0.0.1", port)


def _release(address: str) -> None:
    release_ready(open_database(address, create=False), utc_now())


@contextlib.contextmanager
def _started(target: object, *arguments: object) -> Iterator[BaseProcess]:
    process = STARTS.Process(target=target, args=arguments)  # type: ignore[arg-type]
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _kill_once(fleet: Fleet, settings: CentreSettings, number: int, draw: random.Random) -> None:
    before = len(fleet.accepted)
    with _started(_serve, settings, fleet.port):
        while len(fleet.accepted) == before:  # it is there
            time.sleep(0.005)
        if number % 2:
            with _started(_release, settings.database) as release:
                release.join(draw.uniform(0, ALIVE_S) if number % 4 == 1 else None)
        time.sleep(draw.uniform(0, ALIVE_S))


def _counts(database: Database) -> tuple[int, int, int]:
    """Reports that are known; machines that are shown; reports that wait."""
    with database.reading() as connection:
        known = connection.execute(select(func.count()).select_from(seen)).scalar_one()
        shown = connection.execute(select(func.sum(cells.c.machines))).scalar_one() or 0
        waiting = connection.execute(select(func.count()).select_from(reports)).scalar_one()
    return int(known), int(shown), int(waiting)


def _missing(database: Database, accepted: set[int]) -> int:
    with database.reading() as connection:
        there = {bytes(value) for value in connection.execute(select(seen.c.dedupe)).scalars()}
    return sum(bytes.fromhex(f"{number:064x}") not in there for number in accepted)


def kill_centres(address: str, kills: int, seed: int) -> dict[str, int]:
    """Kill so many centres on a database; what was sent, and what is wrong."""
    STARTS.set_forkserver_preload(["bundles.fleet.server", *IMPORTED_LATE])
    settings = CentreSettings(address, tokens_needed=False)
    fleet = Fleet(free_port(), seed, week_text(week_of(utc_now())))
    draw, wrong = random.Random(seed), {"lost": 0, "counted twice": 0, "not counted": 0}
    open_database(address).close()
    senders = [threading.Thread(target=fleet.machines, args=(n,)) for n in range(SENDERS)]
    for sender in senders:
        sender.start()
    for number in range(kills):
        _kill_once(fleet, settings, number, draw)
    with _started(_serve, settings, fleet.port):
        fleet.over.set()
        for sender in senders:
            sender.join()
    database = open_database(address, create=False)
    known, shown, waiting = _counts(database)
    wrong["lost"] = _missing(database, fleet.accepted)
    wrong["counted twice"] = max(0, shown + waiting - known)
    wrong["not counted"] = max(0, known - shown - waiting)
    database.close()
    told = {"kills": kills, "sent": fleet.sent, "accepted": len(fleet.accepted)}
    return told | {"accepted again": fleet.again, "shown": shown, "waiting": waiting} | wrong


def main() -> None:
    """Kill, count, and fail if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with database_of(chosen.database) as at:
        found = kill_centres(at, chosen.kills, chosen.seed)
    for name, count in found.items():
        print(f"{name:>16}: {count}")
    if found["lost"] or found["counted twice"] or found["not counted"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
