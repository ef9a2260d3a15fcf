"""Is this machine quiet enough to be measured, and may it be: load, steal, heat, power.

Measuring must not disturb production, so it waits for a quiet machine, gives up after a limit, and
gives way when production comes back. Looking costs nothing: two readings of the kernel's counters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import GaveWayError, NotNowError
from agent.measure.sensors import Heat, cpu_heat, runs_on_battery
from agent.progress import Progress, Tell
from agent.settings.values import in_units

if TYPE_CHECKING:
    from agent.measure.evidence import Round
    from agent.measure.timing import Measurement
    from agent.settings.config import Config

LOOK_S = 1.0  # between the two readings of a look
LOOKS = 3  # quiet ones in a row are quiet
REST_S = 10.0  # after a look that was not
WATCHED_S = 2.0  # of CPU time: the kernel counts in ticks of 10 ms, so less tells too little
_SPENT = ("user", "nice", "system", "irq", "softirq", "steal", "idle", "iowait")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a look found.

    Attributes:
        busy: share of the CPUs' time (0 to 1) in which they worked for anybody; None: not told.
        steal: share that the hypervisor took away.
        heat: of the CPUs; None where no sensor tells.
        on_battery: whether the machine runs on its battery.
    """

    busy: float | None
    steal: float
    heat: Heat | None = None
    on_battery: bool = False


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Why a machine is not quiet: ``words`` without figures, so that they stay the same."""

    code: str
    words: str


Look = Callable[[], Conditions]
Between = Callable[["Measurement"], None]


def conditions_now(seconds: float = LOOK_S) -> Conditions:
    """The conditions at this moment; takes ``seconds``."""
    import psutil

    try:
        before = psutil.cpu_times()
        time.sleep(seconds)
        busy, steal = busy_shares(before, psutil.cpu_times())
    except (OSError, ValueError):  # no /proc/stat, as with ProcSubset=pid
        return Conditions(None, 0.0, cpu_heat(), runs_on_battery())
    return Conditions(busy, steal, cpu_heat(), runs_on_battery())


def busy_shares(before: object, after: object) -> tuple[float, float]:
    """Shares of all CPUs' time between two readings of ``psutil.cpu_times``: at work, stolen."""
    spent = {f: getattr(after, f, 0.0) - getattr(before, f, 0.0) for f in _SPENT}
    total = sum(spent.values()) or 1.0
    steal = spent["steal"] / total
    return max(0.0, 1 - (spent["idle"] + spent["iowait"]) / total - steal), max(0.0, steal)


def disturbance(found: Conditions, config: Config) -> Disturbance | None:
    """Why the machine should not be measured now; None where it may."""
    if found.on_battery and not config.on_battery:
        return Disturbance("battery", "it runs on its battery")
    if found.heat is not None and found.heat.celsius > config.max_temperature:
        limit = f"{config.max_temperature:g} degrees Celsius"
        return Disturbance("heat", f"its CPU is hotter than {limit} ({found.heat.sensor})")
    if found.steal > config.max_steal:
        return Disturbance("steal", "its host gives the CPUs to others")
    if found.busy is not None and found.busy > config.max_busy:
        words = f"other programs use more than {config.max_busy:.0%} of its CPUs"
        return Disturbance("busy", words)
    return None


def wait(
    config: Config,
    tell: Tell,
    end: float | None = None,
    *,
    look: Look = conditions_now,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the machine is quiet.

    Args:
        config: what counts as quiet, and how long to wait.
        tell: shown why it waits.
        end: until when to wait, by ``clock``; None: for ``quiet_wait`` from now on.
        look: finds the conditions, and takes a moment for it.
        clock: seconds.
        sleep: waits for some.

    Raises:
        NotNowError: it did not become quiet within ``quiet_wait``.
    """
    end = clock() + config.quiet_wait_s if end is None else end
    quiet = 0
    while quiet < LOOKS:
        why = disturbance(look(), config)
        quiet = 0 if why else quiet + 1
        if why is None:
            continue
        left = end - clock()
        if left <= 0:
            raise NotNowError(
                f"this machine was not quiet within {in_units(config.quiet_wait_s)}: {why.words}",
                "Nothing was changed; the timer tries again within the hour. What counts as quiet"
                " can be set: max_busy, max_steal, max_temperature, on_battery, quiet_wait.",
            )
        tell(Progress("waiting", 0, 1, f"for a quiet machine: {why.words}", left))
        sleep(min(REST_S, left))


def never(_: Measurement) -> None:
    """Goes on, whatever else runs."""


def gives_way(config: Config, cpus: int) -> Between:
    """What to ask after every kernel: has production come back meanwhile?

    The rounds of a measurement tell what others did while it ran (steal and foreign load), so
    nothing has to be waited for. They are added up until they are long enough to tell.

    Returns:
        A function that raises GaveWayError where it has.
    """
    watched: list[Round] = []

    def ask(found: Measurement) -> None:
        watched.extend(found.rounds)
        spent = sum(r.wall_s for r in watched) * cpus
        if spent < WATCHED_S:
            return
        foreign = sum(r.foreign_s for r in watched) / spent
        steal = sum(r.steal_s for r in watched) / spent
        watched.clear()
        if why := disturbance(Conditions(foreign, steal, cpu_heat(), runs_on_battery()), config):
            raise GaveWayError(
                f"gave way while measuring: {why.words}",
                "Timings made so far are kept; the next run goes on from there within a day.",
            )

    return ask
