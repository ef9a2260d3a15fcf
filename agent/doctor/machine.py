"""What measures and what is measured: the compiler, the CPU, and what disturbs it."""

from __future__ import annotations

from collections.abc import Iterator

from agent.doctor.findings import Finding, ok, warning
from agent.doctor.scene import Scene
from agent.state.lock import holder
from agent.terminal.numbers import Count

LOOK_S = 0.4  # at the CPUs, to see how busy they are
_ADVICE = {
    "battery": "Plug it in to have it measured.",
    "heat": "Let it cool; look at fans and filters. Hot CPUs slow down.",
    "steal": "Timings are noisy while the host is busy; ask its keeper.",
    "busy": "Measure when it is quieter: `agent calibrate --when-quiet`.",
}
_STEADY = frozenset(("performance", "schedutil", "ondemand", "userspace"))


def toolchain(scene: Scene) -> Iterator[Finding]:
    """What the fixed set is timed with (CompilerError where there is nothing)."""
    from agent.measure.machine import read_machine
    from agent.measure.prebuilt import PrebuiltSet
    from agent.measure.resolve import toolchain_for_set

    found = toolchain_for_set(scene.config.compiler, read_machine())
    if isinstance(found, PrebuiltSet):
        yield ok("compiler", f"{found.described}: `agent calibrate` needs no compiler")
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
             f"{found.threads} of {Count(found.cpus_online):CPU}, {of}")  # fmt: skip
    if found.unknown:
        names = ", ".join(name.replace("_", " ") for name in found.unknown)
        yield ok("CPU", f"cannot be read here, and taken to be as before: {names}")
    if found.governor is not None and found.governor not in _STEADY:
        words = f"the frequency governor is {found.governor}: timings depend on what ran before"
        advice = "Set it to performance while measuring (`cpupower frequency-set -g performance`)."
        yield warning("CPU", words, advice)
    if found.quota is not None and found.quota < len(found.cpus):
        words = f"this process may use {found.quota:.0%} of one CPU's time: timings stop and go"
        yield warning("CPU", words, "Lift CPUQuota, or the container's limit, for measuring.")


def quiet(scene: Scene) -> Iterator[Finding]:
    """Whether the machine is quiet at this moment, by the limits of ``--when-quiet``.

    An agent at work is no disturbance.
    """
    from agent.measure.quiet import conditions_now, disturbance

    at_work = holder(scene.directory)
    found = conditions_now(LOOK_S)
    at_work = at_work or holder(scene.directory)
    words = "how busy the CPUs are cannot be read here"
    if found.busy is not None:
        words = f"other programs use {found.busy:.0%} of the CPUs, the host takes {found.steal:.0%}"
    if found.heat is not None:
        words += f", {found.heat.celsius:.0f} degrees Celsius ({found.heat.sensor})"
    why = disturbance(found, scene.config)
    if why and why.code == "busy" and at_work:
        yield ok("noise", f"{words}; an agent is at work: {at_work}")
    elif why:
        limit = f" (limit {scene.config.max_busy:.0%})" if why.code == "busy" else f": {why.words}"
        yield warning("noise", f"{words}{limit}", _ADVICE[why.code])
    else:
        yield ok("noise", words)
