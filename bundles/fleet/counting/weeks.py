"""ISO weeks as whole numbers (202648) that sort as time does, and which of them are open."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

MARGIN = timedelta(hours=1)  # between refusing reports of a week and forgetting who sent them
CLOCKS_DIFFER = timedelta(hours=12)  # a machine may be in the next week already


def parse_week(text: str) -> int:
    """``2026-W48`` as 202648; ValueError where a year has no such week."""
    year, week = int(text[:4]), int(text[6:])
    date.fromisocalendar(year, week, 1)
    return year * 100 + week


def week_text(week: int) -> str:
    """202648 as ``2026-W48``."""
    return f"{week // 100}-W{week % 100:02}"


def week_of(moment: datetime) -> int:
    """The week of a moment, in UTC."""
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return year * 100 + week


def monday(week: int) -> datetime:
    """When it begins, in UTC."""
    return datetime.combine(date.fromisocalendar(week // 100, week % 100, 1), time(), UTC)


def end(week: int) -> datetime:
    """When the next one begins, in UTC."""
    return monday(week) + timedelta(weeks=1)


def before(week: int, count: int) -> int:
    """The week ``count`` weeks earlier."""
    return week_of(monday(week) - timedelta(weeks=count))


def is_open(week: int, now: datetime, late: int) -> bool:
    """Whether reports of a week are taken: until ``late`` weeks after it, and hardly before it."""
    return before(week_of(now), late) <= week <= week_of(now + CLOCKS_DIFFER)


def last_closed(now: datetime, late: int) -> int:
    """The newest week of which no report is taken any more, nor is one still on its way in."""
    return before(week_of(now - MARGIN), late + 1)


def between(week: int, later: int) -> int:
    """How many weeks ``later`` comes after ``week``."""
    return (monday(later) - monday(week)).days // 7
