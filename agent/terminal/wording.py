"""What the agent says to people: answers as paragraphs and tables, in plain words.

Pure functions from answers (the same data that ``--json`` prints) to blocks; nothing prints here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.clock import duration

DASH = "-"
AS_WRITTEN = "the program as written: "  # how details begin where the base failed


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
    "program(s). {Again} again when the host is quieter if the noise floor is high.",
    "foreign-load": "Other programs used up to {worst:.1f} CPU(s) while timing {kernels} "
    "program(s). Close them, or {again} again when the machine is idle.",
    "switches": "Timing {kernels} program(s) was interrupted by other work (up to {worst:.0f} "
    "times a second). {Again} again when the machine is idle.",
    "disturbed-rounds": "For {kernels} program(s), rounds were disturbed and had to be used all "
    "the same. {Again} again when the machine is idle.",
    "noise": "For {kernels} program(s), two timings of the same thing differed by up to a factor "
    "of {factor}. {Again} again when the machine is idle.",
    "few-rounds": "For {kernels} program(s) there was time for few rounds only. {more_time}.",
    "not-finite": "{kernels} program(s) gave NaN or infinity (up to {worst:.0f} times in one "
    "program's results): a wrong result could go unnoticed there.",
    "over-budget": "Timing took {worst:.0f} s, more than the budget: the least number of rounds "
    "is always run. Give smaller sizes or fewer schedules.",
    "garbage": "{kernels} program(s) printed while they ran; what they printed was ignored.",
    "drift-arithmetic": "The clock speed of this machine changed by {worst:.0%} while measuring "
    "(heat, power saving). {Again} again when it is cool and idle.",
    "drift-stream": "The memory speed of this machine changed by {worst:.0%} while measuring: "
    "something else was using memory. {Again} again when the machine is idle.",
    "unpinned": "{kernels} program(s) could not be bound to their CPUs, so timings are noisier. "
    "A container may forbid it.",
    "out-of-time": "Time was up: {variants} planned timing(s) were left out. "
    "Give a larger --budget, e.g. 60s.",
    "resumed": "Went on from an interrupted calibration: {variants} timing(s) were already there.",
    "bundle-passed-over": "An earlier bundle is used in place of the newest one: {why}.",
    "kernel-skipped": "The kernel {kernel} was left out: {why}.",
}
_MORE_TIME = {
    "calibrate": "Give a larger --budget",
    "measure": "Set a larger budget (AGENT_BUDGET=2m)",
}
_STEPS = {
    "compiled": "compiled {done} of {total} programs",
    "checked": "checked the results of {done} of {total} programs",
    "round": "round {done} of {total}",
    "restarted": "a program failed: going on without it",
    "arbitrating": "a result is wrong: comparing with the program compiled without optimisation",
}


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


def difference(log_ratio: float | None) -> str:
    """A small log ratio as a share: 0.005 -> 0.5%."""
    if log_ratio is None:
        return DASH
    share = math.expm1(min(log_ratio, 45.0))
    return "less than 0.1%" if share < 0.001 else f"{share:.1%}"


def warning(item: Mapping[str, Any], command: str = "calibrate") -> str:
    """A warning of ``command`` in words, with what to do."""
    text = _WARNINGS.get(str(item.get("code")), "{code}: {worst}")
    values = {"worst": 0.0, "kernels": 0, "variants": 0, "kernel": "", "why": "", **item}
    return text.format(
        **values,
        factor=factor(float(values["worst"] or 0.0)),
        again=command,
        Again=command.capitalize(),
        more_time=_MORE_TIME[command],
    )


def step(kind: str, done: int, total: int) -> str:
    """A step of measuring one program, while it goes on."""
    return _STEPS.get(kind, "{done} of {total}").format(done=done, total=total)


def calibration(answer: Answer) -> list[Block]:
    """The summary that ``agent calibrate`` ends with."""
    timings, accuracy, floor = answer["timings"], answer["accuracy"], answer["noise_floor"]
    done = "Refitted" if answer["refit"] else "Done"
    first = f"{done} in {duration(answer['elapsed_s'])}. "
    first += f"{timings['usable']} of {timings['planned']} timings usable."
    blocks: list[Block] = [first, _error_line(accuracy, floor), accuracy_table(accuracy, floor)]
    blocks += [f"Model: {line}" for line in head_lines(answer["head"])]
    blocks += dict.fromkeys(map(_not_usable, timings["failed"]))  # each line once
    return blocks + warnings(answer["warnings"])


def _not_usable(failure: Answer) -> str:
    """A kernel that fails as written is no fault of its schedules."""
    outcome, detail = failure["outcome"], str(failure["detail"])
    what = str(failure["kernel"])
    if not detail.startswith(AS_WRITTEN):
        what += f" under `{failure['schedule']}`"
    return f"Not usable: {what}: {outcome} {detail}".rstrip()


def warnings(items: Sequence[Answer], command: str = "calibrate") -> list[Block]:
    """One line a cause: a busy machine also shows in what it does to the rounds."""
    codes = {item["code"] for item in items}
    hidden = {"switches", "disturbed-rounds", "noise"} if "foreign-load" in codes else set()
    return [f"Note: {warning(item, command)}" for item in items if item["code"] not in hidden]


def _error_line(accuracy: Answer, floor: Answer | None) -> str:
    ours, bundle = accuracy["calibrated"], accuracy["bundle_alone"]
    line = (
        "On kernels it had not seen, predicted speed-ups are off by a factor of "
        f"{factor(ours['log_error'])} (bundle alone: {factor(bundle['log_error'])}"
    )
    if floor:
        line += f"; two timings of the same thing differ by {difference(floor['label_median'])}"
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
    noise = difference(floor["label_median"] if floor else None)
    lines = (
        ("speed-up error", "log_error", factor, noise, "typical factor, 1 is exact"),
        ("speed-up MAPE", "mape", _percent, DASH, "mean; slow-downs weigh most"),
        ("median error", "median_ape", _percent, noise, "half are off by less"),
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
            f"{found['timings']['usable']} of {found['timings']['planned']} timings usable"
            + (f", taken on {found['measured_at'][:10]}." if found["measured_at"] else ".")
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
            _interval(r),
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
            _interval(m),
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
        twice = difference(floor["label_median"])
        blocks.append(f"The same program timed twice differs by {twice}.")
    return blocks + warnings(answer["warnings"], "measure")


def _notes(answer: Answer) -> list[Block]:
    return [f"Note: {note['message']}." for note in answer["notes"]]


def _interval(row: Answer) -> str:
    return DASH if row["low"] is None else f"{_number(row['low'])} to {_number(row['high'])}"


def _number(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.2f}" if 0.01 <= abs(value) < 100 or value == 0 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{share:.0%}" if share < 100 else f"{share:.2g}x"


_VERDICTS = {
    "holds": "Calibration {calibration} still holds.",
    "changed": "Calibration {calibration} no longer holds: run `agent calibrate`.",
    "unclear": "It cannot be told now whether calibration {calibration} still holds: other work "
    "disturbed the timing. Try again when the machine is quiet.",
}


def check(answer: Answer) -> list[Block]:
    """Whether the calibration holds, why not, and what the sentinels took then and now."""
    from agent.loopnest.schedules.schedule import ORIGINAL

    rows = tuple(
        (
            s["kernel"],
            "time as written" if s["schedule"] == ORIGINAL else f"speed-up: {s['schedule']}",
            signed(s["log_ratio"]),
            f"+-{difference(s['limit'])}",
        )
        for s in answer["sentinels"]
    )
    table = [Table(("kernel", "of", "change", "limit"), rows)] if rows else []
    reasons = [f"Changed: {r['message']}." for r in answer["reasons"]]
    return [_VERDICTS[answer["verdict"]].format(**answer), *reasons, *table]


def signed(log_ratio: float) -> str:
    """A small log ratio as a share with its sign: 0.05 -> +5.1%."""
    return f"{math.expm1(min(log_ratio, 45.0)):+.1%}"


def settings(answer: Answer) -> list[Block]:
    """Every setting, where it comes from, and its default where it is another."""
    rows = tuple(
        (s["name"], s["value"] or DASH, _origin(s["origin"]), _default_of(s))
        for s in answer["settings"]
    )
    table = Table(("setting", "value", "set by", "default"), rows)
    return [table, *_files(answer["files"]), *_mistakes(answer["problems"])]


def _origin(origin: Answer) -> str:
    line = "" if origin["line"] is None else f":{origin['line']}"
    return f"{origin['name']}{line}" if origin["name"] else "default"


def _default_of(setting: Answer) -> str:
    return "" if setting["value"] == setting["default"] else setting["default"] or DASH


def settings_checked(answer: Answer) -> list[Block]:
    """The mistakes in the configuration, or that there are none."""
    found = _mistakes(answer["problems"]) or ["No mistakes."]
    notes = [f"Note: {words}" for words in answer["notes"]]
    return [*_files(answer["files"]), *found, *notes]


def _files(files: Sequence[str]) -> list[Block]:
    return ["Files: " + ", ".join(files) if files else "No configuration file."]


def _mistakes(problems: Sequence[Answer]) -> list[Block]:
    lines = ((f"problem: {p['message']}", f"hint: {p['hint']}" * bool(p["hint"])) for p in problems)
    return [line for pair in lines for line in pair if line]


def findings(answer: Answer) -> list[Block]:
    """One line a check, and what to do where something is to be done."""
    rows = tuple(
        (c["level"], c["check"], "\n".join(filter(None, (c["message"], c["advice"]))))
        for c in answer["checks"]
    )
    counts = ((answer["problems"], "problem"), (answer["warnings"], "warning"))
    said = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n]
    return [Table(("", "check", "what was found"), rows), (", ".join(said) or "All is well") + "."]
