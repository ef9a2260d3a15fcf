"""A calibration's machine, compiler, bundle and figures in words, and what changed between two."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.page.record import Body, number, part, records, texts, words
from agent.terminal import wording

PREBUILT = "prebuilt"


@dataclass(frozen=True)
class Change:
    """A fact that two calibrations disagree on."""

    what: str
    before: str
    now: str


def machine_facts(body: Body) -> dict[str, str]:
    """What is known of the machine, by name, in words."""
    m = part(body, "machine")
    caches = part(m, "caches")
    sizes = (f"{k} {size(number(caches, k))}" for k in sorted(caches))
    return {
        "CPU": words(m, "model") or "its name is not told",
        "CPUs": _cpus(m),
        "Instruction set": words(m, "level") or wording.DASH,
        "Vectors": f"{_count(m, 'simd_bytes')} bytes",
        "Caches": ", ".join(sizes) or "not told",
        "Memory": size(number(m, "memory_bytes")),
        "Operating system": f"kernel {words(m, 'kernel') or 'not known'}",
        "Virtual machine": "yes: others on the same host can disturb timings"
        if m.get("virtual")
        else "no sign of one",
        "CPU frequency": f"governed by {words(m, 'governor')}"
        if words(m, "governor")
        else "not told by the operating system",
    }


def toolchain_facts(body: Body) -> dict[str, str]:
    """The compiler that the calibration speaks for, by name, in words."""
    t = part(body, "toolchain")
    prebuilt = words(t, "kind") == PREBUILT
    named = {"Compiler": words(t, "version") or wording.DASH}
    if prebuilt:
        named["Programs"] = (
            "the set that came with the agent, compiled at its build: there was no compiler here"
        )
    else:
        named["Compiler's file"] = words(t, "compiler") or wording.DASH
    return {
        **named,
        "Flags": " ".join(texts(t, "flags")) or "none",
        "OpenMP": "yes: loops run by all CPUs were timed"
        if t.get("openmp")
        else "no: one CPU only",
    }


def origin_facts(body: Body) -> dict[str, str]:
    """Bundle and agent that made the calibration."""
    bundle = part(body, "bundle")
    named = f"{words(bundle, 'name')} {words(bundle, 'version')}".strip() or wording.DASH
    return {
        "Bundle": f"{named} ({words(bundle, 'digest')[:8] or wording.DASH}…)",
        "Agent": words(body, "agent") or wording.DASH,
    }


def changes(before: Body, now: Body) -> list[Change]:
    """What a newer calibration disagrees on with an older one."""
    old, new = (
        {**machine_facts(b), **toolchain_facts(b), **origin_facts(b)} for b in (before, now)
    )
    names = dict.fromkeys((*new, *old))
    pairs = [(n, old.get(n, wording.DASH), new.get(n, wording.DASH)) for n in names]
    return [Change(*pair) for pair in pairs if pair[1] != pair[2]]


def figures(body: Body) -> dict[str, str]:
    """The figures that two calibrations are compared by, in words."""
    ours, alone = (part(body, "accuracy", way) for way in ("calibrated", "bundle_alone"))
    timings, floor = part(body, "timings"), part(body, "noise_floor")
    return {
        "Speed-ups are off by a factor of": wording.factor(number(ours, "log_error")),
        "the same, bundle alone": wording.factor(number(alone, "log_error")),
        "Times are off by a factor of": wording.factor(number(ours, "seconds_log_error")),
        "Two timings of the same thing differ by": wording.difference(
            number(floor, "label_median")
        ),
        "Usable timings": f"{_count(timings, 'usable')} of {_count(timings, 'planned')}",
        "Warnings": str(len(warnings(body))),
    }


def warnings(body: Body) -> list[str]:
    """The calibration's warnings in words, each with what to do, in no other words than it used."""
    cleaned = [
        {
            "code": words(item, "code"),
            "worst": number(item, "worst") or 0.0,
            "kernels": int(number(item, "kernels") or 0),
            "variants": int(number(item, "variants") or 0),
            "kernel": words(item, "kernel"),
            "why": words(item, "why"),
        }
        for item in records(body, "warnings")
    ]
    return [str(block).removeprefix("Note: ") for block in wording.warnings(cleaned)]


def model_lines(body: Body) -> list[str]:
    """Which models were chosen, and why; nothing where an older agent did not say."""
    head = part(body, "head")
    kinds = {target: words(part(head, "kinds"), target) for target in ("speedup", "seconds")}
    verdicts = [
        {name: words(v, name) for name in ("target", "candidate", "status")}
        | {name: number(v, name) for name in ("log_error", "bundle_log_error")}
        for v in records(head, "verdicts")
    ]
    if not all(kinds.values()):
        return []
    return wording.head_lines({"kinds": kinds, "verdicts": verdicts})


def accuracy_table(body: Body) -> wording.Table:
    """The table that ``agent calibrate`` prints."""
    names = ("log_error", "mape", "median_ape", "spearman", "top_share", "seconds_log_error")
    accuracy = {
        way: {name: number(part(body, "accuracy", way), name) for name in names}
        for way in ("calibrated", "bundle_alone")
    }
    label = number(part(body, "noise_floor"), "label_median")
    return wording.accuracy_table(accuracy, None if label is None else {"label_median": label})


def size(count: float | None) -> str:
    """Bytes with a fitting unit."""
    if not count or count < 1:
        return "not told"
    power = min(int(math.log2(count) // 10), 4)
    return f"{count / 1024**power:.3g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def _cpus(m: Body) -> str:
    usable, cpus = m.get("cpus"), number(m, "cpus_online")
    count = len(usable) if isinstance(usable, list) else 0
    text = f"{count} of {cpus:.0f} may be used" if cpus else f"{count} may be used"
    quota = number(m, "quota")
    if quota is not None:
        text += f", limited to the time of {quota:.3g}"
    return f"{text}; parallel loops were timed with {_count(m, 'threads')} threads"


def _count(body: Body, key: str) -> str:
    found = number(body, key)
    return wording.DASH if found is None else f"{found:.0f}"
