"""A calibration's machine, compiler, bundle and figures in words, and what changed between two."""

from __future__ import annotations

from dataclasses import dataclass

from agent.calibration.calibration import Calibration, MachineFacts
from agent.terminal.calibration_wording import warning_lines
from agent.terminal.numbers import DASH, difference, factor, size

PREBUILT = "prebuilt"


@dataclass(frozen=True)
class FactChange:
    """A fact that two calibrations disagree on."""

    what: str
    before: str
    now: str


def machine_facts(m: MachineFacts) -> dict[str, str]:
    """What is known of the machine, by name, in words."""
    return {
        "CPU": m.model or "its name is not told",
        "CPUs": _cpus(m),
        "Instruction set": m.level or DASH,
        "Vectors": f"{m.simd_bytes} bytes",
        "Caches": ", ".join(f"{k} {size(m.caches[k])}" for k in sorted(m.caches)) or "not told",
        "Memory": size(m.memory_bytes),
        "Operating system": f"kernel {m.kernel or 'not known'}",
        "Virtual machine": "yes: others on the same host can disturb timings"
        if m.virtual
        else "no sign of one",
        "CPU frequency": f"governed by {m.governor}"
        if m.governor
        else "not told by the operating system",
    }


def toolchain_facts(calibration: Calibration) -> dict[str, str]:
    """The compiler that the calibration speaks for, by name, in words."""
    t = calibration.toolchain
    named = {"Compiler": t.version or DASH}
    if t.kind == PREBUILT:
        named["Programs"] = (
            "the set that came with the agent, compiled at its build: there was no compiler here"
        )
    else:
        named["Compiler's file"] = t.compiler or DASH
    return {
        **named,
        "Flags": " ".join(t.flags) or "none",
        "OpenMP": "yes: loops run by all CPUs were timed" if t.openmp else "no: one CPU only",
    }


def origin_facts(calibration: Calibration) -> dict[str, str]:
    """Bundle and agent that made the calibration."""
    bundle = calibration.bundle
    named = f"{bundle.name} {bundle.version}".strip() or DASH
    return {
        "Bundle": f"{named} ({bundle.digest[:8] or DASH}…)",
        "Agent": calibration.agent or DASH,
    }


def all_facts(calibration: Calibration) -> dict[str, str]:
    """Machine, compiler, bundle and agent, by name, in words."""
    machine = machine_facts(calibration.machine)
    return machine | toolchain_facts(calibration) | origin_facts(calibration)


def fact_changes(before: Calibration, now: Calibration) -> list[FactChange]:
    """What a newer calibration disagrees on with an older one."""
    old, new = all_facts(before), all_facts(now)
    names = dict.fromkeys((*new, *old))
    pairs = [(n, old.get(n, DASH), new.get(n, DASH)) for n in names]
    return [FactChange(*pair) for pair in pairs if pair[1] != pair[2]]


def compared_figures(calibration: Calibration) -> dict[str, str]:
    """The figures that two calibrations are compared by, in words."""
    ours, alone = calibration.accuracy.calibrated, calibration.accuracy.bundle_alone
    timings = calibration.timings
    return {
        "Speed-ups are off by a factor of": factor(ours.log_error),
        "the same, bundle alone": factor(alone.log_error),
        "Times are off by a factor of": factor(ours.seconds_log_error),
        "Two timings of the same thing differ by": difference(calibration.noise),
        "Usable timings": f"{timings.usable} of {timings.planned}",
        "Warnings": str(len(warning_lines(calibration.warnings))),
    }


def _cpus(m: MachineFacts) -> str:
    count = len(m.cpus)
    text = f"{count} of {m.cpus_online} may be used" if m.cpus_online else f"{count} may be used"
    if m.quota is not None:
        text += f", limited to the time of {m.quota:.3g}"
    return f"{text}; parallel loops were timed with {m.threads} threads"
