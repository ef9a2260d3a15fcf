"""The pages that staff read: the overview, and one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from agent.report.payload import CHANNELS, OUTCOMES
from bundles.fleet.access import people
from bundles.fleet.access.centre import centre_of, read
from bundles.fleet.analysis import answers, released
from bundles.fleet.api.handlers import OfBundle
from bundles.fleet.counting import weeks
from bundles.fleet.pages import charts
from bundles.fleet.pages.rendering import form_page

Values = Mapping[str, object]


async def overview(request: Request) -> Response:
    """Bundles in force, and what to do with those of pilot."""

    def look(connection: Connection) -> Values:
        settings = centre_of(request).settings
        return {
            "overview": answers.overview_answer(connection, settings.threshold),
            "verdicts": answers.candidates(
                connection, settings.threshold, fewest=settings.judge_from
            ),
            "trend": charts.trend_chart(connection),
        }

    return await _staff_page(request, "overview.html", look)


async def bundle(request: Request) -> Response:
    """One bundle: how exact it is where, over weeks."""
    query = dict(request.query_params)
    channel = query.pop("channel", "")
    try:
        asked = msgspec.convert(query, OfBundle)
        if channel not in ("", *CHANNELS):
            raise HTTPException(404, "There is no such channel.")
    except msgspec.ValidationError as error:
        raise HTTPException(404, "There is no such bundle.") from error

    def look(connection: Connection) -> Values:
        name, version = asked.bundle, asked.version
        known = sorted(released.newest_weeks(connection, answers.SHOWN_WEEKS))
        where = {"bundle": name, "version": version, **({"channel": channel} if channel else {})}
        newest = known[-1:] or [0]
        return {
            "bundle": name,
            "version": version,
            "channel": channel,
            "channels": CHANNELS,
            "charts": charts.accuracy_charts(connection, known, where),
            "gain": charts.gain_chart(connection, known, where),
            "outcomes": outcome_rows(connection, known, where),
            "labels": answers.label_shares(connection, newest[0], name, version),
            "week": weeks.week_text(newest[0]) if known else None,
        }

    return await _staff_page(request, "bundle.html", look)


def outcome_rows(
    connection: Connection, known: list[int], where: Mapping[str, str]
) -> list[dict[str, object]]:
    """For each week how many machines said what; newest first."""
    rows = []
    cells = released.read_cells(connection, known, where)
    for week in reversed(known):
        counts = dict.fromkeys(OUTCOMES, 0)
        for cell in cells:
            if cell.week == week:
                counts[cell.outcome] += cell.machines
        if total := sum(counts.values()):
            rows.append({"week": weeks.week_text(week), "counts": counts, "total": total})
    return rows


async def _staff_page(
    request: Request, template: str, look: Callable[[Connection], Values]
) -> Response:
    if not (name := await people.person(request)):
        return RedirectResponse("/login", 303)
    found = await read(centre_of(request).database, look)
    return form_page(request, template, {"person": name, **found})
