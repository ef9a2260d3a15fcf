"""The C files that a file, a directory or a ``compile_commands.json`` names, and their flags."""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import InputError
from agent.loopnest.frontend.flags import is_harmless
from agent.system.private import ANYONE, may_write

MAX_FILES = 20_000
MAX_COMMANDS = 64 << 20  # bytes of a compile_commands.json
COMMANDS = "compile_commands.json"
_WITH_VALUE = ("-I", "-D", "-U", "-isystem", "-iquote", "-include")
_PATHS = ("-I", "-isystem", "-iquote", "-include")


@dataclass(frozen=True)
class Source:
    """A C file and the flags it is read with."""

    path: Path
    cflags: tuple[str, ...] = ()


def sources(paths: Sequence[Path], cflags: Sequence[str]) -> list[Source]:
    """Every C file that ``paths`` name, once, in order.

    Args:
        paths: C files, directories (looked through), or ``compile_commands.json`` files.
        cflags: flags besides those of the commands.

    Raises:
        InputError: a path is not there, is no such file, or names too many.
    """
    found: dict[Path, Source] = {}
    for path in paths:
        for source in _sources(path):
            found.setdefault(source.path, Source(source.path, (*source.cflags, *cflags)))
            if len(found) > MAX_FILES:
                raise InputError(f"{path}: more than {MAX_FILES} C files", "Scan it in parts.")
    return list(found.values())


def database_of(path: Path) -> tuple[Path, Source] | None:
    """The ``compile_commands.json`` that compiles a file, and how; None where there is none.

    It is looked for as clang's tools do: in the folder of the file, in those around it, and in
    ``build`` beside each; but not beyond what the owner of the file's folder owns. What it includes
    is compiled and run, so nobody may have written it who could not have written the file.

    Raises:
        InputError: there is one that cannot be read, or that somebody else may have written.
    """
    place = Path(os.path.realpath(path))
    for folder in place.parents if place.is_file() else ():
        if folder.stat().st_uid != place.parent.stat().st_uid:
            return None
        for commands in (folder / COMMANDS, folder / "build" / COMMANDS):
            for source in _commanded(commands) if commands.is_file() else ():
                if os.path.realpath(source.path) == str(place):
                    _refuse_anothers(commands, place)
                    return commands, source
    return None


def _refuse_anothers(commands: Path, file: Path) -> None:
    trusted = {0, os.geteuid(), file.parent.stat().st_uid, *_writers(file)}
    if ANYONE not in trusted and _writers(commands) - trusted:
        raise InputError(f"other users may write to {commands}", "Name its flags with --cflags.")


def _writers(path: Path) -> set[int]:
    """Who may change a file or put another in its place, as far as its own folder lets them."""
    folder = path.parent.stat()
    beside = set() if folder.st_mode & stat.S_ISVTX else may_write(folder)
    return beside | may_write(path.stat()) | {path.lstat().st_uid}


def _sources(path: Path) -> Iterator[Source]:
    if path.name.endswith(".json"):
        yield from _commanded(path)
    elif path.is_dir():
        yield from map(Source, _below(path))
    elif path.exists():
        yield Source(path)
    else:
        raise InputError(
            f"{path} is not there", "Give a C file, a directory, or a compile_commands.json."
        )


def _below(folder: Path) -> Iterator[Path]:
    """C files in a folder and those in it, and folders that cannot be read; no links to folders."""
    unread: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: unread.append(Path(error.filename)))
    for place, folders, files in walk:
        yield from unread
        unread.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, n) for n in sorted(files) if n.endswith(".c") and n[0] != ".")
    yield from unread


def _commanded(path: Path) -> Iterator[Source]:
    """The C files of a compilation database (clang's JSON format), with their flags."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_COMMANDS + 1)
        entries = json.loads(data) if len(data) <= MAX_COMMANDS else None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read: {error}", "Give what CMake or bear wrote."
        ) from error
    if not isinstance(entries, list):
        raise InputError(f"{path} is no list of commands", "Give what CMake or bear wrote.")
    for entry in entries:
        if isinstance(entry, dict) and (source := _entry(path.parent, entry)) is not None:
            yield source


def _entry(base: Path, entry: Mapping[str, object]) -> Source | None:
    """One command; None where it compiles no C file."""
    name, folder = entry.get("file"), entry.get("directory", ".")
    if not isinstance(name, str) or not isinstance(folder, str) or not name.endswith(".c"):
        return None
    try:
        os.fsencode(f"{folder}{name}".replace("\0", "\ud800"))  # what no file can be called
    except UnicodeEncodeError:
        return None
    directory = base / folder
    words = entry.get("arguments")
    if not isinstance(words, list):
        try:
            words = shlex.split(str(entry.get("command", "")))
        except ValueError:
            words = []
    return Source(directory / name, _flags(directory, [str(w) for w in words[1:]]))


def _flags(directory: Path, words: Sequence[str]) -> tuple[str, ...]:
    """The flags of a command that change how its file is read, with absolute paths."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        flag = next((f for f in _WITH_VALUE if word.startswith(f)), None)
        if flag is None:
            found += [word] if is_harmless(word) else []
            continue
        value = word[len(flag) :] or next(rest, "")
        if flag in _PATHS:
            value = str(directory / value)
        found += [flag + value] if flag in ("-I", "-D", "-U") else [flag, value]
    return tuple(found)
