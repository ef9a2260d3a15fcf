"""How long the centre's pages take over a large fleet, and how long a release of it takes.

    python benchmarks/fleet_pages.py [--machines 100000] [--weeks 10] [--database sqlite]

Every machine reports once a week: 1,000,000 reports by default, of a mixed fleet with a new bundle
on pilot in the last weeks. They are stored as the centre stores them and released week by week
(both are timed), on a PostgreSQL of the benchmark's own with nothing tuned. Then the real
`bundles fleet serve` is asked for its pages over HTTP, one request after the other.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import random
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np

from benchmarks.fleet_ingest import database_of, resident
from bundles.fleet.access import credentials
from bundles.fleet.counting import weeks
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import Report, parse_report
from bundles.fleet.storage.database import Database, open_database
from tests.bundles.fleet.fleets import NOW, Centre, accuracy, centre, varied

TOGETHER = 1000
ASKED = 40
GOAL_MS = 200
PATHS = (
    "/", "/bundle?bundle=default&version=4", "/bundle?bundle=default&version=5&channel=pilot",
    "/v1/overview", "/v1/cells", "/v1/verdict?bundle=default&version=5", "/metrics",
)  # fmt: skip


def week_of(at: datetime, machines: int, new: bool) -> Iterator[Report]:
    """One report of every machine; alike ones share what they say, none its dedupe."""
    draw, week = random.Random(at.timestamp()), weeks.week_text(weeks.week_of(at))
    kinds: list[Report] = []
    for number in range(5000):
        more = {"week": week}
        if new and draw.random() < 0.1:
            error = round(round(max(0.0, draw.gauss(0.35, 0.1)) / 0.02) * 0.02, 2)
            more |= {"channel": "pilot", "bundle_version": "5", "calibrated": accuracy(error)}
        kinds.append(parse_report(varied(number * 1000 + weeks.week_of(at), **more)))
    for _ in range(machines):
        kind = kinds[draw.randrange(len(kinds))]
        yield msgspec.structs.replace(kind, dedupe=f"{draw.getrandbits(256):064x}")


def fill(database: Database, machines: int, count: int) -> None:
    """``count`` weeks, each released when it is over."""
    for back in range(count - 1, -1, -1):
        at, began = NOW - timedelta(weeks=back), time.monotonic()
        reports = week_of(at, machines, new=back < 4)
        while batch := list(itertools.islice(reports, TOGETHER)):
            store_reports(database, batch)
        stored, began = time.monotonic() - began, time.monotonic()
        released = release_ready(database, at, 10, 1)
        took = time.monotonic() - began
        rate = f"{machines / stored:,.0f} stored a second"
        print(
            f"{weeks.week_text(weeks.week_of(at))}: {rate}, {released:,} released in {took:.1f} s"
        )
        gc.collect()


def ask(made: Centre, cookie: str, paths: Sequence[str]) -> None:
    """Time each page."""
    for path in paths:
        took, size = [], 0
        for _ in range(ASKED):
            began = time.perf_counter()
            status, _, body = made.ask("GET", path, headers={"Cookie": f"fleet-session={cookie}"})
            took.append((time.perf_counter() - began) * 1000)
            if status != 200:
                raise SystemExit(f"{path}: HTTP {status}")
            size = len(body)
        p50, p95, most = np.quantile(took, (0.5, 0.95, 1))
        print(f"{path:50} median {p50:6.0f} ms, p95 {p95:6.0f}, longest {most:6.0f}; "
              f"{size / 1024:,.0f} KiB")  # fmt: skip
        if path == "/":
            print(f"  goal ({GOAL_MS} ms): {'reached' if p95 <= GOAL_MS else 'not reached'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument("--weeks", type=int, default=10)
    chosen = parser.parse_args()
    print(f"{chosen.database}, {os.cpu_count()} cores, "
          f"{chosen.machines * chosen.weeks:,} reports")  # fmt: skip
    with database_of(chosen.database) as address:
        database = open_database(address)
        fill(database, chosen.machines, chosen.weeks)
        cookie = credentials.start_session(database, "benchmark", int(NOW.timestamp()))
        database.close()
        with centre(address) as made:
            ask(made, cookie, PATHS)
            print(f"resident memory of the centre: {resident(made)} MiB")


if __name__ == "__main__":
    main()
