"""Pages for staff: rendered here, no script in them, readable without colour or mouse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bundles.fleet import answers, api, drawing, figures, oidc, people, released, weeks
from bundles.fleet.centre import Denied, of, read
from bundles.fleet.ingest import Unavailable
from bundles.fleet.release import MIXED
from bundles.fleet.report import ARCHITECTURES, CHANNELS, ERROR_STEP, OUTCOMES
from bundles.fleet.verdict import MOST_REFUSED, WORSE_BY, percent

HERE = Path(__file__).parent
VERDICTS = {
    "promote": "Promote",
    "too-few": "Wait: too few machines",
    "unclear": "Wait: not clear yet",
    "withdraw": "Withdraw",
}


WHAT = {"toolchain": "Compiler", "timings": "Timings to calibrate with", "noise": "Noise"}
NO_NUMBER = {
    "prebuilt": "none (compiled in advance)", "other": "another",
    "0": "none (bundle alone)", "unknown": "not known",
}  # fmt: skip


class Chart(msgspec.Struct, frozen=True):
    """One chart and the table that says the same."""

    title: str
    newest: str
    drawn: str
    weeks: list[str]
    lines: list[drawing.Line]


async def overview(request: Request) -> Response:
    """Bundles in force, and what to do with those of pilot."""

    def look(connection: Connection) -> dict[str, Any]:
        threshold = of(request).settings.threshold
        return {
            "overview": answers.overview(connection, threshold),
            "verdicts": answers.candidates(connection, threshold),
            "trend": _trend(connection),
        }

    return await _staff_page(request, "overview.html", look)


async def bundle(request: Request) -> Response:
    """One bundle: how exact it is where, over weeks."""
    query = dict(request.query_params)
    channel = query.pop("channel", "")
    try:
        asked = msgspec.convert(query, api.OfBundle)
        if channel not in ("", *CHANNELS):
            raise HTTPException(404, "There is no such channel.")
    except msgspec.ValidationError as error:
        raise HTTPException(404, "There is no such bundle.") from error

    def look(connection: Connection) -> dict[str, Any]:
        name, version = asked.bundle, asked.version
        known = sorted(released.newest_weeks(connection, answers.SHOWN_WEEKS))
        where = {"bundle": name, "version": version, **({"channel": channel} if channel else {})}
        newest = known[-1:] or [0]
        return {
            "bundle": name,
            "version": version,
            "channel": channel,
            "channels": CHANNELS,
            "charts": accuracy_charts(connection, known, where),
            "gain": gain_chart(connection, known, where),
            "outcomes": outcome_rows(connection, known, where),
            "labels": answers.label_shares(connection, newest[0], name, version),
            "week": weeks.shown(newest[0]) if known else None,
        }

    return await _staff_page(request, "bundle.html", look)


def accuracy_charts(
    connection: Connection, known: list[int], where: Mapping[str, str]
) -> list[Chart]:
    """Calibrated against bundle alone: all machines, then each architecture."""
    named = (
        ("bundle alone", "alone_speedup", "alone"),
        ("calibrated", "calibrated_speedup", "ours"),
    )
    charts = []
    for by in ((), ("architecture",)):
        found = {
            kind: released.read_spreads(connection, attribute, known, ("week", *by), where)
            for _, attribute, kind in named
        }
        groups = sorted({key[1:] for of_kind in found.values() for key in of_kind}, key=_place)
        for group in groups:
            lines = [
                drawing.Line(
                    name, kind, [_box(found[kind].get((week, *group), ())) for week in known]
                )
                for name, _, kind in named
            ]
            charts.append(_chart(_named(group), known, lines))
    return charts


def _place(group: tuple[str, ...]) -> int:
    """Where a chart comes: architectures in the order of their list, then the mixed ones."""
    return [*ARCHITECTURES, MIXED].index(group[0]) if group else 0


def _named(group: tuple[str, ...]) -> str:
    if not group:
        return "All architectures"
    return "Architectures too few by themselves" if group[0] == MIXED else group[0]


def gain_chart(connection: Connection, known: list[int], where: Mapping[str, str]) -> Chart | None:
    """By how much calibrating makes a machine's predictions better."""
    found = released.read_spreads(connection, "gain", known, ("week",), where)
    boxes = [_box(found.get((week,), ())) for week in known]
    if not any(boxes):
        return None
    return _chart("gain", known, [drawing.Line("error alone / error calibrated", "ours", boxes)])


def outcome_rows(
    connection: Connection, known: list[int], where: Mapping[str, str]
) -> list[dict[str, Any]]:
    """For each week how many machines said what; newest first."""
    rows = []
    cells = released.read_cells(connection, known, where)
    for week in reversed(known):
        counts = dict.fromkeys(OUTCOMES, 0)
        for cell in cells:
            if cell.week == week:
                counts[cell.outcome] += cell.machines
        if total := sum(counts.values()):
            rows.append({"week": weeks.shown(week), "counts": counts, "total": total})
    return rows


def _trend(connection: Connection) -> Chart | None:
    """The error that machines get, by channel, over weeks."""
    known = sorted(released.newest_weeks(connection, answers.SHOWN_WEEKS))
    found = released.read_spreads(connection, "used", known, ("week", "channel"))
    lines = [
        drawing.Line(channel, channel, [_box(found.get((week, channel), ())) for week in known])
        for channel in CHANNELS
        if any(key[1] == channel for key in found)
    ]
    return _chart("channels", known, lines) if lines else None


def label_words(attribute: str, label: str) -> str:
    """What a report's label says, in words: of ``noise``, 3-10% as "3 to 10 %"."""
    words = NO_NUMBER.get(label, label)
    if attribute == "noise" and words == label:
        least, _, most = label.rstrip("%").partition("-")
        amount = f"{least} to {most}" if least.isdigit() else f"{least} {most}"
        return f"{amount}\N{NO-BREAK SPACE}% between two timings of a program"
    if attribute == "timings" and words == label:
        return label.replace("48+", "48 or more").replace("-", " to ")
    return words


def _box(spread: released.Spread) -> drawing.Box | None:
    if not spread:
        return None
    p10, p25, p50, p75, p90 = figures.quantiles(spread, answers.QUANTILES, ERROR_STEP)
    return drawing.Box(p10, p25, p50, p75, p90, figures.machines_of(spread))


def _newest(title: str, lines: list[drawing.Line]) -> str:
    """How many machines the newest boxes are of; by line, where that differs."""
    counts = {line.name: box.machines for line in lines for box in line.boxes[-1:] if box}
    if len(counts) == len(lines) and len(set(counts.values())) == 1 and title != "channels":
        return f"{_counted(next(iter(counts.values())))} machines"
    words = " and ".join(f"{_counted(machines)} {name}" for name, machines in counts.items())
    return f"{words} machines" if words else ""


def _counted(machines: int) -> str:
    return f"{machines:,}".replace(",", "\u202f")


def _chart(title: str, known: list[int], lines: list[drawing.Line]) -> Chart:
    names = [weeks.shown(week) for week in known]
    return Chart(title, _newest(title, lines), drawing.spreads(title, names, lines), names, lines)


async def login(request: Request) -> Response:
    """Ask for name and password, or send to the identity provider."""
    centre = of(request)
    if centre.settings.sign_in == "oidc":
        address, secret = await oidc.set_out(request)
        response: Response = RedirectResponse(address, 303)
        people.set_cookie(centre, response, "trip", secret, oidc.TRIP_S)
        return response
    if centre.settings.sign_in == "header":
        raise HTTPException(403, "The proxy in front of this centre did not say who you are.")
    return _form_page(request, "login.html")


async def login_back(request: Request) -> Response:
    """Where the identity provider sends people back to."""
    return _signed_in(request, await oidc.come_back(request))


async def take_login(request: Request) -> Response:
    """Name and password."""
    form = await people.checked_form(request)
    if of(request).settings.sign_in != "password":
        raise HTTPException(403, "Nobody signs in that way here.")
    try:
        return _signed_in(request, await people.sign_in(request, form))
    except Denied as denied:
        status = 429 if denied.wait_s else 403
        response = _form_page(request, "login.html", status, problem=str(denied))
        if denied.wait_s:
            response.headers["Retry-After"] = str(math.ceil(denied.wait_s))
        return response


async def take_logout(request: Request) -> Response:
    """End the session."""
    await people.checked_form(request)
    await people.sign_out(request)
    if of(request).settings.sign_in == "password":
        response: Response = RedirectResponse("/login", 303)
    else:  # on to the provider would be to sign in again, and forms may lead to this site only
        response = HTMLResponse(templates().get_template("signed-out.html").render())
    response.delete_cookie(
        people.cookie_name(of(request), "session"), secure=of(request).settings.secure
    )
    return response


def _signed_in(request: Request, cookies: people.Cookies) -> Response:
    response = RedirectResponse("/", 303)
    for what, (value, lasts_s) in cookies.items():
        people.set_cookie(of(request), response, what, value, lasts_s)
    return response


async def _staff_page(request: Request, template: str, look: Any) -> Response:
    if not (name := await people.person(request)):
        return RedirectResponse("/login", 303)
    found = await read(of(request).database, look)
    return _form_page(request, template, person=name, **found)


def _form_page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page whose forms are bound to this browser."""
    centre = of(request)
    visitor = people.cookie(request, "visitor") or people.new_visitor()
    shown = (
        templates()
        .get_template(template)
        .render(
            form=people.form_secret(visitor),
            threshold=centre.settings.threshold,
            sign_in=centre.settings.sign_in,
            **values,
        )
    )
    response = HTMLResponse(shown, status)
    people.set_cookie(centre, response, "visitor", visitor, people.VISITOR_S)
    return response


@cache
def templates() -> jinja2.Environment:
    """Every value is escaped, and one that is missing is a bug."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["factor"] = lambda value: f"{math.exp(value):.3g}"
    made.filters["percent"] = lambda x: percent(x) if x >= 0.01 or not x else f"< {percent(0.01)}"
    made.filters["count"] = _counted
    made.filters["label"] = lambda row: label_words(row.attribute, row.label)
    made.globals.update(
        bar=drawing.share, interval=drawing.interval, verdict_words=VERDICTS,
        what=WHAT,
        worse_by=WORSE_BY, most_refused=MOST_REFUSED,
    )  # fmt: skip
    return made


async def failed(request: Request, error: Exception) -> Response:
    """A page, or JSON below /v1, that says what went wrong."""
    status, words, wait_s = _said(error)
    headers = dict(getattr(error, "headers", None) or {})  # Allow, of a method that is not
    if request.url.path.startswith(("/v1/", "/metrics", "/health")):
        response = api.problem(status, "refused", words, wait_s)
        response.headers.update(headers)
        return response
    shown = templates().get_template("error.html").render(status=status, words=words)
    return HTMLResponse(
        shown, status, headers | ({"Retry-After": str(int(wait_s))} if wait_s else {})
    )


def _said(error: Exception) -> tuple[int, str, float]:
    if isinstance(error, HTTPException):
        return error.status_code, error.detail, 0
    if isinstance(error, Unavailable):
        return 503, "The database does not answer. Nothing is lost; try again in a minute.", 30
    if isinstance(error, Denied):
        return 403, str(error), error.wait_s
    return 500, "Something went wrong here; the centre's log says what.", 0


_get = partial(Route, methods=["GET"])
_post = partial(Route, methods=["POST"])
ROUTES = [
    _get("/", overview),
    _get("/bundle", bundle),
    _get("/login", login),
    _post("/login", take_login),
    _get(oidc.BACK, login_back),
    _post("/logout", take_logout),
    Mount("/static", StaticFiles(directory=HERE / "static")),
]
