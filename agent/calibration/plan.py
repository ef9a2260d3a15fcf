"""What to time and for how long: a prefix of the fixed set, kernel by kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from agent.calibration.calibration import CalibrationWarning
from agent.errors import AgentError
from agent.kernels.fixed_set import Kernel, PlannedVariant, kernels, load_kernel
from agent.loopnest.program import Program
from agent.loopnest.schedules.legality import Dependences, transform
from agent.loopnest.schedules.schedule import Schedule, parse_schedule

# What things cost before the machine is known; only the prefix's length hangs on it.
START_S = 6.0  # looking for the compiler, parsing, fitting, timing some kernels again
COMPILE_CPU_S = 0.35  # one program
GROUP_S = 0.35  # a kernel: worker, arrays, checks, A/A
VARIANT_S = 0.20
FEWEST_VARIANTS = 4


@dataclass(frozen=True)
class Group:
    """One kernel with the schedules to time in one worker, and all of them as programs.

    Attributes:
        kernel: of the fixed set; ``base``: as written.
        schedules: to time; ``variants``: the programs they make.
        source: digest of the kernel's C file.
    """

    kernel: Kernel
    base: Program
    schedules: tuple[Schedule, ...]
    variants: tuple[Program, ...]
    source: str


def prefix_for(
    variants: Sequence[PlannedVariant], budget_s: float, threads: int
) -> tuple[PlannedVariant, ...]:
    """The longest prefix of the fixed set that a budget should allow (at least a few)."""
    fitting = [
        n
        for n in range(1, len(variants) + 1)
        if n <= FEWEST_VARIANTS or cost_s(variants[:n], threads) <= budget_s
    ]
    return tuple(variants[: max(fitting, default=0)])


def cost_s(variants: Sequence[PlannedVariant], threads: int) -> float:
    """Seconds that timing these variants should take from an empty state."""
    groups = len({v.kernel.name for v in variants})
    compiling = COMPILE_CPU_S * (len(variants) + groups) / max(1, threads)
    return START_S + compiling + GROUP_S * groups + VARIANT_S * len(variants)


def weight(group: Group) -> float:
    """The share of the measuring time that a group gets, in arbitrary units."""
    return GROUP_S + VARIANT_S * len(group.variants)


def time_left(spent_s: float, behind: float, ahead: float) -> float:
    """Seconds that the groups ahead should take, from what those behind took (by weight)."""
    return ahead * (spent_s / behind if behind else 1.0)


def set_identity(variants: Iterable[PlannedVariant]) -> str:
    """Digest of the schedules of the fixed set, in order."""
    text = "\n".join(f"{v.kernel.name}: {v.schedule}" for v in variants)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def groups_of(plan: Sequence[PlannedVariant]) -> tuple[list[Group], list[CalibrationWarning]]:
    """The plan by kernel, in the order of first appearance, every variant transformed."""
    wanted: dict[str, list[PlannedVariant]] = {}
    for variant in plan:
        wanted.setdefault(variant.kernel.name, []).append(variant)
    groups, left_out = [], []
    for name, variants in wanted.items():
        try:
            groups.append(group_of(variants[0].kernel, tuple(variants)))
        except AgentError as error:  # e.g. its arrays do not fit in this machine's memory
            words = error.message
            left_out.append(CalibrationWarning("kernel-skipped", kernel=name, why=words))
    return groups, left_out


def group_of(kernel: Kernel, variants: tuple[PlannedVariant, ...]) -> Group:
    """A kernel with these versions of it, transformed."""
    schedules = tuple(v.schedule for v in variants)
    programs = tuple(variant_program(kernel, str(s)) for s in schedules)
    return Group(kernel, load_kernel(kernel), schedules, programs, source_digest(kernel))


def source_digest(kernel: Kernel) -> str:
    """Digest of a kernel's C file."""
    return hashlib.sha256(kernel.path.read_bytes()).hexdigest()[:32]


def variant_program(kernel: Kernel, schedule: str) -> Program:
    """A kernel under a schedule; transformed once a process."""
    key = (kernel.name, schedule)
    if key not in _PROGRAMS:
        base = load_kernel(kernel)
        _PROGRAMS[key] = transform(base, parse_schedule(schedule), _dependences(kernel.name))
    return _PROGRAMS[key]


_PROGRAMS: dict[tuple[str, str], Program] = {}


@cache
def _dependences(name: str) -> Dependences:
    return Dependences.of(load_kernel(next(k for k in kernels() if k.name == name)))
