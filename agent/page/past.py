"""What happened before: checks of the calibration, and the calibrations before this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.loopnest.schedules.schedule import ORIGINAL
from agent.page import blocks, charts, facts, figures
from agent.page.markup import Markup
from agent.page.record import Body, Entry, Record, number, part, records, words
from agent.terminal import wording

SHOWN_CALIBRATIONS: Final = 20
SHOWN_CHECKS: Final = 10
UNCLEAR: Final = "it could not be told: the machine was too busy"
_VERDICTS: Final = {
    "holds": "the calibration held",
    "changed": "the machine had changed, the calibration no longer held",
}
_COLUMNS: Final = {
    "Speed-ups are off by a factor of": "speed-ups off by",
    "the same, bundle alone": "bundle alone",
    "Times are off by a factor of": "times off by",
    "Two timings of the same thing differ by": "noise",
    "Usable timings": "timings",
}


def drift(record: Record) -> Markup:
    """Checks since this calibration, and before."""
    title = "Has the machine changed since?"
    if not record.checks:
        return blocks.section(
            title,
            "No check was made yet. `agent check` times a handful of programs "
            "again, in seconds, and says whether the calibration still holds.",
        )
    checks, newer = record.checks, since(record)
    last = checks[0]
    text = f"Last check, {figures.moment(last.at)}: {_verdict(last)}. "
    text += f"Since this calibration: {len(newer)} of the {len(checks)} checks on record."
    legend = {
        "calibrated": "holds",
        "changed": "changed",
        "alone": "unclear",
        "limit": "limit of that change",
        "made": "calibration",
    }
    made = [c.at for c in record.calibrations]
    one_day = figures.day(checks[-1].at) == figures.day(last.at)
    when = figures.hour if one_day else figures.day
    return blocks.section(
        title,
        text,
        blocks.drawing(
            charts.timeline([_dot(c) for c in checks], made, when, figures.share), legend
        ),
        blocks.folded("What the last check timed", blocks.table(_sentinels(last.body))),
        blocks.folded("The last checks as a table", blocks.table(_checks(checks[:SHOWN_CHECKS]))),
    )


def _dot(check: Entry) -> charts.Dot:
    kind = words(check.body, "verdict")
    worst, limit = _worst(check.body)
    title = (
        f"{figures.moment(check.at)}: {_verdict(check)}; largest change {figures.percent(worst)}"
    )
    return charts.Dot(
        check.at, figures.ratio(worst), kind, title, None if limit is None else figures.ratio(limit)
    )


def _worst(body: Body) -> tuple[float, float | None]:
    """The change that is largest beside its limit, and that limit; log units."""
    found = [
        (abs(change), limit)
        for s in records(body, "sentinels")
        if (change := number(s, "log_ratio")) is not None and (limit := number(s, "limit"))
    ]
    if not found:
        return number(body, "worst") or 0.0, None
    return max(found, key=lambda pair: pair[0] / pair[1])


def _verdict(check: Entry) -> str:
    """What it found, and by which facts, where these were enough."""
    text = _VERDICTS.get(words(check.body, "verdict"), UNCLEAR)
    why = "; ".join(filter(None, (words(r, "message") for r in records(check.body, "reasons"))))
    return f"{text} ({why})" if why else text


def _sentinels(body: Body) -> wording.Table:
    rows = tuple(
        (
            words(s, "kernel"),
            _quantity(s),
            figures.signed(number(s, "log_ratio")),
            f"± {figures.percent(number(s, 'limit'))}",
        )
        for s in records(body, "sentinels")
    )
    return wording.Table(("kernel", "what was timed", "change", "limit"), rows)


def _quantity(sentinel: Body) -> str:
    schedule = words(sentinel, "schedule")
    return "time as written" if schedule == ORIGINAL else f"speed-up: {schedule}"


def _checks(checks: Sequence[Entry]) -> wording.Table:
    rows = tuple(
        (figures.moment(c.at), _verdict(c), figures.percent(_worst(c.body)[0])) for c in checks
    )
    return wording.Table(("check", "what it found", "largest change"), rows)


def history(record: Record) -> Markup:
    """What changed since the calibration before, and all that are on record."""
    title = "Earlier calibrations"
    now, *before = record.calibrations
    if not before:
        return blocks.section(title, "This is the first calibration of this machine.")
    found = facts.changes(before[0].body, now.body)
    rows = [(c.what, c.before, c.now) for c in found]
    new = facts.figures(now.body)
    rows += [(what, old, new[what]) for what, old in facts.figures(before[0].body).items()]
    text = f"Since calibration {before[0].id} of {figures.moment(before[0].at)}, "
    text += (
        f"this has changed: {', '.join(c.what for c in found)}."
        if found
        else "machine, compiler, bundle and agent are the same; the figures compare as follows."
    )
    headers = ("", f"calibration {before[0].id}", f"calibration {now.id}")
    return blocks.section(
        title,
        text,
        blocks.beside(
            blocks.table(wording.Table(headers, tuple(rows))),
            blocks.drawing(
                _course(record.calibrations),
                blocks.LEGEND,
                "Typical error of speed-ups; lower is better.",
            ),
        ),
        blocks.folded("The last calibrations as a table", blocks.table(_calibrations(record))),
    )


def _course(calibrations: Sequence[Entry]) -> Markup:
    series = []
    for kind, way in (("calibrated", "calibrated"), ("alone", "bundle_alone")):
        known = [
            (c, figures.factor(number(part(c.body, "accuracy", way), "log_error")))
            for c in calibrations
        ]
        marks = [
            (float(c.id), f, f"calibration {c.id}, {figures.moment(c.at)}: {figures.plain(f)}")
            for c, f in known
            if f is not None
        ]
        series.append(charts.Series(kind, tuple(sorted(marks))))
    drawn = [s for s in series if s.points]
    return charts.course(drawn, figures.plain) if drawn else Markup("")


def _calibrations(record: Record) -> wording.Table:
    rows = tuple(
        (
            str(c.id),
            figures.moment(c.at),
            f"{words(part(c.body, 'bundle'), 'name')} {words(part(c.body, 'bundle'), 'version')}",
            *(facts.figures(c.body)[name] for name in _COLUMNS),
        )
        for c in record.calibrations[:SHOWN_CALIBRATIONS]
    )
    return wording.Table(("", "made", "bundle", *_COLUMNS.values()), rows)


def since(record: Record) -> list[Entry]:
    """Checks of the calibration in force."""
    made = record.calibrations[0].at if record.calibrations else 0.0
    return [c for c in record.checks if c.at >= made]
