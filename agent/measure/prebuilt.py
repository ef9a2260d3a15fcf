"""The fixed set without a compiler: executables that hold all of its programs.

A platform's wheel carries one for each level of instructions, and an index beside them that says
what is in them (``bundles/fixed_set/prebuild.py`` makes both). Timed with one of them, a
calibration speaks for the compiler it was built with, and for parallel loops on the harness's own
threads (pool.c).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent.errors import CompilerError
from agent.measure.cache import Cache
from agent.measure.machine import Machine
from agent.measure.toolchain import (
    HINT_INSTALL,
    PREBUILT_KIND,
    Toolchain,
    compiler_mark,
    find_toolchain,
)

PREBUILT = Path(__file__).parent.parent / "kernels" / "prebuilt"
INDEX = "index.json"
SCHEMA = 1
MAX_INDEX_BYTES = 256 << 10
MAX_EXECUTABLE_BYTES = 32 << 20
HINT_AGAIN = "Install the agent again from the wheel of this platform."


@dataclass(frozen=True, slots=True)
class Executable:
    """One level's executable.

    Attributes:
        sha256: of the file, which has the level's name.
        target: target triple of its code.
        flags: that every program was compiled with.
        vector_bytes: widest vectors of its code.
    """

    sha256: str
    target: str
    flags: tuple[str, ...]
    vector_bytes: int


@dataclass(frozen=True, slots=True)
class Index:
    """What lies in a folder of executables.

    Attributes:
        version: of the compiler that made them, as it says itself.
        programs: names of the programs in each of them (see ``program_name``).
        executables: by level, as ``Machine.level`` has it.
    """

    version: str
    programs: tuple[str, ...]
    executables: Mapping[str, Executable]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def program_name(source: str) -> str:
    """What a program is called in the executables: a digest of its C source.

    So a fixed set that has changed since is never taken for the one that was built.
    """
    return hashlib.sha256(source.encode()).hexdigest()[:32]


def toolchain_for_set(compiler: str | None, machine: Machine) -> Toolchain:
    """What to time the fixed set with: the compiler, or the prebuilt set where there is none.

    Args:
        compiler: a name or path, which must then work; ``prebuilt``: not even looked for.
        machine: this one.

    Raises:
        CompilerError: no compiler works, and no prebuilt set is there or runs on this machine.
    """
    if compiler == PREBUILT_KIND:
        return find_prebuilt(machine)
    try:
        return find_toolchain(compiler)
    except CompilerError:
        if compiler or os.environ.get("CC") or not (PREBUILT / INDEX).exists():
            raise
    return find_prebuilt(machine)


def mark_for_set(compiler: str | None, machine: Machine) -> str:
    """What changes when another toolchain is there to time the fixed set with; empty: none is.

    Found in milliseconds; the compiler is not tried, so it may still be one that does not work.
    """
    looks: list[Callable[[], str]] = [lambda: find_prebuilt(machine).identity]
    if compiler != PREBUILT_KIND:
        looks.insert(0, lambda: compiler_mark(compiler))
    for look in looks:
        with contextlib.suppress(CompilerError):
            return look()
    return ""


def find_prebuilt(machine: Machine, folder: Path | None = None) -> Toolchain:
    """The prebuilt set of the highest level that ``machine`` runs.

    Args:
        machine: this one.
        folder: where the executables lie; None: those of this installation.

    Raises:
        CompilerError: there is none for it, or what is there is damaged.
    """
    folder = folder or PREBUILT
    index = _read_index(folder)
    for level in _levels_run_by(machine.level):
        if (found := index.executables.get(level)) is not None:
            return Toolchain(
                compiler=str(folder / level),
                version=index.version,
                target=found.target,
                flags=found.flags,
                openmp=True,
                identity=found.sha256,
                kind=PREBUILT_KIND,
            )
    known = ", ".join(index.executables)
    raise CompilerError(
        f"the prebuilt set is for {known}, and this machine is {machine.level}", HINT_INSTALL
    )


def prebuilt_vector_bytes(toolchain: Toolchain) -> int:
    """Width of the widest vectors of a prebuilt set's code, in bytes; CompilerError if damaged."""
    path = Path(toolchain.compiler)
    return _read_index(path.parent).executables[path.name].vector_bytes


def prebuilt_worker(toolchain: Toolchain, cache: Cache) -> Path:
    """The worker with the programs inside, copied into the cache and ready to run.

    Raises:
        CompilerError: it is not the file that the index speaks of.
        StateError: the cache cannot be written.
    """
    worker = cache.get(toolchain.identity)
    if worker is None:
        with cache.workplace() as place:
            copy = _checked_copy(toolchain, place / "worker")
            worker = cache.put(toolchain.identity, copy)
    worker.chmod(0o700)
    return worker


def prebuilt_programs(toolchain: Toolchain, sources: Sequence[str]) -> list[str | CompilerError]:
    """What the worker's ``load`` takes for each of ``sources``; an error for one it does not hold.

    Raises:
        CompilerError: the index is damaged.
    """
    held = frozenset(_read_index(Path(toolchain.compiler).parent).programs)
    names = [program_name(source) for source in sources]
    return [name if name in held else _not_held() for name in names]


def _not_held() -> CompilerError:
    return CompilerError(
        "this program is not in the prebuilt set, which holds the fixed set only", HINT_INSTALL
    )


def _checked_copy(toolchain: Toolchain, to: Path) -> Path:
    path = Path(toolchain.compiler)
    try:
        if path.stat().st_size > MAX_EXECUTABLE_BYTES:
            raise _damaged(path, "it is too large")
        shutil.copyfile(path, to)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if hashlib.sha256(to.read_bytes()).hexdigest() != toolchain.identity:
        raise _damaged(path, "it is not the file that was built")
    return to


def _levels_run_by(level: str) -> tuple[str, ...]:
    """``level`` and those it includes, highest first."""
    name, dash, number = level.rpartition("-v")
    if not dash:
        return (level,)
    return tuple(f"{name}-v{n}" for n in range(int(number), 0, -1))


@lru_cache(maxsize=4)
def _read_index(folder: Path) -> Index:
    path = folder / INDEX
    try:
        with path.open("rb") as file:
            text = file.read(MAX_INDEX_BYTES + 1)
    except FileNotFoundError as error:
        raise CompilerError("this installation holds no prebuilt set", HINT_INSTALL) from error
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if len(text) > MAX_INDEX_BYTES:
        raise _damaged(path, "it is too large")
    try:
        data = json.loads(text)
        if data["schema"] != SCHEMA:
            raise _damaged(path, f"its schema is {data['schema']!r}, not {SCHEMA}")
        executables = {str(n): _executable(e) for n, e in data["executables"].items()}
        return Index(str(data["version"]), tuple(map(str, data["programs"])), executables)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__} while reading it") from error


def _executable(data: Mapping[str, Any]) -> Executable:
    flags = tuple(map(str, data["flags"]))
    return Executable(str(data["sha256"]), str(data["target"]), flags, int(data["vector_bytes"]))


def _damaged(path: Path, why: str) -> CompilerError:
    return CompilerError(f"the prebuilt set is damaged: {path}: {why}", HINT_AGAIN)
