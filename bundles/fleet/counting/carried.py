"""Reports that came in a file (``agent report --export``): one a line, each counted once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from agent.errors import InputError
from agent.report.payload import MAX_BYTES
from bundles.fleet.counting import rules
from bundles.fleet.counting.ingest import MOST_TOGETHER, check_week, closed_week, store_reports
from bundles.fleet.counting.report import Refusal, Report, parse_report
from bundles.fleet.storage.database import Database

MOST_TOLD = 20  # lines that are told why they were not taken


@dataclass
class _Tally:
    """What became of the lines of a file; ``reasons``: of the first ones refused."""

    lines: int = 0
    new: int = 0
    known: int = 0
    refused: int = 0
    reasons: list[dict[str, str | int]] = field(default_factory=list)

    def refuse(self, number: int, refusal: Refusal) -> None:
        self.refused += 1
        self.reasons.append({"line": number, "code": refusal.code, "why": str(refusal)})
        self.reasons.sort(key=lambda reason: reason["line"])
        del self.reasons[MOST_TOLD:]


def take_file(database: Database, file: Path, now: datetime) -> dict[str, object]:
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
    tally = _Tally()
    good = _good(file, now, rules.late_of(kept), tally)
    try:
        while batch := list(itertools.islice(good, MOST_TOGETHER)):
            _count(database, batch, now, tally)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", "Give a file of reports.") from error
    return {"action": "import", "file": str(file), **asdict(tally)}


def _good(
    file: Path, now: datetime, late_weeks: int, tally: _Tally
) -> Iterator[tuple[int, Report]]:
    """The lines that are reports of a week that is open; the others are refused."""
    for number, line in _lines(file):
        tally.lines += 1
        try:
            report = parse_report(line)
            check_week(report, now, late_weeks)
        except Refusal as refusal:
            tally.refuse(number, refusal)
        else:
            yield number, report


def _count(
    database: Database, batch: Sequence[tuple[int, Report]], now: datetime, tally: _Tally
) -> None:
    stored = store_reports(database, [report for _, report in batch])
    closed = [(number, report) for number, report in batch if stored.refused(report)]
    for number, report in closed:
        tally.refuse(number, closed_week(report, now))
    tally.new += stored.new
    tally.known += len(batch) - len(closed) - stored.new


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
