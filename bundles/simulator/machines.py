"""A family of simulated machines: broad, but with the parts of a machine fitting each other.

Seven classes (servers, desktops, laptops, small virtual machines, old ones, ARM servers, embedded
boards) give the centre of every parameter; each machine spreads around its class. Compilers and
their flags are part of a machine: what it vectorises, unrolls and hoists differs as much as caches.

The centres and spreads below are chosen, not measured on any machine: so that real machines lie
within the family. Those of clocks, bandwidths and overlap were moved on tuning programs of one real
machine (docs/explanation/simulator.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from agent.arrays import Singles
from agent.model.facts import optimises_hard
from bundles.labels.target import Target

HUGE_PAGES = 32.0  # times as much within reach of the TLBs where the system uses large pages
NEAR_L3 = 32.0 * (1 << 20)  # bytes of a last level that is one ring or less away; chosen
L3_SCALING = 0.6  # of the cores together saturate a shared last cache
O3_SHARE = 0.7  # of the sampled machines; the others compile with -O2


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """A simulated machine; sizes in bytes, times in cycles unless said, bandwidths bytes/cycle.

    Attributes:
        ghz: clock frequency.
        simd: width of a vector register.
        issue: instructions a cycle that loop code sustains.
        flops: floating-point operations (scalar or vector) a cycle.
        loads, stores: memory operations a cycle.
        overlap: exponent with which compute and memory overlap: 1 in order (they add up), 8 fully.
        latency: of a floating-point addition or multiplication.
        forward: from a store to a load of the same element.
        divide, root: a scalar division, a square root.
        transcendental: a scalar exp or log.
        wide_divide: cost of a vector division over a scalar one.
        gather: a strided or gathered element in vector code.
        convert: a conversion or widening, in float operations.
        branch: a mispredicted branch, paid where an inner loop ends.
        loop: overhead of one loop iteration.
        l1, l2, l3: cache sizes; l3 is shared by all cores (equal to l2: there is none).
        l2_latency, l3_latency, memory_ns: load latencies (the last in nanoseconds).
        l2_bandwidth, l3_bandwidth: of one core; ``memory_bandwidth`` in GB/s, of one core.
        parallelism: outstanding misses of one core on unforeseen lines.
        l3_scaling, memory_scaling: how many cores saturate the shared level.
        tlb: pages the TLBs hold; ``walk``: cycles of a page walk;
            ``first_tlb``: pages the first one holds; ``refill``: cycles to ask the second.
        cores: threads used by a parallel loop.
        scaling: exponent of the cores' joint speed (clocks drop, hyper-threads share).
        fork_us, fork_core_us: start and end of a parallel region, and per core.
        sharing: cycles of a store to a line other cores write.
        call_us: calling the kernel.
        autovec: the compiler vectorises unit-stride loops by itself.
        strided: it also vectorises small constant strides.
        reassociate: it reorders floating-point sums by itself (-ffast-math).
        vector_math: it has vector exp and log; ``vector_root``: vector square roots.
        vector_select: it vectorises fmin and fmax by itself (they care for NaN);
            ``vector_compare``: other comparisons.
        outer: it vectorises an outer loop around a sum; ``interchange``: it swaps the two innermost
            loops where that shortens strides (gcc does both at -O3, clang neither).
        peel: it unrolls inner loops of up to this trip count completely before vectorising.
        unrolls: its own unroll factor; ``interleave``: accumulators it keeps.
        registers: vector registers.
        pipelining: exponent with which the levels of the memory work at the same time.
        packs: vector code loads everything between elements a power of two apart, and sorts it
            out (gcc, where a loop is marked); ``pack``: cycles for each vector loaded so.
        window: operations in flight, with which sums of neighbouring elements overlap.
        select_call: cycles of a scalar fmin or fmax more than a comparison (a call with gcc).
        cheap: only loops are vectorised that need no rest (gcc at -O2).
        efficiency: share of the ideal vector speed-up reached.
        gcc, clang: whether the compiler is of that family; ``o3``: it optimises hard.
    """

    ghz: float
    simd: float
    issue: float
    flops: float
    loads: float
    stores: float
    overlap: float
    latency: float
    forward: float
    divide: float
    root: float
    transcendental: float
    wide_divide: float
    gather: float
    convert: float
    branch: float
    loop: float
    l1: float
    l2: float
    l3: float
    l2_latency: float
    l3_latency: float
    memory_ns: float
    l2_bandwidth: float
    l3_bandwidth: float
    memory_bandwidth: float
    parallelism: float
    l3_scaling: float
    memory_scaling: float
    tlb: float
    walk: float
    first_tlb: float
    refill: float
    cores: float
    scaling: float
    fork_us: float
    fork_core_us: float
    sharing: float
    call_us: float
    autovec: float
    strided: float
    reassociate: float
    vector_math: float
    vector_root: float
    vector_select: float
    vector_compare: float
    outer: float
    interchange: float
    peel: float
    unrolls: float
    interleave: float
    registers: float
    pipelining: float
    packs: float
    pack: float
    window: float
    select_call: float
    cheap: float
    efficiency: float
    gcc: float
    clang: float
    o3: float


@dataclass(frozen=True, slots=True)
class _Class:
    """The centre of a class: (choices) or a single central value, spread by ``sample``."""

    share: float
    ghz: float
    simd: tuple[int, ...]
    cores: tuple[int, ...]
    issue: float
    overlap: float
    l1: tuple[int, ...]
    l2: tuple[int, ...]  # KiB a core
    l3: tuple[int, ...]  # KiB, all cores; 0: none
    memory: float  # GB/s of one core
    memory_scaling: float
    memory_ns: float
    tlb: float
    autovec: float


_CLASSES = {
    "server": _Class(0.2, 3.2, (32, 32, 64, 64), (4, 8, 16, 32, 64), 4.0, 4, (32, 48),
                     (512, 1024, 2048), (16_384, 32_768, 65_536, 131_072, 262_144), 14, 8, 100,
                     1536, 0.95),
    "desktop": _Class(0.18, 4.5, (32, 32, 32, 64), (4, 6, 8, 12, 16), 4.5, 4, (32, 48),
                      (256, 512, 1024, 2048), (8192, 16_384, 32_768), 22, 2.2, 75, 1536, 0.95),
    "laptop": _Class(0.14, 3.5, (16, 32, 32), (2, 4, 4, 6, 8), 4.0, 4, (32, 48),
                     (256, 512, 1280), (3072, 4096, 8192, 12_288), 15, 1.8, 90, 1536, 0.9),
    "virtual": _Class(0.23, 3.5, (16, 32, 32, 64, 64), (1, 2, 2, 2, 4), 4.0, 4, (32, 48),
                      (512, 1024, 2048), (8192, 16_384, 32_768, 65_536, 262_144), 16, 3, 105,
                      1536, 0.95),
    "old": _Class(0.08, 2.5, (16,), (1, 2, 4), 3.0, 3.5, (32,),
                  (256, 1024, 3072), (0, 3072, 8192), 5, 1.6, 95, 512, 0.75),
    "arm": _Class(0.1, 2.9, (16, 16, 32), (4, 8, 16, 64), 4.0, 4, (64,),
                  (512, 1024, 2048), (4096, 32_768), 16, 6, 110, 1280, 0.95),
    "embedded": _Class(0.07, 1.4, (8, 16, 16), (1, 2, 4), 1.7, 1.5, (16, 32),
                       (256, 512, 1024), (0, 0, 2048), 3, 1.5, 150, 256, 0.8),
}  # fmt: skip


class _Dice:
    """Draws a machine's parameters around the centre of its class."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def near(self, value: float, spread: float = 0.25) -> float:
        return float(value * np.exp(spread * self._rng.standard_normal()))

    def pick(self, values: Sequence[float]) -> float:
        return float(self._rng.choice(values))

    def chance(self, probability: float) -> float:
        return float(self._rng.random() < probability)

    def kind(self) -> str:
        """A class of machines, by their shares."""
        shares = np.array([c.share for c in _CLASSES.values()])
        return list(_CLASSES)[int(self._rng.choice(len(shares), p=shares / shares.sum()))]


class _Centre(_Dice):
    """The centre itself: no draw, the middle choice, the likelier outcome."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(0))

    def near(self, value: float, spread: float = 0.25) -> float:  # noqa: ARG002
        return value

    def pick(self, values: Sequence[float]) -> float:
        return float(sorted(values)[len(values) // 2])

    def chance(self, probability: float) -> float:
        return float(probability > 0.5)


def _draw(kind: str, dice: _Dice, family: str, o3: bool) -> SimulatedMachine:
    """A machine of that class whose compiler is of a family, optimising hard or less so."""
    centre = _CLASSES[kind]
    l2 = dice.pick(centre.l2) * 1024
    l3 = max(dice.pick(centre.l3) * 1024, l2)
    cores = dice.pick(centre.cores)
    # The order of the draws is part of what a seed means.
    return SimulatedMachine(
        ghz=dice.near(centre.ghz, 0.15),
        **_core(kind, dice),
        l1=dice.pick(centre.l1) * 1024,
        l2=l2,
        l3=l3,
        **_memory(kind, dice, cores, l3),
        **_threads(dice, cores),
        **_rest_of_core(kind, dice),
        **_compiler(dice, family, o3, centre.autovec),
    )


def _core(kind: str, dice: _Dice) -> dict[str, float]:
    """Throughputs and latencies of a core."""
    centre, near = _CLASSES[kind], dice.near
    small, old = kind == "embedded", kind in ("embedded", "old")
    return {
        "simd": dice.pick(centre.simd),
        "issue": near(centre.issue, 0.15),
        "flops": near(1.0 if small else 1.9, 0.2),
        "loads": near(1.0 if small else 2.0, 0.2),
        "stores": near(0.8 if small else 1.1, 0.2),
        "overlap": max(1.0, near(centre.overlap, 0.3)),
        "latency": near(4.5 if old else 3.7, 0.2),
        "forward": near(5.0, 0.2),
        "divide": near(12.0 if old else 5.0, 0.3),
        "root": near(16.0 if old else 6.5, 0.3),
        "transcendental": near(70.0 if old else 40.0, 0.3),
        "wide_divide": near(2.0, 0.35),
        "gather": near(2.2 if old else 1.2, 0.35),
        "convert": near(1.0, 0.3),
        "branch": near(8.0 if small else 14.0, 0.3),
        "loop": near(1.3 if small else 0.9, 0.3),
    }


def _memory(kind: str, dice: _Dice, cores: float, l3: float) -> dict[str, float]:
    """Latencies and bandwidths below the first cache, and the TLBs.

    Large last levels are far away: a Granite Rapids machine's of 480 MB answers after 150 ns and
    its memory after 220 (``benchmarks/measured_facts.py``).
    """
    away = max(l3 / NEAR_L3, 1.0)
    centre, near = _CLASSES[kind], dice.near
    small, old = kind == "embedded", kind in ("embedded", "old")
    return {
        "l2_latency": near(14.0, 0.15),
        "l3_latency": near(45.0 * away**0.5, 0.25),
        "memory_ns": near(centre.memory_ns * away**0.2, 0.2),
        "l2_bandwidth": near(7.0 if small else 28.0, 0.4),
        "l3_bandwidth": near(5.0 if small else 18.0, 0.4),
        "memory_bandwidth": near(centre.memory, 0.4),
        "parallelism": near(2.5 if small else 9.0, 0.3),
        "l3_scaling": max(1.0, near(L3_SCALING, 0.3) * cores),
        "memory_scaling": min(cores, max(1.0, near(centre.memory_scaling, 0.35))),
        "tlb": near(centre.tlb, 0.4) * (HUGE_PAGES if dice.chance(0.5) else 1.0),
        "walk": near(28.0, 0.4),
        "first_tlb": near(32.0 if old else 72.0, 0.3),
        "refill": near(3.0, 0.4),
    }


def _threads(dice: _Dice, cores: float) -> dict[str, float]:
    """What parallel loops cost and gain."""
    return {
        "cores": cores,
        "scaling": min(1.0, dice.near(0.93, 0.06)),
        "fork_us": dice.near(1.0, 0.8),
        "fork_core_us": dice.near(0.15, 0.7),
        "sharing": dice.near(40.0, 0.5),
        "call_us": dice.near(0.15, 0.7),
    }


def _rest_of_core(kind: str, dice: _Dice) -> dict[str, float]:
    """How much of its ideal speed a core reaches, and how far ahead it looks."""
    small, old = kind == "embedded", kind in ("embedded", "old")
    return {
        "efficiency": min(1.0, dice.near(0.8, 0.2)),
        "pipelining": max(1.0, dice.near(1.9, 0.3)),
        "pack": dice.near(2.0, 0.3),
        "window": 1.0 if small else dice.near(200.0 if old else 350.0, 0.3),
        "registers": 16.0 if old else dice.pick((16, 32)),
    }


def _compiler(dice: _Dice, family: str, o3: bool, autovec: float) -> dict[str, float]:
    """What a compiler of that family does by itself at -O3 (else: at -O2)."""
    gcc, clang, chance = family == "gcc", family == "clang", dice.chance
    return {
        "gcc": float(gcc),
        "clang": float(clang),
        "o3": float(o3),
        "autovec": chance(autovec),
        "cheap": float(gcc and not o3),
        "strided": chance(0.85),
        "reassociate": chance(0.08),
        "vector_math": chance(0.1),
        "vector_root": chance(0.75),
        "vector_select": chance(0.05 if gcc else 0.85),
        "vector_compare": chance(0.85),
        "select_call": dice.near(4.0, 0.6) if gcc else dice.near(0.5, 0.6),
        "packs": float(gcc) * chance(0.8),
        "peel": dice.pick((32, 64, 128) if clang else (8, 16, 16) if o3 else (1, 2, 4)),
        "outer": float(gcc and o3) * chance(0.9),
        "interchange": float(gcc and o3) * chance(0.85),
        "unrolls": dice.pick((2, 4)) if clang else 1.0,
        "interleave": dice.pick((2, 4)) if clang else 1.0,
    }


def sample_machines(rng: np.random.Generator, count: int) -> tuple[SimulatedMachine, ...]:
    """``count`` machines of the family; every choice comes from ``rng``."""
    dice = _Dice(rng)
    return tuple(_any(dice) for _ in range(count))


def _any(dice: _Dice) -> SimulatedMachine:
    clang = dice.chance(0.2)
    return _draw(dice.kind(), dice, "clang" if clang else "gcc", bool(dice.chance(O3_SHARE)))


def machine_like(target: Target) -> SimulatedMachine:
    """The simulated machine that a target's facts speak for; the rest as usual in its class."""
    arm = target.architecture in ("aarch64", "arm64")
    kind = "arm" if arm else "virtual" if target.virtual else "desktop"
    machine = _draw(kind, _Centre(), target.compiler, optimises_hard(target.flags))
    l2 = float(target.l2) or machine.l2
    return replace(
        machine,
        simd=float(target.simd_bytes),
        cores=float(target.threads),
        l1=float(target.l1) or machine.l1,
        l2=l2,
        l3=max(float(target.l3), l2),
        l3_scaling=max(1.0, L3_SCALING * target.threads),
        memory_scaling=min(machine.memory_scaling, float(target.threads)),
    )


def facts_of_machines(machines: Sequence[SimulatedMachine]) -> Singles:
    """[m,f] what is known of machines without timing, in the order of ``agent.model.facts``."""
    logs = [[math.log2(x) for x in (m.simd, m.cores, m.l1, m.l2, m.l3)] for m in machines]
    for row, machine in zip(logs, machines, strict=True):
        if machine.l3 <= machine.l2:
            row[-1] = math.nan  # there is none: as ``agent.model.facts`` says it
    flags = [[m.gcc, m.clang, m.o3] for m in machines]
    return np.concatenate([np.array(logs), np.array(flags)], axis=1).astype(np.float32)


def columns(machines: tuple[SimulatedMachine, ...]) -> dict[str, Singles]:
    """Every attribute as an array [m]."""
    return {
        f.name: np.array([getattr(m, f.name) for m in machines], np.float32)
        for f in fields(SimulatedMachine)
    }
