"""What happened before: checks of the calibration, and the calibrations before this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.calibration.calibration import StoredCalibration
from agent.calibration.verdict import calibration_verdict
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.page import blocks, charts, facts, figures
from agent.page.markup import Markup
from agent.page.record import Record
from agent.terminal.blocks import Table
from agent.terminal.calibration_wording import change_words
from agent.terminal.numbers import limits
from agent.upkeep.checked import Check, SentinelChange, StoredCheck

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


def checks_section(record: Record) -> Markup:
    """Checks since this calibration, and before."""
    title = "Has the machine changed since?"
    if not record.checks:
        return blocks.section(
            title,
            "No check was made yet. `agent check` times a handful of programs "
            "again, in seconds, and says whether the calibration still holds.",
        )
    checks, newer = record.checks, record.newer_checks
    last = checks[0]
    text = f"Last check, {figures.moment(last.created_at)}: {_verdict(last)}. "
    text += f"Since this calibration: {len(newer)} of the {len(checks)} checks on record."
    legend = {
        "calibrated": "holds",
        "changed": "changed",
        "alone": "unclear",
        "limit": "limit of that change",
        "made": "calibration",
    }
    made = [c.created_at for c in record.calibrations]
    one_day = figures.day(checks[-1].created_at) == figures.day(last.created_at)
    when = figures.hour if one_day else figures.day
    return blocks.section(
        title,
        text,
        blocks.drawing(
            charts.timeline([_dot(c) for c in checks], made, when, figures.share), legend
        ),
        blocks.folded("What the last check timed", blocks.table_block(_sentinels(last.body))),
        blocks.folded(
            "The last checks as a table", blocks.table_block(_checks(checks[:SHOWN_CHECKS]))
        ),
    )


def _dot(check: StoredCheck) -> charts.Dot:
    found = check.body
    worst, limit = _worst(found)
    when = figures.moment(check.created_at)
    title = f"{when}: {_verdict(check)}; largest change {figures.off_by(worst)}"
    below = None if limit is None else figures.ratio(limit)
    return charts.Dot(check.created_at, figures.ratio(worst), found.verdict, title, below)


def _worst(found: Check) -> tuple[float, float | None]:
    """The change that is largest beside its limit, and that limit; log units."""
    limited = [(abs(s.log_ratio), s.limit) for s in found.sentinels if s.limit]
    if not limited:
        return found.worst, None
    return max(limited, key=lambda pair: pair[0] / pair[1])


def _verdict(check: StoredCheck) -> str:
    """What it found, and by which facts, where these were enough."""
    text = _VERDICTS.get(check.body.verdict, UNCLEAR)
    why = "; ".join(filter(None, (r.message for r in check.body.reasons)))
    return f"{text} ({why})" if why else text


def _sentinels(found: Check) -> Table:
    rows = tuple(
        (
            s.kernel,
            _quantity(s),
            change_words(s, figures.signed_change),
            limits(s.limit),
        )
        for s in found.sentinels
    )
    return Table(("kernel", "what was timed", "change", "limit"), rows)


def _quantity(sentinel: SentinelChange) -> str:
    as_written = sentinel.schedule == ORIGINAL
    return "time as written" if as_written else f"speed-up: {sentinel.schedule}"


def _checks(checks: Sequence[StoredCheck]) -> Table:
    rows = tuple(
        (figures.moment(c.created_at), _verdict(c), figures.off_by(_worst(c.body)[0]))
        for c in checks
    )
    return Table(("check", "what it found", "largest change"), rows)


def history_section(record: Record) -> Markup:
    """What changed since the calibration before, and all that are on record."""
    title = "Earlier calibrations"
    now = record.subject
    before = [c for c in record.calibrations if now and c.id < now.id]
    if now is None or not before:
        return blocks.section(title, "This is the first calibration of this machine.")
    found = facts.fact_changes(before[0].body, now.body)
    rows = [(c.what, c.before, c.now) for c in found]
    new = facts.compared_figures(now.body)
    rows += [(what, old, new[what]) for what, old in facts.compared_figures(before[0].body).items()]
    text = f"Since calibration {before[0].id} of {figures.moment(before[0].created_at)}, "
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
            blocks.table_block(Table(headers, tuple(rows))),
            blocks.drawing(
                _course(record.calibrations),
                blocks.LEGEND,
                "Typical error of speed-ups; lower is better.",
            ),
        ),
        blocks.folded(
            "The last calibrations as a table", blocks.table_block(_calibrations(record))
        ),
    )


def _course(calibrations: Sequence[StoredCalibration]) -> Markup:
    ways = [(c, c.body.accuracy) for c in calibrations]
    ours = [(c, accuracy.calibrated.log_error) for c, accuracy in ways]
    alone = [(c, accuracy.bundle_alone.log_error) for c, accuracy in ways]
    series = [_series("calibrated", ours), _series("alone", alone)]
    drawn = [s for s in series if s.points]
    return charts.course(drawn, figures.three_digits) if drawn else Markup("")


def _series(kind: str, errors: Sequence[tuple[StoredCalibration, float | None]]) -> charts.Series:
    known = [(c, f) for c, error in errors if (f := figures.drawn_factor(error)) is not None]
    marks = [(float(c.id), f, f"{_named(c)}: {figures.three_digits(f)}") for c, f in known]
    return charts.Series(kind, tuple(sorted(marks)))


def _named(c: StoredCalibration) -> str:
    return f"calibration {c.id}, {figures.moment(c.created_at)}"


def _calibrations(record: Record) -> Table:
    rows = tuple(
        (
            f"{c.id}{' (in force)' if c.id == record.in_force else ''}",
            figures.moment(c.created_at),
            calibration_verdict(c.body).name,
            f"{c.body.bundle.name} {c.body.bundle.version}",
            *(facts.compared_figures(c.body)[name] for name in _COLUMNS),
        )
        for c in record.calibrations[:SHOWN_CALIBRATIONS]
    )
    return Table(("", "made", "verdict", "bundle", *_COLUMNS.values()), rows)
