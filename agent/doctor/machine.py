"""What measures and what is measured: the compiler, the CPU, and what disturbs it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from agent.doctor.scene import Scene
from agent.findings import Finding, ok, warning

LOOK_S = 0.4  # at the CPUs, to see how busy they are
MUCH_STEAL = 0.02  # share of the time that a host takes away
_STEADY = frozenset(("performance", "schedutil", "ondemand", "userspace"))


def toolchain(scene: Scene) -> Iterator[Finding]:
    """What the fixed set is timed with (CompilerError where there is nothing)."""
    from agent.measure.machine import read_machine
    from agent.measure.prebuilt import toolchain_for_set

    found = toolchain_for_set(scene.config.compiler, read_machine())
    if found.kind == "prebuilt":
        words = f"the prebuilt set, made with {found.version}: `agent calibrate` needs no compiler"
        yield ok("compiler", words)
        return
    yield ok("compiler", f"{found.compiler}: {found.version}")
    if not found.openmp:
        advice = "Install its OpenMP library (clang: libomp-dev) to have parallel loops timed."
        yield warning("compiler", "it has no OpenMP: parallel loops run on one CPU", advice)


def cpu(_: Scene) -> Iterator[Finding]:
    """The CPU, whether it is a guest's, and its frequency governor."""
    from agent.measure.machine import read_machine

    found = read_machine()
    of = "a virtual machine" if found.virtual else "no virtual machine seen"
    yield ok("CPU", f"{found.model or found.architecture}, {found.level}, "
             f"{found.threads} of {found.cpus_online} CPU(s), {of}")  # fmt: skip
    if found.governor is not None and found.governor not in _STEADY:
        words = f"the frequency governor is {found.governor}: timings depend on what ran before"
        advice = "Set it to performance while measuring (`cpupower frequency-set -g performance`)."
        yield warning("CPU", words, advice)
    if found.quota is not None and found.quota < len(found.cpus):
        words = f"this process may use {found.quota:g} CPU(s)' time: timings stop and go"
        yield warning("CPU", words, "Lift CPUQuota, or the container's limit, for measuring.")


def quiet(scene: Scene) -> Iterator[Finding]:
    """Whether the machine is quiet at this moment, by the limits of ``--when-quiet``."""
    import psutil

    before = psutil.cpu_times()
    time.sleep(LOOK_S)
    busy, steal = _shares(before, psutil.cpu_times())
    words = f"{busy:.0%} of the CPUs are in use now, {steal:.0%} taken by the host"
    if steal > MUCH_STEAL:
        yield warning("noise", words, "Timings are noisy while the host is busy; ask its keeper.")
    elif busy > scene.config.max_busy:
        yield warning("noise", words, "Measure when it is quieter: `agent calibrate --when-quiet`.")
    else:
        yield ok("noise", words)
    yield from _heat_and_power(scene)


def _shares(before: object, after: object) -> tuple[float, float]:
    """Shares of all CPUs' time between two looks: at work, taken away."""
    fields = ("user", "nice", "system", "irq", "softirq", "steal", "idle", "iowait")
    spent = {f: getattr(after, f, 0.0) - getattr(before, f, 0.0) for f in fields}
    total = sum(spent.values()) or 1.0
    steal = spent["steal"] / total
    return max(0.0, 1 - (spent["idle"] + spent["iowait"]) / total - steal), max(0.0, steal)


def _heat_and_power(scene: Scene) -> Iterator[Finding]:
    import psutil

    sensors: Mapping[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    hottest = max((s.current for group in sensors.values() for s in group), default=0.0)
    if hottest > scene.config.max_temperature:
        advice = "Let it cool; look at fans and filters. Hot CPUs slow down."
        yield warning("noise", f"a sensor says {hottest:.0f} degrees Celsius", advice)
    battery = getattr(psutil, "sensors_battery", lambda: None)()
    if battery is not None and battery.power_plugged is False and not scene.config.on_battery:
        yield warning("noise", "it runs on its battery", "Plug it in to have it measured.")
