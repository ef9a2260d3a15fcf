"""What the page says of the calibration in force: what to do first, then figures, then facts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from agent import clock
from agent.page import blocks, charts, facts
from agent.page.figures import TIMES, duration, factor, moment, percent, plain, ratio, share, times
from agent.page.markup import Markup, element
from agent.page.past import since
from agent.page.record import (
    Body,
    Kind,
    Point,
    Record,
    number,
    part,
    points_of,
    records,
    words,
)
from agent.terminal import wording

LEAST_SHOWN: Final = 1e-4  # a smaller noise is drawn as this one
_KINDS: Final[tuple[tuple[Kind, str], ...]] = (("speedup", "speed-up"), ("seconds", "time"))
_LEAD: Final = (
    "The agent timed a few dozen small C programs here. From that it predicts how much faster a "
    "loop gets when it is transformed, and how long it takes. This page says how far to trust that."
)
_TERMS: Final = {
    "speed-up": "time of the program as written, divided by the time of the transformed one: 2 is "
    "twice as fast, 0.5 half as fast.",
    "schedule": "the list of transformations, in order: interchange, tile, vectorise...",
    "off by a factor of 1.5": "1.5 times too large or too small: a speed-up of 3 is typically "
    "predicted between 2 and 4.5. 1 is exact. It is the exponential of the mean absolute error of "
    "the logarithm.",
    "80% interval": "the agent expects four in five measured values to lie in it.",
    "bundle alone": "what the agent knew before it timed anything here.",
    "rank order": "whether predictions put a program's versions in the right order: 1 all right, 0 "
    "as good as chance (Spearman's correlation).",
    "top pick": "speed of the version predicted fastest, as a share of the fastest one's.",
    "MAPE": "mean absolute error of speed-ups in per cent; a few strong slow-downs make it large.",
}


def heading(record: Record) -> Markup:
    """Which machine, which calibration, how old."""
    title = element("h1", "Calibration of ", element("b", record.machine))
    if not record.calibrations:
        return element("header", title, element("p", "This machine is not calibrated."))
    entry = record.calibrations[0]
    made = f"Calibration {entry.id}, made {moment(entry.at)}"
    if measured := words(entry.body, "measured_at")[:16].replace("T", " "):
        made += f" from timings begun {measured} UTC"
    age = re.sub(r"(?<=\d) ", "\u00a0", clock.age(entry.at, record.now))  # units stay beside
    old = f"It was {age} when this page was written"
    about = element("p", f"{made}. {old}, {moment(record.now)}.")
    return element("header", title, about, element("p", _LEAD, class_="quiet"))


def to_do(record: Record) -> Markup:
    """What a person should do, in words; or that there is nothing."""
    items = list(record.notes)
    if not record.calibrations:
        items.append("Run `agent calibrate`: it takes about a minute.")
    else:
        items += facts.warnings(record.calibrations[0].body)
    checks = since(record)
    if checks and words(checks[0].body, "verdict") == "changed":
        items.insert(0, "The last check found that this machine has changed: `agent calibrate`.")
    if not items:
        return blocks.section("Nothing to do", "Nothing disturbed the timings.")
    title = "One thing to look at" if len(items) == 1 else f"{len(items)} things to look at"
    lines = (element("li", blocks.prose(text)) for text in items)
    return blocks.section(title, element("ul", *lines))


def headlines(body: Body) -> Markup:
    """The four figures to look at first."""
    ours, alone = _ways(body)
    noise = number(part(body, "noise_floor"), "label_median")
    timed = part(body, "timings")
    usable, planned = number(timed, "usable") or 0, number(timed, "planned") or 0
    shown = (
        (
            "Speed-ups",
            times(ours, "log_error"),
            "is how far predictions for programs not seen are typically off; bundle alone "
            + times(alone, "log_error"),
        ),
        (
            "Times",
            times(ours, "seconds_log_error"),
            f"is the same for seconds; bundle alone {times(alone, 'seconds_log_error')}",
        ),
        (
            "Noise",
            percent(noise),
            "is how far two timings of one program differ; no prediction can be shown to be better",
        ),
        ("Timings", f"{usable:.0f} of {planned:.0f}", "gave a usable result"),
    )
    return element("dl", *(blocks.headline(*figure) for figure in shown), class_="figures")


def accuracy(body: Body) -> Markup:
    """How exact predictions are: calibrated, bundle alone, and the noise floor."""
    ours, alone = _ways(body)
    marks = {
        **blocks.LEGEND,
        "reach": "80% interval (speed-ups)",
        "noise": "noise: no prediction can be shown to be better",
    }
    return blocks.section(
        "How exact are predictions?",
        "Every figure is for kernels that the model had not seen: each kernel was left out once, "
        "with those made from the same C file, and predicted by a model fitted to the rest.",
        " ".join(
            _gained(what, number(alone, key), number(ours, key))
            for what, key in (("Speed-ups", "log_error"), ("Times", "seconds_log_error"))
        ).strip(),
        blocks.beside(
            blocks.drawing(charts.errors(_bars(body), plain), marks),
            blocks.table(facts.accuracy_table(body)),
        ),
        *(f"Model for {line}" for line in facts.model_lines(body)),
    )


def _ways(body: Body) -> tuple[Body, Body]:
    return part(body, "accuracy", "calibrated"), part(body, "accuracy", "bundle_alone")


def _bars(body: Body) -> tuple[charts.Bar, charts.Bar]:
    ours, alone = _ways(body)
    noise = factor(number(part(body, "noise_floor"), "label_median"))
    low, high = (factor(number(ours, key)) for key in ("log_error_low", "log_error_high"))
    error, before = (factor(number(way, "log_error")) for way in (ours, alone))
    key = "seconds_log_error"
    return (
        charts.Bar("speed-ups", error, low, high, before, noise),
        charts.Bar("times", factor(number(ours, key)), alone=factor(number(alone, key))),
    )


def _gained(what: str, before: float | None, after: float | None) -> str:
    """Before and after, in a sentence."""
    if before is None or after is None:
        return ""
    first, second = wording.factor(before), wording.factor(after)
    verdict = "did not make them more exact" if after > before else "made them more exact"
    if first == second:
        verdict = "changed nothing"
    return (
        f"{what} are off by a factor of {first} before and {second} after calibration: "
        f"this machine's timings {verdict}."
    )


def predictions(body: Body) -> Markup:
    """Every timing beside its prediction, as drawings and as tables."""
    title = "Predicted against measured"
    found = [(points_of(body, kind), kind, name) for kind, name in _KINDS]
    shown = [three for three in found if three[0]]
    if not shown:
        return blocks.section(
            title,
            "This calibration was made by an older agent, which did not keep single predictions. "
            "The next `agent calibrate` will, and so will `agent calibrate --refit` now.",
        )
    marks = {
        **blocks.LEGEND,
        "reach": "80% interval of prediction and of timing",
        "identity": "exact",
        "band": "off by less than a factor of 2",
    }
    return blocks.section(
        title,
        "Each mark is a program, predicted by a model that had not seen its kernel. On the "
        "diagonal the prediction is exact; above it, more was predicted than was measured. Point "
        "at a mark to see which program it is.",
        blocks.legend(marks),
        blocks.beside(*(_scatter(*three) for three in shown)),
        *(_points(*three) for three in shown),
    )


def _scatter(points: Sequence[Point], kind: Kind, name: str) -> Markup:
    held = sum(p.held for p in points)
    caption = (
        f"{len(points)} {name}{'s' if len(points) > 1 else ''}; measured values within their "
        f"predicted 80% interval: {held} ({held / len(points):.0%})."
    )
    if beyond := charts.outside(points):
        caption += f" {beyond} prediction(s) lie farther out and are drawn on the edge."
    return blocks.drawing(charts.scatter(points, _words_of(kind), name), {}, caption)


def _points(points: Sequence[Point], kind: Kind, name: str) -> Markup:
    show = _words_of(kind)
    rows = tuple(
        (
            p.kernel,
            p.schedule if kind == "speedup" else "as written",
            show(p.measured),
            show(p.calibrated),
            f"{show(p.calibrated_low)} to {show(p.calibrated_high)}",
            show(p.alone),
            f"{TIMES} {plain(p.off)}",
        )
        for p in sorted(points, key=lambda p: p.off, reverse=True)
    )
    interval, alone = "80% interval", "bundle alone"
    headers = ("kernel", "schedule", "measured", "predicted", interval, alone, "off by")
    title = f"All {len(rows)} {name}s as a table, the least exact first"
    return blocks.folded(title, blocks.table(wording.Table(headers, rows)))


def _words_of(kind: Kind) -> charts.Words:
    return plain if kind == "speedup" else duration


def noise(body: Body) -> Markup:
    """How much timings of the same thing differ, and how exact each timing is."""
    label = number(part(body, "noise_floor"), "label_median")
    points = [p for kind, _ in _KINDS for p in points_of(body, kind)]
    if not points:
        return blocks.section("Noise", _against_itself(part(body, "noise_floor")))
    widths = [max((p.high / p.low) ** 0.5 - 1, LEAST_SHOWN) for p in points]
    median = [] if label is None else [max(ratio(label), LEAST_SHOWN)]
    lines = [(value, f"program against itself: {share(value)}") for value in median]
    marks = {"tick": "one timing", "noise": "median of programs timed against themselves"}
    return blocks.section(
        "Noise",
        _against_itself(part(body, "noise_floor")),
        blocks.drawing(charts.strip(widths, lines, share), marks),
    )


def _against_itself(floor: Body) -> str:
    label, high, rounds = (number(floor, k) for k in ("label_median", "label_p90", "round_median"))
    if label is None:
        return "No program was timed against itself, so nothing is known of the noise."
    return (
        f"{number(floor, 'kernels') or 0:.0f} programs were also timed against themselves: every "
        f"difference then is noise. Half of these differences are below {percent(label)}, nine in "
        f"ten below {percent(high)}; single rounds differ by {percent(rounds)}. "
        f"{number(floor, 'called_different') or 0:.0%} of the programs would be called different "
        "from themselves; up to 5% is to be expected."
    )


def machine(body: Body) -> Markup:
    """What machine and which compiler the calibration speaks for."""
    found = {**facts.machine_facts(body), **facts.toolchain_facts(body), **facts.origin_facts(body)}
    return blocks.section(
        "Machine and compiler",
        "Predictions hold for this machine and for programs compiled by this compiler with these "
        "flags. Another compiler needs a calibration of its own.",
        blocks.terms(found),
    )


def timings(body: Body) -> Markup:
    """Where the time went, and timings that could not be used."""
    failed = records(part(body, "timings"), "failed")
    headers = ("kernel", "schedule", "outcome", "detail")
    rows = tuple(tuple(words(f, header) for header in headers) for f in failed)
    if not rows:
        return blocks.section("Timings", _spent(body), "Every one gave a usable result.")
    return blocks.section(
        "Timings",
        _spent(body),
        f"{len(rows)} gave no usable result:",
        blocks.table(wording.Table(headers, rows)),
    )


def _spent(body: Body) -> str:
    total, spent = number(body, "elapsed_s"), part(body, "elapsed")
    if total is None:
        return ""
    parts = (f"{name} {clock.duration(number(spent, name) or 0.0)}" for name in spent)
    phases = ", ".join(parts)
    return f"The calibration took {clock.duration(total)}{': ' if phases else ''}{phases}."


def meanings() -> Markup:
    """The words of the page, each in a sentence."""
    return blocks.section("What the words mean", blocks.terms(_TERMS))
