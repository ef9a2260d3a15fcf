"""Timings of one machine as a Parquet file: what ``bundles measure`` writes and models learn from.

A row is a version of a program with its time. The table's metadata says which machine and
toolchain it was (never whose): see ``Target``. Features may be in the file (column ``features``);
where they are not, the programs are made again from the corpus's seed and number, or the fixed
set's name, and must come out as they were (``digest``).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Doubles, Indices, Singles, Texts
from agent.errors import AgentError
from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.emitter.emit import emit
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION, features, work
from agent.loopnest.program import Program
from agent.loopnest.schedules.schedule import ORIGINAL, parse_schedule
from agent.loopnest.schedules.transform import apply
from agent.model.facts import facts_of
from bundles.corpus.corpus import random_program
from bundles.workers import WorkerDiedError, in_order

SCHEMA = 1
META = b"calibration-agent"
Z80 = 1.2815515655446004
LEAST_SD, MOST_SD = 0.005, 1.0
MOST_ROWS = 5_000_000
SHORTEST_S, LONGEST_S = 1e-9, 1e5
TEST_TENTHS = 3
BATCH = 25  # programs a job of a worker
FIXED = "fixed"  # corpus of the rows whose program is a kernel of the fixed set
REQUIRED = ("program", "family", "schedule", "seconds", "log_speedup", "low", "high")
RIGHT = "The columns are described in docs/reference/labels.md."


@dataclass(frozen=True)
class Target:
    """What a set of labels speaks for: a class of machine and a toolchain, never a machine's name.

    Attributes:
        name: of the target, such as ``gcc-O3-native-t2``.
        machine: targets with the same one share their silicon (``zen5-vm``).
        architecture: such as ``x86_64``; ``level``: such as ``x86-64-v4``.
        simd_bytes: widest vectors that the *compiled code* may use.
        threads: that parallel loops use.
        l1, l2, l3: bytes of the caches, 0 where there is none or none is known.
        virtual: whether it is a virtual machine.
        compiler: family: ``gcc``, ``clang`` or another word.
        version: of the compiler; ``flags``: of every compilation.
    """

    name: str
    machine: str
    architecture: str
    level: str
    simd_bytes: int
    threads: int
    l1: int
    l2: int
    l3: int
    virtual: bool
    compiler: str
    version: str
    flags: tuple[str, ...]

    @property
    def facts(self) -> Doubles:
        """[f] what is known of the target without timing it (``agent.model.facts``)."""
        caches = {1: self.l1, 2: self.l2, 3: self.l3}
        return facts_of(self.simd_bytes, self.threads, caches, self.compiler, self.flags)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what ``asdict`` gave; AgentError where a field is missing or of another type."""
        try:
            assert isinstance(data, dict)  # noqa: S101  turned into an AgentError below
            values = {f.name: data[f.name] for f in fields(cls)}
            for f in fields(cls):
                wanted = {"int": int, "bool": bool, "str": str}.get(str(f.type), list)
                if not isinstance(values[f.name], wanted):
                    raise TypeError(f.name)
            return cls(**{**values, "flags": tuple(map(str, values["flags"]))})
        except (AssertionError, KeyError, TypeError) as error:
            raise AgentError(
                f"its description of the machine lacks a proper {error}", RIGHT
            ) from error


@dataclass(frozen=True, eq=False)
class Labels:
    """The usable labels of one target; the program as written is the row ``original``.

    Attributes:
        target: the machine and toolchain.
        program: [n] digest of the program's meaning; rows of one program stand together.
        family: [n] what kind of program it is.
        schedule: [n] the transformations, as text.
        fixed: [n] whether the program is of the agent's fixed set (else: an unseen program).
        seconds: [n]; ``log_speedup``: [n] paired, over the program as written.
        sd: [n] of a label, log units, from its interval.
        work: [n] log work of the program (``agent.loopnest.features.vector.work``).
        features: [n, F].
    """

    target: Target
    program: Texts
    family: Texts
    schedule: Texts
    fixed: Bools
    seconds: Doubles
    log_speedup: Doubles
    sd: Doubles
    work: Doubles
    features: Singles

    def __len__(self) -> int:
        return len(self.program)

    def take(self, rows: npt.NDArray[Any]) -> Labels:
        """The given rows (indices or a mask)."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "target"}
        return replace(self, **arrays)

    @property
    def base(self) -> Indices:
        """[n] the row of the program as written of each row."""
        where = {name: i for i, name in enumerate(self.program) if self.schedule[i] == ORIGINAL}
        return np.array([where[name] for name in self.program], np.intp)


def digest(program: Program) -> str:
    """What identifies a program: the C it is written as."""
    return hashlib.sha256(emit(program).encode()).hexdigest()[:24]


@cache
def corpus_program(seed: int, number: int) -> Program:
    """The program of that number in the labelled corpus of a seed."""
    return random_program(random.Random(f"labels/{seed}/{number}"))


def write_labels(
    path: Path,
    target: Target,
    rows: Sequence[Mapping[str, Any]] | Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write rows (columns of ``REQUIRED`` and more) whole or not at all.

    ``rows`` are mappings, or one mapping of columns: arrays [n], or [n, k] for lists of length k.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(values: Any) -> Any:
        if not isinstance(values, np.ndarray) or values.ndim == 1:
            return pa.array(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])

    about = {"schema": SCHEMA, "features_version": FEATURES_VERSION, "target": asdict(target)}
    given = rows if isinstance(rows, Mapping) else {k: [r[k] for r in rows] for k in rows[0]}
    table = pa.table({name: column(values) for name, values in given.items()})
    table = table.replace_schema_metadata({META: json.dumps(about).encode()})
    staged = path.with_name(f".{path.name}.new")
    pq.write_table(table, staged, compression="zstd")
    with staged.open("rb+") as file:
        os.fsync(file.fileno())
    staged.replace(path)


def load_labels(path: Path, processes: int = 2) -> Labels:
    """Read and check a file of labels; features are made again where it holds none.

    Raises:
        AgentError: it cannot be read, lacks a column, holds times that cannot be, was made for
            another version of the features, or its programs are not those of this version.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise AgentError(f"cannot read {path}: {str(error)[:200]}", RIGHT) from error
    try:
        return _checked(table, processes)
    except AgentError as error:
        raise AgentError(f"{path} cannot be used: {error.message}", error.hint) from error


def _checked(table: Any, processes: int) -> Labels:
    if missing := [name for name in REQUIRED if name not in table.column_names]:
        raise AgentError(f"it has no column {', '.join(missing)}", RIGHT)
    if not 0 < table.num_rows <= MOST_ROWS:
        raise AgentError(f"it has {table.num_rows} rows; 1 to {MOST_ROWS} are read", RIGHT)
    target = Target.from_json(_about(table).get("target"))
    columns = {name: np.asarray(table[name].to_pylist()) for name in REQUIRED}
    outcome = np.asarray(table["outcome"].to_pylist()) if "outcome" in table.column_names else "ok"
    good = np.broadcast_to(outcome == "ok", table.num_rows)
    _check_numbers(columns, good)
    rows = np.flatnonzero(good & _with_base(columns, good))
    if not len(rows):
        raise AgentError("it has no program with a usable time as written", RIGHT)
    made = _features(table, columns, rows, processes)
    picked = {name: value[rows] for name, value in columns.items()}
    kind = np.asarray(table["corpus"].to_pylist())[rows] if "corpus" in table.column_names else ""
    spread = (picked["high"] - picked["low"]).astype(np.float64) / (2 * Z80)
    return Labels(
        target=target,
        program=picked["program"].astype(np.str_),
        family=picked["family"].astype(np.str_),
        schedule=picked["schedule"].astype(np.str_),
        fixed=np.broadcast_to(kind == FIXED, len(rows)),
        seconds=picked["seconds"].astype(np.float64),
        log_speedup=picked["log_speedup"].astype(np.float64),
        sd=np.clip(spread, LEAST_SD, MOST_SD),
        work=made[1],
        features=made[0],
    )


def _about(table: Any) -> dict[str, Any]:
    try:
        about = json.loads((table.schema.metadata or {})[META])
    except (KeyError, ValueError) as error:
        raise AgentError("it does not say which machine it was measured on", RIGHT) from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise AgentError(f"its schema is not {SCHEMA}", RIGHT)
    if "features" in table.column_names and about.get("features_version") != FEATURES_VERSION:
        made = str(about.get("features_version"))[:40]
        raise AgentError(
            f"its features are of version {made}; this is version {FEATURES_VERSION}",
            "Write it again without the column `features`, or measure again.",
        )
    return about


def _check_numbers(columns: Mapping[str, npt.NDArray[Any]], good: Bools) -> None:
    for name in ("seconds", "log_speedup", "low", "high"):
        if columns[name].dtype.kind not in "fiu":
            raise AgentError(f"column {name} does not hold numbers in every row", RIGHT)
    seconds = columns["seconds"][good]
    wrong = ~((seconds >= SHORTEST_S) & (seconds <= LONGEST_S))
    if wrong.any():
        raise AgentError(f"a time of {seconds[wrong][0]} s cannot be", RIGHT)
    others = np.stack([columns[n][good] for n in ("log_speedup", "low", "high")])
    if not np.isfinite(others).all() or np.abs(others).max(initial=0) > 50:
        raise AgentError("a log speed-up or an end of its interval is not a usable number", RIGHT)


def _with_base(columns: Mapping[str, npt.NDArray[Any]], good: Bools) -> Bools:
    """[n] rows of programs with exactly one usable time of the program as written."""
    pairs = list(zip(columns["program"], columns["schedule"], strict=True))
    usable = [pair for pair, ok in zip(pairs, good, strict=True) if ok]
    if len(set(usable)) != len(usable):
        raise AgentError("a program has the same schedule twice", RIGHT)
    have = {program for program, schedule in usable if schedule == ORIGINAL}
    return np.array([program in have for program, _ in pairs], np.bool_)


def _features(
    table: Any,
    columns: Mapping[str, npt.NDArray[Any]],
    rows: Indices,
    processes: int,
) -> tuple[Singles, Doubles]:
    """Features [k, F] and log work [k] of the rows."""
    if "features" in table.column_names:
        if "work" not in table.column_names:
            raise AgentError("it has features but no column work", RIGHT)
        flat = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        made = flat.astype(np.float32).reshape(table.num_rows, -1)[rows]
        work_ = np.asarray(table["work"].to_pylist(), np.float64)[rows]
        if (
            made.shape[1] != len(FEATURES)
            or not np.isfinite(made).all()
            or not np.isfinite(work_).all()
        ):
            raise AgentError(f"its features are not {len(FEATURES)} numbers a row", RIGHT)
        return made, work_
    if missing := [n for n in ("corpus", "seed", "number") if n not in table.column_names]:
        raise AgentError(f"it has neither features nor the column {missing[0]}", RIGHT)
    source = zip(
        columns["program"][rows].tolist(),
        np.asarray(table["corpus"].to_pylist())[rows].tolist(),
        np.asarray(table["seed"].to_pylist())[rows].tolist(),
        np.asarray(table["number"].to_pylist())[rows].tolist(),
        columns["family"][rows].tolist(),
        columns["schedule"][rows].tolist(),
        strict=True,
    )
    jobs = [(key, [r[5] for r in group]) for key, group in groupby(source, key=lambda r: r[:5])]
    batches = [(jobs[i : i + BATCH],) for i in range(0, len(jobs), BATCH)]
    workers = processes if len(batches) > 4 else 1
    try:
        parts = list(chain.from_iterable(in_order(_all_rebuilt, batches, workers)))
    except WorkerDiedError as error:
        what = "a process that made its programs again was killed"
        raise AgentError(what, "Memory may be short: free some, then try again.") from error
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _all_rebuilt(jobs: Sequence[Any]) -> list[tuple[Singles, Doubles]]:
    return list(map(_rebuilt, jobs))


def _rebuilt(
    job: tuple[tuple[str, str, int, int, str], list[str]],
) -> tuple[Singles, Doubles]:
    """Features and log work of a program's versions, the program made again and recognised."""
    (name, corpus, seed, number, family), schedules = job
    program = _kernel(family) if corpus == FIXED else corpus_program(seed, number)
    if digest(program) != name:
        raise AgentError(
            f"program {number} of its corpus is another one in this version",
            "Measure again with this version, or evaluate with the version that measured.",
        )
    versions = []
    for text in schedules:
        version = program
        for step in parse_schedule(text).steps:
            version = apply(version, step)
        versions.append(version)
    table = lower(versions)
    return features(table), np.full(len(versions), float(work(lower([program]))[0]))


def _kernel(name: str) -> Program:
    found = {k.name: k for k in kernels()}
    if name not in found:
        raise AgentError(f"the fixed set has no kernel {name!r} in this version", "Measure again.")
    return load_kernel(found[name])


def is_test(program: Texts) -> Bools:
    """[n] whether programs are kept for testing: three in ten, by their digests, for ever.

    No training, no tuning and no draw of labels ever uses one of them.
    """
    return np.array([int(name[:8], 16) % 10 < TEST_TENTHS for name in program], np.bool_)
