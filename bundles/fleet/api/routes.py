"""Every address for programs, in one table: what is served there, and how it is described."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bundles.fleet.analysis import answers, judging, sites
from bundles.fleet.api import handlers
from bundles.fleet.api.handlers import OfAttribute, OfBundle, OfWeeks
from bundles.fleet.api.openapi import REFUSED, Endpoint, document
from bundles.fleet.api.replies import Accepted, Handler, Health, json_response, refusing, staff_only
from bundles.fleet.counting.report import Report

READING = (401, 429, 503)
ASKING = (401, 422, 429, 503)


async def get_openapi(_: Request) -> Response:
    """This interface, described."""
    return json_response(document(ENDPOINTS))


ENDPOINTS = (
    Endpoint("/v1/reports", handlers.take_report, Accepted, tuple(REFUSED), takes=Report),
    Endpoint("/v1/overview", handlers.get_overview, answers.OverviewAnswer, READING),
    Endpoint("/v1/cells", handlers.get_cells, answers.CellsAnswer, ASKING, OfWeeks),
    Endpoint("/v1/cells.csv", handlers.get_csv, str, ASKING, OfWeeks, media="text/csv"),
    Endpoint("/v1/accuracy", handlers.get_accuracy, answers.AccuracyAnswer, ASKING, OfAttribute),
    Endpoint("/v1/verdict", handlers.get_verdict, judging.VerdictAnswer, ASKING, OfBundle),
    Endpoint("/v1/plants", handlers.get_plants, sites.PlantsAnswer, READING),
    Endpoint("/v1/machines", handlers.get_machines, sites.MachinesAnswer, READING),
    Endpoint("/metrics", handlers.get_metrics, str, READING, media="text/plain"),
    Endpoint("/health", handlers.get_health, Health, (503,)),
    Endpoint("/v1/openapi.json", get_openapi, dict),
)


def _served(one: Endpoint) -> Handler:
    """A report brings a token of a machine's; who reads shows that they are staff."""
    return refusing(staff_only(one.handler) if one.asks_token and not one.takes else one.handler)


ROUTES = [Route(one.path, _served(one), methods=[one.method.upper()]) for one in ENDPOINTS]
