"""What feeds a machine, and how hot its CPUs are, from /sys; what is not there is not known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUPPLIES = Path("/sys/class/power_supply")
NO_SENSOR = 127.0  # degrees: what sensors say that are not there, and no CPU survives
# Drivers (Linux, drivers/hwmon and drivers/thermal) of sensors in CPUs, the surest first. The last
# is a zone that firmware defines, on most boards about the CPU; it is asked where nothing else is.
CPU_SENSORS = (
    *("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "x86_pkg_temp"),
    *("soc_thermal", "soc-thermal", "scpi_sensors", "acpitz"),
)
FULL = ("Charging", "Full", "Not charging")


@dataclass(frozen=True, slots=True)
class Heat:
    """How hot the CPUs are: degrees Celsius, and of which sensor."""

    celsius: float
    sensor: str


def cpu_heat() -> Heat | None:
    """The hottest sensor of the CPUs; None where none is known. Disks, networks do not count."""
    import psutil

    try:
        groups = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    except (OSError, ValueError, RuntimeError):
        return None
    for driver in CPU_SENSORS:
        found = [s for s in groups.get(driver, ()) if s.current < NO_SENSOR]
        if found:
            hottest = max(found, key=lambda s: s.current)
            label = f" {hottest.label}" if hottest.label else ""
            return Heat(hottest.current, f"sensor {driver}{label}")
    return None


def runs_on_battery(supplies: Path = SUPPLIES) -> bool:
    """Whether this machine has a battery and nothing else feeds it.

    Batteries of mice and keyboards (scope ``Device``) are not the machine's: psutil takes them for
    it. Nor are slots without one. A USB-C port that brings nothing says nothing: the machine may be
    fed by a socket that tells the kernel nothing, and then its battery is not discharging.
    See Documentation/ABI/testing/sysfs-class-power of Linux.
    """
    names = ("type", "scope", "online", "status", "present")
    found = [{n: _line(s / n) for n in names} for s in _in(supplies)]
    ours = [s for s in found if s["scope"] != "Device"]
    states = [s["status"] for s in ours if s["type"] == "Battery" and s["present"] != "0"]
    feeds = [s for s in ours if s["type"] == "Mains" or s["type"].startswith("USB")]
    if any(s["online"] not in ("", "0") for s in feeds):
        return False
    if "Discharging" in states:
        return True
    unplugged = any(s["type"] == "Mains" and s["online"] == "0" for s in feeds)
    return unplugged and bool(states) and not any(state in FULL for state in states)


def _in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _line(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return file.read(100).strip()
    except OSError:
        return ""
