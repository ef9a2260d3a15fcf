"""The page of a search: what was found, how it went, and the loops before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent import __version__
from agent.calibration.calibration import Point
from agent.page import blocks, charts
from agent.page.document import page
from agent.page.figures import page_time, three_digits
from agent.page.markup import Markup, element, side_by_side
from agent.page.record import drawable
from agent.terminal.advice_wording import tuning_blocks
from agent.terminal.blocks import Answer, Table

ALONE: Final = "before any version was timed"
_MARKS: Final[Mapping[str, str]] = {
    "calibrated": "as predicted when it was chosen",
    "alone": ALONE,
    "identity": "exact",
    "band": "off by less than a factor of 2",
}


def render_tuning(answer: Answer, file: str) -> str:
    """The page of an answer of ``agent tune`` as HTML; the same answer gives the same text."""
    name = answer["program"]["name"]
    title = element("h1", "Tuning of ", element("b", name))
    about = element("p", f"{file}: {_setting(answer)}", class_="quiet")
    body = (_outcome(answer), _course(answer), _predictions(answer), _loops(answer), _tried(answer))
    return page(f"Tuning of {name}", __version__, element("header", title, about), body)


def _setting(answer: Answer) -> str:
    """Sizes, machine class and toolchain, in words."""
    sizes = ", ".join(f"{name} = {value}" for name, value in answer["sizes"].items())
    machine, toolchain = answer["machine"], answer["toolchain"]
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    flags = " ".join(toolchain["flags"])
    where = f"{machine['level']}, {threads}"
    return "; ".join((sizes or "sizes as in the text", where, toolchain["version"], flags))


def _outcome(answer: Answer) -> Markup:
    """The words of the terminal, and its table."""
    return blocks.told("What was found", tuning_blocks(answer))


def _course(answer: Answer) -> Markup:
    """The best so far, in time."""
    points = [
        (at["at_s"], _over(answer, at["speedup"]), f"{at['tried']} timed") for at in answer["curve"]
    ]
    if not points:
        return blocks.section("How it went", "Nothing was timed.")
    caption = f"{len(answer['tried'])} versions timed, {answer['looked_at']} looked at."
    drawn = charts.climb(points, three_digits, lambda s: f"{s:.3g} s")
    return blocks.section("How it went", blocks.drawing(drawn, {}, caption))


def _over(answer: Answer, speedup: float) -> float:
    """A speed-up over the agent's emission as one over the function, where that was timed."""
    return float(speedup * (answer["own"]["speedup"] if answer["own"] else 1.0))


def _points(answer: Answer) -> Iterator[Point]:
    for timed in answer["tried"]:
        names = ("speedup", "low", "high", "expected", "expected_low", "expected_high", "predicted")
        numbers = [timed[name] for name in names]
        if all(n is not None for n in numbers):
            over = (_over(answer, n) for n in numbers)
            yield Point(answer["program"]["name"], timed["schedule"], "speedup", *over)


def _predictions(answer: Answer) -> Markup:
    """What was predicted of the versions that were timed."""
    points = drawable(tuple(_points(answer)), "speedup")
    if not points:
        return Markup("")
    drawn = charts.scatter(points, three_digits, "speed-up", ALONE)
    return blocks.section(
        "Predicted against measured",
        "Each mark is a version that was timed. The model knows nothing of this program at first; "
        "every timing corrects it for this program.",
        blocks.drawing(drawn, _MARKS),
    )


def _loops(answer: Answer) -> Markup:
    """The loops as they stand in the file, and what won."""
    before, after = answer["loops"]["written"], answer["loops"]["winner"]
    parts = [("As written", before), *([("The winner", after)] if after else [])]
    return blocks.section("The loops", blocks.beside(*(_code(*part) for part in parts)))


def _code(title: str, text: str) -> Markup:
    lines = side_by_side(*(f"{line}\n" for line in text.splitlines()))
    code = element("pre", lines, tabindex="0", role="region", aria_label=title)
    return element("figure", element("p", title, class_="quiet"), code)


def _tried(answer: Answer) -> Markup:
    """Every version that was timed, fastest first."""
    rows = tuple(map(_row, sorted(answer["tried"], key=lambda t: -(t["speedup"] or 0))))
    headers = ("schedule", "speed-up", "predicted", "outcome")
    base = page_time(answer["base"]["seconds"])
    told = f"Over the loops as the agent writes them ({base})."
    table = blocks.folded(f"All {len(rows)} as a table", blocks.table_block(Table(headers, rows)))
    return blocks.section("Versions that were timed", told, table)


def _row(timed: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (timed[name] for name in ("speedup", "expected"))
    shown = ("-" if n is None else three_digits(n) for n in numbers)
    return timed["schedule"], *shown, timed["outcome"]
