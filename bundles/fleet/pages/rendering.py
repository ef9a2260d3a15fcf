"""From values to HTML: the templates, and the words and numbers that they show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from bundles.fleet.access import people
from bundles.fleet.access.centre import centre_of
from bundles.fleet.analysis.verdict import percent_text
from bundles.fleet.pages import drawing
from bundles.fleet.pages.charts import counted

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


def form_page(
    request: Request, template: str, values: Mapping[str, object], status: int = 200
) -> Response:
    """A page whose forms are bound to this browser."""
    centre = centre_of(request)
    visitor = people.cookie(request, "visitor") or people.new_visitor()
    shown = (
        templates()
        .get_template(template)
        .render(
            form=people.form_secret(visitor),
            threshold=centre.settings.threshold,
            sign_in=centre.settings.sign_in,
            sample=centre.settings.sample,
            docs=centre.settings.docs_url,
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
    made.filters["percent"] = lambda x: (
        percent_text(x) if x >= 0.01 or not x else f"< {percent_text(0.01)}"
    )
    made.filters["count"] = counted
    made.filters["label"] = lambda row: label_words(row.attribute, row.label)
    made.globals.update(
        bar=drawing.share_bar, interval=drawing.interval_drawing, verdict_words=VERDICTS,
        what=WHAT,
    )  # fmt: skip
    return made


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
