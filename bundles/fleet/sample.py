"""A fleet that is invented, to see what the pages look like in seconds; they say so on every page.

Eight weeks of a fleet in four lots: the pilot machines of the last three run a bundle whose
predictions are a little better. Nothing of it was measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from agent.report.payload import Payload, RoundedAccuracy
from bundles.fleet.access import credentials
from bundles.fleet.access.heard import Heard
from bundles.fleet.counting import rules, weeks
from bundles.fleet.counting.carried import take_file
from bundles.fleet.counting.release import release_ready
from bundles.fleet.settings import THRESHOLD, utc_now
from bundles.fleet.storage.database import Database

WEEKS, STABLE, PILOT, SEED = 8, 400, 120, 1
LABELLED = 12  # pilot machines whose site named them
NEW_SINCE = 3  # weeks that pilots have run the newer bundle for
OLD, NEW, LEAST = 0.44, 0.38, 0.08  # mean log errors of the two bundles; no machine's is smaller
LIKELY = {
    "architecture": {"x86-64-v3": 55, "x86-64-v4": 25, "aarch64": 15, "x86-64-v2": 5},
    "toolchain": {"gcc": 70, "prebuilt": 22, "clang": 8},
    "timings": {"48+": 80, "32-47": 12, "16-31": 8},
    "noise": {"under-1%": 45, "1-3%": 40, "3-10%": 15},
    "outcome": {"kept": 92, "fell-back": 5, "refused": 3},
}


def fill_with_sample(database: Database, file: Path) -> int:
    """Count the reports of an invented fleet, week by week, as a centre would have.

    Args:
        database: a new one.
        file: where the reports go.

    Returns:
        How many machines report.
    """
    rules.adopt_rules(database, THRESHOLD, None)
    draw = random.Random(SEED)
    now = utc_now()
    _plants(database, now)
    for ago in range(WEEKS - 1, -1, -1):
        moment = now - timedelta(weeks=ago)
        lines = (report.to_bytes() + b"\n" for report in _week(draw, moment, ago))
        file.write_bytes(b"".join(lines))
        take_file(database, file, moment)
        release_ready(database, moment, THRESHOLD)
    return STABLE + PILOT


def _plants(database: Database, now: datetime) -> None:
    """Three tokens: one heard of, one silent, one that never reported."""
    heard = Heard()
    for name, ago in (("plant-nord", 0), ("plant-sued", WEEKS - 1), ("plant-west", None)):
        credentials.add_token(database, name, "machine", int(now.timestamp()))
        if ago is not None:
            heard.note(name, weeks.week_of(now - timedelta(weeks=ago)))
    heard.write(database)


def _week(draw: random.Random, moment: datetime, ago: int) -> Iterator[Payload]:
    week = weeks.week_text(weeks.week_of(moment))
    for channel, machines in (("stable", STABLE), ("pilot", PILOT)):
        new = channel == "pilot" and ago < NEW_SINCE
        for number in range(machines):
            joined = new and (number + ago) % NEW_SINCE == NEW_SINCE - 1  # a third in each week
            first = ago == WEEKS - 1 or joined
            label = f"press-{number + 1}" if channel == "pilot" and number < LABELLED else None
            told = _Told(week, channel, "5" if new else "4", first, label)
            yield _report(draw, told, NEW if new else OLD)


class _Told(NamedTuple):
    """What is not drawn of a report."""

    week: str
    channel: str
    bundle_version: str
    first: bool
    label: str | None


def _report(draw: random.Random, told: _Told, error: float) -> Payload:
    drawn = {
        name: draw.choices(list(shares), list(shares.values()))[0]
        for name, shares in LIKELY.items()
    }
    calibrated = max(draw.gauss(error, 0.1), LEAST)
    alone = calibrated + abs(draw.gauss(0.08, 0.05))
    return Payload(
        agent="0.1.0", bundle="sample", bundle_version=told.bundle_version,
        channel=told.channel, week=told.week, first=told.first, label=told.label,
        calibrated=_accuracy(calibrated), bundle_alone=_accuracy(alone),
        dedupe=f"{draw.getrandbits(256):064x}", **drawn,
    )  # fmt: skip


def _accuracy(error: float) -> RoundedAccuracy:
    return RoundedAccuracy(round(round(error / 0.02) * 0.02, 2), 0.5, 0.8, 0.95)
