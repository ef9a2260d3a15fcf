"""Timings of one machine as a Parquet file: what ``bundles measure`` writes and models learn from.

A row is a version of a program with its time. The table's metadata says which machine and
toolchain it was (never whose): see ``Target``. Features may be in the file (column ``features``);
where they are not, the programs are read again from their C in column ``source`` (``programs``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from agent.arrays import Bools, Doubles, Indices, Singles, Texts
from agent.errors import AgentError
from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION
from agent.loopnest.schedules.schedule import ORIGINAL
from bundles.labels.programs import FIXED, ProgramSource, features_again
from bundles.labels.repeats import label_sd, label_sd_for_a_repeat
from bundles.labels.target import RIGHT, Target

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 1
META = b"calibration-agent"
Z80 = 1.2815515655446004
MOST_ROWS = 5_000_000
SHORTEST_S, LONGEST_S = 1e-9, 1e5
TEST_TENTHS = 3
REQUIRED = ("program", "family", "schedule", "seconds", "log_speedup", "low", "high")
Row = Mapping[str, str | int | float]
Columns = Mapping[str, npt.NDArray[np.generic]]


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
        sd: [n] of a label another time, log units (``repeats``); of the program as written: of
            its seconds.
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

    @property
    def test(self) -> Bools:
        """[n] whether a row's program is kept for testing; kernels of the fixed set never are."""
        test = np.zeros(len(self), np.bool_)
        test[~self.fixed] = is_test(self.program[~self.fixed])
        return test

    def take(self, rows: Indices | Bools) -> Labels:
        """The given rows (indices or a mask)."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "target"}
        return replace(self, **arrays)

    @property
    def base(self) -> Indices:
        """[n] the row of the program as written of each row."""
        where = {name: i for i, name in enumerate(self.program) if self.schedule[i] == ORIGINAL}
        return np.array([where[name] for name in self.program], np.intp)


def write_labels(path: Path, target: Target, rows: Sequence[Row] | Columns) -> None:
    """Write rows (columns of ``REQUIRED`` and more) whole or not at all.

    ``rows`` are mappings, or one mapping of columns: arrays [n], or [n, k] for lists of length k.
    """
    import pyarrow as pa

    about = {"schema": SCHEMA, "features_version": FEATURES_VERSION, "target": asdict(target)}
    if isinstance(rows, Mapping):
        table = pa.table({name: _column(values) for name, values in rows.items()})
    else:
        table = pa.table({name: pa.array([row[name] for row in rows]) for name in rows[0]})
    write_table(path, table.replace_schema_metadata({META: json.dumps(about).encode()}))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table of labels whole or not at all."""
    import pyarrow.parquet as pq

    staged = path.with_name(f".{path.name}.new")
    pq.write_table(table, staged, compression="zstd")
    with staged.open("rb+") as file:
        os.fsync(file.fileno())
    staged.replace(path)


def _column(values: npt.NDArray[np.generic]) -> pa.Array:
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def load_labels(path: Path, processes: int = 2) -> Labels:
    """Read and check a file of labels; features are made again where it holds none.

    Raises:
        AgentError: it cannot be read, lacks a column, holds times that cannot be, was made for
            another version of the features, or its programs are not those of this version.
    """
    table = read_table(path)
    try:
        return _checked(table, processes)
    except AgentError as error:
        raise AgentError(f"{path} cannot be used: {error.message}", error.hint) from error


def read_table(path: Path) -> pa.Table:
    """A Parquet file as it is; AgentError where it is none."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise AgentError(
            f"there is no file {path}", "Label files are written by `bundles measure`."
        )
    try:
        return pq.read_table(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise AgentError(f"cannot read {path}: {str(error)[:200]}", RIGHT) from error


def target_of_table(table: pa.Table) -> Target:
    """The target that a table of labels says it is of; AgentError where it does not."""
    return Target.from_json(_about(table).get("target"))


def _checked(table: pa.Table, processes: int) -> Labels:
    if missing := [name for name in REQUIRED if name not in table.column_names]:
        raise AgentError(f"it has no column {', '.join(missing)}", RIGHT)
    if not 0 < table.num_rows <= MOST_ROWS:
        raise AgentError(f"it has {table.num_rows} rows; 1 to {MOST_ROWS} are read", RIGHT)
    target = target_of_table(table)
    program, family, schedule = (_texts(table, name) for name in REQUIRED[:3])
    times = {name: _numbers(table, name) for name in REQUIRED[3:]}
    good = np.broadcast_to(_texts(table, "outcome", "ok") == "ok", table.num_rows)
    _check_times(times, good)
    rows = np.flatnonzero(good & _with_base(program, schedule, good))
    if not len(rows):
        raise AgentError("it has no program with a usable time as written", RIGHT)
    made, log_work = _features(table, rows, processes)
    return Labels(
        target=target,
        program=program[rows],
        family=family[rows],
        schedule=schedule[rows],
        fixed=np.broadcast_to(_texts(table, "corpus", "")[rows] == FIXED, len(rows)),
        seconds=times["seconds"][rows],
        log_speedup=times["log_speedup"][rows],
        sd=_sd(table, (times["high"] - times["low"]) / (2 * Z80), schedule, target)[rows],
        work=log_work,
        features=made,
    )


def _sd(table: pa.Table, within: Doubles, schedule: Texts, target: Target) -> Doubles:
    """[n] of labels another time, from those within their session."""
    if "sharing" in table.column_names:
        return label_sd_for_a_repeat(within, schedule, _texts(table, "sharing"))
    return label_sd(within, schedule, target.threads)


def _about(table: pa.Table) -> Mapping[str, object]:
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


def _texts(table: pa.Table, name: str, otherwise: str | None = None) -> Texts:
    """[n] a column of words; where there may be none, ``otherwise`` in rows without."""
    if otherwise is None:
        return np.asarray(table[name].to_pylist()).astype(np.str_)
    if name not in table.column_names:
        return np.full(table.num_rows, otherwise)
    return np.asarray([otherwise if x is None else x for x in table[name].to_pylist()], np.str_)


def _numbers(table: pa.Table, name: str) -> Doubles:
    found = np.asarray(table[name].to_pylist())
    if found.dtype.kind not in "fiu":
        raise AgentError(f"column {name} does not hold numbers in every row", RIGHT)
    return found.astype(np.float64)


def _check_times(times: Mapping[str, Doubles], good: Bools) -> None:
    seconds = times["seconds"][good]
    wrong = ~((seconds >= SHORTEST_S) & (seconds <= LONGEST_S))
    if wrong.any():
        raise AgentError(f"a time of {seconds[wrong][0]} s cannot be", RIGHT)
    others = np.stack([times[n][good] for n in ("log_speedup", "low", "high")])
    if not np.isfinite(others).all() or np.abs(others).max(initial=0) > 50:
        raise AgentError("a log speed-up or an end of its interval is not a usable number", RIGHT)


def _with_base(program: Texts, schedule: Texts, good: Bools) -> Bools:
    """[n] rows of programs with exactly one usable time of the program as written."""
    usable = list(zip(program[good], schedule[good], strict=True))
    if len(set(usable)) != len(usable):
        raise AgentError("a program has the same schedule twice", RIGHT)
    have = {name for name, text in usable if text == ORIGINAL}
    return np.array([name in have for name in program], np.bool_)


def _features(table: pa.Table, rows: Indices, processes: int) -> tuple[Singles, Doubles]:
    """Features [k, F] and log work [k] of the rows: as they are in the file, or made again."""
    if "features" in table.column_names:
        return _stored_features(table, rows)
    known, texts = sources_of(table), table["schedule"].to_pylist()
    return features_again(((known[row], texts[row]) for row in rows), processes)


def sources_of(table: pa.Table) -> list[ProgramSource]:
    """[n] what each row says of its program; AgentError where none could be made again of it."""
    if missing := [n for n in ("corpus", "seed", "number") if n not in table.column_names]:
        raise AgentError(f"it has neither features nor the column {missing[0]}", RIGHT)
    names, c = ("program", "corpus", "seed", "number", "family"), _sources(table)
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return [ProgramSource(*row)._replace(source=c.get(row[0], "")) for row in rows]


def _sources(table: pa.Table) -> dict[str, str]:
    """The C of each program, where the file holds it: in the row of the program as written."""
    if "source" not in table.column_names:
        return {}
    pairs = zip(table["program"].to_pylist(), table["source"].to_pylist(), strict=True)
    return {str(name): str(text) for name, text in pairs if text}


def _stored_features(table: pa.Table, rows: Indices) -> tuple[Singles, Doubles]:
    if "work" not in table.column_names:
        raise AgentError("it has features but no column work", RIGHT)
    flat = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    made = flat.astype(np.float32).reshape(table.num_rows, -1)[rows]
    log_work = np.asarray(table["work"].to_pylist(), np.float64)[rows]
    finite = np.isfinite(made).all() and np.isfinite(log_work).all()
    if made.shape[1] != len(FEATURES) or not finite:
        raise AgentError(f"its features are not {len(FEATURES)} numbers a row", RIGHT)
    return made, log_work


def is_test(program: Texts) -> Bools:
    """[n] whether programs are kept for testing: three in ten, by their digests, for ever.

    No training, no tuning and no draw of labels ever uses one of them.
    """
    return np.array([int(name[:8], 16) % 10 < TEST_TENTHS for name in program], np.bool_)
