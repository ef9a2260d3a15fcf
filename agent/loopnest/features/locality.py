"""What the memory system sees of a nest: footprints, traffic, strides, sets and pages.

All analytic, from coefficients and average trip counts. A group's footprint under the inner m
loops is a box of subscript values; a cache keeps what one iteration of a loop touched until the
next one if the footprint of the loops inside fits (the working-set argument of Wolf and Lam,
PLDI 1991). Sizes are soft: what fits half-way counts half, so that no feature jumps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.arrays import Singles
from agent.loopnest.features.rows import StatementRows

LINE = 64.0
PAGE = 4096.0
KIB = 1024.0
CACHE_SIZES = tuple(
    k * KIB
    for k in (8, 16, 32, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 262144)
)
TLB_ENTRIES = (64.0, 1536.0)
# Sets of typical first, second and last level caches, their size and associativity.
SETS = ((64, 32 * KIB, 8.0), (1024, 1024 * KIB, 16.0), (16384, 16384 * KIB, 16.0))
STRIDE_CLASSES = ("none", "unit", "near", "far", "page", "power")
Columns = dict[str, Singles]


@dataclass(frozen=True)
class Footprints:
    """Distinct lines and pages under the inner 0..K loops: [K+1,Q] a group, and rows' bytes."""

    lines: Singles
    pages: Singles
    bytes: Singles  # [K+1,R], whole lines
    page_total: Singles  # [K+1,R]


def footprints(rows: StatementRows) -> Footprints:
    """Lines and pages touched by the inner 0, 1, ..., K loops."""
    dims, levels, size = rows.coef.shape
    lines = np.empty((levels + 1, size), np.float32)
    pages = np.empty((levels + 1, size), np.float32)
    trip = rows.trip[:, rows.row]
    reach = rows.span.copy()  # distance between the extreme values of each subscript
    distinct = np.minimum(rows.span + 1.0, np.maximum(rows.group, 1.0))
    lines[0], pages[0] = _box(rows, reach, distinct)
    for k in range(levels):
        more = np.maximum(trip[k] - 1.0, 0.0)
        for d in range(dims):
            step = rows.coef[d, k]
            reach[d] += step * more
            distinct[d] *= np.where(step > 0, trip[k], 1.0)
        lines[k + 1], pages[k + 1] = _box(rows, reach, distinct)
    return Footprints(lines, pages, rows.total(lines) * np.float32(LINE), rows.total(pages))


def _box(rows: StatementRows, reach: Singles, distinct: Singles) -> tuple[Singles, Singles]:
    """Lines and pages of a box of subscripts that reach so far in so many distinct values."""
    span = np.minimum(reach[0], rows.extent[0] - 1.0) * rows.element
    count = np.minimum(distinct[0], rows.extent[0])
    lines = np.minimum(count, span / LINE + 1.0)
    pages = np.minimum(count, span / PAGE + 1.0)
    for d in range(1, len(reach)):
        span = span + np.minimum(reach[d], rows.extent[d] - 1.0) * rows.row_bytes[d]
        count = np.minimum(np.minimum(distinct[d], reach[d] + 1.0), rows.extent[d])
        lines = np.minimum(lines * count, span / LINE + 1.0)
        pages = np.minimum(pages * count, span / PAGE + 1.0)
    return np.maximum(lines, 1.0), np.maximum(pages, 1.0)


def moved_units(rows: StatementRows, units: Singles, held: Singles, sizes: Singles) -> Singles:
    """[Z,Q] lines (or pages) brought into caches of ``sizes`` in one run of each nest.

    Args:
        rows: the nests.
        units: [K+1,Q] distinct lines under the inner 0..K loops.
        held: [K+1,R] or [Z,K+1,R] what those loops touch, in the measure of ``sizes``.
        sizes: [Z] capacities.
    """
    trip = rows.trip[:, rows.row]
    logs = np.log2(sizes)[:, None]
    need = np.log2(np.maximum(held, 1.0))
    per_size = need if need.ndim == 3 else need[None]
    moved = np.repeat(units[1][None], len(sizes), axis=0)
    for k in range(1, rows.levels):
        fits = np.clip((logs - per_size[:, k] + 1.0) * 0.5, 0.0, 1.0)
        keeps = np.where(k < rows.depth, fits, 0.0).astype(np.float32)[:, rows.row]
        moved *= trip[k]
        moved += keeps * (units[k + 1] - moved)
    return moved


def traffic_columns(rows: StatementRows, feet: Footprints) -> Columns:
    """Bytes an instance moves into 16 cache sizes, stores at four of them, and page walks."""
    per = (1.0 / rows.instances).astype(np.float32)
    sizes = np.array(CACHE_SIZES, np.float32)
    moved = moved_units(rows, feet.lines, feet.bytes, sizes)
    total = rows.total(moved)
    columns: Columns = {}
    for z, name in enumerate(_names(CACHE_SIZES)):
        columns[f"traffic_{name}"] = log_of(total[z] * LINE * per, 2.0**-10)
    written = rows.total(moved[[2, 8, 12, 14]] * rows.stores)
    for z, index in enumerate((2, 8, 12, 14)):
        name = _names(CACHE_SIZES)[index]
        columns[f"written_{name}"] = log_of(written[z] * LINE * per, 2.0**-10)
    walks = rows.total(
        moved_units(rows, feet.pages, feet.page_total, np.array(TLB_ENTRIES, np.float32))
    )
    for z, entries in enumerate(TLB_ENTRIES):
        columns[f"page_walks_{entries:.0f}"] = log_of(walks[z] * per, 2.0**-14)
    return columns


def _names(sizes: tuple[float, ...]) -> list[str]:
    return [f"{s / KIB:.0f}k" if s < KIB * KIB else f"{s / KIB / KIB:.0f}m" for s in sizes]


def working_set_columns(rows: StatementRows, feet: Footprints) -> Columns:
    """Bytes, pages and lines of the inner 1, 2, 3, 4 loops and of the whole nest."""
    columns: Columns = {}
    last = rows.levels
    for m in (1, 2, 3, 4):
        level = min(m, last)
        columns[f"bytes_inner_{m}"] = np.log2(feet.bytes[level] + 1.0)
        if m < 4:
            columns[f"pages_inner_{m}"] = np.log2(feet.page_total[level] + 1.0)
            columns[f"largest_inner_{m}"] = np.log2(rows.most(feet.lines[level]) + 1.0)
    columns["bytes_nest"] = np.log2(feet.bytes[last] + 1.0)
    columns["pages_nest"] = np.log2(feet.page_total[last] + 1.0)
    columns["bytes_stored_nest"] = np.log2(rows.total(feet.lines[last] * rows.stores) * LINE + 1.0)
    columns["bytes_arrays"] = np.log2(rows.total(rows.array_bytes) + 1.0)
    columns["line_use_inner_1"] = _line_use(rows, feet)
    return columns


def _line_use(rows: StatementRows, feet: Footprints) -> Singles:
    """Part of the bytes of the lines touched by the innermost loop that it uses."""
    moving = rows.coef[:, 0].sum(axis=0) > 0
    trips = rows.trip[0, rows.row]
    used = np.where(moving, trips * rows.group, rows.group) * rows.element
    share = np.minimum(used / (feet.lines[1] * LINE), 1.0).astype(np.float32)
    groups = np.maximum(rows.total(np.ones_like(share)), 1.0)
    return np.divide(rows.total(share), groups, dtype=np.float32)


def stride_columns(rows: StatementRows) -> Columns:
    """How many loads and stores have a stride of each class along the three innermost loops."""
    columns: Columns = {}
    kinds = np.empty((3, len(STRIDE_CLASSES), len(rows.row)), np.float32)
    for k in range(3):
        step = np.abs(rows.stride[k])
        low_bit = step & -step
        kinds[k, 0] = step == 0
        kinds[k, 1] = step == rows.element
        kinds[k, 2] = (step < LINE) & (step > 0) & (step != rows.element)
        kinds[k, 3] = (step >= LINE) & (step < PAGE)
        kinds[k, 4] = step >= PAGE
        kinds[k, 5] = low_bit >= 512
    loads, stores = rows.total(kinds * rows.loads), rows.total(kinds * rows.stores)
    for k in range(3):
        for c, name in enumerate(STRIDE_CLASSES):
            columns[f"loads_{name}_{k}"] = np.log2(loads[k, c] + 1.0)
            columns[f"stores_{name}_{k}"] = stores[k, c]
    return columns


def set_columns(rows: StatementRows, feet: Footprints) -> Columns:
    """Pressure on the sets of three caches, and the traffic it causes.

    The addresses ``s, 2s, ..., ns`` touch at most ``sets * 64 / gcd(s, sets * 64)`` sets; with a
    power-of-two number of sets the gcd is the lowest bit of the stride. That is exact for one
    loop and an upper bound for several, without walking any address.
    """
    columns: Columns = {}
    per = (1.0 / rows.instances).astype(np.float32)
    clean = np.maximum(feet.lines, 1.0)
    for (sets, size, ways), name in zip(SETS, ("l1", "l2", "l3"), strict=True):
        touched = _sets_touched(rows, sets)
        need = clean / touched  # lines that meet in one set
        excess = np.maximum(need / np.maximum(clean / sets, 1.0), 1.0)
        penalty = np.maximum(excess * np.minimum(need / ways, 1.0), 1.0).astype(np.float32)
        for m in (1, 2, 3):
            columns[f"set_lines_{name}_{m}"] = np.log2(rows.most(need[m]) + 1.0)
            columns[f"set_excess_{name}_{m}"] = np.log2(rows.most(penalty[m]) + 1.0) - 1.0
        held = rows.total(clean * penalty) * np.float32(LINE)
        moved = rows.total(moved_units(rows, feet.lines, held, np.array([size], np.float32)))
        columns[f"traffic_sets_{name}"] = log_of(moved[0] * LINE * per, 2.0**-10)
    return columns


def _sets_touched(rows: StatementRows, sets: int) -> Singles:
    """[K+1,Q] distinct sets that the lines under the inner 0..K loops fall into, at most."""
    levels, size = rows.stride.shape
    period = sets * int(LINE)
    trip = rows.trip[:, rows.row]
    out = np.ones((levels + 1, size), np.float32)
    for k in range(levels):
        step = np.abs(rows.stride[k])
        low_bit = np.clip(step & -step, int(LINE), period)
        jumps = np.minimum(trip[k], (period // low_bit).astype(np.float32))
        runs = 1.0 + np.maximum(trip[k] - 1.0, 0.0) * step / np.float32(LINE)
        factor = np.where(step >= LINE, jumps, np.where(step > 0, runs, 1.0))
        out[k + 1] = np.minimum(out[k] * np.maximum(factor, 1.0), sets)
    return out


def log_of(values: Singles, floor: float) -> Singles:
    """log2 of values that may be 0, from ``floor`` up."""
    return np.log2(np.maximum(values, floor)).astype(np.float32, copy=False)
