"""Times of loop nests on simulated machines: the free labels of pre-training.

A roofline with the corners filled in. Per statement: compute (scalar or SIMD as that machine's
compiler would have it, bound by throughput, issue or the latency of a sum), traffic at each cache
level and memory (``traffic``), page walks, loop overheads, remainders, threads (chunks, shared
bandwidth, forks, false sharing). What a real machine does differs; what *kinds* of differences
there are between machines is what the prior of a bundle learns here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from agent.arrays import Bools, Doubles, Floats, Indices, Singles
from agent.loopnest.features.nest import NestTable
from agent.loopnest.features.summary import Operation
from bundles.simulator.inner import Forks, Inner, forks, jammed, sharers, views
from bundles.simulator.machines import SimulatedMachine, columns
from bundles.simulator.reorder import interchanged, with_lanes, without_single_turns
from bundles.simulator.traffic import (
    L1_BYTES,
    L2_BYTES,
    L3_BYTES,
    LINE,
    TLB_PAGES,
    SimulatedRows,
    Traffic,
    cache_traffic,
    simulated_rows,
)

CHUNK = 256  # programs at a time: the working arrays stay in a cache
PEELED_OPERATIONS = 400.0  # a larger body is not unrolled completely
STRIP_BYTES = 32.0  # the vectors assumed where only the order of accesses matters

# Constants of the model. None is a measurement of one machine: they were chosen so that single
# tuning programs (and gcc's reports on them) came out right (docs/explanation/simulator.md); what
# differs between machines is an attribute of ``SimulatedMachine`` instead.
# Operations, in additions:
FUSED = 0.6  # of the additions beside a multiplication cost nothing (fused, where there is that)
INTEGER_WEIGHT = 0.6  # of an integer operation: more ports take it
INT_BYTES = 4.0  # of the type in which C computes with narrower ones
# Cycles of the statement's execution:
SHIFT_LOAD = 1.5  # a small-stride load in vector code, over a contiguous one: it is shuffled
SCATTER = 1.3  # a scattered store over a gathered load
VECTOR_EXP = 2.0  # a vector exp or log over a scalar one, for all lanes
VECTOR_CONVERT = 0.5  # of a conversion, what vector code has to widen besides
LOOP_OPERATIONS = 2.0  # instructions of an iteration's own: counting and the jump
JUMP = 0.25  # cycles of that which nothing hides
TREE_STEP = 0.4  # cycles a sum's lanes take to be added up, for each halving
IN_NARROWER = 0.5  # of what whole vectors leave of a block runs in narrower ones, as fast
INNER_START = 3.0  # cycles of a start of an inner loop that runs in SIMD lanes
# Values carried from one execution to the next:
NAN_CHECK = 1.8  # fmin or fmax in a chain, over an addition: they check for NaN
ON_THE_PATH = 0.6  # of a statement's arithmetic waits for the value carried
PATH_LENGTHS = (1.0, 2.5)  # operations on that path, at least and at most
FORWARDED = 0.4  # of a store's forwarding that stays visible
DIVIDE_ON_PATH = 2.0  # a division's latency over its throughput
# Starts of innermost loops: the share of mispredicted ends by rounds; short ones are learnt.
LEARNT_ROUNDS, MISSED_WHEN_LEARNT = 8, 0.05
LONGER_ROUNDS, MISSED_WHEN_LONGER = 32, 0.4
# Spills of a jammed body: its copies hold so many registers each, and cost so much each doubling.
REGISTERS_A_COPY, SPILL = 1.5, 0.5
# Memory:
MOST_PAGES = 8192.0  # TLBs of more reach do so by large pages
WALK_VISIBLE = 0.6  # of a page walk: the rest is hidden by other work
# Threads:
ALONE_US = 0.1  # to start a parallel region of one thread
FIGHT = 0.1  # of the stores to a shared line meet another core's
BEYOND_TABLE = 0.5  # of the time a statement costs that the table had no room for (the lightest)

Machines = dict[str, Floats]
Views = tuple[tuple[Inner, Inner], ...]


def simulate(table: NestTable, machines: tuple[SimulatedMachine, ...]) -> Singles:
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
    rows = simulated_rows(table)
    moved = cache_traffic(table, rows)
    fork = forks(table, rows)
    threads = _threads(fork, fleet)
    seen = views(table, rows)
    compute, overhead, outside = _compute(table, rows, seen, fleet)
    memory = _memory(moved, fleet, threads)
    _memory_in_lanes(table, rows, outside, memory, threads, fleet)
    times = _norm(fleet["overlap"], compute / threads, memory) + overhead / threads
    times += _forking(table, rows, fork, seen[0][0], fleet)
    total = np.zeros((len(table), times.shape[1]), np.float32)
    np.add.at(total, rows.program, times)
    kept = np.zeros(len(table))
    np.add.at(kept, rows.program, table.instances[rows.program, rows.place])
    beyond = BEYOND_TABLE * (table.total_instances / np.maximum(kept, 1.0) - 1.0)
    total = total * (1.0 + beyond)[:, None].astype(np.float32) + fleet["call_us"] * 1e3
    return np.asarray(np.log(total * 1e-9), np.float32)


def _memory_in_lanes(
    table: NestTable,
    rows: SimulatedRows,
    outside: Indices,
    memory: Floats,
    threads: Floats,
    fleet: Machines,
) -> None:
    """Write into ``memory`` [r,m] what it takes where an outer loop runs in SIMD lanes.

    ``outside`` [r,m]: how many places from inside that loop stands (0: there is none). All lanes
    share a line that a scalar program would have lost before its next element was wanted.
    """
    few = np.flatnonzero(outside.any(1))
    if not len(few):
        return
    programs, local = np.unique(rows.program[few], return_inverse=True)
    level = np.full((len(programs), table.trip.shape[1]), -1, np.intp)
    level[local, rows.place[few]] = rows.depth[few] - 1 - outside[few].max(1)
    part = table.take(programs)
    inside = with_lanes(part, level, STRIP_BYTES / part.lane_bytes)
    there = simulated_rows(inside)
    at = there.index[local, rows.place[few]]
    other = _memory(cache_traffic(inside, there), fleet, threads[np.isin(rows.program, programs)])[
        at
    ]
    memory[few] = np.where(outside[few] > 0, np.minimum(other, memory[few]), memory[few])


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
    selects: Bools  # fmin or fmax, which check for NaN at every step
    compares: Bools  # other comparisons
    lane_bytes: Floats

    def take(self, rows: Indices) -> _Ops:
        """Some of the statements."""
        return _Ops(*(getattr(self, f.name)[rows] for f in fields(self)))


def _operations(table: NestTable, rows: SimulatedRows) -> _Ops:
    ops = table.ops[rows.program, rows.place][:, None, :]
    add, mul = ops[..., Operation.ADD], ops[..., Operation.MUL]
    fused = add + mul - FUSED * np.minimum(add, mul)
    return _Ops(
        arithmetic=fused
        + ops[..., Operation.COMPARE]
        + ops[..., Operation.MINMAX]
        + INTEGER_WEIGHT * ops[..., Operation.INTEGER],
        convert=ops[..., Operation.CONVERT],
        divide=ops[..., Operation.DIV],
        root=ops[..., Operation.SQRT],
        transcendental=ops[..., Operation.EXP],
        floating=table.float_target[rows.program, rows.place][:, None],
        selects=ops[..., Operation.MINMAX] > 0,
        compares=ops[..., Operation.COMPARE] > 0,
        lane_bytes=_lane_bytes(table, rows),
    )


def _lane_bytes(table: NestTable, rows: SimulatedRows) -> Floats:
    """[r,1] bytes of the widest type in vector code.

    What is computed with bytes alone needs twice their width for a while, not that of an ``int``
    (gcc's over-widening patterns, LLVM's demanded bits).
    """
    wide = table.lane_bytes[rows.program, rows.place]
    element = (table.element_bytes[rows.program, rows.place] * rows.valid).max(-1)
    narrow = (
        (element < INT_BYTES) & (element > 0) & (table.float_bytes[rows.program, rows.place] == 0)
    )
    return np.where(narrow, np.minimum(wide, 2.0 * element), wide)[:, None].astype(np.float32)


def _compute(
    table: NestTable, rows: SimulatedRows, seen: Views, fleet: Machines
) -> tuple[Floats, Floats, Indices]:
    """[r,m] nanoseconds of the statements' executions, and of the loops around them.

    Last, [r,m], how many places from inside a loop stands that is vectorised around others.
    """
    ops = _operations(table, rows)
    copies, independent = (x[:, None].astype(np.float32) for x in jammed(table, rows))
    shared = sharers(table, rows)
    shape = (len(rows.program), len(fleet["ghz"]))
    cycles, starts = np.empty(shape, np.float32), np.empty(shape, np.float32)
    here = np.arange(len(rows.program))
    outside = np.zeros(shape, np.intp)
    peeled = np.ones(shape, np.bool_)
    for peel, pair in enumerate(seen):
        if peel:  # of those whose inner loops were unrolled completely so far, who goes on
            shorter = seen[peel - 1][0].take(here)
            peeled &= _peels(ops.take(here), shorter, pair[0].take(here), copies[here], fleet)
            some = peeled.any(1)
            here, peeled = here[some], peeled[some]
        if not len(here):
            break
        turns = np.stack([_outer(rows, shared, peel + k)[here] for k in (0, 1)])
        found = _unrolled(
            ops.take(here), pair[0].take(here), pair[1].take(here), turns, independent[here], fleet
        )
        cycles[here] = np.where(peeled, found[0], cycles[here])
        starts[here] = np.where(peeled, found[1], starts[here])
        outside[here] = np.where(peeled, found[2] + peel * (found[2] | found[3]), outside[here])
    spill = _spill(ops, seen[0][0], copies, fleet)
    count = table.instances[rows.program, rows.place][:, None].astype(np.float32)
    return count * cycles * spill / fleet["ghz"], starts / copies / fleet["ghz"], outside


def _spill(ops: _Ops, plain: Inner, copies: Floats, fleet: Machines) -> Floats:
    """[r,m] how much longer a jammed body takes whose copies do not fit into the registers.

    A block of lanes needs its vectors of sums in each copy, those that all copies use, and one.
    """
    vectors = np.ceil(plain.trip[:, None] / _lanes(ops, plain, fleet))
    block = (copies + 1.0) * vectors + 1.0
    needed = np.where(plain.held[:, None], block, copies * REGISTERS_A_COPY)
    spill = 1.0 + SPILL * np.maximum(np.log2(needed / fleet["registers"]), 0.0)
    return np.asarray(spill, np.float32)


def _peels(ops: _Ops, inner: Inner, around: Inner, copies: Floats, fleet: Machines) -> Bools:
    """[r,m] whether the compiler unrolls the loop ``inner`` completely."""
    marked = (inner.marked_unroll > 1) & (inner.marked_unroll < inner.trip)
    plain = inner.steady & ~marked & ~inner.held & around.free
    loads = inner.unit + inner.far + inner.store_unit + inner.small
    size = (ops.arithmetic[:, 0] + loads + 1.0) * inner.body * inner.trip * copies[:, 0]
    able = (plain & (size <= PEELED_OPERATIONS))[:, None]
    able = able & (~inner.forced[:, None] | (fleet["clang"] > 0))  # gcc keeps a marked loop
    return np.asarray(able & (inner.trip[:, None] <= fleet["peel"]))


def _unrolled(
    ops: _Ops,
    inner: Inner,
    around: Inner,
    turns: Floats,
    independent: Floats,
    fleet: Machines,
) -> tuple[Floats, Floats, Bools, Bools]:
    """[r,m] cycles an execution, and cycles of all loop starts, with ``inner`` innermost.

    Last, whether the loop around it is vectorised; else, whether it is itself.
    """
    around_turns = turns[:, :, None] * fleet["loop"]
    cycles, start = _executions(ops, inner, independent, fleet)
    starts = inner.starts[:, None] * start + around_turns[0]
    outer = _outer_vectorised(ops, inner, around, fleet)
    some = np.flatnonzero(outer.any(1))
    if len(some):
        few, near, kept = ops.take(some), inner.take(some), around.take(some)
        wide, start = _executions(few, kept, independent[some], fleet)
        own = near.starts[:, None] * INNER_START / _lanes(few, kept, fleet)
        all_starts = kept.starts[:, None] * start + own + around_turns[1][some]
        cycles[some] = np.where(outer[some], wide, cycles[some])
        starts[some] = np.where(outer[some], all_starts, starts[some])
    simd = _vectorised(ops, inner, _lanes(ops, inner, fleet), fleet)
    return cycles, starts, outer, simd


def _lanes(ops: _Ops, inner: Inner, fleet: Machines) -> Floats:
    """[r,m] SIMD lanes used: all, or a narrower vector where the loop is short."""
    most = np.maximum(fleet["simd"] / ops.lane_bytes, 1.0)
    short = 2.0 ** np.floor(np.log2(np.maximum(inner.trip, 1.0)))[:, None]
    return np.asarray(np.minimum(most, short), np.float32)


def _outer_vectorised(ops: _Ops, plain: Inner, around: Inner, fleet: Machines) -> Bools:
    """[r,m] whether the compiler vectorises the second innermost loop, the inner one kept.

    gcc looks at outer loops first, whatever it could make of the inner one.
    """
    able = plain.even & ~(plain.forced & plain.sums) & around.free
    able &= ~around.sums & ~around.parallel  # there it is another function's outermost loop
    able &= ~plain.held
    simple = (fleet["outer"] > 0) & able[:, None]
    if not simple.any():
        return simple
    return np.asarray(simple & _vectorised(ops, around, _lanes(ops, around, fleet), fleet))


def _outer(rows: SimulatedRows, shared: Floats, peel: int) -> Floats:
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
    torn = (inner.parallel | ((inner.marked_unroll > 1) & ~inner.held))[:, None]
    torn = torn | (inner.sums[:, None] & ops.floating & ops.selects)
    able = able & ~(torn & (fleet["clang"] > 0))  # outlined or unrolled before it is looked at
    sums = ~inner.sums[:, None] | ~ops.floating | (fleet["reassociate"] > 0)
    sums = sums & (~ops.floating | ~ops.selects | (fleet["vector_select"] > 0))
    sums = sums & (~ops.floating | ~ops.compares | (fleet["vector_compare"] > 0))
    strides = ((inner.far + inner.store_far) == 0)[:, None]
    strides = strides & ((inner.small == 0)[:, None] | (fleet["strided"] > 0))
    whole = inner.steady[:, None] & (np.mod(inner.trip[:, None], lanes) == 0)
    strides = strides & (whole | (fleet["cheap"] == 0))
    return np.asarray(able & (inner.forced[:, None] | ((fleet["autovec"] > 0) & sums & strides)))


def _executions(
    ops: _Ops, inner: Inner, independent: Floats, fleet: Machines
) -> tuple[Floats, Floats]:
    """[r,m] cycles of one execution of the statement, and of one start of its innermost loop."""
    lanes = _lanes(ops, inner, fleet)
    simd = _vectorised(ops, inner, lanes, fleet)
    scalar, wide = _throughput(ops, inner, lanes, fleet)
    chain = _chain(ops, inner, fleet)
    together = np.where(inner.held[:, None], 1.0, lanes * fleet["interleave"])
    sums = (chain / independent, chain / (independent * together))
    trip = inner.trip[:, None]
    covered = np.floor(trip / lanes) * lanes / trip
    rest = np.where(inner.held[:, None], IN_NARROWER, 0.0)
    covered = covered + rest * (1.0 - covered)
    power = fleet["overlap"]
    one = _norm(power, scalar, sums[0])
    many = _norm(power, wide, sums[1])
    cycles = np.where(simd, covered * many + (1.0 - covered) * one, one)
    rounds = np.where(simd, trip / lanes, trip)  # predictors learn the end of short loops
    missed = np.where(rounds < LONGER_ROUNDS, MISSED_WHEN_LONGER, 1.0)
    missed = np.where(rounds < LEARNT_ROUNDS, MISSED_WHEN_LEARNT, missed)
    start = 1.0 + missed * fleet["branch"]
    start = start + np.where(simd, 1.0 + TREE_STEP * np.log2(lanes) * inner.sums[:, None], 0.0)
    return cycles, start


def _chain(ops: _Ops, inner: Inner, fleet: Machines) -> Floats:
    """[r,m] cycles an execution waits for the one before it (one accumulator, scalar)."""
    one = np.where(ops.floating, fleet["latency"] * np.where(ops.selects, NAN_CHECK, 1.0), 1.0)
    steps = np.clip(
        ON_THE_PATH * ops.arithmetic, *PATH_LENGTHS
    )  # what does not wait is computed ahead
    through = (
        steps * one + FORWARDED * fleet["forward"] + DIVIDE_ON_PATH * ops.divide * fleet["divide"]
    )
    size = ops.arithmetic + ops.convert + (inner.unit + inner.small + inner.far)[:, None] + 1.0
    flight = np.maximum(fleet["window"] / (size * inner.extent[:, None]), 1.0)
    summed = inner.chain[:, None] * one / flight + inner.stalls[:, None] * (one + fleet["forward"])
    through = through * inner.through[:, None]
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
    issue = (plain + loads + stores + LOOP_OPERATIONS * turn) / fleet["issue"] + JUMP * turn
    called = ops.selects & ops.floating & ~inner.forced[:, None]
    heavy = slow + ops.transcendental * fleet["transcendental"] + called * fleet["select_call"]
    scalar = _norm(power, plain / fleet["flops"] + heavy, port, issue)
    scattered = (inner.far + SCATTER * inner.store_far)[:, None] * fleet["gather"]
    packed = np.maximum(inner.packed[:, None] * fleet["pack"] / lanes, scattered)
    scattered = np.where((inner.packed > 0)[:, None] & (fleet["packs"] > 0), packed, scattered)
    shuffled = inner.small[:, None] * SHIFT_LOAD / lanes
    port = (near / fleet["loads"] + inner.store_unit[:, None] / fleet["stores"]) / lanes
    port = port + shuffled + scattered
    heavy = slow * fleet["wide_divide"] + ops.transcendental * fleet["transcendental"] * VECTOR_EXP
    heavy = np.minimum(heavy / lanes, slow + ops.transcendental * fleet["transcendental"])
    flow = (plain / fleet["flops"] + VECTOR_CONVERT * ops.convert) / lanes
    vector = _norm(power, flow + heavy, port, issue / lanes)
    return scalar, vector / fleet["efficiency"]


def _at(grid: Doubles, sizes: Floats, values: Floats) -> Floats:
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
    pages = _at(TLB_PAGES, fleet["tlb"], moved.pages) * WALK_VISIBLE * fleet["walk"] / ghz / threads
    first = np.where(fleet["tlb"] > MOST_PAGES, fleet["tlb"], fleet["first_tlb"])
    pages += _at(TLB_PAGES, first, moved.pages) * fleet["refill"] / ghz / threads
    l2 = s1 * LINE / fleet["l2_bandwidth"] + j1 * np.maximum(
        fleet["l2_latency"] / misses, LINE / fleet["l2_bandwidth"]
    )
    l3 = s2 * LINE / fleet["l3_bandwidth"] + j2 * np.maximum(
        fleet["l3_latency"] / misses, LINE / fleet["l3_bandwidth"]
    )
    l3 = np.where(missing, 0.0, l3) / np.minimum(threads, fleet["l3_scaling"])
    line_ns = LINE / fleet["memory_bandwidth"]
    memory = s3 * line_ns + j3 * np.maximum(fleet["memory_ns"] / misses, line_ns)
    memory = memory / np.minimum(threads, fleet["memory_scaling"])
    return _norm(fleet["pipelining"], l2 / ghz / threads, l3 / ghz, memory) + pages


def _threads(fork: Forks, fleet: Machines) -> Floats:
    """[r,m] how many times faster the threads of a parallel loop are together."""
    cores, trip = fleet["cores"], np.maximum(fork.trip[:, None], 1.0)
    busy = trip / np.ceil(np.round(trip / cores, 3))
    uneven = 1.0 + (fork.imbalance[:, None] - 1.0) * (1.0 - 1.0 / cores)
    speed = np.maximum(np.minimum(busy, cores) ** fleet["scaling"] / uneven, 1.0)
    return np.where(fork.parallel[:, None], speed, 1.0).astype(np.float32)


def _forking(
    table: NestTable, rows: SimulatedRows, fork: Forks, plain: Inner, fleet: Machines
) -> Floats:
    """[r,m] nanoseconds to start and join threads, and for lines they fight over."""
    cores = fleet["cores"]
    start = np.where(cores > 1, fleet["fork_us"] + fleet["fork_core_us"] * cores, ALONE_US) * 1e3
    chunk = np.maximum(fork.trip[:, None] / cores, 1.0)
    shared = np.clip(LINE / np.maximum(fork.step[:, None] * chunk, 1.0) - 1.0, 0.0, 1.0)
    stored = plain.store_unit + plain.store_far  # none where the sum is kept in a register
    count = table.instances[rows.program, rows.place]
    stores = np.where(stored > 0, stored * count, plain.starts)[:, None].astype(np.float32)
    fights = np.where(cores > 1, FIGHT * shared * stores * fleet["sharing"] / fleet["ghz"], 0.0)
    costs = fork.starts[:, None] * start + fights / cores
    return np.asarray(np.where(fork.parallel[:, None], costs, 0.0), np.float32)
