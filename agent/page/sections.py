"""What the page says of the calibration in force: what to do first, then figures, then facts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from agent import clock
from agent.calibration.calibration import Calibration, Point, RepeatNoise
from agent.calibration.verdict import calibration_verdict
from agent.measure.stats import NoiseFloor
from agent.model.records import Kind
from agent.page import blocks, charts, facts
from agent.page.figures import (
    TIMES,
    as_factor,
    drawn_factor,
    moment,
    off_by,
    page_time,
    ratio,
    share,
    three_digits,
)
from agent.page.markup import Markup, element
from agent.page.record import Record, drawable
from agent.terminal.blocks import Table
from agent.terminal.calibration_wording import (
    accuracy_table,
    head_lines,
    verdict_line,
    warning_lines,
)
from agent.terminal.numbers import Count, factor

LEAST_SHOWN: Final = 1e-4  # a smaller noise is drawn as this one
_KINDS: Final[tuple[tuple[Kind, str], ...]] = (("speedup", "speed-up"), ("seconds", "time"))
_LEAD: Final = (
    "The agent timed a few dozen small C programs here. From that it predicts how much faster a "
    "loop gets when it is transformed, and how long it takes. This page says how far to trust that."
)
_TERMS: Final = {
    "speed-up": "time of the program as written, divided by the time of the transformed one: 2 is "
    "twice as fast, 0.5 half as fast.",
    "schedule": "the list of transformations, in order: interchange, tile, vectorize...",
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
    entry = record.subject
    if entry is None:
        return element("header", title, element("p", "This machine is not calibrated."))
    made = f"Calibration {entry.id}, made {moment(entry.created_at)}"
    if measured := (entry.body.measured_at or "")[:16].replace("T", " "):
        made += f" from timings begun {measured} UTC"
    age = re.sub(
        r"(?<=\d) ", "\u00a0", clock.age(entry.created_at, record.now)
    )  # units stay beside
    old = f"It was {age} when this page was written"
    about = element("p", f"{made}. {old}, {moment(record.now)}.")
    return element("header", title, about, element("p", _LEAD, class_="quiet"))


def to_do(record: Record) -> Markup:
    """What a person should do, in words; or that there is nothing."""
    items = list(record.notes)
    if record.subject is None:
        items.append("Run `agent calibrate`: it takes about a minute.")
    else:
        if calibration_verdict(record.subject.body).level != "good":
            items.append(
                "Close what else runs and calibrate again: `agent calibrate --when-quiet`."
            )
        lines = warning_lines(record.subject.body.warnings)
        items += [line.removeprefix("Note: ") for line in lines]
    checks = record.newer_checks
    if checks and checks[0].body.verdict == "changed":
        items.insert(0, "The last check found that this machine has changed: `agent calibrate`.")
    if not items:
        return blocks.section("Nothing to do", "Nothing disturbed the timings.")
    title = "One thing to look at" if len(items) == 1 else f"{len(items)} things to look at"
    listed = (element("li", blocks.prose(text)) for text in items)
    return blocks.section(title, element("ul", *listed))


def verdict(calibration: Calibration) -> Markup:
    """Whether the calibration can be believed, before any figure."""
    return element("p", element("b", verdict_line(calibration_verdict(calibration))))


def headlines(calibration: Calibration) -> Markup:
    """The four figures to look at first."""
    ours, alone = calibration.accuracy.calibrated, calibration.accuracy.bundle_alone
    timings = calibration.timings
    shown = (
        (
            "Speed-ups",
            as_factor(ours.log_error),
            "is how far predictions for programs not seen are typically off; bundle alone "
            + as_factor(alone.log_error),
        ),
        (
            "Times",
            as_factor(ours.seconds_log_error),
            f"is the same for seconds; bundle alone {as_factor(alone.seconds_log_error)}",
        ),
        (
            "Noise",
            off_by(calibration.noise),
            "is how far two timings of one program differ; predictions cannot be checked more "
            "finely",
        ),
        ("Timings", f"{timings.usable} of {timings.planned}", "gave a usable result"),
    )
    return element("dl", *(blocks.headline(*figure) for figure in shown), class_="figures")


def accuracy_section(calibration: Calibration) -> Markup:
    """How exact predictions are: calibrated, bundle alone, and the noise."""
    ours, alone = calibration.accuracy.calibrated, calibration.accuracy.bundle_alone
    marks = {
        **blocks.LEGEND,
        "reach": "80% interval (speed-ups)",
        "noise": "noise: predictions cannot be checked more finely",
    }
    return blocks.section(
        "How exact are predictions?",
        "Every figure is for kernels that the model had not seen: each kernel was left out once, "
        "with those made from the same C file, and predicted by a model fitted to the rest.",
        " ".join(
            (
                _gained("Speed-ups", alone.log_error, ours.log_error),
                _gained("Times", alone.seconds_log_error, ours.seconds_log_error),
            )
        ).strip(),
        blocks.beside(
            blocks.drawing(charts.error_bars(_bars(calibration), three_digits), marks),
            blocks.table_block(accuracy_table(calibration.accuracy, calibration.noise)),
        ),
        *(f"Model for {line}" for line in head_lines(calibration.head)),
    )


def _bars(calibration: Calibration) -> tuple[charts.Bar, charts.Bar]:
    ours, alone = calibration.accuracy.calibrated, calibration.accuracy.bundle_alone
    noise = drawn_factor(calibration.noise)
    low, high = drawn_factor(ours.log_error_low), drawn_factor(ours.log_error_high)
    error, before = drawn_factor(ours.log_error), drawn_factor(alone.log_error)
    after, first = drawn_factor(ours.seconds_log_error), drawn_factor(alone.seconds_log_error)
    return (
        charts.Bar("speed-ups", error, low, high, before, noise),
        charts.Bar("times", after, alone=first),
    )


def _gained(what: str, before: float | None, after: float | None) -> str:
    """Before and after, in a sentence."""
    if before is None or after is None:
        return ""
    first, second = factor(before), factor(after)
    verdict = "did not make them more exact" if after > before else "made them more exact"
    if first == second:
        verdict = "changed nothing"
    return (
        f"{what} are off by a factor of {first} before and {second} after calibration: "
        f"this machine's timings {verdict}."
    )


def predictions(calibration: Calibration) -> Markup:
    """Every timing beside its prediction, as drawings and as tables."""
    title = "Predicted against measured"
    found = [(drawable(calibration.points, kind), kind, name) for kind, name in _KINDS]
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
        f"{Count(len(points)):{name}}; measured values within their "
        f"predicted 80% interval: {held} ({held / len(points):.0%})."
    )
    if beyond := charts.outside(points):
        caption += f" Drawn on the edge, for lying farther out: {Count(beyond):prediction}."
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
            f"{TIMES} {three_digits(p.off)}",
        )
        for p in sorted(points, key=lambda p: p.off, reverse=True)
    )
    interval, alone = "80% interval", "bundle alone"
    headers = ("kernel", "schedule", "measured", "predicted", interval, alone, "off by")
    title = f"All {len(rows)} {name}s as a table, the least exact first"
    return blocks.folded(title, blocks.table_block(Table(headers, rows)))


def _words_of(kind: Kind) -> charts.Words:
    return three_digits if kind == "speedup" else page_time


def noise(calibration: Calibration) -> Markup:
    """How much timings of the same thing differ, and how exact each timing is."""
    told = (_again(calibration.repeat_noise), _against_itself(calibration.noise_floor))
    points = [p for kind, _ in _KINDS for p in drawable(calibration.points, kind)]
    if not points:
        return blocks.section("Noise", *told)
    widths = [max((p.high / p.low) ** 0.5 - 1, LEAST_SHOWN) for p in points]
    noise = calibration.noise
    median = [] if noise is None else [max(ratio(noise), LEAST_SHOWN)]
    lines = [(value, f"two timings of the same thing: {share(value)}") for value in median]
    marks = {"tick": "one timing", "noise": "half of what is timed twice differs by less"}
    return blocks.section(
        "Noise",
        *told,
        blocks.drawing(charts.strip(widths, lines, share), marks),
    )


def _again(noise: RepeatNoise | None) -> str:
    if noise is None:
        return "Nothing was timed a second time in a new process."
    half, nine = map(off_by, (noise.median, noise.p90))
    return (
        f"{Count(noise.versions):version} of programs timed once more at the end, in new processes:"
        f" half of their speed-ups differ by less than {half}, nine in ten by less than {nine}; "
        f"{noise.held:.0%} of the 80% intervals hold the other value (63% is right: both vary)."
    )


def _against_itself(floor: NoiseFloor | None) -> str:
    if floor is None:
        return "No program was timed against itself, so nothing is known of the noise."
    half, nine, rounds = map(off_by, (floor.label_median, floor.label_p90, floor.round_median))
    return (
        f"{floor.kernels} programs were also timed against themselves within one process: every "
        f"difference then is noise. Half of these differences are below {half}, nine in ten below "
        f"{nine}; single rounds differ by {rounds}. {floor.called_different:.0%} of the programs "
        "would be called different from themselves; up to 5% is to be expected."
    )


def machine(calibration: Calibration) -> Markup:
    """What machine and which compiler the calibration speaks for."""
    return blocks.section(
        "Machine and compiler",
        "Predictions hold for this machine and for programs compiled by this compiler with these "
        "flags. Another compiler needs a calibration of its own.",
        blocks.terms(facts.all_facts(calibration)),
    )


def timings(calibration: Calibration) -> Markup:
    """Where the time went, and timings that could not be used."""
    headers = ("kernel", "schedule", "outcome", "detail")
    rows = tuple((f.kernel, f.schedule, f.outcome, f.detail) for f in calibration.timings.failed)
    if not rows:
        return blocks.section("Timings", _spent(calibration), "Every one gave a usable result.")
    return blocks.section(
        "Timings",
        _spent(calibration),
        f"{len(rows)} gave no usable result:",
        blocks.table_block(Table(headers, rows)),
    )


def _spent(calibration: Calibration) -> str:
    total, spent = calibration.elapsed_s, calibration.elapsed
    if total is None:
        return ""
    parts = (f"{name} {clock.duration(seconds)}" for name, seconds in spent.items())
    phases = ", ".join(parts)
    return f"The calibration took {clock.duration(total)}{': ' if phases else ''}{phases}."


def meanings() -> Markup:
    """The words of the page, each in a sentence."""
    return blocks.section("What the words mean", blocks.terms(_TERMS))
