"""What is known of a machine without timing anything; every fact may be missing.

Read from /proc, /sys and the cgroups of this process; a file that is absent or odd (containers,
``ProcSubset=pid``, other architectures) leaves its fact out and nothing fails. What could not be
read is told (``Machine.unknown``), so that nobody takes it for a fact that has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.system.refused import usable_cpus

V2 = frozenset("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3".split())
V3 = V2 | frozenset("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave".split())
V4 = V3 | frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split())
DECIDING = (  # facts that decide timings and do not change by themselves
    *("architecture", "level", "simd_bytes", "model", "cpus_online", "threads", "caches"),
    "virtual",
)
MAX_BYTES = 4 << 20  # of a file under /proc or /sys that is read


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts of this machine.

    Attributes:
        architecture: as the kernel names it, e.g. ``x86_64``.
        level: coarse instruction set: ``x86-64-v1`` to ``-v4``, or the architecture.
        simd_bytes: width of the widest vectors, in bytes.
        cpus: the CPUs this process may use (numbers), ``cpus_online``: how many there are.
        quota: CPUs' worth of time its cgroup allows (None: no limit).
        threads: threads worth starting: usable CPUs, fewer where the quota is lower.
        caches: bytes of the data or unified cache of each level, e.g. ``{1: 49152}``.
        line_bytes: of a cache line; ``page_bytes``: of a page of memory.
        memory_bytes: of the machine or its cgroup; ``available_bytes``: of it, free now.
        model: the CPU's name (stays on this machine); ``virtual``: a hypervisor is seen.
        governor: frequency governor where exposed; ``load``: 1-minute load average.
        kernel: release of the operating system's kernel; ``microcode``: revision of the CPU's,
            empty where it is not told.
        unknown: names of facts above that could not be read here; their values say nothing.
    """

    architecture: str
    level: str
    simd_bytes: int
    cpus: tuple[int, ...]
    cpus_online: int
    quota: float | None
    threads: int
    caches: Mapping[int, int]
    line_bytes: int
    page_bytes: int
    memory_bytes: int
    available_bytes: int
    model: str
    virtual: bool
    governor: str | None
    load: float
    kernel: str
    microcode: str = ""
    unknown: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain values: cache levels become ``"L1"``..., tuples become lists."""
        out = asdict(replace(self, caches=dict(self.caches)))
        out["cpus"] = list(self.cpus)
        out["unknown"] = list(self.unknown)
        out["caches"] = {f"L{level}": size for level, size in sorted(self.caches.items())}
        return out

    def pinning_order(self) -> tuple[int, ...]:
        """The CPUs to use, the one for serial programs first.

        The last, because the first is where most systems send interrupts. At most ``threads``.
        """
        return tuple(reversed(self.cpus))[: self.threads]

    def serial_on(self, cpu: int) -> Machine:
        """The same with this CPU for serial programs."""
        return replace(self, cpus=(*(c for c in self.cpus if c != cpu), cpu))


def of_one_kind(cpus: Sequence[int], root: Path = Path("/")) -> bool:
    """Whether nothing tells that some of ``cpus`` are faster than others."""
    cpu = "sys/devices/system/cpu/cpu"
    names = ("cpu_capacity", "cpufreq/cpuinfo_max_freq")
    return all(len({_read(root, f"{cpu}{c}/{name}") for c in cpus}) == 1 for name in names)


def read_machine(root: Path = Path("/")) -> Machine:
    """The facts of this machine; ``root`` stands in for ``/`` in tests."""
    cpuinfo = _read(root, "proc/cpuinfo")
    flags = _cpu_flags(cpuinfo)
    architecture = platform.machine()
    cpus = usable_cpus()
    quota = _quota(root)
    caches, line = _caches(root, cpus[0])
    memory, available = _memory(root)
    return Machine(
        architecture=architecture,
        level=_level(architecture, flags),
        simd_bytes=_simd_bytes(architecture, flags),
        cpus=cpus,
        cpus_online=os.cpu_count() or len(cpus),
        quota=quota,
        threads=len(cpus) if quota is None else max(1, min(len(cpus), int(quota + 0.5))),
        caches=caches,
        line_bytes=line,
        page_bytes=os.sysconf("SC_PAGESIZE"),
        memory_bytes=memory,
        available_bytes=available,
        model=_model(cpuinfo),
        virtual="hypervisor" in flags or bool(_read(root, "sys/hypervisor/type")),
        governor=_read(root, f"sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/scaling_governor")
        or None,
        load=_number(_read(root, "proc/loadavg").split(" ")[0]) or 0.0,
        kernel=platform.release(),
        microcode=_field(cpuinfo, "microcode"),
        unknown=tuple(_unknown(root, cpuinfo, caches)),
    )


def _unknown(root: Path, cpuinfo: str, caches: Mapping[int, int]) -> Iterator[str]:
    """Names of facts that are not told here."""
    if not cpuinfo:
        yield from ("level", "simd_bytes", "model", "virtual", "microcode")
    if not caches:
        yield "caches"
    if not (_read(root, "sys/devices/system/cpu/online") or _read(root, "proc/stat")):
        yield "cpus_online"
    if not _read(root, "proc/self/cgroup"):
        yield from ("quota", "threads")
    if not _read(root, "proc/meminfo"):
        yield from ("memory_bytes", "available_bytes")


def fingerprint(machine: Machine) -> str:
    """Digest of what decides timings and does not change by itself."""
    values = ((name, getattr(machine, name)) for name in DECIDING)
    facts = [sorted(x.items()) if name == "caches" else x for name, x in values]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _read(root: Path, name: str) -> str:
    """The stripped text of a small file, empty where it cannot be read."""
    try:
        with (root / name).open(errors="replace") as file:
            return file.read(MAX_BYTES).strip()
    except OSError:
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _cpu_flags(cpuinfo: str) -> frozenset[str]:
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def _model(cpuinfo: str) -> str:
    return _field(cpuinfo, "(?:model name|Model|Hardware|CPU part)")


def _field(cpuinfo: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:(.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""


def _level(architecture: str, flags: frozenset[str]) -> str:
    if architecture not in ("x86_64", "amd64"):
        return architecture
    for number, needed in ((4, V4), (3, V3), (2, V2)):
        if needed <= flags:
            return f"x86-64-v{number}"
    return "x86-64-v1"


def _simd_bytes(architecture: str, flags: frozenset[str]) -> int:
    if architecture in ("x86_64", "amd64"):
        return 64 if "avx512f" in flags else 32 if "avx" in flags else 16
    return 16  # NEON; the width of SVE is not told without running code


def _quota(root: Path) -> float | None:
    """CPUs' worth of time allowed by the innermost limiting cgroup, version 2 or 1."""
    limits = []
    for folder in _cgroup_folders(root, "cpu"):
        words = _read(root, f"{folder}/cpu.max").split() or [
            _read(root, f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period")
        ]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            limits.append(int(words[0]) / max(1, int(words[1])))
    return min(limits, default=None)


def _cgroup_folders(root: Path, controller: str) -> Iterator[str]:
    """The folders of this process's cgroups and their parents, where ``controller`` limits.

    A cgroup is named from the root of its hierarchy; a mount may show a part of that (containers).
    See proc_pid_cgroup(5), proc_pid_mountinfo(5).
    """
    names = dict(_cgroup_names(root))
    for shown, mounted, kind, options in _cgroup_mounts(root):
        name = names.get("", "/") if kind == "cgroup2" else names.get(controller)
        if name is None or (kind == "cgroup" and controller not in options.split(",")):
            continue
        below = name.removeprefix(shown) if shown != "/" else name
        parts = [p for p in below.split("/") if p and p != ".."]
        for n in range(len(parts) + 1):
            yield "/".join((mounted.strip("/"), *parts[:n]))


def _cgroup_names(root: Path) -> Iterator[tuple[str, str]]:
    """(controller, cgroup of this process); the one of version 2 has no controller."""
    for line in _read(root, "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        for controller in controllers.split(",") if number != "0" else [""]:
            yield controller, name


def _cgroup_mounts(root: Path) -> list[tuple[str, str, str, str]]:
    """(its part that is shown, where, its type, its options) of every cgroup hierarchy."""
    found = []
    for line in _read(root, "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if len(words) > 4 and len(kinds) > 2 and kinds[0] in ("cgroup", "cgroup2"):
            found.append((words[3], words[4], kinds[0], kinds[2]))
    return found or [("/", "/sys/fs/cgroup", "cgroup2", "")]


def _caches(root: Path, cpu: int) -> tuple[dict[int, int], int]:
    """Bytes of the data caches by level, and of a line (64 where it is not told)."""
    folder = f"sys/devices/system/cpu/cpu{cpu}/cache"
    sizes: dict[int, int] = {}
    line = 64
    for index in range(8):
        entry = f"{folder}/index{index}"
        level = _read(root, f"{entry}/level")
        if not level.isdigit() or _read(root, f"{entry}/type") == "Instruction":
            continue
        size = _bytes(_read(root, f"{entry}/size"))
        if size:
            sizes[int(level)] = size
        line = int(_number(_read(root, f"{entry}/coherency_line_size")) or line)
    return sizes, line


def _bytes(text: str) -> int:
    """``48K`` or ``32M`` in bytes; 0 where it is something else."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] if match else 0


def _memory(root: Path) -> tuple[int, int]:
    """Total and available bytes of the machine, or of its cgroup where that is less."""
    info = {
        m[1]: int(m[2]) << 10
        for m in re.finditer(r"(\w+):\s+(\d+) kB", _read(root, "proc/meminfo"))
    }
    total = info.get("MemTotal", 0)
    if not total:
        with contextlib.suppress(ValueError, OSError):
            total = os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES")
    available = info.get("MemAvailable", total)
    for folder in _cgroup_folders(root, "memory"):
        v2 = bool(_read(root, f"{folder}/memory.max"))
        names = ("max", "current") if v2 else ("limit_in_bytes", "usage_in_bytes")
        limit, usage = (_read(root, f"{folder}/memory.{name}") for name in names)
        used = _number(usage) or 0
        if limit.isdigit():
            total = min(total, int(limit))
            available = min(available, max(0, int(limit) - int(used)))
    return total, available
