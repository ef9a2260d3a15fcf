"""Data sets on disk: arrays that need not fit in memory, filled shard by shard, resumable.

    data-<digest of the recipe and of the code>/
        recipe.json   features.npy   target.npy   family.npy   shards.txt

A shard is a run of rows. Its line in ``shards.txt``, number and digest of its rows, is written
after them; it counts only while its rows have that digest. So whatever was killed, half written
or damaged is made again, and nothing else is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

import agent
from agent.errors import BusyError, InputError
from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION
from agent.system.refused import lock_file
from bundles.files import write_whole
from bundles.training.dataset import (
    ARRAYS,
    SHARD,
    SPARE,
    Dataset,
    Maker,
    Progress,
    Recipe,
    shard_count,
    shard_rows,
)

DTYPES: dict[str, np.dtype[np.generic]] = {
    "features": np.dtype("<f4"),
    "target": np.dtype("<f4"),
    "family": np.dtype("<U16"),
}
JOURNAL = "shards.txt"
DRAWN_BY = (  # below the packages' own folder; labels: the targets that machines are drawn for
    "agent/loopnest/**/*.py",
    "bundles/corpus/*.py",
    "bundles/labels/target.py",
    "bundles/simulator/*.py",
    "bundles/training/dataset.py",
    "bundles/workers.py",
)
HINT = "Name another directory with --work DIR, or make room."


def digest_of(data: object) -> str:
    """Of anything that JSON can write."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def code_digest(paths: Iterable[Path]) -> str:
    """Of source files: data made by other code are other data."""
    return digest_of([(path.name, path.read_text()) for path in sorted(paths)])


def drawing_code() -> str:
    """Digest of the code that draws programs, computes features and simulates."""
    top = Path(agent.__file__).parent.parent
    return code_digest(path for pattern in DRAWN_BY for path in top.glob(pattern))


@contextmanager
def held_alone(work: Path) -> Iterator[None]:
    """Make the work directory and keep other runs out of it.

    Raises:
        InputError: it cannot be made or written.
        BusyError: another run uses it.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise InputError(f"cannot use {work}: {error.strerror}", HINT) from error
    with lock:
        try:
            lock_file(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, work)
        except BlockingIOError as error:
            raise BusyError(f"another run uses {work}", "Wait for it to end.") from error
        yield


def stored(recipe: Recipe, work: Path, make: Maker, progress: Progress | None = None) -> Dataset:
    """The data set of a recipe in the work directory; only the shards missing there are made.

    Raises:
        InputError: the directory cannot be written, or has too little room.
    """
    directory = work / f"data-{recipe_digest(recipe)[:16]}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _describe(recipe, directory)
        _fill(recipe, directory, make, progress)
    except OSError as error:
        raise InputError(f"cannot write {directory}: {error.strerror}", HINT) from error
    return data_on_disk(directory)


def data_on_disk(directory: Path) -> Dataset:
    """A data set that ``stored`` has made; its arrays stay on disk."""
    features, target, family = (
        np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS
    )
    return Dataset(features, target, family, origin=directory)


def recipe_digest(recipe: Recipe) -> str:
    """What tells data sets apart: the recipe and the code that follows it."""
    made_by = [SHARD, SPARE, FEATURES_VERSION, drawing_code()]
    return digest_of([asdict(recipe), *made_by])


def _describe(recipe: Recipe, directory: Path) -> None:
    """For people; nothing reads it."""
    told = {**asdict(recipe), "machines": len(recipe.machines), "code": drawing_code()}
    write_whole(directory / "recipe.json", json.dumps(told, indent=2).encode())


def _fill(recipe: Recipe, directory: Path, make: Maker, progress: Progress | None) -> None:
    with ExitStack() as stack:
        files = _files(recipe, directory, stack)
        _check_room(files, directory)
        for file in files:
            file.handle.truncate(file.size)  # or made longer; holes take no room
        whole = _whole(recipe, files, directory / JOURNAL)
        lines = "".join(f"{number} {digest}\n" for number, digest in whole.items())
        write_whole(directory / JOURNAL, lines.encode())
        missing = [n for n in range(shard_count(recipe)) if n not in whole]
        done = recipe.programs - sum(_length(recipe, n) for n in missing)
        journal = stack.enter_context((directory / JOURNAL).open("a"))
        for number, part in make(recipe, missing) if missing else ():
            _put(files, shard_rows(recipe, number).start, part)
            journal.write(f"{number} {_digest(_bytes(part, name) for name in ARRAYS)}\n")
            journal.flush()
            done += len(part)
            if progress:
                progress(done, recipe.programs)
        for file in files:
            os.fsync(file.handle.fileno())


@dataclass(frozen=True)
class _File:
    """An array on disk: where its rows start, and how many bytes one takes."""

    handle: IO[bytes]
    name: str
    offset: int
    row: int
    size: int


def _files(recipe: Recipe, directory: Path, stack: ExitStack) -> list[_File]:
    """The three arrays, made or with their headers mended; rows are left as they are."""
    p, v = recipe.programs, recipe.variants
    shapes = ((p, v, len(FEATURES)), (p, v, len(recipe.machines)), (p,))
    files = []
    for name, shape in zip(ARRAYS, shapes, strict=True):
        path = directory / f"{name}.npy"
        path.touch()
        handle = stack.enter_context(path.open("r+b"))
        header = {"descr": DTYPES[name].str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        row = math.prod(shape[1:]) * DTYPES[name].itemsize
        files.append(_File(handle, name, handle.tell(), row, handle.tell() + p * row))
    return files


def _check_room(files: list[_File], directory: Path) -> None:
    taken = sum(os.fstat(file.handle.fileno()).st_blocks * 512 for file in files)
    needed = sum(file.size for file in files) - taken
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise InputError(
            f"{directory} needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free", HINT
        )


def _whole(recipe: Recipe, files: list[_File], journal: Path) -> dict[int, str]:
    """Numbers and digests of the shards whose rows are as they were when they were written."""
    noted: dict[int, str] = {}
    lines = journal.read_text(errors="replace").splitlines() if journal.exists() else []
    for line in lines:
        number, _, digest = line.partition(" ")
        if number.isascii() and number.isdigit() and int(number) < shard_count(recipe):
            noted[int(number)] = digest
    return {n: d for n, d in noted.items() if _digest(_get(recipe, files, n)) == d}


def _length(recipe: Recipe, number: int) -> int:
    rows = shard_rows(recipe, number)
    return int(rows.stop - rows.start)


def _put(files: list[_File], first: int, part: Dataset) -> None:
    for file in files:
        file.handle.seek(file.offset + first * file.row)
        file.handle.write(_bytes(part, file.name))
        file.handle.flush()


def _get(recipe: Recipe, files: list[_File], number: int) -> Iterator[bytes]:
    rows = shard_rows(recipe, number)
    for file in files:
        file.handle.seek(file.offset + rows.start * file.row)
        yield file.handle.read((rows.stop - rows.start) * file.row)


def _digest(arrays: Iterable[bytes]) -> str:
    state = hashlib.sha256()
    for array in arrays:
        state.update(array)
    return state.hexdigest()


def _bytes(part: Dataset, name: str) -> bytes:
    """An array as it stands in its file."""
    array, dtype = getattr(part, name), DTYPES[name]
    if array.dtype.kind == "U" and array.dtype.itemsize > dtype.itemsize:
        raise ValueError(f"a family's name is longer than {dtype.itemsize // 4} letters")
    return np.ascontiguousarray(array, dtype).tobytes()
