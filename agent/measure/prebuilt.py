"""The fixed set without a compiler: executables that hold all of its programs.

A platform's wheel carries one for each level of instructions, and an index beside them that says
what is in them (``bundles/fixed_set/prebuild.py`` makes both). Timed with one of them, a
calibration speaks for the compiler it was built with, and for parallel loops on the harness's own
threads (pool.c).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from agent.errors import CompilerError
from agent.measure.cache import Cache
from agent.measure.machine import Machine
from agent.measure.toolchain import HINT_INSTALL, Kind, OnBuilt

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
class PrebuiltIndex:
    """What lies in a folder of executables.

    Attributes:
        version: of the compiler that made them, as it says itself.
        programs: names of the programs in each of them (see ``program_name``).
        executables: by level, as ``Machine.level`` has it.
    """

    version: str
    programs: tuple[str, ...]
    executables: Mapping[str, Executable]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def program_name(source: str) -> str:
    """What a program is called in the executables: a digest of its C source.

    So a fixed set that has changed since is never taken for the one that was built.
    """
    return hashlib.sha256(source.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class PrebuiltSet:
    """The executable of one level that holds the whole fixed set (a ``Toolchain``).

    Attributes:
        target: target triple of its code; ``width``: bytes of its widest vectors.
        programs: names of what it holds; the others: see ``Toolchain``.
    """

    kind: ClassVar[Kind] = "prebuilt"
    compiler: str
    version: str
    target: str
    flags: tuple[str, ...]
    width: int
    programs: frozenset[str]
    identity: str
    mark: str
    openmp: bool = True

    @property
    def described(self) -> str:
        """That it is prebuilt, and by what."""
        return f"the prebuilt set, made with {self.version}"

    @property
    def preparing(self) -> str:
        """That nothing is compiled."""
        return "taking the prebuilt set"

    def vector_bytes(self) -> int:
        """As its index says."""
        return self.width

    def worker(self, cache: Cache) -> Path:
        """The worker with the programs inside, copied into the cache and ready to run.

        Raises:
            CompilerError: it is not the file that the index speaks of.
            StateError: the cache cannot be written.
        """
        worker = cache.get(self.identity)
        if worker is None:
            with cache.workplace() as place:
                worker = cache.put(self.identity, _checked_copy(self, place / "worker"))
        return worker

    def build(
        self,
        sources: Sequence[str],
        cache: Cache,  # noqa: ARG002  nothing is made
        progress: OnBuilt | None = None,  # noqa: ARG002  it takes no time
    ) -> list[str | CompilerError]:
        """The names of programs that it holds; an error for one it does not hold."""
        names = [program_name(source) for source in sources]
        return [name if name in self.programs else _not_held() for name in names]

    def references(self, source: str, cache: Cache) -> tuple[()]:  # noqa: ARG002
        """None: it cannot compile."""
        return ()


def is_installed() -> bool:
    """Whether this installation carries a prebuilt set."""
    return (PREBUILT / INDEX).exists()


def find_prebuilt(machine: Machine, folder: Path | None = None) -> PrebuiltSet:
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
            return PrebuiltSet(
                compiler=str(folder / level),
                version=index.version,
                target=found.target,
                flags=found.flags,
                width=found.vector_bytes,
                programs=frozenset(index.programs),
                identity=found.sha256,
                mark=found.sha256,
            )
    known = ", ".join(index.executables)
    raise CompilerError(
        f"the prebuilt set is for {known}, and this machine is {machine.level}", HINT_INSTALL
    )


def _not_held() -> CompilerError:
    return CompilerError(
        "this program is not in the prebuilt set, which holds the fixed set only", HINT_INSTALL
    )


def _checked_copy(found: PrebuiltSet, to: Path) -> Path:
    path = Path(found.compiler)
    try:
        if path.stat().st_size > MAX_EXECUTABLE_BYTES:
            raise _damaged(path, "it is too large")
        shutil.copyfile(path, to)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if hashlib.sha256(to.read_bytes()).hexdigest() != found.identity:
        raise _damaged(path, "it is not the file that was built")
    return to


def _levels_run_by(level: str) -> tuple[str, ...]:
    """``level`` and those it includes, highest first."""
    name, dash, number = level.rpartition("-v")
    if not dash:
        return (level,)
    return tuple(f"{name}-v{n}" for n in range(int(number), 0, -1))


@lru_cache(maxsize=4)
def _read_index(folder: Path) -> PrebuiltIndex:
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
        executables = {
            str(level): Executable(
                sha256=str(found["sha256"]),
                target=str(found["target"]),
                flags=tuple(map(str, found["flags"])),
                vector_bytes=int(found["vector_bytes"]),
            )
            for level, found in data["executables"].items()
        }
        return PrebuiltIndex(str(data["version"]), tuple(map(str, data["programs"])), executables)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__} while reading it") from error


def _damaged(path: Path, why: str) -> CompilerError:
    return CompilerError(f"the prebuilt set is damaged: {path}: {why}", HINT_AGAIN)
