"""Times of loop nests on simulated machines: the free labels of pre-training.

A roofline with the corners filled in. Per statement: compute (scalar or SIMD as that machine's
compiler would have it, bound by throughput, issue or the latency of a sum), traffic at each cache
level and memory (``traffic``), page walks, loop overheads, remainders, threads (chunks, shared
bandwidth, forks, false sharing). What a real machine does differs; what *kinds* of differences
there are between machines is what the prior of a bundle learns here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.loopnest.nest import NestTable
from bundles.inner import Forks, Inner, forks, jammed, sharers, views
from bundles.machines import Machine, columns
from bundles.reorder import interchanged, without_single_turns
from bundles.traffic import (
    L1_BYTES,
    L2_BYTES,
    L3_BYTES,
    LINE,
    TLB_PAGES,
    Bools,
    Floats,
    Rows,
    Traffic,
    rows_of,
    traffic,
)

CHUNK = 256  # programs at a time: the working arrays stay in a cache
PEELED_OPERATIONS = 150.0  # a larger body is not unrolled completely
ADD, MUL, DIV, SQRT, EXP, COMPARE, INTEGER, CONVERT = range(8)

Machines = dict[str, Floats]


def simulate(table: NestTable, machines: tuple[Machine, ...]) -> npt.NDArray[np.float32]:
    """Log seconds of one warm run of every program on every machine, [n, m]."""
    if not len(table):
        return np.zeros((0, len(machines)), np.float32)
    fleet = columns(machines)
    parts = [
        _simulate(table.take(slice(start, start + CHUNK)), fleet)
        for start in range(0, len(table), CHUNK)
    ]
    return np.concatenate(parts)


def _simulate(table: NestTable, fleet: Machines) -> Floats:
    """Compilers that interchange loops by themselves see another table."""
    table = without_single_turns(table)
    out = np.zeros((len(table), len(fleet["ghz"])), np.float32)
    swaps = fleet["interchange"] > 0
    for some in (~swaps, swaps):
        if some.any():
            seen = interchanged(table) if some is swaps else table
            out[:, some] = _times(seen, {name: value[some] for name, value in fleet.items()})
    return out


def _times(table: NestTable, fleet: Machines) -> Floats:
    rows = rows_of(table)
    moved = traffic(table, rows)
    fork = forks(table, rows)
    threads = _threads(fork, fleet)
    compute, overhead = _compute(table, rows, fleet)
    memory = _memory(moved, fleet, threads)
    times = _norm(fleet["overlap"], compute / threads, memory) + overhead / threads
    times += _forking(table, rows, fork, fleet)
    total = np.zeros((len(table), times.shape[1]), np.float32)
    np.add.at(total, rows.program, times)
    kept = np.zeros(len(table))
    np.add.at(kept, rows.program, table.instances[rows.program, rows.place])
    beyond = 0.5 * (table.total_instances / np.maximum(kept, 1.0) - 1.0)
    total = total * (1.0 + beyond)[:, None].astype(np.float32) + fleet["call_us"] * 1e3
    return np.asarray(np.log(total * 1e-9), np.float32)


def _norm(power: Floats, *terms: Floats) -> Floats:
    """p-norm: the sum for power 1, nearly the maximum for a large one."""
    most = np.maximum.reduce(terms) + 1e-9
    return np.asarray(most * sum((t / most) ** power for t in terms) ** (1.0 / power), np.float32)


@dataclass(frozen=True)
class _Ops:
    """Operations an execution, [r,1]: fused arithmetic, integer work, conversions, slow ones."""

    arithmetic: Floats
    convert: Floats
    divide: Floats
    root: Floats
    transcendental: Floats
    floating: Bools
    selects: Bools  # a chain of fmin or fmax checks for NaN at every step
    lane_bytes: Floats


def _operations(table: NestTable, rows: Rows) -> _Ops:
    ops = table.ops[rows.program, rows.place][:, None, :]
    fused = ops[..., ADD] + ops[..., MUL] - 0.6 * np.minimum(ops[..., ADD], ops[..., MUL])
    return _Ops(
        arithmetic=fused + ops[..., COMPARE] + 0.6 * ops[..., INTEGER],
        convert=ops[..., CONVERT],
        divide=ops[..., DIV],
        root=ops[..., SQRT],
        transcendental=ops[..., EXP],
        floating=table.float_target[rows.program, rows.place][:, None],
        selects=ops[..., COMPARE] > 0,
        lane_bytes=table.lane_bytes[rows.program, rows.place][:, None],
    )


def _compute(table: NestTable, rows: Rows, fleet: Machines) -> tuple[Floats, Floats]:
    """[r,m] nanoseconds of the statements' executions, and of the loops around them."""
    ops = _operations(table, rows)
    copies, independent = (x[:, None].astype(np.float32) for x in jammed(table, rows))
    *peels, around = views(table, rows)
    plain = peels[0]
    size = ops.arithmetic + 2 + (plain.unit + plain.far + plain.store_unit)[:, None]
    lanes = _lanes(ops, around, fleet)
    shared = sharers(table, rows)
    turns = [
        _outer(rows, shared, peel)[:, None] * 2.0 * fleet["loop"] for peel in range(len(peels))
    ]
    cycles, start = _executions(ops, plain, independent, fleet)
    starts = plain.starts[:, None] * start + turns[0]
    free = ~plain.forced[:, None] & np.ones_like(cycles, np.bool_)
    outer = free & _outer_vectorised(ops, plain, around, fleet)
    wide, start = _executions(ops, around, independent, fleet)
    cycles = np.where(outer, wide, cycles)
    inner = plain.starts[:, None] * 3.0 / lanes
    starts = np.where(outer, around.starts[:, None] * start + inner + turns[1], starts)
    peel = free
    for number, (shorter, view) in enumerate(pairwise(peels), 1):
        peel = peel & (shorter.trip[:, None] <= fleet["peel"]) & view.free[:, None]
        peel = peel & (size * view.body[:, None] <= PEELED_OPERATIONS)
        other, start = _executions(ops, view, independent, fleet)
        cycles = np.where(peel, other, cycles)
        starts = np.where(peel, view.starts[:, None] * start + turns[number], starts)
    spill = 1.0 + 0.5 * np.maximum(np.log2(copies * 1.5 / fleet["registers"]), 0.0)
    count = table.instances[rows.program, rows.place][:, None].astype(np.float32)
    return count * cycles * spill / fleet["ghz"], starts / copies / fleet["ghz"]


def _lanes(ops: _Ops, inner: Inner, fleet: Machines) -> Floats:
    """[r,m] SIMD lanes used: all, or a narrower vector where the loop is short."""
    most = np.maximum(fleet["simd"] / ops.lane_bytes, 1.0)
    short = 2.0 ** np.floor(np.log2(np.maximum(inner.trip, 1.0)))[:, None]
    return np.asarray(np.minimum(most, short), np.float32)


def _outer_vectorised(ops: _Ops, plain: Inner, around: Inner, fleet: Machines) -> Bools:
    """[r,m] whether the compiler vectorises the second innermost loop, the inner one kept."""
    lanes = _lanes(ops, plain, fleet)
    sums = ((plain.sums | plain.carried) & ~around.sums)[:, None]
    simple = (fleet["outer"] > 0) & sums & ~_vectorised(ops, plain, lanes, fleet)
    return np.asarray(simple & _vectorised(ops, around, _lanes(ops, around, fleet), fleet))


def _outer(rows: Rows, shared: Floats, peel: int) -> Floats:
    """[r] iterations of the loops around the innermost one left when ``peel`` are unrolled.

    A loop of several statements counts once.
    """
    iterations = rows.trip.cumprod(-1) / shared
    inner = np.arange(rows.trip.shape[1]) >= (rows.depth - 1 - peel)[:, None]
    return np.asarray(np.where(inner, 0.0, iterations).sum(-1), np.float32)


def _vectorised(ops: _Ops, inner: Inner, lanes: Floats, fleet: Machines) -> Bools:
    """[r,m] whether that machine's compiler uses SIMD in the innermost loop."""
    able = (ops.transcendental == 0) | (fleet["vector_math"] > 0)
    able &= (ops.root == 0) | (fleet["vector_root"] > 0)
    able &= (inner.free & ~inner.carried)[:, None] & (lanes > 1) & (inner.trip[:, None] >= lanes)
    sums = ~inner.sums[:, None] | ~ops.floating | (fleet["reassociate"] > 0)
    sums = sums & (~ops.floating | ~ops.selects | (fleet["vector_select"] > 0))
    strides = ((inner.far + inner.store_far) == 0)[:, None]
    strides = strides & ((inner.small == 0)[:, None] | (fleet["strided"] > 0))
    return np.asarray(able & (inner.forced[:, None] | ((fleet["autovec"] > 0) & sums & strides)))


def _executions(
    ops: _Ops, inner: Inner, independent: Floats, fleet: Machines
) -> tuple[Floats, Floats]:
    """[r,m] cycles of one execution of the statement, and of one start of its innermost loop."""
    lanes = _lanes(ops, inner, fleet)
    simd = _vectorised(ops, inner, lanes, fleet)
    scalar, wide = _throughput(ops, inner, lanes, fleet)
    chain = _chain(ops, inner, fleet)
    sums = (chain / independent, chain / (independent * lanes * fleet["interleave"]))
    trip = inner.trip[:, None]
    covered = np.floor(trip / lanes) * lanes / trip
    power = fleet["overlap"]
    one = _norm(power, scalar, sums[0])
    many = _norm(power, wide, sums[1])
    cycles = np.where(simd, covered * many + (1.0 - covered) * one, one)
    rounds = np.where(simd, trip / lanes, trip)  # predictors learn the end of short loops
    missed = np.where(rounds < 8, 0.05, np.where(rounds < 32, 0.4, 1.0))
    start = 2.0 + missed * fleet["branch"]
    start = start + np.where(simd, 2.0 + 1.5 * np.log2(lanes) * inner.sums[:, None], 0.0)
    return cycles, start


def _chain(ops: _Ops, inner: Inner, fleet: Machines) -> Floats:
    """[r,m] cycles an execution waits for the one before it (one accumulator, scalar)."""
    one = np.where(ops.floating, fleet["latency"] * np.where(ops.selects, 1.8, 1.0), 1.0)
    steps = np.clip(0.6 * ops.arithmetic, 1.0, 2.5)  # what does not wait is computed ahead
    through = steps * one + 0.4 * fleet["forward"] + 2.0 * ops.divide * fleet["divide"]
    summed = inner.chain[:, None] * one + inner.stalls[:, None] * (one + fleet["forward"])
    return np.asarray(np.where(inner.carried[:, None], through, summed), np.float32)


def _throughput(ops: _Ops, inner: Inner, lanes: Floats, fleet: Machines) -> tuple[Floats, Floats]:
    """[r,m] cycles an execution needs by throughput alone: scalar code and vector code."""
    near = (inner.unit + inner.small)[:, None]
    loads, stores = near + inner.far[:, None], (inner.store_unit + inner.store_far)[:, None]
    plain = ops.arithmetic + ops.convert * fleet["convert"]
    slow = ops.divide * fleet["divide"] + ops.root * fleet["root"]
    power = fleet["overlap"]
    unroll = np.maximum(inner.marked_unroll[:, None], fleet["unrolls"])
    turn = fleet["loop"] / unroll / inner.body[:, None]
    port = np.maximum(loads / fleet["loads"], stores / fleet["stores"])
    issue = (plain + loads + stores + 2.0 * turn) / fleet["issue"] + 0.25 * turn
    heavy = slow + ops.transcendental * fleet["transcendental"]
    scalar = _norm(power, plain / fleet["flops"] + heavy, port, issue)
    scattered = (
        inner.far[:, None] * fleet["gather"] + inner.store_far[:, None] * 1.3 * (fleet["gather"])
    )
    shuffled = inner.small[:, None] * 1.5 / lanes
    port = (near / fleet["loads"] + inner.store_unit[:, None] / fleet["stores"]) / lanes
    port = port + shuffled + scattered
    heavy = slow * fleet["wide_divide"] + ops.transcendental * fleet["transcendental"] * 2.0
    heavy = np.minimum(heavy / lanes, slow + ops.transcendental * fleet["transcendental"])
    flow = (plain / fleet["flops"] + 0.5 * ops.convert) / lanes
    vector = _norm(power, flow + heavy, port, issue / lanes)
    return scalar, vector / fleet["efficiency"]


def _at(grid: npt.NDArray[np.float64], sizes: Floats, values: Floats) -> Floats:
    """``values[r,G]`` at each machine's size, linear in log size: [r,m]."""
    place = np.interp(np.log2(sizes), np.log2(grid), np.arange(len(grid)))
    low = np.minimum(place.astype(np.intp), len(grid) - 2)
    part = (place - low).astype(np.float32)
    return np.asarray(values[:, low] * (1.0 - part) + values[:, low + 1] * part, np.float32)


def _memory(moved: Traffic, fleet: Machines, threads: Floats) -> Floats:
    """[r,m] nanoseconds of the traffic below the first cache, shared levels saturating."""
    ghz, misses = fleet["ghz"], fleet["parallelism"]
    grids = (L1_BYTES, L2_BYTES, L3_BYTES)
    sizes = (fleet["l1"], fleet["l2"], fleet["l3"])
    levels = zip(grids, sizes, moved.stream, moved.jump, strict=True)
    (s1, j1), (s2, j2), (s3, j3) = ((_at(g, z, s), _at(g, z, j)) for g, z, s, j in levels)
    missing = fleet["l3"] <= fleet["l2"]
    s3, j3 = np.where(missing, s2, s3), np.where(missing, j2, j3)
    l2 = s1 * LINE / fleet["l2_bandwidth"] + j1 * np.maximum(
        fleet["l2_latency"] / misses, LINE / fleet["l2_bandwidth"]
    )
    l3 = s2 * LINE / fleet["l3_bandwidth"] + j2 * np.maximum(
        fleet["l3_latency"] / misses, LINE / fleet["l3_bandwidth"]
    )
    l3 = np.where(missing, 0.0, l3)
    line_ns = LINE / fleet["memory_bandwidth"]
    memory = s3 * line_ns + j3 * np.maximum(fleet["memory_ns"] / misses, line_ns)
    pages = _at(TLB_PAGES, fleet["tlb"], moved.pages) * 0.6 * fleet["walk"] / ghz
    near = (l2 / ghz + pages) / threads
    l3 = l3 / ghz / np.minimum(threads, fleet["l3_scaling"])
    return np.asarray(near + l3 + memory / np.minimum(threads, fleet["memory_scaling"]), np.float32)


def _threads(fork: Forks, fleet: Machines) -> Floats:
    """[r,m] how many times faster the threads of a parallel loop are together."""
    cores, trip = fleet["cores"], np.maximum(fork.trip[:, None], 1.0)
    busy = trip / np.ceil(np.round(trip / cores, 3))
    uneven = 1.0 + (fork.imbalance[:, None] - 1.0) * (1.0 - 1.0 / cores)
    speed = np.maximum(np.minimum(busy, cores) ** fleet["scaling"] / uneven, 1.0)
    return np.where(fork.parallel[:, None], speed, 1.0).astype(np.float32)


def _forking(table: NestTable, rows: Rows, fork: Forks, fleet: Machines) -> Floats:
    """[r,m] nanoseconds to start and join threads, and for lines they fight over."""
    cores = fleet["cores"]
    start = np.where(cores > 1, fleet["fork_us"] + fleet["fork_core_us"] * cores, 0.1) * 1e3
    chunk = np.maximum(fork.trip[:, None] / cores, 1.0)
    shared = np.clip(LINE / np.maximum(fork.step[:, None] * chunk, 1.0) - 1.0, 0.0, 1.0)
    plain = views(table, rows)[0]
    stored = plain.store_unit + plain.store_far  # none where the sum is kept in a register
    count = table.instances[rows.program, rows.place]
    stores = np.where(stored > 0, stored * count, plain.starts)[:, None].astype(np.float32)
    fights = np.where(cores > 1, 0.1 * shared * stores * fleet["sharing"] / fleet["ghz"], 0.0)
    costs = fork.starts[:, None] * start + fights / cores
    return np.asarray(np.where(fork.parallel[:, None], costs, 0.0), np.float32)
