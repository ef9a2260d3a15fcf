"""What the agent says to people: answers as paragraphs and tables, in plain words.

Pure functions from answers (the same data that ``--json`` prints) to blocks; nothing prints here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CLOCK_SET = 1_577_836_800.0  # 2020: a clock before that was never set
DASH = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under headers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = str | Table
Answer = Mapping[str, Any]

_HEADS = {
    "bundle": "the bundle's own model, unchanged",
    "ridge": "the bundle's model, adjusted to this machine",
    "boosting": "the bundle's model, adjusted to this machine and corrected by small trees",
}
_WARNINGS = {
    "steal": "The host took up to {worst:.1%} of the CPU time away while timing {kernels} "
    "program(s). Calibrate again when the host is quieter if the noise floor is high.",
    "foreign-load": "Other programs used up to {worst:.1f} CPU(s) while timing {kernels} "
    "program(s). Close them, or calibrate again when the machine is idle.",
    "switches": "Timing {kernels} program(s) was interrupted by other work (up to {worst:.0f} "
    "times a second). Calibrate again when the machine is idle.",
    "disturbed-rounds": "For {kernels} program(s), rounds were disturbed and had to be used all "
    "the same. Calibrate again when the machine is idle.",
    "noise": "For {kernels} program(s), two timings of the same thing differed by up to a factor "
    "of {factor}. Calibrate again when the machine is idle.",
    "few-rounds": "For {kernels} program(s) there was time for few rounds only. "
    "Give a larger --budget.",
    "garbage": "{kernels} program(s) printed while they ran; what they printed was ignored.",
    "drift-arithmetic": "The clock speed of this machine changed by {worst:.0%} while measuring "
    "(heat, power saving). Calibrate again when it is cool and idle.",
    "drift-stream": "The memory speed of this machine changed by {worst:.0%} while measuring: "
    "something else was using memory. Calibrate again when the machine is idle.",
    "unpinned": "{kernels} program(s) could not be bound to their CPUs, so timings are noisier. "
    "A container may forbid it.",
    "out-of-time": "Time was up: {variants} planned timing(s) were left out. "
    "Give a larger --budget, e.g. 60s.",
    "resumed": "Went on from an interrupted calibration: {variants} timing(s) were already there.",
    "kernel-skipped": "The kernel {kernel} was left out: {why}.",
}


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 5 s``, ``2 h 10 min``, ``12 days``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    if seconds < 2 * 86400:
        return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"
    return f"{int(seconds) // 86400} days"


def small_time(seconds: float | None) -> str:
    """A time of execution with a fitting unit."""
    if seconds is None:
        return DASH
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def factor(log_error: float | None) -> str:
    """A log error as a factor: 0.27 -> 1.31."""
    return DASH if log_error is None else _number(math.exp(min(log_error, 45.0)))


def age(created_at: float, now: float | None = None) -> str:
    """How old something is, also when the clock was or is wrong."""
    now = time.time() if now is None else now
    if created_at < CLOCK_SET:
        return "of unknown age (the clock was not set when it was made)"
    if now < CLOCK_SET:
        return "of unknown age (this machine's clock is not set)"
    if created_at > now + 60:
        return "of unknown age (it lies in the future; check this machine's clock)"
    return f"{duration(max(0.0, now - created_at))} old"


def warning(item: Mapping[str, Any]) -> str:
    """A warning in words, with what to do."""
    text = _WARNINGS.get(str(item.get("code")), "{code}: {worst}")
    values = {"worst": 0.0, "kernels": 0, "variants": 0, "kernel": "", "why": "", **item}
    return text.format(**values, factor=factor(float(values["worst"] or 0.0)))


def calibration(answer: Answer) -> list[Block]:
    """The summary that ``agent calibrate`` ends with."""
    timings, accuracy, floor = answer["timings"], answer["accuracy"], answer["noise_floor"]
    done = "Refitted" if answer["refit"] else "Done"
    first = f"{done} in {duration(answer['elapsed_s'])}. "
    first += f"{timings['usable']} of {timings['planned']} timings usable."
    blocks: list[Block] = [first, _error_line(accuracy, floor), accuracy_table(accuracy, floor)]
    blocks += [f"Model: {line}" for line in head_lines(answer["head"])]
    for failure in timings["failed"]:
        blocks.append(
            f"Not usable: {failure['kernel']} under `{failure['schedule']}`: "
            f"{failure['outcome']} {failure['detail']}".rstrip()
        )
    return blocks + warnings(answer["warnings"])


def warnings(items: Sequence[Answer]) -> list[Block]:
    """One line a cause: a busy machine also shows in what it does to the rounds."""
    codes = {item["code"] for item in items}
    hidden = {"switches", "disturbed-rounds", "noise"} if "foreign-load" in codes else set()
    return [f"Note: {warning(item)}" for item in items if item["code"] not in hidden]


def _error_line(accuracy: Answer, floor: Answer | None) -> str:
    ours, bundle = accuracy["calibrated"], accuracy["bundle_alone"]
    line = (
        "On kernels it had not seen, predicted speed-ups are off by a factor of "
        f"{factor(ours['log_error'])} (bundle alone: {factor(bundle['log_error'])}"
    )
    if floor:
        line += f"; two timings of the same thing differ by {math.expm1(floor['label_median']):.1%}"
    line += ")."
    if None not in (ours["log_error"], bundle["log_error"]):
        line += (
            " These timings did not make speed-ups more exact."
            if ours["log_error"] > bundle["log_error"]
            else ""
        )
    return line


def accuracy_table(accuracy: Answer, floor: Answer | None) -> Table:
    """Calibrated beside bundle alone and the noise floor, each figure explained."""
    ours, bundle = accuracy["calibrated"], accuracy["bundle_alone"]
    noise = floor["label_median"] if floor else None
    noise_share = math.expm1(noise) if noise is not None else None
    lines = (
        ("speed-up error", "log_error", factor, factor(noise), "typical factor, 1 is exact"),
        ("speed-up MAPE", "mape", _percent, DASH, "mean; slow-downs weigh most"),
        ("median error", "median_ape", _percent, _percent(noise_share), "half are off by less"),
        ("rank order", "spearman", _number, DASH, "1: fastest first is all right"),
        ("top pick", "top_share", _percent, DASH, "speed of its pick / the best"),
        ("seconds error", "seconds_log_error", factor, DASH, "typical factor of times"),
    )
    rows = tuple(
        (label, show(ours[key]), show(bundle[key]), of_noise, meaning)
        for label, key, show, of_noise, meaning in lines
    )
    return Table(("", "calibrated", "bundle", "noise", "in plain words"), rows)


def head_lines(head: Answer) -> list[str]:
    """Which model was chosen for speed-ups and for seconds, and why."""
    lines = []
    for target, name in (("speedup", "speed-ups"), ("seconds", "seconds")):
        kind = head["kinds"][target]
        lines.append(f"{name}: {_HEADS.get(kind, kind)}{_reason(head['verdicts'], target, kind)}.")
    return lines


def _reason(verdicts: Sequence[Answer], target: str, kind: str) -> str:
    tried = [v for v in verdicts if v["target"] == target]
    if kind != "bundle":
        chosen = next((v for v in tried if v["candidate"] == kind), None)
        if chosen is None or chosen["log_error"] is None:
            return ""
        return (
            f" (on kernels left out: off by {factor(chosen['log_error'])}, "
            f"against {factor(chosen['bundle_log_error'])})"
        )
    if all(v["status"] == "too-few-labels" for v in tried):
        return " (too few timings to judge anything else)"
    return " (adjusting it to these timings was not clearly better)"


def status(answer: Answer) -> list[Block]:
    """The calibration in force."""
    blocks: list[Block] = []
    found = answer["calibration"]
    if found is None:
        blocks.append("No calibration yet. Run `agent calibrate` (about a minute).")
    else:
        blocks.append(
            f"Calibration {found['calibration_id']} is in force, {found['age']}. "
            f"Bundle {found['bundle']['name']} {found['bundle']['version']}; "
            f"{found['timings']['usable']} of {found['timings']['planned']} timings usable."
        )
        blocks += [
            _error_line(found["accuracy"], found["noise_floor"]),
            accuracy_table(found["accuracy"], found["noise_floor"]),
        ]
        blocks += [f"Model: {line}" for line in head_lines(found["head"])]
    if (run := answer["unfinished"]) is not None:
        blocks.append(
            f"A calibration was interrupted after {run['timed']} of {run['planned']} timings; "
            "`agent calibrate` goes on from there."
        )
    blocks += [f"Note: {note['message']}" for note in answer["notes"]]
    blocks.append(f"State: {answer['state_dir']}")
    return blocks


def history(answer: Answer) -> list[Block]:
    """All calibrations that are kept, newest first."""
    rows = tuple(
        (
            str(c["calibration_id"]),
            c["created_at"],
            f"{c['bundle']['name']} {c['bundle']['version']}",
            c["head"]["kind"],
            f"{c['timings']['usable']}/{c['timings']['planned']}",
            factor(c["accuracy"]["calibrated"]["log_error"]),
            factor(c["accuracy"]["bundle_alone"]["log_error"]),
        )
        for c in answer["calibrations"]
    )
    if not rows:
        return ["No calibration yet. Run `agent calibrate` (about a minute)."]
    headers = ("id", "made", "bundle", "model", "timings", "error", "bundle alone")
    return [Table(headers, rows), "error: typical factor between predicted and measured speed-up."]


def kernels(answer: Answer) -> list[Block]:
    """The fixed set."""
    rows = tuple(
        (k["name"], str(len(k["schedules"])), k["stands_for"], k["purpose"])
        for k in answer["kernels"]
    )
    count = sum(len(k["schedules"]) for k in answer["kernels"])
    return [
        Table(("kernel", "versions", "stands for", "what its timings tell"), rows),
        f"{len(rows)} kernels, {count} versions timed in a full calibration.",
    ]


def prediction(answer: Answer) -> list[Block]:
    """One schedule, then what the prediction rests on."""
    p = answer
    return [
        f"{p['schedule']}: {_number(p['speedup'])} times as fast as written "
        f"(80 % interval: {_number(p['low'])} to {_number(p['high'])}).",
        f"{small_time(p['seconds'])} an execution "
        f"(80 % interval: {small_time(p['seconds_low'])} to {small_time(p['seconds_high'])}).",
        *_notes(answer),
    ]


def ranking(answer: Answer) -> list[Block]:
    """Candidates, best first."""
    rows = tuple(
        (
            str(place),
            _number(r["speedup"]),
            f"{_number(r['low'])} to {_number(r['high'])}",
            small_time(r["seconds"]),
            r["schedule"],
        )
        for place, r in enumerate(answer["ranking"], 1)
    )
    return [
        Table(("", "speed-up", "80 % interval", "seconds", "schedule"), rows),
        f"{answer['candidates']} legal schedules ranked in {duration(answer['elapsed_s'])}. "
        "Check the first ones with `agent measure`.",
        *_notes(answer),
    ]


def measurements(answer: Answer) -> list[Block]:
    """What was measured, in the order asked."""
    rows = tuple(
        (
            _number(m["speedup"]),
            f"{_number(m['low'])} to {_number(m['high'])}",
            small_time(m["seconds"]),
            m["outcome"] if not m["detail"] else f"{m['outcome']}: {m['detail']}",
            m["schedule"],
        )
        for m in answer["measurements"]
    )
    blocks: list[Block] = [
        f"{answer['program']['name']} as written: {small_time(answer['base']['seconds'])}.",
        Table(("speed-up", "80 % interval", "seconds", "outcome", "schedule"), rows),
    ]
    if floor := answer["noise_floor"]:
        blocks.append(f"The same program timed twice differs by {factor(floor['label_median'])}.")
    return blocks + warnings(answer["warnings"])


def _notes(answer: Answer) -> list[Block]:
    return [f"Note: {note['message']}." for note in answer["notes"]]


def _number(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.2f}" if 0.01 <= abs(value) < 100 or value == 0 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{share:.0%}" if share < 100 else f"{share:.2g}x"
