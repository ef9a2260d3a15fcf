"""What is drawn of released counts: charts, each with the table that says the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection

from agent.report.payload import ARCHITECTURES, CHANNELS, ERROR_STEP
from bundles.fleet.analysis import answers, figures, released
from bundles.fleet.analysis.released import ReleasedCell
from bundles.fleet.counting import weeks
from bundles.fleet.counting.lots import MIXED
from bundles.fleet.pages import drawing
from bundles.fleet.pages.drawing import BarSeries, BoxSeries, Mark


class Chart(msgspec.Struct, frozen=True):
    """One chart and the table that says the same."""

    title: str
    newest: str
    drawn: str
    weeks: list[str]
    lines: list[BoxSeries]
    marks: list[Mark] = []


class ShareChart(msgspec.Struct, frozen=True):
    """Shares of machines, week by week, and the table that says the same."""

    drawn: str
    weeks: list[str]
    lines: list[BarSeries]
    marks: list[Mark] = []


def accuracy_charts(
    connection: Connection, known: list[int], where: Mapping[str, str]
) -> list[Chart]:
    """Calibrated against bundle alone: all machines, then each architecture."""
    named = (
        ("bundle alone", "alone_speedup", "alone"),
        ("calibrated", "calibrated_speedup", "ours"),
    )
    charts = []
    for by in ((), ("architecture",)):
        found = {
            kind: released.read_spreads(connection, attribute, known, ("week", *by), where)
            for _, attribute, kind in named
        }
        groups = sorted({key[1:] for of_kind in found.values() for key in of_kind}, key=_place)
        for group in groups:
            lines = [
                BoxSeries(name, kind, [_box(found[kind].get((week, *group), ())) for week in known])
                for name, _, kind in named
            ]
            charts.append(_chart(_named(group), known, lines))
    return charts


def _place(group: tuple[str, ...]) -> int:
    """Where a chart comes: architectures in the order of their list, then the mixed ones."""
    return [*ARCHITECTURES, MIXED].index(group[0]) if group else 0


def _named(group: tuple[str, ...]) -> str:
    if not group:
        return "All architectures"
    return "Architectures too few by themselves" if group[0] == MIXED else group[0]


def gain_chart(connection: Connection, known: list[int], where: Mapping[str, str]) -> Chart | None:
    """By how much calibrating makes a machine's predictions better."""
    found = released.read_spreads(connection, "gain", known, ("week",), where)
    boxes = [_box(found.get((week,), ())) for week in known]
    if not any(boxes):
        return None
    return _chart("gain", known, [BoxSeries("error alone / error calibrated", "ours", boxes)])


def trend_chart(connection: Connection, known: list[int], marks: list[Mark]) -> Chart | None:
    """The error that machines get, by channel, over weeks."""
    found = released.read_spreads(connection, "used", known, ("week", "channel"))
    lines = [
        BoxSeries(channel, channel, [_box(found.get((week, channel), ())) for week in known])
        for channel in CHANNELS
        if any(key[1] == channel for key in found)
    ]
    return _chart("channels", known, lines, marks) if lines else None


def rollout_chart(
    cells: Sequence[ReleasedCell], known: list[int], name: tuple[str, str]
) -> ShareChart | None:
    """Which share of the machines that run a bundle runs this one, by channel."""
    running = [cell for cell in cells if cell.outcome != "refused"]
    mine = [cell for cell in running if (cell.bundle, cell.version) == name]
    return _shares("roll-out", known, mine, running)


def refusal_chart(
    cells: Sequence[ReleasedCell], known: list[int], marks: list[Mark]
) -> ShareChart | None:
    """Which share of the reports says that a bundle was refused, by channel; None: none does."""
    refused = [cell for cell in cells if cell.outcome == "refused"]
    return _shares("refusals", known, refused, cells, marks)


def _shares(
    title: str,
    known: list[int],
    some: Sequence[ReleasedCell],
    all_: Sequence[ReleasedCell],
    marks: Sequence[Mark] = (),
) -> ShareChart | None:
    if not some:
        return None
    part, whole = _counts(some), _counts(all_)
    lines = [
        BarSeries(channel, channel, [
            part[week, channel] / whole[week, channel] if whole[week, channel] else None
            for week in known
        ])
        for channel in CHANNELS
        if any(key[1] == channel for key in whole)
    ]  # fmt: skip
    names = [weeks.week_text(week) for week in known]
    return ShareChart(drawing.bars(title, names, lines, marks), names, lines, list(marks))


def _counts(cells: Sequence[ReleasedCell]) -> Counter[tuple[int, str]]:
    """Machines by week and channel."""
    found: Counter[tuple[int, str]] = Counter()
    for cell in cells:
        found[cell.week, cell.channel] += cell.machines
    return found


def changes(cells: Sequence[ReleasedCell], known: list[int]) -> list[Mark]:
    """The weeks in which most machines of a channel run another bundle than before."""
    before: dict[str, str] = {}
    marks = []
    for index, week in enumerate(known):
        leads: dict[str, str] = {}
        for one in answers.bundles_in_force(cell for cell in cells if cell.week == week):
            if one.running:
                leads.setdefault(one.channel, f"{one.bundle} {one.version}")
        marks += [
            Mark(index, f"{weeks.week_text(week)}: most {channel} machines run {now}, not {was}")
            for channel, now in leads.items()
            if (was := before.get(channel, now)) != now
        ]
        before |= leads
    return marks


def _box(spread: released.Spread) -> drawing.Box | None:
    if not spread:
        return None
    p10, p25, p50, p75, p90 = figures.quantiles(spread, answers.QUANTILES, ERROR_STEP)
    return drawing.Box(p10, p25, p50, p75, p90, figures.machines_of(spread))


def _newest(title: str, lines: list[BoxSeries]) -> str:
    """How many machines the newest boxes are of; by line, where that differs."""
    counts = {line.name: box.machines for line in lines for box in line.boxes[-1:] if box}
    if len(counts) == len(lines) and len(set(counts.values())) == 1 and title != "channels":
        return f"{counted(next(iter(counts.values())))} machines"
    words = " and ".join(f"{counted(machines)} {name}" for name, machines in counts.items())
    return f"{words} machines" if words else ""


def counted(machines: int) -> str:
    """A number as people read it."""
    return f"{machines:,}".replace(",", "\u202f")


def _chart(
    title: str, known: list[int], lines: list[BoxSeries], marks: Sequence[Mark] = ()
) -> Chart:
    names = [weeks.week_text(week) for week in known]
    drawn = drawing.spreads(title, names, lines, marks)
    return Chart(title, _newest(title, lines), drawn, names, lines, list(marks))
