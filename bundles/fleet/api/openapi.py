"""The OpenAPI 3.1 document, from the records that the handlers take and give."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec

from agent import __version__
from bundles.fleet.api.replies import Handler, Problems

JsonObject = dict[str, object]
_JSON = "application/json"
REFUSED = {
    400: "It is no JSON.",
    401: "No token, or one that is not in use.",
    408: "It came too slowly.",
    413: "It is longer than any report.",
    415: "It is compressed, or says that it is something else.",
    422: "Not a report, or of a week that is closed or to come; do not send it again.",
    429: "Too many with this token; come again after Retry-After.",
    503: "The database does not answer; come again after Retry-After.",
}


@dataclass(frozen=True)
class Endpoint:
    """One address: what is asked there, and what is answered.

    Attributes:
        path: of its URL.
        handler: its docstring says what it is for.
        gives: the record answered; ``str``: text, ``dict``: any object.
        refused: statuses of ``REFUSED`` that may be answered; with 401 a token is asked for.
        query: the record of its parameters.
        takes: the record that is posted.
        media: type of what is answered.
    """

    path: str
    handler: Handler
    gives: type
    refused: tuple[int, ...] = ()
    query: type | None = None
    takes: type | None = None
    media: str = _JSON

    @property
    def method(self) -> str:
        """Of HTTP."""
        return "post" if self.takes else "get"

    @property
    def asks_token(self) -> bool:
        """Not anybody may ask."""
        return 401 in self.refused


@cache
def document(endpoints: Sequence[Endpoint]) -> JsonObject:
    """The whole description."""
    kinds = [kind for one in endpoints for kind in (one.takes, one.gives) if kind]
    _, components = msgspec.json.schema_components(
        [kind for kind in (*kinds, Problems) if kind not in (str, dict)],
        ref_template="#/components/schemas/{name}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fleet of calibration agents", "version": __version__},
        "paths": {one.path: {one.method: _operation(one)} for one in endpoints},
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Endpoint) -> JsonObject:
    told: JsonObject = {"summary": inspect.getdoc(one.handler), "operationId": _name(one)}
    if one.asks_token:
        told["security"] = [{"token": []}]
    if one.takes:
        told["requestBody"] = {"required": True, "content": _content(_JSON, one.takes)}
    elif one.asks_token:
        told["parameters"] = _parameters(one.query) if one.query else []
    status, words = ("202", "Counted.") if one.takes else ("200", "As asked.")
    told["responses"] = {
        status: {"description": words, "content": _content(one.media, one.gives)},
        **{
            str(status): {"description": REFUSED[status], "content": _content(_JSON, Problems)}
            for status in one.refused
        },
    }
    return told


def _name(one: Endpoint) -> str:
    return "report" if one.takes else one.handler.__name__


def _parameters(query: type) -> list[JsonObject]:
    (whole,), components = msgspec.json.schema_components([query])
    schema = components[query.__name__] if "$ref" in whole else whole
    return [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": of}
        for name, of in schema["properties"].items()
    ]


def _content(media: str, kind: type) -> JsonObject:
    simple = {str: "string", dict: "object"}
    if kind in simple:
        return {media: {"schema": {"type": simple[kind]}}}
    return {media: {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
