"""What an evaluation on real programs found, as one value, and how it is told.

Fields are in the order of programs.json, whose meaning docs/reference/evaluation.md gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import cast

import numpy as np

from agent import __version__
from agent.bundle.bundle import Bundle
from agent.errors import AgentError
from agent.measure.shots import Sharing
from bundles.evaluation.programs.guesses import RealWay, ways
from bundles.evaluation.programs.records import RealProgram, RealTimings
from bundles.evaluation.programs.scoring import (
    METRICS,
    RealFigures,
    difference,
    intervals,
    judge_guess,
    mean_figures,
    worst_programs,
)
from bundles.evaluation.report import Interval, from_plain, plain
from bundles.evaluation.tables import TextTable

SCHEMA = 1
FEWEST = 3  # versions with a time
MOST_SHARED = 0.2  # of the versions, without a word
COLUMNS = (
    ("log_error", "log error"),
    ("spearman", "Spearman"),
    ("pairs", "pairs > 10 %"),
    ("top_share", "top pick"),
    ("first_share", "first 3"),
    ("coverage", "80 % hold"),
    ("width", "half width"),
    ("seconds_log_error", "seconds"),
)
AGAINST = (("bundle_anchored", "bundle"), ("calibrated_anchored", "calibrated"))


@dataclass(frozen=True)
class ProgramsAsked:
    """Which programs, and how many of their schedules were looked at and timed."""

    name: str
    digest: str
    looked_at: int
    timed: int
    first: int
    seed: int


@dataclass(frozen=True)
class WayFound:
    """One way to predict: means over programs, their 95 % intervals, the worst, each program."""

    title: str
    mean: RealFigures
    interval: Mapping[str, Interval]
    worst: Mapping[str, str]
    programs: Mapping[str, RealFigures]


@dataclass(frozen=True)
class WayDifference:
    """The mean of one way less that of another, paired by program, with its 95 % interval."""

    way: str
    against: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LeftOutProgram:
    """A program that is in no figure, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class RealReport:
    """All of it; figures are rounded."""

    schema: int
    created: str
    agent: str
    programs: ProgramsAsked
    target: Mapping[str, object]
    bundle: Mapping[str, str]
    calibrated: bool
    anchored: int
    versions: int
    shared: int
    ways: Mapping[str, WayFound]
    differences: tuple[WayDifference, ...]
    left_out: tuple[LeftOutProgram, ...]
    measuring_s: float

    def to_json(self) -> dict[str, object]:
        """As programs.json has it."""
        return cast(dict[str, object], plain(self))

    @classmethod
    def from_json(cls, data: object) -> RealReport:
        """Read what ``to_json`` gave; AgentError where something is missing or of another type."""
        try:
            return cast(RealReport, from_plain(cls, data))
        except (KeyError, TypeError, ValueError) as error:
            raise AgentError(
                f"this is not a report of `bundles evaluate --programs`: {error}",
                "Give the programs.json that it wrote.",
            ) from error


def judge_timings(
    timings: RealTimings, bundle: Bundle, again: RealTimings | None = None
) -> RealReport:
    """Score every way to predict on a journal; ``again``: that of another run, as one more way.

    Raises:
        AgentError: no program has enough versions with a time.
    """
    head = timings.head
    judged = [p for p in timings.programs if len(p.timed) >= FEWEST and not p.why]
    if not judged:
        why = timings.programs[0].why if timings.programs else "the journal is empty"
        raise AgentError(f"there is nothing to score: {why}", "Give programs that can be timed.")
    all_ways = ways(head, bundle, again)
    found = {name: _way(way, judged) for name, way in all_ways.items()}
    return RealReport(
        schema=SCHEMA,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        agent=__version__,
        programs=ProgramsAsked(
            head.programs, head.digest, head.looked_at, head.timed, head.first, head.seed
        ),
        target={**asdict(head.target), "flags": list(head.target.flags)},
        bundle={"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        calibrated=bool(head.fixed),
        anchored=sum(p.seconds is not None for p in judged),
        versions=sum(len(p.timed) for p in judged),
        shared=sum(p.versions[n].sharing == Sharing.SHARED for p in judged for n in p.timed),
        ways=found,
        differences=_differences(found),
        left_out=tuple(_left_out(p) for p in timings.programs if p not in judged),
        measuring_s=round(sum(p.elapsed_s for p in timings.programs), 1),
    )


def _way(way: RealWay, programs: list[RealProgram]) -> WayFound:
    rows = {}
    for program in programs:
        seconds = np.log(program.versions[0].seconds)
        if (guess := way.guess(program)) is not None:
            rows[program.name] = judge_guess(program.speedups, seconds, guess)
    each = list(rows.values())
    return WayFound(
        title=way.title,
        mean=_rounded(mean_figures(each)),
        interval={m: (round(a, 4), round(b, 4)) for m, (a, b) in intervals(each).items()},
        worst=worst_programs(rows),
        programs={name: _rounded(row) for name, row in rows.items()},
    )


def _rounded(row: RealFigures) -> RealFigures:
    values = {m: getattr(row, m) for m in METRICS}
    return RealFigures(**{m: None if v is None else round(v, 4) for m, v in values.items()})


def _differences(found: Mapping[str, WayFound]) -> tuple[WayDifference, ...]:
    rows: list[WayDifference] = []
    for way, against in AGAINST:
        if way in found:
            ours, others = (list(found[name].programs.values()) for name in (way, against))
            gaps = {metric: difference(ours, others, metric) for metric in METRICS}
            rows += (
                WayDifference(way, against, metric, *(round(x, 4) for x in gap))
                for metric, gap in gaps.items()
                if gap
            )
    return tuple(rows)


def _left_out(program: RealProgram) -> LeftOutProgram:
    few = f"fewer than {FEWEST} versions have a time"
    return LeftOutProgram(program.name, program.why or few)


# --- in words ---------------------------------------------------------------------------------


def real_tables(report: RealReport) -> list[TextTable]:
    """The ways to predict; each program."""
    header = ("", *(title for _, title in COLUMNS))
    means = [way.mean for way in report.ways.values()]
    best = next(n for n in ("calibrated_anchored", "bundle_anchored") if n in report.ways)
    each = tuple(_row(name, row) for name, row in report.ways[best].programs.items())
    count = len(each)
    title = f"{report.programs.name} on {report.target['name']}: means over {count} programs"
    titles = [way.title for way in report.ways.values()]
    spans = tuple(
        (way.title, *(_span(way, metric) for metric, _ in COLUMNS)) for way in report.ways.values()
    )
    return [
        TextTable(title, header, tuple(map(_row, titles, means))),
        TextTable("95 % intervals of the means", header, spans),
        TextTable(f"Program by program: {report.ways[best].title}", header, each),
    ]


def real_remarks(report: RealReport) -> list[str]:
    """What is to be said in words."""
    asked, best = report.programs, next(iter(report.ways.values()))
    lines = [
        f"{asked.timed} of {asked.looked_at} ranked schedules a program were timed: the first "
        f"{asked.first}, the others drawn; {report.versions} versions gave a time",
        f"bundle {report.bundle['name']} {report.bundle['version']}"
        + ("" if report.calibrated else ", no calibration"),
        f"worst with {best.title}: {best.worst['log_error']} (log error), "
        f"{best.worst['spearman']} (Spearman), {best.worst['top_share']} (top pick)",
    ]
    if report.shared > MOST_SHARED * report.versions:
        lines.append(
            f"others used the cores of {report.shared} of {report.versions} versions all the "
            "while: time them again on a quiet machine"
        )
    if (without := len(report.ways["bundle"].programs) - report.anchored) > 0:
        lines.append(f"programs as written that could not be timed alone: {without}")
    lines += [
        f"{report.ways[d.way].title} less {report.ways[d.against].title}: {d.metric} "
        f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        for d in report.differences
        if d.metric in ("log_error", "spearman", "top_share")
    ]
    return lines + [f"left out: {p.name}: {p.why}" for p in report.left_out]


def _row(name: str, figures: RealFigures) -> tuple[str, ...]:
    return (name, *(_figure(metric, getattr(figures, metric)) for metric, _ in COLUMNS))


def _span(way: WayFound, metric: str) -> str:
    if metric not in way.interval:
        return "-"
    low, high = (_figure(metric, end) for end in way.interval[metric])
    return f"{low} to {high}"


def _figure(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.0f} %" if metric == "coverage" else f"{value:.3f}"
