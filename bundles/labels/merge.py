"""Label files of one target put together: what was timed here and there, now and then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.errors import AgentError, InputError
from bundles.labels.labels import read_table, target_of_table, write_table

if TYPE_CHECKING:
    import pyarrow as pa


def merge_labels(paths: Sequence[Path], out: Path) -> int:
    """Write the programs of all files to ``out``; returns how many.

    Of a program that stands in several files, the rows of the first are kept. Columns that only
    some files have are empty for the others.

    Raises:
        AgentError: a file cannot be read or written, or they are not all of one target.
    """
    import pyarrow as pa

    tables = [read_table(path) for path in paths]
    targets = [target_of_table(table) for table in tables]
    for path, target in zip(paths, targets, strict=True):
        if target != targets[0]:
            raise InputError(
                f"{path} is of {target.name}, {paths[0]} of {targets[0].name}, or they differ in "
                "what they say of the machine and its compiler",
                "Put together only files of one machine and toolchain.",
            )
    known: set[str] = set()
    parts = [_of_new_programs(table, known) for table in tables]
    merged = pa.concat_tables(parts, promote_options="default")
    try:
        write_table(out, merged.replace_schema_metadata(tables[0].schema.metadata))
    except OSError as error:
        raise InputError(
            f"cannot write {out}: {error.strerror or error}", "Choose --out."
        ) from error
    return len(known)


def _of_new_programs(table: pa.Table, known: set[str]) -> pa.Table:
    """The rows of programs that are not known yet; they are then."""
    if "program" not in table.column_names:
        raise AgentError("a label file has no column program", "Give files of `bundles measure`.")
    names = [str(name) for name in table["program"].to_pylist()]
    rows = np.flatnonzero([name not in known for name in names])
    known.update(names)
    return table.take(rows)
