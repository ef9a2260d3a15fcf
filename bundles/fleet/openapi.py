"""The OpenAPI 3.1 document, from the records that the handlers take and give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from agent import __version__
from bundles.fleet import answers, api
from bundles.fleet.report import Report

Json = dict[str, Any]
_JSON = "application/json"
_READ: Mapping[str, tuple[Any, type | None, str, type]] = {
    "/v1/overview": (api.get_overview, None, _JSON, answers.OverviewAnswer),
    "/v1/cells": (api.get_cells, api.OfWeeks, _JSON, answers.CellsAnswer),
    "/v1/cells.csv": (api.get_csv, api.OfWeeks, "text/csv", str),
    "/v1/accuracy": (api.get_accuracy, api.OfAttribute, _JSON, answers.AccuracyAnswer),
    "/v1/verdict": (api.get_verdict, api.OfBundle, _JSON, answers.VerdictAnswer),
    "/metrics": (api.get_metrics, None, "text/plain", str),
}
_REFUSED = {
    400: "It is no JSON.",
    401: "No token, or one that is not in use.",
    408: "It came too slowly.",
    413: "It is longer than any report.",
    415: "It is compressed, or says that it is something else.",
    422: "Not a report, or of a week that is closed or to come; do not send it again.",
    429: "Too many with this token; come again after Retry-After.",
    503: "The database does not answer; come again after Retry-After.",
}


@cache
def document() -> Json:
    """The whole description."""
    kinds: list[Any] = [Report, api.Accepted, api.Health, api.Problems]
    kinds += [kind for *_, kind in _READ.values() if kind is not str]
    _, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fleet of calibration agents", "version": __version__},
        "paths": {
            "/v1/reports": {"post": _post()},
            **{path: {"get": _get(*of)} for path, of in _READ.items()},
            "/health": {"get": _open(api.get_health, api.Health, 503)},
            "/v1/openapi.json": {"get": _open(api.get_openapi, dict)},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _post() -> Json:
    return {
        "summary": inspect.getdoc(api.take_report),
        "operationId": "report",
        "security": [{"token": []}],
        "requestBody": {"required": True, "content": _content(_JSON, Report)},
        "responses": {
            "202": {"description": "Counted.", "content": _content(_JSON, api.Accepted)},
            **_refusals(*_REFUSED),
        },
    }


def _get(handler: Any, query: type | None, media: str, kind: type) -> Json:
    return {
        "summary": inspect.getdoc(handler),
        "operationId": handler.__name__,
        "security": [{"token": []}],
        "parameters": _parameters(query) if query else [],
        "responses": {
            "200": {"description": "As asked.", "content": _content(media, kind)},
            **_refusals(401, *([422] if query else []), 429, 503),
        },
    }


def _open(handler: Any, kind: type, *refused: int) -> Json:
    """What anybody may ask."""
    return {
        "summary": inspect.getdoc(handler),
        "operationId": handler.__name__,
        "responses": {
            "200": {"description": "As asked.", "content": _content(_JSON, kind)},
            **_refusals(*refused),
        },
    }


def _refusals(*statuses: int) -> Json:
    return {
        str(status): {"description": _REFUSED[status], "content": _content(_JSON, api.Problems)}
        for status in statuses
    }


def _parameters(query: type) -> list[Json]:
    (whole,), components = msgspec.json.schema_components([query])
    schema = components[query.__name__] if "$ref" in whole else whole
    return [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": of}
        for name, of in schema["properties"].items()
    ]


def _content(media: str, kind: type) -> Json:
    if kind is str:
        return {media: {"schema": {"type": "string"}}}
    if kind is dict:
        return {media: {"schema": {"type": "object"}}}
    return {media: {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
