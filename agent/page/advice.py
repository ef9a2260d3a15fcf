"""Pages of predictions: a ranking, an explanation, and where the program is among those timed."""

from __future__ import annotations

from typing import Final

from agent import __version__
from agent.page import advice_charts as charts
from agent.page import blocks
from agent.page.document import page
from agent.page.figures import three_digits
from agent.page.markup import Markup, element
from agent.terminal.advice_wording import CAUSES, ranking_blocks
from agent.terminal.blocks import Answer, Table
from agent.terminal.explain_wording import explanation_blocks

NEAR, FAR = 1.5, 3.0  # usual distances, up to which a program is like the nearest, or nearly
NEIGHBOURS: Final = 5
_SPOTS: Final = {"calibrated": "your program", "alone": "a kernel of the fixed set"}


def render_ranking(answer: Answer, file: str) -> str:
    """The page of an answer of ``agent rank`` with a map, as HTML."""
    parts = (blocks.told("What is predicted", ranking_blocks(answer)), _alike(answer))
    return _page("Ranking of", answer, file, *parts)


def render_explanation(answer: Answer, file: str) -> str:
    """The page of an answer of ``agent explain`` with a map, as HTML."""
    words = blocks.told("In words", explanation_blocks(answer))
    return _page("Explanation of", answer, file, _causes(answer), words, _alike(answer))


def _page(what: str, answer: Answer, file: str, *parts: Markup) -> str:
    name = answer["program"]["name"]
    first, last = answer["program"]["lines"]
    about = element("p", f"{file}, lines {first} to {last}", class_="quiet")
    heading = element("header", element("h1", f"{what} ", element("b", name)), about)
    return page(f"{what} {name}", __version__, heading, parts)


def _causes(answer: Answer) -> Markup:
    parts = [(CAUSES[c["cause"]], c["factor"]) for c in answer["causes"] if c["log_speedup"]]
    if not parts:
        return Markup("")
    own = answer["own"]
    one = "written" if own else "the loops as the agent writes them"
    speedup = answer["own_speedup" if own else "speedup"]
    parts = [*([("as the agent writes it", own["speedup"])] if own else []), *parts]
    return blocks.section(
        f"{answer['schedule']}: {three_digits(speedup)} times as fast as {one}",
        "The factors multiply to the prediction.",
        blocks.drawing(charts.waterfall(parts, three_digits), {}),
    )


def _alike(answer: Answer) -> Markup:
    """Whether the loops are like those that the agent times, in a map, words and figures."""
    found = answer["map"]
    near = found["kernels"][:NEIGHBOURS]
    own = charts.Spot(answer["program"]["name"], found["x"], found["y"], "your program")
    spots = [charts.Spot(k["name"], k["x"], k["y"], _said(k)) for k in found["kernels"]]
    rows = tuple((k["name"], k["purpose"], f"{k['distance']:.1f}") for k in near)
    caption = (
        f"The two directions in which the kernels differ most: {found['shown']:.0%} of their "
        "differences. What is near here may still differ otherwise: the table has whole distances."
    )
    return blocks.section(
        "Is it like what was timed?",
        f"{_alike_words(near[0]['distance'])} 1 is how far a kernel of the fixed set usually is "
        "from the one nearest to it, as the model sees them: loops, accesses, arithmetic, sizes.",
        blocks.beside(
            blocks.drawing(charts.programs(own, spots), _SPOTS, caption),
            blocks.table_block(Table(("nearest", "what it is", "distance"), rows)),
        ),
    )


def _alike_words(distance: float) -> str:
    if distance <= NEAR:
        return "Yes: it is as near to one of them as they are to each other."
    if distance <= FAR:
        return "Somewhat: it is farther from all of them than they are from each other."
    return (
        "No: it is unlike all of them, so that this machine's timings say little of it, and the "
        "first schedules are best timed (`agent measure`)."
    )


def _said(kernel: Answer) -> str:
    return f"{kernel['name']}: {kernel['purpose']}\ndistance {kernel['distance']:.1f}"
