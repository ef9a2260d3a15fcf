"""The list of real programs that an evaluation is of: a JSON file, read without trust.

docs/reference/schemas/evaluate-programs.json is its schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.advise.advise import Request
from agent.errors import InputError
from agent.json_values import JsonObject, MalformedError, as_object, member
from agent.system.documents import page_path

SCHEMA = 1
MOST_PROGRAMS, MOST_BYTES = 10_000, 16 << 20
LARGEST_SIZE = 1 << 24
KEYS = ("name", "file", "function", "sizes", "cflags", "nest")
HINT = (
    page_path("docs/reference/evaluation.md")
    + " says what a list of programs holds, with an example."
)


@dataclass(frozen=True)
class ListedProgram:
    """A function of a C file with its sizes: what ``agent rank`` would be asked about."""

    name: str
    request: Request


@dataclass(frozen=True)
class ProgramList:
    """Programs under a name, such as that of a suite."""

    name: str
    programs: tuple[ListedProgram, ...]


def read_list(path: Path) -> ProgramList:
    """Read a list; its files are looked for beside it.

    Raises:
        InputError: it cannot be read, an entry is wrong, or a file is not there.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
        return _list(as_object(json.loads(data), "the list"), path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", HINT) from error
    except (ValueError, RecursionError) as error:  # MalformedError is a ValueError
        raise InputError(f"{path} is no list of programs: {error}", HINT) from error


def _list(data: JsonObject, folder: Path) -> ProgramList:
    if member(data, "schema") != SCHEMA:
        raise MalformedError(f"schema is not {SCHEMA}")
    entries = member(data, "programs")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_PROGRAMS:
        raise MalformedError(f"programs is not a list of 1 to {MOST_PROGRAMS} entries")
    found = tuple(_program(entry, f"program {n}", folder) for n, entry in enumerate(entries, 1))
    names = [p.name for p in found]
    if twice := [n for n in names if names.count(n) > 1]:
        raise MalformedError(f"two programs are called {twice[0]!r}; give each its own name")
    return ProgramList(_text(data.get("name", "programs"), "name"), found)


def _program(entry: object, where: str, folder: Path) -> ListedProgram:
    data = as_object(entry, where)
    if unknown := sorted(set(data) - set(KEYS)):
        raise MalformedError(f"{where} has {unknown[0]!r}, which is none of {', '.join(KEYS)}")
    path = folder / _text(member(data, "file"), f"file of {where}")
    if not path.is_file():
        raise MalformedError(f"{path} of {where} is not there")
    named, nest = data.get("function"), data.get("nest")
    function = None if named is None else _text(named, f"function of {where}")
    cflags = data.get("cflags", [])
    if not isinstance(cflags, list):
        raise MalformedError(f"cflags of {where} is not a list")
    request = Request(
        path,
        function,
        _sizes(data.get("sizes", {}), where),
        tuple(_text(flag, f"a flag of {where}") for flag in cflags),
        None if nest is None else _whole(nest, f"nest of {where}"),
    )
    return ListedProgram(_text(data.get("name", function or path.stem), where), request)


def _sizes(value: object, where: str) -> Mapping[str, int]:
    given = as_object(value, f"sizes of {where}")
    return {name: _whole(size, f"size {name} of {where}") for name, size in given.items()}


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIZE:
        raise MalformedError(f"{what} is not a whole number from 1 to {LARGEST_SIZE}")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise MalformedError(f"{what} is not a text")
    return value
