"""Reports that came in a file (``agent report --export``): one a line, each counted once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.errors import InputError
from agent.report.payload import MAX_BYTES
from bundles.fleet.counting import rules
from bundles.fleet.counting.ingest import MOST_TOGETHER, check_week, closed_week, store_reports
from bundles.fleet.counting.report import Refusal, Report, parse_report
from bundles.fleet.storage.database import Database

MOST_TOLD = 20  # lines that are told why they were not taken


def take_file(database: Database, file: Path, now: datetime) -> dict[str, Any]:
    """Count the reports of a file.

    Returns:
        How many were new, were known, were refused; and why, of the first lines refused.

    Raises:
        InputError: the file cannot be read.
        ClockError: the clock is doubted; nothing was counted.
    """
    with database.reading() as connection:
        kept = rules.kept_rules(connection)
    if trouble := kept.trouble(now):
        raise trouble
    late_weeks = rules.late_of(kept)
    done = {"lines": 0, "new": 0, "known": 0, "refused": 0}
    reasons: list[dict[str, Any]] = []
    good: list[tuple[int, Report]] = []

    def refuse(number: int, refusal: Refusal) -> None:
        done["refused"] += 1
        reasons.append({"line": number, "code": refusal.code, "why": str(refusal)})
        reasons.sort(key=lambda reason: reason["line"])
        del reasons[MOST_TOLD:]

    def flush() -> None:
        stored = store_reports(database, [report for _, report in good])
        taken = 0
        for number, report in good:
            if stored.refused(report):
                refuse(number, closed_week(report, now))
            else:
                taken += 1
        done["new"] += stored.new
        done["known"] += taken - stored.new
        good.clear()

    try:
        for number, line in _lines(file):
            done["lines"] += 1
            try:
                report = parse_report(line)
                check_week(report, now, late_weeks)
                good.append((number, report))
            except Refusal as refusal:
                refuse(number, refusal)
            if len(good) == MOST_TOGETHER:
                flush()
        flush()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", "Give a file of reports.") from error
    return {"action": "import", "file": str(file), **done, "reasons": reasons}


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Lines without their ends; of one too long for a report only its beginning is kept."""
    with file.open("rb") as stream:
        for number in itertools.count(1):
            line = stream.readline(MAX_BYTES + 2)
            if not line:
                return
            whole = line.endswith(b"\n")
            while not whole and (rest := stream.readline(MAX_BYTES)):
                whole = rest.endswith(b"\n")
                line = line[: MAX_BYTES + 1]
            if line.strip():
                yield number, line.rstrip(b"\r\n")
