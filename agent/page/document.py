"""The page: one file that needs nothing else and can do nothing.

No script, no network: a Content-Security-Policy in the file itself forbids both, and allows the
one style sheet by its digest. Written for a file that is mailed, printed and kept.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from agent.page import past, sections
from agent.page.markup import Markup, element, side_by_side
from agent.page.record import Record

GENERATOR = "calibration-agent"  # by this a page is known again (agent/page/file.py)


def render(record: Record) -> str:
    """The page as HTML; the same record gives the same text."""
    title = f"Calibration of {record.machine}"
    return page(title, record.agent, sections.heading(record), _sections(record))


def page(title: str, agent: str, heading: Markup, parts: Iterable[Markup]) -> str:
    """A page around a heading and sections, as HTML; ``agent``: the version that writes it."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=f"{GENERATOR} {agent}"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(_style())),
    )
    body = element("body", heading, element("main", *parts), _foot(agent))
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _sections(record: Record) -> list[Markup]:
    first = [sections.to_do(record)]
    if record.subject is None:
        return first
    newest = record.subject.body
    return [
        sections.verdict(newest),
        sections.headlines(newest),
        *first,
        sections.accuracy_section(newest),
        sections.predictions(newest),
        sections.noise(newest),
        past.checks_section(record),
        past.history_section(record),
        sections.machine(newest),
        sections.timings(newest),
        sections.meanings(),
    ]


def _foot(agent: str) -> Markup:
    text = (
        f"Written by calibration-agent {agent} on this machine. The page loads nothing and "
        "sends nothing. Times of day are UTC."
    )
    return element("footer", side_by_side(text))


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    allowed = f"style-src 'sha256-{digest}'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _style() -> str:
    return (Path(__file__).parent / "style.css").read_text()
