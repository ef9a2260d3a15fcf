"""What is said of calibrations: how exact they are, what disturbed them, whether they hold.

Pure functions from what the commands found to blocks; nothing prints here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from agent.calibration.verdict import calibration_verdict
from agent.clock import age, duration, stamp
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.terminal.blocks import Block, Table
from agent.terminal.numbers import (
    DASH,
    Count,
    decimal,
    difference,
    factor,
    limits,
    percent,
    signed_difference,
)

if TYPE_CHECKING:
    from agent.calibration.calibration import (
        AccuracyByWay,
        Calibration,
        CalibrationVerdict,
        CalibrationWarning,
        FailedTiming,
        HeadChoice,
        StoredCalibration,
    )
    from agent.model.records import CandidateVerdict, Kind
    from agent.upkeep.checked import Check, SentinelChange
    from agent.upkeep.choice import ChosenCalibration
    from agent.upkeep.records import History, KernelEntry, Status, Unfinished

Command = Literal["calibrate", "measure"]  # that a warning is of
AS_WRITTEN = "the program as written: "  # how details begin where the base failed
NONE_YET = "No calibration yet. Run `agent calibrate` (about a minute)."
MOST_ERROR: Final = 45.0  # log units: e to that is a number still
_TARGETS: Final[tuple[tuple[Kind, str], ...]] = (("speedup", "speed-ups"), ("seconds", "seconds"))
_HEADS = {
    "bundle": "the bundle's own model, unchanged",
    "ridge": "the bundle's model, adjusted to this machine",
    "boosting": "the bundle's model, adjusted to this machine and corrected by small trees",
}
_WARNINGS = {
    "steal": "The host took up to {worst:.1%} of the CPU time away while timing {kernels:program}. "
    "{Again} again when the host is quieter if the noise floor is high.",
    "foreign-load": "Other programs used up to {worst:.1f} CPUs while timing "
    "{kernels:program}. Close them, or {again} again when the machine is idle.",
    "switches": "Timing {kernels:program} was interrupted by other work (up to {worst:.0f} "
    "times a second). {Again} again when the machine is idle.",
    "disturbed-rounds": "For {kernels:program}, rounds were disturbed and had to be used all "
    "the same. {Again} again when the machine is idle.",
    "noise": "For {kernels:program}, two timings of the same thing differed by up to a factor "
    "of {factor}. {Again} again when the machine is idle.",
    "few-rounds": "For {kernels:program} there was time for few rounds only. {more_time}.",
    "not-finite": "{kernels:program} gave NaN or infinity (up to {worst:.0f} times in one "
    "program's results): a wrong result could go unnoticed there.",
    "rough": "Rounding alone changes some results (by up to {worst:.0%}): a wrong result could go "
    "unnoticed there.",
    "over-budget": "Timing took {worst:.0f} s, more than the budget: the least number of rounds "
    "is always run. Give smaller sizes or fewer schedules.",
    "garbage": "{kernels:program} printed while running; what was printed was ignored.",
    "shared-cores": "This machine's cores were shared with others in up to {worst:.0%} of the time "
    "while timing {kernels:program}. Times are those of an undisturbed core, if any was seen.",
    "drift": "{kernels:program} took another time at the end of the calibration than before (by up "
    "to {worst:.0%}): heat, power saving or other work. {Again} again when it is cool and idle.",
    "drift-arithmetic": "The clock speed of this machine changed by {worst:.0%} while measuring "
    "(heat, power saving). {Again} again when it is cool and idle.",
    "drift-stream": "The memory speed of this machine changed by {worst:.0%} while measuring: "
    "something else was using memory. {Again} again when the machine is idle.",
    "unpinned": "{kernels:program} could not be bound to CPUs, so timings are noisier. "
    "A container may forbid it.",
    "waited": "Timing took {worst:.0f} s longer than on a machine that nobody else uses: rounds "
    "are added until cores have been left alone for long enough.",
    "out-of-time": "Time was up: no time was left for {variants:planned timing}. "
    "Give a larger --budget, e.g. 60s.",
    "resumed": "Went on from an interrupted calibration, which had made {variants:timing}.",
    "bundle-passed-over": "An earlier bundle is used in place of the newest one: {why}.",
    "kernel-skipped": "The kernel {kernel} was left out: {why}.",
}
_MORE_TIME = {
    "calibrate": "Give a larger --budget",
    "measure": "Set a larger budget (AGENT_BUDGET=2m)",
}
_CHECKS = {
    "holds": "Calibration {calibration} still holds.",
    "changed": "Calibration {calibration} no longer holds: run `agent calibrate`.",
    "unclear": "It cannot be told now whether calibration {calibration} still holds.",
}
_DISTURBED = " Other work disturbed the timing: try again when the machine is quiet."
_NOTHING_TIMED = " None of its programs could be timed."


def calibration_blocks(stored: StoredCalibration) -> list[Block]:
    """The summary that ``agent calibrate`` ends with."""
    made = stored.body
    timings = made.timings
    done = "Refitted" if made.refit else "Done"
    first = f"{done} in {duration(made.elapsed_s or 0.0)}. "
    first += f"{timings.usable} of {timings.planned} timings gave a result."
    verdict = calibration_verdict(made)
    told = [verdict_line(verdict), first]
    if not verdict.believed:
        kept = f"Not put in force, only kept. {verdict_line(verdict)}"
        told = [kept, _not_put_in_force(stored), first]
    failed = dict.fromkeys(map(_not_usable, timings.failed))  # each line once
    notes = warning_lines(made.warnings)
    return [*told, *_how_exact(made), *failed, *notes]


def verdict_line(verdict: CalibrationVerdict) -> str:
    """Whether a calibration can be believed, and why."""
    return f"Verdict: {verdict.words}."


def _not_put_in_force(stored: StoredCalibration) -> str:
    """What is used in place of a calibration that is not to be used."""
    stays = stored.body.verdict.stays if stored.body.verdict else None
    used = f"Calibration {stays} stays in force" if stays else "The bundle predicts alone"
    return (
        f"{used}; calibration {stored.id} is kept. Calibrate again when the machine is quiet "
        "(`agent calibrate --when-quiet`) or with a larger --budget; to use it all the same: "
        f"`agent calibration use {stored.id}`."
    )


def _how_exact(made: Calibration) -> list[Block]:
    table = accuracy_table(made.accuracy, made.noise)
    models = (f"Model: {line}" for line in head_lines(made.head))
    return [_error_line(made.accuracy, made.noise), table, *models]


def _not_usable(failure: FailedTiming) -> str:
    """A kernel that fails as written is no fault of its schedules."""
    what = failure.kernel
    if not failure.detail.startswith(AS_WRITTEN):
        what += f" under `{failure.schedule}`"
    return f"Not usable: {what}: {failure.outcome} {failure.detail}".rstrip()


def warning_lines(items: Sequence[CalibrationWarning], command: Command = "calibrate") -> list[str]:
    """One line a cause: a busy machine also shows in what it does to the rounds."""
    codes = {item.code for item in items}
    hidden = {"switches", "disturbed-rounds", "noise"} if "foreign-load" in codes else set()
    return [f"Note: {warning_text(w, command)}" for w in items if w.code not in hidden]


def warning_text(item: CalibrationWarning, command: Command = "calibrate") -> str:
    """A warning of ``command`` in words, with what to do."""
    return _WARNINGS.get(item.code, "{code}: {worst}").format(
        code=item.code,
        worst=item.worst or 0.0,
        kernels=Count(item.kernels or 0),
        variants=Count(item.variants or 0),
        kernel=item.kernel or "",
        why=item.why or "",
        factor=factor(item.worst or 0.0),
        again=command,
        Again=command.capitalize(),
        more_time=_MORE_TIME[command],
    )


def _error_line(accuracy: AccuracyByWay, noise: float | None) -> str:
    ours, bundle = accuracy.calibrated.log_error, accuracy.bundle_alone.log_error
    line = "Typical error on programs it had not seen: a predicted 3x is really "
    line += f"{_really(ours)} (bundle alone: {_really(bundle)})."
    if noise is not None:
        line += f" Measurement noise: the same thing timed again differs by {difference(noise)}."
    if ours is not None and bundle is not None and ours > bundle:
        line += " These timings did not make speed-ups more exact."
    return line


def _really(log_error: float | None) -> str:
    """Between what a predicted speed-up of 3 typically lies."""
    if log_error is None:
        return DASH
    off = math.exp(min(log_error, MOST_ERROR))
    return f"between {decimal(3 / off)}x and {decimal(3 * off)}x"


def accuracy_table(accuracy: AccuracyByWay, noise: float | None) -> Table:
    """Calibrated beside bundle alone and the noise (log units), each figure explained."""
    ours, bundle = accuracy.calibrated, accuracy.bundle_alone
    twice = difference(noise)
    lines = (
        ("speed-up error", "log_error", factor, twice, "typical factor, 1 is exact"),
        ("speed-up MAPE", "mape", percent, DASH, "mean; slow-downs weigh most"),
        ("median error", "median_ape", percent, twice, "half are off by less"),
        ("rank order", "spearman", decimal, DASH, "1 = perfect order"),
        ("top pick", "top_share", percent, DASH, "what its first choice reaches of the best speed"),
        ("seconds error", "seconds_log_error", factor, DASH, "typical factor of times"),
    )
    rows = tuple(
        (label, show(getattr(ours, key)), show(getattr(bundle, key)), of_noise, meaning)
        for label, key, show, of_noise, meaning in lines
    )
    return Table(("", "calibrated", "bundle", "noise", "in plain words"), rows)


def head_lines(head: HeadChoice) -> list[str]:
    """Which model was chosen for speed-ups and for seconds, and why; nothing where it is untold."""
    chosen = [(target, name, head.kinds.get(target)) for target, name in _TARGETS]
    return [
        f"{name}: {_HEADS.get(kind, kind)}{_reason(head.verdicts, target, kind)}."
        for target, name, kind in chosen
        if kind
    ]


def _reason(verdicts: Sequence[CandidateVerdict], target: Kind, kind: str) -> str:
    tried = [v for v in verdicts if v.target == target]
    if kind != "bundle":
        chosen = next((v for v in tried if v.candidate == kind), None)
        if chosen is None or chosen.log_error is None:
            return ""
        return (
            f" (on kernels left out: off by {factor(chosen.log_error)}, "
            f"against {factor(chosen.bundle_log_error)})"
        )
    if all(v.status == "too-few-labels" for v in tried):
        return " (too few timings to judge anything else)"
    return " (adjusting it to these timings was not clearly better)"


def status_blocks(told: Status) -> list[Block]:
    """The calibration in force."""
    blocks: list[Block] = [] if told.kept else [NONE_YET]
    if found := told.calibration:
        made = found.body
        blocks = [
            verdict_line(calibration_verdict(made)),
            f"Calibration {found.id} is in force, {age(found.created_at)}. "
            f"Bundle {made.bundle.name} {made.bundle.version}; "
            f"{made.timings.usable} of {made.timings.planned} timings gave a result"
            + (f", taken on {made.measured_at[:10]}." if made.measured_at else "."),
            *_how_exact(made),
        ]
    if told.kept:
        blocks.append(kept_line(told.kept, alone=told.calibration is None))
    if told.unfinished:
        blocks.append(interrupted(told.unfinished))
    blocks += [f"Note: {note.message}" for note in told.notes]
    return [*blocks, f"State: {told.state_dir}"]


def kept_line(kept: StoredCalibration, *, alone: bool) -> str:
    """A newer calibration that did not come into force; ``alone``: neither is another."""
    first = "No calibration is in force: the bundle predicts alone. " if alone else ""
    verdict = calibration_verdict(kept.body).words
    made = f"Calibration {kept.id}, {age(kept.created_at)}, is kept and not in force"
    return f"{first}{made} ({verdict})."


def interrupted(run: Unfinished) -> str:
    """A calibration that did not come to its end."""
    return (
        f"A calibration was interrupted after {run.timed} of {run.planned} timings; "
        "`agent calibrate` goes on from there."
    )


def history_blocks(told: History) -> list[Block]:
    """All calibrations that are kept, newest first."""
    if not told.calibrations:
        return [NONE_YET]
    rows = tuple(_history_row(c, in_force=c.id == told.in_force) for c in told.calibrations)
    headers = ("", "id", "made", "by", "verdict", "bundle", "timings", "error", "alone")
    return [
        Table(headers, rows),
        ">: in force. error: typical factor between predicted and measured speed-up; alone: the "
        "bundle's. `agent calibration use ID` puts another one in force.",
    ]


def used_blocks(chosen: ChosenCalibration) -> list[Block]:
    """After ``agent calibration use``."""
    before = "none was before" if chosen.before is None else f"before: calibration {chosen.before}"
    return [
        f"Calibration {chosen.stored.id} is in force now ({before}).",
        verdict_line(calibration_verdict(chosen.stored.body)),
    ]


def _history_row(stored: StoredCalibration, *, in_force: bool) -> tuple[str, ...]:
    made = stored.body
    return (
        ">" if in_force else "",
        str(stored.id),
        stamp(stored.created_at),
        "refitted" if made.refit else "measured",
        calibration_verdict(made).name,
        f"{made.bundle.name} {made.bundle.version}",
        f"{made.timings.usable}/{made.timings.planned}",
        factor(made.accuracy.calibrated.log_error),
        factor(made.accuracy.bundle_alone.log_error),
    )


def fixed_set_blocks(entries: Sequence[KernelEntry]) -> list[Block]:
    """The fixed set."""
    rows = tuple(
        (e.kernel.name, str(len(e.schedules)), e.kernel.stands_for, e.kernel.purpose)
        for e in entries
    )
    count = sum(len(e.schedules) for e in entries)
    return [
        Table(("kernel", "versions", "stands for", "what its timings tell"), rows),
        f"{len(rows)} kernels, {count} versions timed in a full calibration.",
    ]


def check_blocks(found: Check) -> list[Block]:
    """Whether the calibration holds, why not, and what the sentinels took then and now."""
    rows = tuple(
        (
            s.kernel,
            "time as written" if s.schedule == ORIGINAL else f"speed-up: {s.schedule}",
            change_words(s, signed_difference),
            limits(s.limit),
        )
        for s in found.sentinels
    )
    table = [Table(("kernel", "of", "change", "limit"), rows)] if rows else []
    reasons = [f"Changed: {r.message}." for r in found.reasons]
    words = _CHECKS[found.verdict].format(calibration=found.calibration)
    if found.verdict == "unclear":
        words += _DISTURBED if found.disturbed else _NOTHING_TIMED
    return [words, *reasons, *table]


def change_words(change: SentinelChange, show: Callable[[float], str]) -> str:
    """What was measured: the nearest of looks that agree, or how far they lie apart."""
    if change.agreed:
        return show(change.log_ratio)
    return f"{show(min(change.looks))} to {show(max(change.looks))}"
