"""The tokens of programs under schedules, and labels beside them: what a nest reader learns from.

A statement, each loop around it, and each group of its accesses in each of these loops, all after
the schedule: what the features are computed from (``agent.loopnest.features.nest``), as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from agent.arrays import Array, Indices, Ints, Singles, Texts
from agent.loopnest.features.nest import LOOPS, NestTable, lower
from agent.loopnest.features.rows import flatten
from agent.loopnest.features.vector import FEATURES_VERSION, features, work
from agent.loopnest.program import Program
from agent.loopnest.schedules.schedule import ORIGINAL
from bundles.labels.labels import read_table, sources_of, target_of_table
from bundles.labels.programs import FIXED, ProgramSource, program_of, scheduled
from bundles.labels.target import Target

DIMS = 4  # of an array, of which the spread of a group of accesses is told
LINE = 64  # bytes
AT_ONCE = 100  # programs


@dataclass(frozen=True)
class Nests:
    """The tokens of n versions: R statements and Q groups of accesses, those of one together.

    Attributes:
        version: [R] ascending; row: [Q] the statement of a group of accesses, ascending.
        depth: [R] loops around the statement; number: [R,L] equal where two share the loop.
        share: [R] of the work.
        statement: [R,s] operations by kind, types, executions; access: [Q,a] of one in any loop.
        loop: [R,L,l] trips, marks and place of the loops, outermost first, 0 where there is none.
        step: [Q,L,c] how an access moves in one step of each loop.
    """

    version: Indices
    row: Indices
    depth: Ints
    number: Ints
    share: Singles
    statement: Singles
    access: Singles
    loop: Singles
    step: Singles

    def take(self, versions: Indices) -> Nests:
        """Some of the versions, in the order that is asked for."""
        rows, version = _spread(self.version, versions)
        groups, row = _spread(self.row, rows)
        of_rows = {f: getattr(self, f)[rows] for f in ("depth", "number", "share", "statement")}
        entries = {f: getattr(self, f)[groups] for f in ("access", "step")}
        return Nests(version=version, row=row, loop=self.loop[rows], **of_rows, **entries)


def _spread(owner: Indices, wanted: Indices) -> tuple[Indices, Indices]:
    """[k] places in ascending ``owner`` [n] of what ``wanted`` own, and [k] the number of each."""
    first, end = (np.searchsorted(owner, wanted, side) for side in ("left", "right"))
    count = end - first
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return place + np.repeat(first, count), np.repeat(np.arange(len(wanted)), count)


def nests(table: NestTable) -> Nests:
    """The tokens of lowered programs."""
    rows = flatten(table)
    level = rows.depth[:, None] - 1 - np.arange(LOOPS)  # [R, L] from the innermost; < 0: none

    def outermost_first(values: Array, entry: Indices | None = None) -> Singles:
        place = level if entry is None else level[entry]
        found = values.T[np.arange(len(place))[:, None], np.clip(place, 0, len(values) - 1)]
        return np.where(place >= 0, found, 0).astype(np.float32)

    trip = outermost_first(np.log(rows.trip))
    around = np.cumsum(trip, axis=1) - trip
    marks = [np.log2(rows.unroll), np.log2(rows.jam), np.log(rows.imbalance)]
    marks += [rows.parallel, rows.vector, rows.reduction, rows.recurrence]
    inside = trip.sum(axis=1, keepdims=True) - around - trip
    loop = [trip, around, inside, np.maximum(level, 0), level == 0, *map(outermost_first, marks)]
    statement = [np.log1p(o) for o in rows.ops]
    statement += [np.log1p(rows.float_bytes), np.log1p(rows.lane_bytes), rows.float_target]
    statement += [np.log(rows.instances), rows.share, rows.depth]
    access = [np.log2(rows.element), np.log(rows.array_bytes), np.log1p(rows.loads)]
    access += [rows.stores, np.log1p(rows.group), *_padded(list(np.log1p(rows.span)), DIMS)]
    size = np.abs(rows.stride)
    steps = [np.sign(rows.stride) * np.log1p(size), size == 0, size == rows.element, size < LINE]
    steps.append(np.log2(np.maximum(size & -size, 1)))  # strides of powers of two share few sets
    at = np.flatnonzero(table.share.reshape(-1) > 0)
    return Nests(
        version=rows.program,
        row=rows.row,
        depth=rows.depth,
        number=table.loop_id.reshape(-1, LOOPS)[at].astype(np.int64),
        share=rows.share,
        statement=np.stack(statement, axis=-1).astype(np.float32),
        access=np.stack(access, axis=-1).astype(np.float32),
        loop=np.stack(loop, axis=-1).astype(np.float32),
        step=np.stack([outermost_first(s, rows.row) for s in steps], axis=-1),
    )


def _padded(columns: list[Singles], width: int) -> list[Singles]:
    return [*columns, *(np.zeros_like(columns[0]) for _ in range(width - len(columns)))]


def joined(parts: Sequence[Nests], versions: Sequence[int]) -> Nests:
    """One of several, which hold so many versions each."""
    arrays = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Nests)}
    for name, counts in (("version", versions), ("row", [len(p.version) for p in parts])):
        first = np.cumsum([0, *counts[:-1]])
        arrays[name] += np.repeat(first, [len(getattr(p, name)) for p in parts])
    return Nests(**arrays)


@dataclass(frozen=True)
class Data:
    """n versions with times on R targets; those of a program together, as written first.

    Attributes:
        targets: [R].
        program: [n] digests; base: [n] row of the program as written.
        seconds: [n, R] log seconds less log work, nan where there is no label.
        features: [n, F]; nests: of the n versions.
    """

    targets: tuple[Target, ...]
    program: Texts
    base: Indices
    seconds: Singles
    features: Singles
    nests: Nests


def read(paths: Sequence[Path], folder: Path) -> Data:
    """Random programs of label files, their features and tokens made once and kept in a folder."""
    sources: dict[str, ProgramSource] = {}
    labels: dict[str, dict[str, dict[int, float]]] = {}  # program, schedule, target: log seconds
    for target, path in enumerate(paths):
        table = read_table(path)
        names = ("schedule", "outcome", "seconds", "log_speedup")
        columns = zip(sources_of(table), *(table[n].to_pylist() for n in names), strict=True)
        rows = [r for r in columns if r[2] == "ok" and r[0].corpus != FIXED]
        base = {r[0].digest: float(np.log(r[3])) for r in rows if r[1] == ORIGINAL}
        for source, schedule, _, _, gain in rows:
            if source.digest in base:
                sources.setdefault(source.digest, source)
                versions = labels.setdefault(source.digest, {ORIGINAL: {}})
                versions.setdefault(schedule, {})[target] = base[source.digest] - gain
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in paths)).hexdigest()[:16]
    kept = folder / f"nests-{FEATURES_VERSION}-{digest}.npz"
    if not kept.exists():
        _make(kept, [(sources[name], list(versions)) for name, versions in labels.items()])
    made = np.load(kept)
    count = [len(versions) for versions in labels.values()]
    seconds = [[times.get(t, np.nan) for t in range(len(paths))]
               for versions in labels.values() for times in versions.values()]  # fmt: skip
    return Data(
        targets=tuple(target_of_table(read_table(path)) for path in paths),
        program=np.repeat(np.array(list(labels)), count),
        base=np.repeat(np.cumsum([0, *count[:-1]]), count),
        seconds=(np.array(seconds) - np.repeat(made["work"], count)[:, None]).astype(np.float32),
        features=made["features"],
        nests=Nests(**{f.name: made[f.name] for f in fields(Nests)}),
    )


def _make(kept: Path, wanted: Sequence[tuple[ProgramSource, list[str]]]) -> None:
    parts, seen, log_work, count = list[Nests](), list[Singles](), list[float](), list[int]()
    for start in range(0, len(wanted), AT_ONCE):
        versions = list[Program]()
        for source, schedules in wanted[start : start + AT_ONCE]:
            program = program_of(source)
            log_work.append(float(work(lower([program]))[0]))
            versions += [scheduled(program, text) for text in schedules]
        table = lower(versions)
        parts.append(nests(table))
        seen.append(features(table))
        count.append(len(versions))
        print(f"{start + AT_ONCE}/{len(wanted)} programs read", flush=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f.name: getattr(joined(parts, count), f.name) for f in fields(Nests)}
    np.savez(kept, features=np.concatenate(seen), work=np.array(log_work), **arrays)
