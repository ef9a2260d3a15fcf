"""The page of a measurement: what was found, and what its single rounds say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent import __version__
from agent.page import advice_charts as charts
from agent.page import blocks
from agent.page.document import page
from agent.page.figures import three_digits
from agent.page.markup import Markup, element
from agent.terminal.advice_wording import measurement_blocks
from agent.terminal.blocks import Answer

_MARKS: Final = {
    "bar": "rounds",
    "bar disturbed": "rounds with evidence of other work",
    "reach": "80% interval of the result",
    "made": "as fast as written",
}


def render_measurement(answer: Answer, file: str) -> str:
    """The page of an answer of ``agent measure`` as HTML; the same answer gives the same text."""
    name = answer["program"]["name"]
    title = element("h1", "Measurement of ", element("b", name))
    first, last = answer["program"]["lines"]
    about = element("p", f"{file}, lines {first} to {last}", class_="quiet")
    body = (blocks.told("What was found", measurement_blocks(answer)), _rounds(answer))
    return page(f"Measurement of {name}", __version__, element("header", title, about), body)


def _rounds(answer: Answer) -> Markup:
    drawn = [r for r in _rows(answer) if r.undisturbed or r.disturbed]
    if not drawn:
        return Markup("")
    return blocks.section(
        "Round by round",
        "Every round times the program as written and each version, one after the other. Each bar "
        "counts the rounds in which a version was so many times as fast as the program as written. "
        "One narrow heap is a result to rely on; two heaps are two states of the machine; a wide "
        "one is noise. What no version differs by more than, as the first row shows, is no gain.",
        blocks.drawing(charts.histograms(drawn, three_digits), _MARKS),
        "The times are as they were, over the loops as the agent writes them. Results are of times "
        "of cores that nobody else used, where there were any, so that they may lie beside a heap.",
    )


def _rows(answer: Answer) -> Iterator[charts.Heap]:
    base = answer["base"]["round_speedups"]
    yield charts.Heap("the program as written against itself", *_both(base))
    for timed in answer["measurements"]:
        interval = (timed["low"], timed["speedup"], timed["high"])
        ends = None if None in interval else interval
        yield charts.Heap(timed["schedule"], *_both(timed["round_speedups"]), ends)


def _both(rounds: Answer) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(rounds["undisturbed"]), tuple(rounds["disturbed"])
