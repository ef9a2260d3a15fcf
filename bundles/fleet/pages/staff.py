"""The pages that staff read: the overview, and one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from agent.report.payload import CHANNELS, OUTCOMES
from bundles.fleet.access import people
from bundles.fleet.access.centre import centre_of, read
from bundles.fleet.analysis import answers, judging, released, sites
from bundles.fleet.api.handlers import OfBundle
from bundles.fleet.api.openapi import document
from bundles.fleet.api.routes import ENDPOINTS
from bundles.fleet.counting import weeks
from bundles.fleet.counting.evidence import EVIDENCE_WEEKS
from bundles.fleet.pages import charts
from bundles.fleet.pages.rendering import form_page, templates

Values = Mapping[str, object]
RANGES = (4, 12, 26, 52)  # weeks that may be looked at


async def overview(request: Request) -> Response:
    """Bundles in force, and what to do with those of pilot."""
    centre, count = centre_of(request), _weeks_asked(request)
    settings = centre.settings

    def look(connection: Connection) -> Values:
        known = sorted(released.newest_weeks(connection, count))
        cells = released.read_cells(connection, known)
        marks = charts.changes(cells, known)
        return {
            **_range(count),
            "overview": answers.overview_answer(connection, settings.threshold),
            "verdicts": judging.candidates(connection, settings.threshold, settings.limits),
            "limits": settings.limits,
            "trend": charts.trend_chart(connection, known, marks),
            "refusals": charts.refusal_chart(cells, known, marks),
            "plants": sites.plants_answer(connection, centre.this_week()),
        }

    return await _staff_page(request, "overview.html", look)


async def bundle(request: Request) -> Response:
    """One bundle: how exact it is where, over weeks."""
    (asked, channel), count = _bundle_asked(request), _weeks_asked(request)

    def look(connection: Connection) -> Values:
        name, version = asked.bundle, asked.version
        known = sorted(released.newest_weeks(connection, count))
        cells = released.read_cells(connection, known)
        mine = [cell for cell in cells if (cell.bundle, cell.version) == (name, version)]
        where = {"bundle": name, "version": version, **({"channel": channel} if channel else {})}
        newest = known[-1:] or [0]
        return {
            **_range(count),
            "bundle": name,
            "version": version,
            "channel": channel,
            "channels": CHANNELS,
            "charts": charts.accuracy_charts(connection, known, where),
            "gain": charts.gain_chart(connection, known, where),
            "rollout": charts.rollout_chart(cells, known, (name, version)),
            "refusals": charts.refusal_chart(mine, known, []),
            "outcomes": outcome_rows(connection, known, where),
            "labels": answers.label_shares(connection, newest[0], name, version),
            "week": weeks.week_text(newest[0]) if known else None,
        }

    return await _staff_page(request, "bundle.html", look)


def _bundle_asked(request: Request) -> tuple[OfBundle, str]:
    """Which one, and on which channel; empty: all of them."""
    query = dict(request.query_params)
    channel = query.pop("channel", "")
    query.pop("weeks", None)
    if channel not in ("", *CHANNELS):
        raise HTTPException(404, "There is no such channel.")
    try:
        return msgspec.convert(query, OfBundle), channel
    except msgspec.ValidationError as error:
        raise HTTPException(404, "There is no such bundle.") from error


async def machines(request: Request) -> Response:
    """Machines that their site labelled."""
    this_week = centre_of(request).this_week()

    def look(connection: Connection) -> Values:
        return {"found": sites.machines_answer(connection, this_week)}

    return await _staff_page(request, "machines.html", look)


async def explained(request: Request) -> Response:
    """What the words and numbers of the pages mean."""
    values = {"evidence_weeks": EVIDENCE_WEEKS, "silent_weeks": sites.SILENT_WEEKS}
    limits = centre_of(request).settings.limits
    return form_page(request, "help.html", {**values, "limits": limits})


async def interface(_: Request) -> Response:
    """The interface for programs, for people; it is no secret."""
    told = document(ENDPOINTS)
    return HTMLResponse(templates().get_template("api.html").render(told=told))


def _weeks_asked(request: Request) -> int:
    """How far back to look; as usual where the address asks for anything else."""
    asked = request.query_params.get("weeks", "")
    return next((count for count in RANGES if asked == str(count)), answers.SHOWN_WEEKS)


def _range(count: int) -> Values:
    return {"count": count, "ranges": RANGES}


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
