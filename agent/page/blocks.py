"""What sections are made of: paragraphs, drawings with a legend, tables, what unfolds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agent.page import charts
from agent.page.markup import Markup, element, side_by_side
from agent.terminal.blocks import Block, Table

ARROW: Final = "\N{NO-BREAK SPACE}\N{RIGHTWARDS ARROW} "
SHORT: Final = 22  # characters of a table's cell that is not broken
LEGEND: Final = {
    "calibrated": "calibrated with this machine's timings",
    "alone": "bundle alone, no timings",
}


def section(title: str, *children: str) -> Markup:
    """A section; plain texts become paragraphs, empty ones are left out."""
    inside = (c if isinstance(c, Markup) else element("p", prose(c)) for c in children if c)
    return element("section", element("h2", title), *inside)


def told(title: str, answer: Sequence[Block]) -> Markup:
    """A section of what a command says on a terminal."""
    shown = (b for b in answer if isinstance(b, str | Table))
    parts = (table_block(b) if isinstance(b, Table) else b.replace(" -> ", ARROW) for b in shown)
    return section(title, *parts)


def prose(text: str) -> Markup:
    """A text in which commands stand between backticks."""
    parts = text.split("`")
    return side_by_side(*(element("code", part) if n % 2 else part for n, part in enumerate(parts)))


def beside(*children: Markup) -> Markup:
    """Drawings and tables beside each other where there is room."""
    return element("div", *children, class_="beside")


def headline(name: str, value: str, meaning: str) -> Markup:
    """A figure in large type, and what it means."""
    parts = (element("dt", name), element("dd", element("b", value)), element("dd", meaning))
    return element("div", *parts)


def terms(entries: Mapping[str, str]) -> Markup:
    """Names and what is said of each."""
    pairs = (
        side_by_side(element("dt", name), element("dd", text)) for name, text in entries.items()
    )
    return element("dl", *pairs, class_="facts")


def drawing(svg: Markup, marks: Mapping[str, str], caption: str = "") -> Markup:
    """A drawing under its legend."""
    above = [legend(marks)] if marks else []
    below = [element("figcaption", caption)] if caption else []
    return element("figure", *above, svg, *below)


def legend(marks: Mapping[str, str]) -> Markup:
    """Marks and what they stand for."""
    items = (element("span", charts.swatch(kind), text) for kind, text in marks.items())
    return element("p", *items, class_="legend")


def folded(title: str, content: Markup) -> Markup:
    """What unfolds under a title."""
    return element("details", element("summary", title), content)


def table_block(shown: Table) -> Markup:
    """A table that can be scrolled where it is wider than the page; short cells stay whole."""
    head = element("tr", *(element("th", h, scope="col") for h in shown.headers))
    body = element("tbody", *map(_row, shown.rows))
    about = ", ".join(h for h in shown.headers if h)
    whole = element("table", element("thead", head), body)
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=about)


def _row(row: Sequence[str]) -> Markup:
    first, *rest = row
    cells = (element("td", c, class_="short" if len(c) <= SHORT else None) for c in rest)
    return element("tr", element("th", first, scope="row"), *cells)
